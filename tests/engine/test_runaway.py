"""The guard stops loops, endless streams and dead air, and lets good speech pass.

Knows no model: streams of codes written by hand.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatterbox.engine.runaway import (
    DEAD_AIR_S,
    LOOP_S,
    RETRIES,
    TAIL_S,
    RunawayDetector,
    Verdict,
    best_take,
    expected_frames,
    frames,
    remedy,
)
from chatterbox.engine.sampler import Sampling
from chatterbox.families.base import CodecSpec
from chatterbox.runtime.decoder.s3gen import CODEC, SAMPLES_PER_CODE, SILENCE_CODE

DEAD_AIR_CODES, LOOP_CODES, TAIL_CODES = (frames(s, CODEC) for s in (DEAD_AIR_S, LOOP_S, TAIL_S))
CHARS = 150  # 260 codes expected


def speech(count: int, seed: int = 0) -> list[int]:
    return [int(c) for c in np.random.default_rng(seed).integers(0, 4000, count)]


def first_verdict(guard: RunawayDetector, codes: list[int]) -> Verdict | None:
    for code in codes:
        verdict = guard.push(code)
        if verdict is not None:
            return verdict
    return None


# --- loops


@given(st.integers(1, 64), st.integers(0, 120), st.integers(0, 5))
def test_loops_of_every_period_are_found_at_their_second_turn(period, before, seed):
    intro, turn = speech(before, seed), speech(period, seed + 100)
    verdict = first_verdict(RunawayDetector(600, CODEC), intro + turn * (LOOP_CODES + 2))
    assert verdict is not None
    assert verdict.fault == "loop"
    assert before <= verdict.end <= before + period, "the first turn is good"


@given(st.integers(1, 64), st.integers(0, 5))
def test_a_loop_shorter_than_32_codes_passes(period, seed):
    turn = speech(period, seed)
    repeated = (turn * 40)[: period + LOOP_CODES - 1]
    codes = speech(50, 7) + repeated + speech(50, 8)
    assert first_verdict(RunawayDetector(600, CODEC), codes) is None


def test_equal_neighbours_and_a_held_vowel_pass():
    codes = [c for c in speech(100) for _ in range(2)] + [77] * LOOP_CODES + speech(20, 3)
    assert first_verdict(RunawayDetector(600, CODEC), codes) is None


@given(st.lists(st.integers(0, 6560), max_size=250))
def test_codes_without_repetition_pass(codes):
    shuffled = [(c + 13 * i) % 4000 for i, c in enumerate(codes)]
    assert first_verdict(RunawayDetector(CHARS, CODEC), shuffled) is None


# --- pauses and dead air


@pytest.mark.parametrize("pause", [2, 25, 60, 150])
def test_a_pause_inside_the_text_is_no_fault(pause):
    codes = speech(100) + [SILENCE_CODE] * pause + speech(60, 1)
    assert first_verdict(RunawayDetector(CHARS, CODEC), codes) is None


def test_silence_for_ever_inside_the_text_is_one():
    verdict = first_verdict(RunawayDetector(CHARS, CODEC), speech(100) + [SILENCE_CODE] * 400)
    assert verdict == Verdict("dead_air", 100 + TAIL_CODES)


def test_dead_air_after_the_text_is_cut_soon():
    over = round(expected_frames(CHARS, CODEC) * 1.3)
    codes = speech(over) + [SILENCE_CODE] * DEAD_AIR_CODES
    assert first_verdict(RunawayDetector(CHARS, CODEC), codes[:-1]) is None
    assert first_verdict(RunawayDetector(CHARS, CODEC), codes) == Verdict(
        "dead_air", over + TAIL_CODES
    )


def test_silence_of_several_codes_is_learnt_by_listening():
    silent = [11, 12]
    heard = np.array([5, 6, 11, 7, 12, 8])
    sound = np.repeat(np.where(np.isin(heard, silent), 1e-4, 0.3), SAMPLES_PER_CODE)
    guard, deaf = RunawayDetector(CHARS, CODEC), RunawayDetector(CHARS, CODEC)
    guard.hear(heard, sound.astype(np.float32))
    pause = speech(100) + silent * 40 + speech(60, 1)
    assert first_verdict(guard, pause) is None
    loop = first_verdict(deaf, pause)
    assert loop is not None
    assert loop.fault == "loop"


def test_a_code_that_is_loud_once_is_not_silence():
    guard = RunawayDetector(CHARS, CODEC)
    heard = np.array([5, 9, 9])
    sound = np.repeat([0.3, 1e-5, 0.3], SAMPLES_PER_CODE).astype(np.float32)
    guard.hear(heard, sound)
    verdict = first_verdict(guard, [9] * 60)
    assert verdict is not None
    assert verdict.fault == "loop"


def test_hearing_nothing_changes_nothing():
    guard = RunawayDetector(CHARS, CODEC)
    guard.hear(np.array([], dtype=np.int64), np.zeros(0, np.float32))
    guard.hear(np.array([1, 2]), np.zeros(100, np.float32))
    assert first_verdict(guard, [1, 2] * 40) is not None


# --- budget


@given(st.integers(0, 600))
def test_every_stream_ends_at_its_budget(chars):
    guard = RunawayDetector(chars, CODEC)
    verdict = first_verdict(guard, speech(guard.budget_tokens))
    assert verdict == Verdict("budget", guard.budget_tokens)


def test_the_budget_leaves_slow_speech_alone():
    assert (
        first_verdict(RunawayDetector(CHARS, CODEC), speech(expected_frames(CHARS, CODEC) * 3))
        is None
    )


def test_a_runaway_ends_at_its_first_pause_after_the_text():
    guard = RunawayDetector(CHARS, CODEC)
    pause_at = round(expected_frames(CHARS, CODEC) * 1.5)
    codes = speech(pause_at) + [SILENCE_CODE] * 10 + speech(2000, 1)
    assert first_verdict(guard, codes) == Verdict("budget", pause_at + TAIL_CODES)


def test_a_longer_text_gets_a_longer_budget():
    budgets = [RunawayDetector(chars, CODEC).budget_tokens for chars in (0, 15, 150, 280)]
    assert budgets == sorted(set(budgets))
    assert budgets[1] == 4 * 35 + 64


# --- what to do about it


def test_an_attempt_is_repeated_three_times_then_ended():
    remedies = [
        remedy("loop", attempt, Sampling(temperature=0.8, repetition_penalty=1.2))
        for attempt in range(RETRIES + 1)
    ]
    *retries, last = remedies
    assert len(retries) == RETRIES == 3
    assert last is None
    warmth = [sampling.temperature for sampling in retries]
    assert warmth == sorted(warmth)
    assert warmth[0] > 0.8
    assert warmth[-1] <= 1.0


def test_greedy_sampling_that_loops_is_given_up():
    retry = remedy("loop", 0, Sampling(temperature=0.0, repetition_penalty=1.0))
    assert retry.temperature >= 0.6
    assert retry.repetition_penalty > 1.0


def test_other_faults_keep_the_sampling():
    sampling = Sampling(temperature=1.3, repetition_penalty=1.2)
    assert remedy("budget", 2, sampling) == sampling


def test_the_attempt_most_like_speech_of_the_text_is_kept():
    expected = expected_frames(CHARS, CODEC)
    assert best_take([10, expected - 5, 4 * expected], CHARS, CODEC) == 1
    assert best_take([expected, expected], CHARS, CODEC) == 0


ORPHEUS_LIKE = CodecSpec(24_000, 7, 2048, look_ahead_frames=3, left_context_frames=3)
"""Seven tokens a frame, each place with numbers of its own."""


def framed(frames_of: list[int]) -> list[int]:
    return [4096 * place + (frame + place) % 4096 for frame in frames_of for place in range(7)]


def test_a_loop_of_frames_is_found_where_a_frame_has_seven_tokens():
    turn = speech(3)
    intro = speech(30, seed=1)
    verdict = first_verdict(RunawayDetector(600, ORPHEUS_LIKE), framed(intro + turn * 40))
    assert verdict is not None
    assert (verdict.fault, verdict.end) == ("loop", 7 * (30 + len(turn)))


def test_frames_that_sound_silent_are_dead_air_where_no_token_is_known_to_be():
    detector = RunawayDetector(15, ORPHEUS_LIKE)
    spoken = framed(speech(30))
    assert first_verdict(detector, spoken) is None
    quiet = framed([7])
    loud, soft = np.full(2048, 0.5, np.float32), np.zeros(2048, np.float32)
    detector.hear(np.array(spoken[:7] + quiet), np.concatenate([loud, soft]))
    assert first_verdict(detector, quiet * 40) == Verdict(
        "dead_air", 7 * (30 + frames(TAIL_S, ORPHEUS_LIKE))
    )
