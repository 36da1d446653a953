"""The sampler against a slow, literal reading of upstream's order of processors."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatterbox.engine.sampler import INVALID_ROW, Sampler, Sampling, uniforms
from chatterbox.families.base import Allowed, TokenSpec
from chatterbox.families.sampling import repetition_penalty, temperature, top_k_top_p
from chatterbox.families.turbo.spec import START_CODE, STOP_CODE, TOKENS

VOCAB = 6563


def slow_distribution(logits, sampling: Sampling, given_codes: list[int], first: bool = False):
    """[vocab] probabilities, one processor after the other, in float64."""
    scores = logits.astype(np.float64)
    scores[START_CODE] = -np.inf
    if first:
        scores[STOP_CODE] = -np.inf
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
    sampling = Sampling()
    sampler = Sampler(1, TOKENS)
    sampler.begin(0, sampling)
    given_codes: list[int] = []
    slot = np.array([0])
    for step in range(40):
        probs = slow_distribution(logits[0], sampling, given_codes)
        cumulative = np.cumsum(probs)
        draw = rng.random()
        want = int(np.searchsorted(cumulative, draw * cumulative[-1], side="right"))
        got = int(sampler.sample(logits, slot, np.array([draw]), [step + 1])[0])
        near_edge = min(abs(cumulative - draw * cumulative[-1])) < 1e-5
        assert got == want or near_edge, step
        given_codes.append(got)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(top_k=0),
        Sampling(top_k=1),
        Sampling(top_p=1.0),
        Sampling(top_p=0.01),
        Sampling(repetition_penalty=1.0),
        Sampling(temperature=5.0, top_k=50, top_p=0.5, repetition_penalty=2.0),
    ],
)
def test_every_parameter_draws_only_what_the_reference_allows(sampling):
    rng = np.random.default_rng(2)
    logits = (rng.standard_normal((1, VOCAB)) * 4).astype(np.float32)
    sampler = Sampler(1, TOKENS)
    sampler.begin(0, sampling)
    given_codes: list[int] = []
    for _ in range(30):
        probs = slow_distribution(logits[0], sampling, given_codes)
        code = int(sampler.sample(logits, np.array([0]), rng.random(1), [1])[0])
        assert probs[code] > 0
        given_codes.append(code)


def test_greedy_takes_the_best_after_the_penalty():
    logits = np.zeros((1, VOCAB), np.float32)
    logits[0, 5], logits[0, 9] = 3.0, 2.9
    sampler = Sampler(1, TOKENS)
    sampler.begin(0, Sampling(temperature=0.0))
    codes = [int(sampler.sample(logits, np.array([0]), np.array([0.5]), [1])[0]) for _ in range(3)]
    assert codes == [5, 9, 5]  # 3.0/1.2 < 2.9, then 2.9/1.2 < 3.0/1.2 again


def test_start_code_is_never_given_and_stop_not_first():
    logits = np.zeros((1, VOCAB), np.float32)
    logits[0, START_CODE] = 90.0
    logits[0, STOP_CODE] = 80.0
    logits[0, 3] = 70.0
    sampler = Sampler(1, TOKENS)
    sampler.begin(0, Sampling())
    slot, draw = np.array([0]), np.array([0.5])
    assert sampler.sample(logits, slot, draw, [0])[0] == 3
    assert sampler.sample(logits, slot, draw, [1])[0] == STOP_CODE


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_fails_alone(bad):
    rng = np.random.default_rng(3)
    logits = rng.standard_normal((3, VOCAB)).astype(np.float32)
    poisoned = logits.copy()
    poisoned[1, 100] = bad
    slots, draws = np.arange(3), rng.random(3)
    results = []
    for rows in (logits, poisoned):
        sampler = Sampler(3, TOKENS)
        for slot in range(3):
            sampler.begin(slot, Sampling())
        results.append(sampler.sample(rows, slots, draws, [1] * 3).tolist())
    clean, hurt = results
    assert hurt == [clean[0], INVALID_ROW, clean[2]]


def test_the_penalty_history_starts_anew_with_each_row():
    logits = np.zeros((1, VOCAB), np.float32)
    logits[0, 5] = 3.0
    logits[0, 9] = 2.9
    sampler = Sampler(1, TOKENS)
    for _ in range(2):
        sampler.begin(0, Sampling(temperature=0.0))
        assert sampler.sample(logits, np.array([0]), np.array([0.0]), [1])[0] == 5


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.data())
def test_a_row_is_sampled_the_same_alone_and_in_company(seed, rows, data):
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal((rows, VOCAB)) * rng.uniform(0.5, 6)).astype(np.float32)
    draws = rng.random(rows)
    params = [
        Sampling(
            temperature=data.draw(st.sampled_from([0.0, 0.3, 0.8, 1.0, 2.0])),
            top_k=data.draw(st.sampled_from([0, 1, 40, 1000])),
            top_p=data.draw(st.sampled_from([0.2, 0.95, 1.0])),
            repetition_penalty=data.draw(st.sampled_from([1.0, 1.2])),
        )
        for _ in range(rows)
    ]
    together, alone = Sampler(rows, TOKENS), Sampler(rows, TOKENS)
    for slot, sampling in enumerate(params):
        together.begin(slot, sampling)
        alone.begin(slot, sampling)
    positions = [data.draw(st.integers(0, 1)) for _ in range(rows)]
    batch = together.sample(logits, np.arange(rows), draws, positions)
    single = [
        int(
            alone.sample(logits[i : i + 1], np.array([i]), draws[i : i + 1], positions[i : i + 1])[
                0
            ]
        )
        for i in range(rows)
    ]
    assert batch.tolist() == single


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
    assert Sampling.first_said(call, settings, model) == Sampling(0, 7, 0.4, 1.2)
    assert Sampling.first_said() == Sampling()


@pytest.mark.parametrize("temperature", [1e-45, 1e-38, 1e-20, 1e-6, 9e-4])
def test_a_tiny_temperature_is_greedy(temperature):
    rng = np.random.default_rng(7)
    logits = (rng.standard_normal((1, VOCAB)) * 5).astype(np.float32)
    codes = []
    for each in (0.0, temperature):
        sampler = Sampler(1, TOKENS)
        sampler.begin(0, Sampling(temperature=each))
        with np.errstate(all="raise"):
            codes.append([int(sampler.sample(logits, np.array([0]), rng.random(1), [1])[0])])
    assert codes[1] == codes[0] == [int(np.delete(logits[0], START_CODE).argmax())]


def test_a_family_has_its_own_order_and_its_own_places():
    """Seven places of eight tokens and a stop token between frames, the penalty first."""
    penalised_first = TokenSpec(
        vocabulary=60,
        stop=frozenset({57}),
        allowed=lambda at: Allowed(slice(8 * (at % 7), 8 * (at % 7) + 8), at > 0 and at % 7 == 0),
        processors=(repetition_penalty, temperature, top_k_top_p),
    )
    rng = np.random.default_rng(5)
    sampler = Sampler(1, penalised_first)
    sampler.begin(0, Sampling(top_p=1.0, repetition_penalty=2.0))
    found = []
    for at in range(700):
        logits = rng.standard_normal((1, 60)).astype(np.float32)
        logits[0, 57] = 1.0
        token = int(sampler.sample(logits, np.array([0]), rng.random(1), [at])[0])
        found.append(token // 8 if token != 57 else "stop")
        assert token // 8 == at % 7 or (token == 57 and at % 7 == 0)
    assert "stop" in found
    assert found[0] == 0


def test_the_penalty_before_the_cut_lets_another_token_in():
    logits = np.full((1, VOCAB), -50.0, np.float32)
    logits[0, 5], logits[0, 9] = 3.0, 2.0
    second = []
    for order in (TOKENS.processors, (repetition_penalty, temperature, top_k_top_p)):
        sampler = Sampler(1, replace(TOKENS, processors=order))
        sampler.begin(0, Sampling(top_k=2, top_p=0.5, temperature=1.0, repetition_penalty=4.0))
        draws = [int(sampler.sample(logits, np.array([0]), np.array([0.5]), [1])[0]) for _ in "ab"]
        second.append(draws)
    assert second == [[5, 5], [5, 9]]
