"""Matches a published graph to GPT-2: which stored tensor is which weight, by structure alone.

Names are never read. Every product of an activation with a constant matrix is a *linear*; its depth
is the number of linears it depends on. In a transformer the depths alone give the order of use:
query, key and value share one (or are one linear), then the output projection, the two of the
feed-forward, the next block, and last the head. Where norms, biases and activations sit follows
from walking the edges. Whether the match is right is proven afterwards (`equivalence.py`).
"""

from chatterbox.compile.lm.linears import LinearNode, Linears
from chatterbox.compile.lm.norms import norm_before
from chatterbox.compile.lm.published import NotRecognizedError, PublishedGraph, text_attribute
from chatterbox.compile.lm.tables import GATHER, table_of
from chatterbox.compile.lm.weights import (
    GPT2,
    Activation,
    Array,
    Layer,
    Linear,
    Norm,
    concat,
)

LINEARS_A_LAYER = 4  # query-key-value, output, up, down: one after the other


def match_gpt2(graph: PublishedGraph) -> GPT2:
    """The weights of a stock language model. Raises NotRecognizedError."""
    return _Match(graph).model()


class _Match:
    def __init__(self, graph: PublishedGraph) -> None:
        self._graph = graph
        self._linears = Linears(graph)

    def model(self) -> GPT2:
        key = self._graph.inputs.get("past_key_values.0.key")
        if key is None or "logits" not in self._graph.outputs:
            raise NotRecognizedError("it has no past_key_values.0.key or no logits")
        dims = key.type.tensor_type.shape.dim
        heads, head_dim = dims[1].dim_value, dims[3].dim_value
        depths = self._linears.by_depth()
        if len(depths) < 1 + LINEARS_A_LAYER or (len(depths) - 1) % LINEARS_A_LAYER:
            raise NotRecognizedError(
                f"{len(depths)} constant matrices in turn, not {LINEARS_A_LAYER} a layer and a head"
            )
        head = depths.pop()
        if len(head) != 1:
            raise NotRecognizedError(f"{len(head)} matrices give the logits")
        layers = [
            self._layer(start // LINEARS_A_LAYER, depths[start : start + LINEARS_A_LAYER])
            for start in range(0, len(depths), LINEARS_A_LAYER)
        ]
        self._check_shapes(layers, heads * head_dim)
        return GPT2(
            positions=self._positions(heads * head_dim),
            layers=tuple(layers),
            norm=self._norm_before(head[0]),
            head=self._linears.with_bias(head[0]),
            heads=heads,
            head_dim=head_dim,
            activation=self._activation(depths[2][0], depths[3][0]),
        )

    def _norm_before(self, found: LinearNode) -> Norm:
        return norm_before(self._graph, found.node.input[0], self._linears.ids)

    def _layer(self, index: int, linears: list[list[LinearNode]]) -> Layer:
        queries, out, up, down = linears
        if [len(r) for r in (out, up, down)] != [1, 1, 1] or len(queries) not in (1, 3):
            raise NotRecognizedError(
                f"layer {index} has {[len(r) for r in linears]} linears in turn"
            )
        return Layer(
            norm_1=self._norm_before(queries[0]),
            qkv=self._query_key_value(index, queries),
            out=self._linears.with_bias(out[0]),
            norm_2=self._norm_before(up[0]),
            up=self._linears.with_bias(up[0]),
            down=self._linears.with_bias(down[0]),
        )

    def _check_shapes(self, layers: list[Layer], hidden: int) -> None:
        for index, layer in enumerate(layers):
            inner = layer.up.weight.shape[1]
            expected = [(hidden, 3 * hidden), (hidden, hidden), (hidden, inner), (inner, hidden)]
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
        try:
            joined = concat([self._linears.with_bias(p) for p in (queries[0], keys[0], values[0])])
        except ValueError as reason:
            raise NotRecognizedError(f"layer {layer}: {reason}") from None
        outside = self._attention_bias(found[0], joined.weight.shape[1])
        return joined if outside is None else Linear(joined.weight, joined.bias + outside)

    def _feeds(self, part: LinearNode, output: str) -> bool:
        return any(n is part.node for n in self._graph.upstream(output, self._linears.ids))

    def _attention_bias(self, part: LinearNode, width: int) -> Array | None:
        """MultiHeadAttention may hold the bias of all three projections itself."""
        for node in self._linears.followers(part.node.output[0]):
            if node.op_type == "MultiHeadAttention" and len(node.input) > 3 and node.input[3]:
                bias = self._graph.constant(node.input[3])
                return bias if bias is not None and bias.shape == (width,) else None
        return None

    def _activation(self, up: LinearNode, down: LinearNode) -> Activation:
        for node in self._graph.upstream(down.node.input[0], {id(up.node)}):
            if node.op_type in ("FastGelu", "Tanh"):
                return "tanh"
            if node.op_type in ("BiasGelu", "Erf"):
                return "erf"
            if node.op_type == "Gelu":
                return "tanh" if text_attribute(node, "approximate") == "tanh" else "erf"
        raise NotRecognizedError("no GELU between the feed-forward's two linears")

    def _positions(self, hidden: int) -> Array:
        for node in self._graph.nodes:
            if node.op_type not in GATHER or not self._follows_positions(node.input[1]):
                continue
            table = table_of(self._graph, node)
            if table is not None and table.ndim == 2 and table.shape[1] == hidden:
                return table
        raise NotRecognizedError("no table is read by position_ids")

    def _follows_positions(self, name: str) -> bool:
        while name != "position_ids":
            node = self._graph.producer(name)
            if node is None or not node.input:
                return False
            name = node.input[0]
        return True
