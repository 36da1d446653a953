"""Opens the configured model. To add a model family, add an entry to `FAMILIES`."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from chatterbox.config import TTSConfig
from chatterbox.errors import ConfigError, ModelError, first_line
from chatterbox.families.model import LoadedModel, LoadRequest, Runner, run_here
from chatterbox.families.orpheus import load as orpheus
from chatterbox.families.orpheus.spec import FILES as ORPHEUS_FILES
from chatterbox.families.turbo import load as turbo
from chatterbox.families.turbo.spec import FILES as TURBO_FILES
from chatterbox.hub.download import Notify
from chatterbox.hub.files import FamilyFiles, ModelFiles
from chatterbox.hub.select import Selector
from chatterbox.runtime.ort_errors import is_out_of_memory
from chatterbox.runtime.sessions import captures, session_settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RegisteredFamily:
    """Entry points of a family's folder."""

    files: FamilyFiles
    load: Callable[[LoadRequest], LoadedModel]
    compile_model: Callable[[LoadRequest], list[str]]
    """Compiles the model's graphs unless they are in the cache; returns notes for the operator."""


FAMILIES = (
    RegisteredFamily(TURBO_FILES, turbo.load, turbo.compile_model),
    RegisteredFamily(ORPHEUS_FILES, orpheus.load, orpheus.compile_model),
)
"""The model families. `auto` and the embedded model belong to the first."""


def load_model(
    config: TTSConfig,
    notify: Notify,
    *,
    in_model_thread: Runner = run_here,
    in_decoder_thread: Runner = run_here,
) -> LoadedModel:
    """Select, check and open the configured model.

    Graphs that are captured are opened in the threads that will call them, since onnxruntime keeps
    CUDA graphs per thread. Others are opened in the calling thread: in another thread, a full-size
    model would leave 96 MiB in the arenas of that thread's allocator. Raises ModelError or
    ConfigError with one line.
    """
    try:
        family, request = _select(config, notify)
        if captures(config, request.settings):
            request = replace(
                request, in_model_thread=in_model_thread, in_decoder_thread=in_decoder_thread
            )
        return family.load(request)
    except (ModelError, ConfigError):
        raise
    except Exception as fault:  # a file that passed all checks can still be invalid for its reader
        log.debug("the model cannot be loaded", exc_info=True)
        what = f"{type(fault).__name__}: {first_line(fault)}"
        hint = "; lower CHATTERBOX_MAX_SEQUENCES" if is_out_of_memory(fault) else ""
        raise ModelError(f"the model cannot be loaded: {what}{hint}") from fault


def compile_model(config: TTSConfig, notify: Notify) -> list[str]:
    """Compile the configured model unless it is in the cache. Returns notes on the proofs, for the
    operator. Raises ModelError or ConfigError with one line."""
    family, request = _select(config, notify)
    return [f"{request.name}: {line}" for line in family.compile_model(request)]


def find_model(config: TTSConfig, notify: Notify) -> ModelFiles:
    """Return the files of the configured model, downloaded if necessary. Raises ModelError."""
    return _select(config, notify)[1].files


def _select(config: TTSConfig, notify: Notify) -> tuple[RegisteredFamily, LoadRequest]:
    settings = session_settings(config)
    families = {family.files.family: family for family in FAMILIES}
    files = [family.files for family in FAMILIES]
    selection = Selector(config, settings.device, notify, files).select()
    request = LoadRequest(config, settings, selection.name, selection.files, selection.fallback)
    return families[selection.family], request
