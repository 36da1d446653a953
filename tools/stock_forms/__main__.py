"""Writes published forms of language models to disk: `python -m tools.stock_forms DIRECTORY …`

    python -m tools.stock_forms forms --precision fp32,q4
    python -m tools.stock_forms forms --form torchscript,dynamo --authors authors

Writes `<directory>/<form>/language_model<suffix>.onnx` and sidecars; full size unless --layers says
otherwise. `genai` is the published files' form; `plain` spells attention out.
The exported forms need requirements-torch.txt.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import get_args

import chatterbox.runtime  # noqa: F401 - silences telemetry before onnxruntime is imported
from chatterbox.hub.files import PRECISIONS, Precision
from tools.stock_forms.authors import Exporter, export, load_t3
from tools.stock_forms.convert import convert
from tools.stock_forms.genai import write_genai
from tools.stock_forms.plain import Form, write_plain
from tools.stock_forms.weights import TURBO, random_model

FORMS = ("genai", "plain", *get_args(Exporter))


def build(
    form: str, precisions: list[Precision], directory: Path, layers: int, authors: Path | None
) -> dict[Precision, Path]:
    """One form in some precisions; the graphs' paths."""
    directory.mkdir(parents=True, exist_ok=True)
    if form in ("genai", "plain"):
        model = random_model(dataclasses.replace(TURBO, layers=layers))
        if form == "genai":
            return {p: write_genai(model, p, directory) for p in precisions}
        return {p: write_plain(model, Form(p), directory) for p in precisions}
    if authors is None:
        sys.exit(f"--form {form} needs --authors, the unpacked chatterbox-tts")
    exported = export(load_t3(authors, layers=layers), form, directory)
    return {p: exported if p == "fp32" else convert(exported, p, directory) for p in precisions}


def main() -> None:
    """Parse and build."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--form", default="genai", help=", ".join(FORMS))
    parser.add_argument("--precision", default=",".join(PRECISIONS))
    parser.add_argument("--layers", type=int, default=TURBO.layers)
    parser.add_argument("--authors", type=Path)
    given = parser.parse_args()
    for form in given.form.split(","):
        wanted = [p for p in PRECISIONS if p in given.precision.split(",")]
        folder = given.directory / form
        for precision, path in build(form, wanted, folder, given.layers, given.authors).items():
            size = (path.parent / (path.name + "_data")).stat().st_size if precision else 0
            print(f"{form:12} {precision:6} {size:>13,} bytes  {path}")


if __name__ == "__main__":
    main()
