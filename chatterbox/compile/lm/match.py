"""Matches a published graph to GPT-2 or Llama: which stored tensor is which weight, by structure
alone.

Names are never read. Every product of an activation with a constant matrix is a *linear*; its depth
is the number of linears it depends on. In a transformer the depths alone give the order of use:
query, key and value share one (or are one linear), then the output projection, the two of the
feed-forward (the first of them beside its gate), the next block, and last the head. Where norms,
biases and activations sit follows from walking the edges. Whether the match is right is proven
afterwards (`equivalence.py`).
"""

from chatterbox.compile.graph import MICROSOFT, UnsupportedGraph, attributes
from chatterbox.compile.lm.embedding_tables import GATHER, table_read_by
from chatterbox.compile.lm.published import LinearNode, PublishedGraph
from chatterbox.compile.lm.weights import Activation, Layer, Linear, Rotary, Transformer, concat
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
    computes them. Raises UnsupportedGraph."""
    key = graph.inputs.get("past_key_values.0.key")
    if key is None or "logits" not in {output.name for output in graph.graph.output}:
        raise UnsupportedGraph("it has no past_key_values.0.key or no logits")
    dims = key.type.tensor_type.shape.dim
    kv_heads, head_dim = dims[1].dim_value, dims[3].dim_value
    depths = graph.by_depth()
    if len(depths) <= LINEARS_A_LAYER or len(depths) % LINEARS_A_LAYER != 1:
        raise UnsupportedGraph(
            f"{len(depths)} constant matrices in turn, not {LINEARS_A_LAYER} a layer and a head"
        )
    head = depths.pop()
    if len(head) != 1:
        raise UnsupportedGraph(f"{len(head)} matrices give the logits")
    activation, gate = _activation(graph, depths[2], depths[3][0])
    attended, hidden = depths[1][0].weight.shape
    layers = []
    for index, start in enumerate(range(0, len(depths), LINEARS_A_LAYER)):
        layer = _layer(graph, index, depths[start : start + LINEARS_A_LAYER])
        inner = layer.down.weight.shape[0]
        expected = [(hidden, attended + 2 * kv_heads * head_dim), (attended, hidden)]
        expected += [(hidden, (1 + len(gate)) * inner), (inner, hidden)]
        found = [part.weight.shape for part in (layer.qkv, layer.out, layer.up, layer.down)]
        if found != expected:
            raise UnsupportedGraph(f"layer {index} has weights {found}, not {expected}")
        layers.append(layer)
    positions: Array | Rotary | None = _rotary(graph, head_dim) or angles
    if positions is None:
        rows = _table(graph, "position_ids", hidden)
        positions = dense(rows).T if isinstance(rows, BlockQuantized) else rows
    return Transformer(
        layers=tuple(layers),
        norm=graph.norm_before(head[0]),
        head=graph.with_bias(head[0]),
        heads=attended // head_dim,
        kv_heads=kv_heads,
        head_dim=head_dim,
        activation=activation,
        positions=positions,
        table=_table(graph, "input_ids", hidden) if "input_ids" in graph.inputs else None,
    )


def _layer(graph: PublishedGraph, index: int, linears: list[list[LinearNode]]) -> Layer:
    queries, out, up, down = linears
    counts = [len(depth) for depth in linears]
    if counts[0] not in (1, 3) or counts[1:] not in ([1, 1, 1], [1, 2, 1]):
        raise UnsupportedGraph(f"layer {index} has {counts} linears in turn")
    _, gate = _activation(graph, up, down[0])
    return Layer(
        norm_1=graph.norm_before(queries[0]),
        qkv=_query_key_value(graph, index, queries),
        out=graph.with_bias(out[0]),
        norm_2=graph.norm_before(up[0]),
        up=_joined(graph, index, [*gate, *(part for part in up if part not in gate)]),
        down=graph.with_bias(down[0]),
    )


def _query_key_value(graph: PublishedGraph, layer: int, found: list[LinearNode]) -> Linear:
    if len(found) == 1:
        return graph.with_bias(found[0])
    told: list[list[LinearNode]] = []
    for kind in ("key", "value"):
        behind = graph.upstream(f"present.{layer}.{kind}", graph.linears.keys())
        ids = {id(node) for node in behind}
        told.append([part for part in found if id(part.node) in ids])
    if [len(parts) for parts in told] != [1, 1] or told[0] == told[1]:
        raise UnsupportedGraph(f"layer {layer}: key and value cannot be told apart")
    (key,), (value,) = told
    (queries,) = (part for part in found if part not in (key, value))
    joined = _joined(graph, layer, [queries, key, value])
    for node in graph.followers(queries.node.output[0]):
        # MultiHeadAttention may hold the bias of all three itself.
        if node.op_type == "MultiHeadAttention" and any(node.input[3:4]):
            bias = graph.constant(node.input[3])
            if bias is not None and bias.shape == joined.bias.shape:
                return Linear(joined.weight, joined.bias + bias)
    return joined


def _joined(graph: PublishedGraph, layer: int, parts: list[LinearNode]) -> Linear:
    """Side by side, each with its bias."""
    if len(parts) == 1:
        return graph.with_bias(parts[0])
    try:
        return concat([graph.with_bias(part) for part in parts])
    except ValueError as reason:
        raise UnsupportedGraph(f"layer {layer}: {reason}") from None


def _activation(
    graph: PublishedGraph, ups: list[LinearNode], down: LinearNode
) -> tuple[Activation, list[LinearNode]]:
    """Which, and the linear that it is the activation of where another is multiplied by it."""
    before = {id(up.node) for up in ups}
    for node in graph.upstream(down.node.input[0], before):
        found, given = ACTIVATIONS.get(node.op_type), attributes(node)
        if node.op_type == "Gelu":
            found = "tanh" if given.get("approximate") == b"tanh" else "erf"
        if node.op_type == "QuickGelu" and given.get("alpha", 1.702) != 1.0:
            break
        if found is None:
            continue
        sources = list(graph.upstream(node.input[0], before))
        gate = [up for up in ups if any(up.node is source for source in sources)]
        if (found == "silu", len(ups)) not in ((True, 2), (False, 1)) or len(gate) != 1:
            break
        return found, gate if len(ups) > 1 else []
    raise UnsupportedGraph("no GELU or gate between the feed-forward's linears")


def _rotary(graph: PublishedGraph, head_dim: int) -> Rotary | None:
    """The angles that the graph holds."""
    for node in graph.of_type(*COSINES):
        place, given = COSINES[node.op_type], attributes(node)
        names = [name for name in node.input[place : place + 2] if name]
        if node.domain != MICROSOFT or len(names) != 2:
            continue
        cos, sin = (graph.constant(name) for name in names)
        other = ("rotary_interleaved", "interleaved", "rotary_embedding_dim")
        if cos is None or sin is None or any(given.get(name, 0) for name in other):
            raise UnsupportedGraph("queries are turned in another way")
        if cos.shape[1] * 2 != head_dim:
            raise UnsupportedGraph("queries are turned in part")
        return Rotary(cos, sin)
    return None


def _table(graph: PublishedGraph, ids: str, hidden: int) -> Array | BlockQuantized:
    """The table whose rows, of this width, are read by `ids`."""
    for node in graph.of_type(*GATHER):
        table = table_read_by(graph, node) if _follows(graph, node.input[1], ids) else None
        if isinstance(table, BlockQuantized):
            if table.inputs == hidden:
                return table
        elif table is not None and table.shape[1] == hidden:
            return table
    raise UnsupportedGraph(f"no table is read by {ids}")


def _follows(graph: PublishedGraph, name: str, source: str) -> bool:
    while name != source:
        node = graph.producer.get(name)
        if node is None or not node.input:
            return False
        name = node.input[0]
    return True
