"""In what form do the two parts of a decoder run? The fastest that holds.

Knows the rewritings and how each is proven, on draws that the whole graph made itself; says in a
few words which form it was and why.
"""

from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from chatterbox.compile.decoder.equivalence import (
    EQUAL_DB,
    MEL_LIMIT_DB,
    WAVE_LIMIT_DB,
    mel_distance_db,
    snr_db,
)
from chatterbox.compile.decoder.errors import NotSplittable
from chatterbox.compile.decoder.fuse_activations import fast_mish, fast_snake, fuse_gelu
from chatterbox.compile.decoder.fuse_attention import fuse_attention
from chatterbox.compile.decoder.int8_convs import convs_in_int8
from chatterbox.compile.decoder.int8_matmul import products_in_int8
from chatterbox.compile.decoder.introspect import (
    CODES,
    WAVEFORM,
    DecoderFacts,
    Feeds,
    OpenGraph,
    Session,
    probe_feeds,
    probe_voice,
)
from chatterbox.compile.decoder.phase_carry import carry_over
from chatterbox.compile.decoder.random_ops import RandomOp
from chatterbox.runtime.contract import I64, MEL_FRAMES_PER_CODE
from chatterbox.runtime.decoder.captured import Record
from chatterbox.runtime.decoder.flow import Flow, Part, PlainFlow, fed_to_flow
from chatterbox.runtime.decoder.prompt_kv_cache import (
    AGAIN_CODES,
    CachedPromptFlow,
    cached_prompt_flow,
)
from chatterbox.runtime.decoder.shape_laws import LinearDim, ProbeLength, time_axis
from chatterbox.runtime.decoder.split_decoder import StreamSettings
from chatterbox.runtime.decoder.stream_inputs import PhaseInputs, Place

PROVEN_CODES = 25
"""What is said behind a remembered prompt to compare it with one that is decoded: 1 s."""


class VariantBuilder:
    """What can be made of the parts of one decoder."""

    def __init__(
        self,
        known: DecoderFacts,
        folder: Path,
        open_graph: OpenGraph,
        settings: StreamSettings,
        record: Record | None = None,
    ) -> None:
        """`folder` holds the file's weights. With `record`, exact parts can replay."""
        assert known.mel is not None, "only what was cut has parts"
        self._known, self._mel = known, known.mel
        self._folder, self._open, self._settings = folder, open_graph, settings
        self._open_part = record or open_graph

    def flow(self, model: onnx.ModelProto) -> tuple[Flow, str]:
        """In 8 bits with a remembered prompt, in 8 bits, or exact."""
        why = "exact"
        if self._settings.int8:
            flow, why = self._flow_in_int8(model)
            if flow is not None:
                return flow, f"flow {why}"
        flow = self._plain(model)
        _must_equal(self._known, flow.part.session, self._mel)
        return flow, f"flow {why}"

    def _flow_in_int8(self, model: onnx.ModelProto) -> tuple[Flow | None, str]:
        small = _copy(model)
        if not products_in_int8(small, self._folder) + convs_in_int8(small, self._folder):
            return None, "exact"
        fast_mish(small)
        fuse_gelu(small)
        fuse_attention(small, self._known.attention)
        remembered = self._remembering(small)
        plain = self._plain(small) if remembered is None else None
        proof = self._known.proof
        if remembered is not None:
            drawn = {draw.name: proof.told[draw.name] for draw in draws_of(small, self._known)}
            more = {**drawn, **remembered.nothing()}
            made = remembered.run_on(proof.feeds, proof.length, more, [self._mel])[0]
        else:
            assert plain is not None
            made = proof_run(self._known, plain.part.session, self._mel)
        off_db = mel_distance_db(proof.told[self._mel], made)
        if off_db > MEL_LIMIT_DB:
            return None, f"exact, since 8 bits are {off_db:.2f} dB off"
        why = f"in 8 bits, {off_db:.2f} dB from exact"
        if remembered is None:
            return plain, why
        lost_db = lost_by_remembering_db(remembered, self._mel, self._settings.prompt_codes)
        if lost_db > MEL_LIMIT_DB:
            return self._plain(small), f"{why}, remembering its prompt {lost_db:.2f} and so not"
        return remembered, f"{why}, remembering its prompt ({lost_db:.2f} dB)"

    def _remembering(self, small: onnx.ModelProto) -> CachedPromptFlow | None:
        settings = self._settings
        if not settings.memory_bytes or settings.max_rows > 1:
            return None
        return cached_prompt_flow(
            small,
            draws_of(small, self._known),
            self._known.attention.widths,
            self._mel,
            self._open,
            settings.prompt_codes,
            settings.memory_bytes,
        )

    def _plain(self, model: onnx.ModelProto) -> PlainFlow:
        part = Part(self._open_part(model), draws_of(model, self._known))
        return PlainFlow(part, self._mel, self._settings.prompt_codes)

    def vocoder(self, model: onnx.ModelProto) -> tuple[Part, str]:
        """In 8 bits or exact. What pitch and phase are made of stays exact: a phase adds its errors
        up."""
        known, why = self._known, "exact"
        draws = draws_of(model, known)
        small = _copy(model)
        sums = [running.name for running in known.sums]
        if self._settings.int8 and convs_in_int8(small, self._folder, exact=sums):
            fast_snake(small)
            made = proof_run(known, self._open(carrying(small, known, wide=False)), WAVEFORM)
            alike = snr_db(known.proof.told[WAVEFORM], made)
            if alike >= WAVE_LIMIT_DB:
                part = Part(self._open(carrying(small, known, wide=True)), draws)
                return part, f"vocoder in 8 bits, {alike:.0f} dB from exact"
            why = f"exact, since in 8 bits it is {alike:.0f} dB from that"
        _must_equal(known, self._open(carrying(model, known, wide=False)), WAVEFORM)
        return Part(self._open_part(carrying(model, known, wide=True)), draws), f"vocoder {why}"


