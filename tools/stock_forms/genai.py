"""Writes the language model as onnxruntime-genai's model builder does: the published form.

Names, order, attributes and unused outputs are the builder's (0.11 to 0.18, q, k and v as separate
products); the position table's name is made up. Precisions follow onnxruntime's quantizer and fp16
converter: 4 and 8 bits in blocks of 32 with zero points, the table included, and in q4f16 fp16
scales. Tensors are made one by one as they are written, so the file's sizes can be had without its
weights (`GenaiGraph.sidecar_bytes`).
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from chatterbox.compile.lm.weights import Layer, Linear, Norm, Transformer
from chatterbox.hub.files import Precision
from chatterbox.runtime.quantized_weights import Dense
from tools.stock_forms.genai_graph import SEQUENCE, GenaiGraph, Writer
from tools.stock_forms.plain import CONTRIB

PRODUCER = "onnxruntime-genai"
IR_VERSION, OPSET = 10, 21
ONE, FIRST = "/model/constants/INT64/1", "/model/constants/INT64/[1]"


def write_genai(model: Transformer, precision: Precision, directory: Path) -> Path:
    """Write `language_model<suffix>.onnx` and its sidecar; returns the graph's path."""
    return genai_graph(model, precision).write(directory)


def genai_graph(model: Transformer, precision: Precision) -> GenaiGraph:
    """The graph in memory, its weights not yet computed."""
    return Builder(model, precision).build()


class Builder(Writer):
    """Writes GPT-2 over embeddings."""

    def build(self) -> GenaiGraph:
        """The graph, its weights not yet computed."""
        m = self.m
        stream, lengths = self._embedded()
        added = ""
        for index, layer in enumerate(m.layers):
            name = f"/model/layers.{index}"
            normed, stream = self._norm(f"{name}/input_layernorm", layer.norm_1, stream, added)
            qkv = self._queries(f"{name}/attn", layer.qkv, normed)
            mixed = self._attention(index, f"{name}/attn/GroupQueryAttention", qkv, lengths)
            added = self._linear(mixed, f"{name}/attn/o_proj", layer.out)
            normed, stream = self._norm(
                f"{name}/post_attention_layernorm", layer.norm_2, stream, added
            )
            added = self._feed_forward(f"{name}/mlp", layer, normed)
        final = f"/model/layers.{len(m.layers)}/final_norm_layernorm"
        normed, _ = self._norm(final, m.norm, stream, added, last=True)
        logits = self._linear(normed, "/lm_head", m.head)
        if self._kind == np.float16:
            cast = helper.make_node("Cast", [logits], ["logits"], "graph_output_cast0", to=1)
            self._nodes.append(cast)
        else:
            self._nodes[-1].output[0] = "logits"
            self._values.pop()  # of what is an output now
        self._made.model.CopyFrom(self._proto())
        return self._made

    def _embedded(self) -> tuple[str, list[str]]:
        """The residual stream, and `seqlens_k` and `total_sequence_length`."""
        stream, width = "inputs_embeds", self.m.hidden
        if self._kind == np.float16:
            stream = self._node("Cast", [stream], "graph_input_cast_0", width, to=self._type)
        lengths = self._lengths()
        added = [stream, self._positions()]
        return self._node("Add", added, "/model/embed_positions/Add", width), lengths

    def _queries(self, name: str, qkv: Linear, normed: str) -> list[str]:
        """The attention's first three inputs."""
        return [
            self._linear(normed, f"{name}/{part}_proj", own)
            for part, own in zip("qkv", _thirds(qkv), strict=True)
        ]

    def _feed_forward(self, name: str, layer: Layer, normed: str) -> str:
        up = self._linear(normed, f"{name}/fc1", layer.up)
        gelu = "tanh" if self.m.activation == "tanh" else "none"
        kind = "FastGelu" if gelu == "tanh" else "Gelu"
        inner = layer.up.weight.shape[1]
        up = self._node("Gelu", [up], f"{name}/act_fn/{kind}", inner, approximate=gelu)
        return self._linear(up, f"{name}/fc2", layer.down)

    def _edges(self) -> list[onnx.ValueInfoProto]:
        """The inputs before the caches."""
        value = helper.make_tensor_value_info
        return [
            value("inputs_embeds", TensorProto.FLOAT, [*SEQUENCE, self.m.hidden]),
            value("attention_mask", TensorProto.INT64, ["batch_size", "total_sequence_length"]),
            value("position_ids", TensorProto.INT64, SEQUENCE),
        ]

    def _proto(self) -> onnx.ModelProto:
        value, m = helper.make_tensor_value_info, self.m
        cache = lambda length: ["batch_size", m.kv_heads, length, m.head_dim]  # noqa: E731
        names = [(i, kind) for i in range(len(m.layers)) for kind in ("key", "value")]
        past, total = "past_sequence_length", "total_sequence_length"
        inputs = self._edges()
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
        assert isinstance(self.m.positions, np.ndarray)
        return self._lookup("embed_positions", self.m.positions, "position_ids")

    def _norm(
        self, name: str, norm: Norm, stream: str, added: str, *, last: bool = False
    ) -> tuple[str, str]:
        """The normalised sum of `stream` and `added`, and that sum."""
        inputs = [stream, *([added] if added else [])]
        simple = "Simplified" if norm.beta is None else ""
        parts = (
            {"weight": norm.gamma}
            if norm.beta is None
            else {"weight": norm.gamma, "bias": norm.beta}
        )
        for kind, values in parts.items():
            inputs.append(f"{name[1:]}.{kind}".replace("/", "."))
            self._tensor(inputs[-1], values.shape, self._kind, lambda values=values: values)
        width, normed, total = len(norm.gamma), f"{name}/output_0", f"{name}/output_3"
        if not added:
            node = helper.make_node(
                f"{simple}LayerNormalization", inputs, [normed], f"{name}/LayerNorm",
                axis=-1, epsilon=norm.epsilon, stash_type=1,
            )  # fmt: skip
        else:
            node = helper.make_node(
                f"Skip{simple}LayerNormalization", inputs,
                [normed] if last else [normed, "", "", total],
                f"{name}/SkipLayerNorm", domain=CONTRIB, epsilon=norm.epsilon,
            )  # fmt: skip
        self._nodes.append(node)
        for output in node.output:
            if output:
                self._declare(output, width)
        return normed, total if added else stream

    def _attention(self, index: int, name: str, qkv: list[str], lengths: list[str]) -> str:
        m = self.m
        pasts = [f"past_key_values.{index}.{kind}" for kind in ("key", "value")]
        output = self._node(
            "GroupQueryAttention",
            [*qkv, *pasts, *lengths, *self._angles(), *[""] * 3],
            name,
            m.heads * m.head_dim,
            CONTRIB,
            num_heads=m.heads,
            kv_num_heads=m.kv_heads,
            scale=m.head_dim**-0.5,
            local_window_size=-1,
            softcap=0.0,
            do_rotary=int(bool(self._angles()[0])),
            rotary_interleaved=0,
        )
        self._nodes[-1].output.extend(f"present.{index}.{kind}" for kind in ("key", "value"))
        return output

    def _angles(self) -> list[str]:
        """Cosines and sines, where queries and keys are turned."""
        return ["", ""]


def _thirds(qkv: Linear) -> list[Linear]:
    """Query, key and value apart."""
    assert isinstance(qkv.weight, Dense)
    width = len(qkv.bias) // 3
    own = [slice(i * width, (i + 1) * width) for i in range(3)]
    return [Linear(Dense(qkv.weight.values[:, part]), qkv.bias[part]) for part in own]
