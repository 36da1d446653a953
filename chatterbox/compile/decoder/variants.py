"""Rewrite the two parts of a decoder into their fastest proven form.

Each rewriting is proven on the random tensors that the whole graph made itself; a note says in a
few words which form it was and why.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from chatterbox.arrays import I64
from chatterbox.compile.decoder.activations import fast_mish, fast_snake, fuse_gelu
from chatterbox.compile.decoder.attention import fuse_attention
from chatterbox.compile.decoder.equivalence import (
    MEL_LIMIT_DB,
    WAVE_LIMIT_DB,
    alike,
    mel_distance_db,
)
from chatterbox.compile.decoder.gpu import keep_apart, stft_as_convolution
from chatterbox.compile.decoder.int8 import convs_in_int8, products_in_int8
from chatterbox.compile.decoder.introspect import PROOF, DecoderFacts
from chatterbox.compile.decoder.phase_carry import carry_over
from chatterbox.compile.decoder.random_ops import draw_from_table
from chatterbox.compile.decoder.split import split_for_prompt_kv
from chatterbox.compile.graph import NotSplittable, OpenGraph, copied
from chatterbox.runtime.decoder.compiled import (
    Graph,
    probe_feeds,
    probe_voice,
)
from chatterbox.runtime.decoder.flow import AGAIN_CODES, CachedPromptFlow, PromptKV, fed_to_flow
from chatterbox.runtime.decoder.graph_io import (
    CODES,
    PROMPT_MEL,
    WAVEFORM,
    Array,
    Feeds,
    LinearDim,
    ProbeLength,
    RandomOp,
    Session,
    snr_db,
)
from chatterbox.runtime.decoder.s3gen import MEL_FRAMES_PER_CODE
from chatterbox.runtime.decoder.s3gen_decoder import StreamSettings
from chatterbox.runtime.decoder.stream_inputs import PhaseInputs, Place

PROVEN_CODES = 25
"""What is said behind a remembered prompt to compare it with one that is decoded: 1 s."""


@dataclass(frozen=True, slots=True)
class FlowVariant:
    """A flow in the form that is served."""

    graphs: Mapping[Graph, onnx.ModelProto]  # a flow, or its encoder and estimator
    note: str
    prompt_kv: PromptKV | None = None


class VariantBuilder:
    """What can be made of the parts of one decoder."""

    def __init__(
        self, known: DecoderFacts, folder: Path, open_graph: OpenGraph, settings: StreamSettings
    ) -> None:
        """`folder` holds the file's weights."""
        assert known.mel is not None, "only what was cut has parts"
        self._known, self._mel = known, known.mel
        self._folder, self._open, self._settings = folder, open_graph, settings
        self.proofs: dict[str, Any] = {}

    def flow(self, model: onnx.ModelProto) -> FlowVariant:
        """In 8 bits with a remembered prompt, in 8 bits, or exact."""
        why = "exact"
        if self._settings.int8:
            found = self._flow_in_int8(model)
            if isinstance(found, FlowVariant):
                return found
            why = found
        fused = copied(model)  # attention and GELU as one operator each, where that is the same
        fuse_gelu(fused)
        fuse_attention(fused, self._known.attention)
        if self._settings.on_gpu:
            prompt = (PROMPT_MEL, 1, MEL_FRAMES_PER_CODE)
            fused = keep_apart(fused, self._known.crossings, (CODES, 1, 1), prompt)
        try:
            proven = self._must_equal(fused, self._mel)
        except NotSplittable:
            fused, proven = model, self._must_equal(model, self._mel)
        self.proofs["flow"] = proven
        return FlowVariant({"flow": self._drawing(fused)}, f"flow {why}{self._figure(proven)}")

    def _drawing(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """On a GPU with its noise made inside."""
        if self._settings.on_gpu:
            for op, law in draws_of(model, self._known).items():
                draw_from_table(model, op, law)
        return model

    def _figure(self, proven: str) -> str:
        """Part of a note: how alike, where that is not to the rounding."""
        return f" ({proven})" if self._settings.on_gpu else ""

    def _must_equal(self, part: onnx.ModelProto, output: str) -> str:
        """How alike a part is to the whole on the same draws. Raises NotSplittable where it
        differs."""
        made, on_gpu = proof_run(self._known, self._open(part), output), self._settings.on_gpu
        found = alike(self._known.told[output], made, on_gpu=on_gpu, sound=output == WAVEFORM)
        if not found.same:
            raise NotSplittable(f"cut in two it is only {found.text}")
        return found.text

    def _flow_in_int8(self, model: onnx.ModelProto) -> FlowVariant | str:
        """Or how and why it is exact."""
        known, settings, small = self._known, self._settings, copied(model)
        if not products_in_int8(small, self._folder) + convs_in_int8(small, self._folder):
            return "exact"
        fast_mish(small)
        fuse_gelu(small)
        fuse_attention(small, known.attention)
        draws, parts, remembered = draws_of(small, known), None, None
        may_remember = settings.memory_bytes and settings.max_rows == 1
        if may_remember:
            names, widths = [draw.name for draw in draws], known.attention.widths
            parts = split_for_prompt_kv(small, names, widths, self._open)
        if parts is not None:
            encoder, estimator = (self._open(part) for part in parts[:2])
            lengths = settings.prompt_codes, settings.memory_bytes
            remembered = CachedPromptFlow(
                encoder, estimator, parts[2], known.draws, self._mel, *lengths
            )
            drawn = {draw.name: known.told[draw.name] for draw in draws}
            feeds = drawn | remembered.nothing()
            made = remembered.run_on(probe_feeds(PROOF), PROOF, feeds, [self._mel])[0]
        else:
            made = proof_run(known, self._open(small), self._mel)
        off_db = mel_distance_db(known.told[self._mel], made)
        self.proofs["flow_int8_mel_db"] = off_db
        if off_db > MEL_LIMIT_DB:
            return f"exact, since 8 bits are {off_db:.2f} dB off"
        note = f"flow in 8 bits, {off_db:.2f} dB from exact"
        if parts is None or remembered is None:
            if may_remember:
                note += ", its prompt decoded in every window since an attention has its own form"
            return FlowVariant({"flow": small}, note)
        lost_db = lost_by_remembering_db(remembered, self._mel, settings.prompt_codes)
        self.proofs["prompt_kv_mel_db"] = lost_db
        if lost_db > MEL_LIMIT_DB:
            note = f"{note}, remembering its prompt {lost_db:.2f} and so not"
            return FlowVariant({"flow": small}, note)
        note = f"{note}, remembering its prompt ({lost_db:.2f} dB)"
        return FlowVariant({"encoder": parts[0], "estimator": parts[1]}, note, parts[2])

    def vocoder(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """In 8 bits or exact. What pitch and phase are made of stays exact: a phase adds its errors
        up."""
        known, why = self._known, "exact"
        small = copied(model)
        sums = [running.name for running in known.sums]
        if self._settings.int8 and convs_in_int8(small, self._folder, exact=sums):
            fast_snake(small)
            made = proof_run(known, self._open(carrying(small, known, wide=False)), WAVEFORM)
            figure = snr_db(known.told[WAVEFORM], made)
            self.proofs["vocoder_int8_snr_db"] = figure
            if figure >= WAVE_LIMIT_DB:
                how = f"vocoder in 8 bits, {figure:.0f} dB from exact"
                return carrying(small, known, wide=True), how
            why = f"exact, since in 8 bits it is {figure:.0f} dB from that"
        if self._settings.on_gpu:
            stft_as_convolution(model, self._folder)
            model = keep_apart(model, known.crossings, (self._mel, 2, MEL_FRAMES_PER_CODE))
        proven = self._must_equal(carrying(model, known, wide=False), WAVEFORM)
        self.proofs["vocoder"] = proven
        made = self._drawing(carrying(model, known, wide=True))
        return made, f"vocoder {why}{self._figure(proven)}"


def lost_by_remembering_db(flow: CachedPromptFlow, mel: str, prompt: int) -> float:
    """How far windows behind a remembered prompt are from windows behind a decoded one: the worse
    of a stream's first window and a later one."""
    voice = probe_voice(prompt)
    codes: I64 = probe_feeds(ProbeLength(0, PROVEN_CODES + AGAIN_CODES))[CODES][0]
    memory = flow.remember(voice, prompt)
    worst = 0.0
    for context in (0, AGAIN_CODES):
        spoken = codes[: context + PROVEN_CODES]
        feeds = fed_to_flow(voice, prompt, spoken, len(spoken))
        again = 0 if context else min(AGAIN_CODES, prompt)
        decoded, kept = (
            flow.run(feeds, Place(ProbeLength(before, len(spoken)), 0), 1, past, [mel])[0]
            for before, past in ((prompt, flow.nothing()), (again, memory.without_last(again)))
        )
        fresh = slice(context * MEL_FRAMES_PER_CODE, None)
        worst = max(worst, mel_distance_db(decoded[..., fresh], kept[..., fresh]))
    return worst


def draws_of(part: onnx.ModelProto, known: DecoderFacts) -> dict[RandomOp, list[LinearDim]]:
    """The draws that are inputs of a part."""
    inputs = {i.name for i in part.graph.input}
    return {draw: law for draw, law in known.draws.items() if draw.name in inputs}


def carrying(model: onnx.ModelProto, known: DecoderFacts, *, wide: bool) -> onnx.ModelProto:
    """A copy whose running sums go on from call to call."""
    made = copied(model)
    carry_over(made, known.sums, {s.name: known.kind(s.name) for s in known.sums}, wide=wide)
    return made


def proof_run(known: DecoderFacts, session: Session, output: str) -> Array:
    """What a part makes of what the whole was given and drew; no sum carries anything on."""
    unused: Feeds = PhaseInputs(known.sums).feeds([None], PROOF, 0, 0)
    feeds = {**known.told, **probe_feeds(PROOF), **unused}
    wanted = [i.name for i in session.get_inputs()]
    made: Array = session.run([output], {name: feeds[name] for name in wanted})[0]
    return made
