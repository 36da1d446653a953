"""Matches a published graph to GPT-2 or Llama: which stored tensor is which weight, by structure
alone.

Names are never read. Every product of an activation with a constant matrix is a *linear*; its depth
is the number of linears it depends on. In a transformer the depths alone give the order of use:
query, key and value share one (or are one linear), then the output projection, the two of the
feed-forward (the first of them beside its gate), the next block, and last the head. Where norms,
biases and activations sit follows from walking the edges. Whether the match is right is proven
afterwards (`equivalence.py`).
"""

from chatterbox.compile.graph import MICROSOFT, attributes
from chatterbox.compile.lm.embedding_tables import GATHER, table_read_by
from chatterbox.compile.lm.layers import LinearNode, Linears
from chatterbox.compile.lm.published import NotRecognizedError, PublishedGraph
from chatterbox.compile.lm.weights import (
    Activation,
    Layer,
    Linear,
    Rotary,
    Transformer,
    concat,
)
from chatterbox.runtime.quantized_weights import Array, BlockQuantized, dense

LINEARS_A_LAYER = 4  # query-key-value, output, up, down: one after the other
ACTIVATIONS: dict[str, Activation] = {
    "FastGelu": "tanh",
    "Tanh": "tanh",
    "BiasGelu": "erf",
    "Erf": "erf",
    "Sigmoid": "silu",
    "Silu": "silu",
    "QuickGelu": "silu",
}
COSINES = {"GroupQueryAttention": 7, "RotaryEmbedding": 2}
"""Which input of an operator holds the cosines of its angles; the sines follow."""


def match(graph: PublishedGraph, angles: Rotary | None = None) -> Transformer:
    """The weights of a published language model. `angles`: where the graph holds none, since it
    computes them. Raises NotRecognizedError."""
    return _Match(graph, angles).model()


