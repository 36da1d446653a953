"""Windows sound the same when their shapes are replayed; a false replay is found out.

Knows tiny decoders on a CPU, where a replay is a run at fixed addresses. That a GPU captures them
cannot be seen here.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from fakes import window_settings
from tiny_decoder import (
    QUICK,
    open_decoder,
    opener,
    saved,
    snr_db,
    some_codes,
    stream,
    voice,
    whole,
)

from chatterbox.arrays import F32
from chatterbox.config import TTSConfig
from chatterbox.engine.vocoder_stream import Crossfader
from chatterbox.engine.windows import Windows
from chatterbox.errors import ModelError
from chatterbox.families import s3gen as load
from chatterbox.families.base import DecodeJob, Window
from chatterbox.runtime.buffers import HostBuffer, Memory
from chatterbox.runtime.cuda_graphs import CAPTURE_OPTIONS, CapturedSession
from chatterbox.runtime.decoder.compiled import Opened
from chatterbox.runtime.decoder.graph_io import CODES
from chatterbox.runtime.decoder.s3gen import CODEC, SAMPLES_PER_CODE
from chatterbox.runtime.decoder.s3gen_decoder import SplitDecoder, StreamSettings
from chatterbox.runtime.sessions import SessionSettings
from tools.decoder.model import decoder_model
from tools.decoder.weights import TINY, random_weights

DECODER = "conditional_decoder.onnx"
SIZES = (3, 6, 12)
STREAMING = StreamSettings(prompt_codes=12, max_rows=4, sizes=SIZES)
WINDOWS = window_settings(first_least_frames=3, first_most_frames=6, most_frames=12, sizes=SIZES)
SHAPES = 3 * 5
"""Of each part, in 1, 2 and 4 rows: a stream begins with 3 or 6 codes, and any size comes later."""
NOTE = f"; flow: {SHAPES} shapes replayed; vocoder: {SHAPES} shapes replayed"


class StuckMemory(Memory):
    """What the graph reads is never what the host writes: as inputs look from a graph that was
    captured elsewhere."""

    def buffer(self, shape, dtype):
        return StuckBuffer(shape, dtype)


class StuckBuffer(HostBuffer):
    def get(self):
        return self.array.copy()


@pytest.fixture(scope="module", params=["equal", pytest.param("ragged", marks=pytest.mark.slow)])
def model(request) -> onnx.ModelProto:
    """As the authors' graph, and with lengths."""
    return decoder_model(random_weights(TINY), ragged=request.param == "ragged")


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoder")
    saved(model, folder)
    return folder


def replaying(folder: Path, memory: Memory) -> Opened:
    return open_decoder(folder / DECODER, STREAMING, memory)


@pytest.fixture(scope="module")
def plain(folder):
    return open_decoder(folder / DECODER, STREAMING).decoder


@pytest.fixture(scope="module")
def replayed(folder):
    return replaying(folder, Memory("cpu"))


@pytest.fixture
def counted(monkeypatch):
    """Which calls are replayed."""
    calls = []
    run = CapturedSession.run

    def counting(self, outputs, feeds):
        shape = tuple(outputs), tuple((name, values.shape) for name, values in feeds.items())
        calls.append(self._calls.get(shape) is not None)
        return run(self, outputs, feeds)

    monkeypatch.setattr(CapturedSession, "run", counting)
    return calls


def together(decoder: SplitDecoder, rows: int, windows: list[Window]) -> Iterator[F32]:
    """Several streams of different codes, each window of all of them in one call."""
    codes = [some_codes(60, seed) for seed in range(rows)]
    streams = [decoder.open(voice(seed=seed), seed) for seed in range(rows)]
    seams = [Crossfader(0) for _ in range(rows)]
    for w in windows:
        jobs = [
            DecodeJob(s, w, c[w.begin : w.stop], w.fresh * SAMPLES_PER_CODE, w.end_sample)
            for s, c in zip(streams, codes, strict=True)
        ]
        for seam, made in zip(seams, decoder.run(jobs), strict=True):
            yield seam.join(made.samples, made.at, w.last)


