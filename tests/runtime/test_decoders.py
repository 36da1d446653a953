"""An opened decoder gives the whole decoder's sound: in pieces, in batches, for every seed.

Knows tiny decoders of every kind; runs them.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fakes import window_settings
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from onnx import numpy_helper
from tiny_decoder import (
    QUICK,
    job,
    local_decoder_model,
    open_decoder,
    opener,
    saved,
    snr_db,
    some_codes,
    stream,
    voice,
    whole,
)

from chatterbox.compile.decoder.introspect import introspect
from chatterbox.engine.vocoder_stream import Crossfader
from chatterbox.engine.windows import Windows
from chatterbox.families.base import DecodeJob, Rendered
from chatterbox.runtime.decoder import s3gen_decoder
from chatterbox.runtime.decoder.compiled import Opened
from chatterbox.runtime.decoder.s3gen import CODEC, MEL_FRAMES_PER_CODE, SAMPLES_PER_CODE
from chatterbox.runtime.decoder.s3gen_decoder import SplitDecoder, StreamSettings
from tools.decoder.build import write_decoder
from tools.decoder.model import decoder_model
from tools.decoder.weights import TINY, random_weights

PUBLISHED = window_settings(first_most_frames=6, most_frames=20)


def opened(
    model: onnx.ModelProto, folder: Path, rows: int = 4, *, afresh: bool = False, **more: Any
) -> Opened:
    path = saved(model, folder)
    return open_decoder(path, StreamSettings(max_rows=rows, **more), afresh=afresh)


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """Split; its sound in pieces can equal the whole."""
    return opened(local_decoder_model(), tmp_path_factory.mktemp("local"))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """As the authors' graph: attention over everything, one row."""
    model = decoder_model(random_weights(TINY), ragged=False)
    return opened(model, tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def ragged(tmp_path_factory):
    """From the authors' weights, rows of any length."""
    return opened(decoder_model(random_weights(TINY)), tmp_path_factory.mktemp("ragged"))


# --- opening


def test_decoders_are_opened_as_what_they_are(local, published, ragged):
    assert (local.kind, published.kind, ragged.kind) == ("split", "split", "split")
    assert "rows share calls (" in ragged.note
    assert "rows share calls (" in published.note
    assert published.decoder.max_rows == 4


def test_external_weights_stay_in_their_file(tmp_path):
    model = decoder_model(random_weights(TINY), ragged=False)
    path = saved(model, tmp_path, external=True)
    made = open_decoder(path, StreamSettings(int8=True))
    assert made.kind == "split"
    assert "8 bits" in made.note
    assert made.decoder.max_rows == 1


def test_8_bits_that_hurt_are_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr("chatterbox.compile.decoder.variants.MEL_LIMIT_DB", 0.0)
    model = decoder_model(random_weights(TINY), ragged=False)
    made = opened(model, tmp_path, afresh=True, int8=True)
    assert "exact, since 8 bits are" in made.note


def test_without_a_cut_the_whole_graph_gets_its_draws(tmp_path):
    model = local_decoder_model()
    widen_first_pitch_filter(model)  # a pitch predictor of another make
    made = opened(model, tmp_path)
    assert made.kind == "whole"
    assert made.note.endswith(("; its draws are inputs, equal", " dB SNR"))
    assert made.decoder.max_rows == 1
    codes = some_codes(40)
    one, windows = stream(made.decoder, codes, PUBLISHED, seed=3)
    same, _ = stream(made.decoder, codes, PUBLISHED, seed=3)
    reference, _ = stream(made.decoder, codes, whole(), seed=3)
    assert len(windows) > 2
    np.testing.assert_array_equal(one, same)
    assert snr_db(reference, one) > 30


def widen_first_pitch_filter(model: onnx.ModelProto) -> None:
    """Give the first pitch filter five taps, of which the outer two do nothing."""
    name = "mel2wav.f0_predictor.condnet.0.weight"
    (weight,) = [i for i in model.graph.initializer if i.name == name]
    wide = np.pad(numpy_helper.to_array(weight), [(0, 0), (0, 0), (1, 1)])
    weight.CopyFrom(numpy_helper.from_array(wide, name))
    (node,) = [n for n in model.graph.node if name in n.input]
    for attribute in node.attribute:
        if attribute.name == "pads":
            attribute.ints[:] = [2, 2]


def test_a_graph_whose_sizes_follow_no_law_is_used_as_it_is(tmp_path):
    model = local_decoder_model()
    half = onnx.helper.make_node("Slice", ["waveform_full", "n", "m", "n1"], ["waveform"])
    model.graph.node[-1].output[0] = "waveform_full"
    for name, value in {"n": [5], "m": [2**40], "n1": [1]}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    model.graph.node.append(half)
    made = opened(model, tmp_path)
    assert made.kind == "as published"
    rendered = decode_once(made, 9)
    assert rendered.samples.size == (9 + 3) * SAMPLES_PER_CODE - 5


def decode_once(made: Opened, count: int) -> Rendered:
    codes, everything = some_codes(count), whole()
    windows, seams = Windows(everything), Crossfader(0)
    window = windows.next(count, True, 0.0, QUICK)
    assert window is not None
    given = job(made.decoder.open(voice(), 1), codes, window, seams, everything)
    return made.decoder.run([given])[0]


@pytest.mark.parametrize("edition", ["fp16", pytest.param("int8", marks=pytest.mark.slow)])
def test_editions_open_and_sound_alike(edition, local, tmp_path):
    weights = random_weights(TINY)
    paths = [write_decoder(weights, tmp_path, e, ragged=False) for e in ("fp32", edition)]
    exact, other = (open_decoder(path, StreamSettings()).decoder for path in paths)
    codes = some_codes(20)
    a, b = (stream(d, codes, whole())[0] for d in (exact, other))
    # As loud in every 20 ms; the phases may have drifted apart.
    loud = [np.log(np.square(x[960:].reshape(-1, 480)).mean(axis=1)) for x in (a, b)]
    assert abs(loud[0] - loud[1]).mean() < 0.2


# --- sound


@pytest.mark.parametrize(("look_ahead", "alike_db"), [(5, 30), (8, 50)])
def test_in_pieces_it_sounds_as_in_one(local, look_ahead, alike_db):
    """Only the vocoder's edges differ: where a window ends, it has not seen far ahead."""
    codes = some_codes(90)
    settings = replace(PUBLISHED, codec=replace(CODEC, look_ahead_frames=look_ahead))
    reference, _ = stream(local.decoder, codes, whole())
    pieces, windows = stream(local.decoder, codes, settings)
    assert len(windows) > 4
    assert pieces.shape == reference.shape
    assert snr_db(reference, pieces) > alike_db


def test_without_the_carried_phase_it_would_not(local):
    codes = some_codes(60)
    reference, _ = stream(local.decoder, codes, whole())
    decoder = local.decoder
    opened_stream = decoder.open(voice(), 7)
    windows, seams, pieces = Windows(PUBLISHED), Crossfader(PUBLISHED.cross_fade_samples), []
    while (window := windows.next(len(codes), True, 0.0, QUICK)) is not None:
        opened_stream.carry = None
        made = decoder.run([job(opened_stream, codes, window, seams, PUBLISHED)])[0]
        pieces.append(seams.join(made.samples, made.at, window.last))
    assert snr_db(reference, np.concatenate(pieces)) < 10


def test_equal_seeds_give_equal_samples_and_others_do_not(published):
    codes = some_codes(30)
    a, _ = stream(published.decoder, codes, PUBLISHED, seed=5)
    b, _ = stream(published.decoder, codes, PUBLISHED, seed=5)
    c, _ = stream(published.decoder, codes, PUBLISHED, seed=6)
    np.testing.assert_array_equal(a, b)
    assert snr_db(a, c) < 10


def test_the_first_40_ms_fade_in_and_no_later_ones(published):
    samples, windows = stream(published.decoder, some_codes(60), PUBLISHED)
    assert len(windows) > 3
    assert not samples[:480].any()
    loud = np.sqrt(np.square(samples[960:].reshape(-1, 480)).mean(axis=1))
    assert loud.min() > loud.mean() / 20


def test_the_prompt_is_cut_to_the_setting(published, tmp_path):
    long, short = voice(40), voice(40)
    tensors = short.data
    cut = type(tensors)(
        tensors.features, tensors.prompt_codes[:10], tensors.speaker, tensors.prompt_mel[:20]
    )
    short = type(short)("cut", cut)
    model = decoder_model(random_weights(TINY), ragged=False)
    path = saved(model, tmp_path)
    ten = open_decoder(path, StreamSettings(prompt_codes=10)).decoder
    a, _ = stream(ten, some_codes(12), whole(), who=long)
    b, _ = stream(published.decoder, some_codes(12), whole(), who=short)
    np.testing.assert_allclose(a, b, atol=1e-6)


@hypothesis_settings(max_examples=8)
@given(st.integers(1, 40), st.sampled_from([0.0, 0.5, 9.0]))
def test_every_length_comes_out_whole(local, count, slack_s):
    samples, _ = stream(local.decoder, some_codes(count), PUBLISHED, slack_s=slack_s)
    assert samples.size == (count + 3) * SAMPLES_PER_CODE
    assert np.isfinite(samples).all()


# --- batches


def windows_of(made: Opened, lengths: list[int]) -> list[list[DecodeJob]]:
    """The same windows of the same streams, alone and together: two lists of jobs."""
    both: list[list[DecodeJob]] = [[], []]
    for jobs in both:
        for row, length in enumerate(lengths):
            codes = some_codes(length, seed=row)
            windows, seams = Windows(whole()), Crossfader(0)
            window = windows.next(length, True, 0.0, QUICK)
            assert window is not None
            opened_stream = made.decoder.open(voice(12, seed=row), seed=row)
            jobs.append(job(opened_stream, codes, window, seams, whole()))
    return both


@pytest.mark.parametrize(
    ("kind", "lengths"), [("ragged", [9, 9]), ("published", [9, 9, 9]), ("local", [8, 8])]
)
def test_together_rows_are_what_they_are_alone(kind, lengths, request):
    made = request.getfixturevalue(kind)
    alone, together = windows_of(made, lengths)
    assert len({made.decoder.bucket(j) for j in together}) == 1
    solos = [made.decoder.run([j])[0] for j in alone]
    for solo, row in zip(solos, made.decoder.run(together), strict=True):
        assert row.at == solo.at
        assert row.samples.shape == solo.samples.shape
        assert snr_db(solo.samples, row.samples) > 80


def test_rows_that_cannot_share_a_call_are_in_different_buckets(published):
    _, jobs = windows_of(published, [9, 10])
    assert len({published.decoder.bucket(j) for j in jobs}) == 2


def test_streams_in_a_batch_do_not_mix(ragged):
    """Windows of two streams, decoded together from beginning to end."""
    decoder = ragged.decoder
    streams = [(some_codes(40, seed=s), decoder.open(voice(12, seed=s), s)) for s in (1, 2)]
    alone = [
        stream(decoder, codes, PUBLISHED, who=voice(12, seed=s), seed=s)[0]
        for s, (codes, _) in enumerate(streams, start=1)
    ]
    plans = [(Windows(PUBLISHED), Crossfader(PUBLISHED.cross_fade_samples)) for _ in streams]
    pieces: list[list[np.ndarray]] = [[], []]
    while not plans[0][0].done:
        jobs = []
        for (codes, opened_stream), (windows, seams) in zip(streams, plans, strict=True):
            window = windows.next(len(codes), True, 0.0, QUICK)
            assert window is not None
            jobs.append(job(opened_stream, codes, window, seams, PUBLISHED))
        for row, made in enumerate(decoder.run(jobs)):
            pieces[row].append(plans[row][1].join(made.samples, made.at, jobs[row].window.last))
    for row, reference in enumerate(alone):
        assert snr_db(reference, np.concatenate(pieces[row])) > 60


@pytest.mark.parametrize("kind", ["ragged", "published", "local"])
def test_another_window_in_the_middle_of_one_changes_neither(kind, request):
    decoder = request.getfixturevalue(kind).decoder
    alone, mixed = windows_of(request.getfixturevalue(kind), [9, 9])
    expected = [decoder.run([j])[0].samples for j in alone]
    finish = decoder.start([mixed[0]])
    (between,) = decoder.run([mixed[1]])
    (around,) = finish()
    for samples, made in zip(expected, (around, between), strict=True):
        np.testing.assert_array_equal(made.samples, samples)


def test_a_call_that_fails_half_way_has_moved_no_stream_on(tmp_path, monkeypatch):
    """Rows whose vocoder calls differ: the second call fails, and both are made again."""
    made = opened(decoder_model(random_weights(TINY)), tmp_path, sizes=(5, 10, 20))
    decoder = made.decoder
    _, jobs = windows_of(made, [16, 19])
    expected = [one.samples for one in decoder.run(jobs)]
    _, jobs = windows_of(made, [16, 19])
    declared, calls = s3gen_decoder.cast_feeds, []

    def failing(session, feeds):
        calls.append(session)
        if len(calls) == 2:
            raise MemoryError
        return declared(session, feeds)

    monkeypatch.setattr(s3gen_decoder, "cast_feeds", failing)
    with pytest.raises(MemoryError):
        decoder.run(jobs)
    assert [(j.stream.mel.shape, j.stream.carry) for j in jobs] == [((80, 0), None)] * 2
    for again, samples in zip(decoder.run(jobs), expected, strict=True):
        np.testing.assert_array_equal(again.samples, samples)


# --- what was learnt


def test_a_study_knows_draws_sums_and_the_mel(tmp_path):
    known = introspect(decoder_model(random_weights(TINY)), opener(tmp_path))
    assert known.mel is not None
    rates = sorted(max(e.per_code for e in law) for law in known.draws.values())
    assert rates == [0, MEL_FRAMES_PER_CODE, SAMPLES_PER_CODE]
    (law,) = known.sums.values()
    assert [e.per_code for e in law] == [0, 0, MEL_FRAMES_PER_CODE]


def test_a_vocoder_gets_the_same_noise_for_the_same_frame(local):
    """Two ways through the same codes meet in the same sample."""
    codes = some_codes(60)
    assert isinstance(local.decoder, SplitDecoder)
    small, _ = stream(local.decoder, codes, window_settings(first_most_frames=4, most_frames=10))
    large, _ = stream(local.decoder, codes, window_settings(first_most_frames=9, most_frames=33))
    assert snr_db(large, small) > 30
