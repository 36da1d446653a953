"""`LoadRequest`, with which a family opens a model, and `LoadedModel`, which the family returns.

Each family has the functions `load(request: LoadRequest) -> LoadedModel` and
`compile_model(request: LoadRequest) -> list[str]`, which are listed in `families/load.py`.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Protocol, TypeVar

import numpy as np
import onnxruntime as ort
from pydantic import TypeAdapter, ValidationError

from chatterbox.config import TTSConfig
from chatterbox.config.tts import SAMPLING
from chatterbox.families.base import Family, LanguageModel, Prompt, Prompts, StreamingDecoder
from chatterbox.families.voices import ClonedVoices, FixedVoices
from chatterbox.hub.files import ModelFiles, graph_sources
from chatterbox.loading import run_in_thread
from chatterbox.runtime.compiled_cache import DIRECTORY, CompiledCache
from chatterbox.runtime.compiled_lm import (
    CompiledGraph,
    CompileOptions,
    NotCompiled,
    language_model_identity,
    language_model_of,
)
from chatterbox.runtime.sessions import SessionSettings, close_unreachable_sessions, open_session

T = TypeVar("T")


class Runner(Protocol):
    """Runs a function in a certain thread and waits for the result."""

    def __call__(self, work: Callable[[], T]) -> T:
        """Return the result of `work`, or raise its exception."""


def run_here(work: Callable[[], T]) -> T:
    """Run a function in the calling thread."""
    return work()


RTF_STEPS = 8
"""Number of steps that `measure_rtf` times."""


def measure_rtf(model: LanguageModel, prompt: Prompt, token_rate_hz: float) -> float:
    """Measure the seconds of computing per second of speech, with one sequence in the model."""
    model.prefill(0, prompt)
    times_s = []
    for _ in range(RTF_STEPS):
        start_s = time.perf_counter()
        model.decode([0], np.zeros(1, np.int64))
        times_s.append(time.perf_counter() - start_s)
    model.free(0)
    return median(times_s) * token_rate_hz


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Description of a loaded model, for /health, the console and benchmarks."""

    name: str
    precision: Mapping[str, str]  # by graph
    device: str
    fallback: str | None  # why `auto` chose the embedded model
    notes: tuple[str, ...]  # for the operator
    expected_rtf: float | None = None  # seconds of computing per second of speech, if measured
    device_note: str = ""  # explains the choice of the device; also in `notes`
    machine: str = ""  # name of the GPU, or of the CPU and its number of cores

    @property
    def slowness(self) -> str | None:
        """A warning for users; None if speech is generated faster than real time."""
        if self.expected_rtf is None or self.expected_rtf < 1:
            return None
        return (
            f"On this machine a second of speech takes about {self.expected_rtf:.2g} s to generate:"
            " too slow for live listening. Request a whole file instead of a stream."
        )

    @property
    def precision_text(self) -> str:
        """The precision if all graphs have the same, otherwise `graph=precision` for each graph."""
        values = set(self.precision.values())
        if len(values) == 1:
            return values.pop()
        return " ".join(f"{graph}={precision}" for graph, precision in self.precision.items())


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """The settings, files and threads with which a family opens a model."""

    config: TTSConfig
    settings: SessionSettings
    name: str  # "mini", a hub id, or a directory's name
    files: ModelFiles  # complete
    fallback: str | None = None  # why `auto` chose the embedded model
    in_model_thread: Runner = run_here  # the thread that will step the language model
    in_decoder_thread: Runner = run_here  # the thread that will call the decoder

    @contextmanager
    def in_background(self, work: Callable[[], T]) -> Iterator[Callable[[], T]]:
        """Run `work` concurrently with the block. Yields a function that returns its result.

        On a GPU, where both would compete for memory, and at a first start, which compiles, `work`
        runs when that function is called.
        """
        if self.settings.device == "cuda" or not (self.config.data_dir / DIRECTORY).is_dir():
            yield work
            return
        future = run_in_thread(work)
        try:
            yield future.result
        finally:
            wait([future])

    def open(self, graph: str) -> ort.InferenceSession:
        """Open a session on a published graph."""
        return open_session(self.files.graph(graph), self.settings)

    def compiled(
        self,
        graphs: Sequence[str],
        options: CompileOptions,
        *,
        embedding: Callable[[Callable[..., Any]], Any],
        **arguments: Any,
    ) -> CompiledGraph | NotCompiled:
        """Return the compiled language model, from the cache or compiled now.

        `graphs` are the language model's graph and the others that are compiled into it.
        `embedding` is called with the compiler's class `Embedding` and returns an instance.
        `arguments` are passed to `compile_lm`.
        """
        if not self.config.compile_lm:
            return NotCompiled("compile_lm is false")
        paths = [self.files.graph(name) for name in graphs]
        precision, data_dir = self.files.precisions[graphs[0]], self.config.data_dir
        sources = [file for path in paths for file in graph_sources(path)]
        key = language_model_identity(sources, precision, self.settings, options)
        entry = CompiledCache(data_dir).find(key)
        if entry is not None:
            return language_model_of(entry)
        # Imported here, since a start with a full cache needs no compiler.
        from chatterbox.compile.lm.compiler import Embedding, compile_lm
        from chatterbox.compile.progress import compile_bar

        with compile_bar("the language model") as progress:
            result = compile_lm(
                paths[0],
                precision,
                data_dir,
                self.settings,
                options=options,
                embedding=embedding(Embedding),
                progress=progress,
                **arguments,
            )
        close_unreachable_sessions()
        return result

    def info(self, *notes: str) -> ModelInfo:
        """Describe the loaded model. `notes` are the family's notes for the operator."""
        chosen = [self.settings.note] if self.settings.note else []
        precisions, device = self.files.precisions, self.settings.device
        return ModelInfo(
            self.name,
            precisions,
            device,
            self.fallback,
            (*notes, *chosen),
            device_note=self.settings.note,
            machine=self.settings.machine,
        )

    def sampling(self) -> dict[str, float]:
        """Return the sampling parameters in the model's `generation_config.json` that are valid for
        the setting of the same name."""
        values = self.files.generation_config()
        valid: dict[str, float] = {}
        for name, kind in SAMPLING.items():
            with suppress(ValidationError):
                valid[name] = TypeAdapter(kind).validate_python(values.get(name), strict=True)
        return valid


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """The parts of a loaded model. At least one of `cloned` and `fixed` is set."""

    info: ModelInfo
    family: Family
    prompts: Prompts
    language_model: LanguageModel
    decoder: StreamingDecoder
    cloned: ClonedVoices | None = None
    fixed: FixedVoices | None = None
    sampling: Mapping[str, float] = field(default_factory=dict)  # from generation_config.json
    loudest_rms: float | None = None  # level of the loudest speech; louder audio is attenuated

    def without_graphs(self) -> "LoadedModel":
        """Return a copy without the graphs, so that their memory can be freed."""
        none: Any = None
        return replace(self, prompts=none, language_model=none, decoder=none, cloned=none)
