"""Downloads model files from the hub: resumes broken downloads and checks sizes."""

import json
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from chatterbox.errors import ModelError, first_line
from chatterbox.hardening import read_text_file
from chatterbox.loading import report_progress

PROBE_TIMEOUT_S = 4.0
"""Longest wait for the hub, so that `auto` takes at most 5 s without a network."""
RECEIPT = ".complete.json"  # maps downloaded files to their sizes
MAX_SHARDS = 32
"""Most weight files of one graph: 64 GB at the hub's usual 2 GB per file."""

Notify = Callable[[str], None]
"""Shows a line to the operator."""


def local_directory(data_dir: Path, repository: str, revision: str) -> Path:
    """Return the directory of a hub model. It holds real files, not links into a cache."""
    return data_dir / "models" / repository.replace("/", "--") / revision


def complete(directory: Path, files: Sequence[str]) -> bool:
    """Return whether all `files`, and the weights of the graphs among them, are downloaded and have
    the sizes that the hub stated. A graph is downloaded after its weights."""
    sizes = _receipt(directory)
    names = [name for name in sizes if name.startswith(tuple(files))]
    return set(files) <= set(names) and all(
        (directory / name).is_file() and (directory / name).stat().st_size == sizes[name]
        for name in names
    )


def reachable(repository: str, revision: str) -> bool:
    """Return whether the hub answers for this repository within PROBE_TIMEOUT_S."""
    answered = threading.Event()

    def probe() -> None:
        from huggingface_hub import HfApi

        with suppress(Exception):  # offline, refused or unknown
            HfApi().model_info(repository, revision=revision, timeout=PROBE_TIMEOUT_S)
            answered.set()

    thread = threading.Thread(target=probe, name="hub-probe", daemon=True)
    thread.start()
    thread.join(PROBE_TIMEOUT_S)  # a name lookup can outlast the request's own timeout
    return answered.is_set()


def published(repository: str, revision: str, files: Sequence[str]) -> set[str]:
    """Return the `files` that the hub has; an empty set if the hub does not answer."""
    from huggingface_hub import HfApi

    try:
        return {info.path for info in HfApi().get_paths_info(repository, files, revision=revision)}
    except Exception:  # noqa: BLE001 - `fetch` reports the same problem
        return set()


def fetch(
    repository: str,
    revision: str,
    files: Sequence[str],
    directory: Path,
    notify: Notify,
    optional: Sequence[str] = (),
) -> None:
    """Download `files`, the `optional` files that the hub has, and the weights of all graphs among
    them into `directory`. Resumes an earlier download.

    Raises ModelError with one line if a file is unavailable or has the wrong size.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import GatedRepoError

    directory.mkdir(parents=True, exist_ok=True)
    wanted = [name for file in (*files, *optional) for name in (*_shards(file), file)]
    try:
        infos = HfApi().get_paths_info(repository, wanted, revision=revision)
        sizes = {info.path: info.size for info in infos if hasattr(info, "size")}
        if missing := [name for name in files if name not in sizes]:
            raise ModelError(f"{repository} has no {missing[0]} at revision {revision[:12]}")
        total_gb = sum(sizes.values()) / 1e9
        notify(f"Fetching {repository}: {len(sizes)} files, {total_gb:.1f} GB, into {directory}")
        present = {name for name in sizes if complete(directory, [name])}
        bar = _reporting_bar(sum(sizes[name] for name in present), sum(sizes.values()))
        for name in wanted:
            if name in sizes and name not in present:
                hf_hub_download(
                    repository, name, revision=revision, local_dir=directory, tqdm_class=bar
                )
                if (size := (directory / name).stat().st_size) != sizes[name]:
                    (directory / name).unlink()
                    raise ModelError(
                        f"{Path(name).name} arrived with {size} bytes instead of {sizes[name]}; "
                        "start again"
                    )
                receipt = json.dumps(_receipt(directory) | {name: sizes[name]}, indent=1)
                temporary = directory / (RECEIPT + ".tmp")
                temporary.write_text(receipt, encoding="utf-8")
                temporary.replace(directory / RECEIPT)
        report_progress("opening")
    except ModelError:
        raise
    except GatedRepoError:
        raise ModelError(
            f"{repository} is gated: accept its conditions on the hub and set HF_TOKEN"
        ) from None
    except Exception as fault:
        raise ModelError(f"{repository} could not be fetched: {first_line(fault)}") from fault


def _reporting_bar(present: int, total: int) -> type[Any]:
    """Return a progress bar class for `hf_hub_download` that also reports progress in bytes."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]
        received = present  # across all files

        def update(self, n: float | None = 1) -> bool | None:
            Bar.received += int(n or 0)
            detail = f"{Bar.received / 1e6:.0f} of {total / 1e6:.0f} MB"
            report_progress("downloading", detail, min(1.0, Bar.received / total))
            return super().update(n)

    return Bar


def _shards(file: str) -> list[str]:
    """Return the possible names of a graph's weight files; none for other files."""
    if not file.endswith(".onnx"):
        return []
    return [f"{file}_data", *(f"{file}_data_{n}" for n in range(1, MAX_SHARDS))]


def _receipt(directory: Path) -> dict[str, int]:
    try:
        value = json.loads(read_text_file(directory / RECEIPT))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
