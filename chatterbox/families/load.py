"""Open the model that is configured, of whichever family it is. To add a family: its entry in
`FAMILIES`."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from chatterbox.config import TTSConfig
from chatterbox.errors import ConfigError, ModelError, first_line
from chatterbox.families.model import Doing, LoadedModel, LoadRequest, here
from chatterbox.families.orpheus import load as orpheus
from chatterbox.families.orpheus.spec import FILES as ORPHEUS_FILES
from chatterbox.families.turbo import load as turbo
from chatterbox.families.turbo.spec import FILES as TURBO_FILES
from chatterbox.hub.download import Notify
from chatterbox.hub.files import FamilyFiles, ModelFiles
from chatterbox.hub.select import select
from chatterbox.runtime.ort_errors import is_out_of_memory
from chatterbox.runtime.sessions import captures, session_settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Registered:
    """A family's folder."""

    files: FamilyFiles
    load: Callable[[LoadRequest], LoadedModel]
    compile_model: Callable[[LoadRequest], list[str]]
    """Compiles its graphs, or finds them compiled; what was proven, for the operator."""


FAMILIES = (
    Registered(TURBO_FILES, turbo.load, turbo.compile_model),
    Registered(ORPHEUS_FILES, orpheus.load, orpheus.compile_model),
)
"""The first one is served where nothing is chosen: `auto`, and the embedded model."""


def load_model(
    config: TTSConfig, notify: Notify, *, with_model: Doing = here, with_decoder: Doing = here
) -> LoadedModel:
    """Select, check and open everything. What is captured is so in the threads that will call it:
    onnxruntime keeps CUDA graphs for each. (Opened there without need, a full-size model leaves
    96 MiB behind in their allocator's arenas.) Raises ModelError or ConfigError with one line."""
    try:
        family, request = _found(config, notify)
        if captures(config, request.settings):
            request = replace(request, with_model=with_model, with_decoder=with_decoder)
        return family.load(request)
    except (ModelError, ConfigError):
        raise
    except Exception as fault:  # a file that passed all checks may still break whatever reads it
        log.debug("the model cannot be loaded", exc_info=True)
        what = f"{type(fault).__name__}: {first_line(fault)}"
        hint = "; lower CHATTERBOX_MAX_SEQUENCES" if is_out_of_memory(fault) else ""
        raise ModelError(f"the model cannot be loaded: {what}{hint}") from fault


def compile_model(config: TTSConfig, notify: Notify) -> list[str]:
    """Select a model and compile it, or find it compiled; what was proven, for the operator. Raises
    ModelError or ConfigError with one line."""
    family, request = _found(config, notify)
    return [f"{request.name}: {line}" for line in family.compile_model(request)]


def find_model(config: TTSConfig, notify: Notify) -> ModelFiles:
    """The files of the model that is configured, fetched where need be. Raises ModelError."""
    return _found(config, notify)[1].files


def _found(config: TTSConfig, notify: Notify) -> tuple[Registered, LoadRequest]:
    settings = session_settings(config)
    families = {family.files.family: family for family in FAMILIES}
    selection = select(config, settings.device, notify, [family.files for family in FAMILIES])
    request = LoadRequest(config, settings, selection.name, selection.files, selection.fallback)
    return families[selection.family], request
