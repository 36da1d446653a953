"""The sampler against a slow, literal reading of upstream's order of processors."""

from dataclasses import replace

import numpy as np
import pytest
from fakes import turbo_sampling
from hypothesis import given, settings
from hypothesis import strategies as st

from chatterbox.engine.sampler import INVALID_ROW, Sampler, Sampling, uniforms
from chatterbox.families.base import TokenSpec
from chatterbox.families.sampling import (
    SAMPLE_STRIDE,
    min_p,
    repetition_penalty,
    temperature,
    top_k_top_p,
)
from chatterbox.families.turbo.spec import START_CODE, STOP_CODE, TOKENS

VOCAB = 6563

ORPHEUS = TokenSpec(
    vocabulary=7 * 40 + 12,
    stop=frozenset({2}),
    starts=tuple(10 + 40 * place for place in range(7)),
    width=40,
    processors=(repetition_penalty, temperature, top_k_top_p, min_p),
)
"""Places as Orpheus has them, with 40 codes."""
FIRST_CODE = 3337
NEUTRAL = Sampling(temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1.0)


def row_of(sampling: Sampling, draws, tokens: TokenSpec = TOKENS) -> Sampler:
    """A sampler with one row, which has said `FIRST_CODE`."""
    sampler = Sampler(1, tokens)
    sampler.begin(0, sampling, np.concatenate([[0.0], draws]))
    sampler.sample(favourite(FIRST_CODE, tokens), [0])
    return sampler


def favourite(token: int, tokens: TokenSpec = TOKENS):
    """Logits [1, vocabulary] that leave no choice but `token`."""
    logits = np.full((1, tokens.vocabulary), -100.0, np.float32)
    logits[0, token] = 100.0
    return logits


def slow_distribution(logits, sampling: Sampling, given_codes: list[int]):
    """[vocab] probabilities, one processor after the other, in float64."""
    scores = logits.astype(np.float64)
    scores[START_CODE] = -np.inf
    if sampling.temperature > 0:
        scores = scores / sampling.temperature
    if sampling.top_k:
        scores[scores < np.sort(scores)[-sampling.top_k]] = -np.inf
    order = np.argsort(-scores, kind="stable")
    probs = np.exp(scores[order] - scores.max())
    probs /= probs.sum()
    before = np.cumsum(probs) - probs
    scores[order[before >= sampling.top_p]] = -np.inf
    for code in set(given_codes):
        s = scores[code]
        penalty = sampling.repetition_penalty
        scores[code] = s * penalty if s < 0 else s / penalty
    probs = np.exp(scores - scores.max())
    return probs / probs.sum()


def test_draws_follow_the_slow_reference():
    rng = np.random.default_rng(1)
    logits = (rng.standard_normal((1, VOCAB)) * 4).astype(np.float32)
    draws = rng.random(40)
    sampler = row_of(turbo_sampling(), draws)
    given_codes = [FIRST_CODE]
    for step, draw in enumerate(draws):
        cumulative = np.cumsum(slow_distribution(logits[0], turbo_sampling(), given_codes))
        want = int(np.searchsorted(cumulative, draw * cumulative[-1], side="right"))
        (got,) = sampler.sample(logits, [0])
        near_edge = min(abs(cumulative - draw * cumulative[-1])) < 1e-5
        assert got == want or near_edge, step
        given_codes.append(got)


@pytest.mark.parametrize(
    "sampling",
    [
        turbo_sampling(top_k=0),
        turbo_sampling(top_k=1),
        turbo_sampling(top_p=1.0),
        turbo_sampling(top_p=0.01),
        turbo_sampling(repetition_penalty=1.0),
        turbo_sampling(temperature=5.0, top_k=50, top_p=0.5, repetition_penalty=2.0),
    ],
)
def test_every_parameter_draws_only_what_the_reference_allows(sampling):
    rng = np.random.default_rng(2)
    logits = (rng.standard_normal((1, VOCAB)) * 4).astype(np.float32)
    sampler = row_of(sampling, rng.random(30))
    given_codes = [FIRST_CODE]
    for _ in range(30):
        probs = slow_distribution(logits[0], sampling, given_codes)
        (code,) = sampler.sample(logits, [0])
        assert probs[code] > 0
        given_codes.append(code)


def test_greedy_takes_the_best_after_the_penalty():
    logits = np.zeros((1, VOCAB), np.float32)
    logits[0, 5], logits[0, 9] = 3.0, 2.9
    sampler = row_of(turbo_sampling(temperature=0.0), np.full(3, 0.5))
    codes = [sampler.sample(logits, [0])[0] for _ in range(3)]
    assert codes == [5, 9, 5]  # 3.0/1.2 < 2.9, then 2.9/1.2 < 3.0/1.2 again


