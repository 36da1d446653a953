"""Open Orpheus' language model: the compiled graph where it is proven, else the published one,
stepped in place."""

import time
from typing import Any

import numpy as np
import onnxruntime as ort

from chatterbox.arrays import F32, I64
from chatterbox.errors import ModelError, first_line
from chatterbox.families.base import LanguageModel
from chatterbox.families.model import LoadRequest
from chatterbox.families.orpheus.spec import (
    AUDIO_IDS,
    COLUMNS,
    FIRST_AUDIO,
    ORPHEUS,
    POSITIONS,
    START_OF_HUMAN,
)
from chatterbox.hub.files import graph_sources
from chatterbox.runtime.buffers import Memory
from chatterbox.runtime.compiled_cache import CompiledCache
from chatterbox.runtime.compiled_lm import (
    CompiledGraph,
    CompileOptions,
    NotCompiled,
    language_model_identity,
    language_model_of,
)
from chatterbox.runtime.cuda_graphs import Buckets
from chatterbox.runtime.decoder.snac import CODES
from chatterbox.runtime.embedding import TokenIds
from chatterbox.runtime.kv_prefix import PrefixedPrompt
from chatterbox.runtime.kv_slots import SlottedLanguageModel
from chatterbox.runtime.masked_lm import MaskedShape
from chatterbox.runtime.sessions import open_session
from chatterbox.runtime.slotted import MIB, open_compiled, room

GRAPH = "model"
IDS = TokenIds(FIRST_AUDIO)
IN_PLACE_TOLERANCE = 0.02
"""Largest difference, in standard deviations of the logits, that counts as equal: fp16 rounding
stays below it, a row that reads another's past does not."""
TRIAL = ((0, 5), (2, 12))  # slots and ids of prompts
TRIAL_STEPS = 6


def open_language_model(request: LoadRequest) -> tuple[LanguageModel, str]:
    """A language model, and which form of it."""
    config = request.config
    graph = compiled_graph(request)
    if isinstance(graph, CompiledGraph):
        return open_compiled(graph, IDS, config, request.settings, _capacity(request))
    try:
        model = _published(request)
        return model, f"as published ({graph.reason}), stepped in place; {room(model)}"
    except ModelError:
        raise
    except Exception as fault:  # onnxruntime raises its own kinds
        raise ModelError(
            f"the language model can neither be compiled ({graph.reason}) nor be stepped as "
            f"published: {first_line(fault)}"
        ) from fault


def compiled_graph(request: LoadRequest) -> CompiledGraph | NotCompiled:
    """From the cache in the data directory, or compiled now."""
    config, settings, files = request.config, request.settings, request.files
    if not config.compile_lm:
        return NotCompiled("compiling is switched off")
    # A GPU steps in place in fp16 alone. On a CPU fp16 weights are widened, which is exact.
    options = CompileOptions(compute="fp16" if settings.device == "cuda" else "fp32", head=COLUMNS)
    source, precision = files.graph(GRAPH), files.precisions[GRAPH]
    known_by = language_model_identity(graph_sources(source), precision, settings, options)
    entry = CompiledCache(config.data_dir).find(known_by)
    if entry is not None:
        return language_model_of(entry)
    # Here, since a start that finds everything compiled needs no compiler.
    from chatterbox.compile.lm.angles import angles_of
    from chatterbox.compile.lm.compiler import Embedding, compile_lm
    from chatterbox.compile.progress import CompileBar

    with CompileBar("the language model") as progress:
        return compile_lm(
            source,
            precision,
            config.data_dir,
            settings,
            options=options,
            embedding=Embedding(IDS, AUDIO_IDS, ORPHEUS.tokens.stop),
            angles=angles_of(files.config()),
            progress=progress,
        )


def _capacity(request: LoadRequest) -> int:
    """Positions of a slot: what is configured, at most what the model was trained with."""
    stated = request.files.config().get("max_position_embeddings", POSITIONS)
    known = stated if isinstance(stated, int) else POSITIONS
    return min(request.config.max_sequence_length, known, POSITIONS)


def _published(request: LoadRequest) -> SlottedLanguageModel:
    """Raises ModelError where the graph cannot be stepped in place."""
    config, settings = request.config, request.settings
    session = open_session(request.files.graph(GRAPH), settings)
    shape = MaskedShape.read(session, COLUMNS, POSITIONS)
    if settings.device == "cuda" and shape.kv_type != np.float16:
        raise ModelError("a GPU steps in place in fp16; set CHATTERBOX_MODEL_DTYPE=fp16")
    model = SlottedLanguageModel(
        session,
        IDS,
        slots=config.max_sequences,
        capacity=_capacity(request),
        prefix_cache_bytes=config.kv_prefix_cache_mb * MIB,
        memory=Memory(settings.device, settings.device_id),
        buckets=Buckets(config.max_sequences, capture=False),
        shape=shape,
    )
    if not steps_in_place(model, session):
        raise ModelError("the published language model does not step in place")
    return model


def steps_in_place(model: SlottedLanguageModel, session: ort.InferenceSession) -> bool:
    """Whether two rows of different length say together what each says alone, by the graph's own
    past and present."""
    rng = np.random.default_rng(0)
    slots = [slot for slot, _ in TRIAL if slot < model.slots]
    prompts = {slot: rng.integers(0, 256, count) for slot, count in TRIAL if slot in slots}
    tokens = rng.integers(0, CODES, (TRIAL_STEPS, len(slots)))
    together = [np.stack([model.prefill(slot, _bare(prompts[slot])) for slot in slots])]
    together += [model.decode(slots, row) for row in tokens]
    alone = []
    for place, slot in enumerate(slots):
        ids = np.concatenate([prompts[slot], tokens[:, place] + FIRST_AUDIO])
        alone.append(_logits(session, ids)[len(prompts[slot]) - 1 :])
        model.free(slot)
    expected = np.stack(alone, axis=1)
    difference = np.abs(np.stack(together) - expected).max()
    return bool(difference <= IN_PLACE_TOLERANCE * (expected.std() + 1e-6))


def _bare(ids: I64) -> PrefixedPrompt:
    return PrefixedPrompt("", ids[:0], ids)


def _logits(session: ort.InferenceSession, ids: I64) -> F32:
    """Of one row [S], at once: [S, tokens]."""
    feeds: dict[str, Any] = {
        "input_ids": ids[None],
        "attention_mask": np.ones((1, len(ids)), np.int64),
    }
    for past in session.get_inputs():
        if past.name.startswith("past_key_values."):
            kind = np.float16 if past.type == "tensor(float16)" else np.float32
            feeds[past.name] = np.zeros((1, past.shape[1], 0, past.shape[3]), kind)
    logits = session.run(["logits"], feeds)[0][0]
    return np.concatenate([logits[:, begin:end] for begin, end in COLUMNS], axis=1)


def expected_rtf(model: LanguageModel) -> float:
    """Seconds of computing for a second of sound, one sequence alone, by some steps."""
    ids = np.full(16, START_OF_HUMAN)
    model.prefill(0, _bare(ids))
    took = []
    for _ in range(TRIAL_STEPS):
        began_s = time.perf_counter()
        model.decode([0], np.zeros(1, np.int64))
        took.append(time.perf_counter() - began_s)
    model.free(0)
    return float(np.median(took)) * ORPHEUS.codec.token_rate_hz
