"""Builds a `conditional_decoder` from the authors' published weights.

    python -m tools.decoder.build --weights s3gen_meanflow.safetensors --out DIR

writes `DIR/onnx/conditional_decoder<suffix>.onnx` with its sidecar: the published graph's inputs,
output and function, but rows of different length may share a call, one Euler step may do, and
matrix products may run in 8 bits. `--random` needs no weights.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import onnx

from chatterbox.compile.decoder.activations import fast_mish
from chatterbox.compile.decoder.int8 import quantize_products
from chatterbox.hub.files import PRECISION_SUFFIX, Precision
from tools.decoder.graph import Array
from tools.decoder.model import decoder_model
from tools.decoder.weights import Sizes, random_weights, read_weights

Edition = Literal["fp32", "fp16", "int8"]
EDITIONS: dict[Edition, Precision] = {"fp32": "fp32", "fp16": "fp16", "int8": "q8"}
"""What can be made, and under which of the published precisions' names it is stored."""

STORED_INLINE_BYTES = 1024


def edition_of(
    weights: dict[str, Array], edition: Edition, *, steps: int = 2, ragged: bool = True
) -> onnx.ModelProto:
    """The decoder in one of the precisions."""
    model = decoder_model(weights, steps=steps, ragged=ragged, half=edition == "fp16")
    if edition == "int8":
        quantize_products(model, Path())
        fast_mish(model)
    return model


def write_decoder(
    weights: dict[str, Array], out: Path, edition: Edition, *, steps: int = 2, ragged: bool = True
) -> Path:
    """Write graph and sidecar; returns the graph's path."""
    model = edition_of(weights, edition, steps=steps, ragged=ragged)
    return stored(model, out / "onnx" / decoder_file(EDITIONS[edition]))


def decoder_file(precision: Precision) -> str:
    """The published name."""
    return f"conditional_decoder{PRECISION_SUFFIX[precision]}.onnx"


def stored(model: onnx.ModelProto, path: Path) -> Path:
    """Write a graph and, beside it, its sidecar, in the place of what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sidecar = path.with_name(f"{path.name}_data")
    for old in (path, sidecar):
        old.unlink(missing_ok=True)  # onnx appends
    onnx.save(
        model,
        str(path),
        save_as_external_data=True,
        location=sidecar.name,
        size_threshold=STORED_INLINE_BYTES,
    )
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights", type=Path, help="s3gen_meanflow.safetensors")
    source.add_argument("--random", action="store_true", help="random weights, for benchmarks")
    parser.add_argument("--out", type=Path, required=True, help="a model's directory")
    parser.add_argument("--edition", choices=list(EDITIONS), default="fp32")
    parser.add_argument("--steps", type=int, choices=(1, 2), default=2, help="Euler steps")
    parser.add_argument("--alone", action="store_true", help="as published: equal rows only")
    given = parser.parse_args(arguments)
    weights = random_weights(Sizes()) if given.random else read_weights(given.weights)
    path = write_decoder(
        weights, given.out, given.edition, steps=given.steps, ragged=not given.alone
    )
    print(path)


if __name__ == "__main__":
    main()
