"""The language model as onnxruntime-genai's model builder writes it: the published files' form.

Names, order, attributes and unused outputs are the builder's (0.11 to 0.18, q, k and v as separate
products); the position table's name is made up. Precisions follow onnxruntime's quantizer and fp16
converter: 4 and 8 bits in blocks of 32 with zero points, the table included, and in q4f16 fp16
scales. Tensors are made one by one as they are written, so the file's sizes can be had without its
weights (`GenaiGraph.sidecar_bytes`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from chatterbox.compile.lm.quantize import quantize_blocks
from chatterbox.compile.lm.weights import GPT2, Array, BlockQuantized, Dense, Linear, Norm
from chatterbox.runtime.contract import PRECISION_SUFFIX, Precision
from tools.stock_forms.plain import BITS, CONTRIB, STOCK_BLOCK

PRODUCER = "onnxruntime-genai"
IR_VERSION, OPSET = 10, 21
SEQUENCE = ("batch_size", "sequence_length")
ONE, FIRST = "/model/constants/INT64/1", "/model/constants/INT64/[1]"


@dataclass(slots=True)
class GenaiGraph:
    """A graph whose weights are still to be written."""

    model: onnx.ModelProto
    file_name: str
    tensors: list[Callable[[], Array]] = field(default_factory=list)
    sidecar_bytes: int = 0

    def write(self, directory: Path) -> Path:
        """Write graph and sidecar; returns the graph's path."""
        path = directory / self.file_name
        path.write_bytes(self.model.SerializeToString())
        with (directory / f"{self.file_name}_data").open("wb") as data:
            for values in self.tensors:
                data.write(np.ascontiguousarray(values()).tobytes())
        return path


def write_genai(model: GPT2, precision: Precision, directory: Path) -> Path:
    """Write `language_model<suffix>.onnx` and its sidecar; returns the graph's path."""
    return genai_graph(model, precision).write(directory)


def genai_graph(model: GPT2, precision: Precision) -> GenaiGraph:
    """The graph in memory, its weights not yet computed."""
    return _Builder(model, precision).build()


