"""Writes an ONNX graph node by node, without a framework."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
OPSET = 18
IR_VERSION = 9
MICROSOFT = "com.microsoft"


class Graph:
    """Nodes and constants in order of writing. Every method returns the name of a tensor."""

    def __init__(self, weights: Mapping[str, Array], *, half: bool = False) -> None:
        """`half`: in half precision, but for what is written inside `single`."""
        self.weights = weights
        self._kind: Any = np.float16 if half else np.float32
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._count = 0
        self.scope = ""

    def input(self, name: str, kind: int, dims: Sequence[int | str]) -> str:
        """Declare an input."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, list(dims)))
        return name

    def output(self, tensor: str, name: str, kind: int, dims: Sequence[int | str]) -> None:
        """Declare `tensor` to be the output `name`."""
        self._nodes.append(helper.make_node("Identity", [tensor], [name], name=f"out/{name}"))
        self._outputs.append(helper.make_tensor_value_info(name, kind, list(dims)))

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """One node with one output."""
        return self.ops(kind, *inputs, outputs=1, domain=domain, **attributes)[0]

    def ops(
        self, kind: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any
    ) -> list[str]:
        """One node with several outputs."""
        self._count += 1
        name = f"{self.scope}/{kind}_{self._count}"
        made = [f"{name}:{i}" for i in range(outputs)]
        self._nodes.append(
            helper.make_node(kind, list(inputs), made, name=name, domain=domain, **attributes)
        )
        return made

    @contextmanager
    def single(self) -> Iterator[None]:
        """What is written inside is in single precision."""
        kind, self._kind = self._kind, np.float32
        yield
        self._kind = kind

    @property
    def kind(self) -> int:
        """ONNX's number for the precision that is written now."""
        return int(helper.np_dtype_to_tensor_dtype(np.dtype(self._kind)))

    def cast(self, x: str) -> str:
        """`x` in the precision that is written now."""
        return self.op("Cast", x, to=self.kind)

    def const(self, value: Any, kind: Any = None) -> str:
        """A constant, of this precision if not of another `kind`; equal small ones are stored
        once."""
        array = np.asarray(value, dtype=kind or self._kind)
        name = f"const/{array.dtype}/{array.shape}/{array.tobytes().hex()}"
        if array.size > 8:
            self._count += 1
            name = f"{self.scope}/const_{self._count}"
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(array, name)
        return name

    def ints(self, *values: int) -> str:
        """A constant i64 [n]."""
        return self.const(list(values), np.int64)

    def weight(self, name: str, array: Array | None = None) -> str:
        """A weight under its own name; `array` where it is stored in another layout."""
        if name not in self._constants:
            value = self.weights[name] if array is None else array
            self._constants[name] = numpy_helper.from_array(
                np.ascontiguousarray(value, dtype=self._kind), name
            )
        return name

    # --- shorthands

    def add(self, a: str, b: str) -> str:
        """a + b."""
        return self.op("Add", a, b)

    def mul(self, a: str, b: str) -> str:
        """a × b."""
        return self.op("Mul", a, b)

    def cat(self, *parts: str, axis: int) -> str:
        """Concatenation."""
        return self.op("Concat", *parts, axis=axis)

    def size(self, tensor: str, axis: int) -> str:
        """i64 [1]: the length of one axis."""
        return self.op("Shape", tensor, start=axis, end=axis + 1)

    def slice(self, tensor: str, start: str, end: str, axis: int) -> str:
        """Part of one axis; `start` and `end` are i64 [1]."""
        return self.op("Slice", tensor, start, end, self.ints(axis))

    def swap(self, tensor: str) -> str:
        """[B, T, C] ↔ [B, C, T]."""
        return self.op("Transpose", tensor, perm=[0, 2, 1])

    def linear(self, x: str, name: str, *, bias: bool = True) -> str:
        """A torch `Linear`: x [..., in] → [..., out]."""
        made = self.op("MatMul", x, self.weight(f"{name}.weight", self.weights[f"{name}.weight"].T))
        return self.add(made, self.weight(f"{name}.bias")) if bias else made

    def causal_conv(self, x: str, name: str, *, ahead: int = 0) -> str:
        """A torch `Conv1d` of stride 1 over x [B, T, C], padded with zeros so that it sees
        `ahead` steps ahead and the rest behind. Written as one matrix product over shifted
        copies, which is faster than a 1-D convolution on a CPU and can be quantised."""
        weight = self.weights[f"{name}.weight"]  # [out, in, taps]
        taps = weight.shape[2]
        product = np.transpose(weight, (2, 1, 0)).reshape(-1, weight.shape[0])
        if taps > 1:
            behind = taps - 1 - ahead
            padded = self.op("Pad", x, self.ints(0, behind, 0, 0, ahead, 0))
            length = self.size(x, 1)
            shifted = [
                self.slice(padded, self.ints(i), self.add(length, self.ints(i)), 1)
                for i in range(taps)
            ]
            x = self.cat(*shifted, axis=2)
        made = self.op("MatMul", x, self.weight(f"{name}.weight", product))
        return self.add(made, self.weight(f"{name}.bias"))

    def layer_norm(self, x: str, name: str, epsilon: float = 1e-5) -> str:
        """A torch `LayerNorm` over the last axis."""
        scale, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=epsilon)

    def model(self, metadata: Mapping[str, str] | None = None) -> onnx.ModelProto:
        """What has been written so far, checked."""
        graph = helper.make_graph(
            self._nodes, "decoder", self._inputs, self._outputs, list(self._constants.values())
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        helper.set_model_props(made, dict(metadata or {}))
        return made


FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
