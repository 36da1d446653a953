"""Weights beside a graph: which bytes of which file, checked before anything reads them.

Links are followed, as model directories are often made of them (a hub's cache, deduplicated disks);
a path that a graph itself names stays inside its directory.
"""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx

from chatterbox.errors import ModelError


@dataclass(frozen=True, slots=True)
class ExternalData:
    """Where a tensor's bytes are."""

    location: str  # relative to the graph's directory
    offset: int
    length: int | None  # None: to the end of the file

    @classmethod
    def of(cls, tensor: onnx.TensorProto) -> "ExternalData":
        """What a tensor says. Raises ModelError where that is nonsense, or leaves the directory."""
        said = {entry.key: entry.value for entry in tensor.external_data}
        location = said.get("location", "")
        path = PurePosixPath(location.replace("\\", "/"))
        if not location or path.is_absolute() or ".." in path.parts or "\0" in location:
            raise ModelError(f"its weights are said to be in {location!r}, not beside it")
        if PureWindowsPath(location).drive:
            raise ModelError(f"its weights are said to be in {location!r}, not beside it")
        numbers = [said.get("offset", "0"), said.get("length", "0")]
        if not all(number.isascii() and number.isdigit() for number in numbers):
            raise ModelError(f"it has no place for the weights of {tensor.name!r}")
        return cls(location, int(numbers[0]), int(numbers[1]) if "length" in said else None)


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor's bytes are not in the graph."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def read_bytes(tensor: onnx.TensorProto, folder: Path) -> bytes:
    """The bytes of an external tensor of a graph in `folder`."""
    place = ExternalData.of(tensor)
    with (folder / place.location).open("rb") as file:
        file.seek(place.offset)
        return file.read(-1 if place.length is None else place.length)


def has_links(folder: Path) -> bool:
    """Whether anything in `folder` is a symbolic link."""
    with os.scandir(folder) as entries:
        return any(entry.is_symlink() for entry in entries)


def without_links(model: onnx.ModelProto, folder: Path) -> Path:
    """Name the files that hold the weights of a graph in `folder` by their true paths, relative to
    the folder that is returned: onnxruntime reads none through a link that leaves its own."""
    tensors = [tensor for tensor in model.graph.initializer if is_external(tensor)]
    paths = {}
    for tensor in tensors:
        location = ExternalData.of(tensor).location
        paths[location] = (folder / location).resolve()
    if not paths:
        return folder
    root = Path(os.path.commonpath([path.parent for path in paths.values()]))
    for tensor in tensors:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = paths[entry.value].relative_to(root).as_posix()
    return root


def readable_graph(
    source: Path | bytes, weights_in: Path | None
) -> tuple[str | bytes, Path | None]:
    """A graph as onnxruntime can read it, and the folder of its weights where that is not the
    graph's own: it reads none through a link that leaves the folder."""
    folder = source.parent if isinstance(source, Path) else weights_in
    if folder is None or not has_links(folder):
        return (str(source) if isinstance(source, Path) else source), weights_in
    model = onnx.load_from_string(source.read_bytes() if isinstance(source, Path) else source)
    folder = without_links(model, folder)
    return model.SerializeToString(), folder
