"""Opens Orpheus: its language model, codec and voices."""

from dataclasses import replace

import numpy as np

from chatterbox.errors import ModelError, first_line
from chatterbox.families.base import LanguageModel
from chatterbox.families.model import LoadedModel, LoadRequest, measure_rtf
from chatterbox.families.orpheus import spec, voices
from chatterbox.families.orpheus.prompt import OrpheusPrompts, open_tokenizer
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

IDS = TokenIds(spec.FIRST_AUDIO)


def load(request: LoadRequest) -> LoadedModel:
    """Open the language model and the codec, with its encoder if the checkpoint clones voices."""
    files, settings = request.files, request.settings
    tokenizer = open_tokenizer(files.tokenizer)
    language_model, note = request.in_model_thread(lambda: open_language_model(request))
    decoding = settings.on_gpu(request.config.decoder_device_id)
    decoder, decoder_note = request.in_decoder_thread(
        lambda: open_codec(request.config, files.graph(spec.DECODER), decoding)
    )
    ids = np.full(8, spec.START_OF_HUMAN)  # any prompt will do
    prompt, token_rate_hz = PrefixedPrompt("", ids[:0], ids), spec.ORPHEUS.codec.token_rate_hz
    rtf = request.in_model_thread(lambda: measure_rtf(language_model, prompt, token_rate_hz))
    notes = f"language model: {note}", f"decoder: {decoder_note}"
    spoken = voices.languages(request.name)
    tags = spec.ORPHEUS.tags.union(*(voices.TAGS.get(code, ()) for code in spoken))
    clones = voices.is_pretrained(request.name)
    return LoadedModel(
        info=replace(request.info(*notes), expected_rtf=rtf),
        family=replace(spec.ORPHEUS, tags=tags, languages=spoken),
        prompts=OrpheusPrompts(tokenizer, tags, request.config.prompt_form),
        language_model=language_model,
        decoder=decoder,
        cloned=_cloned_voices(request) if clones else None,
        fixed=None if clones else voices.fixed_voices(spoken, request.config.model_voices),
        sampling=request.sampling(),
    )


def open_language_model(request: LoadRequest) -> tuple[LanguageModel, str]:
    """Open the compiled graph, or else the published graph with a cache updated in place. Returns
    the model and a note for the operator. Raises ModelError."""
    config, settings = request.config, request.settings
    recording = voices.REFERENCE_POSITIONS if voices.is_pretrained(request.name) else 0
    capacity = min(config.max_sequence_length + recording, spec.POSITIONS)
    graph = compiled_graph(request)
    if isinstance(graph, CompiledGraph):
        return open_compiled(graph, IDS, config, settings, capacity)
    session = request.open(spec.LANGUAGE_MODEL)
    try:
        model = open_in_place(session, IDS, spec.COLUMNS, config, settings, capacity)
    except Exception as fault:  # onnxruntime raises its own classes
        raise ModelError(
            f"the language model is not compiled ({graph.reason}), and the published graph cannot "
            f"be used: {first_line(fault)}"
        ) from fault
    return model, f"as published ({graph.reason}), stepped in place; {slots_note(model)}"


def compiled_graph(request: LoadRequest) -> CompiledGraph | NotCompiled:
    """Return the compiled graph, from the cache or compiled now."""
    from chatterbox.compile.lm.weights import angles_of

    precision = request.files.precisions[spec.LANGUAGE_MODEL]
    options = default_options(request.settings.device, precision)
    return request.compiled(
        [spec.LANGUAGE_MODEL],
        replace(options, cache="float", head=spec.COLUMNS),
        embedding=lambda make: make(IDS, spec.AUDIO_IDS, spec.ORPHEUS.tokens.stop),
        angles=angles_of(request.files.config()),
    )


def _cloned_voices(request: LoadRequest) -> voices.ReferenceVoices:
    """Open the codec's encoder. Raises ModelError if the codec has none."""
    if spec.ENCODER not in request.files.precisions:
        raise ModelError(
            f"{request.name} clones voices from recordings, which needs the codec's {spec.ENCODER}"
        )
    encoder = SnacEncoder(request.open(spec.ENCODER))
    return voices.ReferenceVoices(encoder, request.files.fingerprint(spec.ENCODER))


def compile_model(request: LoadRequest) -> list[str]:
    """Compile language model and codec unless they are in the cache. Returns notes on the
    proofs."""
    graph = compiled_graph(request)
    path = request.files.graph(spec.DECODER)
    _, decoder_note = open_codec(request.config, path, request.settings)
    return [f"language model: {graph.proof}", f"decoder: {decoder_note}"]