def growing(*sizes: int) -> list[Window]:
    ends = np.cumsum(sizes).tolist()
    starts = [0, *ends[:-1]]
    return [
        Window(max(0, start - 8), start, end, end + CODEC.look_ahead_frames, False, CODEC)
        for start, end in zip(starts, ends, strict=True)
    ]


@pytest.mark.parametrize("rows", [1, 3])
def test_replayed_windows_sound_as_plain_ones(plain, replayed, counted, rows):
    heard = list(together(replayed.decoder, rows, growing(3, 6, 12, 12)))
    assert counted
    assert all(counted), "every window that is not the last comes in a shape that is known"
    for one, other in zip(together(plain, rows, growing(3, 6, 12, 12)), heard, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)


@pytest.mark.parametrize("slack_s", [0.0, 1.0, math.inf])
def test_every_window_comes_in_a_shape_that_is_replayed(plain, replayed, counted, slack_s):
    assert replayed.note.endswith(NOTE)
    short = voice(prompt_codes=5)  # a reference too short for the usual prompt
    for count in (0, 1, 2, 3, 5, 8, 11, 13, 14, 15, 16, 17, 29, 50):
        given = {"slack_s": slack_s, "who": short if count % 2 else None}
        sound, windows = stream(replayed.decoder, some_codes(count), WINDOWS, **given)
        reference, same = stream(plain, some_codes(count), WINDOWS, **given)
        assert windows == same
        assert len(sound) == (count + CODEC.tail_frames) * SAMPLES_PER_CODE
        np.testing.assert_allclose(sound, reference, atol=1e-5)
    assert all(counted)


def test_last_windows_of_different_lengths_share_a_call(replayed, counted):
    decoder = replayed.decoder
    jobs = []
    for seed, count in enumerate((10, 11, 12)):
        codes, planned = some_codes(count, seed), Windows(WINDOWS)
        window = planned.next(count, True, math.inf, QUICK)
        assert window.last
        opened = decoder.open(voice(seed=seed), seed)
        jobs.append(DecodeJob(opened, window, codes, 0, window.end_sample))
    assert len({decoder.bucket(job) for job in jobs}) == 1
    made = decoder.run(jobs)
    assert counted == [True, True], "a flow and a vocoder"
    for job, row in zip(jobs, made, strict=True):
        alone = decoder.open(job.stream.voice, job.stream.seed)
        (solo,) = decoder.run([replace(job, stream=alone)])
        np.testing.assert_allclose(row.samples, solo.samples, atol=1e-5)


def test_a_last_window_filled_up_sounds_as_one_that_is_not(folder):
    """By the vocoder, that is: the flow looks at the silence behind."""
    made = open_decoder(folder / DECODER, replace(STREAMING, sizes=())).decoder
    filled = open_decoder(folder / DECODER, STREAMING).decoder
    mels = []
    flow = made.flow.mels
    made.flow.mels = lambda *given: mels.append(flow(*given)) or mels[-1]
    filled.flow.mels = lambda *_: mels[-1]
    codes = some_codes(9)
    sounds = [stream(decoder, codes, whole())[0] for decoder in (made, filled)]
    assert sounds[0].shape == sounds[1].shape
    assert snr_db(*(sound[:-960] for sound in sounds)) > 30


def test_a_replay_that_does_something_else_is_not_used(plain, folder):
    opened = replaying(folder, StuckMemory("cpu"))
    assert opened.note.count(f"0 shapes replayed, {SHAPES} not") == 2
    sound, _ = stream(opened.decoder, some_codes(40), WINDOWS)
    reference, _ = stream(plain, some_codes(40), WINDOWS)
    np.testing.assert_allclose(sound, reference, atol=1e-5)


# --- whether to


def opened_as_told(folder: Path, source: Path | bytes):
    """A graph that is kept, or that the compiler asks about."""
    kept = source.read_bytes() if isinstance(source, Path) else source
    return opener(folder)(onnx.load_from_string(kept))


