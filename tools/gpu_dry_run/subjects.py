"""Opens small models of the project on a simulated GPU, as the server would.

Kernels compute nothing here, so whatever compares results is told that they are equal.
"""

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from tools.gpu_dry_run.counters import counters, device_memory, events

# isort: split
import numpy as np
import onnxruntime as ort

import chatterbox.compile.decoder.compiler
import chatterbox.compile.lm.compiler  # noqa: F401 - they import all that proves anything
from chatterbox.config import TTSConfig
from chatterbox.engine.engine import TTSEngine
from chatterbox.engine.windows import DecodeCost, Windows, WindowSettings
from chatterbox.families.base import DecodeJob, StreamingDecoder, Voice, Window
from chatterbox.families.s3gen import stream_settings
from chatterbox.families.turbo.voice import VoiceTensors
from chatterbox.runtime import cudart
from chatterbox.runtime.buffers import Memory
from chatterbox.runtime.compiled_lm import Deviation
from chatterbox.runtime.cuda_graphs import CapturedSession
from chatterbox.runtime.decoder.compiled import CompiledDecoder, Graph, open_compiled, probe_voice
from chatterbox.runtime.kv_slots import Prefix
from chatterbox.runtime.sessions import open_session, session_settings
from tools import build_model
from tools.decoder.build import write_decoder
from tools.decoder.weights import TINY, random_weights

ANSWERS: dict[str, dict[str, Any]] = {
    "chatterbox.runtime.decoder.graph_io": {"snr_db": float("inf")},
    "chatterbox.compile.decoder.equivalence": {
        "mel_distance_db": 0.0,
        "sound_distance_db": 0.0,
    },
    "chatterbox.compile.lm.equivalence": {
        "compare": Deviation(0.0, 0.0, 1.0),
        "rows_equal": True,
    },
}
"""What functions that compare results say here."""
SMALL = [
    *("--precision", "fp16", "--layers", "2", "--heads", "2", "--head-dim", "64"),
    *("--inner", "256", "--stand-ins", "0.125"),
]
"""Attention as wide for each head as the published model's, so that it takes the same kernels."""
VOICE_ROWS, PROMPT_CODES = 376, 75
ROWS = 4


def take_proofs_as_passed() -> None:
    """Kernels compute nothing here, and the loader compares."""
    modules = [module for name, module in sys.modules.items() if name.startswith("chatterbox.")]
    for home, answers in ANSWERS.items():
        for name, answer in answers.items():
            proof = getattr(sys.modules[home], name, None)
            if proof is None:
                sys.exit(f"{home}.{name} is gone: see what compares now, and name it in ANSWERS")
            for module in modules:
                if vars(module).get(name) is proof:
                    setattr(module, name, lambda *_, answer=answer, **__: answer)


def random_model(folder: Path) -> Path:
    """A small one of the published form in fp16, with a decoder that can be cut, in fp32."""
    build_model.main(["random", str(folder), *SMALL])
    write_decoder(random_weights(TINY), folder, "fp32")
    return folder


def orpheus(folder: Path) -> Path:
    """A small one in fp16, with its codec."""
    build_model.main(["orpheus", str(folder), "--precision", "fp16"])
    return folder


MODELS: dict[str, Callable[[Path], Path | str]] = {
    "mini": lambda _: "mini",
    "random": random_model,
    "orpheus": orpheus,
}
"""Those that are opened and spoken with."""


def loaded(model: Path | str, data_dir: Path, **settings: Any) -> TTSEngine:
    """An engine on the GPU, as `serve` has one."""
    given: dict[str, Any] = {"max_sequences": ROWS, "device": "cuda", **settings}
    engine = TTSEngine(TTSConfig(model=str(model), data_dir=data_dir, **given))
    engine.load()
    return engine


def any_voice(engine: TTSEngine) -> Voice:
    """One that nobody has; of a family that comes with its voices, one of these."""
    if engine.model.cloned is None:
        return engine.voices.get(None)
    shape = engine.model.language_model._shape
    features = np.random.default_rng(0).normal(size=(VOICE_ROWS, shape.hidden)).astype(np.float32)
    prompt = probe_voice(PROMPT_CODES).data
    tensors = VoiceTensors(features, prompt.prompt_codes, prompt.speaker, prompt.prompt_mel)
    return Voice("any", tensors)


def language_model_figures(engine: TTSEngine) -> dict[str, Any]:
    """What a row's beginning and a step do."""
    model, prompts = engine.model.language_model, engine.model.prompts
    voice = any_voice(engine)
    found: dict[str, Any] = {}
    texts = ["The lamp was lit.", "The lamp on the wall was lit.", "Yes, it was lit an hour ago."]
    for slot, text in enumerate(texts):
        with counters() as seen:
            model.prefill(slot, prompts.prompt(text, voice))
        found[f"prefill {slot}"] = figures(seen)
    for slots in ([0], [0, 2], [0, 1, 2]):
        tokens = np.zeros(len(slots), np.int64)
        model.decode(slots, tokens)
        with counters() as seen:
            model.decode(slots, tokens)
        found[f"step of {len(slots)}"] = figures(seen)
    for slot in range(len(texts)):
        model.free(slot)
    return found


def figures(seen: Any) -> dict[str, int]:
    """What the targets speak of."""
    return {
        "h2d": seen["h2d_pinned"] + seen["h2d_pageable"],
        "d2h": seen["d2h_pinned"] + seen["d2h_pageable"],
        "pageable": seen["h2d_pageable"] + seen["d2h_pageable"],
        **{
            name: seen[name]
            for name in ("synchronisations", "kernels", "replays", "cudnn_plans", "allocations")
        },
        "d2d_bytes": seen.amounts["d2d"],
        "across": seen["across"],
    }


