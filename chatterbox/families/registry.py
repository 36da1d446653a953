"""The families that this server speaks with. To add one: its entry in `FAMILIES`."""

from collections.abc import Callable
from dataclasses import dataclass

from chatterbox.families.model import LoadedModel, LoadRequest
from chatterbox.families.orpheus import files as orpheus_files
from chatterbox.families.orpheus import load as orpheus
from chatterbox.families.turbo import files as turbo_files
from chatterbox.families.turbo import load as turbo
from chatterbox.hub.files import FamilyFiles


@dataclass(frozen=True, slots=True)
class Registered:
    """A family's folder."""

    files: FamilyFiles
    load: Callable[[LoadRequest], LoadedModel]
    compile_model: Callable[[LoadRequest], list[str]]
    """Compiles its graphs, or finds them compiled; what was proven, for the operator."""


FAMILIES = (
    Registered(turbo_files.FILES, turbo.load, turbo.compile_model),
    Registered(orpheus_files.FILES, orpheus.load, orpheus.compile_model),
)
"""The first one is served where nothing is chosen: `auto`, and the embedded model."""