def lost_by_remembering_db(flow: CachedPromptFlow, mel: str, prompt: int) -> float:
    """How far windows behind a remembered prompt are from windows behind a decoded one: the worse
    of a stream's first window and a later one."""
    voice = probe_voice(prompt)
    codes: I64 = probe_feeds(ProbeLength(0, PROVEN_CODES + AGAIN_CODES), ragged=False)[CODES][0]
    memory = flow.remember(voice, prompt)
    worst = 0.0
    for context in (0, AGAIN_CODES):
        spoken = codes[: context + PROVEN_CODES]
        feeds = fed_to_flow(voice, prompt, spoken, len(spoken))
        again = 0 if context else min(AGAIN_CODES, prompt)
        made = []
        for codes_before, kept in (
            (prompt, flow.nothing()),
            (again, memory.without_last(again)),
        ):
            place = Place(ProbeLength(codes_before, len(spoken)), 0)
            made.append(flow.run(feeds, place, 1, kept, [mel])[0])
        fresh = slice(context * MEL_FRAMES_PER_CODE, None)
        worst = max(worst, mel_distance_db(made[0][..., fresh], made[1][..., fresh]))
    return worst


def draws_of(part: onnx.ModelProto, known: DecoderFacts) -> dict[RandomOp, list[LinearDim]]:
    """The draws that are inputs of a part."""
    inputs = {i.name for i in part.graph.input}
    return {draw: law for draw, law in known.draws.items() if draw.name in inputs}


def carrying(model: onnx.ModelProto, known: DecoderFacts, *, wide: bool) -> onnx.ModelProto:
    """A copy whose running sums go on from call to call."""
    made = _copy(model)
    axes = {s.name: axis for s, law in known.sums.items() if (axis := time_axis(law)) is not None}
    carry_over(made, list(known.sums), axes, wide=wide)
    return made


def proof_run(known: DecoderFacts, session: Session, output: str) -> NDArray[Any]:
    """What a part makes of what the whole was given and drew; no sum carries anything on."""
    unused: Feeds = PhaseInputs(known.sums).feeds([None], known.proof.length, 0, 0)
    feeds = {**known.proof.told, **known.proof.feeds, **unused}
    wanted = [i.name for i in session.get_inputs()]
    made: NDArray[Any] = session.run([output], {name: feeds[name] for name in wanted})[0]
    return made


def _must_equal(known: DecoderFacts, session: Session, output: str) -> None:
    """Raises NotSplittable unless a part gives what the whole gave on the same draws."""
    alike = snr_db(known.proof.told[output], proof_run(known, session, output))
    if alike < EQUAL_DB:
        raise NotSplittable(f"cut in two it is only {alike:.0f} dB alike")


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made
