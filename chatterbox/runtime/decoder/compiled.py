"""A compiled S3Gen decoder: the facts in its manifest, and how it is opened."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np

from chatterbox.families.base import CodecSpec, DecodeJob, StreamingDecoder, Voice, Window
from chatterbox.runtime.cuda_graphs import CapturedSession, bucket_sizes
from chatterbox.runtime.decoder import s3gen
from chatterbox.runtime.decoder.flow import (
    CachedPromptFlow,
    EncoderOutput,
    Flow,
    PlainFlow,
    PromptKV,
)
from chatterbox.runtime.decoder.graph_io import (
    CODES,
    PROMPT_MEL,
    SPEAKER,
    Feeds,
    LinearDim,
    PhaseSum,
    ProbeLength,
    RandomOp,
    Session,
)
from chatterbox.runtime.decoder.s3gen_decoder import SplitDecoder, StreamSettings, WholeDecoder

DECODER_COMPILER = 5
"""Version of the decoder compiler, raised when the same source gives other graphs or
facts."""

Form = Literal["split", "whole", "as published"]
Graph = Literal["flow", "encoder", "estimator", "vocoder", "decoder", "published"]
"""Graphs by form. Split: vocoder, and flow or encoder and estimator. Whole: decoder. As published:
the published file itself."""
OpenGraph = Callable[[Graph], Session]
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CompiledDecoder:
    """Everything about a compiled decoder except its graphs."""

    form: Form
    note: str  # for the operator: how its parts compute, and what was proven
    mel: str = ""  # the tensor between flow and vocoder
    randoms: Mapping[RandomOp, list[LinearDim]] = field(default_factory=dict)
    sums: Mapping[PhaseSum, list[LinearDim]] = field(default_factory=dict)
    rows_share_calls: bool = False
    prompt_kv: PromptKV | None = None

    def to_json(self) -> Json:
        """Return the facts for a manifest."""
        kv = self.prompt_kv
        outputs = [[name, *rule] for name, rule in kv.outputs.items()] if kv else []
        return {
            "form": self.form,
            "note": self.note,
            "mel": self.mel,
            "randoms": [[*op, dims] for op, dims in self.randoms.items()],
            "sums": [[phase.name, dims] for phase, dims in self.sums.items()],
            "rows_share_calls": self.rows_share_calls,
            "prompt_kv": kv and {"outputs": outputs, "widths": dict(kv.widths)},
        }

    @classmethod
    def from_json(cls, facts: Json) -> "CompiledDecoder":
        """Raises LookupError, TypeError or ValueError when a fact is missing or malformed."""
        randoms, sums, kv = (facts[name] for name in ("randoms", "sums", "prompt_kv"))
        if kv:
            outputs = {n: EncoderOutput(_dims(d), c and _dims(c)) for n, d, c in kv["outputs"]}
            kv = PromptKV(outputs, kv["widths"])
        return cls(
            form=facts["form"],
            note=facts["note"],
            mel=facts["mel"],
            randoms={RandomOp(*op): _dims(dims) for *op, dims in randoms},
            sums={PhaseSum(name): _dims(dims) for name, dims in sums},
            rows_share_calls=facts["rows_share_calls"],
            prompt_kv=kv,
        )


def _dims(dims: Sequence[Sequence[int]]) -> list[LinearDim]:
    return [LinearDim(*numbers) for numbers in dims]


@dataclass(frozen=True, slots=True)
class Opened:
    decoder: StreamingDecoder
    kind: Form
    note: str  # for the operator


def open_compiled(
    compiled: CompiledDecoder,
    open_graph: OpenGraph,
    settings: StreamSettings,
    capture: Callable[[Graph], CapturedSession] | None = None,
) -> Opened:
    """Open a compiled decoder. With `capture`, a plain flow and its vocoder replay the shapes of
    `run_all_shapes` wherever the replay is exact."""
    if compiled.form != "split":
        session = open_graph("decoder" if compiled.form == "whole" else "published")
        whole = WholeDecoder(session, compiled.randoms, compiled.sums, settings)
        return Opened(whole, compiled.form, compiled.note)
    replays: dict[Graph, CapturedSession] = {}
    flow: Flow
    if compiled.prompt_kv is not None:
        flow = CachedPromptFlow(
            open_graph("encoder"),
            open_graph("estimator"),
            compiled.prompt_kv,
            compiled.randoms,
            compiled.mel,
            settings.prompt_codes,
            settings.memory_bytes,
        )
    else:
        if capture is not None:
            replays = {"flow": capture("flow"), "vocoder": capture("vocoder")}
        flow = PlainFlow(
            replays.get("flow") or open_graph("flow"),
            compiled.randoms,
            compiled.mel,
            settings.prompt_codes,
            repeat_prompt=bool(settings.sizes),
        )
    if not compiled.rows_share_calls:
        settings = replace(settings, max_rows=1)
    decoder = SplitDecoder(
        flow,
        replays.get("vocoder") or open_graph("vocoder"),
        compiled.randoms,
        compiled.mel,
        compiled.sums,
        settings,
        replayed=bool(replays),
    )
    if replays:
        with ExitStack() as stack:
            for session in replays.values():
                stack.enter_context(session.recording())
            run_all_shapes(decoder, settings.sizes, settings.prompt_codes)
    notes = [compiled.note, *(f"{name}: {session.note}" for name, session in replays.items())]
    return Opened(decoder, "split", "; ".join(notes))


def run_all_shapes(decoder: StreamingDecoder, sizes: Sequence[int], prompt_codes: int) -> None:
    """Decode two streams in every number of rows, so that every shape of call has run once.

    One stream begins with the second smallest window and has every size after it; the other has one
    window of the smallest size. Large shapes run first: the memory that they free in the device's
    arena is enough for the others.
    """
    voice = probe_voice(prompt_codes)
    for rows in reversed(bucket_sizes(decoder.max_rows)):
        for window_sizes in ((*sizes[1:2], *reversed(sizes)), sizes[:1]):
            streams = [decoder.open(voice, seed) for seed in range(rows)]
            for window in _windows(decoder.codec, window_sizes):
                codes = np.full(window.stop - window.begin, s3gen.SILENCE_CODE, np.int64)
                next_sample = window.fresh * s3gen.SAMPLES_PER_CODE
                decoder.run(
                    [DecodeJob(s, window, codes, next_sample, window.end_sample) for s in streams]
                )


def _windows(codec: CodecSpec, sizes: Sequence[int]) -> Iterator[Window]:
    """Yield a stream's first windows, with these numbers of fresh codes."""
    end = 0
    for size in sizes:
        fresh, end = end, end + size
        begin = max(0, fresh - codec.left_context_frames)
        yield Window(begin, fresh, end, end + codec.look_ahead_frames, last=False, codec=codec)


def probe_feeds(length: ProbeLength, seed: int = 0) -> Feeds:
    """Return random codes and a random voice of this length."""
    rng = np.random.default_rng([seed, length.prompt, length.codes])
    total = length.prompt + length.codes
    frames = length.prompt * s3gen.MEL_FRAMES_PER_CODE
    return {
        CODES: rng.integers(0, s3gen.CODE_COUNT, (1, total)),
        SPEAKER: rng.normal(size=(1, s3gen.SPEAKER_DIM)).astype(np.float32),
        # Log-mels of speech are about -6 ± 2.5.
        PROMPT_MEL: rng.normal(-6.0, 2.5, (1, frames, s3gen.MEL_BANDS)).astype(np.float32),
    }


def probe_voice(prompt: int) -> Voice:
    """Return a random voice with `prompt` codes, without the data that a language model needs."""
    feeds = probe_feeds(ProbeLength(prompt, 0))
    codes, speaker, mel = (feeds[name][0] for name in (CODES, SPEAKER, PROMPT_MEL))
    return Voice("nobody's", SimpleNamespace(prompt_codes=codes, speaker=speaker, prompt_mel=mel))
