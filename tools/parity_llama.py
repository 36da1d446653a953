"""Compares our language model with transformers' LlamaForCausalLM, step by step.

    python -m tools.parity_llama                    small
    python -m tools.parity_llama --full --layers 2  at full width, 8,000 ids
    python -m tools.parity_llama --write tests/families/orpheus/llama_transformers.npz

Needs requirements-torch.txt. Both get the same random weights and the same ids: a prompt, then
forced steps with a cache. Ours is the published form stepped in place, and compiled. `--write`
keeps what transformers says of the small one, for tests that run without PyTorch.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from chatterbox.arrays import F32, I64
from chatterbox.compile.lm.compiler import Embedding, compile_lm
from chatterbox.compile.lm.weights import Linear, SideBySide, Transformer
from chatterbox.runtime.compiled_lm import CompiledGraph, CompileOptions
from chatterbox.runtime.cuda_graphs import Buckets
from chatterbox.runtime.embedding import TokenIds
from chatterbox.runtime.kv_slots import PrefixedPrompt, SlottedLanguageModel
from chatterbox.runtime.masked_lm import MaskedShape
from chatterbox.runtime.quantized_weights import dense
from chatterbox.runtime.sessions import SessionSettings, open_session
from tools.stock_forms.llama import LlamaSize, llama_config, random_llama, write_llama

SMALL = LlamaSize(
    layers=2, hidden=64, heads=4, kv_heads=2, head_dim=32, inner=96, vocab=300, positions=512,
    original=64,  # so that some angles are scaled
)  # fmt: skip
PROMPT, STEPS = 90, 200
KEPT_STEPS = slice(0, None, 10)
CPU = SessionSettings("cpu", 2, {})


def forced_ids(size: LlamaSize) -> I64:
    """A prompt, and what is said after it."""
    return np.random.default_rng(1).integers(0, size.vocab, PROMPT + STEPS)


def state_of(model: Transformer) -> dict[str, Any]:
    """Weights under transformers' names."""
    import torch

    def tensor(values: Any) -> Any:
        return torch.from_numpy(np.ascontiguousarray(values, np.float32))

    def matrix(linear: Linear) -> Any:
        assert not isinstance(linear.weight, SideBySide)
        return dense(linear.weight).T

    state = {"model.embed_tokens": matrix(model.head), "lm_head": matrix(model.head)}
    state["model.norm"] = model.norm.gamma
    queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
    for index, layer in enumerate(model.layers):
        name, qkv = f"model.layers.{index}", matrix(layer.qkv)
        parts = np.split(qkv, [queries, queries + keys])
        for part, values in zip("qkv", parts, strict=True):
            state[f"{name}.self_attn.{part}_proj"] = values
        assert isinstance(layer.up.weight, SideBySide)
        for part, weight in zip(("gate", "up"), layer.up.weight.parts, strict=True):
            state[f"{name}.mlp.{part}_proj"] = dense(weight).T
        state[f"{name}.self_attn.o_proj"] = matrix(layer.out)
        state[f"{name}.mlp.down_proj"] = matrix(layer.down)
        state[f"{name}.input_layernorm"] = layer.norm_1.gamma
        state[f"{name}.post_attention_layernorm"] = layer.norm_2.gamma
    return {f"{name}.weight": tensor(values) for name, values in state.items()}


def theirs(size: LlamaSize, model: Transformer, ids: I64) -> F32:
    """[1 + STEPS, vocab]: after the prompt and after each step."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = llama_config(size) | dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    llama = LlamaForCausalLM(LlamaConfig(**config)).eval()
    llama.load_state_dict(state_of(model))
    pieces = [ids[:PROMPT], *ids[PROMPT:, None]]
    found, past = [], None
    with torch.no_grad():
        for piece in pieces:
            said = llama(torch.from_numpy(piece[None]), past_key_values=past, use_cache=True)
            past = said.past_key_values
            found.append(said.logits[0, -1].numpy())
    return np.stack(found)


def ours(size: LlamaSize, source: Path, cache: Path) -> dict[str, F32]:
    """The same, by form."""
    everything, ids = ((0, size.vocab),), TokenIds(0)
    session = open_session(source, CPU)
    shape = MaskedShape.read(session, everything, size.positions)
    how: dict[str, Any] = {"slots": 2, "capacity": PROMPT + STEPS, "prefix_cache_bytes": 0}
    buckets = Buckets(2, capture=False)
    models = {"published": SlottedLanguageModel(session, ids, shape=shape, buckets=buckets, **how)}
    options = CompileOptions(head=everything)
    made = compile_lm(
        source,
        "fp32",
        cache,
        CPU,
        options=options,
        embedding=Embedding(ids, size.vocab, frozenset()),
    )
    assert isinstance(made, CompiledGraph), made
    models["compiled"] = SlottedLanguageModel(open_session(made.path, CPU), ids, **how)
    forced = forced_ids(size)
    return {name: _forced(model, forced) for name, model in models.items()}


def _forced(model: SlottedLanguageModel, ids: I64) -> F32:
    logits = [model.prefill(1, PrefixedPrompt("", ids[:0], ids[:PROMPT]))]
    logits += [model.decode([1], ids[place : place + 1])[0] for place in range(PROMPT, len(ids))]
    return np.stack(logits)


def main() -> None:
    """Parse, run, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--full", action="store_true", help="the published width")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--write", type=Path, help="keep transformers' logits of the small one")
    given = parser.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit("torch is missing: pip install -r requirements-torch.txt, in an own environment")
    torch.set_num_threads(CPU.threads)
    size = replace(
        LlamaSize(vocab=8000, positions=8192) if given.full else SMALL, layers=given.layers
    )
    model = random_llama(size)
    expected = theirs(size, model, forced_ids(size))
    if given.write:
        np.savez_compressed(given.write, logits=expected[KEPT_STEPS])
    with tempfile.TemporaryDirectory() as folder:
        source = write_llama(model, "fp32", Path(folder))
        for name, found in ours(size, source, Path(folder) / "cache").items():
            worst = np.abs(found - expected).max()
            same = (found.argmax(axis=1) == expected.argmax(axis=1)).mean()
            print(
                f"{name:10} {size.layers} layers of {size.hidden}: logits at most {worst:.1e} apart"
                f" (they deviate by {expected.std():.2g}), same best {same:.1%}"
            )


if __name__ == "__main__":
    main()
