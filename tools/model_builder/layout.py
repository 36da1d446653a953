"""Writes the files besides the graphs, as on the hub: tokenizer and settings.

The tokenizer has GPT-2's structure without merges: each byte is a token.
"""

import json
from pathlib import Path
from typing import Any

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.families.turbo.spec import START_CODE, STOP_CODE
from tools.model_builder.language_model import LanguageModelSize

END_OF_TEXT = "<|endoftext|>"
TAGS = (
    "[angry]",
    "[fear]",
    "[surprised]",
    "[whispering]",
    "[advertisement]",
    "[dramatic]",
    "[narration]",
    "[crying]",
    "[happy]",
    "[sarcastic]",
    "[clear throat]",
    "[sigh]",
    "[shush]",
    "[cough]",
    "[groan]",
    "[sniff]",
    "[gasp]",
    "[chuckle]",
    "[laugh]",
)
"""The published tokenizer's tags, in its order of ids."""
BYTES = 256
MAX_TEXT_TOKENS = 1024  # GPT-2's


def text_ids(end_id: int) -> int:
    """Rows of a text table whose tags follow the end id."""
    return end_id + 1 + len(TAGS)


def write_layout(directory: Path, size: LanguageModelSize, end_id: int, model_name: str) -> None:
    """Write the five files of the directory's root."""
    directory.mkdir(parents=True, exist_ok=True)
    files = {
        "config.json": _config(size, end_id, model_name),
        "generation_config.json": _generation(),
        "preprocessor_config.json": _preprocessor(),
        "tokenizer_config.json": _tokenizer_config(end_id),
        "tokenizer.json": _tokenizer(end_id),
    }
    for name, content in files.items():
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (directory / name).write_text(text, encoding="utf-8")


def _config(size: LanguageModelSize, end_id: int, model_name: str) -> dict[str, Any]:
    return {
        "architectures": ["ChatterboxModel"],
        "model_type": "chatterbox",
        "_name_or_path": model_name,
        "activation_function": "gelu_new",
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "head_dim": size.head_dim,
        "n_inner": size.inner,
        "n_positions": size.positions,
        "text_vocab_size": text_ids(end_id),
        "vocab_size": size.vocab,
    }


def _generation() -> dict[str, Any]:
    return {
        "bos_token_id": START_CODE,
        "eos_token_id": STOP_CODE,
        "do_sample": True,
        "temperature": 0.8,
        "top_k": 1000,
        "top_p": 0.95,
        "repetition_penalty": 1.2,
        "max_new_tokens": 1000,
    }


def _preprocessor() -> dict[str, Any]:
    return {
        "feature_extractor_type": "ChatterboxFeatureExtractor",
        "feature_size": 1,
        "sampling_rate": SAMPLE_RATE_HZ,
        "padding_value": 0.0,
        "return_attention_mask": False,
    }


def _added_tokens(end_id: int) -> list[dict[str, Any]]:
    return [
        {
            "id": end_id + place,
            "content": content,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": place == 0,
        }
        for place, content in enumerate((END_OF_TEXT, *TAGS))
    ]


def _tokenizer_config(end_id: int) -> dict[str, Any]:
    added = {str(token.pop("id")): token for token in _added_tokens(end_id)}
    return {
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "unk_token": END_OF_TEXT,
        "model_max_length": MAX_TEXT_TOKENS,
        "tokenizer_class": "GPT2Tokenizer",
    }


def _tokenizer(end_id: int) -> dict[str, Any]:
    end = {"SpecialToken": {"id": END_OF_TEXT, "type_id": 0}}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    vocabulary = {symbol: byte for byte, symbol in enumerate(byte_symbols())}
    # Ids between the bytes and the end id exist only in a model with the published vocabulary.
    vocabulary |= {f"<unused {i}>": i for i in range(BYTES, end_id)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(end_id),
        "normalizer": None,
        "pre_tokenizer": byte_level | {"use_regex": True},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, end, end],
            "pair": [
                {"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 0}},
                end,
                end,
            ],
            "special_tokens": {
                END_OF_TEXT: {"id": END_OF_TEXT, "ids": [end_id], "tokens": [END_OF_TEXT]}
            },
        },
        "decoder": byte_level | {"use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": [],
        },
    }


def byte_symbols() -> list[str]:
    """GPT-2's printable symbol for each byte: itself where it is one, else from U+0100 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    symbols, spare = [], BYTES
    for byte in range(BYTES):
        if byte in printable:
            symbols.append(chr(byte))
        else:
            symbols.append(chr(spare))
            spare += 1
    return symbols
