"""Open Orpheus' language model: the compiled graph where it is proven, else the published one,
stepped in place."""

from dataclasses import replace

from chatterbox.errors import ModelError, first_line
from chatterbox.families.base import LanguageModel
from chatterbox.families.compiled import found_or_compiled
from chatterbox.families.model import LoadRequest
from chatterbox.families.orpheus.files import LANGUAGE_MODEL
from chatterbox.families.orpheus.spec import AUDIO_IDS, COLUMNS, FIRST_AUDIO, ORPHEUS, POSITIONS
from chatterbox.families.orpheus.voices import REFERENCE_POSITIONS, is_pretrained
from chatterbox.runtime.compiled_lm import CompiledGraph, NotCompiled, usual_options
from chatterbox.runtime.embedding import TokenIds
from chatterbox.runtime.in_place import open_in_place
from chatterbox.runtime.sessions import open_session
from chatterbox.runtime.slotted import open_compiled, room

IDS = TokenIds(FIRST_AUDIO)


def open_language_model(request: LoadRequest) -> tuple[LanguageModel, str]:
    """A language model, and which form of it. Raises ModelError."""
    config, settings = request.config, request.settings
    graph = compiled_graph(request)
    if isinstance(graph, CompiledGraph):
        return open_compiled(graph, IDS, config, settings, _capacity(request))
    session = open_session(request.files.graph(LANGUAGE_MODEL), settings)
    try:
        model = open_in_place(session, IDS, COLUMNS, config, settings, _capacity(request))
    except Exception as fault:  # onnxruntime raises its own kinds
        raise ModelError(
            f"the language model is neither compiled ({graph.reason}) nor can it be stepped as it "
            f"is published: {first_line(fault)}"
        ) from fault
    return model, f"as published ({graph.reason}), stepped in place; {room(model)}"


def compiled_graph(request: LoadRequest) -> CompiledGraph | NotCompiled:
    """From the cache in the data directory, or compiled now."""
    config, settings, files = request.config, request.settings, request.files
    if not config.compile_lm:
        return NotCompiled("compiling is switched off")
    from chatterbox.compile.lm.angles import angles_of

    precision = files.precisions[LANGUAGE_MODEL]
    usual = usual_options(settings.device, precision)
    return found_or_compiled(
        [files.graph(LANGUAGE_MODEL)],
        precision,
        config,
        settings,
        replace(usual, cache="float", head=COLUMNS),
        lambda make: make(IDS, AUDIO_IDS, ORPHEUS.tokens.stop),
        angles=angles_of(files.config()),
    )


def _capacity(request: LoadRequest) -> int:
    """Positions of a slot: what is configured, and room for a reference where there are any; at
    most what the model was trained with."""
    reference = REFERENCE_POSITIONS if is_pretrained(request.name) else 0
    return min(request.config.max_sequence_length + reference, POSITIONS)
