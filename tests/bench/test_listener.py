"""Tests of the simulated listener with hand-made arrival times."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatterbox.audio.encoders import wav_header
from chatterbox.bench.listener import PLAYER_BUFFER_S, BadAudio, Listener, parse_header

RATE_HZ = 24_000
SECOND = np.full(RATE_HZ, 1000, "<i2").tobytes()
SILENCE = np.zeros(RATE_HZ, "<i2").tobytes()
UNKNOWN = wav_header(RATE_HZ, None)


def heard(*arrivals: tuple[float, bytes]) -> Listener:
    listener = Listener()
    for at_s, data in arrivals:
        listener.feed(data, at_s)
    return listener


def test_the_first_audible_sample_counts_not_the_first_byte() -> None:
    listener = heard((1.0, UNKNOWN), (2.0, SILENCE), (2.5, SECOND), (2.6, SECOND))
    assert listener.first_audible_s == 2.5
    assert listener.audio_s == 3.0


@pytest.mark.parametrize(("peak", "audible"), [(100, False), (110, True), (-32768, True)])
def test_audible_is_above_minus_50_dbfs(peak: int, audible: bool) -> None:
    listener = heard((0.0, UNKNOWN + np.array([0, peak, 0], "<i2").tobytes()))
    assert (listener.first_audible_s is not None) == audible


def test_playback_without_a_gap() -> None:
    listener = heard((0.0, UNKNOWN + SECOND), (0.99, SECOND), (1.99, SECOND))
    assert listener.silences_s == []


def test_a_gap_is_an_underrun_and_delays_what_follows() -> None:
    listener = heard((0.0, UNKNOWN + SECOND), (1.5, SECOND), (2.4, SECOND), (3.4, SECOND))
    # the later seconds are in time for the delayed playback
    assert listener.silences_s == [pytest.approx(0.5 - PLAYER_BUFFER_S)]


def test_jitter_within_the_players_buffer_is_none() -> None:
    listener = heard((0.0, UNKNOWN + SECOND), (1.0 + PLAYER_BUFFER_S * 0.9, SECOND))
    assert listener.silences_s == []


def test_creeping_lateness_is_noticed() -> None:
    late_s = PLAYER_BUFFER_S * 0.6
    listener = heard(*((i * (1 + late_s), (b"" if i else UNKNOWN) + SECOND) for i in range(4)))
    assert len(listener.silences_s) == 1


@given(cuts=st.lists(st.integers(0, 600), max_size=10))
def test_any_cut_of_the_bytes_is_the_same_audio(cuts: list[int]) -> None:
    samples = np.arange(250, dtype="<i2")
    data = wav_header(RATE_HZ, 250) + samples.tobytes()
    edges = sorted(min(cut, len(data)) for cut in cuts)
    listener = Listener()
    for start, end in zip([0, *edges], [*edges, len(data)], strict=True):
        listener.feed(data[start:end], 0.0)
    listener.finish()
    assert listener.samples == 250


def test_other_chunks_before_the_data_are_passed_over() -> None:
    listed = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    header = UNKNOWN[:12] + listed + UNKNOWN[12:]
    parsed = parse_header(header)
    assert parsed is not None
    assert (parsed.sample_rate_hz, parsed.announced_samples) == (RATE_HZ, None)
    assert parsed.size_bytes == len(header)


@pytest.mark.parametrize(
    "data",
    [
        b"<html>",
        b"RIFF\0\0\0\0AVI ",
        UNKNOWN[:22] + b"\2" + UNKNOWN[23:],  # two channels
        UNKNOWN[:12] + UNKNOWN[36:],  # no format
    ],
)
def test_what_is_no_wav(data: bytes) -> None:
    with pytest.raises(BadAudio, match="not_wav"):
        heard((0.0, data))


def test_a_reply_that_ends_early() -> None:
    with pytest.raises(BadAudio, match="no_audio"):
        heard((0.0, b"")).finish()
    with pytest.raises(BadAudio, match="no_audio"):
        heard((0.0, UNKNOWN)).finish()
    with pytest.raises(BadAudio, match="short_audio"):
        heard((0.0, wav_header(RATE_HZ, RATE_HZ + 1) + SECOND)).finish()
