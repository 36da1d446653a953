"""Rewrites the two parts of a decoder into their fastest proven forms.

Each form is proven with the random tensors that the whole graph drew. A note says which form was
chosen and why.
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
    compare,
    mel_distance_db,
)
from chatterbox.compile.decoder.gpu import remove_copies, stft_as_convolution
from chatterbox.compile.decoder.int8 import quantize_convolutions, quantize_products
from chatterbox.compile.decoder.introspect import PROOF, DecoderFacts
from chatterbox.compile.decoder.phase_carry import add_phase_inputs
from chatterbox.compile.decoder.random_ops import draw_from_table
from chatterbox.compile.decoder.split import split_for_prompt_kv
from chatterbox.compile.graph import OpenGraph, UnsupportedGraph, copy_model
from chatterbox.runtime.decoder.compiled import Graph, probe_feeds, probe_voice
from chatterbox.runtime.decoder.flow import OVERLAP_CODES, CachedPromptFlow, PromptKV, flow_feeds
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

PROOF_CODES = 25
"""Codes (1 s) decoded after a prompt to compare a cached prompt with a decoded prompt."""


@dataclass(frozen=True, slots=True)
class FlowVariant:
    """A flow in the form to serve."""

    graphs: Mapping[Graph, onnx.ModelProto]  # the flow, or its encoder and estimator
    note: str
    prompt_kv: PromptKV | None = None


class VariantBuilder:
    """Builds and proves forms of the two parts of one decoder."""

    def __init__(
        self, facts: DecoderFacts, folder: Path, open_graph: OpenGraph, settings: StreamSettings
    ) -> None:
        """`folder` holds the external weights."""
        assert facts.mel is not None, "a decoder without a mel is not cut"
        self._facts, self._mel = facts, facts.mel
        self._folder, self._open, self._settings = folder, open_graph, settings
        self.proofs: dict[str, Any] = {}

    def flow(self, model: onnx.ModelProto) -> FlowVariant:
        """Return the flow in the first form that passes: 8 bits with cached prompts, 8 bits, or
        exact."""
        label = "exact"
        if self._settings.int8:
            result = self._flow_in_int8(model)
            if isinstance(result, FlowVariant):
                return result
            label = result
        fused = copy_model(model)
        fuse_gelu(fused)
        fuse_attention(fused, self._facts.attention)
        if self._settings.on_gpu:
            prompt = (PROMPT_MEL, 1, MEL_FRAMES_PER_CODE)
            fused = remove_copies(fused, self._facts.crossings, (CODES, 1, 1), prompt)
        try:
            proven = self._must_equal(fused, self._mel)
        except UnsupportedGraph:
            fused, proven = model, self._must_equal(model, self._mel)
        self.proofs["flow"] = proven
        graphs: Mapping[Graph, onnx.ModelProto] = {"flow": self._with_noise_tables(fused)}
        return FlowVariant(graphs, f"flow {label}{self._figure(proven)}")

    def _with_noise_tables(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return `model`; on a GPU it is changed to look its noise up in stored tables."""
        if self._settings.on_gpu:
            for op, shape in draws_in(model, self._facts).items():
                draw_from_table(model, op, shape)
        return model

    def _figure(self, proven: str) -> str:
        """Return the proof's result for a note; "" on a CPU, where only rounding may differ."""
        return f" ({proven})" if self._settings.on_gpu else ""

    def _must_equal(self, part: onnx.ModelProto, output: str) -> str:
        """Compare a part with the whole graph on the same draws. Returns how close they are; raises
        UnsupportedGraph if they differ."""
        actual, on_gpu = run_proof(self._facts, self._open(part), output), self._settings.on_gpu
        result = compare(
            self._facts.proof_values[output], actual, on_gpu=on_gpu, sound=output == WAVEFORM
        )
        if not result.is_equal:
            raise UnsupportedGraph(f"cut in two it is only {result.text}")
        return result.text

    def _flow_in_int8(self, model: onnx.ModelProto) -> FlowVariant | str:
        """Return the flow in 8 bits, or a label that says why it stays exact."""
        facts, settings, small = self._facts, self._settings, copy_model(model)
        if not quantize_products(small, self._folder) + quantize_convolutions(small, self._folder):
            return "exact"
        fast_mish(small)
        fuse_gelu(small)
        fuse_attention(small, facts.attention)
        draws, parts, cached_flow = draws_in(small, facts), None, None
        may_cache = settings.memory_bytes and settings.max_rows == 1
        if may_cache:
            names, widths = [draw.name for draw in draws], facts.attention.widths
            parts = split_for_prompt_kv(small, names, widths, self._open)
        if parts is not None:
            encoder, estimator = (self._open(part) for part in parts[:2])
            lengths = settings.prompt_codes, settings.memory_bytes
            cached_flow = CachedPromptFlow(
                encoder, estimator, parts[2], facts.draws, self._mel, *lengths
            )
            drawn = {draw.name: facts.proof_values[draw.name] for draw in draws}
            feeds = drawn | cached_flow.no_memory()
            mel = cached_flow.run_with(probe_feeds(PROOF), PROOF, feeds, [self._mel])[0]
        else:
            mel = run_proof(facts, self._open(small), self._mel)
        error_db = mel_distance_db(facts.proof_values[self._mel], mel)
        self.proofs["flow_int8_mel_db"] = error_db
        if error_db > MEL_LIMIT_DB:
            return f"exact, since 8 bits are {error_db:.2f} dB off"
        note = f"flow in 8 bits, {error_db:.2f} dB from exact"
        if parts is None or cached_flow is None:
            if may_cache:
                note += ", its prompt decoded in every window since an attention has its own form"
            return FlowVariant({"flow": small}, note)
        cache_db = prompt_cache_error_db(cached_flow, self._mel, settings.prompt_codes)
        self.proofs["prompt_kv_mel_db"] = cache_db
        if cache_db > MEL_LIMIT_DB:
            note = f"{note}, its prompt not cached since that is {cache_db:.2f} dB off"
            return FlowVariant({"flow": small}, note)
        note = f"{note}, its prompt cached ({cache_db:.2f} dB)"
        return FlowVariant({"encoder": parts[0], "estimator": parts[1]}, note, parts[2])

    def vocoder(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Return the vocoder in 8 bits or exact, and a note. Everything that the phase depends on
        stays exact, because a running sum accumulates errors."""
        facts, label = self._facts, "exact"
        small = copy_model(model)
        sums = [running.name for running in facts.sums]
        if self._settings.int8 and quantize_convolutions(small, self._folder, exact=sums):
            fast_snake(small)
            waveform = run_proof(
                facts, self._open(with_phase_inputs(small, facts, wide=False)), WAVEFORM
            )
            figure = snr_db(facts.proof_values[WAVEFORM], waveform)
            self.proofs["vocoder_int8_snr_db"] = figure
            if figure >= WAVE_LIMIT_DB:
                note = f"vocoder in 8 bits, {figure:.0f} dB from exact"
                return with_phase_inputs(small, facts, wide=True), note
            label = f"exact, since in 8 bits it is {figure:.0f} dB from that"
        if self._settings.on_gpu:
            stft_as_convolution(model, self._folder)
            model = remove_copies(model, facts.crossings, (self._mel, 2, MEL_FRAMES_PER_CODE))
        proven = self._must_equal(with_phase_inputs(model, facts, wide=False), WAVEFORM)
        self.proofs["vocoder"] = proven
        vocoder = self._with_noise_tables(with_phase_inputs(model, facts, wide=True))
        return vocoder, f"vocoder {label}{self._figure(proven)}"


def prompt_cache_error_db(flow: CachedPromptFlow, mel: str, prompt: int) -> float:
    """Return the mel error of a cached prompt against a decoded prompt: the larger error of a
    stream's first window and a later window."""
    voice = probe_voice(prompt)
    codes: I64 = probe_feeds(ProbeLength(0, PROOF_CODES + OVERLAP_CODES))[CODES][0]
    memory = flow.remember(voice, prompt)
    worst = 0.0
    for context in (0, OVERLAP_CODES):
        spoken = codes[: context + PROOF_CODES]
        feeds = flow_feeds(voice, prompt, spoken, len(spoken))
        again = 0 if context else min(OVERLAP_CODES, prompt)
        decoded, cached = (
            flow.run(feeds, Place(ProbeLength(before, len(spoken)), 0), 1, past, [mel])[0]
            for before, past in ((prompt, flow.no_memory()), (again, memory.without_last(again)))
        )
        fresh = slice(context * MEL_FRAMES_PER_CODE, None)
        worst = max(worst, mel_distance_db(decoded[..., fresh], cached[..., fresh]))
    return worst


def draws_in(part: onnx.ModelProto, facts: DecoderFacts) -> dict[RandomOp, list[LinearDim]]:
    """Return the draws that are inputs of a part, with their shapes."""
    inputs = {i.name for i in part.graph.input}
    return {draw: shape for draw, shape in facts.draws.items() if draw.name in inputs}


def with_phase_inputs(
    model: onnx.ModelProto, facts: DecoderFacts, *, wide: bool
) -> onnx.ModelProto:
    """Return a copy whose running sums continue from call to call (`add_phase_inputs`)."""
    copy = copy_model(model)
    add_phase_inputs(copy, facts.sums, {s.name: facts.kind(s.name) for s in facts.sums}, wide=wide)
    return copy


def run_proof(facts: DecoderFacts, session: Session, output: str) -> Array:
    """Run a part on the inputs and draws of the whole graph's proof run. Sums start at 0."""
    unused: Feeds = PhaseInputs(facts.sums).feeds([None], PROOF, 0, 0)
    feeds = {**facts.proof_values, **probe_feeds(PROOF), **unused}
    wanted = [i.name for i in session.get_inputs()]
    result: Array = session.run([output], {name: feeds[name] for name in wanted})[0]
    return result
