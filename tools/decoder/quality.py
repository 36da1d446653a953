"""Measures how streamed speech differs from speech decoded at once, and the level of its seams.

    python -m tools.decoder.quality --decoder DIR/onnx/conditional_decoder.onnx

Both use the same codes and noise. Prints one line per setting:

* `flow`: mean difference of the flow's mel.
* `vocoder`: waveform SNR when the vocoder's windows get the mel decoded at once.
* `sound`: waveform SNR and log-mel difference of the whole decoder.
* `steps`: change of energy from the 10 ms before a seam to the 10 ms after it, compared with the
  same places of the speech decoded at once.

Random weights are sufficient, but random attention attends equally to all of the flow's context.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import librosa
import numpy as np
import onnx
import onnxruntime as ort

from chatterbox.arrays import F32, I64, SAMPLE_RATE_HZ
from chatterbox.compile.decoder.equivalence import mel_distance_db
from chatterbox.compile.graph import OpenGraph
from chatterbox.engine.vocoder_stream import Crossfader
from chatterbox.engine.windows import DecodeCost, Windows, WindowSettings
from chatterbox.families.base import DecodeJob, StreamingDecoder, Voice, Window
from chatterbox.families.turbo.voice import VoiceTensors
from chatterbox.runtime.decoder.s3gen import CODEC
from chatterbox.runtime.decoder.s3gen_decoder import SplitDecoder, StreamSettings
from tools.decoder.opened import compile_and_open

STEP_SAMPLES = SAMPLE_RATE_HZ // 100  # energy is compared from one 10 ms to the next
QUICK = DecodeCost(0.01, 0.0005)
SEED = 7


def opener(folder: Path, threads: int) -> OpenGraph:
    """As the server opens decoders on a CPU."""

    def open_graph(model: onnx.ModelProto) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.enable_mem_reuse = options.enable_mem_pattern = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(folder)
        )
        return ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    return open_graph


def some_voice(seed: int, prompt_codes: int = 250) -> Voice:
    """Any voice with a prompt of 10 s."""
    rng = np.random.default_rng(seed)
    tensors = VoiceTensors(
        features=np.zeros((1, 1), np.float32),
        prompt_codes=rng.integers(0, 6561, prompt_codes),
        speaker=rng.normal(size=192).astype(np.float32),
        prompt_mel=rng.normal(-6, 2.5, (2 * prompt_codes, 80)).astype(np.float32),
    )
    return Voice("any", tensors)


def some_codes(count: int, seed: int) -> I64:
    """Codes that change about as often as speech does: each lasts one to four places."""
    rng = np.random.default_rng(seed)
    return np.repeat(rng.integers(0, 6561, count), rng.integers(1, 5, count))[:count]


@dataclass(frozen=True, slots=True)
class Streamed:
    """One stream's sound, where its seams lie, and what it cost."""

    samples: F32
    seams: list[int]
    cpu_s: float


def stream(
    decoder: StreamingDecoder, codes: I64, voice: Voice, settings: WindowSettings
) -> Streamed:
    """Decode in windows, all codes known from the start: the first as small, the others as large as
    they may be."""
    windows, seams = Windows(settings), Crossfader(settings.cross_fade_samples)
    opened = decoder.open(voice, SEED)
    pieces, places = [], []
    began = time.process_time()
    count, slack_s = len(codes), 0.0
    while (window := windows.next(count, True, slack_s, QUICK)) is not None:
        slack_s = math.inf
        held = 0 if window.last else settings.cross_fade_samples
        fed = codes[window.begin : window.stop]
        job = DecodeJob(opened, window, fed, seams.next_sample, window.end_sample - held)
        made = decoder.run([job])[0]
        pieces.append(seams.join(made.samples, made.at, window.last))
        places.append(seams.next_sample)
    return Streamed(np.concatenate(pieces), places[:-1], time.process_time() - began)


def at_once(settings: WindowSettings) -> WindowSettings:
    """The same, but in one window."""
    most = 10_000
    return replace(settings, first_least_frames=most, first_most_frames=most, most_frames=most)


def log_mel(samples: F32) -> F32:
    """dB [80, frames] at 100 frames a second."""
    power = librosa.feature.melspectrogram(
        y=samples, sr=SAMPLE_RATE_HZ, n_fft=1024, hop_length=STEP_SAMPLES, n_mels=80
    )
    floor = power.max() * 1e-8
    return 10 * np.log10(np.maximum(power, floor))


def snr_db(reference: F32, other: F32) -> float:
    """Waveforms."""
    wrong = np.square(reference - other, dtype=np.float64).sum()
    return float(10 * np.log10(np.square(reference, dtype=np.float64).sum() / max(wrong, 1e-20)))


def energy_steps(samples: F32, places: list[int]) -> F32:
    """|dB| from the 10 ms before each place to the 10 ms behind it."""
    power = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    at = np.array([p for p in places if STEP_SAMPLES <= p <= len(samples) - STEP_SAMPLES])
    before = power[at] - power[at - STEP_SAMPLES]
    behind = power[at + STEP_SAMPLES] - power[at]
    return np.abs(10 * np.log10((behind + 1e-12) / (before + 1e-12)))


