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


def load(request: LoadRequest) -> LoadedModel:
    """Open both graphs; of a pretrained checkpoint the codec's encoder too."""
    files, settings = request.files, request.settings
    tokenizer = open_tokenizer(files.tokenizer)
    language_model, note = request.with_model(lambda: open_language_model(request))
    decoding = settings.on_gpu(request.config.decoder_device_id)
    decoder, decoder_note = request.with_decoder(
        lambda: open_codec(request.config, files.graph(DECODER), decoding)
    )
    rtf = request.with_model(lambda: expected_rtf(language_model))
    spoken = languages(request.name)
    tags = ORPHEUS.tags.union(*(TAGS.get(code, ()) for code in spoken))
    cloned = is_pretrained(request.name)
    return LoadedModel(
        info=replace(
            request.info(f"language model: {note}", f"decoder: {decoder_note}"), expected_rtf=rtf
        ),
        family=replace(ORPHEUS, tags=tags, languages=spoken),
        prompts=OrpheusPrompts(tokenizer, tags, request.config.prompt_form),
        language_model=language_model,
        decoder=decoder,
        cloned=_cloned(request) if cloned else None,
        fixed=None if cloned else fixed_voices(spoken, request.config.model_voices),
        sampling=request.sampling(),
    )


def open_language_model(request: LoadRequest) -> tuple[LanguageModel, str]:
    """A language model, and which form of it. Raises ModelError."""
    config, settings = request.config, request.settings
    graph = compiled_graph(request)
    if isinstance(graph, CompiledGraph):
        return open_compiled(graph, IDS, config, settings, _capacity(request))
    session = request.open(LANGUAGE_MODEL)
    try:
        model = open_in_place(session, IDS, COLUMNS, config, settings, _capacity(request))
    except Exception as fault:  # onnxruntime raises its own kinds
        raise ModelError(
            f"the language model is neither compiled ({graph.reason}) nor can it be stepped as it "
            f"is published: {first_line(fault)}"
        ) from fault
    return model, f"as published ({graph.reason}), stepped in place; {slots_note(model)}"


def compiled_graph(request: LoadRequest) -> CompiledGraph | NotCompiled:
    """From the cache in the data directory, or compiled now."""
    from chatterbox.compile.lm.weights import angles_of

    usual = default_options(request.settings.device, request.files.precisions[LANGUAGE_MODEL])
    return request.compiled(
        [LANGUAGE_MODEL],
        replace(usual, cache="float", head=COLUMNS),
        embedding=lambda make: make(IDS, AUDIO_IDS, ORPHEUS.tokens.stop),
        angles=angles_of(request.files.config()),
    )


def _capacity(request: LoadRequest) -> int:
    """Positions of a slot: what is configured, and room for a reference where there are any; at
    most what the model was trained with."""
    reference = REFERENCE_POSITIONS if is_pretrained(request.name) else 0
    return min(request.config.max_sequence_length + reference, POSITIONS)


def expected_rtf(model: LanguageModel) -> float:
    """Seconds of computing for a second of sound, for one sequence alone, by some steps."""
    ids = np.full(TRIAL_STEPS, START_OF_HUMAN)
    model.prefill(0, PrefixedPrompt("", ids[:0], ids))
    took = []
    for _ in range(TRIAL_STEPS):
        began_s = time.perf_counter()
        model.decode([0], np.zeros(1, np.int64))
        took.append(time.perf_counter() - began_s)
    model.free(0)
    return float(np.median(took)) * ORPHEUS.codec.token_rate_hz


def _cloned(request: LoadRequest) -> ReferenceVoices:
    """Raises ModelError where the codec came without its encoder."""
    if ENCODER not in request.files.precisions:
        raise ModelError(f"{request.name} imitates recordings, which needs the codec's {ENCODER}")
    return ReferenceVoices(SnacEncoder(request.open(ENCODER)), request.files.fingerprint(ENCODER))


def compile_model(request: LoadRequest) -> list[str]:
    """Compile language model and codec, or find them compiled; what was proven."""
    graph = compiled_graph(request)
    _, decoder_note = open_codec(request.config, request.files.graph(DECODER), request.settings)
    return [f"language model: {graph.proof}", f"decoder: {decoder_note}"]
