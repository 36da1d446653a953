"""Runs the alternatives to this server: the model card's loop and the authors' PyTorch code.

Each speaks a given number of codes. The second one runs in a
process of its own (`python -m tools.bench_peers --authors DIR --codes N`), since it alone needs
PyTorch: one line in, one utterance, one line of JSON out.
"""

import argparse
import importlib
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from chatterbox.arrays import I64, SAMPLE_RATE_HZ
from chatterbox.families.turbo.spec import START_CODE
from chatterbox.families.turbo.voice import VoiceTensors
from chatterbox.hub.files import PRECISION_SUFFIX, Precision
from chatterbox.runtime.decoder.s3gen import CODE_COUNT, SILENCE_CODE

PENALTY = 1.2  # the card's script is greedy with this repetition penalty
TEXT_IDS = 30
PROMPT_CODES = 250
EULER_STEPS = 2


class CardLoop:
    """The model card's script on the published graphs: everything before the first sound."""

    def __init__(self, onnx: Path, precision: Precision, decoder: Precision, threads: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3

        def session(graph: str, kind: Precision) -> Any:
            path = onnx / f"{graph}{PRECISION_SUFFIX[kind]}.onnx"
            return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

        self._embed = session("embed_tokens", precision)
        self._model = session("language_model", precision)
        self._decoder = session("conditional_decoder", decoder)
        self._pasts = [i for i in self._model.get_inputs() if i.name.startswith("past_key")]

    def speak(self, ids: I64, voice: VoiceTensors, count: int) -> tuple[float, float]:
        """Seconds until the first sound, which is the whole, and seconds of sound."""
        began = time.perf_counter()
        codes = self._codes(ids, voice, count)
        tail = np.full(3, SILENCE_CODE)
        given = {
            "speech_tokens": np.concatenate([voice.prompt_codes, codes, tail])[None],
            "speaker_embeddings": voice.speaker[None],
            "speaker_features": voice.prompt_mel[None],
        }
        samples = self._decoder.run(["waveform"], given)[0]
        return time.perf_counter() - began, samples.shape[1] / SAMPLE_RATE_HZ

    def _codes(self, ids: I64, voice: VoiceTensors, count: int) -> I64:
        kind = np.float16 if self._pasts[0].type == "tensor(float16)" else np.float32
        _, heads, _, width = self._pasts[0].shape
        past = {i.name: np.zeros((1, heads, 0, width), kind) for i in self._pasts}
        text = self._embed.run(None, {"input_ids": ids[None]})[0]
        embeds = np.concatenate([voice.features[None], text], axis=1)
        seen, codes, length = {START_CODE}, [], 0
        while len(codes) < count:
            length += embeds.shape[1]
            logits, *present = self._model.run(
                None,
                {
                    "inputs_embeds": embeds,
                    "attention_mask": np.ones((1, length), np.int64),
                    "position_ids": np.arange(length - embeds.shape[1], length)[None],
                    **past,
                },
            )
            past = {i.name: values for i, values in zip(self._pasts, present, strict=True)}
            code = _greedy(logits[0, -1], seen)
            seen.add(code)
            codes.append(code)
            embeds = self._embed.run(None, {"input_ids": np.array([[code]])})[0]
        return np.array(codes)


def _greedy(logits: Any, seen: set[int]) -> int:
    scores = logits[:CODE_COUNT].copy()  # never the stop: the number of codes is given
    known = np.array([code for code in seen if code < CODE_COUNT], np.int64)
    scores[known] = np.where(scores[known] < 0, scores[known] * PENALTY, scores[known] / PENALTY)
    return int(scores.argmax())


class AuthorsPyTorch:
    """Their T3 and their S3Gen, random weights, fp32 on a CPU."""

    def __init__(self, source: Path, threads: int) -> None:
        import torch

        from tools.decoder.against_authors import authors_decoder
        from tools.stock_forms.authors import ALIAS, load_t3

        self._torch = torch
        torch.set_num_threads(threads)
        self._t3 = load_t3(source)
        self._s3 = authors_decoder(source)
        torch.set_num_threads(threads)
        self._alias = importlib.import_module(f"{ALIAS}.models.t3.t3")
        rng = np.random.default_rng(0)
        self._prompt = {
            "prompt_token": torch.from_numpy(rng.integers(0, CODE_COUNT, (1, PROMPT_CODES))),
            "prompt_token_len": torch.tensor([PROMPT_CODES]),
            "prompt_feat": torch.randn(1, 2 * PROMPT_CODES, 80),
            "prompt_feat_len": None,
            "embedding": torch.randn(1, 192),
        }

    def speak(self, count: int) -> tuple[float, float]:
        """As `CardLoop.speak`."""
        torch = self._torch
        began = time.perf_counter()
        with torch.inference_mode():
            codes = self._codes(count)
            samples, _ = self._s3.inference(codes, ref_dict=self._prompt)
        return time.perf_counter() - began, samples.shape[1] / SAMPLE_RATE_HZ

    def _codes(self, count: int) -> Any:
        """Prefill of 376 rows and the text, then one step a code: their loop without its draws."""
        from transformers import DynamicCache

        torch, cache = self._torch, DynamicCache()
        embeds = torch.randn(1, 376 + TEXT_IDS, self._t3.cfg.n_embd)
        codes = []
        while len(codes) < count:
            out = self._t3.tfmr(inputs_embeds=embeds, past_key_values=cache, use_cache=True)
            logits = self._t3.speech_head(out[0][:, -1:])
            codes.append(logits[..., :CODE_COUNT].argmax(-1))
            embeds = self._t3.speech_emb(codes[-1])
        return torch.cat(codes, dim=1)


def main() -> None:
    """Serve utterances of the authors' PyTorch, one for each line read."""
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--authors", type=Path, required=True, help="unpacked chatterbox-tts")
    parser.add_argument("--codes", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    answers, sys.stdout = sys.stdout, sys.stderr  # their code prints
    peer = AuthorsPyTorch(given.authors, given.threads)
    print(json.dumps("ready"), file=answers, flush=True)
    for _ in sys.stdin:
        first_s, audio_s = peer.speak(given.codes)
        answer = {"first_s": first_s, "total_s": first_s, "audio_s": audio_s}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
