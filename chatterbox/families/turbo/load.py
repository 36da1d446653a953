"""Open Chatterbox Turbo: which wrapper belongs to which graph, compiled where it is proven."""

from functools import partial

from chatterbox.families.compiled import proof
from chatterbox.families.model import LoadedModel, LoadRequest
from chatterbox.families.s3gen import decoder_graphs, open_decoder, stream_settings
from chatterbox.families.turbo.language_model import (
    PROOF_SENTENCE,
    LanguageModelParts,
    compiled_graph,
    open_language_model,
)
from chatterbox.families.turbo.spec import LOUDEST_SPEECH_RMS, TURBO
from chatterbox.families.turbo.tokenizer import Tokenizer, TurboPrompts
from chatterbox.families.turbo.voice import EncoderGraph, TurboVoices
from chatterbox.runtime.sessions import open_session


def load(request: LoadRequest) -> LoadedModel:
    """Open all four graphs, the decoder beside the others where it can be."""
    config, settings, files = request.config, request.settings, request.files
    tokenizer = Tokenizer.from_file(files.tokenizer)
    parts = _parts(request, tokenizer)
    decoding, path = settings.on_gpu(config.decoder_device_id), files.graph("conditional_decoder")
    decoder = partial(request.with_decoder, lambda: open_decoder(config, path, decoding))
    with request.beside(decoder) as opened_decoder:
        language_model, note = request.with_model(lambda: open_language_model(parts))
        encoder = EncoderGraph(open_session(files.graph("speech_encoder"), settings))
        opened = opened_decoder()
    return LoadedModel(
        info=request.info(f"language model: {note}", f"decoder: {opened.kind}, {opened.note}"),
        family=TURBO,
        prompts=TurboPrompts(tokenizer),
        language_model=language_model,
        decoder=opened.decoder,
        cloned=TurboVoices(encoder, files.fingerprint("speech_encoder")),
        sampling=request.sampling(),
        loudest_rms=LOUDEST_SPEECH_RMS,
    )


def compile_model(request: LoadRequest) -> list[str]:
    """Compile language model and decoder, or find them compiled; what was proven."""
    config, settings, files = request.config, request.settings, request.files
    graph = compiled_graph(_parts(request, Tokenizer.from_file(files.tokenizer)))
    path = files.graph("conditional_decoder")
    decoder, _ = decoder_graphs(config, path, settings, stream_settings(config, settings))
    return [f"language model: {proof(graph)}", f"decoder: {decoder.form}, {decoder.note}"]


def _parts(request: LoadRequest, tokenizer: Tokenizer) -> LanguageModelParts:
    sentence = tokenizer.encode(PROOF_SENTENCE)
    return LanguageModelParts(
        request.config, request.files, request.settings, sentence, tokenizer.largest_id
    )
