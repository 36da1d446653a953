"""Open Chatterbox Turbo: which wrapper belongs to which graph, compiled where it is proven."""

from functools import partial

from chatterbox.families.model import LoadedModel, LoadRequest
from chatterbox.families.s3gen import decoder_graphs, open_decoder, stream_settings
from chatterbox.families.turbo.language_model import (
    LanguageModelParts,
    TurboPrompts,
    compiled_graph,
    open_language_model,
    open_tokenizer,
)
from chatterbox.families.turbo.spec import LOUDEST_SPEECH_RMS, TURBO
from chatterbox.families.turbo.voice import TurboVoices


def load(request: LoadRequest) -> LoadedModel:
    """Open all four graphs, the decoder beside the others where it can be."""
    config, settings, files = request.config, request.settings, request.files
    tokenizer = open_tokenizer(files.tokenizer)
    parts = LanguageModelParts.of(request, tokenizer)
    decoding, path = settings.on_gpu(config.decoder_device_id), files.graph("conditional_decoder")
    decoder = partial(request.with_decoder, lambda: open_decoder(config, path, decoding))
    with request.beside(decoder) as opened_decoder:
        language_model, note = request.with_model(lambda: open_language_model(parts))
        encoder = request.open("speech_encoder")
        opened = opened_decoder()
    return LoadedModel(
        info=request.info(f"language model: {note}", f"decoder: {opened.kind}, {opened.note}"),
        family=TURBO,
        prompts=TurboPrompts(tokenizer),
        language_model=language_model,
        decoder=opened.decoder,
        cloned=TurboVoices.of(encoder, files.fingerprint("speech_encoder")),
        sampling=request.sampling(),
        loudest_rms=LOUDEST_SPEECH_RMS,
    )


def compile_model(request: LoadRequest) -> list[str]:
    """Compile language model and decoder, or find them compiled; what was proven."""
    config, settings, files = request.config, request.settings, request.files
    graph = compiled_graph(LanguageModelParts.of(request, open_tokenizer(files.tokenizer)))
    path = files.graph("conditional_decoder")
    decoder, _ = decoder_graphs(config, path, settings, stream_settings(config, settings))
    return [f"language model: {graph.proof}", f"decoder: {decoder.form}, {decoder.note}"]
