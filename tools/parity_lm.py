"""Compares our language model with the authors' T3, step by step.

    python tools/parity_lm.py --authors authors [--layers 24] [--steps 200] [--json FILE]

The authors' code (PyTorch, random weights) decodes conditioning, text and start with forced codes;
its exports and a hand-built graph of the same weights, each compiled, must give its logits at every
step. Then: the cached prefix against none, and a ragged batch against each row alone. Needs
requirements-torch.txt; full size takes 12 GB of disk under --directory and ten minutes.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import chatterbox.runtime  # noqa: F401 - silences telemetry before onnxruntime is imported
from chatterbox.arrays import F32, I64
from chatterbox.compile.lm.compiler import CompiledGraph, compile_lm
from chatterbox.compile.lm.equivalence import Deviation, compare
from chatterbox.families.base import Voice
from chatterbox.families.turbo.spec import START_CODE
from chatterbox.families.turbo.voice import VoiceTensors
from chatterbox.hub.files import PRECISIONS, Precision
from chatterbox.runtime.embedding import HostEmbedder
from chatterbox.runtime.kv_slots import PrefixedPrompt, SlottedLanguageModel
from chatterbox.runtime.sessions import SessionSettings, open_session
from tools.stock_forms import authors
from tools.stock_forms.convert import convert
from tools.stock_forms.plain import Form, write_plain

TEXT_IDS = 40
CACHE_BYTES = 1 << 30
Row = dict[str, Any]


def authors_logits(t3: Any, seed: int, text: I64, codes: I64) -> tuple[F32, F32]:
    """Their conditioning rows, and their logits after the prompt and after each forced code."""
    import torch

    cond, rows = authors.conditioning(t3, seed)
    start = torch.full((1, 1), t3.hp.start_speech_token)
    logits = []
    with torch.inference_mode():
        embeds, _ = t3.prepare_input_embeds(
            t3_cond=cond,
            text_tokens=torch.from_numpy(text)[None],
            speech_tokens=torch.cat([start, start], dim=1),  # as the published embedding has it
        )
        out = t3.tfmr(inputs_embeds=embeds, use_cache=True)
        for code in [None, *codes]:
            if code is not None:
                embeds = t3.speech_emb(torch.tensor([[code]]))
                out = t3.tfmr(
                    inputs_embeds=embeds, past_key_values=out.past_key_values, use_cache=True
                )
            logits.append(t3.speech_head(out[0][:, -1])[0].numpy())
    return rows, np.stack(logits)


class Parity:
    """One set of weights, seen from all sides."""

    def __init__(self, t3: Any, directory: Path, steps: int, threads: int) -> None:
        rng = np.random.default_rng(3)
        self._t3 = t3
        self._directory = directory
        self._settings = SessionSettings("cpu", threads, {})
        self._text = rng.integers(0, authors.TEXT_IDS, TEXT_IDS)
        self._ids = np.append(self._text, [0, 0])  # the two ends, which become start codes
        self._codes = rng.integers(0, 6561, steps)
        rows, self._expected = authors_logits(t3, 0, self._text, self._codes)
        nothing = np.zeros((0, 0), np.float32)
        tensors = VoiceTensors(rows, np.zeros(0, np.int64), nothing, nothing)
        self._voice = Voice("authors", tensors)
        tables = (t3.text_emb.weight, t3.speech_emb.weight)
        self._embed = HostEmbedder(*(table.detach().numpy() for table in tables), start=START_CODE)
        self.rows: list[Row] = []

    def forms(self, precisions: list[Precision]) -> None:
        """Every stock form of these weights, compiled, against the authors' logits."""
        for form in ("plain", "torchscript", "dynamo"):
            folder = self._directory / form
            folder.mkdir(parents=True, exist_ok=True)
            model = authors.weights_of(self._t3)
            exported = None if form == "plain" else authors.export(self._t3, form, folder)
            for precision in precisions:
                if exported is None:
                    path = write_plain(model, Form(precision), folder)
                elif precision == "fp32":
                    path = exported
                else:
                    path = convert(exported, precision, folder)
                self._form(form, precision, path)

    def _form(self, form: str, precision: Precision, path: Path) -> None:
        result = compile_lm(path, precision, self._directory / "compiled", self._settings)
        assert isinstance(result, CompiledGraph), f"{form} {precision}: {result}"
        self._note(f"{form} {precision}: stock to compiled, exact", result.exact)
        self._note(f"{form} {precision}: stock to compiled, as served", result.served)
        model = self._model(result.path, CACHE_BYTES)
        self._note(
            f"{form} {precision}: authors to compiled", compare(self._expected, self._run(model))
        )

    def company(self) -> None:
        """Prefix cache and batch, on the compiled fp32 form."""
        path = compile_lm(
            self._directory / "plain" / "language_model.onnx",
            "fp32",
            self._directory / "compiled",
            self._settings,
        )
        assert isinstance(path, CompiledGraph)
        alone = self._run(self._model(path.path, 0))
        cached = self._model(path.path, CACHE_BYTES)
        cached.cache_prefix(self._prompt(self._ids))
        self._note("prefix cache to none", compare(alone, self._run(cached)))
        self._note("ragged batch to alone", compare(alone, self._run(cached, company=True)))

    def _model(self, path: Path, cache_bytes: int) -> SlottedLanguageModel:
        capacity = len(self._voice.data.features) + len(self._ids) + len(self._codes) + 8
        return SlottedLanguageModel(
            open_session(path, self._settings),
            self._embed,
            slots=4,
            capacity=capacity,
            prefix_cache_bytes=cache_bytes,
        )

    def _run(self, model: SlottedLanguageModel, *, company: bool = False) -> F32:
        """Forced decoding in slot 2; with company, shorter rows come and go beside it."""
        logits = [model.prefill(2, self._prompt(self._ids))]
        beside: list[int] = []
        for place, code in enumerate(self._codes):
            if company and place % 10 == 0:
                slot = (0, 1, 3)[place // 10 % 3]
                if slot in beside:
                    model.free(slot)
                    beside.remove(slot)
                else:
                    model.prefill(slot, self._prompt(self._ids[place % 30 :]))
                    beside.append(slot)
            codes = np.array([code] + [(code + slot) % 6561 for slot in beside])
            logits.append(model.decode([2, *beside], codes)[0].copy())
        return np.stack(logits)

    def _prompt(self, ids: I64) -> PrefixedPrompt:
        return PrefixedPrompt(self._voice.key, self._voice.data.features, ids)

    def _note(self, what: str, found: Deviation) -> None:
        self.rows.append({"what": what, "worst": found.worst, "argmax_share": found.argmax_share})
        print(
            f"{what:48} worst {found.worst:9.2e}  same argmax {found.argmax_share:6.1%}", flush=True
        )


def main() -> None:
    """Parse, run, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--authors", type=Path, required=True, help="unpacked chatterbox-tts")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--precision", default=",".join(PRECISIONS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--directory", type=Path, help="where graphs are written; default: temporary"
    )
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit(
            "torch is missing: pip install -r requirements-torch.txt, in an environment of its own"
        )
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as temporary:
        directory = given.directory or Path(temporary)
        t3 = authors.load_t3(given.authors, layers=given.layers)
        parity = Parity(t3, directory, given.steps, given.threads)
        parity.forms([p for p in PRECISIONS if p in given.precision.split(",")])
        parity.company()
    print("deviations in standard deviations of the expected logits")
    if given.json:
        given.json.write_text(json.dumps(parity.rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
