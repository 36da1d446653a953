"""Writes the trained parts as ONNX graphs, node by node, in any of the five precisions.

Reproduces the networks of `codec.py` and `lm.py` and the renderer of `render.py` in operators.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chatterbox.families.turbo.spec import DECODER_PROMPT_S, LM_PROMPT_S, START_CODE
from chatterbox.hub.files import Precision
from chatterbox.runtime.decoder.s3gen import (
    CODE_COUNT,
    MEL_BANDS,
    MEL_FRAMES_PER_CODE,
    SAMPLES_PER_CODE,
    SPEAKER_DIM,
)
from tools.model_builder.graph import Graph, ints, real

from . import features as f
from . import render
from .units import LEVEL_EDGES, LEVELS, MIDDLE_LEVEL, PAIRS, PAUSE, PHONES, SILENCE, Units

Array = NDArray[Any]
Weights = dict[str, Array]

DECODER_PROMPT_CODES = int(DECODER_PROMPT_S * 25)
LM_PROMPT_CODES = int(LM_PROMPT_S * 25)


END = 2**31


def waves(g: Graph, kind: str, rows: Array, columns: Array, period: int) -> str:
    """cos or sin of 2π · row · column / period, computed by the graph: takes no room in files.
    `rows` and `columns` are (first, end) of consecutive numbers."""

    def numbers(bounds: Array) -> str:
        return g.op("Range", *(np.array(v, np.int64) for v in (bounds[0], bounds[1], 1)))

    product = g.op("Mul", g.op("Unsqueeze", numbers(rows), ints(1)), numbers(columns))
    turns = g.cast(g.op("Mod", product, ints(period)), np.float32)
    return g.op(kind, g.op("Mul", turns, real(2 * np.pi / period)))


def part(g: Graph, x: str, start: int, end: int, axis: int, step: int = 1) -> str:
    """A slice along one axis."""
    return g.op("Slice", x, ints(start), ints(end), ints(axis), ints(step))


def linear(g: Graph, x: str, weight: Array, bias: Array | None) -> str:
    """float32 x · weightᵀ + bias through the precision's own weights."""
    product = g.f32(g.linear(g.to_act(x), np.ascontiguousarray(weight.T)))
    return product if bias is None else g.op("Add", product, g.f32(g.param(bias)))


def convolution(
    g: Graph, x: str, weight: Array, bias: Array, left: int, right: int, stride: int = 1
) -> str:
    """x [B, T, C] with weight [out, C, k] as one product over shifted copies."""
    out, channels, taps = weight.shape
    padded = g.op("Pad", x, ints(0, left, 0, 0, right, 0), real(0.0))
    end = lambda tap: tap - taps + 1 if tap < taps - 1 else END  # noqa: E731
    shifted = [part(g, padded, tap, end(tap), 1, stride) for tap in range(taps)]
    flat = np.ascontiguousarray(weight.transpose(0, 2, 1)).reshape(out, taps * channels)
    return linear(g, g.op("Concat", *shifted, axis=2), flat, bias)


def gelu(g: Graph, x: str) -> str:
    """GPT-2's tanh approximation."""
    cube = g.op("Mul", g.op("Mul", x, g.op("Mul", x, x)), real(0.044715))
    inner = g.op("Tanh", g.op("Mul", g.op("Add", x, cube), real(np.sqrt(2 / np.pi))))
    return g.op("Mul", g.op("Mul", x, real(0.5)), g.op("Add", inner, real(1.0)))


