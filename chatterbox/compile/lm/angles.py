"""The angles of a rotary model, from its `config.json`: for graphs that compute them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from chatterbox.compile.lm.weights import Rotary


def angles_of(config: Mapping[str, Any]) -> Rotary | None:
    """Cosines and sines of every position, long waves stretched where it is scaled as Llama 3 is;
    None where it is no rotary model, or another scaling."""
    try:
        hidden, heads = config["hidden_size"], config["num_attention_heads"]
        head_dim = config.get("head_dim") or hidden // heads
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        theta = float(rope.get("rope_theta") or config["rope_theta"])
        rates = theta ** -(np.arange(0, head_dim, 2) / head_dim)
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind == "llama3":
            turns = rope["original_max_position_embeddings"] * rates / (2 * math.pi)
            low, high = rope["low_freq_factor"], rope["high_freq_factor"]
            kept = np.clip((turns - low) / (high - low), 0, 1)
            rates = rates * (kept + (1 - kept) / rope["factor"])
        elif kind != "default":
            return None
        angles = np.arange(config["max_position_embeddings"])[:, None] * rates
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
        return None
    return Rotary(np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32))
