"""Builds and runs small hand-written graphs."""

from pathlib import Path
from typing import Any

import onnx
from onnx import parser
from tiny_decoder import opener


def model_of(text: str) -> onnx.ModelProto:
    head = '<ir_version: 9, opset_import: ["" : 18, "com.microsoft" : 1, "own" : 1]>\n'
    return parser.parse_model(head + text)


def run(model: onnx.ModelProto, feeds: dict[str, Any], folder: Path = Path()) -> list[Any]:
    return opener(folder)(model).run(None, feeds)
