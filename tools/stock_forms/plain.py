"""Builds published forms by hand: plain past and present, every precision and several styles.

The contract is the published one (inputs_embeds, attention_mask, position_ids, past_key_values.*);
what is inside is what exporters and optimisers are known to leave there.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from chatterbox.compile.lm.weights import Layer, Linear, Norm, Transformer
from chatterbox.hub.files import PRECISION_SUFFIX, Precision
from chatterbox.runtime.quantized_weights import Array, BlockQuantized, Dense, unpack
from tools.stock_forms.weights import quantize_weight

STOCK_BLOCK = 32
"""The published q4 and q8 sidecars have exactly the bytes of blocks of 32 with zero points, the
position table included (docs/inside/language-model.md)."""
BITS = {"q8": 8, "q4": 4, "q4f16": 4}
CONTRIB = "com.microsoft"
MASKED = -1e4  # far below any score, and finite in fp16


@dataclass(frozen=True, slots=True)
class Form:
    """What differs between stock forms."""

    precision: Precision = "fp32"
    projections: Literal["fused", "split"] = "fused"
    linear: Literal["matmul", "gemm"] = "matmul"
    norm: Literal["operator", "spelled", "skip"] = "operator"
    gelu: Literal["operator", "spelled", "bias"] = "spelled"
    attention: Literal["plain", "mha", "gqa"] = "plain"
    table: Literal["uint4", "uint8"] = "uint8"
    accuracy_level: int = 0

    @property
    def half(self) -> bool:
        """Whether it computes in fp16."""
        return self.precision in ("fp16", "q4f16")


def write_plain(model: Transformer, form: Form, directory: Path) -> Path:
    """Write `language_model<suffix>.onnx` and its sidecar; returns the graph's path."""
    path = directory / f"language_model{PRECISION_SUFFIX[form.precision]}.onnx"
    proto = plain_model(model, form)
    onnx.save(
        proto,
        str(path),
        save_as_external_data=True,
        location=path.name + "_data",
        size_threshold=1024,
    )
    return path


