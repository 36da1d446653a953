"""A compiled decoder: the facts in its manifest, and how its graphs are opened and run."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from chatterbox.families.base import StreamingDecoder
from chatterbox.runtime.decoder.captured import CapturedSession
from chatterbox.runtime.decoder.flow import Flow, Part, PlainFlow
from chatterbox.runtime.decoder.graph_io import PhaseSum, RandomOp, Session
from chatterbox.runtime.decoder.prompt_kv_cache import CachedPromptFlow, EncoderOutput
from chatterbox.runtime.decoder.shape_laws import LinearDim
from chatterbox.runtime.decoder.split_decoder import SplitDecoder, StreamSettings
from chatterbox.runtime.decoder.unsplit import WholeDecoder
from chatterbox.runtime.decoder.warmup import rehearse

DECODER_COMPILER = 4
"""Version of what compiles decoders: raised whenever the same source would give other graphs or
facts."""

Form = Literal["split", "whole", "as published"]
Graph = Literal["flow", "encoder", "estimator", "vocoder", "decoder", "published"]
"""The graphs of a form: split has a vocoder, and a flow or its encoder and estimator; whole has a
decoder; as published is the published file itself."""
OpenGraph = Callable[[Graph], Session]
Json = dict[str, Any]


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
    rows_share_calls: bool = False
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
            "rows_share_calls": self.rows_share_calls,
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
            rows_share_calls=facts["rows_share_calls"],
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
        """A session and its random tensors."""
        return Part.of(session, self.randoms)


def _dims(law: Sequence[LinearDim]) -> list[list[int]]:
    return [[dim.per_code, dim.per_prompt, dim.fixed] for dim in law]


def _law(dims: Sequence[Sequence[int]]) -> list[LinearDim]:
    return [LinearDim(*numbers) for numbers in dims]


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
    """With `capture`, a plain flow and its vocoder replay the shapes of `rehearse`, each where it
    can."""
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
    replays: dict[Graph, CapturedSession] = {}
    flow: Flow
    if compiled.prompt_kv is not None:
        flow = prompt_flow(compiled, open_graph("encoder"), open_graph("estimator"), settings)
        vocoder = open_graph("vocoder")
    else:
        if capture is not None:
            replays = {"flow": capture("flow"), "vocoder": capture("vocoder")}
        part = compiled.part(replays.get("flow") or open_graph("flow"))
        one_prompt = bool(settings.sizes)
        flow = PlainFlow(part, compiled.mel, settings.prompt_codes, one_prompt=one_prompt)
        vocoder = replays.get("vocoder") or open_graph("vocoder")
    if not compiled.rows_share_calls:
        settings = replace(settings, max_rows=1)
    decoder = SplitDecoder(
        flow,
        compiled.part(vocoder),
        compiled.mel,
        compiled.sums,
        settings,
        replayed=bool(replays),
    )
    if replays:
        with ExitStack() as stack:
            for replayed in replays.values():
                stack.enter_context(replayed.recording())
            rehearse(decoder, settings.sizes, settings.prompt_codes)
    notes = [compiled.note, *(f"{name}: {one.note}" for name, one in replays.items())]
    return Opened(decoder, "split", "; ".join(notes))


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
