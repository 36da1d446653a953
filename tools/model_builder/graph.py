"""Writes one graph in one precision, with weights streamed to the weight file."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, save_model

from chatterbox.families.turbo.spec import GraphName
from chatterbox.hub.files import PRECISION_SUFFIX, Precision
from tools.model_builder.quantise import BLOCK, quantise

Array = NDArray[Any]
Value = str | Array
"""An edge by name, or a small constant that becomes part of the graph."""
Dim = str | int

OPSET = 18
IR_VERSION = 9
CONTRIB = "com.microsoft"
LEARNT = "weight"
"""Begins the name of a weight that other precisions store otherwise."""
BITS: dict[Precision, int] = {"q8": 8, "q4": 4, "q4f16": 4}
HALF: frozenset[Precision] = frozenset(("fp16", "q4f16"))
ONNX_TYPE = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(np.int64): TensorProto.INT64,
    np.dtype(np.uint8): TensorProto.UINT8,
}


class Graph:
    """A graph that is being written. Use as a context manager: leaving it saves the file.

    Weights go to the sidecar as they come, so memory holds one at a time.
    """

    def __init__(self, folder: Path, name: GraphName, precision: Precision) -> None:
        self._path = folder / f"{name}{PRECISION_SUFFIX[precision]}.onnx"
        self._name = name
        self.precision = precision
        self.act = np.dtype(np.float16 if precision in HALF else np.float32)
        """Type of the activations."""
        self._bits = BITS.get(precision)
        self._nodes: list[NodeProto] = []
        self._initializers: list[TensorProto] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._offset = 0
        self._count = 0

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._sidecar = self._path.with_name(self._path.name + "_data").open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._sidecar.close()
        if kind is None:
            save_model(self._model(), str(self._path))

    def _model(self) -> ModelProto:
        graph = helper.make_graph(
            self._nodes, self._name, self._inputs, self._outputs, self._initializers
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="build_model"
        )

    # --- edges ----------------------------------------------------------------------------------

    def input(
        self, name: str, dtype: type[np.generic] | np.dtype[Any], shape: Sequence[Dim]
    ) -> str:
        """Declare an input; a named dimension is dynamic."""
        kind = ONNX_TYPE[np.dtype(dtype)]
        self._inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def output(
        self, name: str, value: str, dtype: type[np.generic] | np.dtype[Any], shape: Sequence[Dim]
    ) -> str:
        """Declare `value` as an output; returns the edge's new name."""
        kind = np.dtype(dtype)
        producer = next(node for node in self._nodes if value in node.output)
        for node in (producer, *self._nodes):
            edges = node.output if node is producer else node.input
            for place, edge in enumerate(edges):
                if edge == value:
                    edges[place] = name
        self._outputs.append(helper.make_tensor_value_info(name, ONNX_TYPE[kind], list(shape)))
        return name

    def op(self, kind: str, *inputs: Value, **attributes: Any) -> str:
        """Add a node with one output."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(
        self, kind: str, outputs: int, *inputs: Value, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs."""
        names = [self._new(kind) for _ in range(outputs)]
        edges = [value if isinstance(value, str) else self.const(value) for value in inputs]
        label = names[0].replace("_", "/")
        node = helper.make_node(kind, edges, names, name=label, domain=domain, **attributes)
        self._nodes.append(node)
        return names

    def _new(self, kind: str) -> str:
        self._count += 1
        return f"{kind.lower()}_{self._count}"

    def const(self, array: Array) -> str:
        """A small constant, kept in the graph file."""
        name = self._new("const")
        self._initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def num(self, value: float) -> Array:
        """A number in the activations' type."""
        return np.array(value, self.act)

    def cast(self, value: Value, dtype: type[np.generic] | np.dtype[Any]) -> str:
        """Change of type."""
        return self.op("Cast", value, to=ONNX_TYPE[np.dtype(dtype)])

    def f32(self, value: str) -> str:
        """An edge of the activations' type → float32; nothing where that is the same."""
        return value if self.act == np.float32 else self.cast(value, np.float32)

    def to_act(self, value: str) -> str:
        """A float32 edge → the activations' type; nothing where that is the same."""
        return value if self.act == np.float32 else self.cast(value, self.act)

    def shape(self, value: str, axis: int) -> str:
        """One dimension, as int64 [1]."""
        return self.op("Shape", value, start=axis, end=axis + 1)

    def scalar(self, value: str) -> str:
        """[1] → []."""
        return self.op("Reshape", value, ints())

    # --- weights --------------------------------------------------------------------------------

    def weight(self, array: Array, kind: str = "fixed") -> str:
        """A weight in the sidecar, as it is, in any precision."""
        name = self._new(kind)
        data = np.ascontiguousarray(array)
        tensor = TensorProto(
            name=name,
            data_type=ONNX_TYPE[data.dtype],
            dims=data.shape,
            data_location=TensorProto.EXTERNAL,
        )
        place = {"location": self._path.name + "_data", "offset": self._offset}
        for key, value in (place | {"length": data.nbytes}).items():
            tensor.external_data.add(key=key, value=str(value))
        self._sidecar.write(data.data.cast("B") if data.size else b"")
        self._offset += data.nbytes
        self._initializers.append(tensor)
        return name

    def param(self, array: Array) -> str:
        """A weight in the activations' type."""
        return self.weight(array.astype(self.act), LEARNT)

    def linear(self, x: str, matrix: Array, bias: Array | None = None) -> str:
        """x [..., K] · matrix [K, N] + bias [N]; the matrix in this graph's precision."""
        if self._bits is None:
            y = self.op("MatMul", x, self.param(matrix))
        else:
            inputs, outputs = matrix.shape
            blocks = quantise(matrix.T, self._bits)
            y = self.ops(
                "MatMulNBits",
                1,
                x,
                self.weight(blocks.codes),
                self.param(blocks.scales),
                self.weight(blocks.zero_points),
                domain=CONTRIB,
                K=inputs,
                N=outputs,
                bits=self._bits,
                block_size=BLOCK,
            )[0]
        return y if bias is None else self.op("Add", y, self.param(bias))

    def lookup(self, table: Array, ids: str) -> str:
        """Rows of table [rows, K] at `ids`, in the activations' type; K a multiple of 32."""
        if self._bits is None:
            return self.op("Gather", self.param(table), ids, axis=0)
        rows, width = table.shape
        assert width % BLOCK == 0
        blocks = quantise(table, self._bits)
        return self.ops(
            "GatherBlockQuantized",
            1,
            self.weight(blocks.codes.reshape(rows, -1)),
            ids,
            self.param(blocks.scales),
            self.weight(blocks.zero_points),
            domain=CONTRIB,
            gather_axis=0,
            quantize_axis=1,
            block_size=BLOCK,
            bits=self._bits,
        )[0]


def ints(*values: int) -> Array:
    """An int64 list: shapes, axes, bounds."""
    return np.array(values, np.int64)


def real(value: float | Sequence[float] | Array) -> Array:
    """A float32 constant."""
    return np.asarray(value, np.float32)
