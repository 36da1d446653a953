"""Sessions on graphs whose weights lie elsewhere."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from chatterbox.runtime.sessions import SessionSettings, open_session

CPU = SessionSettings("cpu", 1, {})


def kept(folder: Path, weights: bytes) -> Path:
    """A graph that adds numbers from the file `weights.bin`, which is not beside it."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[len(weights) // 4])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights.bin")
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [None]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    folder.mkdir()
    (folder / "graph.onnx").write_bytes(
        helper.make_model(
            graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)]
        ).SerializeToString()
    )
    return folder / "graph.onnx"


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("in_memory", [False, True])
def test_weights_are_read_from_another_folder_through_links_too(tmp_path, linked, in_memory):
    """As a hub's cache has them: links that leave the model's folder."""
    numbers = np.arange(1000, dtype=np.float32)
    graph, model, blobs = kept(tmp_path / "kept", numbers.tobytes()), tmp_path / "m", tmp_path / "b"
    model.mkdir()
    blobs.mkdir()
    held = (blobs if linked else model) / "weights.bin"
    held.write_bytes(numbers.tobytes())
    if linked:
        (model / "weights.bin").symlink_to(held)
    source = graph.read_bytes() if in_memory else graph
    (made,) = open_session(source, CPU, weights_in=model).run(None, {"x": numbers})
    np.testing.assert_array_equal(made, 2 * numbers)
