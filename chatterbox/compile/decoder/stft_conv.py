"""Rewrites the operator STFT as a convolution, which it is.

onnxruntime has no CUDA kernel of the operator: it would run on the host, with a copy either way in
every window, and no CUDA graph could be made.
"""

from pathlib import Path

import numpy as np
import onnx

from chatterbox.compile.decoder.graph_edit import NewNodes, index, replace_nodes, stored_values


def stft_as_convolution(model: onnx.ModelProto, folder: Path) -> int:
    """Every one whose step, window and length are stored and whose signal is real; returns how
    many. Exact but for rounding. `folder` holds the file's weights."""
    graph = model.graph
    stored = index(graph).initializers
    removed, insert = [], []
    for node in graph.node:
        if node.op_type != "STFT":
            continue
        signal, step, window, length = (*node.input, "", "")[:4]
        if any(name and name not in stored for name in (step, window, length)):
            continue
        values = {n: stored_values(stored[n], folder) for n in (step, window, length) if n}
        size = int(values[length].item()) if length else len(values[window])
        shape = values[window] if window else np.ones(size, np.float32)
        one_sided = all(a.i for a in node.attribute if a.name == "onesided")
        bins = size // 2 + 1 if one_sided else size
        turns = np.outer(np.arange(bins), np.arange(size)) % size * (2 * np.pi / size)
        parts = np.stack([np.cos(turns), -np.sin(turns)], axis=1) * shape  # [bins, 2, size]
        kernel = parts.reshape(2 * bins, 1, size).astype(shape.dtype)
        new = NewNodes(graph, node.output[0])
        row = new.add("Reshape", [signal, new.stored("one.channel", [0, 1, -1])], "row")
        hop = [int(values[step].item())]
        made = new.add("Conv", [row, new.stored("kernel", kernel)], "parts", strides=hop)
        turned = new.add("Transpose", [made], "frames", perm=[0, 2, 1])
        new.add("Reshape", [turned, new.stored("bins", [0, 0, bins, 2])])
        removed.append(node)
        insert += new.nodes
    if removed:
        replace_nodes(graph, removed, insert)
    return len(removed)