def framed(g: Graph, wave: str, size: int, hop: int) -> str:
    """Whole frames [B, T, size] of a wave [B, n·hop] that is padded already."""
    steps = -(-size // hop)
    hops = g.op("Reshape", wave, ints(0, -1, hop))
    ends = [k - steps + 1 if k < steps - 1 else END for k in range(steps)]
    frames = g.op("Concat", *(part(g, hops, k, ends[k], 1) for k in range(steps)), axis=2)
    return frames if steps * hop == size else part(g, frames, 0, size, 2)


# --- speech encoder -----------------------------------------------------------------------------


def write_speech_encoder(
    folder: Path, precision: Precision, encoder: Weights, speaker: Weights, units: Units
) -> None:
    """Reference → LM row, prompt codes, speaker vector, prompt mel."""
    with Graph(folder, "speech_encoder", precision) as g:
        audio = g.input("audio_values", np.float32, ["batch", "samples"])
        codes = g.op("Div", g.shape(audio, 1), ints(SAMPLES_PER_CODE))
        codes = g.op("Min", g.op("Max", codes, ints(1)), ints(LM_PROMPT_CODES))
        mel, log_f0, voiced = _analyse(g, audio, codes)
        mean, mean_f0 = _speaker_means(g, mel, log_f0, voiced)
        rows = _speaker_row(g, mean, mean_f0, speaker)
        prompt = g.op("Min", codes, ints(DECODER_PROMPT_CODES))
        relative = _relative(g, mel, log_f0, voiced, mean, mean_f0)
        level = _level(g, log_f0, voiced, mean_f0)
        tokens = _encode(g, relative, level, encoder, units)
        tokens = g.op("Slice", tokens, ints(0), prompt, ints(1))
        frames = g.op("Mul", prompt, ints(f.FRAMES_PER_CODE))
        step = f.FRAMES_PER_CODE // MEL_FRAMES_PER_CODE
        prompt_mel = g.op("Slice", mel, ints(0), frames, ints(1), ints(step))
        vector = g.op("Concat", mean, mean_f0, axis=2)
        vector = g.op("Pad", vector, ints(0, 0, 0, 0, 0, SPEAKER_DIM - MEL_BANDS - 1), real(0.0))
        vector = g.op("Squeeze", vector, ints(1))
        g.output("audio_features", rows, np.float32, ["batch", "rows", len(speaker["bias"])])
        g.output("audio_tokens", tokens, np.int64, ["batch", "prompt"])
        g.output("speaker_embeddings", vector, np.float32, ["batch", SPEAKER_DIM])
        g.output("speaker_features", prompt_mel, np.float32, ["batch", "frames", MEL_BANDS])


def _analyse(g: Graph, audio: str, codes: str) -> tuple[str, str, str]:
    """What `features.analyse` computes: log-mel [B, T, 80], log f0 and voicing [B, T, 1]."""
    samples = g.op("Mul", codes, ints(SAMPLES_PER_CODE))
    side = (f.N_FFT - f.HOP) // 2
    fitted = g.op("Pad", audio, ints(0, side, 0, SAMPLES_PER_CODE + f.N_FFT), real(0.0))
    tail = -(-f.N_FFT // f.HOP) * f.HOP - f.HOP
    fitted = g.op("Slice", fitted, ints(0), g.op("Add", samples, ints(tail)), ints(1))
    windowed = g.op("Mul", framed(g, fitted, f.N_FFT, f.HOP), real(f.window()))
    bins = int(np.flatnonzero(f.filters().sum(1)).max()) + 1
    spectra = [
        g.op("MatMul", windowed, waves(g, kind, (0, f.N_FFT), (0, bins), f.N_FFT))
        for kind in ("Cos", "Sin")
    ]
    power = g.op("Add", *(g.op("Mul", x, x) for x in spectra))
    bank = g.weight(f.filters()[:bins])
    mel = g.op("Log", g.op("Add", g.op("MatMul", power, bank), real(f.LOG_FLOOR)))
    low = g.op("Sqrt", part(g, power, 0, f.PITCH_BINS, 2))
    lags = waves(g, "Cos", (0, f.PITCH_BINS), (f.MIN_LAG, f.MAX_LAG + 1), f.N_FFT)
    heard = np.ones((f.PITCH_BINS, 1), np.float32)
    heard[:2] = 0
    lags = g.op("Mul", lags, real(heard / f.lag_window()[None]))
    total = g.op("ReduceSum", part(g, low, 2, END, 2), ints(2), keepdims=1)
    strength = g.op("Div", g.op("MatMul", low, lags), g.op("Add", total, real(1e-4)))
    strength = _over_frames(g, strength, f.SMOOTH_TAPS)
    best = g.op("ArgMax", g.op("Sub", strength, real(f.octave_penalty())), axis=2, keepdims=1)
    count = f.MAX_LAG - f.MIN_LAG + 1
    best = g.op("Max", g.op("Min", best, ints(count - 2)), ints(1))
    a, b, c = (
        g.op("GatherElements", strength, g.op("Add", best, ints(k)), axis=2) for k in (-1, 0, 1)
    )
    curve = g.op("Min", g.op("Sub", g.op("Add", a, c), g.op("Mul", b, real(2.0))), real(-1e-6))
    shift = g.op("Div", g.op("Mul", g.op("Sub", a, c), real(0.5)), curve)
    shift = g.op("Clip", shift, real(-0.5), real(0.5))
    lag = g.op("Add", g.op("Add", g.cast(best, np.float32), real(f.MIN_LAG)), shift)
    log_f0 = g.op("Log", g.op("Div", real(f.RATE_HZ), lag))
    loud = g.op("ReduceMean", mel, ints(2), keepdims=1)
    floor = g.op("Sub", g.op("ReduceMax", loud, ints(1), keepdims=1), real(f.VOICED_ABOVE_PEAK))
    voiced = g.op("And", g.op("Greater", b, real(f.VOICED_AT)), g.op("Greater", loud, floor))
    return mel, log_f0, g.cast(voiced, np.float32)


def _over_frames(g: Graph, x: str, taps: Sequence[float]) -> str:
    """x [B, T, C] through a filter of an odd number of `taps` over frames, edges repeated."""
    side = len(taps) // 2
    padded = g.op("Pad", x, ints(0, side, 0, 0, side, 0), mode="edge")
    terms = [
        g.op("Mul", part(g, padded, k, k - 2 * side if k < 2 * side else END, 1), real(tap))
        for k, tap in enumerate(taps)
    ]
    total = terms[0]
    for term in terms[1:]:
        total = g.op("Add", total, term)
    return total


def _loud_mean(g: Graph, mel: str) -> str:
    """Mean log-mel of the louder frames [B, 1, 80]."""
    loud = g.op("ReduceMean", mel, ints(2), keepdims=1)
    floor = g.op("Sub", g.op("ReduceMax", loud, ints(1), keepdims=1), real(f.LOUD_BELOW_PEAK))
    counted = g.cast(g.op("Greater", loud, floor), np.float32)
    return _mean(g, mel, counted)


def _mean(g: Graph, values: str, weight: str) -> str:
    total = g.op("ReduceSum", g.op("Mul", values, weight), ints(1), keepdims=1)
    count = g.op("ReduceSum", weight, ints(1), keepdims=1)
    return g.op("Div", total, g.op("Max", count, real(1.0)))


UNVOICED_F0_HZ = 120.0
"""The pitch of a reference in which nothing is voiced."""


def _speaker_means(g: Graph, mel: str, log_f0: str, voiced: str) -> tuple[str, str]:
    first = _mean(g, log_f0, voiced)
    near = g.op("Less", g.op("Abs", g.op("Sub", log_f0, first)), real(f.F0_OUTLIER))
    near = g.op("Mul", voiced, g.cast(near, np.float32))
    mean_f0 = _mean(g, log_f0, near)
    some = g.op("Greater", g.op("ReduceSum", near, ints(1), keepdims=1), real(0.5))
    return _loud_mean(g, mel), g.op("Where", some, mean_f0, real(np.log(UNVOICED_F0_HZ)))


def _centred(g: Graph, mean: str, mean_f0: str) -> str:
    """`codec.centre_stats`: [B, 1, 81]."""
    mel = g.op("Mul", g.op("Add", mean, real(6.0)), real(0.5))
    f0 = g.op("Mul", g.op("Sub", mean_f0, real(4.8)), real(2.0))
    return g.op("Concat", mel, f0, axis=2)


def _speaker_row(g: Graph, mean: str, mean_f0: str, speaker: Weights) -> str:
    return linear(g, _centred(g, mean, mean_f0), speaker["weight"], speaker["bias"])


def _relative(g: Graph, mel: str, log_f0: str, voiced: str, mean: str, mean_f0: str) -> str:
    """`data.relative`: [B, T, 82]."""
    rel = g.op("Mul", g.op("Sub", mel, mean), real(0.5))
    f0 = g.op("Clip", g.op("Sub", log_f0, mean_f0), real(-0.8), real(0.8))
    return g.op("Concat", rel, g.op("Mul", g.op("Mul", f0, voiced), real(4.0)), voiced, axis=2)


def _level(g: Graph, log_f0: str, voiced: str, mean_f0: str) -> str:
    """Pitch level of each code [B, T]; the middle one where less than half of it is voiced."""

    def four(x: str) -> str:
        return g.op("Reshape", x, ints(0, -1, f.FRAMES_PER_CODE))

    off = g.op("Sub", log_f0, mean_f0)
    sure = g.op("Mul", voiced, g.cast(g.op("Less", g.op("Abs", off), real(0.5)), np.float32))
    count = g.op("ReduceSum", four(sure), ints(2), keepdims=0)
    total = g.op("ReduceSum", four(g.op("Mul", off, sure)), ints(2), keepdims=0)
    mean = g.op("Div", total, g.op("Max", count, real(1.0)))
    level = None
    for edge in LEVEL_EDGES:
        above = g.cast(g.op("GreaterOrEqual", mean, real(edge)), np.int64)
        level = above if level is None else g.op("Add", level, above)
    assert level is not None
    return g.op("Where", g.op("Greater", count, real(1.5)), level, ints(MIDDLE_LEVEL))


def _encode(g: Graph, x: str, level: str, w: Weights, units: Units) -> str:
    """`codec.Encoder`, the likelier phones, and `Units.encode`: codes [B, T]."""
    x = gelu(g, convolution(g, x, w["first.weight"], w["first.bias"], 2, 2))
    x = gelu(g, convolution(g, x, w["down.weight"], w["down.bias"], 2, 2, f.FRAMES_PER_CODE))
    middle = gelu(g, convolution(g, x, w["middle.weight"], w["middle.bias"], 1, 1))
    x = linear(g, g.op("Add", x, middle), w["last.weight"][:, :, 0], w["last.bias"])
    first, second = (
        g.op("ArgMax", part(g, x, k * PHONES, (k + 1) * PHONES, 2), axis=2, keepdims=0)
        for k in (0, 1)
    )
    place = g.op("Add", g.op("Mul", first, ints(PHONES)), second)
    pair = g.op("Gather", units.index.ravel(), place, axis=0)
    quiet = g.op("Equal", place, ints(PAUSE * PHONES + PAUSE))
    level = g.op("Where", quiet, ints(MIDDLE_LEVEL), level)
    return _swap(g, g.op("Add", g.op("Mul", pair, ints(LEVELS)), level), units.swapped)


def _swap(g: Graph, codes: str, silence: int) -> str:
    """Silence's own code and the reserved one change places."""
    is_silence, is_reserved = (g.op("Equal", codes, ints(c)) for c in (silence, SILENCE))
    codes = g.op("Where", is_silence, ints(SILENCE), codes)
    return g.op("Where", is_reserved, ints(silence), codes)


# --- embedding ----------------------------------------------------------------------------------


def write_embed_tokens(
    folder: Path, precision: Precision, tables: Weights, end_id: int, first_code: int
) -> None:
    """`lm.Model.embed_text` and the speech table, chosen by place as the contract says.

    `tables`: letters [ids, H], lasting [ids], expected [positions, H], and for speech the rows
    [ROW + 3, H] whose sum of three, `parts` [codes, 3], is a code's embedding.
    """
    with Graph(folder, "embed_tokens", precision) as g:
        ids = g.input("input_ids", np.int64, ["batch", "sequence"])
        length = g.shape(ids, 1)
        before = g.op("Max", g.op("Sub", length, ints(2)), ints(0))
        text = g.op("Slice", ids, ints(0), before, ints(1))
        last = g.op("Slice", ids, before, length, ints(1))
        is_end = g.op("Equal", last, ints(end_id))
        is_start = g.op("And", is_end, g.op("Greater", length, ints(1)))
        codes = g.op("Where", is_start, ints(START_CODE), last)
        # Where each letter's sound is expected: after the text, the letters before it having
        # taken their mean time.
        lasting = g.op("Gather", g.weight(tables["lasting"]), text, axis=0)
        spent = g.op("CumSum", lasting, np.array(1, np.int64), exclusive=1)
        at = g.op("Add", spent, g.cast(g.op("Add", before, ints(first_code)), np.float32))
        at = g.cast(g.op("Round", at), np.int64)
        at = g.op("Min", at, ints(len(tables["expected"]) - 1))
        letters = g.f32(g.lookup(tables["letters"], text))
        letters = g.op("Add", letters, g.f32(g.lookup(tables["expected"], at)))
        shares = [
            g.f32(g.lookup(tables["rows"], g.op("Gather", tables["parts"][:, k], codes, axis=0)))
            for k in range(3)
        ]
        speech = g.op("Add", g.op("Add", shares[0], shares[1]), shares[2])
        rows = g.op("Concat", letters, speech, axis=1)
        g.output("inputs_embeds", rows, np.float32,
                 ["batch", "sequence", tables["letters"].shape[1]])  # fmt: skip


# --- decoder ------------------------------------------------------------------------------------


def write_conditional_decoder(
    folder: Path, precision: Precision, w: Weights, units: Units, pads: tuple[tuple[int, int], ...]
) -> None:
    """Codes → features (`codec.Decoder`) → sound (`render.Renderer`)."""
    with Graph(folder, "conditional_decoder", precision) as g:
        tokens = g.input("speech_tokens", np.int64, ["batch", "tokens"])
        speaker = g.input("speaker_embeddings", np.float32, ["batch", SPEAKER_DIM])
        prompt = g.input("speaker_features", np.float32, ["batch", "frames", MEL_BANDS])
        prompt_codes = g.op("Div", g.shape(prompt, 1), ints(MEL_FRAMES_PER_CODE))
        new = g.op("Slice", tokens, prompt_codes, ints(END), ints(1))
        inside = g.op("And", g.op("GreaterOrEqual", new, ints(0)),
                      g.op("Less", new, ints(CODE_COUNT)))  # fmt: skip
        raw = _swap(g, g.op("Where", inside, new, ints(SILENCE)), units.swapped)
        # From the speaker vector, which heard all of the reference; the prompt may be cut short.
        means = g.op("Unsqueeze", speaker, ints(1))
        mean, mean_f0 = (
            part(g, means, first, end, 2)
            for first, end in ((0, MEL_BANDS), (MEL_BANDS, MEL_BANDS + 1))
        )
        x = _described(g, raw, w, units)
        out = _decode(g, x, _centred(g, mean, mean_f0), w, pads)
        mel = g.op("Add", g.op("Mul", part(g, out, 0, MEL_BANDS, 2), real(2.0)), mean)
        log_f0 = g.op("Mul", part(g, out, MEL_BANDS, MEL_BANDS + 1, 2), real(0.25))
        log_f0 = g.op("Add", log_f0, mean_f0)
        voicing = part(g, out, MEL_BANDS + 1, MEL_BANDS + 2, 2)
        wave = _render(g, mel, log_f0, voicing, w["sharp"])
        g.output("waveform", g.op("Mul", wave, _fade(g, wave)), np.float32, ["batch", "samples"])


def _described(g: Graph, raw: str, w: Weights, units: Units) -> str:
    """Codes as the decoder's first layer sees them: two phones and a level [B, T, width]."""
    pair = g.op("Min", g.op("Div", raw, ints(LEVELS)), ints(PAIRS - 1))
    rows = [
        g.op("Gather", units.pairs[:, 0], pair, axis=0),
        g.op("Add", g.op("Gather", units.pairs[:, 1], pair, axis=0), ints(PHONES)),
        g.op("Add", g.op("Mod", raw, ints(LEVELS)), ints(2 * PHONES)),
    ]
    table = np.ascontiguousarray(w["codes.weight"].T)
    total = g.f32(g.param(w["codes.bias"]))
    for row in rows:
        total = g.op("Add", g.f32(g.lookup(table, row)), total)
    return total


def _decode(g: Graph, x: str, stats: str, w: Weights, pads: tuple[tuple[int, int], ...]) -> str:
    """`codec.Decoder` from its first layer on."""
    x = g.op("Add", x, linear(g, stats, w["speaker.weight"], w["speaker.bias"]))
    film = linear(g, stats, w["film.weight"], w["film.bias"])  # [B, 1, 2 × layers × width]
    width = len(w["codes.bias"])
    for i, (left, right) in enumerate(pads):
        y = convolution(g, x, w[f"coarse.{i}.weight"], w[f"coarse.{i}.bias"], left, right)
        scale, offset = (part(g, film, k * width, (k + 1) * width, 2) for k in (2 * i, 2 * i + 1))
        y = g.op("Add", g.op("Mul", y, g.op("Add", scale, real(1.0))), offset)
        x = g.op("Add", x, gelu(g, y))
    x = linear(g, x, w["up.weight"], w["up.bias"])
    x = g.op("Reshape", x, ints(0, -1, len(w["fine_speaker.bias"])))
    x = g.op("Add", x, linear(g, stats, w["fine_speaker.weight"], w["fine_speaker.bias"]))
    fines = sum(name.startswith("fines.") and name.endswith(".bias") for name in w)
    for i in range(fines):
        y = convolution(g, x, w[f"fines.{i}.weight"], w[f"fines.{i}.bias"], 1, 1)
        x = g.op("Add", x, gelu(g, y))
    return linear(g, gelu(g, x), w["out.weight"], w["out.bias"])


def _render(g: Graph, mel: str, log_f0: str, voicing: str, sharp: Array) -> str:
    """`render.Renderer`, float32 in every precision: [B, T × 240]."""
    mel = _over_frames(g, mel, render.quickening_taps())
    power = g.op("MatMul", mel, g.weight(sharp @ render.envelope_matrix().numpy()))
    power = g.op("Min", power, real(4.0))
    renderer = render.Renderer()
    gain = g.op("Mul", g.op("Exp", g.op("Mul", power, real(0.5))), real(renderer.audible.numpy()))
    buzz = g.op("Sigmoid", g.op("Mul", voicing, real(2.0)))
    buzz = g.op("Mul", buzz, real(renderer.buzz.numpy()))
    tone = g.op("Mul", gain, g.op("Sqrt", buzz))
    hiss = g.op("Mul", gain, g.op("Sqrt", g.op("Sub", real(1.0), buzz)))
    wave = _harmonics(g, log_f0)
    noise = g.op("RandomNormalLike", wave, dtype=1)
    cosine, sine = (waves(g, kind, (0, render.PIECE), (0, render.BINS), render.FFT)
                    for kind in ("Cos", "Sin"))  # fmt: skip
    sounds = []
    for source, level in ((wave, tone), (noise, hiss)):
        piece = _pieces(g, source, renderer.hann.numpy())
        sounds.append([g.op("Mul", g.op("MatMul", piece, m), level) for m in (cosine, sine)])
    real_part, imag_part = (
        g.op("Mul", g.op("Add", sounds[0][k], sounds[1][k]), real(renderer.inverse.numpy()))
        for k in (0, 1)
    )
    middle = (render.FFT - render.PIECE) // 2
    span = (render.FFT - middle, 2 * render.FFT - middle)
    out_cos, out_sin = (waves(g, kind, (0, render.BINS), span, render.FFT)
                        for kind in ("Cos", "Sin"))  # fmt: skip
    frames = g.op("Add", g.op("MatMul", real_part, out_cos), g.op("MatMul", imag_part, out_sin))
    return _overlap(g, frames)


def _harmonics(g: Graph, log_f0: str) -> str:
    """`Renderer.harmonics` of log f0 [B, T, 1]: [B, T × HOP]."""
    f0 = g.op("Clip", g.op("Exp", log_f0), real(50.0), real(500.0))
    f0 = g.op("Mul", f0, real(1 / f.RATE_HZ))
    following = g.op("Concat", part(g, f0, 1, END, 1), part(g, f0, -1, END, 1), axis=1)
    advance = g.op("Mul", g.op("Add", f0, following), real(f.HOP / 2))
    advance = g.op("Sub", advance, g.op("Floor", advance))
    start = g.op("CumSum", advance, np.array(1, np.int64), exclusive=1)
    start = g.op("Sub", start, g.op("Floor", start))
    ramp = ((np.arange(f.HOP) + 0.5) / f.HOP).astype(np.float32)
    slope = g.op("Mul", g.op("Sub", following, f0), real(f.HOP * ramp * ramp / 2))
    phase = g.op("Add", g.op("Add", g.op("Mul", f0, real(f.HOP * ramp)), slope), start)
    phase = g.op("Mul", g.op("Sub", phase, g.op("Round", phase)), real(np.pi))
    count = g.op("Floor", g.op("Div", real(0.46), f0))
    odd = g.op("Add", g.op("Mul", count, real(2.0)), real(1.0))
    below = g.op("Sin", phase)
    small = g.op("Less", g.op("Abs", below), real(1e-4))
    kernel = g.op("Div", g.op("Sin", g.op("Mul", odd, phase)),
                  g.op("Where", small, real(1.0), below))  # fmt: skip
    kernel = g.op("Where", small, odd, kernel)
    level = g.op("Mul", g.op("Sqrt", g.op("Mul", f0, real(4.0))), real(0.5))
    wave = g.op("Mul", g.op("Sub", kernel, real(1.0)), level)
    return g.op("Reshape", wave, ints(0, -1))


def _pieces(g: Graph, wave: str, hann: Array) -> str:
    """Hann pieces of two hops around each frame [B, T, PIECE]."""
    half = f.HOP // 2
    padded = g.op("Pad", wave, ints(0, half, 0, half), real(0.0))
    halves = g.op("Reshape", padded, ints(0, -1, half))
    ends = (-3, -2, -1, END)
    parts = [part(g, halves, k, ends[k], 1, 2) for k in range(4)]
    return g.op("Mul", g.op("Concat", *parts, axis=2), real(hann))


def _overlap(g: Graph, frames: str) -> str:
    """`render.overlap`: pieces of FFT samples, HOP apart → [B, T × HOP]."""
    total = ""
    for k in range(-(-render.FFT // f.HOP)):
        first = k * f.HOP
        slice_ = part(g, frames, first, min(first + f.HOP, render.FFT), 2)
        missing = max(0, first + f.HOP - render.FFT)
        pads = ints(0, k, 0, 0, 3 - k, missing)
        moved = g.op("Pad", slice_, pads, real(0.0))
        total = moved if not total else g.op("Add", total, moved)
    flat = g.op("Reshape", total, ints(0, -1))
    before = (render.FFT - f.HOP) // 2
    return part(g, flat, before, before - 3 * f.HOP, 1)


def _fade(g: Graph, wave: str) -> str:
    index = g.op("Range", np.array(0, np.int64), g.scalar(g.shape(wave, 1)), np.array(1, np.int64))
    place = g.op("Sub", g.cast(index, np.float32), real(render.SILENT_SAMPLES))
    place = g.op("Clip", g.op("Mul", place, real(1 / render.FADE_SAMPLES)), real(0.0), real(1.0))
    return g.op("Mul", g.op("Sub", real(1.0), g.op("Cos", g.op("Mul", place, real(np.pi)))),
                real(0.5))  # fmt: skip
