"""The published kind of graph, stepped: batch ≡ alone, whatever joins, leaves or pauses."""

import made
import numpy as np
import pytest
from fakes import fake_voice

from chatterbox.config import TTSConfig
from chatterbox.errors import ModelError
from chatterbox.families.base import Voice
from chatterbox.families.turbo.load import open_tokenizer
from chatterbox.families.turbo.spec import GRAPHS
from chatterbox.families.turbo.voice import TurboVoices, VoiceTensors
from chatterbox.hub.files import PRECISIONS, ModelFiles
from chatterbox.runtime.buffers import Memory
from chatterbox.runtime.embedding import EmbeddingSession
from chatterbox.runtime.kv_slots import PrefixedPrompt
from chatterbox.runtime.published_lm import BATCH_TOLERANCE, PublishedLanguageModel
from chatterbox.runtime.sessions import open_session, session_settings

SETTINGS = session_settings(TTSConfig(device="cpu", threads=1))


def files(precision: str) -> ModelFiles:
    return ModelFiles(made.path(), dict.fromkeys(GRAPHS, precision))


def language_model(precision: str = "fp32", session=None, memory=None) -> PublishedLanguageModel:
    model = files(precision)
    embed = EmbeddingSession(open_session(model.graph("embed_tokens"), SETTINGS))
    session = session or open_session(model.graph("language_model"), SETTINGS)
    return PublishedLanguageModel(session, embed, slots=4, capacity=2048, memory=memory)


@pytest.fixture(scope="module")
def voice() -> Voice:
    encoder = TurboVoices.of(open_session(files("fp32").graph("speech_encoder"), SETTINGS), "")
    rng = np.random.default_rng(0)
    noise = (rng.standard_normal(48_000) * 0.05).astype(np.float32)
    return Voice("noise", encoder.encode(noise, None))


def ids(text: str):
    return open_tokenizer(made.path() / "tokenizer.json").encode(text)


@pytest.fixture
def rows(voice) -> PrefixedPrompt:
    return PrefixedPrompt(voice.key, voice.data.features, np.zeros(0, np.int64))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("memory", [None, Memory("cpu")], ids=["arrays", "in place"])
def test_rows_join_leave_pause_and_return_as_if_alone(precision, rows, memory):
    """`in place` as on a GPU, where caches stay on the device between steps of the same rows."""
    model, alone = language_model(precision, memory=memory), language_model(precision)
    assert model.batched
    alone.batched = False
    texts = {0: "Hello there.", 1: "A somewhat longer text than that.", 2: "Hm."}
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 6561, (8, 3))
    plan = [(0,), (0, 1), (0, 1), (1, 0, 2), (2,), (0, 2), (2, 1), (0, 1, 2)]
    scale = None
    for step, slots in enumerate(plan):
        for slot in slots:
            if all(slot not in earlier for earlier in plan[:step]):
                first = [m.prefill(slot, rows.with_text(ids(texts[slot]))) for m in (model, alone)]
                scale = scale or first[1].std()
                assert np.abs(first[0] - first[1]).max() <= BATCH_TOLERANCE * scale
        batch = codes[step, list(slots)]
        got, want = model.decode(slots, batch), alone.decode(slots, batch)
        assert np.abs(got - want).max() <= BATCH_TOLERANCE * scale, (step, slots)
    for slot in (1, 0, 2):
        model.free(slot)
    for slot in (0, 1):  # as in a new model
        rows_of = rows.with_text(ids(texts[slot]))
        assert np.array_equal(model.prefill(slot, rows_of), alone.prefill(slot, rows_of))


def test_what_the_session_says_is_read_not_assumed():
    for precision, kind in (("fp16", np.float16), ("q4", np.float32)):
        caches = language_model(precision).no_cache
        assert {(cache.dtype, cache.shape[2]) for cache in caches.values()} == {(np.dtype(kind), 0)}


def test_a_graph_of_another_kind_is_refused():
    decoder = open_session(files("q4").graph("conditional_decoder"), SETTINGS)
    embed = EmbeddingSession(open_session(files("q4").graph("embed_tokens"), SETTINGS))
    with pytest.raises(ModelError, match="is of another family"):
        PublishedLanguageModel(decoder, embed, slots=1, capacity=10)
    with pytest.raises(ModelError, match=r"speech_encoder has no .*audio_values"):
        TurboVoices.of(decoder, "")


def test_fakes_have_the_shapes_of_the_real_thing(voice):
    real, fake = voice.data, fake_voice().data
    for name in VoiceTensors.__slots__:
        assert getattr(real, name).ndim == getattr(fake, name).ndim
        assert getattr(real, name).dtype == getattr(fake, name).dtype
    assert len(real.prompt_mel) == 2 * len(real.prompt_codes)


class Failing:
    """A session that finds no memory at the n-th call from now on."""

    def __init__(self, session) -> None:
        self.session, self.left = session, 0

    def __getattr__(self, name):
        return getattr(self.session, name)

    def run(self, *given):
        self.left -= 1
        if not self.left:
            raise MemoryError("none left")
        return self.session.run(*given)


@pytest.mark.parametrize(("batched", "nth"), [(True, 1), (False, 1), (False, 2), (False, 3)])
def test_a_step_that_raises_has_changed_nothing(batched, nth, rows):
    """Rows 0 and 2 run together, row 1 has paused and joins them in the call that fails."""
    logits = []
    for fails in (False, True):
        session = Failing(open_session(files("fp32").graph("language_model"), SETTINGS))
        model = language_model(session=session)
        model.batched = batched
        for slot, text in enumerate(("Hello.", "One more.", "And a third one.")):
            model.prefill(slot, rows.with_text(ids(text)))
        model.decode((0, 2), np.array([10, 20]))
        if fails:
            session.left = nth
            with pytest.raises(MemoryError):
                model.decode((2, 1, 0), np.array([5, 6, 7]))
        logits.append(model.decode((2, 1, 0), np.array([5, 6, 7])))
    assert np.array_equal(*logits)
