"""The cache of compiled graphs in `DATA_DIR/compiled/<hash>/`.

An entry's name is a hash of its identity: the SHA-256 of the published graph and its weights, the
settings and the versions. Its `manifest.json` has the identity, the facts that the runtime needs,
the proofs with their figures, and the SHA-256 of every file. Opening an entry checks all of
this; an entry that fails a check is compiled again.
"""

import hashlib
import json
import logging
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from chatterbox.hardening import open_regular_file, read_text_file

log = logging.getLogger(__name__)

DIRECTORY = "compiled"  # below the data directory
OLD_DIRECTORY = "tuned"  # of an earlier version; removed
MANIFEST_FILE = "manifest.json"
TEMPORARY_PREFIX = ".writing-"
STALE_S = 3600.0  # age from which a temporary directory is removed: its process has died
HASH_DIGITS = 20
VECTOR_FLAGS = ("avx", "amx", "fma", "sve", "asimd", "i8mm")

Json = dict[str, Any]
Graphs = Mapping[str, Path | bytes]
"""Graphs by name: files, or models in memory; weights may be in files beside the source."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the cache: compiled graphs, or the reason why there are none."""

    folder: Path
    facts: Json
    proofs: Json


def identity(kind: str, sources: Sequence[Path], settings: Mapping[str, Any], version: int) -> Json:
    """Return the identity of a compilation; equal identities give equal graphs.

    `sources`: the published files, which are hashed in about a second per GB. `version`: of the
    compiler. The processor is included because 8-bit arithmetic differs between processors: a proof
    made on one processor may not hold on another.
    """
    versions = {"compiler": version, "onnxruntime": ort.__version__}
    hashes = {path.name: file_hash(path) for path in sources}
    key: Json = {"kind": kind, "source": hashes, "settings": settings, "versions": versions}
    key["processor"] = processor_features()
    plain: Json = json.loads(json.dumps(key))  # with the types of a manifest read from disk
    return plain


def processor_features() -> str:
    """Return the architecture and, on Linux, the vector instructions that select kernels."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    vectors = {flag for flag in flags.split() if flag.startswith(VECTOR_FLAGS)}
    return " ".join([platform.machine(), *sorted(vectors)])


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file. Follows links, which model directories often consist of."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class CompiledCache:
    """Finds and writes entries. Safe for several processes at once."""

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir / DIRECTORY

    def folder(self, key: Json) -> Path:
        """Return the folder of an identity's entry, which may not exist."""
        return self._root / _digest(key)[:HASH_DIGITS]

    def find(self, key: Json) -> Entry | None:
        """Return the entry if it is complete and unchanged, else None."""
        entry, folder = self._read(key), self.folder(key)
        if entry is None and folder.exists():
            log.warning(
                "the compiled graph in %s is damaged or was changed; making it again", folder
            )
        return entry

    def find_or_compile(
        self,
        key: Json,
        source: Path,
        compile_graphs: Callable[[], tuple[Json, Json, Mapping[str, bytes]]],
    ) -> tuple[Json, Graphs]:
        """Return facts and graphs of an identity, from the cache or compiled now.

        `compile_graphs` returns facts, proofs and graphs. If the data directory cannot be written,
        the next start compiles again.
        """
        entry = self.find(key)
        if entry is not None:
            return entry.facts, {path.stem: path for path in entry.folder.glob("*.onnx")}
        facts, proofs, graphs = compile_graphs()

        def fill(folder: Path) -> tuple[Json, Json]:
            for name, graph in graphs.items():
                (folder / f"{name}.onnx").write_bytes(graph)
            return facts, proofs

        try:
            self.write(key, source, fill)
        except OSError as fault:
            log.warning(
                "the graphs compiled from %s cannot be written; each start compiles them again: %s",
                source.name,
                fault.strerror or fault,
            )
        return facts, graphs

    def _read(self, key: Json) -> Entry | None:
        folder = self.folder(key)
        manifest = _manifest(folder)
        try:
            ours = manifest["identity"] == key and manifest["digest"] == _digest(manifest)
            if ours and manifest["sha256"] == _hashes(folder):
                return Entry(folder, dict(manifest["facts"]), dict(manifest["proofs"]))
        except (OSError, LookupError, TypeError, ValueError):
            pass  # files or facts are missing
        return None

    def write(self, key: Json, source: Path, fill: Callable[[Path], tuple[Json, Json]]) -> Entry:
        """Write an entry: `fill` writes files into a folder and returns facts and proofs.

        The folder is moved into place when it is complete. Entries from an earlier version of the
        same `source` are removed, so that the cache does not grow. Raises OSError, and whatever
        `fill` raises.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        for stale in self._root.glob(f"{TEMPORARY_PREFIX}*"):
            if time.time() - stale.stat().st_mtime > STALE_S:
                shutil.rmtree(stale, ignore_errors=True)
        shutil.rmtree(self._root.parent / OLD_DIRECTORY, ignore_errors=True)
        folder = self.folder(key)
        working = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=self._root))
        try:
            facts, proofs = fill(working)
            manifest: Json = {
                "identity": key,
                "made_from": str(source),
                "facts": facts,
                "proofs": proofs,
                "sha256": _hashes(working),
            }
            manifest["digest"] = _digest(manifest)
            (working / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            for path in [*working.iterdir(), working]:
                _sync(path)
            if self._read(key) is None:  # else another process was faster
                shutil.rmtree(folder, ignore_errors=True)
                working.rename(folder)
                _sync(self._root)
        finally:
            shutil.rmtree(working, ignore_errors=True)
        for other in self._root.iterdir():
            if other != folder and _purpose(_manifest(other)) == _purpose(manifest):
                shutil.rmtree(other, ignore_errors=True)
        return Entry(folder, facts, proofs)


def _purpose(manifest: Json) -> Any:
    """Return the key under which an entry replaces older entries; None for a damaged manifest."""
    try:
        identity = manifest["identity"]
        return [manifest["made_from"], *(identity[k] for k in ("kind", "settings", "processor"))]
    except (LookupError, TypeError):
        return None


def _manifest(folder: Path) -> Json:
    try:
        value = json.loads(read_text_file(folder / MANIFEST_FILE))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _digest(values: Json) -> str:
    """Return the SHA-256 of a manifest without its digest, which detects edited manifests."""
    others = {key: value for key, value in values.items() if key != "digest"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def _hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file except the manifest."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name != MANIFEST_FILE:
            with open_regular_file(path) as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