def windows(decoder: StreamingDecoder) -> Iterator[Window]:
    """Of one stream: each of the sizes, then a last one of an odd size."""
    sizes = [*(decoder.window_frames or (5, 10)), 7]
    end, codec = 0, decoder.codec
    for number, size in enumerate(sizes, 1):
        fresh, end = end, end + size
        begin, last = max(0, fresh - codec.left_context_frames), number == len(sizes)
        stop = end if last else end + codec.look_ahead_frames
        yield Window(begin, fresh, end, stop, last, codec)


def decoder_figures(engine: TTSEngine) -> dict[str, Any]:
    """What the windows of a stream do, and of two streams together. The first round counts for
    nothing: onnxruntime keeps CUDA graphs for each thread, and this is not the engine's."""
    decoder, voice = engine.model.decoder, any_voice(engine)
    found: dict[str, Any] = {}
    for streams in 2 * sorted({1, min(2, decoder.max_rows)}):
        opened = [decoder.open(voice, seed) for seed in range(streams)]
        for window in windows(decoder):
            fed = (window.stop - window.begin) * window.codec.tokens_per_frame
            tokens = np.zeros(fed, np.int64)
            at = window.fresh * window.codec.samples_per_frame
            jobs = [DecodeJob(one, window, tokens, at, window.end_sample) for one in opened]
            with counters() as seen:
                decoder.run(jobs)
            kind = "last window" if window.last else "window"
            name = f"{kind} of {window.end - window.fresh}, {streams} rows"
            found[name] = figures(seen)
    return found


def compiled_decoder_figures(folder: Path) -> dict[str, Any]:
    """Of streams of many lengths, and of voices with a prompt and with half of one. A decoder that
    is compiled here would be studied on kernels that compute nothing; so it was on a CPU."""
    compiled = CompiledDecoder.from_json(json.loads((folder / "facts.json").read_text()))
    config = TTSConfig(device="cuda", model="mini")
    sessions = session_settings(config)
    streaming = dataclasses.replace(stream_settings(config, sessions), max_rows=2)

    def open_graph(name: Graph, options: dict[str, str] | None = None) -> ort.InferenceSession:
        graph = (folder / f"{name}.onnx").read_bytes()
        return open_session(graph, sessions, provider_options=options)

    def capture(name: Graph) -> CapturedSession:
        return CapturedSession(partial(open_graph, name), Memory("cuda", 0))

    with events() as seen:
        made = open_compiled(compiled, open_graph, streaming, capture)
    found: dict[str, Any] = {"note": made.note, "streams": {}}
    found["violations"] = [event.text for event in seen if event.kind == "violations"]
    for count, slack_s in product((1, 6, 12, 30, 79, 200), (0.0, math.inf)):
        with counters() as counted:
            voice = probe_voice(PROMPT_CODES // (1 + count % 2))
            windows = _streamed(made.decoder, voice, count, slack_s)
        found["streams"][f"{count} codes, {slack_s} s"] = figures(counted) | {"windows": windows}
    return found


def _streamed(decoder: StreamingDecoder, voice: Voice, count: int, slack_s: float) -> int:
    """How many windows it took."""
    planned = Windows(WindowSettings.of(decoder.codec, decoder.window_frames))
    stream, taken = decoder.open(voice, 1), 0
    while (window := planned.next(count, True, slack_s, DecodeCost(0.01, 0.0001))) is not None:
        tokens = np.zeros(window.stop - window.begin, np.int64)
        at = window.fresh * window.codec.samples_per_frame
        decoder.run([DecodeJob(stream, window, tokens, at, window.end_sample)])
        taken += 1
    return taken


def copies_lie_right() -> bool:
    """Whether a prefix is copied to the beginning of its slot and nowhere else. Copies are real
    here, as memory is."""
    memory, rows = Memory("cuda", 0), 6
    held = memory.buffer((4, 2, rows, 8), np.float16)
    values = np.random.default_rng(0).normal(size=held.shape).astype(np.float16)
    cudart.copy(held.address, values.ctypes.data, held.nbytes, 0)
    arena = [memory.buffer((3, 2, 11, 8), np.float16) for _ in values]
    Prefix(rows, held).load(arena, 1)
    expected = np.zeros((4, 3, 2, 11, 8), np.float16)
    expected[:, 1, :, :rows] = values
    return bool(np.array_equal(np.stack([buffer.get() for buffer in arena]), expected))


def slots_figures() -> dict[str, dict[str, float]]:
    """Memory that slots of the published model's size need and take."""
    import onnx
    from onnx import TensorProto, helper

    from chatterbox.runtime.buffers import Memory
    from chatterbox.runtime.sessions import open_session, session_settings

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "any", [value], [out])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    assert onnx is not None
    layers, heads, head_dim, positions = 24, 16, 64, 2049
    found = {}
    for slots in (16, 64, 128):
        settings = session_settings(TTSConfig(device="cuda", model="mini"))
        session = open_session(made.SerializeToString(), settings)
        memory, shape = Memory("cuda", 0), (slots, heads, positions, head_dim)
        before = device_memory()[0]
        kept = [memory.buffer(shape, np.float16, session) for _ in range(2 * layers)]
        taken = device_memory()[0] - before
        needed = 2 * layers * slots * heads * positions * head_dim * 2
        found[str(slots)] = {"needed_gib": needed / 2**30, "taken_gib": taken / 2**30}
        del kept, session
    return found
