"""A model that is being opened, and one that is loaded: what a family is given, and what it gives.

A family has a `load(request: LoadRequest) -> LoadedModel` and a
`compile_model(request: LoadRequest) -> list[str]`, named in `families/load.py`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import onnxruntime as ort
from pydantic import TypeAdapter, ValidationError

from chatterbox.config import TTSConfig
from chatterbox.config.tts import SAMPLING
from chatterbox.families.base import Family, LanguageModel, Prompts, StreamingDecoder
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
from chatterbox.runtime.sessions import SessionSettings, open_session

T = TypeVar("T")


class Doing(Protocol):
    """Has work done in some thread, and gives what comes of it."""

    def __call__(self, work: Callable[[], T]) -> T:
        """Returns or raises what `work` does."""


def here(work: Callable[[], T]) -> T:
    """In this thread."""
    return work()


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What was loaded, for people: /health, the console, benchmarks."""

    name: str
    precision: Mapping[str, str]  # by graph
    device: str
    fallback: str | None  # why `auto` settled for the embedded model
    notes: tuple[str, ...]  # what else the operator should know
    expected_rtf: float | None = None  # seconds of computing for one of speech, where measured
    device_note: str = ""  # that of `notes` which says why this device
    machine: str = ""  # the GPU, or the CPU and its cores

    @property
    def slowness(self) -> str | None:
        """What a person should know before waiting; None where speech is faster than real time."""
        if self.expected_rtf is None or self.expected_rtf < 1:
            return None
        return (
            f"On this machine a second of speech takes about {self.expected_rtf:.2g} s to make: too"
            " slow to listen live. Ask for a file, and wait."
        )

    @property
    def precision_text(self) -> str:
        """One word when all graphs agree, else `graph=precision` for each."""
        values = set(self.precision.values())
        if len(values) == 1:
            return values.pop()
        return " ".join(f"{graph}={precision}" for graph, precision in self.precision.items())


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What a family opens a model from; its files are there and whole."""

    config: TTSConfig
    settings: SessionSettings
    name: str  # "mini", a hub id, or a directory's name
    files: ModelFiles
    fallback: str | None = None
    with_model: Doing = here  # the thread that will step the language model
    with_decoder: Doing = here  # the thread that will call the decoder

    @contextmanager
    def beside(self, work: Callable[[], T]) -> Iterator[Callable[[], T]]:
        """Have `work` done beside what is done within, or when it is asked for: on a GPU, whose
        memory both share, and at a first start, which compiles. Given is what asks for it."""
        if self.settings.device == "cuda" or not (self.config.data_dir / DIRECTORY).is_dir():
            yield work
            return
        begun = run_in_thread(work)
        try:
            yield begun.result
        finally:
            wait([begun])

    def open(self, graph: str) -> ort.InferenceSession:
        """A session on a published graph."""
        return open_session(self.files.graph(graph), self.settings)

    def compiled(
        self,
        graphs: Sequence[str],
        options: CompileOptions,
        *,
        embedding: Callable[[Callable[..., Any]], Any],
        **how: Any,
    ) -> CompiledGraph | NotCompiled:
        """The language model from the cache in the data directory, or compiled now. `graphs`: its
        own, and what else it is made of. `embedding` is given the compiler's `Embedding` to make;
        `how`: more of `compile_lm`'s arguments."""
        if not self.config.compile_lm:
            return NotCompiled("compiling is switched off")
        paths = [self.files.graph(name) for name in graphs]
        precision, data_dir = self.files.precisions[graphs[0]], self.config.data_dir
        sources = [file for path in paths for file in graph_sources(path)]
        known_by = language_model_identity(sources, precision, self.settings, options)
        entry = CompiledCache(data_dir).find(known_by)
        if entry is not None:
            return language_model_of(entry)
        # Here, since a start that finds everything compiled needs no compiler.
        from chatterbox.compile.lm.compiler import Embedding, compile_lm
        from chatterbox.compile.progress import compile_bar

        with compile_bar("the language model") as progress:
            return compile_lm(
                paths[0],
                precision,
                data_dir,
                self.settings,
                options=options,
                embedding=embedding(Embedding),
                progress=progress,
                **how,
            )

    def info(self, *notes: str) -> ModelInfo:
        """What is loaded. `notes`: of the family, for the operator."""
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
        """How the model's `generation_config.json` wants its tokens drawn: whatever of it is usable
        as a setting of the same name."""
        stated = self.files.generation_config()
        usable: dict[str, float] = {}
        for name, kind in SAMPLING.items():
            with suppress(ValidationError):
                usable[name] = TypeAdapter(kind).validate_python(stated.get(name), strict=True)
        return usable


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """The parts that the engine drives. At least one of `cloned` and `fixed` is there."""

    info: ModelInfo
    family: Family
    prompts: Prompts
    language_model: LanguageModel
    decoder: StreamingDecoder
    cloned: ClonedVoices | None = None
    fixed: FixedVoices | None = None
    sampling: Mapping[str, float] = field(default_factory=dict)  # of its generation_config.json
    loudest_rms: float | None = None  # what is louder is no speech of it, and turned down

    def emptied(self) -> "LoadedModel":
        """What is known of it, without all that computes."""
        gone: Any = None
        return replace(self, prompts=gone, language_model=gone, decoder=gone, cloned=gone)
