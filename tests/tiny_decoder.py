"""Small decoders in the published form, with random weights, and functions that open and stream
them."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from fakes import window_settings

from chatterbox.arrays import F32, I64
from chatterbox.compile.decoder.compiler import Compilation, compile_decoder
from chatterbox.compile.graph import OpenGraph
from chatterbox.engine.vocoder_stream import Crossfader
from chatterbox.engine.windows import DecodeCost, Windows, WindowSettings
from chatterbox.families.base import DecodeJob, StreamingDecoder, Voice, Window
from chatterbox.families.turbo.voice import VoiceTensors
from chatterbox.runtime.buffers import Memory
from chatterbox.runtime.decoder.compiled import Opened
from chatterbox.runtime.decoder.s3gen_decoder import StreamSettings
from tools.decoder.graph import FLOAT, INT64, Graph
from tools.decoder.opened import compile_and_open
from tools.decoder.vocoder import waveform
from tools.decoder.weights import TINY, Array, random_weights

QUICK = DecodeCost(fixed_s=0.01, per_frame_s=0.001)


def opener(folder: Path) -> OpenGraph:
    """Return a function that opens single-threaded sessions with external weights in `folder`."""

    def open_graph(model: onnx.ModelProto) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        options.enable_mem_reuse = options.enable_mem_pattern = False
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(folder)
        )
        return ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    return open_graph


_COMPILED: dict[tuple[bytes, bytes, StreamSettings], Compilation] = {}
_LOCK = threading.Lock()


def compile_once(
    path: Path, open_graph: OpenGraph, settings: StreamSettings, *_: object
) -> Compilation:
    """Compile a decoder, or return what an earlier test compiled from the same bytes with equal
    settings. Compiling takes most of a test's time."""
    weights = path.with_name(f"{path.name}_data")
    same = replace(
        settings,
        sizes=(),  # sizes and numbers do not reach the graphs
        max_rows=min(settings.max_rows, 2),
        memory_bytes=min(settings.memory_bytes, 1),
    )
    key = path.read_bytes(), weights.read_bytes() if weights.exists() else b"", same
    with _LOCK:
        if key not in _COMPILED:
            _COMPILED[key] = compile_decoder(path, open_graph, settings)
        return _COMPILED[key]


def open_decoder(
    path: Path, settings: StreamSettings, memory: Memory | None = None, *, afresh: bool = False
) -> Opened:
    """Open a decoder, compiled once for all tests. `memory`: replay the shapes of windows there.
    `afresh`: compile it here, since the test patches the compiler."""
    compiler = compile_decoder if afresh else compile_once
    return compile_and_open(path, opener(path.parent), settings, memory, compiler)


def voice(prompt_codes: int = 12, seed: int = 0) -> Voice:
    """Return a random voice."""
    rng = np.random.default_rng(seed)
    tensors = VoiceTensors(
        features=np.zeros((1, 8), np.float32),
        prompt_codes=rng.integers(0, 6561, prompt_codes),
        speaker=rng.normal(size=192).astype(np.float32),
        prompt_mel=rng.normal(-6, 2.5, (2 * prompt_codes, 80)).astype(np.float32),
    )
    return Voice(f"voice-{seed}", tensors)


def some_codes(count: int, seed: int = 0) -> I64:
    """Return random codes."""
    return np.random.default_rng([seed, 77]).integers(0, 6561, count)


def local_decoder_model(weights: dict[str, Array] | None = None) -> onnx.ModelProto:
    """Return a decoder whose flow reads each code and the next three only, so that streamed audio
    can equal the whole. Its vocoder has the real structure, but is small."""
    weights = random_weights(TINY) if weights is None else weights
    rng = np.random.default_rng(5)
    g = Graph(weights)
    codes = g.input("speech_tokens", INT64, ["batch", "codes"])
    speaker = g.input("speaker_embeddings", FLOAT, ["batch", 192])
    prompt = g.input("speaker_features", FLOAT, ["batch", "prompt_frames", 80])
    rows = g.op("Gather", g.const(rng.normal(0, 1, (6561, 80))), codes, axis=0)
    kernel = rng.normal(0, 0.5, (80, 1, 4))
    ahead = g.op("Conv", g.swap(rows), g.const(kernel), pads=[0, 3], group=80)
    loudness = g.op("Unsqueeze", g.op("ReduceMean", speaker, g.ints(1), keepdims=1), g.ints(2))
    pairs = g.op("Unsqueeze", g.add(ahead, loudness), g.ints(3))
    frames = g.op("Reshape", g.cat(pairs, pairs, axis=3), g.ints(0, 80, -1))
    mel = g.add(frames, g.mul(g.op("RandomNormalLike", frames), g.const(0.3)))
    mel = g.slice(mel, g.size(prompt, 1), g.ints(np.iinfo(np.int64).max), 2)
    g.output(waveform(g, mel), "waveform", FLOAT, ["batch", "samples"])
    return g.model()


def saved(model: onnx.ModelProto, folder: Path, *, external: bool = False) -> Path:
    """Save a model, with its weights in a second file if `external`."""
    path = folder / "conditional_decoder.onnx"
    onnx.save(
        model,
        str(path),
        save_as_external_data=external,
        location=f"{path.name}_data",
        size_threshold=1024,
    )
    return path


def stream(
    decoder: StreamingDecoder,
    codes: I64,
    settings: WindowSettings,
    *,
    who: Voice | None = None,
    seed: int = 7,
    slack_s: float = 0.0,
) -> tuple[F32, list[Window]]:
    """Decode one stream whose codes are all known from the start. Returns samples and windows."""
    windows, seams = Windows(settings), Crossfader(settings.cross_fade_samples)
    opened = decoder.open(voice() if who is None else who, seed)
    pieces, taken = [], []
    while (window := windows.next(len(codes), True, slack_s, QUICK)) is not None:
        rendered = decoder.run([job(opened, codes, window, seams, settings)])[0]
        pieces.append(seams.join(rendered.samples, rendered.at, window.last))
        taken.append(window)
    return np.concatenate(pieces), taken


def job(
    opened: object, codes: I64, window: Window, seams: Crossfader, settings: WindowSettings
) -> DecodeJob:
    """Return the job that the engine would give to the decoder."""
    held_back = 0 if window.last else settings.cross_fade_samples
    return DecodeJob(
        opened,  # type: ignore[arg-type] # whatever `open` gave
        window,
        codes[window.begin : window.stop],
        seams.next_sample,
        window.end_sample - held_back,
    )


def whole(settings: WindowSettings = window_settings()) -> WindowSettings:  # noqa: B008 - frozen
    """Return settings with which one window holds all codes."""
    return window_settings(
        first_most_frames=1000, most_frames=1000, first_least_frames=1000,
        cross_fade_ms=settings.cross_fade_ms,
    )  # fmt: skip


def snr_db(reference: Array, other: Array) -> float:
    """Return the signal-to-noise ratio of `other` against the reference, in dB."""
    wrong = float(np.square(reference - other, dtype=np.float64).sum())
    wanted = float(np.square(reference, dtype=np.float64).sum())
    return float("inf") if wrong == 0 else 10 * float(np.log10(wanted / wrong))