def test_start_code_is_never_given_and_stop_not_first():
    logits = np.zeros((1, VOCAB), np.float32)
    logits[0, START_CODE] = 90.0
    logits[0, STOP_CODE] = 80.0
    logits[0, 3] = 70.0
    sampler = Sampler(1, TOKENS)
    sampler.begin(0, turbo_sampling(), np.full(2, 0.5))
    assert [sampler.sample(logits, [0])[0] for _ in range(2)] == [3, STOP_CODE]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_fails_alone(bad):
    rng = np.random.default_rng(3)
    logits = rng.standard_normal((3, VOCAB)).astype(np.float32)
    poisoned = logits.copy()
    poisoned[1, 100] = bad
    draws = rng.random((3, 1))
    results = []
    for rows in (logits, poisoned):
        sampler = Sampler(3, TOKENS)
        for slot in range(3):
            sampler.begin(slot, turbo_sampling(), draws[slot])
        results.append(sampler.sample(rows, [0, 1, 2]))
    clean, hurt = results
    assert hurt == [clean[0], INVALID_ROW, clean[2]]


def test_the_penalty_history_starts_anew_with_each_row():
    logits = np.zeros((1, VOCAB), np.float32)
    logits[0, 5] = 3.0
    logits[0, 9] = 2.9
    sampler = Sampler(1, TOKENS)
    for _ in range(2):
        sampler.begin(0, turbo_sampling(temperature=0.0), np.zeros(1))
        assert sampler.sample(logits, [0]) == [5]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([TOKENS, ORPHEUS]), st.integers(0, 2**32 - 1), st.integers(2, 6), st.data())
def test_a_row_is_sampled_the_same_alone_and_in_company(tokens, seed, rows, data):
    """Rows stand at different places of their frames."""
    rng = np.random.default_rng(seed)
    draws = rng.random((rows, 12))
    params = [
        turbo_sampling(
            temperature=data.draw(st.sampled_from([0.0, 0.3, 0.8, 1.0, 2.0])),
            top_k=data.draw(st.sampled_from([0, 1, 40, 1000])),
            top_p=data.draw(st.sampled_from([0.2, 0.95, 1.0])),
            min_p=data.draw(st.sampled_from([0.0, 0.05])),
            repetition_penalty=data.draw(st.sampled_from([1.0, 1.2])),
            penalty_window=data.draw(st.sampled_from([0, 7])),
        )
        for _ in range(rows)
    ]
    together, alone = Sampler(rows, tokens), Sampler(rows, tokens)
    for slot, sampling in enumerate(params):
        together.begin(slot, sampling, draws[slot])
        alone.begin(slot, sampling, draws[slot])
    for step in range(4):
        company = [slot for slot in range(rows) if (step + slot) % 3]
        logits = rng.standard_normal((len(company), tokens.vocabulary)) * rng.uniform(0.5, 6)
        logits = logits.astype(np.float32)
        batch = together.sample(logits, company)
        single = [alone.sample(logits[i : i + 1], [s])[0] for i, s in enumerate(company)]
        assert batch == single


def test_streams_differ_by_seed_segment_and_attempt_and_by_nothing_else():
    streams = {
        key: tuple(uniforms(*key, 4))
        for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**32 - 1, 0, 0)]
    }
    assert len(set(streams.values())) == len(streams)
    assert tuple(uniforms(1, 0, 0, 9)[:4]) == streams[1, 0, 0]


def test_a_parameter_is_taken_from_the_first_source_that_states_it():
    call = {"temperature": 0, "top_k": None}
    settings = {"temperature": 0.5, "top_k": 7, "top_p": None}
    model = {"top_k": 9, "top_p": 0.4}
    assert Sampling.merge(call, settings, model) == Sampling(0, 7, 0.4, 1.0)
    assert Sampling.merge() == Sampling()


@pytest.mark.parametrize("temperature", [1e-45, 1e-38, 1e-20, 1e-6, 9e-4])
def test_a_tiny_temperature_is_greedy(temperature):
    rng = np.random.default_rng(7)
    logits = (rng.standard_normal((1, VOCAB)) * 5).astype(np.float32)
    codes = []
    for each in (0.0, temperature):
        sampler = row_of(turbo_sampling(temperature=each), rng.random(1))
        with np.errstate(all="raise"):
            codes.append(sampler.sample(logits, [0]))
    assert codes[1] == codes[0] == [int(np.delete(logits[0], START_CODE).argmax())]


