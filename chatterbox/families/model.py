"""Data that a family gets to open a model, and the loaded model that it returns.

A family has functions `load(request: LoadRequest) -> LoadedModel` and
`compile_model(request: LoadRequest) -> list[str]`, which `families/load.py` names.
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
    """Runs a function in some thread and waits for it."""

    def __call__(self, work: Callable[[], T]) -> T:
        """Return or raise what `work` does."""


def run_here(work: Callable[[], T]) -> T:
    """Run a function in this thread."""
    return work()


RTF_STEPS = 8
"""Steps that `measure_rtf` times."""


def measure_rtf(model: LanguageModel, prompt: Prompt, token_rate_hz: float) -> float:
    """Measure the seconds of computing for a second of speech, with one sequence in the model."""
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
    expected_rtf: float | None = None  # seconds of computing for a second of speech, if measured
    device_note: str = ""  # the one of `notes` that explains the choice of the device
    machine: str = ""  # the GPU, or the CPU and its cores

    @property
    def slowness(self) -> str | None:
        """A warning for people, or None when speech is made faster than real time."""
        if self.expected_rtf is None or self.expected_rtf < 1:
            return None
        return (
            f"On this machine a second of speech takes about {self.expected_rtf:.2g} s to make: too"
            " slow to listen live. Ask for a file, and wait."
        )

    @property
    def precision_text(self) -> str:
        """The precision of all graphs if they agree, else `graph=precision` for each."""
        values = set(self.precision.values())
        if len(values) == 1:
            return values.pop()
        return " ".join(f"{graph}={precision}" for graph, precision in self.precision.items())


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """Everything that a family needs to open a model, whose files are complete."""

    config: TTSConfig
    settings: SessionSettings
    name: str  # "mini", a hub id, or a directory's name
    files: ModelFiles
    fallback: str | None = None
    in_model_thread: Runner = run_here  # the thread that will step the language model
    in_decoder_thread: Runner = run_here  # the thread that will call the decoder

    @contextmanager
    def in_background(self, work: Callable[[], T]) -> Iterator[Callable[[], T]]:
        """Run `work` at the same time as the block, and yield a function that returns its result.

        On a GPU, whose memory both would share, and at a first start, which compiles, `work` only
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

        `graphs`: the language model's own, and others that it is made from. `embedding` gets the
        compiler's `Embedding` class and returns an object of it. `arguments`: further arguments of
        `compile_lm`.
        """
        if not self.config.compile_lm:
            return NotCompiled("compiling is switched off")
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
        """Describe the loaded model. `notes`: the family's, for the operator."""
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
        """Return the sampling parameters in the model's `generation_config.json`, except those that
        are not valid as the setting of the same name."""
        values = self.files.generation_config()
        valid: dict[str, float] = {}
        for name, kind in SAMPLING.items():
            with suppress(ValidationError):
                valid[name] = TypeAdapter(kind).validate_python(values.get(name), strict=True)
        return valid


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """The parts that the engine drives. At least one of `cloned` and `fixed` is set."""

    info: ModelInfo
    family: Family
    prompts: Prompts
    language_model: LanguageModel
    decoder: StreamingDecoder
    cloned: ClonedVoices | None = None
    fixed: FixedVoices | None = None
    sampling: Mapping[str, float] = field(default_factory=dict)  # of its generation_config.json
    loudest_rms: float | None = None  # of its speech; louder sound is turned down

    def without_graphs(self) -> "LoadedModel":
        """Return the model's data without the parts that compute, so that their memory is freed."""
        none: Any = None
        return replace(self, prompts=none, language_model=none, decoder=none, cloned=none)
