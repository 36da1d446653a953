"""Writes the compiled graph: a transformer's weights in, one ONNX file and its sidecar out.

Rows of any length share one step. `rows` and `active` tie the n rows that step to the r arena slots
they lie in: everything but attention is computed for the n rows alone, and attention runs over the
whole range of slots, idle ones included, each reading and writing its own past in place.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from chatterbox.compile.lm.weights import (
    Layer,
    Linear,
    Norm,
    Rotary,
    SideBySide,
    Transformer,
    quantize_blocks,
)
from chatterbox.runtime.bound_call import EMBEDS, IDS, METADATA_KEY, past_name, present_name
from chatterbox.runtime.compiled_lm import GRAPH_FILE, CompileOptions
from chatterbox.runtime.quantized_weights import Array, BlockQuantized, Dense

SIDECAR_FILE = GRAPH_FILE + "_data"
ALIGNMENT_BYTES = 4096  # a page, so that the sidecar can be mapped
INLINE_BYTES = 1024  # smaller tensors stay in the graph file
CONTRIB = "com.microsoft"
OPSET = 17  # LayerNormalization's first
IR_VERSION = 9

MOST_POSITIONS = 16384
"""Of the angles that are stored: more than a slot may have."""
TYPES = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16}
NUMPY_TYPES = {"fp32": np.float32, "fp16": np.float16}
Progress = Callable[[float], None]
"""Told how much of the work is done, 0 to 1."""


def write(
    model: Transformer,
    recipe: CompileOptions,
    directory: Path,
    progress: Progress,
    tokens: Array | None = None,
) -> None:
    """Write GRAPH_FILE and SIDECAR_FILE into `directory`. `tokens`: the table [vocab, hidden] that
    are looked up in besides taking embeddings."""
    with (directory / SIDECAR_FILE).open("wb") as sidecar:
        graph = _Writer(model, recipe, sidecar, tokens).graph(progress)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    facts = {"positions": _positions(model), "hidden": model.hidden, "vocab": model.vocab}
    helper.set_model_props(proto, {METADATA_KEY: json.dumps(facts)})
    onnx.save(proto, str(directory / GRAPH_FILE))


class _Writer:
    def __init__(
        self, model: Transformer, recipe: CompileOptions, sidecar: Any, tokens: Array | None
    ) -> None:
        self._model = model
        self._head = model.head.padded(recipe.head_multiple)
        self._tokens = tokens
        self._recipe = recipe
        self._type = TYPES[recipe.compute]
        self._sidecar = sidecar
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: list[TensorProto] = []
        self._angles: list[str] = []  # that the attention turns queries and keys by

    def graph(self, progress: Progress) -> onnx.GraphProto:
        model = self._model
        normed, stream = self._embedded()
        for index, layer in enumerate(model.layers):
            following = [*(later.norm_1 for later in model.layers[index + 1 :]), model.norm][0]
            normed, stream = self._layer(index, layer, following, normed, stream)
            progress((index + 1) / (len(model.layers) + 1))
        last = self._node("Gather", [normed, self._constant("last", np.array(-1))], "", axis=1)
        logits = self._linear(last, self._head, "head")
        self._node("Cast", [logits], "", name="logits", to=TensorProto.FLOAT)
        inputs, outputs = self._edges()
        return helper.make_graph(self._nodes, "compiled", inputs, outputs, self._tensors)

    def _embedded(self) -> tuple[str, str]:
        """What comes in → first layer's input, residual stream."""
        model, first = self._model, self._model.layers[0].norm_1
        rows = EMBEDS if model.table is None else self._rows(model.table)
        stream = self._node("Cast", [rows], "", to=self._type)
        if self._tokens is not None:
            no_id = np.zeros((1, model.hidden), self._tokens.dtype)
            table = self._weight("tokens", np.concatenate([self._tokens, no_id]))
            stream = self._node("Add", [stream, self._node("Gather", [table, IDS], "")], "")
        if isinstance(model.positions, Rotary):
            self._angles = [
                self._weight(name, angles[: _positions(model)])
                for name, angles in (("cos", model.positions.cos), ("sin", model.positions.sin))
            ]
            return self._norm("", stream, "", first, "0.norm_1"), stream
        table = self._weight("positions", model.positions)
        return self._add_norm(
            stream, self._node("Gather", [table, "position_ids"], ""), first, "0.norm_1"
        )

    def _rows(self, table: Array | BlockQuantized) -> str:
        """Of the table, which is stored no wider than it was: only what is read is widened."""
        if not isinstance(table, BlockQuantized):
            if self._recipe.compute == "fp16":
                table = table.astype(np.float16, copy=False)
            return self._node("Gather", [self._constant("table", table), IDS], "")
        rows = len(table.codes)
        parts = [
            self._constant("table.codes", table.codes.reshape(rows, -1)),
            IDS,
            self._constant("table.scales", table.scales),
        ]
        if table.zero_points is not None:
            parts.append(self._constant("table.zeros", table.zero_points))
        return self._node(
            "GatherBlockQuantized",
            parts,
            CONTRIB,
            bits=table.bits,
            block_size=table.block,
            gather_axis=0,
            quantize_axis=1,
        )

    def _layer(
        self, index: int, layer: Layer, following: Norm, normed: str, stream: str
    ) -> tuple[str, str]:
        spread = self._node(
            "Gather", [self._linear(normed, layer.qkv, f"{index}.qkv"), "rows"], "", axis=0
        )
        attended = self._attention(index, spread)
        gathered = self._node("Gather", [attended, "active"], "", axis=0)
        out = self._linear(gathered, layer.out, f"{index}.out")
        normed, stream = self._add_norm(stream, out, layer.norm_2, f"{index}.norm_2")
        up = self._activated(self._linear(normed, layer.up, f"{index}.up"), index)
        down = self._linear(up, layer.down, f"{index}.down")
        return self._add_norm(stream, down, following, f"{index}.following")

    def _activated(self, up: str, index: int) -> str:
        if self._model.activation != "silu":
            kind = "FastGelu" if self._model.activation == "tanh" else "Gelu"
            return self._node(kind, [up], CONTRIB)
        gate, gated = f"{index}.gate", f"{index}.gated"
        self._nodes.append(helper.make_node("Split", [up], [gate, gated], axis=-1))
        silu = self._node("QuickGelu", [gate], CONTRIB, alpha=1.0)
        return self._node("Mul", [silu, gated], "")

    def _attention(self, index: int, spread: str) -> str:
        pasts = [past_name(index, kind) for kind in ("key", "value")]
        output = f"{index}.attended"
        turned = {"do_rotary": 1} if self._angles else {}
        node = helper.make_node(
            "GroupQueryAttention",
            [spread, "", "", *pasts, "seqlens_k", "total_length", *self._angles],
            [output, *(present_name(index, kind) for kind in ("key", "value"))],
            domain=CONTRIB,
            num_heads=self._model.heads,
            kv_num_heads=self._model.kv_heads,
            **turned,
        )
        self._nodes.append(node)
        return output

    def _add_norm(self, stream: str, added: str, norm: Norm, name: str) -> tuple[str, str]:
        """stream + added → its normalisation, itself."""
        total = f"{name}.sum"
        return self._norm("Skip", stream, added, norm, name, total), total

    def _norm(
        self, skip: str, stream: str, added: str, norm: Norm, name: str, total: str = ""
    ) -> str:
        simple, normed = "Simplified" if norm.beta is None else "", f"{name}.normed"
        scales = [self._weight(f"{name}.gamma", norm.gamma)]
        if norm.beta is not None:
            scales.append(self._weight(f"{name}.beta", norm.beta))
        node = helper.make_node(
            f"{skip}{simple}LayerNormalization",
            [stream, *([added] if skip else []), *scales],
            [normed, *(["", "", total] if skip else [])],
            domain=CONTRIB if skip else "",
            epsilon=norm.epsilon,
        )
        self._nodes.append(node)
        return normed

    def _linear(self, source: str, linear: Linear, name: str) -> str:
        weight = linear.weight.joined() if isinstance(linear.weight, SideBySide) else linear.weight
        if isinstance(weight, Dense) and self._recipe.bits is not None:
            weight = quantize_blocks(weight, self._recipe.bits, self._recipe.block)
        bias = self._weight(f"{name}.bias", linear.bias) if linear.bias.any() else ""
        if isinstance(weight, Dense):
            product = self._node("MatMul", [source, self._weight(name, weight.values)], "")
            return self._node("Add", [product, bias], "") if bias else product
        return self._block_product(source, weight, bias, name)

    def _block_product(self, source: str, weight: BlockQuantized, bias: str, name: str) -> str:
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
            CONTRIB,
            K=weight.inputs,
            N=weight.shape[1],
            bits=weight.bits,
            block_size=weight.block,
            accuracy_level=self._recipe.accuracy_level,
        )

    def _node(
        self, kind: str, inputs: list[str], domain: str, *, name: str = "", **attributes: Any
    ) -> str:
        output = name or f"{kind}.{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        return output

    def _weight(self, name: str, values: Array) -> str:
        """Store numbers in the type they are computed in."""
        return self._constant(name, values.astype(NUMPY_TYPES[self._recipe.compute], copy=False))

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
        model = self._model
        value = helper.make_tensor_value_info
        slots = ["slots", model.kv_heads, "capacity", model.head_dim]
        kinds = [(i, kind) for i in range(len(model.layers)) for kind in ("key", "value")]
        new = ["rows_active", "new"]
        by_ids = model.table is not None or self._tokens is not None
        inputs = [
            *(
                [value(EMBEDS, TensorProto.FLOAT, [*new, model.hidden])]
                if model.table is None
                else []
            ),
            *([value(IDS, TensorProto.INT64, new)] if by_ids else []),
            *([] if self._angles else [value("position_ids", TensorProto.INT64, new)]),
            value("rows", TensorProto.INT64, ["slots"]),
            value("active", TensorProto.INT64, ["rows_active"]),
            value("seqlens_k", TensorProto.INT32, ["slots"]),
            value("total_length", TensorProto.INT32, []),
            *(value(past_name(*kind), self._type, slots) for kind in kinds),
        ]
        logits = value("logits", TensorProto.FLOAT, ["rows_active", self._head.weight.shape[1]])
        return inputs, [logits, *(value(present_name(*kind), self._type, slots) for kind in kinds)]


def _positions(model: Transformer) -> int:
    return min(model.max_positions, MOST_POSITIONS)
