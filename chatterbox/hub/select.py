"""Which model is served? `auto`, `mini`, a hub id or a directory → files on disk.

Knows the rules of falling back; knows no session.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from chatterbox import mini
from chatterbox.config import PrecisionSetting, TTSConfig
from chatterbox.errors import ModelError
from chatterbox.families.registry import family_name
from chatterbox.hub import download as hub
from chatterbox.hub.files import ModelFiles, needed_files
from chatterbox.runtime.contract import GRAPHS, GraphName, Precision

HUB_MODEL = "ResembleAI/chatterbox-turbo-ONNX"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Selection:
    """What will be loaded."""

    name: str  # "mini", a hub id, or a directory's name
    files: ModelFiles
    fallback: str | None = None  # why `auto` settled for `mini`


def precisions(config: TTSConfig, device: str) -> dict[GraphName, Precision]:
    """The precision of each graph: its own setting, else `model_dtype`, else the device's."""
    automatic: Precision = "fp16" if device == "cuda" else "q4"

    def of(graph: GraphName) -> Precision:
        own: PrecisionSetting | None = getattr(config, f"{graph}_dtype")
        chosen = own or config.model_dtype
        return automatic if chosen == "auto" else chosen

    return {graph: of(graph) for graph in GRAPHS}


def select(config: TTSConfig, device: str, say: hub.Progress) -> Selection:
    """Find, and where need be fetch, the model. Raises ModelError: a model named explicitly never
    falls back."""
    if config.model == "mini":
        return _embedded(config)
    wanted = precisions(config, device)
    if config.model == "auto":
        return _automatic(config, wanted, say)
    directory = Path(config.model).expanduser()
    if directory.is_dir():
        return _checked(directory.resolve().name, ModelFiles(directory.resolve(), wanted))
    if _HUB_ID.fullmatch(config.model):
        return _from_hub(config.model, config, wanted, say)
    raise ModelError(
        f"CHATTERBOX_MODEL={config.model}: no such directory, and no hub id (owner/name) either"
    )


def _automatic(
    config: TTSConfig, wanted: dict[GraphName, Precision], say: hub.Progress
) -> Selection:
    directory = hub.local_directory(config.data_dir, HUB_MODEL, config.model_revision)
    if not hub.complete(directory, needed_files(wanted)) and not hub.reachable(
        HUB_MODEL, config.model_revision
    ):
        return _fallback(f"{HUB_MODEL} is not on this disk and the hub cannot be reached")
    try:
        return _from_hub(HUB_MODEL, config, wanted, say)
    except ModelError as fault:
        return _fallback(str(fault))


def _embedded(config: TTSConfig) -> Selection:
    asked = {config.model_dtype, *(getattr(config, f"{graph}_dtype") for graph in GRAPHS)}
    if asked - {None, "auto", mini.PRECISION}:
        raise ModelError(
            f"The embedded model is there in {mini.PRECISION} alone; leave the precision to `auto`,"
            " or make another with `python tools/build_model.py convert`"
        )
    return _fallback()


def _fallback(reason: str | None = None) -> Selection:
    """The embedded model, in the one precision that it has."""
    chosen = _checked("mini", ModelFiles(mini.path(), dict.fromkeys(GRAPHS, mini.PRECISION)))
    return Selection(chosen.name, chosen.files, fallback=reason)


def _from_hub(
    repository: str, config: TTSConfig, wanted: dict[GraphName, Precision], say: hub.Progress
) -> Selection:
    directory = hub.local_directory(config.data_dir, repository, config.model_revision)
    needed = needed_files(wanted)
    if not hub.complete(directory, needed):
        hub.fetch(repository, config.model_revision, needed, directory, say)
    return _checked(repository, ModelFiles(directory, wanted))


def _checked(name: str, files: ModelFiles) -> Selection:
    family_name(files.directory, files.config())
    files.check()
    return Selection(name, files)
