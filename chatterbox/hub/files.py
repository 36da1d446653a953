"""Model files on disk in the hub's layout, with checks that they are complete.

Symbolic links are followed, because hub caches and deduplicated disks use them. A path inside a
graph file must stay in the graph's directory.
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
"""Suffix of a graph's file name by precision, as transformers.js names them."""
SIDECAR_SUFFIX = re.compile(r"_data(_\d+)?")
TOKENIZER_FILE = "tokenizer.json"
FINGERPRINT_BLOCK_BYTES = 64 * 1024
FINGERPRINT_BLOCKS = 16


@dataclass(frozen=True, slots=True)
class Graph:
    """A published graph: `onnx/<name><suffix>.onnx` and the weight files beside it."""

    name: str
    setting: str  # field of TTSConfig with the precision of this graph
    automatic: Mapping[str, Precision | tuple[Precision, ...]]
    """Default precisions by device ("cpu" or "cuda"): the first that is published is used."""
    precisions: tuple[Precision, ...] = PRECISIONS  # precisions of acceptable quality
    optional: bool = False  # skipped if the file does not exist


@dataclass(frozen=True, slots=True)
class Repository:
    """A hub repository, or a directory with the same layout, that holds files of a family."""

    graphs: tuple[Graph, ...]
    files: tuple[str, ...] = ()  # required files other than graphs
    optional_files: tuple[str, ...] = ()  # skipped if they do not exist
    hub_id: str = ""  # set if all models of the family share the repository, as with a codec
    revision: str = "main"
    folder: str = ""  # a model's subdirectory that, if present, replaces the repository


@dataclass(frozen=True, slots=True)
class FamilyFiles:
    """The published files and the model names of a family."""

    family: str  # the folder of `families/`
    model_types: frozenset[str]  # `model_type` in `config.json`, in lower case
    repositories: tuple[Repository, ...]  # the model's own repository first
    models: Mapping[str, tuple[str, str]]  # CHATTERBOX_MODEL → hub id and revision


def graph_file(graph: str, precision: Precision) -> str:
    """Return `onnx/<graph><suffix>.onnx`, the path relative to the model's directory."""
    return f"onnx/{graph}{PRECISION_SUFFIX[precision]}.onnx"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model's directory and the precision of each of its graphs."""

    directory: Path
    precisions: Mapping[str, Precision]  # by graph
    elsewhere: Mapping[str, Path] = field(default_factory=dict)
    """Directories of graphs outside `directory`, such as a codec's that is published separately."""

    def graph(self, graph: str) -> Path:
        directory = self.elsewhere.get(graph, self.directory)
        return directory / graph_file(graph, self.precisions[graph])

    def sidecars(self, graph: str) -> list[Path]:
        """Return the weight files of a graph: `<graph file>_data`, `<graph file>_data_1`, …"""
        path = self.graph(graph)
        files = path.parent.glob(f"{path.name}_data*")
        return sorted(f for f in files if SIDECAR_SUFFIX.fullmatch(f.name.removeprefix(path.name)))

    @property
    def tokenizer(self) -> Path:
        return self.directory / TOKENIZER_FILE

    def config(self) -> dict[str, Any]:
        """Return the content of `config.json`; empty if the file is missing."""
        return self._json("config.json")

    def generation_config(self) -> dict[str, Any]:
        """Return the content of `generation_config.json`; empty if the file is missing."""
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
        """Raise ModelError for the first file that is missing, truncated or not an ONNX file."""
        if not self.tokenizer.is_file():
            raise ModelError(f"{self.tokenizer} is missing")
        for graph in self.precisions:
            check_graph(self.graph(graph))

    def fingerprint(self, graph: str) -> str:
        """Return 16 hex digits that identify the graph and its weights. They are a SHA-256 of the
        graph and, since weights can have gigabytes, each sidecar's size and FINGERPRINT_BLOCKS of
        its blocks."""
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
    """Raise ModelError unless `path` is an ONNX graph with complete external data."""
    if not path.is_file():
        raise ModelError(f"{path} is missing")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception:  # noqa: BLE001 - protobuf raises its own exceptions for invalid files
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
        if (actual := data.stat().st_size) < size:
            raise ModelError(
                f"{data} has {actual} bytes but {path.name} needs {size}; delete it and start again"
            )


def graph_sources(path: Path) -> list[Path]:
    """Return a graph's file and its weight files. Raises ModelError if a weight file's path is
    invalid."""
    model = onnx.load(str(path), load_external_data=False)
    return [path, *(path.parent / name for name in sorted(_external_bytes(model)))]


def _external_bytes(model: onnx.ModelProto) -> dict[str, int]:
    """Return the minimum size of each external data file of a graph."""
    needed: dict[str, int] = {}
    for tensor in filter(is_external, model.graph.initializer):
        data = ExternalData.of(tensor)
        end = data.offset + (data.length or 0)
        needed[data.location] = max(needed.get(data.location, 0), end)
    return needed


@dataclass(frozen=True, slots=True)
class ExternalData:
    """Location of a tensor's bytes in an external file."""

    location: str  # relative to the graph's directory
    offset: int
    length: int | None  # None: to the end of the file

    @classmethod
    def of(cls, tensor: onnx.TensorProto) -> "ExternalData":
        """Read the location from `tensor`. Raises ModelError if the location is malformed or
        outside the graph's directory."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        path = PurePosixPath(location.replace("\\", "/"))
        outside = path.is_absolute() or ".." in path.parts or PureWindowsPath(location).drive
        if not location or outside or "\0" in location:
            raise ModelError(f"its weights are in {location!r}, not in its own directory")
        numbers = [entries.get("offset", "0"), entries.get("length", "0")]
        if not all(number.isascii() and number.isdigit() for number in numbers):
            raise ModelError(f"the offset or length of the weights {tensor.name!r} is invalid")
        return cls(location, int(numbers[0]), int(numbers[1]) if "length" in entries else None)


def is_external(tensor: onnx.TensorProto) -> bool:
    """Return whether a tensor's bytes are in an external file."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def read_external_bytes(tensor: onnx.TensorProto, folder: Path) -> bytes:
    """Return the bytes of an external tensor of a graph in `folder`."""
    data = ExternalData.of(tensor)
    with (folder / data.location).open("rb") as file:
        file.seek(data.offset)
        return file.read(-1 if data.length is None else data.length)


def readable_graph(
    source: Path | bytes, weights_in: Path | None
) -> tuple[str | bytes, Path | None]:
    """Return a graph that onnxruntime can load, and the folder of its weights if that is not the
    graph's own folder.

    onnxruntime refuses weights behind a symbolic link that leaves the folder. If the folder has
    links, the returned graph refers to the real paths, relative to their common parent.
    """
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
