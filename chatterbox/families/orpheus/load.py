"""Open Orpheus: language model, codec, voices."""

import time
from dataclasses import replace

import numpy as np

from chatterbox.errors import ModelError
from chatterbox.families.base import LanguageModel
from chatterbox.families.compiled import proof
from chatterbox.families.model import LoadedModel, LoadRequest
from chatterbox.families.orpheus.codec import open_codec, open_encoder
from chatterbox.families.orpheus.files import DECODER, ENCODER
from chatterbox.families.orpheus.language_model import (
    compiled_graph,
    open_language_model,
)
from chatterbox.families.orpheus.prompt import OrpheusPrompts
from chatterbox.families.orpheus.spec import ORPHEUS, START_OF_HUMAN
from chatterbox.families.orpheus.tokenizer import Tokenizer
from chatterbox.families.orpheus.voices import (
    TAGS,
    ReferenceVoices,
    fixed_voices,
    is_pretrained,
    languages,
)
from chatterbox.runtime.kv_prefix import PrefixedPrompt

TRIAL_STEPS = 8


def load(request: LoadRequest) -> LoadedModel:
    """Open both graphs; of a pretrained checkpoint the codec's encoder too."""
    files, settings = request.files, request.settings
    tokenizer = Tokenizer.from_file(files.tokenizer)
    language_model, note = request.with_model(lambda: open_language_model(request))
    decoding = settings.on_gpu(request.config.decoder_device_id)
    codec = request.with_decoder(lambda: open_codec(request.config, files.graph(DECODER), decoding))
    rtf = request.with_model(lambda: expected_rtf(language_model))
    spoken = languages(request.name)
    tags = ORPHEUS.tags.union(*(TAGS.get(code, ()) for code in spoken))
    cloned = is_pretrained(request.name)
    return LoadedModel(
        info=replace(
            request.info(f"language model: {note}", f"decoder: {codec.note}"), expected_rtf=rtf
        ),
        family=replace(ORPHEUS, tags=tags, languages=spoken),
        prompts=OrpheusPrompts(tokenizer, tags, request.config.prompt_form),
        language_model=language_model,
        decoder=codec.decoder,
        cloned=_cloned(request) if cloned else None,
        fixed=None if cloned else fixed_voices(spoken, request.config.model_voices),
        sampling=request.sampling(),
    )


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
    encoder = open_encoder(request.files.graph(ENCODER), request.settings)
    return ReferenceVoices(encoder, request.files.fingerprint(ENCODER))


def compile_model(request: LoadRequest) -> list[str]:
    """Compile language model and codec, or find them compiled; what was proven."""
    graph = compiled_graph(request)
    codec = open_codec(request.config, request.files.graph(DECODER), request.settings)
    return [f"language model: {proof(graph)}", f"decoder: {codec.note}"]
