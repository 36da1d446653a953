"""The files that make up a model on disk, and whether they are whole: the hub's layout.

Links are followed, as model directories are often made of them (a hub's cache, deduplicated disks);
a path that a graph itself names stays inside its directory.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal, get_args

import onnx

from chatterbox.errors import ModelError
from chatterbox.hardening import read_text_file

Precision = Literal["fp32", "fp16", "q8", "q4", "q4f16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
PRECISION_SUFFIX: dict[Precision, str] = {
    "fp32": "",
    "fp16": "_fp16",
    "q8": "_quantized",
    "q4": "_q4",
    "q4f16": "_q4f16",
}
"""Of a graph's file name, by precision: the names of transformers.js."""
SHARD = re.compile(r"_data(_\d+)?")
TOKENIZER_FILE = "tokenizer.json"
FINGERPRINT_BLOCK_BYTES = 64 * 1024
FINGERPRINT_BLOCKS = 16


@dataclass(frozen=True, slots=True)
class Graph:
    """A published graph: `onnx/<name><suffix>.onnx`, and the files of its weights beside it."""

    name: str
    setting: str  # of TTSConfig: chooses the precision of this graph alone
    automatic: Mapping[str, Precision | tuple[Precision, ...]]
    """Where none is set, by device ("cpu" and "cuda"): the first of these that is published."""
    precisions: tuple[Precision, ...] = PRECISIONS  # that speak well
    optional: bool = False  # left away where there is no such file


@dataclass(frozen=True, slots=True)
class Repository:
    """Some of a family's files: a hub repository, or a directory like one."""

    graphs: tuple[Graph, ...]
    files: tuple[str, ...] = ()  # beside the graphs
    optional_files: tuple[str, ...] = ()  # left away where there are no such
    hub_id: str = ""  # of one that is the same for all models of the family, a codec's say
    revision: str = "main"
    folder: str = ""  # where a model's directory may hold the like of it; else it is fetched


@dataclass(frozen=True, slots=True)
class FamilyFiles:
    """How the models of a family are published, and by which names they are asked for."""

    family: str  # the folder of `families/`
    model_types: frozenset[str]  # as `config.json` says, in small letters
    repositories: tuple[Repository, ...]  # the model's own first
    models: Mapping[str, tuple[str, str]]  # CHATTERBOX_MODEL → hub id and revision


def graph_file(graph: str, precision: Precision) -> str:
    """`onnx/<graph><suffix>.onnx`, relative to the model's directory."""
    return f"onnx/{graph}{PRECISION_SUFFIX[precision]}.onnx"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model's directory and the precision of each of its graphs."""

    directory: Path
    precisions: Mapping[str, Precision]  # by graph
    elsewhere: Mapping[str, Path] = field(default_factory=dict)
    """Directories of those graphs that lie in another one: a codec that is published on its own."""

    def graph(self, graph: str) -> Path:
        """Path of a graph."""
        directory = self.elsewhere.get(graph, self.directory)
        return directory / graph_file(graph, self.precisions[graph])

    def sidecars(self, graph: str) -> list[Path]:
        """The files of a graph's weights: `<its name>_data`, then `_data_1` and so on."""
        path = self.graph(graph)
        beside = path.parent.glob(f"{path.name}_data*")
        return sorted(one for one in beside if SHARD.fullmatch(one.name.removeprefix(path.name)))

    @property
    def tokenizer(self) -> Path:
        """Path of the tokenizer."""
        return self.directory / TOKENIZER_FILE

    def config(self) -> dict[str, Any]:
        """`config.json`; empty when it is missing."""
        return self._json("config.json")

    def generation_config(self) -> dict[str, Any]:
        """`generation_config.json`; empty when it is missing."""
        return self._json("generation_config.json")

    def _json(self, name: str) -> dict[str, Any]:
        try:
            value = json.loads(read_text_file(self.directory / name))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as fault:
            raise ModelError(f"{self.directory / name} cannot be read: {fault}") from None
        return value if isinstance(value, dict) else {}

    def check(self) -> None:
        """Raise ModelError, naming the first file that is missing, cut short or no ONNX."""
        if not self.tokenizer.is_file():
            raise ModelError(f"{self.tokenizer} is missing")
        for graph in self.precisions:
            check_graph(self.graph(graph))

    def fingerprint(self, graph: str) -> str:
        """16 hex digits that change when the graph or its weights do: SHA-256 over the graph, each
        sidecar's size and sixteen blocks spread over it (a sidecar can be a gigabyte)."""
        digest = hashlib.sha256(self.graph(graph).read_bytes())
        for sidecar in self.sidecars(graph):
            size = sidecar.stat().st_size
            digest.update(str(size).encode())
            with sidecar.open("rb") as data:
                for block in range(FINGERPRINT_BLOCKS):
                    data.seek(size * block // FINGERPRINT_BLOCKS)
                    digest.update(data.read(FINGERPRINT_BLOCK_BYTES))
        return digest.hexdigest()[:16]


def check_graph(path: Path) -> None:
    """Raise ModelError unless `path` is an ONNX graph whose external data is all there."""
    if not path.is_file():
        raise ModelError(f"{path} is missing")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception:  # noqa: BLE001 - protobuf raises its own kinds for a file that is not ONNX
        model = onnx.ModelProto()
    if not model.graph.node:
        raise ModelError(f"{path} is not an ONNX file; delete it and start again")
    try:
        needed = _external_bytes(model)
    except ModelError as fault:
        raise ModelError(f"{path} cannot be loaded: {fault}") from None
    for name, size in needed.items():
        data = path.parent / name
        if not data.is_file():
            raise ModelError(f"{data} is missing")
        if (there := data.stat().st_size) < size:
            raise ModelError(
                f"{data} has {there} bytes where {path.name} needs {size}; "
                "delete it and start again"
            )


def graph_sources(path: Path) -> list[Path]:
    """A graph and the files that hold its weights. Raises ModelError where it names none that could
    be read."""
    model = onnx.load(str(path), load_external_data=False)
    return [path, *(path.parent / name for name in sorted(_external_bytes(model)))]


def _external_bytes(model: onnx.ModelProto) -> dict[str, int]:
    """For each external data file of a graph: the least size it must have."""
    needed: dict[str, int] = {}
    for tensor in filter(is_external, model.graph.initializer):
        place = ExternalData.of(tensor)
        end = place.offset + (place.length or 0)
        needed[place.location] = max(needed.get(place.location, 0), end)
    return needed


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
        outside = path.is_absolute() or ".." in path.parts or PureWindowsPath(location).drive
        if not location or outside or "\0" in location:
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


def readable_graph(
    source: Path | bytes, weights_in: Path | None
) -> tuple[str | bytes, Path | None]:
    """A graph as onnxruntime can read it, and the folder of its weights where that is not the
    graph's own. It reads none through a link that leaves the folder: where there are links, the
    graph names its weights by their true paths, below the folder that all of them are in."""
    folder = weights_in or (source.parent if isinstance(source, Path) else None)
    if folder is None or not any(entry.is_symlink() for entry in folder.iterdir()):
        return (str(source) if isinstance(source, Path) else source), weights_in
    model = onnx.load_from_string(source.read_bytes() if isinstance(source, Path) else source)
    tensors = list(filter(is_external, model.graph.initializer))
    locations = {ExternalData.of(tensor).location for tensor in tensors}
    paths = {location: (folder / location).resolve() for location in locations}
    if paths:
        folder = Path(os.path.commonpath([path.parent for path in paths.values()]))
    for tensor in tensors:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = paths[entry.value].relative_to(folder).as_posix()
    return model.SerializeToString(), folder
