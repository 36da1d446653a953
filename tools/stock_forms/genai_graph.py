"""Writes a graph with the names of onnxruntime-genai's model builder, tensor by tensor. Weights are
created when written, so that a file's size can be computed without them."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from chatterbox.compile.lm.weights import Linear, Transformer
from chatterbox.hub.files import PRECISION_SUFFIX, Precision
from chatterbox.runtime.quantized_weights import Array, BlockQuantized, Dense
from tools.stock_forms.plain import BITS, CONTRIB, STOCK_BLOCK
from tools.stock_forms.weights import quantize_weight

SEQUENCE = ("batch_size", "sequence_length")


@dataclass(slots=True)
class GenaiGraph:
    """A graph whose weights are still to be written."""

    model: onnx.ModelProto
    file_name: str
    shard_bytes: int = 1 << 62  # a sidecar that holds more is followed by another
    tensors: list[tuple[str, Callable[[], Array]]] = field(default_factory=list)
    sidecar_bytes: int = 0  # of the one that is being filled
    shards: int = 1

    def place(self, size: int, values: Callable[[], Array]) -> dict[str, str | int]:
        """Where a tensor of so many bytes will be written."""
        if self.sidecar_bytes and self.sidecar_bytes + size > self.shard_bytes:
            self.shards, self.sidecar_bytes = self.shards + 1, 0
        name = f"{self.file_name}_data" + (f"_{self.shards - 1}" if self.shards > 1 else "")
        self.tensors.append((name, values))
        self.sidecar_bytes += size
        return {"location": name, "offset": self.sidecar_bytes - size, "length": size}

    def write(self, directory: Path) -> Path:
        """Write graph and sidecars; returns the graph's path."""
        path = directory / self.file_name
        path.write_bytes(self.model.SerializeToString())
        for name, tensors in groupby(self.tensors, key=lambda one: one[0]):
            with (directory / name).open("wb") as data:
                for _, values in tensors:
                    data.write(np.ascontiguousarray(values()).data.cast("B"))
        return path


class Writer:
    """Nodes and weights in one precision."""

    file_name = "language_model"
    bias = True  # of every linear

    def __init__(
        self, model: Transformer, precision: Precision, shard_bytes: int = 1 << 62
    ) -> None:
        half = precision in ("fp16", "q4f16")
        self.m = model
        self._bits = BITS.get(precision, 0)
        self._kind: Any = np.dtype(np.float16 if half else np.float32)
        self._type = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[TensorProto] = []
        self._values: list[onnx.ValueInfoProto] = []
        self._stored: set[str] = set()
        self._made = GenaiGraph(
            onnx.ModelProto(), f"{self.file_name}{PRECISION_SUFFIX[precision]}.onnx", shard_bytes
        )

    def _node(
        self,
        op: str,
        inputs: list[str],
        name: str,
        width: int = 0,
        domain: str | None = None,
        **more: Any,
    ) -> str:
        """A node under the builder's name for it, and its output."""
        output = f"{name}/output_0"
        self._nodes.append(helper.make_node(op, inputs, [output], name, domain=domain, **more))
        if width:
            self._declare(output, width)
        return output

    def _declare(self, name: str, width: int) -> None:
        self._values.append(helper.make_tensor_value_info(name, self._type, [*SEQUENCE, width]))

    def _lookup(self, of: str, table: Array, ids: str) -> str:
        name, weight = f"/model/{of}/Gather", f"model.{of}.weight"
        if not self._bits:
            self._tensor(weight, table.shape, self._kind, lambda: table)
            return self._node("Gather", [weight, ids], name, self.m.hidden)
        codes, scales, zeros = self._blocked(weight, Dense(table.T), flat=True)
        return self._node(
            "GatherBlockQuantized",
            [codes, ids, scales, zeros],
            f"{name}_Q{self._bits}",
            self.m.hidden,
            CONTRIB,
            bits=self._bits,
            block_size=STOCK_BLOCK,
            gather_axis=0,
            quantize_axis=1,
        )

    def _linear(self, source: str, base: str, linear: Linear) -> str:
        assert isinstance(linear.weight, Dense)
        name, dense = f"{base}/MatMul", linear.weight
        weight, bias = (f"{base[1:]}/{n}".replace("/", ".") for n in ("MatMul.weight", "Add.bias"))
        inputs, outputs = dense.shape
        if self._bits:
            product = self._node(
                "MatMulNBits",
                [source, *self._blocked(weight, dense)],
                f"{name}_Q{self._bits}",
                outputs,
                CONTRIB,
                K=inputs,
                N=outputs,
                accuracy_level=4,
                bits=self._bits,
                block_size=STOCK_BLOCK,
            )
        else:
            self._tensor(weight, dense.shape, self._kind, lambda: dense.values)
            product = self._node("MatMul", [source, weight], name, outputs)
        if not self.bias:
            return product
        self._tensor(bias, linear.bias.shape, self._kind, lambda: linear.bias)
        return self._node("Add", [product, bias], f"{base}/Add", outputs)

    def _blocked(self, name: str, weight: Dense, *, flat: bool = False) -> list[str]:
        """Codes, scales and zero points of a weight; `flat` as a lookup reads them."""
        inputs, outputs = weight.shape
        blocks, bits = -(-inputs // STOCK_BLOCK), self._bits
        row, zero_row = STOCK_BLOCK * bits // 8, -(-blocks * bits // 8)
        shapes: list[tuple[int, ...]] = [
            (outputs, blocks, row), (outputs * blocks,), (outputs * zero_row,)
        ]  # fmt: skip
        if flat:
            shapes = [(outputs, blocks * row), (outputs, blocks), (outputs, zero_row)]
        made: list[BlockQuantized] = []  # until all three are written

        def part(which: str) -> Array:
            if not made:
                made.append(quantize_weight(weight, bits, STOCK_BLOCK))
            values: Array = getattr(made[0], which)
            if which == "zero_points":
                made.clear()
            return values

        names = [f"{name}_Q{bits}", f"{name}_scales", f"{name}_zero_points"]
        kinds = [np.dtype(np.uint8), self._kind, np.dtype(np.uint8)]
        for one, which, shape, kind in zip(
            names, ("codes", "scales", "zero_points"), shapes, kinds, strict=True
        ):
            self._tensor(one, shape, kind, lambda which=which: part(which))
        return names

    def _tensor(
        self, name: str, shape: tuple[int, ...], kind: Any, values: Callable[[], Array]
    ) -> None:
        self._stored.add(name)
        made, length = self._made, math.prod(shape) * kind.itemsize
        tensor = TensorProto(
            name=name, dims=shape, data_type=helper.np_dtype_to_tensor_dtype(kind),
            data_location=TensorProto.EXTERNAL,
        )  # fmt: skip
        where = made.place(length, lambda: values().astype(kind, copy=False))
        for key, value in where.items():
            tensor.external_data.add(key=key, value=str(value))
        self._weights.append(tensor)
        if name.endswith((".weight", ".bias")):  # the quantizer declares nothing
            self._values.append(helper.make_tensor_value_info(name, tensor.data_type, shape))
