"""Loads the authors' T3 with random weights and exports it with `torch.onnx`.

Needs requirements-torch.txt and the unpacked source of `chatterbox-tts` (`pip download --no-deps
chatterbox-tts`, then unzip). Their package has our package's name, so it is loaded under another.
"""

import importlib
import sys
import types
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np

from chatterbox.compile.lm.weights import Layer, Linear, Norm, Transformer
from chatterbox.runtime.quantized_weights import Dense

ALIAS = "chatterbox_authors"
TEXT_IDS = 50276
SPEECH_IDS = 6563
PROMPT_CODES = 375
SPEAKER_WIDTH = 256
TORCHSCRIPT_OPSET = 17
DYNAMO_OPSET = 18

Exporter = Literal["torchscript", "dynamo"]


def load_t3(source: Path, *, layers: int = 24, seed: int = 0) -> Any:
    """The authors' T3 as Turbo sets it up, with random weights. `source`: the directory that holds
    their `chatterbox` package."""
    import torch

    package = types.ModuleType(ALIAS)
    package.__path__ = [str(source / "chatterbox")]
    sys.modules[ALIAS] = package
    t3 = importlib.import_module(f"{ALIAS}.models.t3.t3")
    settings = importlib.import_module(f"{ALIAS}.models.t3.modules.t3_config")
    configs = importlib.import_module(f"{ALIAS}.models.t3.llama_configs")
    configs.LLAMA_CONFIGS["GPT2_medium"]["n_layer"] = layers
    hp = settings.T3Config(text_tokens_dict_size=TEXT_IDS)
    hp.llama_config_name = "GPT2_medium"
    hp.speech_tokens_dict_size = SPEECH_IDS
    hp.input_pos_emb = None
    hp.speech_cond_prompt_len = PROMPT_CODES
    hp.use_perceiver_resampler = False
    hp.emotion_adv = False
    model = t3.T3(hp)
    del model.tfmr.wte
    _randomise(model, torch.Generator().manual_seed(seed))
    return model.eval()


def _randomise(model: Any, generator: Any) -> None:
    """Weights whose outputs are as large as their inputs: freshly built GPT-2 attends to all
    positions alike, and would hide a wrong one."""
    import torch

    with torch.no_grad():
        for name, values in model.named_parameters():
            noise = torch.randn(values.shape, generator=generator)
            if values.dim() == 2 and "emb" not in name and "wpe" not in name:
                conv = ".c_" in name  # GPT-2's Conv1D stores [inputs, outputs]
                values.copy_(noise / values.shape[0 if conv else 1] ** 0.5)
            elif values.dim() == 2:
                values.copy_(0.5 * noise)
            else:
                values.copy_(0.1 * noise + (1.0 if "ln_" in name and "weight" in name else 0.0))


def conditioning(t3: Any, seed: int) -> tuple[Any, Any]:
    """A random voice's conditioning object and its rows [376, hidden]."""
    import torch

    cond_enc = importlib.import_module(f"{ALIAS}.models.t3.modules.cond_enc")
    generator = torch.Generator().manual_seed(seed)
    cond = cond_enc.T3Cond(
        speaker_emb=torch.randn(1, SPEAKER_WIDTH, generator=generator),
        cond_prompt_speech_tokens=torch.randint(0, 6561, (1, PROMPT_CODES), generator=generator),
    )
    with torch.no_grad():
        rows = t3.prepare_conditioning(cond)[0].numpy()
    return cond, rows


def weights_of(t3: Any) -> Transformer:
    """T3's weights as the tuner's value type."""
    state = {name: values.detach().numpy() for name, values in t3.state_dict().items()}

    def linear(name: str) -> Linear:
        return Linear(Dense(state[f"{name}.weight"]), state[f"{name}.bias"])

    def norm(name: str) -> Norm:
        return Norm(state[f"{name}.weight"], state[f"{name}.bias"], t3.cfg.layer_norm_epsilon)

    layers = []
    for index in range(t3.cfg.n_layer):
        name = f"tfmr.h.{index}"
        layers.append(
            Layer(
                norm(f"{name}.ln_1"),
                linear(f"{name}.attn.c_attn"),
                linear(f"{name}.attn.c_proj"),
                norm(f"{name}.ln_2"),
                linear(f"{name}.mlp.c_fc"),
                linear(f"{name}.mlp.c_proj"),
            )
        )
    head = state["speech_head.weight"].T
    return Transformer(
        positions=state["tfmr.wpe.weight"],
        layers=tuple(layers),
        norm=norm("tfmr.ln_f"),
        head=Linear(Dense(np.ascontiguousarray(head)), state["speech_head.bias"]),
        heads=t3.cfg.n_head,
        kv_heads=t3.cfg.n_head,
        head_dim=t3.cfg.n_embd // t3.cfg.n_head,
        activation="tanh",
    )


def export(t3: Any, exporter: Exporter, directory: Path) -> Path:
    """Export to the published contract: `<directory>/language_model.onnx` and external data."""
    import torch

    model = _contract_module(t3)
    layers, heads = t3.cfg.n_layer, t3.cfg.n_head
    head_dim = t3.cfg.n_embd // heads
    batch, new, past = 2, 3, 5
    caches = [torch.randn(batch, heads, past, head_dim) for _ in range(2 * layers)]
    mask = torch.ones(batch, past + new, dtype=torch.int64)
    positions = torch.arange(past, past + new)[None].repeat(batch, 1)
    given = (torch.randn(batch, new, t3.cfg.n_embd), mask, positions, caches)
    pasts = [f"past_key_values.{i}.{kind}" for i in range(layers) for kind in ("key", "value")]
    presents = [name.replace("past_key_values", "present") for name in pasts]
    names = {
        "input_names": ["inputs_embeds", "attention_mask", "position_ids", *pasts],
        "output_names": ["logits", *presents],
    }
    path = directory / "language_model.onnx"
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "torchscript":
            axes = {name: {0: "batch", 1: "sequence"} for name in names["input_names"][:3]}
            axes["attention_mask"] = {0: "batch", 1: "total"}
            axes |= {name: {0: "batch", 2: "past"} for name in pasts}
            axes |= {name: {0: "batch", 2: "total"} for name in presents}
            axes["logits"] = {0: "batch", 1: "sequence"}
            torch.onnx.export(
                model,
                given,
                str(path),
                **names,
                dynamic_axes=axes,
                opset_version=TORCHSCRIPT_OPSET,
                dynamo=False,
            )
        else:
            free = torch.export.Dim.DYNAMIC
            two = {0: free, 1: free}
            shapes = (two, two, two, [{0: free, 2: free}] * len(caches))
            program = torch.onnx.export(
                model,
                given,
                **names,
                dynamic_shapes=shapes,
                opset_version=DYNAMO_OPSET,
                dynamo=True,
                verbose=False,
            )
            program.save(str(path), external_data=True)
    return path


def _contract_module(t3: Any) -> Any:
    import torch
    from transformers import DynamicCache

    class Contract(torch.nn.Module):
        """T3's transformer and speech head behind the published inputs and outputs."""

        def __init__(self) -> None:
            super().__init__()
            self.tfmr = t3.tfmr
            self.head = t3.speech_head

        def forward(self, embeds: Any, mask: Any, positions: Any, past: list[Any]) -> Any:
            cache = DynamicCache()
            for place in range(0, len(past), 2):
                cache.update(past[place], past[place + 1], place // 2)
            hidden = self.tfmr(
                inputs_embeds=embeds,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            )[0]
            caches = [kind for layer in cache.layers for kind in (layer.keys, layer.values)]
            return self.head(hidden), *caches

    return Contract().eval()
