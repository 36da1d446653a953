"""A compiled decoder: the facts in its manifest, and how its graphs are opened and run."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args

from chatterbox.families.base import StreamingDecoder
from chatterbox.runtime.compiled_cache import CompiledCache, Contents
from chatterbox.runtime.decoder.captured import CapturedSession
from chatterbox.runtime.decoder.flow import Flow, Part, PlainFlow
from chatterbox.runtime.decoder.graph_io import PhaseSum, RandomOp, Session
from chatterbox.runtime.decoder.prompt_kv_cache import CachedPromptFlow, EncoderOutput
from chatterbox.runtime.decoder.shape_laws import LinearDim
from chatterbox.runtime.decoder.split_decoder import SplitDecoder, StreamSettings
from chatterbox.runtime.decoder.unsplit import WholeDecoder
from chatterbox.runtime.decoder.warmup import rehearse

log = logging.getLogger(__name__)

DECODER_COMPILER = 2
"""Version of what compiles decoders: raised whenever the same source would give other graphs or
facts."""

Form = Literal["split", "whole", "as published"]
Graph = Literal["flow", "encoder", "estimator", "vocoder", "decoder", "published"]
"""The graphs of a form: split has a vocoder, and a flow or its encoder and estimator; whole has a
decoder; as published is the published file itself."""
OpenGraph = Callable[[Graph], Session]
Json = dict[str, Any]


class Sharing(Enum):
    """Which rows may share a call; the values are for the operator."""

    PADDED = "rows of any length share a call"
    EQUAL = "rows of equal length share a call"
    ALONE = "row by row"


@dataclass(frozen=True, slots=True)
class PromptKV:
    """What a flow with a remembered prompt hands from its encoder to its estimator."""

    outputs: Mapping[str, EncoderOutput]
    widths: Mapping[str, int]  # of the keys and values that the estimator gives


@dataclass(frozen=True, slots=True)
class CompiledDecoder:
    """All that the runtime needs to know of a decoder besides its graphs."""

    form: Form
    note: str  # for the operator: how its parts compute, and what was proven
    mel: str = ""  # the tensor between flow and vocoder
    randoms: Mapping[RandomOp, list[LinearDim]] = field(default_factory=dict)
    sums: Mapping[PhaseSum, list[LinearDim]] = field(default_factory=dict)
    sharing: Sharing = Sharing.ALONE
    prompt_kv: PromptKV | None = None

    def to_json(self) -> Json:
        """As it stands in a manifest."""
        kv = self.prompt_kv
        return {
            "form": self.form,
            "note": self.note,
            "mel": self.mel,
            "randoms": [
                [op.name, op.kind, op.first, op.second, _dims(law)]
                for op, law in self.randoms.items()
            ],
            "sums": [[s.name, _dims(law)] for s, law in self.sums.items()],
            "sharing": self.sharing.name,
            "prompt_kv": kv
            and {
                "outputs": [
                    [name, _dims(o.shape), None if o.counts is None else _dims(o.counts)]
                    for name, o in kv.outputs.items()
                ],
                "widths": dict(kv.widths),
            },
        }

    @classmethod
    def from_json(cls, facts: Json) -> "CompiledDecoder":
        """Raises LookupError, TypeError or ValueError where a fact is missing."""
        kv = facts["prompt_kv"]
        return cls(
            form=facts["form"],
            note=facts["note"],
            mel=facts["mel"],
            randoms={
                RandomOp(name, kind, first, second): _law(dims)
                for name, kind, first, second, dims in facts["randoms"]
            },
            sums={PhaseSum(name): _law(dims) for name, dims in facts["sums"]},
            sharing=Sharing[facts["sharing"]],
            prompt_kv=kv
            and PromptKV(
                {
                    name: EncoderOutput(_law(dims), None if counts is None else _law(counts))
                    for name, dims, counts in kv["outputs"]
                },
                kv["widths"],
            ),
        )

    def part(self, session: Session) -> Part:
        """A session with those random tensors that are inputs of its graph."""
        inputs = {i.name for i in session.get_inputs()}
        return Part(session, {op: law for op, law in self.randoms.items() if op.name in inputs})


def _dims(law: Sequence[LinearDim]) -> list[list[int]]:
    return [[dim.per_code, dim.per_prompt, dim.fixed] for dim in law]


def _law(dims: Sequence[Sequence[int]]) -> list[LinearDim]:
    return [LinearDim(*numbers) for numbers in dims]


Compiled = tuple[CompiledDecoder, Mapping[Graph, bytes]]


def find_or_compile(
    cache: CompiledCache,
    known_by: Json,
    source: Path,
    compile_graphs: Callable[[], tuple[CompiledDecoder, Mapping[Graph, bytes], Json]],
) -> Compiled:
    """The decoder of this identity with its graphs, whose weights may lie beside `source`. A data
    directory that cannot be written costs no more than compiling again at the next start."""
    entry = cache.find(known_by)
    if entry is not None:
        names: tuple[Graph, ...] = get_args(Graph)
        files = {name: entry.folder / f"{name}.onnx" for name in names}
        kept = {name: path.read_bytes() for name, path in files.items() if path.is_file()}
        return CompiledDecoder.from_json(entry.facts), kept
    compiled, graphs, proofs = compile_graphs()

    def fill(folder: Path) -> Contents:
        for name, graph in graphs.items():
            (folder / f"{name}.onnx").write_bytes(graph)
        return Contents(compiled.to_json(), proofs)

    try:
        cache.write(known_by, source, fill)
    except OSError as fault:
        why = fault.strerror or fault
        log.warning("the compiled decoder cannot be kept; each start compiles it again: %s", why)
    return compiled, graphs


@dataclass(frozen=True, slots=True)
class Opened:
    """A decoder and what to tell the operator about it."""

    decoder: StreamingDecoder
    kind: Form
    note: str


def open_compiled(
    compiled: CompiledDecoder,
    open_graph: OpenGraph,
    settings: StreamSettings,
    capture: Callable[[Graph], CapturedSession] | None = None,
) -> Opened:
    """With `capture`, a plain flow and its vocoder replay the shapes of `rehearse`; whatever fails
    then is raised, and the caller opens it again without."""
    if compiled.form == "split":
        return _split(compiled, open_graph, settings, capture)
    session = open_graph("decoder" if compiled.form == "whole" else "published")
    decoder = WholeDecoder(session, compiled.randoms, compiled.sums, settings)
    return Opened(decoder, compiled.form, compiled.note)


def _split(
    compiled: CompiledDecoder,
    open_graph: OpenGraph,
    settings: StreamSettings,
    capture: Callable[[Graph], CapturedSession] | None,
) -> Opened:
    replays: list[CapturedSession] = []
    flow: Flow
    if compiled.prompt_kv is not None:
        flow = prompt_flow(compiled, open_graph("encoder"), open_graph("estimator"), settings)
        vocoder = open_graph("vocoder")
    elif capture is not None:
        replays = [capture("flow"), capture("vocoder")]
        flow = PlainFlow(compiled.part(replays[0]), compiled.mel, settings.prompt_codes)
        vocoder = replays[1]
    else:
        part = compiled.part(open_graph("flow"))
        flow, vocoder = PlainFlow(part, compiled.mel, settings.prompt_codes), open_graph("vocoder")
    if compiled.sharing is Sharing.ALONE:
        settings = replace(settings, max_rows=1)
    decoder = SplitDecoder(
        flow,
        compiled.part(vocoder),
        compiled.mel,
        compiled.sums,
        settings,
        padded=compiled.sharing is Sharing.PADDED,
        replayed=bool(replays),
    )
    note = f"{compiled.note}; {compiled.sharing.value}"
    return Opened(decoder, "split", note + _replayed(decoder, replays, settings.prompt_codes))


def prompt_flow(
    compiled: CompiledDecoder, encoder: Session, estimator: Session, settings: StreamSettings
) -> CachedPromptFlow:
    """A flow that decodes a voice's prompt once."""
    assert compiled.prompt_kv is not None, "the flow has an encoder and an estimator"
    return CachedPromptFlow(
        encoder,
        estimator,
        compiled.prompt_kv.outputs,
        compiled.prompt_kv.widths,
        compiled.part(estimator).draws,
        compiled.mel,
        settings.prompt_codes,
        settings.memory_bytes,
    )


def _replayed(decoder: SplitDecoder, parts: Sequence[CapturedSession], prompt_codes: int) -> str:
    """Have `parts` record what will come; and what came of it."""
    if not parts:
        return ""
    with ExitStack() as stack:
        for part in parts:
            stack.enter_context(part.recording())
        rehearse(decoder, prompt_codes)
    recorded, refused = sum(p.recorded for p in parts), sum(p.refused for p in parts)
    differing = f", {refused} not, since they came out otherwise" if refused else ""
    return f"; {recorded} shapes replayed{differing}"
