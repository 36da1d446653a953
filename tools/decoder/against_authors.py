"""Compares the generated decoder with the authors' code.

    python -m tools.decoder.against_authors --package DIR

DIR is the unpacked `chatterbox-tts` wheel. Needs PyTorch, einops, omegaconf, librosa, diffusers,
conformer and s3tokenizer; knows the authors' classes by name. Both get the same random weights and
the same noise; prints one line for each comparison.
"""

import argparse
import contextlib
import importlib
import importlib.machinery
import io
import sys
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from chatterbox.compile.decoder.equivalence import mel_distance_db
from chatterbox.compile.decoder.random_ops import find_randoms, randoms_to_inputs
from chatterbox.compile.decoder.split import find_mel
from chatterbox.compile.graph import value_info
from chatterbox.runtime.decoder.graph_io import snr_db
from tools.decoder.build import EDITIONS, edition_of
from tools.decoder.graph import Array
from tools.decoder.weights import PREFIXES, folded
from tools.stock_forms.authors import ALIAS

PROMPT, CODES = 25, 60
PITCH_HZ = 150.0


def authors_decoder(package: Path) -> Any:
    """Their `S3Token2Wav(meanflow=True)` with random weights."""
    import torch

    for name in ("torchaudio", "torchaudio.transforms", "torchaudio.compliance.kaldi"):
        sys.modules.setdefault(name, _Standin(name))  # imported by them, not needed here
    root = types.ModuleType(ALIAS)  # their package has our package's name
    root.__path__ = [str(package / "chatterbox")]
    sys.modules.setdefault(ALIAS, root)
    theirs = importlib.import_module(f"{ALIAS}.models.s3gen.s3gen")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    made = theirs.S3Token2Wav(meanflow=True).eval()
    with torch.no_grad():  # voiced, so that the harmonics count
        made.mel2wav.f0_predictor.classifier.bias.fill_(PITCH_HZ)
    return made


class _Standin(types.ModuleType):
    """Has a spec: diffusers lets transformers ask for it, where that is installed too."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Standin(name)

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One input and everything drawn for it."""

    codes: Array  # [1, prompt + codes]
    speaker: Array
    prompt_mel: Array
    flow_noise: Array  # [1, 80, 2T]
    phases: Array  # [1, 9, 1]
    source_noise: Array  # [1, 9, samples]


