"""Which family a model directory holds, told from its `config.json`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chatterbox.errors import ModelError

TURBO = "turbo"
NOT_SERVED = {"llama": "Orpheus, or another Llama"}
"""By `model_type`: families whose files look whole and could not be served."""


def family_name(directory: Path, config: Mapping[str, Any]) -> str:
    """`config`: of `config.json`; empty where there is none. Turbo's files need none, so whatever
    is not known to be of another family is taken for Turbo, and its graphs are checked. Raises
    ModelError for a family that is not served."""
    kind = str(config.get("model_type", "")).lower()
    if kind in NOT_SERVED:
        raise ModelError(
            f"{directory} holds {NOT_SERVED[kind]} (model_type {kind!r}), which this server cannot "
            "speak with; set CHATTERBOX_MODEL to a Chatterbox Turbo model"
        )
    return TURBO
