"""Compiled graphs on disk: `DATA_DIR/compiled/<hash>/`, each entry with a `manifest.json`.

The name of an entry is a hash of its identity: what it was made from (SHA-256 of the published
graph and its weights), with which settings, by which versions. Its manifest holds the identity, the
facts that the runtime needs, the proofs with their figures, and the SHA-256 of every file: all are
compared when an entry is opened, and one that differs is made again.
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
BEFORE = "tuned"  # where an earlier version kept its graphs
MANIFEST_FILE = "manifest.json"
TEMPORARY_PREFIX = ".writing-"
STALE_S = 3600.0  # a temporary directory this old was left by a process that died
HASH_DIGITS = 20
VECTOR_FLAGS = ("avx", "amx", "fma", "sve", "asimd", "i8mm")

Json = dict[str, Any]
Graphs = Mapping[str, Path | bytes]
"""By name, in files where they are kept; their weights may lie beside their source."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One compiled graph, or the reason why there is none, as it stands on disk."""

    folder: Path
    facts: Json
    proofs: Json


def identity(kind: str, sources: Sequence[Path], settings: Mapping[str, Any], version: int) -> Json:
    """What makes two compilations equal. `sources`: the published files, read to their end (about a
    second for each GB); `version`: of the compiler of this kind. What is proven for one processor
    may not hold for the next, whose 8-bit arithmetic is another."""
    versions = {"compiler": version, "onnxruntime": ort.__version__}
    hashes = {path.name: file_hash(path) for path in sources}
    made: Json = {"kind": kind, "source": hashes, "settings": settings, "versions": versions}
    made["processor"] = processor_features()
    plain: Json = json.loads(json.dumps(made))  # as it will be read back
    return plain


def processor_features() -> str:
    """The vector instructions that kernels are chosen by, as Linux names them; elsewhere the
    architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    said = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    vectors = {flag for flag in said.split() if flag.startswith(VECTOR_FLAGS)}
    return " ".join([platform.machine(), *sorted(vectors)])


def file_hash(path: Path) -> str:
    """SHA-256 of a file; links are followed, as model directories are often made of them."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class CompiledCache:
    """Finds entries and writes them."""

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir / DIRECTORY

    def folder(self, known_by: Json) -> Path:
        """Where the entry of this identity is, or would be."""
        return self._root / _digest(known_by)[:HASH_DIGITS]

    def find(self, known_by: Json) -> Entry | None:
        """The entry, once all of it is seen to be what was written; None: make it."""
        entry, folder = self._read(known_by), self.folder(known_by)
        if entry is None and folder.exists():
            log.warning(
                "the compiled graph in %s is damaged or was changed; making it again", folder
            )
        return entry

    def find_or_compile(
        self,
        known_by: Json,
        source: Path,
        compiled: Callable[[], tuple[Json, Json, Mapping[str, bytes]]],
    ) -> tuple[Json, Graphs]:
        """Facts and graphs of this identity, which `compiled` gives, with the proofs between, where
        there are none. A data directory that cannot be written costs no more than compiling again
        at the next start."""
        entry = self.find(known_by)
        if entry is not None:
            return entry.facts, {path.stem: path for path in entry.folder.glob("*.onnx")}
        facts, proofs, graphs = compiled()

        def fill(folder: Path) -> tuple[Json, Json]:
            for name, graph in graphs.items():
                (folder / f"{name}.onnx").write_bytes(graph)
            return facts, proofs

        try:
            self.write(known_by, source, fill)
        except OSError as fault:
            log.warning(
                "what is compiled of %s cannot be kept; each start compiles it again: %s",
                source.name,
                fault.strerror or fault,
            )
        return facts, graphs

    def _read(self, known_by: Json) -> Entry | None:
        folder = self.folder(known_by)
        manifest = _manifest(folder)
        try:
            ours = manifest["identity"] == known_by and manifest["digest"] == _digest(manifest)
            if ours and manifest["sha256"] == _hashes(folder):
                return Entry(folder, dict(manifest["facts"]), dict(manifest["proofs"]))
        except (OSError, LookupError, TypeError, ValueError):
            pass  # files or facts are missing
        return None

    def write(
        self, known_by: Json, source: Path, fill: Callable[[Path], tuple[Json, Json]]
    ) -> Entry:
        """Have `fill` write files into a folder and give facts and proofs, and put it in place at
        once. Raises OSError, and whatever `fill` does. What was made of the same `source` before it
        changed is dropped: nothing grows."""
        self._root.mkdir(parents=True, exist_ok=True)
        for left in self._root.glob(f"{TEMPORARY_PREFIX}*"):
            if time.time() - left.stat().st_mtime > STALE_S:
                shutil.rmtree(left, ignore_errors=True)
        shutil.rmtree(self._root.parent / BEFORE, ignore_errors=True)
        folder = self.folder(known_by)
        working = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=self._root))
        try:
            facts, proofs = fill(working)
            manifest: Json = {
                "identity": known_by,
                "made_from": str(source),
                "facts": facts,
                "proofs": proofs,
                "sha256": _hashes(working),
            }
            manifest["digest"] = _digest(manifest)
            (working / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            for path in [*working.iterdir(), working]:
                _sync(path)
            if self._read(known_by) is None:  # else another process was faster
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
    """What two compilations of one file have in common, of which the later one is kept."""
    try:
        known_by = manifest["identity"]
        same = [known_by[key] for key in ("kind", "settings", "processor")]
        return [manifest["made_from"], *same]
    except (LookupError, TypeError):
        return None


def _manifest(folder: Path) -> Json:
    try:
        value = json.loads(read_text_file(folder / MANIFEST_FILE))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _digest(values: Json) -> str:
    """SHA-256 of all but the digest itself: a manifest that was edited is noticed too."""
    others = {key: value for key, value in values.items() if key != "digest"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def _hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file but the manifest."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name != MANIFEST_FILE:
            with open_regular_file(path) as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _sync(path: Path) -> None:
    """Have the disk hold it before anything points to it."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
