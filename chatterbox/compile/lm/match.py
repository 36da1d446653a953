"""Matches a published graph to GPT-2 or Llama: finds the role of each stored weight.

Only the structure counts, not names. Every product of an activation with a constant matrix is a
*linear* layer; its depth is the number of linears it depends on. In a transformer the depths give
the order: query, key and value have the same depth (or are one linear), then come the output
projection, the two feed-forward linears (the first beside its gate), the next layer, and finally
the head. Norms, biases and activations follow from the edges. `equivalence.py` proves the match.
"""

from chatterbox.compile.graph import MICROSOFT, UnsupportedGraph, attributes
from chatterbox.compile.lm.published import GATHER, LinearNode, PublishedGraph
from chatterbox.compile.lm.weights import Activation, Layer, Linear, Rotary, Transformer, concat
from chatterbox.runtime.quantized_weights import Array, BlockQuantized, dense

DEPTHS_PER_LAYER = 4  # query-key-value, output, up, down
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
"""Index of the input with the cosines of the rotary angles, by operator. The sines follow."""


def match(graph: PublishedGraph, angles: Rotary | None = None) -> Transformer:
    """Return the weights of a published language model. `angles` are used if the model is rotary
    and its graph stores none. Raises UnsupportedGraph if the graph is not a known transformer."""
    key = graph.inputs.get("past_key_values.0.key")
    if key is None or "logits" not in {output.name for output in graph.graph.output}:
        raise UnsupportedGraph("it has no past_key_values.0.key or no logits")
    dims = key.type.tensor_type.shape.dim
    kv_heads, head_dim = dims[1].dim_value, dims[3].dim_value
    depths = graph.by_depth()
    if len(depths) <= DEPTHS_PER_LAYER or len(depths) % DEPTHS_PER_LAYER != 1:
        raise UnsupportedGraph(
            f"{len(depths)} constant matrices in sequence, not {DEPTHS_PER_LAYER} per layer and one"
            " for the head"
        )
    head = depths.pop()
    if len(head) != 1:
        raise UnsupportedGraph(f"{len(head)} matrices give the logits")
    activation, gate = _activation(graph, depths[2], depths[3][0])
    attended, hidden = depths[1][0].weight.shape
    layers = []
    for index, start in enumerate(range(0, len(depths), DEPTHS_PER_LAYER)):
        layer = _layer(graph, index, depths[start : start + DEPTHS_PER_LAYER])
        inner = layer.down.weight.shape[0]
        expected = [(hidden, attended + 2 * kv_heads * head_dim), (attended, hidden)]
        expected += [(hidden, (1 + len(gate)) * inner), (inner, hidden)]
        shapes = [part.weight.shape for part in (layer.qkv, layer.out, layer.up, layer.down)]
        if shapes != expected:
            raise UnsupportedGraph(f"layer {index} has weights {shapes}, not {expected}")
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
        raise UnsupportedGraph(f"layer {index} has {counts} linears in sequence")
    _, gate = _activation(graph, up, down[0])
    return Layer(
        norm_1=graph.norm_before(queries[0]),
        qkv=_query_key_value(graph, index, queries),
        out=graph.with_bias(out[0]),
        norm_2=graph.norm_before(up[0]),
        up=_joined(graph, index, [*gate, *(part for part in up if part not in gate)]),
        down=graph.with_bias(down[0]),
    )


def _query_key_value(graph: PublishedGraph, layer: int, linears: list[LinearNode]) -> Linear:
    if len(linears) == 1:
        return graph.with_bias(linears[0])
    candidates: list[list[LinearNode]] = []  # linears behind the key, and behind the value
    for kind in ("key", "value"):
        sources = graph.upstream(f"present.{layer}.{kind}", graph.linears.keys())
        ids = {id(node) for node in sources}
        candidates.append([part for part in linears if id(part.node) in ids])
    if [len(parts) for parts in candidates] != [1, 1] or candidates[0] == candidates[1]:
        raise UnsupportedGraph(f"layer {layer}: key and value cannot be told apart")
    (key,), (value,) = candidates
    (queries,) = (part for part in linears if part not in (key, value))
    joined = _joined(graph, layer, [queries, key, value])
    for node in graph.followers(queries.node.output[0]):
        # MultiHeadAttention can have the bias of all three as an input.
        if node.op_type == "MultiHeadAttention" and any(node.input[3:4]):
            bias = graph.constant(node.input[3])
            if bias is not None and bias.shape == joined.bias.shape:
                return Linear(joined.weight, joined.bias + bias)
    return joined


def _joined(graph: PublishedGraph, layer: int, parts: list[LinearNode]) -> Linear:
    """Concatenate linear layers and their biases."""
    if len(parts) == 1:
        return graph.with_bias(parts[0])
    try:
        return concat([graph.with_bias(part) for part in parts])
    except ValueError as reason:
        raise UnsupportedGraph(f"layer {layer}: {reason}") from None


def _activation(
    graph: PublishedGraph, ups: list[LinearNode], down: LinearNode
) -> tuple[Activation, list[LinearNode]]:
    """Return the activation between the feed-forward's linears, and the gate: the linear that feeds
    the activation if there are two, else an empty list."""
    up_ids = {id(up.node) for up in ups}
    for node in graph.upstream(down.node.input[0], up_ids):
        activation, attrs = ACTIVATIONS.get(node.op_type), attributes(node)
        if node.op_type == "Gelu":
            activation = "tanh" if attrs.get("approximate") == b"tanh" else "erf"
        if node.op_type == "QuickGelu" and attrs.get("alpha", 1.702) != 1.0:
            break
        if activation is None:
            continue
        sources = list(graph.upstream(node.input[0], up_ids))
        gate = [up for up in ups if any(up.node is source for source in sources)]
        if (activation == "silu", len(ups)) not in ((True, 2), (False, 1)) or len(gate) != 1:
            break
        return activation, gate if len(ups) > 1 else []
    raise UnsupportedGraph("no GELU or gate between the feed-forward's linears")


def _rotary(graph: PublishedGraph, head_dim: int) -> Rotary | None:
    """Return the rotary angles that the graph stores, or None."""
    for node in graph.of_type(*COSINES):
        index, attrs = COSINES[node.op_type], attributes(node)
        names = [name for name in node.input[index : index + 2] if name]
        if node.domain != MICROSOFT or len(names) != 2:
            continue
        cos, sin = (graph.constant(name) for name in names)
        options = ("rotary_interleaved", "interleaved", "rotary_embedding_dim")
        if cos is None or sin is None or any(attrs.get(name, 0) for name in options):
            raise UnsupportedGraph("its rotary embedding has another form")
        if cos.shape[1] * 2 != head_dim:
            raise UnsupportedGraph("its rotary embedding covers only part of a head")
        return Rotary(cos, sin)
    return None


def _table(graph: PublishedGraph, ids: str, hidden: int) -> Array | BlockQuantized:
    """Return the table with rows of width `hidden` that is indexed by the input `ids`."""
    for node in graph.of_type(*GATHER):
        table = graph.table_of(node) if _depends_on(graph, node.input[1], ids) else None
        if isinstance(table, BlockQuantized):
            if table.inputs == hidden:
                return table
        elif table is not None and table.shape[1] == hidden:
            return table
    raise UnsupportedGraph(f"no table is indexed by {ids}")


def _depends_on(graph: PublishedGraph, name: str, source: str) -> bool:
    """Return whether the chain of first inputs leads from `name` to `source`."""
    while name != source:
        node = graph.producer.get(name)
        if node is None or not node.input:
            return False
        name = node.input[0]
    return True