class _Match:
    def __init__(self, graph: PublishedGraph, angles: Rotary | None) -> None:
        self._graph = graph
        self._linears = Linears(graph)
        self._angles = angles

    def model(self) -> Transformer:
        key = self._graph.inputs.get("past_key_values.0.key")
        if key is None or "logits" not in {output.name for output in self._graph.graph.output}:
            raise NotRecognizedError("it has no past_key_values.0.key or no logits")
        dims = key.type.tensor_type.shape.dim
        kv_heads, head_dim = dims[1].dim_value, dims[3].dim_value
        depths = self._linears.by_depth()
        if len(depths) < 1 + LINEARS_A_LAYER or (len(depths) - 1) % LINEARS_A_LAYER:
            raise NotRecognizedError(
                f"{len(depths)} constant matrices in turn, not {LINEARS_A_LAYER} a layer and a head"
            )
        head = depths.pop()
        if len(head) != 1:
            raise NotRecognizedError(f"{len(head)} matrices give the logits")
        activation, gate = self._activation(depths[2], depths[3][0])
        layers = [
            self._layer(start // LINEARS_A_LAYER, depths[start : start + LINEARS_A_LAYER])
            for start in range(0, len(depths), LINEARS_A_LAYER)
        ]
        attended, hidden = layers[0].out.weight.shape
        self._check_shapes(layers, hidden, attended, 2 * kv_heads * head_dim, 1 + len(gate))
        return Transformer(
            layers=tuple(layers),
            norm=self._linears.norm_before(head[0]),
            head=self._linears.with_bias(head[0]),
            heads=attended // head_dim,
            kv_heads=kv_heads,
            head_dim=head_dim,
            activation=activation,
            positions=self._positions(hidden, head_dim),
            table=self._table("input_ids", hidden) if "input_ids" in self._graph.inputs else None,
        )

    def _layer(self, index: int, linears: list[list[LinearNode]]) -> Layer:
        queries, out, up, down = linears
        counts = [len(depth) for depth in linears]
        if counts[0] not in (1, 3) or counts[1:] not in ([1, 1, 1], [1, 2, 1]):
            raise NotRecognizedError(f"layer {index} has {counts} linears in turn")
        _, gate = self._activation(up, down[0])
        return Layer(
            norm_1=self._linears.norm_before(queries[0]),
            qkv=self._query_key_value(index, queries),
            out=self._linears.with_bias(out[0]),
            norm_2=self._linears.norm_before(up[0]),
            up=self._joined(index, [*gate, *(part for part in up if part not in gate)]),
            down=self._linears.with_bias(down[0]),
        )

    def _check_shapes(
        self, layers: list[Layer], hidden: int, attended: int, keys_values: int, ups: int
    ) -> None:
        for index, layer in enumerate(layers):
            inner = layer.down.weight.shape[0]
            expected = [
                (hidden, attended + keys_values),
                (attended, hidden),
                (hidden, ups * inner),
                (inner, hidden),
            ]
            found = [w.weight.shape for w in (layer.qkv, layer.out, layer.up, layer.down)]
            if found != expected:
                raise NotRecognizedError(f"layer {index} has weights {found}, not {expected}")

    def _query_key_value(self, layer: int, found: list[LinearNode]) -> Linear:
        if len(found) == 1:
            return self._linears.with_bias(found[0])
        keys, values = (
            [part for part in found if self._feeds(part, f"present.{layer}.{kind}")]
            for kind in ("key", "value")
        )
        if len(keys) != 1 or len(values) != 1 or keys[0] is values[0]:
            raise NotRecognizedError(f"layer {layer}: key and value cannot be told apart")
        queries = [part for part in found if part is not keys[0] and part is not values[0]]
        joined = self._joined(layer, [queries[0], keys[0], values[0]])
        outside = self._attention_bias(found[0], joined.weight.shape[1])
        return joined if outside is None else Linear(joined.weight, joined.bias + outside)

    def _joined(self, layer: int, parts: list[LinearNode]) -> Linear:
        """Side by side, each with its bias."""
        if len(parts) == 1:
            return self._linears.with_bias(parts[0])
        try:
            return concat([self._linears.with_bias(part) for part in parts])
        except ValueError as reason:
            raise NotRecognizedError(f"layer {layer}: {reason}") from None

    def _feeds(self, part: LinearNode, output: str) -> bool:
        return any(n is part.node for n in self._graph.upstream(output, self._linears.ids))

    def _attention_bias(self, part: LinearNode, width: int) -> Array | None:
        """MultiHeadAttention may hold the bias of all three projections itself."""
        for node in self._linears.followers(part.node.output[0]):
            if node.op_type == "MultiHeadAttention" and len(node.input) > 3 and node.input[3]:
                bias = self._graph.constant(node.input[3])
                return bias if bias is not None and bias.shape == (width,) else None
        return None

    def _activation(
        self, ups: list[LinearNode], down: LinearNode
    ) -> tuple[Activation, list[LinearNode]]:
        """Which, and the linear that it is the activation of where another is multiplied by it."""
        before = {id(up.node) for up in ups}
        for node in self._graph.upstream(down.node.input[0], before):
            found, given = ACTIVATIONS.get(node.op_type), attributes(node)
            if node.op_type == "Gelu":
                found = "tanh" if given.get("approximate") == b"tanh" else "erf"
            if node.op_type == "QuickGelu" and given.get("alpha", 1.702) != 1.0:
                break
            if found is None:
                continue
            sources = list(self._graph.upstream(node.input[0], before))
            gate = [up for up in ups if any(up.node is source for source in sources)]
            if (found == "silu", len(ups)) not in ((True, 2), (False, 1)) or len(gate) != 1:
                break
            return found, gate if len(ups) > 1 else []
        raise NotRecognizedError("no GELU or gate between the feed-forward's linears")

    def _positions(self, hidden: int, head_dim: int) -> Array | Rotary:
        rotary = self._rotary(head_dim) or self._angles
        if rotary is not None:
            return rotary
        table = self._table("position_ids", hidden)
        return dense(table).T if isinstance(table, BlockQuantized) else table

    def _rotary(self, head_dim: int) -> Rotary | None:
        """The angles that the graph holds."""
        for node in self._graph.of_type(*COSINES):
            place, given = COSINES[node.op_type], attributes(node)
            names = [name for name in node.input[place : place + 2] if name]
            if node.domain != MICROSOFT or len(names) != 2:
                continue
            cos, sin = (self._graph.constant(name) for name in names)
            other = ("rotary_interleaved", "interleaved", "rotary_embedding_dim")
            if cos is None or sin is None or any(given.get(name, 0) for name in other):
                raise NotRecognizedError("queries are turned in another way")
            if cos.shape[1] * 2 != head_dim:
                raise NotRecognizedError("queries are turned in part")
            return Rotary(cos, sin)
        return None

    def _table(self, ids: str, hidden: int) -> Array | BlockQuantized:
        """The table whose rows, of this width, are read by `ids`."""
        for node in self._graph.of_type(*GATHER):
            table = table_read_by(self._graph, node) if self._follows(node.input[1], ids) else None
            if isinstance(table, BlockQuantized):
                if table.inputs == hidden:
                    return table
            elif table is not None and table.shape[1] == hidden:
                return table
        raise NotRecognizedError(f"no table is read by {ids}")

    def _follows(self, name: str, source: str) -> bool:
        while name != source:
            node = self._graph.producer.get(name)
            if node is None or not node.input:
                return False
            name = node.input[0]
        return True