class _Builder:
    def __init__(self, model: GPT2, precision: Precision) -> None:
        half = precision in ("fp16", "q4f16")
        self._m = model
        self._bits = BITS.get(precision, 0)
        self._kind: Any = np.dtype(np.float16 if half else np.float32)
        self._type = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[TensorProto] = []
        self._values: list[onnx.ValueInfoProto] = []
        self._made = GenaiGraph(
            onnx.ModelProto(), f"language_model{PRECISION_SUFFIX[precision]}.onnx"
        )

    def build(self) -> GenaiGraph:
        m, half = self._m, self._kind == np.float16
        stream = "inputs_embeds"
        if half:
            stream = self._node("Cast", [stream], "graph_input_cast_0", m.hidden, to=self._type)
        lengths = self._lengths()
        stream = self._node(
            "Add", [stream, self._positions()], "/model/embed_positions/Add", m.hidden
        )
        added = ""
        for index, layer in enumerate(m.layers):
            name = f"/model/layers.{index}"
            normed, stream = self._norm(f"{name}/input_layernorm", layer.norm_1, stream, added)
            qkv = [
                self._linear(normed, f"{name}/attn/{part}_proj", own)
                for part, own in zip("qkv", _thirds(layer.qkv), strict=True)
            ]
            mixed = self._attention(index, f"{name}/attn/GroupQueryAttention", qkv, lengths)
            added = self._linear(mixed, f"{name}/attn/o_proj", layer.out)
            normed, stream = self._norm(
                f"{name}/post_attention_layernorm", layer.norm_2, stream, added
            )
            up = self._linear(normed, f"{name}/mlp/fc1", layer.up)
            gelu = "tanh" if m.activation == "tanh" else "none"
            inner = layer.up.weight.shape[1]
            kind = "FastGelu" if gelu == "tanh" else "Gelu"
            up = self._node("Gelu", [up], f"{name}/mlp/act_fn/{kind}", inner, approximate=gelu)
            added = self._linear(up, f"{name}/mlp/fc2", layer.down)
        final = f"/model/layers.{len(m.layers)}/final_norm_layernorm"
        normed, _ = self._norm(final, m.norm, stream, added, last=True)
        logits = self._linear(normed, "/lm_head", m.head)
        if half:
            cast = helper.make_node("Cast", [logits], ["logits"], "graph_output_cast0", to=1)
            self._nodes.append(cast)
        else:
            self._nodes[-1].output[0] = "logits"
            self._values.pop()  # of what is an output now
        self._made.model.CopyFrom(self._proto())
        return self._made

    def _proto(self) -> onnx.ModelProto:
        value, m = helper.make_tensor_value_info, self._m
        cache = lambda length: ["batch_size", m.heads, length, m.head_dim]  # noqa: E731
        names = [(i, kind) for i in range(len(m.layers)) for kind in ("key", "value")]
        inputs = [
            value("inputs_embeds", TensorProto.FLOAT, [*SEQUENCE, m.hidden]),
            value("attention_mask", TensorProto.INT64, ["batch_size", "total_sequence_length"]),
            value("position_ids", TensorProto.INT64, SEQUENCE),
        ]
        past, total = "past_sequence_length", "total_sequence_length"
        inputs += [value(f"past_key_values.{i}.{k}", self._type, cache(past)) for i, k in names]
        outputs = [value("logits", TensorProto.FLOAT, [*SEQUENCE, m.vocab])]
        outputs += [value(f"present.{i}.{k}", self._type, cache(total)) for i, k in names]
        graph = helper.make_graph(
            self._nodes, "main_graph", inputs, outputs, self._weights, value_info=self._values
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name=PRODUCER
        )

    # --- nodes

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

    def _lengths(self) -> list[str]:
        """`seqlens_k` and `total_sequence_length`, counted from the mask."""
        base = "/model/attn_mask_reformat/attn_mask_subgraph"
        for name, number in ((FIRST, [1]), (ONE, 1)):
            node_name = name.replace("constants", "constant_nodes")
            constant = onnx.numpy_helper.from_array(np.array(number), name)
            self._nodes.append(helper.make_node("Constant", [], [name], node_name, value=constant))
        count = self._node("ReduceSum", ["attention_mask", FIRST], f"{base}/ReduceSum", keepdims=0)
        last = self._node("Sub", [count, FIRST], f"{base}/Sub")
        shape = self._node("Shape", ["attention_mask"], f"{base}/Shape")
        total = self._node("Gather", [shape, ONE], f"{base}/Gather", axis=0)
        return [
            self._node("Cast", [x], f"{base}/{of}/Cast", to=TensorProto.INT32)
            for x, of in ((last, "Sub"), (total, "Gather"))
        ]

    def _positions(self) -> str:
        name, table = "/model/embed_positions/Gather", self._m.positions
        weight = "model.embed_positions.weight"
        if not self._bits:
            self._tensor(weight, table.shape, self._kind, lambda: table)
            return self._node("Gather", [weight, "position_ids"], name, self._m.hidden)
        codes, scales, zeros = self._blocked(weight, Dense(table.T), flat=True)
        return self._node(
            "GatherBlockQuantized",
            [codes, "position_ids", scales, zeros],
            f"{name}_Q{self._bits}",
            self._m.hidden,
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
        self._tensor(bias, linear.bias.shape, self._kind, lambda: linear.bias)
        return self._node("Add", [product, bias], f"{base}/Add", outputs)

    def _norm(
        self, name: str, norm: Norm, stream: str, added: str, *, last: bool = False
    ) -> tuple[str, str]:
        """The normalised sum of `stream` and `added`, and that sum."""
        inputs = [stream, *([added] if added else [])]
        for kind, values in (("weight", norm.gamma), ("bias", norm.beta)):
            inputs.append(f"{name[1:]}.{kind}".replace("/", "."))
            self._tensor(inputs[-1], values.shape, self._kind, lambda values=values: values)
        width, normed, total = len(norm.gamma), f"{name}/output_0", f"{name}/output_3"
        if not added:
            node = helper.make_node(
                "LayerNormalization", inputs, [normed], f"{name}/LayerNorm",
                axis=-1, epsilon=norm.epsilon, stash_type=1,
            )  # fmt: skip
        else:
            node = helper.make_node(
                "SkipLayerNormalization", inputs, [normed] if last else [normed, "", "", total],
                f"{name}/SkipLayerNorm", domain=CONTRIB, epsilon=norm.epsilon,
            )  # fmt: skip
        self._nodes.append(node)
        for output in node.output:
            if output:
                self._declare(output, width)
        return normed, total if added else stream

    def _attention(self, index: int, name: str, qkv: list[str], lengths: list[str]) -> str:
        m = self._m
        pasts = [f"past_key_values.{index}.{kind}" for kind in ("key", "value")]
        output = self._node(
            "GroupQueryAttention",
            [*qkv, *pasts, *lengths, "", "", "", "", ""],
            name,
            m.hidden,
            CONTRIB,
            num_heads=m.heads,
            kv_num_heads=m.heads,
            scale=m.head_dim**-0.5,
            local_window_size=-1,
            softcap=0.0,
            do_rotary=0,
            rotary_interleaved=0,
        )
        self._nodes[-1].output.extend(f"present.{index}.{kind}" for kind in ("key", "value"))
        return output

    # --- weights

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
                made.append(quantize_blocks(weight, bits, STOCK_BLOCK))
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
        made, length = self._made, math.prod(shape) * kind.itemsize
        tensor = TensorProto(
            name=name, dims=shape, data_type=helper.np_dtype_to_tensor_dtype(kind),
            data_location=TensorProto.EXTERNAL,
        )  # fmt: skip
        where = {"location": f"{made.file_name}_data", "offset": made.sidecar_bytes}
        for key, value in (where | {"length": length}).items():
            tensor.external_data.add(key=key, value=str(value))
        self._weights.append(tensor)
        if name.endswith((".weight", ".bias")):  # the quantizer declares nothing
            self._values.append(helper.make_tensor_value_info(name, tensor.data_type, shape))
        made.tensors.append(lambda: values().astype(kind, copy=False))
        made.sidecar_bytes += length


def _thirds(qkv: Linear) -> list[Linear]:
    """Query, key and value apart."""
    assert isinstance(qkv.weight, Dense)
    width = len(qkv.bias) // 3
    own = [slice(i * width, (i + 1) * width) for i in range(3)]
    return [Linear(Dense(qkv.weight.values[:, part]), qkv.bias[part]) for part in own]
