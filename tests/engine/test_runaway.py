"""Does the guard stop loops, endless streams and dead air, and let good speech pass?

Knows no model: streams of codes written by hand.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatterbox.engine.runaway import (
    DEAD_AIR_CODES,
    LOOP_CODES,
    RETRIES,
    TAIL_CODES,
    EndAt,
    Retry,
    RunawayDetector,
    Verdict,
    best_take,
    expected_codes,
    remedy,
)
from chatterbox.runtime.contract import SAMPLES_PER_CODE, SILENCE_CODE

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
    verdict = first_verdict(RunawayDetector(600), intro + turn * (LOOP_CODES + 2))
    assert verdict is not None
    assert verdict.fault == "loop"
    assert before <= verdict.end <= before + period, "the first turn is good"


@given(st.integers(1, 64), st.integers(0, 5))
def test_a_loop_shorter_than_32_codes_passes(period, seed):
    turn = speech(period, seed)
    repeated = (turn * 40)[: period + LOOP_CODES - 1]
    codes = speech(50, 7) + repeated + speech(50, 8)
    assert first_verdict(RunawayDetector(600), codes) is None


def test_equal_neighbours_and_a_held_vowel_pass():
    codes = [c for c in speech(100) for _ in range(2)] + [77] * LOOP_CODES + speech(20, 3)
    assert first_verdict(RunawayDetector(600), codes) is None


@given(st.lists(st.integers(0, 6560), max_size=250))
def test_codes_without_repetition_pass(codes):
    shuffled = [(c + 13 * i) % 4000 for i, c in enumerate(codes)]
    assert first_verdict(RunawayDetector(CHARS), shuffled) is None


# --- pauses and dead air


@pytest.mark.parametrize("pause", [2, 25, 60, 150])
def test_a_pause_inside_the_text_is_no_fault(pause):
    codes = speech(100) + [SILENCE_CODE] * pause + speech(60, 1)
    assert first_verdict(RunawayDetector(CHARS), codes) is None


def test_silence_for_ever_inside_the_text_is_one():
    verdict = first_verdict(RunawayDetector(CHARS), speech(100) + [SILENCE_CODE] * 400)
    assert verdict == Verdict("dead_air", 100 + TAIL_CODES)


def test_dead_air_after_the_text_is_cut_soon():
    over = round(expected_codes(CHARS) * 1.3)
    codes = speech(over) + [SILENCE_CODE] * DEAD_AIR_CODES
    assert first_verdict(RunawayDetector(CHARS), codes[:-1]) is None
    assert first_verdict(RunawayDetector(CHARS), codes) == Verdict("dead_air", over + TAIL_CODES)


def test_silence_of_several_codes_is_learnt_by_listening():
    silent = [11, 12]
    heard = np.array([5, 6, 11, 7, 12, 8])
    sound = np.repeat(np.where(np.isin(heard, silent), 1e-4, 0.3), SAMPLES_PER_CODE)
    guard, deaf = RunawayDetector(CHARS), RunawayDetector(CHARS)
    guard.hear(heard, sound.astype(np.float32))
    pause = speech(100) + silent * 40 + speech(60, 1)
    assert first_verdict(guard, pause) is None
    loop = first_verdict(deaf, pause)
    assert loop is not None
    assert loop.fault == "loop"


def test_a_code_that_is_loud_once_is_not_silence():
    guard = RunawayDetector(CHARS)
    heard = np.array([5, 9, 9])
    sound = np.repeat([0.3, 1e-5, 0.3], SAMPLES_PER_CODE).astype(np.float32)
    guard.hear(heard, sound)
    verdict = first_verdict(guard, [9] * 60)
    assert verdict is not None
    assert verdict.fault == "loop"


def test_hearing_nothing_changes_nothing():
    guard = RunawayDetector(CHARS)
    guard.hear(np.array([], dtype=np.int64), np.zeros(0, np.float32))
    guard.hear(np.array([1, 2]), np.zeros(100, np.float32))
    assert first_verdict(guard, [1, 2] * 40) is not None


# --- budget


@given(st.integers(0, 600))
def test_every_stream_ends_at_its_budget(chars):
    guard = RunawayDetector(chars)
    verdict = first_verdict(guard, speech(guard.budget_codes))
    assert verdict == Verdict("budget", guard.budget_codes)


def test_the_budget_leaves_slow_speech_alone():
    assert first_verdict(RunawayDetector(CHARS), speech(expected_codes(CHARS) * 3)) is None


def test_a_runaway_ends_at_its_first_pause_after_the_text():
    guard = RunawayDetector(CHARS)
    pause_at = round(expected_codes(CHARS) * 1.5)
    codes = speech(pause_at) + [SILENCE_CODE] * 10 + speech(2000, 1)
    assert first_verdict(guard, codes) == Verdict("budget", pause_at + TAIL_CODES)


def test_a_longer_text_gets_a_longer_budget():
    budgets = [RunawayDetector(chars).budget_codes for chars in (0, 15, 150, 280)]
    assert budgets == sorted(set(budgets))
    assert budgets[1] == 4 * 35 + 64


# --- what to do about it


def test_an_attempt_is_repeated_three_times_then_ended():
    verdict = Verdict("loop", 80)
    remedies = [
        remedy(verdict, sent=False, attempt=a, temperature=0.8, repetition_penalty=1.2)
        for a in range(RETRIES + 1)
    ]
    retries = [r for r in remedies if isinstance(r, Retry)]
    assert len(retries) == RETRIES == 3
    assert remedies[-1] == EndAt(80)
    warmth = [r.temperature for r in retries]
    assert warmth == sorted(warmth)
    assert warmth[0] > 0.8
    assert warmth[-1] <= 1.0


def test_greedy_sampling_that_loops_is_given_up():
    retry = remedy(
        Verdict("loop", 3), sent=False, attempt=0, temperature=0.0, repetition_penalty=1.0
    )
    assert isinstance(retry, Retry)
    assert retry.temperature >= 0.6
    assert retry.repetition_penalty > 1.0


def test_what_has_been_sent_is_never_repeated():
    assert remedy(
        Verdict("dead_air", 42), sent=True, attempt=0, temperature=0.8, repetition_penalty=1.2
    ) == EndAt(42)


def test_other_faults_keep_the_sampling():
    assert remedy(
        Verdict("budget", 9), sent=False, attempt=2, temperature=1.3, repetition_penalty=1.2
    ) == Retry(1.3, 1.2)


def test_the_attempt_most_like_speech_of_the_text_is_kept():
    expected = expected_codes(CHARS)
    assert best_take([10, expected - 5, 4 * expected], CHARS) == 1
    assert best_take([expected, expected], CHARS) == 0