def loaded(folder: Path, monkeypatch, open_session) -> Opened:
    """On a machine with a GPU, whose sessions `open_session` opens."""
    monkeypatch.setattr(load, "open_session", open_session)
    monkeypatch.setattr(load, "GPU_WINDOWS", SIZES)
    monkeypatch.setattr(load, "GPU_ROWS", 2)
    config = TTSConfig(data_dir=folder, cuda_graphs=True)
    return load.open_decoder(config, folder / DECODER, SessionSettings("cuda", 1, {}))


def test_a_graph_that_cannot_be_captured_is_decoded_without(folder, monkeypatch):
    def refusing(source, settings, *, provider_options=None, **_):
        if provider_options:
            raise ModelError("not all of it is on the GPU\nor something like that")
        return opened_as_told(folder, source)

    opened = loaded(folder, monkeypatch, refusing)
    why = "no CUDA graphs: not all of it is on the GPU"
    assert opened.note.endswith(f"; flow: {why}; vocoder: {why}")
    assert opened.decoder.window_frames == SIZES
    assert stream(opened.decoder, some_codes(20), WINDOWS)[0].any()


@pytest.mark.parametrize("when", ["opened", pytest.param("captured", marks=pytest.mark.slow)])
def test_each_part_is_decoded_without_by_itself(folder, monkeypatch, when, plain):
    refused = []

    def refusing(source, settings, *, provider_options=None, **_):
        session = opened_as_told(folder, source)
        if provider_options and any(i.name == CODES for i in session.get_inputs()):
            refused.append(session)
            if when == "opened":
                raise ModelError("it has Memcpy nodes")
            return Uncapturable(session)
        return session

    monkeypatch.setattr(load, "Memory", lambda device, number: Memory("cpu"))
    opened = loaded(folder, monkeypatch, refusing)
    assert len(refused) == 1
    assert "; flow: no CUDA graphs: " in opened.note
    assert opened.note.endswith(f"; vocoder: {2 * 5} shapes replayed")
    assert stream(opened.decoder, some_codes(20), WINDOWS)[0].any()


class Forgetting:
    """A session that computes nothing any more in a shape behind which others were captured: as
    kernels that went with another shape's plan."""

    def __init__(self, session):
        self._session, self._made = session, []
        self.get_inputs, self.run = session.get_inputs, session.run

    def io_binding(self):
        self._made.append(self._session.io_binding())
        return self._made[-1]

    def run_with_iobinding(self, binding, options):
        if any(binding is one for one in self._made[-3:]):
            self._session.run_with_iobinding(binding, options)


def test_a_replay_that_a_later_shape_broke_is_not_used(folder, monkeypatch, plain):
    def forgetting(source, settings, *, provider_options=None, **_):
        session = opened_as_told(folder, source)
        return Forgetting(session) if provider_options else session

    monkeypatch.setattr(load, "Memory", lambda device, number: Memory("cpu"))
    opened = loaded(folder, monkeypatch, forgetting)
    assert opened.note.count(": 3 shapes replayed, 7 not, because their results differed") == 2
    sound, _ = stream(opened.decoder, some_codes(40), WINDOWS)
    assert np.isfinite(sound).all()


class Uncapturable:
    """A session whose capture fails."""

    def __init__(self, session):
        self.get_inputs, self.run, self.io_binding = (
            session.get_inputs, session.run, session.io_binding,
        )  # fmt: skip

    def run_with_iobinding(self, *_):
        raise RuntimeError("operation not permitted when stream is capturing")


def test_only_what_windows_run_through_is_opened_for_capture(folder, monkeypatch):
    asked = []

    def noting(source, settings, *, provider_options=None, **_):
        asked.append(provider_options)
        return opened_as_told(folder, source)

    monkeypatch.setattr(load, "Memory", lambda device, number: Memory("cpu"))
    opened = loaded(folder, monkeypatch, noting)
    assert opened.note.count("shapes replayed") == 2
    assert [options for options in asked if options] == [CAPTURE_OPTIONS] * 2
