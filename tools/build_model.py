"""Builds a model directory: `python tools/build_model.py made|random|convert|orpheus DIRECTORY …`

`tools/model_builder` writes the files.

    python tools/build_model.py made DIRECTORY
    python tools/build_model.py random DIRECTORY --precision fp32,q4
    python tools/build_model.py random DIRECTORY --layers 2 --heads 2 --inner 256 --stand-ins 0.125
    python tools/build_model.py convert DIRECTORY --of chatterbox/mini/model --precision q4
    python tools/build_model.py orpheus DIRECTORY --precision fp32,q4
    python tools/build_model.py orpheus DIRECTORY --full --layers 2 --precision fp16
"""

import argparse
import sys
from dataclasses import fields, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chatterbox.families.turbo.spec import END_OF_TEXT_ID, GRAPHS, STOP_CODE, GraphName
from chatterbox.hub.files import PRECISIONS, Precision
from tools.model_builder.convert import convert
from tools.model_builder.language_model import LanguageModelSize
from tools.model_builder.layout import BYTES
from tools.model_builder.made import write_made
from tools.model_builder.orpheus import SMALL, OrpheusSize, write_orpheus
from tools.model_builder.random_decoder import DecoderSize
from tools.model_builder.random_model import PUBLISHED_LANGUAGE_MODEL, ModelSize, write_random
from tools.model_builder.random_speech_encoder import EncoderSize
from tools.stock_forms.llama import LlamaSize


def main(arguments: list[str] | None = None) -> None:
    """Parse and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    made = kinds.add_parser("made", help="a tiny one for tests, with made weights")
    random = kinds.add_parser("random", help="any size, for benchmarks; default: the published one")
    converted = kinds.add_parser("convert", help="a model that is there in fp32, in others too")
    converted.add_argument("--of", type=Path, required=True, help="the directory with its fp32")
    orpheus = kinds.add_parser("orpheus", help="Orpheus with random weights, small unless --full")
    for kind in (made, random, converted, orpheus):
        kind.add_argument("directory", type=Path)
        kind.add_argument("--precision", type=_precisions, default=list(PRECISIONS))
    _add_sizes(random)
    _add_orpheus_sizes(orpheus)
    given = parser.parse_args(arguments)
    if given.kind == "made":
        write_made(given.directory, given.precision)
    elif given.kind == "convert":
        convert(given.of, given.directory, given.precision)
    elif given.kind == "orpheus":
        size = LlamaSize() if given.full else SMALL
        chosen = {f.name: getattr(given, f.name, None) for f in fields(size)}
        llama = replace(size, **{name: one for name, one in chosen.items() if one is not None})
        whole = OrpheusSize(llama, full_codec=given.full)
        write_orpheus(given.directory, whole, given.precision, given.seed, given.shard_bytes)
    else:
        write_random(given.directory, _size(given), given.precision, given.graphs, given.seed)


def _add_sizes(parser: argparse.ArgumentParser) -> None:
    full = PUBLISHED_LANGUAGE_MODEL
    parser.add_argument("--graphs", type=_graphs, default=list(GRAPHS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", type=int, default=full.layers)
    parser.add_argument("--heads", type=int, default=full.heads)
    parser.add_argument("--head-dim", type=int, default=full.head_dim)
    parser.add_argument("--inner", type=int, default=full.inner, help="feed-forward width")
    parser.add_argument("--positions", type=int, default=full.positions)
    parser.add_argument(
        "--end-id", type=int, default=END_OF_TEXT_ID, help=f"at least {BYTES}; 20 ids follow"
    )
    parser.add_argument(
        "--stand-ins", type=float, default=1.0, help="width of encoder and decoder, 1: published"
    )


def _add_orpheus_sizes(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(precision=["fp32"])
    parser.add_argument("--full", action="store_true", help="the published size, codec included")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shard-bytes", type=int, default=2_000_000_000, help="of a sidecar")
    for name in ("layers", "hidden", "heads", "kv-heads", "head-dim", "positions"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--ff", type=int, dest="inner", help="feed-forward width")


def _size(given: argparse.Namespace) -> ModelSize:
    return ModelSize(
        language_model=LanguageModelSize(
            layers=given.layers,
            heads=given.heads,
            head_dim=given.head_dim,
            inner=given.inner,
            positions=given.positions,
            vocab=STOP_CODE + 1,
        ),
        end_id=given.end_id,
        encoder=EncoderSize().scaled(given.stand_ins),
        decoder=DecoderSize().scaled(given.stand_ins),
    )


def _precisions(text: str) -> list[Precision]:
    return [name for name in PRECISIONS if name in _known(text, PRECISIONS)]


def _graphs(text: str) -> list[GraphName]:
    return [name for name in GRAPHS if name in _known(text, GRAPHS)]


def _known(text: str, names: tuple[str, ...]) -> list[str]:
    chosen = text.split(",")
    unknown = [name for name in chosen if name not in names]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(names)}")
    return chosen


if __name__ == "__main__":
    main()
