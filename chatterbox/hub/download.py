"""Fetches the published files: once, resumed, checked; offline afterwards."""

import json
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from chatterbox.errors import ModelError, first_line
from chatterbox.hardening import read_text_file
from chatterbox.loading import report_progress

PROBE_S = 4.0
"""How long the hub gets to answer; so the whole decision stays under 5 s without a network."""
RECEIPT = ".complete.json"
MOST_SHARDS = 32
"""Of one graph's weights: 64 GB of them at the hub's usual 2 GB."""

Progress = Callable[[str], None]


def local_directory(data_dir: Path, repository: str, revision: str) -> Path:
    """Where a hub model lives: real files, no links into a cache."""
    return data_dir / "models" / repository.replace("/", "--") / revision


def complete(directory: Path, files: Sequence[str]) -> bool:
    """Whether all `files` have been fetched, and the weights of those that are graphs, and still
    have the sizes the hub gave. A graph is fetched after its weights."""
    sizes = _receipt(directory)
    kept = [name for name in sizes if name.startswith(tuple(files))]
    return set(files) <= set(kept) and all(
        (directory / name).is_file() and (directory / name).stat().st_size == sizes[name]
        for name in kept
    )


def reachable(repository: str, revision: str) -> bool:
    """Whether the hub answers for this repository within PROBE_S."""
    answered = threading.Event()

    def ask() -> None:
        from huggingface_hub import HfApi

        with suppress(Exception):  # offline, refused, unknown: all mean "not from there"
            HfApi().model_info(repository, revision=revision, timeout=PROBE_S)
            answered.set()

    thread = threading.Thread(target=ask, name="hub-probe", daemon=True)
    thread.start()
    thread.join(PROBE_S)  # a name lookup can hang longer than any timeout given to it
    return answered.is_set()


def published(repository: str, revision: str, files: Sequence[str]) -> set[str]:
    """Which of `files` the hub has; none where it cannot be asked."""
    from huggingface_hub import HfApi

    try:
        return {info.path for info in HfApi().get_paths_info(repository, files, revision=revision)}
    except Exception:  # noqa: BLE001 - offline, refused, unknown: `fetch` says so
        return set()


def fetch(
    repository: str,
    revision: str,
    files: Sequence[str],
    directory: Path,
    say: Progress,
    optional: Sequence[str] = (),
) -> None:
    """Bring `files`, those `optional` ones that the hub has, and the weights of all graphs among
    them into `directory`, going on where an earlier try broke off.

    Raises ModelError with one line when a file cannot be had or has the wrong size.
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
        say(f"Fetching {repository}: {len(sizes)} files, {total_gb:.1f} GB, into {directory}")
        there = {name for name in sizes if complete(directory, [name])}
        counted = _counting_bar(sum(sizes[name] for name in there), sum(sizes.values()))
        for name in wanted:
            if name in sizes and name not in there:
                hf_hub_download(
                    repository, name, revision=revision, local_dir=directory, tqdm_class=counted
                )
                if (came := (directory / name).stat().st_size) != sizes[name]:
                    (directory / name).unlink()
                    raise ModelError(
                        f"{Path(name).name} came with {came} bytes instead of {sizes[name]}; "
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
            f"{repository} is gated: accept its conditions on its page and set HF_TOKEN"
        ) from None
    except Exception as fault:
        raise ModelError(f"{repository} could not be fetched: {first_line(fault)}") from fault


def _counting_bar(there: int, total: int) -> type[Any]:
    """The hub's own kind of progress bar, which also tells how many bytes of all have come."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]
        came = there

        def update(self, n: float | None = 1) -> bool | None:
            Bar.came += int(n or 0)
            detail = f"{Bar.came / 1e6:.0f} of {total / 1e6:.0f} MB"
            report_progress("downloading", detail, min(1.0, Bar.came / total))
            return super().update(n)

    return Bar


def _shards(file: str) -> list[str]:
    """What the files of a graph's weights may be called."""
    if not file.endswith(".onnx"):
        return []
    return [f"{file}_data", *(f"{file}_data_{n}" for n in range(1, MOST_SHARDS))]


def _receipt(directory: Path) -> dict[str, int]:
    try:
        value = json.loads(read_text_file(directory / RECEIPT))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
