"""Exports the authors' S3Gen with `torch.onnx` as a `conditional_decoder`, as published.

    python -m tools.decoder.authors_export --package DIR --out DIR [--precision fp32,q4]

DIR of `--package` is the unpacked `chatterbox-tts` wheel. Their code, random weights, the published
inputs and output; matrices in blocks by onnxruntime's own tool. Needs what
`tools.decoder.against_authors` needs. So the loader can be tried on a graph that nobody here wrote.
Prints how well graph and code agree on the same draws.

What any exporter has to replace is replaced here: a mask's length read out as a number, STFT and
its inverse (as convolutions), and in-place writes of the harmonics.
"""

import argparse
import contextlib
import io
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from chatterbox.compile.decoder.compiler import draws_to_inputs
from chatterbox.compile.decoder.introspect import introspect
from chatterbox.compile.decoder.variants import with_phase_inputs
from chatterbox.hub.files import Precision
from chatterbox.runtime.decoder.graph_io import ProbeLength, cast_feeds, snr_db
from chatterbox.runtime.decoder.s3gen import MEL_BANDS, SPEAKER_DIM
from chatterbox.runtime.decoder.stream_inputs import PhaseInputs
from tools.decoder.against_authors import ALIAS, Case, authors_decoder, by_authors, case
from tools.decoder.build import decoder_file, stored
from tools.decoder.graph import Array
from tools.decoder.quality import opener
from tools.stock_forms.convert import quantize_blocks
from tools.stock_forms.plain import BITS

OPSET = 18
EULER_STEPS = 2
EXAMPLE_PROMPT, EXAMPLE_CODES = 12, 17


def export(theirs: Any, out: Path) -> Path:
    """Write the graph in fp32. `theirs` is changed on the way."""
    import torch

    _exportable(theirs)
    path = out / "onnx" / decoder_file("fp32")
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return torch.from_numpy(rng.normal(size=shape).astype(np.float32))

    given = (
        torch.from_numpy(rng.integers(0, 6561, (1, EXAMPLE_PROMPT + EXAMPLE_CODES))),
        normal(1, SPEAKER_DIM),
        normal(1, 2 * EXAMPLE_PROMPT, MEL_BANDS),
    )
    with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(
            _contract(theirs),
            given,
            str(path),
            input_names=["speech_tokens", "speaker_embeddings", "speaker_features"],
            output_names=["waveform"],
            dynamic_axes={
                "speech_tokens": {0: "batch", 1: "codes"},
                "speaker_embeddings": {0: "batch"},
                "speaker_features": {0: "batch", 1: "frames"},
                "waveform": {0: "batch", 1: "samples"},
            },
            opset_version=OPSET,
            dynamo=False,
        )
    return stored(onnx.load(str(path)), path)


def agreement(path: Path, given: Case, mel: Array, wave: Array) -> str:
    """How far the graph's mel and waveform are from the code's on the same draws. PyTorch adds the
    pitch up in double precision, onnxruntime in single unless told, as it is when served."""
    open_graph = opener(path.parent, 1)
    facts = introspect(onnx.load(str(path), load_external_data=False), open_graph)
    assert facts.mel is not None, facts.no_mel_reason
    unit = (given.phases / np.pi + 1) / 2  # as the graph draws it, before it becomes an angle
    noises = iter((given.flow_noise, given.source_noise))
    feeds = {d.name: unit if d.kind == "uniform" else next(noises) for d in facts.draws}
    feeds |= {"speech_tokens": given.codes, "speaker_embeddings": given.speaker}
    feeds |= {"speaker_features": given.prompt_mel}
    sizes = ProbeLength(given.prompt_mel.shape[1] // 2, given.source_noise.shape[2] // 960)
    feeds |= PhaseInputs(facts.sums).feeds([None], sizes, 0, 0)
    told = []
    for wide in (False, True):
        model = with_phase_inputs(draws_to_inputs(facts), facts, wide=wide)
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(facts.mel))
        session = open_graph(model)
        wanted = cast_feeds(session, {i.name: feeds[i.name] for i in session.get_inputs()})
        made_wave, made_mel = session.run(["waveform", facts.mel], wanted)
        told.append(
            f"{'as served' if wide else 'as exported'}: mel {snr_db(mel, made_mel):.1f} dB, "
            f"waveform {snr_db(wave, made_wave):.1f} dB"
        )
    return "\n".join(told)


def convert(source: Path, precision: Precision) -> Path:
    """The graph again, its matrices in blocks of 32."""
    path = source.with_name(decoder_file(precision))
    return stored(
        quantize_blocks(_weights_named_once(onnx.load(str(source))), BITS[precision]), path
    )


def _weights_named_once(model: onnx.ModelProto) -> onnx.ModelProto:
    """Both Euler steps use the same weights, the second by way of Identity, which the tool that
    makes blocks does not look through."""
    weights = {i.name for i in model.graph.initializer}
    copies = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "Identity" and node.input[0] in weights
    }
    kept = [n for n in model.graph.node if n.output[0] not in copies]
    for node in kept:
        for i, name in enumerate(node.input):
            node.input[i] = copies.get(name, name)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model


