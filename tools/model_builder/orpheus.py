"""Writes a random Orpheus model in the hub's layout: a Llama, a tokenizer with the published ids,
and a small SNAC codec in `snac/`.

The tokenizer's text is bytes: no merges, so that a text has as many ids as bytes.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatterbox.hub.files import Precision
from tools.model_builder.layout import byte_symbols
from tools.model_builder.snac import write_snac
from tools.stock_forms.llama import LlamaSize, llama_config, random_llama, write_llama

BEGIN, END_OF_TEXT = 128000, 128009
CUSTOM, CUSTOM_COUNT = 128256, 28683  # `<custom_token_n>`
AUDIO = 156939
NAMED = {
    128000: "<|begin_of_text|>",
    128001: "<|end_of_text|>",
    128004: "<|finetune_right_pad_id|>",
    128006: "<|start_header_id|>",
    128007: "<|end_header_id|>",
    128008: "<|eom_id|>",
    128009: "<|eot_id|>",
    128010: "<|python_tag|>",
    AUDIO: "<|audio|>",
}
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Where Llama 3's tokenizer splits."""
SMALL = LlamaSize(layers=2, hidden=64, heads=2, kv_heads=1, head_dim=32, inner=128, positions=8192)


@dataclass(frozen=True, slots=True)
class OrpheusSize:
    """Dimensions of both models."""

    llama: LlamaSize = SMALL
    full_codec: bool = False


def write_orpheus(
    directory: Path,
    size: OrpheusSize,
    precisions: Iterable[Precision],
    seed: int = 0,
    shard_bytes: int = 2_000_000_000,
) -> None:
    """Write a model; every precision holds the same weights."""
    (directory / "onnx").mkdir(parents=True, exist_ok=True)
    files = {
        "config.json": llama_config(size.llama),
        "generation_config.json": {
            "bos_token_id": BEGIN,
            "eos_token_id": [128001, 128008, END_OF_TEXT],
            "do_sample": True,
            "temperature": 0.6,
            "top_p": 0.9,
        },
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": NAMED[BEGIN],
            "eos_token": NAMED[END_OF_TEXT],
            "model_max_length": 131072,
        },
    }
    for name, content in files.items():
        text = json.dumps(content, ensure_ascii=False, indent=None if "izer." in name else 2)
        (directory / name).write_text(text + "\n", encoding="utf-8")
    model = random_llama(size.llama, seed)
    for precision in precisions:
        write_llama(model, precision, directory / "onnx", shard_bytes)
    write_snac(directory / "snac", seed, small=not size.full_codec)


def special_tokens() -> dict[int, str]:
    """Every id that is no text, and how it is written."""
    reserved = {i: f"<|reserved_special_token_{i - BEGIN}|>" for i in range(BEGIN, CUSTOM)}
    custom = {CUSTOM + n: f"<custom_token_{n}>" for n in range(CUSTOM_COUNT)}
    return reserved | custom | NAMED


def tokenizer() -> dict[str, Any]:
    """`tokenizer.json`."""
    special = special_tokens()
    vocabulary = {symbol: byte for byte, symbol in enumerate(byte_symbols())}
    # Ids of added tokens count only where the model has them too.
    vocabulary |= {content: number for number, content in special.items()}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    begin = NAMED[BEGIN]
    first = {"SpecialToken": {"id": begin, "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    split = {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": content, **plain, "special": True}
            for number, content in sorted(special.items())
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [split, byte_level | {"use_regex": False}],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first, text],
            "pair": [first, text, first, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {begin: {"id": begin, "ids": [BEGIN], "tokens": [begin]}},
        },
        "decoder": byte_level | {"use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": vocabulary,
            "merges": [],
        },
    }
