"""Writes the compiled graph of a transformer: one ONNX file and its weight file.

Rows of any length share one step. The inputs `rows` and `active` map the rows of a step to their
slots in the key-value cache. Attention runs over the whole range of slots, idle slots included, and
each slot reads and writes its own past in place. All other operators compute active rows only.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from chatterbox.compile.graph import MICROSOFT
from chatterbox.compile.lm.weights import (
    Layer,
    Linear,
    Norm,
    Rotary,
    SideBySide,
    Transformer,
)
from chatterbox.runtime.bound_call import EMBEDS, IDS, METADATA_KEY, past_name, present_name
from chatterbox.runtime.compiled_lm import ACCURACY_INT8, GRAPH_FILE, CompileOptions
from chatterbox.runtime.quantized_weights import Array, BlockQuantized, Dense

SIDECAR_FILE = GRAPH_FILE + "_data"
ALIGNMENT_BYTES = 4096  # a page, so that the sidecar can be memory-mapped
INLINE_BYTES = 1024  # smaller tensors stay in the graph file
OPSET = 17  # the first with LayerNormalization
IR_VERSION = 9
MAX_POSITIONS = 16384
"""Most positions of a compiled graph: more than a slot can have (`max_sequence_length`)."""
TYPES = {"fp32": (TensorProto.FLOAT, np.float32), "fp16": (TensorProto.FLOAT16, np.float16)}


def write(
    model: Transformer,
    options: CompileOptions,
    directory: Path,
    progress: Callable[[float], None],
    tokens: Array | None = None,
) -> None:
    """Write GRAPH_FILE and SIDECAR_FILE into `directory`.

    With a table `tokens` [vocab, hidden], the graph accepts token ids besides embeddings.
    `progress` is called with the completed share, 0 to 1.
    """
    with (directory / SIDECAR_FILE).open("wb") as sidecar:
        graph = _Writer(model, options, sidecar, tokens).graph(progress)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    facts = {"positions": _positions(model), "hidden": model.hidden, "vocab": model.vocab}
    helper.set_model_props(proto, {METADATA_KEY: json.dumps(facts)})
    onnx.save(proto, str(directory / GRAPH_FILE))


class _Writer:
    def __init__(
        self, model: Transformer, options: CompileOptions, sidecar: Any, tokens: Array | None
    ) -> None:
        self._model = model
        self._head = model.head.padded(options.head_multiple)
        self._tokens = tokens
        self._options = options
        self._type, self._kind = TYPES[options.compute]
        self._sidecar = sidecar
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: list[TensorProto] = []
        self._angles: list[str] = []  # names of rotary cosines and sines

    def graph(self, progress: Callable[[float], None]) -> onnx.GraphProto:
        model = self._model
        normed, stream = self._embedded()
        next_norms = [*(layer.norm_1 for layer in model.layers[1:]), model.norm]
        for index, (layer, norm) in enumerate(zip(model.layers, next_norms, strict=True)):
            normed, stream = self._layer(index, layer, norm, normed, stream)
            progress((index + 1) / (len(model.layers) + 1))
        last = self._node("Gather", [normed, self._constant("last", np.array(-1))], axis=1)
        logits = self._linear(last, self._head, "head")
        self._node("Cast", [logits], outputs=["logits"], to=TensorProto.FLOAT)
        inputs, outputs = self._edges()
        return helper.make_graph(self._nodes, "compiled", inputs, outputs, self._tensors)

    def _embedded(self) -> tuple[str, str]:
        """Return the first layer's normalised input and the residual stream."""
        model, first = self._model, self._model.layers[0].norm_1
        rows = EMBEDS if model.table is None else self._look_up(model.table)
        stream = self._node("Cast", [rows], to=self._type)
        if self._tokens is not None:
            no_id = np.zeros((1, model.hidden), self._tokens.dtype)
            table = self._weight("tokens", np.concatenate([self._tokens, no_id]))
            stream = self._node("Add", [stream, self._node("Gather", [table, IDS])])
        if isinstance(model.positions, Rotary):
            angles = {"cos": model.positions.cos, "sin": model.positions.sin}
            self._angles = [
                self._weight(name, values[: _positions(model)]) for name, values in angles.items()
            ]
            return self._norm(stream, "", first, "0.norm_1")
        table = self._weight("positions", model.positions)
        return self._norm(stream, self._node("Gather", [table, "position_ids"]), first, "0.norm_1")

    def _look_up(self, table: Array | BlockQuantized) -> str:
        """Look ids up in the table, which is never widened: only the rows read are."""
        if not isinstance(table, BlockQuantized):
            if self._kind == np.float16:
                table = table.astype(np.float16, copy=False)
            return self._node("Gather", [self._constant("table", table), IDS])
        codes = self._constant("table.codes", table.codes.reshape(len(table.codes), -1))
        parts = [codes, IDS, self._constant("table.scales", table.scales)]
        if table.zero_points is not None:
            parts.append(self._constant("table.zeros", table.zero_points))
        blocks = {"bits": table.bits, "block_size": table.block}
        axes = {"gather_axis": 0, "quantize_axis": 1}
        return self._node("GatherBlockQuantized", parts, MICROSOFT, (), **blocks, **axes)

    def _layer(
        self, index: int, layer: Layer, next_norm: Norm, normed: str, stream: str
    ) -> tuple[str, str]:
        qkv = self._linear(normed, layer.qkv, f"{index}.qkv")
        attended = self._attention(index, self._node("Gather", [qkv, "rows"], axis=0))
        gathered = self._node("Gather", [attended, "active"], axis=0)
        out = self._linear(gathered, layer.out, f"{index}.out")
        normed, stream = self._norm(stream, out, layer.norm_2, f"{index}.norm_2")
        up = self._activated(self._linear(normed, layer.up, f"{index}.up"), index)
        down = self._linear(up, layer.down, f"{index}.down")
        return self._norm(stream, down, next_norm, f"{index}.following")

    def _activated(self, up: str, index: int) -> str:
        if self._model.activation != "silu":
            kind = "FastGelu" if self._model.activation == "tanh" else "Gelu"
            return self._node(kind, [up], MICROSOFT)
        gate, gated = f"{index}.gate", f"{index}.gated"
        self._node("Split", [up], outputs=[gate, gated], axis=-1)
        silu = self._node("QuickGelu", [gate], MICROSOFT, alpha=1.0)
        return self._node("Mul", [silu, gated])

    def _attention(self, index: int, spread: str) -> str:
        names = ("key", "value")
        pasts = [past_name(index, kind) for kind in names]
        return self._node(
            "GroupQueryAttention",
            [spread, "", "", *pasts, "seqlens_k", "total_length", *self._angles],
            MICROSOFT,
            [f"{index}.attended", *(present_name(index, kind) for kind in names)],
            num_heads=self._model.heads,
            kv_num_heads=self._model.kv_heads,
            **({"do_rotary": 1} if self._angles else {}),
        )

    def _norm(self, stream: str, added: str, norm: Norm, name: str) -> tuple[str, str]:
        """Return the normalised sum of `stream` and `added` (which may be ""), and the sum."""
        kind, scales = "LayerNormalization", [self._weight(f"{name}.gamma", norm.gamma)]
        if norm.beta is None:
            kind = f"Simplified{kind}"
        else:
            scales.append(self._weight(f"{name}.beta", norm.beta))
        normed, total, epsilon = f"{name}.normed", f"{name}.sum", norm.epsilon
        if not added:
            return self._node(kind, [stream, *scales], "", [normed], epsilon=epsilon), stream
        inputs, outputs = [stream, added, *scales], [normed, "", "", total]
        return self._node(f"Skip{kind}", inputs, MICROSOFT, outputs, epsilon=epsilon), total

    def _linear(self, source: str, linear: Linear, name: str) -> str:
        weight = linear.weight.joined() if isinstance(linear.weight, SideBySide) else linear.weight
        bias = self._weight(f"{name}.bias", linear.bias) if linear.bias.any() else ""
        if isinstance(weight, Dense):
            product = self._node("MatMul", [source, self._weight(name, weight.values)])
            return self._node("Add", [product, bias]) if bias else product
        zeros = ""
        if weight.zero_points is not None:
            keep = weight.zero_points.dtype == np.uint8
            store = self._constant if keep else self._weight
            zeros = store(f"{name}.zeros", weight.zero_points)
        codes = self._constant(f"{name}.codes", weight.codes)
        scales = self._weight(f"{name}.scales", weight.scales)
        return self._node(
            "MatMulNBits",
            [source, codes, scales, zeros, "", bias],
            MICROSOFT,
            K=weight.inputs,
            N=weight.shape[1],
            bits=weight.bits,
            block_size=weight.block,
            accuracy_level=ACCURACY_INT8,
        )

    def _node(
        self,
        kind: str,
        inputs: list[str],
        domain: str = "",
        outputs: Sequence[str] = (),
        **attributes: Any,
    ) -> str:
        """Add a node and return its first output."""
        names = list(outputs) or [f"{kind}.{len(self._nodes)}"]
        self._nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names[0]

    def _weight(self, name: str, values: Array) -> str:
        """Store values in the type of the computation."""
        return self._constant(name, values.astype(self._kind, copy=False))

    def _constant(self, name: str, values: Array) -> str:
        tensor = TensorProto(name=name, dims=values.shape)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(values.dtype)
        contiguous = np.ascontiguousarray(values)
        if contiguous.nbytes < INLINE_BYTES:
            tensor.raw_data = contiguous.tobytes()
        else:
            offset = -(-self._sidecar.tell() // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
            self._sidecar.seek(offset)
            self._sidecar.write(contiguous.data)
            tensor.data_location = TensorProto.EXTERNAL
            facts = {"location": SIDECAR_FILE, "offset": offset, "length": contiguous.nbytes}
            for key, value in facts.items():
                tensor.external_data.add(key=key, value=str(value))
        self._tensors.append(tensor)
        return name

    def _edges(self) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
        """Declare the inputs and outputs."""
        model, new = self._model, ["rows_active", "new"]
        inputs: dict[str, tuple[int, list[Any]]] = {}
        if model.table is None:
            inputs[EMBEDS] = TensorProto.FLOAT, [*new, model.hidden]
        if model.table is not None or self._tokens is not None:
            inputs[IDS] = TensorProto.INT64, new
        if not self._angles:
            inputs["position_ids"] = TensorProto.INT64, new
        inputs |= {
            "rows": (TensorProto.INT64, ["slots"]),
            "active": (TensorProto.INT64, ["rows_active"]),
            "seqlens_k": (TensorProto.INT32, ["slots"]),
            "total_length": (TensorProto.INT32, []),
        }
        outputs: dict[str, tuple[int, list[Any]]] = {
            "logits": (TensorProto.FLOAT, ["rows_active", self._head.weight.shape[1]])
        }
        slots = ["slots", model.kv_heads, "capacity", model.head_dim]
        for index in range(len(model.layers)):
            for kind in ("key", "value"):
                inputs[past_name(index, kind)] = self._type, slots
                outputs[present_name(index, kind)] = self._type, slots
        value = helper.make_tensor_value_info
        return (
            [value(name, *declared) for name, declared in inputs.items()],
            [value(name, *declared) for name, declared in outputs.items()],
        )


def _positions(model: Transformer) -> int:
    rows = model.positions.cos if isinstance(model.positions, Rotary) else model.positions
    return min(len(rows), MAX_POSITIONS)