def plain_model(model: Transformer, form: Form) -> onnx.ModelProto:
    """The whole graph in memory."""
    graph = _Builder(model, form).graph()
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(CONTRIB, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


class _Builder:
    def __init__(self, model: Transformer, form: Form) -> None:
        self.m = model
        self.form = form
        self.type = TensorProto.FLOAT16 if form.half else TensorProto.FLOAT
        self.kind = np.float16 if form.half else np.float32
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[TensorProto] = []
        self.sums: dict[str, str] = {}  # residual sums that a fused norm has made already

    # --- small tools

    def node(self, op: str, inputs: list[str], domain: str = "", **attributes: Any) -> str:
        return self.nodes_of(op, inputs, 1, domain, **attributes)[0]

    def nodes_of(
        self, op: str, inputs: list[str], count: int, domain: str = "", **attributes: Any
    ) -> list[str]:
        names = [f"/{len(self.nodes)}/{op}_{i}" for i in range(count)]
        self.nodes.append(helper.make_node(op, inputs, names, domain=domain, **attributes))
        return names

    def tensor(self, values: Array) -> str:
        name = f"onnx::{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def number(self, values: Any) -> str:
        return self.tensor(np.asarray(values, self.kind))

    def ints(self, *values: int) -> str:
        return self.tensor(np.array(values, np.int64))

    # --- the graph

    def graph(self) -> onnx.GraphProto:
        model = self.m
        embeds = self.node("Cast", ["inputs_embeds"], to=self.type)
        stream = self.node("Add", [embeds, self.position_rows()])
        bias = self.mask_bias()
        for index, layer in enumerate(model.layers):
            normed = self.norm(stream, layer.norm_1)
            attended = self.attention(index, normed, layer, bias)
            stream = self.residual(stream, self.linear(attended, layer.out), layer.norm_2)
            up = self.gelu(self.norm(stream, layer.norm_2), layer.up)
            following = (
                model.layers[index + 1].norm_1 if index + 1 < len(model.layers) else model.norm
            )
            stream = self.residual(stream, self.linear(up, layer.down), following)
        logits = self.linear(self.norm(stream, model.norm), model.head)
        self.nodes.append(helper.make_node("Cast", [logits], ["logits"], to=TensorProto.FLOAT))
        inputs, outputs = self.edges()
        return helper.make_graph(self.nodes, "main_graph", inputs, outputs, self.tensors)

    def edges(self) -> tuple[list[Any], list[Any]]:
        value = helper.make_tensor_value_info
        model = self.m
        cache = lambda length: ["batch", model.heads, length, model.head_dim]  # noqa: E731
        names = [(i, kind) for i in range(len(model.layers)) for kind in ("key", "value")]
        inputs = [
            value("inputs_embeds", TensorProto.FLOAT, ["batch", "sequence", model.hidden]),
            value("attention_mask", TensorProto.INT64, ["batch", "total"]),
            value("position_ids", TensorProto.INT64, ["batch", "sequence"]),
        ]
        inputs += [
            value(f"past_key_values.{i}.{kind}", self.type, cache("past")) for i, kind in names
        ]
        outputs = [value("logits", TensorProto.FLOAT, ["batch", "sequence", model.vocab])]
        outputs += [value(f"present.{i}.{kind}", self.type, cache("total")) for i, kind in names]
        return inputs, outputs

    def position_rows(self) -> str:
        if self.form.precision not in BITS:
            return self.node("Gather", [self.number(self.m.positions), "position_ids"])
        bits = BITS[self.form.precision]
        blocks = quantize_weight(Dense(self.m.positions.T), bits, STOCK_BLOCK)
        rows, count = blocks.scales.shape
        assert blocks.zero_points is not None
        if bits == 4 and self.form.table == "uint4":
            codes = self.nibbles(unpack(blocks.codes.reshape(rows, -1), 4, self.m.hidden))
            zeros = self.nibbles(unpack(blocks.zero_points, 4, count))
        else:
            codes = self.tensor(blocks.codes.reshape(rows, -1))
            zeros = self.tensor(blocks.zero_points)
        return self.node(
            "GatherBlockQuantized",
            [codes, "position_ids", self.number(blocks.scales), zeros],
            CONTRIB,
            bits=bits,
            block_size=STOCK_BLOCK,
            gather_axis=0,
            quantize_axis=1,
        )

    def nibbles(self, numbers: Array) -> str:
        name = f"onnx::{len(self.tensors)}"
        flat = numbers.reshape(-1)
        packed = (flat[::2] | flat[1::2] << 4).astype(np.uint8).tobytes()
        self.tensors.append(
            helper.make_tensor(name, TensorProto.UINT4, numbers.shape, packed, raw=True)
        )
        return name

    def mask_bias(self) -> str:
        """[batch, 1, new, total]: zero where a query may look, MASKED elsewhere."""
        new, total = (
            self.node("Gather", [self.node("Shape", [name]), self.tensor(np.array(1))])
            for name in ("inputs_embeds", "attention_mask")
        )
        zero, one = self.tensor(np.array(0)), self.tensor(np.array(1))
        columns = self.node("Range", [zero, total, one])
        rows = self.node("Range", [self.node("Sub", [total, new]), total, one])
        rows = self.node("Unsqueeze", [rows, self.ints(1)])
        causal = self.node("LessOrEqual", [columns, rows])
        seen = self.node("Cast", ["attention_mask"], to=TensorProto.BOOL)
        seen = self.node("Unsqueeze", [seen, self.ints(1, 2)])
        allowed = self.node("And", [seen, causal])
        return self.node("Where", [allowed, self.number(0), self.number(MASKED)])

    def norm(self, stream: str, norm: Norm) -> str:
        if stream in self.sums:
            return self.sums[stream]
        scale, shift = self.number(norm.gamma), self.number(norm.beta)
        if self.form.norm != "spelled":
            return self.node("LayerNormalization", [stream, scale, shift], epsilon=norm.epsilon)
        last = self.ints(-1)
        centred = self.node("Sub", [stream, self.node("ReduceMean", [stream, last])])
        square = self.node("Pow", [centred, self.number(2)])
        variance = self.node("ReduceMean", [square, last])
        deviation = self.node("Sqrt", [self.node("Add", [variance, self.number(norm.epsilon)])])
        normed = self.node("Div", [centred, deviation])
        return self.node("Add", [self.node("Mul", [normed, scale]), shift])

    def residual(self, stream: str, added: str, following: Norm) -> str:
        if self.form.norm != "skip":
            return self.node("Add", [stream, added])
        outputs = [f"/{len(self.nodes)}/skip_{i}" for i in range(2)]
        inputs = [stream, added, self.number(following.gamma), self.number(following.beta)]
        self.nodes.append(
            helper.make_node(
                "SkipLayerNormalization",
                inputs,
                [outputs[0], "", "", outputs[1]],
                domain=CONTRIB,
                epsilon=following.epsilon,
            )
        )
        self.sums[outputs[1]] = outputs[0]
        return outputs[1]

    def linear(self, source: str, linear: Linear, *, bias: bool = True) -> str:
        assert isinstance(linear.weight, Dense)
        values = linear.weight.values
        width = values.shape[1]
        if self.form.precision in BITS:
            product = self.block_product(source, quantize_weight(linear.weight, *self.quantised()))
        elif self.form.linear == "gemm":
            flat = self.node("Reshape", [source, self.ints(-1, values.shape[0])])
            inputs = [flat, self.number(values.T)] + ([self.number(linear.bias)] if bias else [])
            lead = self.node("Slice", [self.node("Shape", [source]), self.ints(0), self.ints(2)])
            shape = self.node("Concat", [lead, self.ints(width)], axis=0)
            return self.node("Reshape", [self.node("Gemm", inputs, transB=1), shape])
        else:
            product = self.node("MatMul", [source, self.number(values)])
        return self.node("Add", [product, self.number(linear.bias)]) if bias else product

    def quantised(self) -> tuple[int, int]:
        return BITS[self.form.precision], STOCK_BLOCK

    def block_product(self, source: str, blocks: BlockQuantized) -> str:
        assert blocks.zero_points is not None
        flat = [blocks.scales.reshape(-1), blocks.zero_points.reshape(-1)]
        return self.node(
            "MatMulNBits",
            [source, self.tensor(blocks.codes), self.number(flat[0]), self.tensor(flat[1])],
            CONTRIB,
            K=blocks.inputs,
            N=blocks.shape[1],
            bits=blocks.bits,
            block_size=blocks.block,
            accuracy_level=self.form.accuracy_level,
        )

    def gelu(self, source: str, linear: Linear) -> str:
        exact = self.m.activation == "erf"
        if self.form.gelu == "bias":
            inputs = [self.linear(source, linear, bias=False), self.number(linear.bias)]
            return self.node("BiasGelu" if exact else "FastGelu", inputs, CONTRIB)
        x = self.linear(source, linear)
        if self.form.gelu == "operator":
            return self.node("Gelu", [x], approximate="none" if exact else "tanh")
        if exact:
            inner = self.node("Erf", [self.node("Div", [x, self.number(2**0.5)])])
        else:
            cube = self.node("Mul", [self.node("Pow", [x, self.number(3)]), self.number(0.044715)])
            scaled = self.node(
                "Mul", [self.node("Add", [x, cube]), self.number((2 / np.pi) ** 0.5)]
            )
            inner = self.node("Tanh", [scaled])
        half = self.node("Mul", [x, self.number(0.5)])
        return self.node("Mul", [half, self.node("Add", [inner, self.number(1)])])

    def attention(self, index: int, source: str, layer: Layer, bias: str) -> str:
        if self.form.attention == "gqa":
            return self.grouped_attention(index, self.linear(source, layer.qkv))
        parts = self.projections(source, layer.qkv)
        if self.form.attention == "mha":
            return self.fused_attention(index, parts, layer.qkv.bias, bias)
        q, k, v = (
            self.node(
                "Transpose",
                [self.node("Reshape", [x, self.ints(0, 0, self.m.heads, self.m.head_dim)])],
                perm=[0, 2, 1, 3],
            )
            for x in parts
        )
        for kind, new in (("key", k), ("value", v)):
            pair = [f"past_key_values.{index}.{kind}", new]
            self.nodes.append(helper.make_node("Concat", pair, [f"present.{index}.{kind}"], axis=2))
        keys = self.node("Transpose", [f"present.{index}.key"], perm=[0, 1, 3, 2])
        scale = self.number(self.m.head_dim**-0.5)
        scores = self.node("Add", [self.node("Mul", [self.node("MatMul", [q, keys]), scale]), bias])
        weights = self.node("Softmax", [scores], axis=-1)
        mixed = self.node("MatMul", [weights, f"present.{index}.value"])
        mixed = self.node("Transpose", [mixed], perm=[0, 2, 1, 3])
        return self.node("Reshape", [mixed, self.ints(0, 0, self.m.hidden)])

    def projections(self, source: str, qkv: Linear) -> list[str]:
        hidden = self.m.hidden
        if self.form.projections == "fused":
            return self.nodes_of("Split", [self.linear(source, qkv)], 3, axis=2, num_outputs=3)
        assert isinstance(qkv.weight, Dense)
        inside = self.form.attention == "mha"  # which then holds the bias itself
        made = {}
        for part in (2, 0, 1):  # not in order, so that order cannot be what tells them apart
            own = slice(part * hidden, (part + 1) * hidden)
            linear = Linear(Dense(qkv.weight.values[:, own]), qkv.bias[own])
            made[part] = self.linear(source, linear, bias=not inside)
        return [made[0], made[1], made[2]]

    def fused_attention(self, index: int, parts: list[str], added: Array, bias: str) -> str:
        output = f"/{index}/mha"
        pasts = [f"past_key_values.{index}.{kind}" for kind in ("key", "value")]
        presents = [f"present.{index}.{kind}" for kind in ("key", "value")]
        split = self.form.projections == "split"
        inputs = [*parts, self.number(added) if split else "", "", bias, *pasts]
        self.nodes.append(
            helper.make_node(
                "MultiHeadAttention",
                inputs,
                [output, *presents],
                domain=CONTRIB,
                num_heads=self.m.heads,
            )
        )
        return output

    def grouped_attention(self, index: int, packed: str) -> str:
        """Packed queries, keys and values; lengths counted from the mask, as exporters do."""
        total = self.node(
            "Gather", [self.node("Shape", ["attention_mask"]), self.tensor(np.array(1))]
        )
        count = self.node("ReduceSum", ["attention_mask", self.ints(1)], keepdims=0)
        last = self.node("Sub", [count, self.ints(1)])
        lengths = [self.node("Cast", [x], to=TensorProto.INT32) for x in (last, total)]
        output = f"/{index}/gqa"
        pasts = [f"past_key_values.{index}.{kind}" for kind in ("key", "value")]
        presents = [f"present.{index}.{kind}" for kind in ("key", "value")]
        self.nodes.append(
            helper.make_node(
                "GroupQueryAttention",
                [packed, "", "", *pasts, *lengths],
                [output, *presents],
                domain=CONTRIB,
                num_heads=self.m.heads,
                kv_num_heads=self.m.heads,
            )
        )
        return output
