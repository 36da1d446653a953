"""How far is streamed speech from the same speech decoded at once, and can a seam be heard?

    python -m tools.decoder.quality --decoder DIR/onnx/conditional_decoder.onnx

Same codes, same noise; one line for each setting: waveform SNR, distance of the sound's log-mel,
and the energy steps at the seams beside the steps at the same places of the one-shot decode. Knows
the decoder's seam and the windows; no engine, no language model. Random weights will do: the
numbers then say what streaming does to a decoder as sensitive to its context as random ones are.
"""

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import librosa
import numpy as np
import onnx
import onnxruntime as ort

from chatterbox.engine.windows import DecodeCost, Seams, Windows, WindowSettings
from chatterbox.model.contract import F32, I64, SAMPLE_RATE_HZ, Voice, VoiceTensors
from chatterbox.model.decoder_contract import DecodeJob, StreamingDecoder
from chatterbox.model.split.load import open_decoder
from chatterbox.model.split.streaming import StreamSettings
from chatterbox.model.split.study import OpenGraph

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
    windows, seams = Windows(settings), Seams(settings.cross_fade_samples)
    opened = decoder.open(voice, SEED)
    pieces, places = [], []
    began = time.process_time()
    count, slack_s = len(codes), 0.0
    while (window := windows.next(count, True, slack_s, QUICK)) is not None:
        slack_s = math.inf
        held = 0 if window.last else settings.cross_fade_samples
        fed = codes[window.begin : window.stop]
        job = DecodeJob(opened, window, fed, seams.needs_from, window.end_sample - held)
        made = decoder.run([job])[0]
        pieces.append(seams.join(made.samples, made.at, window.last))
        places.append(seams.sent_samples)
    return Streamed(np.concatenate(pieces), places[:-1], time.process_time() - began)


def at_once(settings: WindowSettings) -> WindowSettings:
    """The same, but in one window."""
    most = 10_000
    return replace(settings, first_least_codes=most, first_most_codes=most, most_codes=most)


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
    default, prompt = WindowSettings(first_least_codes=10, most_codes=25), 75
    yield prompt, default
    for look_ahead in (3, 8):
        yield prompt, replace(default, look_ahead_codes=look_ahead)
    for context in (6, 12, 50):
        yield prompt, replace(default, left_context_codes=context)
    for most in (12, 50):
        yield prompt, replace(default, most_codes=most)
    yield 125, default
    yield 250, default


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--decoder", type=Path, required=True, help="conditional_decoder*.onnx")
    parser.add_argument("--int8", action="store_true", help="the flow's products in 8 bits")
    parser.add_argument("--codes", type=int, default=200, help="of each stream")
    parser.add_argument("--streams", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only-default", action="store_true", help="the first setting alone")
    given = parser.parse_args()
    head = "prompt context ahead most | seams  SNR dB  mel dB | step dB p50 p95 max"
    print(head, "| one-shot p50 p95 max | cpu s per audio s: streamed, one-shot")
    opened: dict[int, StreamingDecoder] = {}
    for prompt, settings in settings_to_compare():
        if prompt not in opened:
            opened.clear()
            how = StreamSettings(prompt_codes=prompt, int8=given.int8)
            made = open_decoder(given.decoder, opener(given.decoder.parent, given.threads), how)
            print("#", made.kind, made.note, flush=True)
            opened[prompt] = made.decoder
        compare(opened[prompt], prompt, settings, given.streams, given.codes)
        if given.only_default:
            break


def compare(
    decoder: StreamingDecoder, prompt: int, settings: WindowSettings, streams: int, count: int
) -> None:
    """One line of the table."""
    snrs, mels, steps, controls, costs = [], [], [], [], []
    for seed in range(streams):
        codes, voice = some_codes(count, seed), some_voice(seed)
        whole = stream(decoder, codes, voice, at_once(settings))
        parts = stream(decoder, codes, voice, settings)
        snrs.append(snr_db(whole.samples, parts.samples))
        mels.append(np.abs(log_mel(whole.samples) - log_mel(parts.samples)).mean())
        steps.append(energy_steps(parts.samples, parts.seams))
        controls.append(energy_steps(whole.samples, parts.seams))
        audio_s = len(whole.samples) / SAMPLE_RATE_HZ
        costs.append((parts.cpu_s / audio_s, whole.cpu_s / audio_s))
    at_seams, there = np.concatenate(steps), np.concatenate(controls)

    def spread(values: F32) -> str:
        return " ".join(f"{v:5.2f}" for v in (*np.percentile(values, [50, 95]), values.max()))

    print(
        f"{prompt:6} {settings.left_context_codes:7} {settings.look_ahead_codes:5} "
        f"{settings.most_codes:4} | {len(at_seams):5} {np.mean(snrs):7.1f} {np.mean(mels):7.2f} |"
        f" {spread(at_seams)} | {spread(there)} | "
        f"{np.mean(costs, axis=0)[0]:.2f}, {np.mean(costs, axis=0)[1]:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