def case(seed: int, prompt: int = PROMPT, codes: int = CODES) -> Case:
    """Any input."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> Array:
        return rng.normal(size=shape).astype(np.float32)

    return Case(
        rng.integers(0, 6561, (1, prompt + codes)),
        normal(1, 192),
        -6 + 2.5 * normal(1, 2 * prompt, 80),
        normal(1, 80, 2 * (prompt + codes)),
        rng.uniform(-np.pi, np.pi, (1, 9, 1)).astype(np.float32),
        normal(1, 9, 960 * codes),
    )


@contextlib.contextmanager
def fixed_draws(given: Case) -> Iterator[None]:
    """Have the authors' code draw the case's numbers."""
    import torch

    hifigan = sys.modules[f"{ALIAS}.models.s3gen.hifigan"]
    like, uniform = torch.randn_like, hifigan.Uniform

    class Fixed:
        def __init__(self, **_: Any) -> None: ...

        def sample(self, sample_shape: Any) -> Any:  # noqa: ARG002 - theirs
            return torch.from_numpy(given.phases.copy())

    def drawn(x: Any) -> Any:
        known = {80: given.flow_noise, 9: given.source_noise}.get(x.shape[1])
        return like(x) if known is None else torch.from_numpy(known)

    torch.randn_like, hifigan.Uniform = drawn, Fixed
    try:
        yield
    finally:
        torch.randn_like, hifigan.Uniform = like, uniform


def by_authors(theirs: Any, given: Case, steps: int) -> tuple[Array, Array]:
    """Mel and waveform."""
    import torch

    prompt = given.prompt_mel.shape[1] // 2
    codes = torch.from_numpy(given.codes)
    with (
        torch.inference_mode(),
        fixed_draws(given),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        mel, _ = theirs.flow.inference(
            token=codes[:, prompt:],
            token_len=torch.tensor([codes.shape[1] - prompt]),
            prompt_token=codes[:, :prompt],
            prompt_token_len=torch.tensor([prompt]),
            prompt_feat=torch.from_numpy(given.prompt_mel),
            prompt_feat_len=None,
            embedding=torch.from_numpy(given.speaker),
            finalize=True,
            n_timesteps=steps,
            meanflow=True,
        )
        wave, _ = theirs.mel2wav.inference(speech_feat=mel)
        wave = wave.clone()
        wave[:, : len(theirs.trim_fade)] *= theirs.trim_fade
    return mel.numpy(), wave.numpy()


class Ours:
    """A written decoder whose draws are inputs."""

    def __init__(self, model: onnx.ModelProto) -> None:
        draws = find_randoms(model)
        self._draws = [draw.name for draw in draws]
        inputs = {draw: value_info(draw.name, onnx.TensorProto.FLOAT, 3) for draw in draws}
        model = randoms_to_inputs(model, inputs)
        self._mel = find_mel(model)
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(self._mel))
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_mem_reuse = options.enable_mem_pattern = False
        self._session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, cases: list[Case]) -> tuple[Array, Array]:
        """Mel and waveform; rows padded to the longest."""

        def rows(arrays: list[Array]) -> Array:
            sizes = np.array([a.shape for a in arrays]).max(axis=0)
            gaps = [[(0, int(f - o)) for f, o in zip(sizes, a.shape, strict=True)] for a in arrays]
            return np.concatenate([np.pad(a, g) for a, g in zip(arrays, gaps, strict=True)])

        noises = ([c.flow_noise for c in cases], [c.phases for c in cases])
        feeds = {
            "speech_tokens": rows([c.codes for c in cases]),
            "code_lengths": np.array([c.codes.shape[1] for c in cases]),
            "speaker_embeddings": rows([c.speaker for c in cases]),
            "speaker_features": rows([c.prompt_mel for c in cases]),
            **dict(zip(self._draws, (*map(rows, noises), rows([c.source_noise for c in cases])),
                       strict=True)),
        }  # fmt: skip
        wave, mel = self._session.run(["waveform", self._mel], feeds)
        return mel.astype(np.float32), wave


def main() -> None:
    """The command line."""
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", type=Path, required=True, help="unpacked chatterbox-tts wheel")
    given = parser.parse_args()
    theirs = authors_decoder(given.package)
    state = {k: v.numpy() for k, v in theirs.state_dict().items() if k.startswith(PREFIXES)}
    weights = folded(state)
    print(f"{'edition':8} {'steps':>5} {'mel SNR dB':>11} {'mel dB off':>11} {'wave SNR dB':>12}")
    one, other = case(1), case(2, codes=CODES // 2)
    for steps in (2, 1):
        mel, wave = by_authors(theirs, one, steps)
        for edition in EDITIONS:
            ours = Ours(edition_of(weights, edition, steps=steps))
            own_mel, own_wave = ours.run([one])
            print(
                f"{edition:8} {steps:5} {snr_db(mel, own_mel):11.1f} "
                f"{mel_distance_db(mel, own_mel):11.4f} {snr_db(wave, own_wave):12.1f}"
            )
            if edition == "fp32" and steps == 2:
                alone = ours.run([other])[0]
                both = ours.run([one, other])[0]
                print(
                    f"rows of {CODES} and {CODES // 2} codes in one call, against alone: "
                    f"{snr_db(own_mel, both[:1]):.1f} and "
                    f"{snr_db(alone, both[1:, :, : alone.shape[2]]):.1f} dB"
                )


if __name__ == "__main__":
    main()