def settings_to_compare() -> Iterator[tuple[int, WindowSettings]]:
    """Prompt codes and windows; the first is the default, the others change one thing."""
    default, prompt = replace(WindowSettings.of(CODEC), first_least_frames=10, most_frames=25), 75
    yield prompt, default
    for look_ahead in (3, 8):
        yield prompt, replace(default, codec=replace(CODEC, look_ahead_frames=look_ahead))
    for context in (6, 12, 50):
        yield prompt, replace(default, codec=replace(CODEC, left_context_frames=context))
    for most in (12, 50):
        yield prompt, replace(default, most_frames=most)
    yield 125, default
    yield 250, default


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--decoder", type=Path, required=True, help="conditional_decoder*.onnx")
    parser.add_argument("--int8", action="store_true", help="the flow's products in 8 bits")
    parser.add_argument(
        "--memory-mb", type=float, default=320, help="for prompts, with --int8; 0: in every window"
    )
    parser.add_argument("--codes", type=int, default=200, help="of each stream")
    parser.add_argument("--streams", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only-default", action="store_true", help="the first setting alone")
    given = parser.parse_args()
    print(
        "| prompt codes | context | look-ahead | most | flow dB | vocoder SNR dB | sound SNR dB "
        "| sound mel dB | seams | steps dB p50 / p95 / max | one-shot, same places "
        "| cpu s per audio s | one-shot |\n" + "|---" * 13 + "|"
    )
    opened: dict[int, tuple[SplitDecoder, SplitDecoder]] = {}
    for prompt, settings in settings_to_compare():
        if prompt not in opened:
            opened.clear()
            opened[prompt] = pair(given, prompt)
        compare(*opened[prompt], prompt, settings, given.streams, given.codes)
        if given.only_default:
            break


def pair(given: argparse.Namespace, prompt: int) -> tuple[SplitDecoder, SplitDecoder]:
    """One that decodes the prompt in every call, for the one-shot decode, and one as asked for."""
    made = []
    for memory_bytes in (0, int(given.memory_mb * 1024 * 1024)):
        how = StreamSettings(prompt_codes=prompt, int8=given.int8, memory_bytes=memory_bytes)
        one = compile_and_open(given.decoder, opener(given.decoder.parent, given.threads), how)
        assert isinstance(one.decoder, SplitDecoder), one.note
        print(one.note, file=sys.stderr)
        made.append(one.decoder)
        if not memory_bytes and not given.memory_mb:
            return made[0], made[0]
    return made[0], made[1]


class Mels:
    """Stands between a decoder's flow and its vocoder: notes the windows' mels, or replaces them
    by parts of a given one."""

    def __init__(self, decoder: SplitDecoder, given: F32 | None = None) -> None:
        self._flow = decoder.flow.mels
        self._given = given
        self.seen: list[tuple[Window, F32]] = []
        decoder.flow.mels = self  # type: ignore[method-assign]

    def __call__(self, jobs: Sequence[DecodeJob], codes: int, rows: int) -> list[F32]:
        """In the place of `Flow.mels`."""
        made = []
        for job in jobs:
            window = job.window
            first, last = 2 * window.begin, 2 * (window.begin + window.fed_frames)
            mel = (
                self._flow([job], codes, rows)[0]
                if self._given is None
                else self._given[:, first:last]
            )
            self.seen.append((window, mel))
            made.append(mel)
        return made

    def final(self) -> F32:
        """The frames that were kept, in a row: [80, frames]."""
        parts = []
        for window, mel in self.seen:
            first = 2 * (window.fresh - window.begin)
            parts.append(mel[:, first : None if window.last else 2 * (window.end - window.begin)])
        return np.concatenate(parts, axis=1)

    def leave(self, decoder: SplitDecoder) -> "Mels":
        """Let the flow through again."""
        decoder.flow.mels = self._flow  # type: ignore[method-assign]
        return self


def compare(
    once: SplitDecoder,
    decoder: SplitDecoder,
    prompt: int,
    settings: WindowSettings,
    streams: int,
    count: int,
) -> None:
    """One line of the table: `decoder` in windows, beside `once` in one."""
    kept: dict[str, list[float]] = {k: [] for k in ("flow", "vocoder", "snr", "mel", "cost", "one")}
    steps, controls = [], []
    for seed in range(streams):
        codes, voice = some_codes(count, seed), some_voice(seed)
        hook = Mels(once)
        whole = stream(once, codes, voice, at_once(settings))
        whole_mel = hook.leave(once).final()
        hook = Mels(decoder)
        parts = stream(decoder, codes, voice, settings)
        parts_mel = hook.leave(decoder).final()
        hook = Mels(decoder, whole_mel)
        vocoded = stream(decoder, codes, voice, settings)
        hook.leave(decoder)
        audio_s = len(whole.samples) / SAMPLE_RATE_HZ
        kept["flow"].append(mel_distance_db(whole_mel, parts_mel))
        kept["vocoder"].append(snr_db(whole.samples, vocoded.samples))
        kept["snr"].append(snr_db(whole.samples, parts.samples))
        kept["mel"].append(float(np.abs(log_mel(whole.samples) - log_mel(parts.samples)).mean()))
        kept["cost"].append(parts.cpu_s / audio_s)
        kept["one"].append(whole.cpu_s / audio_s)
        steps.append(energy_steps(parts.samples, parts.seams))
        controls.append(energy_steps(whole.samples, parts.seams))
    at_seams, there = np.concatenate(steps), np.concatenate(controls)
    mean = {name: float(np.mean(values)) for name, values in kept.items()}

    def spread(values: F32) -> str:
        return " / ".join(f"{v:.2f}" for v in (*np.percentile(values, [50, 95]), values.max()))

    print(
        f"| {prompt} | {settings.codec.left_context_frames} | {settings.codec.look_ahead_frames} "
        f"| {settings.most_frames} | {mean['flow']:.2f} | {mean['vocoder']:.1f} "
        f"| {mean['snr']:.1f} | {mean['mel']:.2f} | {len(at_seams)} "
        f"| {spread(at_seams)} | {spread(there)} | {mean['cost']:.2f} | {mean['one']:.2f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