def _contract(theirs: Any) -> Any:
    import torch

    class Contract(torch.nn.Module):
        """Their flow and vocoder behind the published inputs."""

        def __init__(self) -> None:
            super().__init__()
            self.theirs = theirs

        def forward(self, codes: Any, speaker: Any, prompt_mel: Any) -> Any:
            count = torch.ones_like(codes[:, 0]) * codes.shape[1]
            mel, _ = self.theirs.flow.inference(
                token=codes,
                token_len=count,
                prompt_token=codes[:, :0],
                prompt_token_len=torch.zeros_like(count),
                prompt_feat=prompt_mel,
                prompt_feat_len=None,
                embedding=speaker,
                finalize=True,
                n_timesteps=EULER_STEPS,
                meanflow=True,
            )
            wave, _ = self.theirs.mel2wav.inference(speech_feat=mel)
            fade = self.theirs.trim_fade
            return torch.cat([wave[:, : len(fade)] * fade, wave[:, len(fade) :]], dim=1)

    return Contract().eval()


def _exportable(theirs: Any) -> None:
    """Replace what no exporter takes."""
    import torch
    from torch.nn.utils import parametrize

    root = f"{ALIAS}.models.s3gen"

    def pad_mask(lengths: Any, max_len: int = 0) -> Any:  # noqa: ARG001 - theirs
        return torch.arange(lengths.max())[None] >= lengths[:, None]

    def chunk_mask(_: Any, masks: Any, *__: Any, **___: Any) -> Any:
        return masks

    for name in ("flow", "transformer.upsample_encoder", "decoder"):
        module = sys.modules[f"{root}.{name}"]
        for attribute, made in (
            ("make_pad_mask", pad_mask),
            ("add_optional_chunk_mask", chunk_mask),
        ):
            if hasattr(module, attribute):
                setattr(module, attribute, made)
    sys.modules[f"{root}.flow_matching"].tqdm = lambda steps, **_: steps
    vocoder = theirs.mel2wav
    for module in vocoder.modules():  # weight norm, as publishers remove it
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
    fourier = _Fourier(
        vocoder.istft_params["n_fft"], vocoder.istft_params["hop_len"], vocoder.stft_window
    )
    vocoder._stft, vocoder._istft = fourier.forwards, fourier.backwards
    sines = vocoder.m_source.l_sin_gen
    sines.forward = lambda f0: _sines(sines, f0)


class _Fourier:
    """STFT and its inverse as convolutions (reflected at the edges, divided by the window)."""

    def __init__(self, size: int, hop: int, window: Any) -> None:
        import torch

        self._size, self._hop = size, hop
        times, bins = torch.arange(size), torch.arange(size // 2 + 1)
        angles = 2 * torch.pi * bins[:, None] * times / size
        self._basis = (torch.cat([angles.cos(), -angles.sin()]) * window)[:, None]
        twice = torch.where((bins == 0) | (bins == size // 2), 1.0, 2.0)[:, None] / size
        self._back = (torch.cat([angles.cos() * twice, -angles.sin() * twice]) * window)[:, None]
        self._window = (window**2)[None, None]

    def forwards(self, x: Any) -> tuple[Any, Any]:
        from torch.nn import functional as fn

        half = self._size // 2
        made = fn.conv1d(
            fn.pad(x[:, None], (half, half), mode="reflect"), self._basis, stride=self._hop
        )
        return made[:, : half + 1], made[:, half + 1 :]

    def backwards(self, magnitude: Any, phase: Any) -> Any:
        import torch
        from torch.nn import functional as fn

        magnitude = torch.clip(magnitude, max=1e2)
        both = torch.cat([magnitude * torch.cos(phase), magnitude * torch.sin(phase)], dim=1)
        wave = fn.conv_transpose1d(both, self._back, stride=self._hop)
        weight = fn.conv_transpose1d(torch.ones_like(both[:, :1]), self._window, stride=self._hop)
        half = self._size // 2
        return (wave / weight)[:, 0, half:-half]


def _sines(source: Any, f0: Any) -> tuple[Any, Any, Any]:
    """Their `SineGen.forward` without writes in place."""
    import torch

    harmonics = torch.arange(1, source.harmonic_num + 2, dtype=f0.dtype)[None, :, None]
    turns = torch.cumsum(f0 * harmonics / source.sampling_rate, dim=-1) % 1
    phases = (torch.rand_like(turns[:, :, :1]) * 2 - 1) * torch.pi
    phases = phases * (harmonics > 1)
    waves = source.sine_amp * torch.sin(2 * torch.pi * turns + phases)
    voiced = source._f02uv(f0)
    loudness = voiced * source.noise_std + (1 - voiced) * source.sine_amp / 3
    noise = loudness * torch.randn_like(waves)
    return waves * voiced + noise, voiced, noise


def main() -> None:
    """The command line."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", type=Path, required=True, help="unpacked chatterbox-tts wheel")
    parser.add_argument("--out", type=Path, required=True, help="a model's directory")
    parser.add_argument("--precision", default="fp32,q4", help="fp32, and of q8 and q4 any")
    given = parser.parse_args()
    theirs, one = authors_decoder(given.package), case(1)
    mel, wave = by_authors(theirs, one, EULER_STEPS)
    source = export(theirs, given.out)
    print(source, agreement(source, one, mel, wave), sep="\n")
    for precision in given.precision.split(","):
        if precision != "fp32":
            print(convert(source, precision))


if __name__ == "__main__":
    main()