def test_frames_cannot_slip():
    """Whatever the logits: the codes of the frame's place, and the stop token between frames."""
    rng = np.random.default_rng(5)
    sampler = Sampler(3, ORPHEUS)
    for slot in range(3):
        sampler.begin(slot, NEUTRAL, rng.random(2000))
    said = [0, 0, 0]
    stops = 0
    for step in range(1500):
        rows = [slot for slot in range(3) if (step >> slot) % 2 or step % 7 == slot]
        if not rows:
            continue
        logits = rng.standard_normal((len(rows), ORPHEUS.vocabulary)).astype(np.float32)
        logits[:, 2] = 3.0
        for slot, token in zip(rows, sampler.sample(logits, rows), strict=True):
            if token == 2:
                stops += 1
                assert said[slot] > 0
                assert said[slot] % 7 == 0
            else:
                assert (token - 10) // 40 == said[slot] % 7
            said[slot] += 1
    assert stops


def test_code_0_is_a_code():
    sampler = Sampler(1, ORPHEUS)
    sampler.begin(0, NEUTRAL, np.zeros(7))
    for start in ORPHEUS.starts:
        assert sampler.sample(favourite(start, ORPHEUS), [0]) == [start]


@pytest.mark.parametrize(("window", "penalised"), [(0, True), (6, False), (7, True), (20, True)])
def test_the_penalty_looks_back_as_far_as_its_window(window, penalised):
    """At the same place, which is seven tokens ago."""
    sampling = replace(NEUTRAL, temperature=0.0, repetition_penalty=2.0, penalty_window=window)
    sampler = Sampler(1, ORPHEUS)
    sampler.begin(0, sampling, np.zeros(8))
    logits = np.zeros((1, ORPHEUS.vocabulary), np.float32)
    for start in ORPHEUS.starts:
        logits[0, start + 5], logits[0, start + 6] = 3.0, 2.0
    frame = [sampler.sample(logits, [0])[0] for _ in range(7)]
    assert frame == [start + 5 for start in ORPHEUS.starts]
    assert sampler.sample(logits, [0]) == [ORPHEUS.starts[0] + (6 if penalised else 5)]


def test_min_p_leaves_what_is_likely_enough():
    logits = np.full((1, VOCAB), -50.0, np.float32)
    logits[0, :4] = np.log([1.0, 0.5, 0.09, 0.05])
    draws = np.linspace(0, 1, 400, endpoint=False)
    for share, wanted in ((0.0, {0, 1, 2, 3}), (0.08, {0, 1, 2}), (0.1, {0, 1}), (1.0, {0})):
        sampler = row_of(replace(NEUTRAL, min_p=share), draws)
        assert {sampler.sample(logits, [0])[0] for _ in draws} == wanted


def test_the_penalty_before_the_cut_lets_another_token_in():
    logits = np.full((1, VOCAB), -50.0, np.float32)
    logits[0, 5], logits[0, 9] = 3.0, 2.0
    second = []
    sampling = turbo_sampling(top_k=2, top_p=0.5, temperature=1.0, repetition_penalty=4.0)
    for order in (TOKENS.processors, (repetition_penalty, temperature, top_k_top_p)):
        sampler = row_of(sampling, np.full(2, 0.5), replace(TOKENS, processors=order))
        second.append([sampler.sample(logits, [0])[0] for _ in "ab"])
    assert second == [[5, 5], [5, 9]]


@pytest.mark.parametrize(
    "best",
    [
        range(0, 50 * SAMPLE_STRIDE, SAMPLE_STRIDE),
        pytest.param(range(1, 51), marks=pytest.mark.slow),
        range(300, 350),
    ],
)
def test_top_k_leaves_exactly_the_best_wherever_they_stand(best):
    """Whether a look at a few columns meets all of them, or none."""
    logits = np.zeros((1, VOCAB), np.float32)
    logits[0, list(best)] = np.linspace(3, 4, len(best))
    draws = np.linspace(0, 1, 400, endpoint=False)
    sampler = row_of(replace(NEUTRAL, top_k=len(best) - 3), draws)
    drawn = {sampler.sample(logits, [0])[0] for _ in draws}
    assert drawn == set(list(best)[3:])
    sampler = row_of(replace(NEUTRAL, top_k=len(best) + 200), draws)  # equals are left together
    assert {sampler.sample(logits, [0])[0] for _ in draws} > set(best)
