"""Open Orpheus: language model, codec, voices."""

import time
from dataclasses import replace

import numpy as np

from chatterbox.errors import ModelError, first_line
from chatterbox.families.base import LanguageModel
from chatterbox.families.model import LoadedModel, LoadRequest
from chatterbox.families.orpheus.prompt import OrpheusPrompts, open_tokenizer
from chatterbox.families.orpheus.spec import (
    AUDIO_IDS,
    COLUMNS,
    DECODER,
    ENCODER,
    FIRST_AUDIO,
    LANGUAGE_MODEL,
    ORPHEUS,
    POSITIONS,
    START_OF_HUMAN,
)
from chatterbox.families.orpheus.voices import (
    REFERENCE_POSITIONS,
    TAGS,
    ReferenceVoices,
    fixed_voices,
    is_pretrained,
    languages,
)
from chatterbox.families.snac import open_codec
from chatterbox.runtime.compiled_lm import (
    CompiledGraph,
    NotCompiled,
    default_options,
    open_compiled,
    slots_note,
)
from chatterbox.runtime.decoder.snac import SnacEncoder
from chatterbox.runtime.embedding import TokenIds
from chatterbox.runtime.kv_slots import PrefixedPrompt
from chatterbox.runtime.masked_lm import open_in_place

IDS = TokenIds(FIRST_AUDIO)
TRIAL_STEPS = 8
"""Steps that are timed to predict the speed."""


def load(request: LoadRequest) -> LoadedModel:
    """Open both graphs, and the codec's encoder for a checkpoint that clones voices."""
    files, settings = request.files, request.settings
    tokenizer = open_tokenizer(files.tokenizer)
    language_model, note = request.in_model_thread(lambda: open_language_model(request))
    decoding = settings.on_gpu(request.config.decoder_device_id)
    decoder, decoder_note = request.in_decoder_thread(
        lambda: open_codec(request.config, files.graph(DECODER), decoding)
    )
    rtf = request.in_model_thread(lambda: expected_rtf(language_model))
    notes = f"language model: {note}", f"decoder: {decoder_note}"
    spoken = languages(request.name)
    tags = ORPHEUS.tags.union(*(TAGS.get(code, ()) for code in spoken))
    clones = is_pretrained(request.name)
    return LoadedModel(
        info=replace(request.info(*notes), expected_rtf=rtf),
        family=replace(ORPHEUS, tags=tags, languages=spoken),
        prompts=OrpheusPrompts(tokenizer, tags, request.config.prompt_form),
        language_model=language_model,
        decoder=decoder,
        cloned=_cloned_voices(request) if clones else None,
        fixed=None if clones else fixed_voices(spoken, request.config.model_voices),
        sampling=request.sampling(),
    )


def open_language_model(request: LoadRequest) -> tuple[LanguageModel, str]:
    """Open the compiled graph, or the published one stepped in place. Returns the model and a note
    for the operator. Raises ModelError."""
    config, settings = request.config, request.settings
    recording = REFERENCE_POSITIONS if is_pretrained(request.name) else 0
    capacity = min(config.max_sequence_length + recording, POSITIONS)
    graph = compiled_graph(request)
    if isinstance(graph, CompiledGraph):
        return open_compiled(graph, IDS, config, settings, capacity)
    session = request.open(LANGUAGE_MODEL)
    try:
        model = open_in_place(session, IDS, COLUMNS, config, settings, capacity)
    except Exception as fault:  # onnxruntime raises its own kinds
        raise ModelError(
            f"the language model is neither compiled ({graph.reason}) nor can it be stepped as it "
            f"is published: {first_line(fault)}"
        ) from fault
    return model, f"as published ({graph.reason}), stepped in place; {slots_note(model)}"


def compiled_graph(request: LoadRequest) -> CompiledGraph | NotCompiled:
    """Return the compiled graph, from the cache or compiled now."""
    from chatterbox.compile.lm.weights import angles_of

    options = default_options(request.settings.device, request.files.precisions[LANGUAGE_MODEL])
    return request.compiled(
        [LANGUAGE_MODEL],
        replace(options, cache="float", head=COLUMNS),
        embedding=lambda make: make(IDS, AUDIO_IDS, ORPHEUS.tokens.stop),
        angles=angles_of(request.files.config()),
    )


def expected_rtf(model: LanguageModel) -> float:
    """Measure the seconds of computing for a second of speech, with one sequence in the model."""
    ids = np.full(TRIAL_STEPS, START_OF_HUMAN)
    model.prefill(0, PrefixedPrompt("", ids[:0], ids))
    times_s = []
    for _ in range(TRIAL_STEPS):
        start_s = time.perf_counter()
        model.decode([0], np.zeros(1, np.int64))
        times_s.append(time.perf_counter() - start_s)
    model.free(0)
    return float(np.median(times_s)) * ORPHEUS.codec.token_rate_hz


def _cloned_voices(request: LoadRequest) -> ReferenceVoices:
    """Open the codec's encoder. Raises ModelError when the codec came without it."""
    if ENCODER not in request.files.precisions:
        raise ModelError(f"{request.name} imitates recordings, which needs the codec's {ENCODER}")
    return ReferenceVoices(SnacEncoder(request.open(ENCODER)), request.files.fingerprint(ENCODER))


def compile_model(request: LoadRequest) -> list[str]:
    """Compile language model and codec unless they are in the cache. Returns what was proven."""
    graph = compiled_graph(request)
    _, decoder_note = open_codec(request.config, request.files.graph(DECODER), request.settings)
    return [f"language model: {graph.proof}", f"decoder: {decoder_note}"]
