"""Rows read from the tables ≡ rows from the session, in every precision; or no host tables."""

import made
import numpy as np
import onnx
import pytest

from chatterbox import mini
from chatterbox.compile.lm.equivalence import host_embedder
from chatterbox.families.turbo.load import open_tokenizer
from chatterbox.hub.files import PRECISION_SUFFIX, PRECISIONS
from chatterbox.runtime.embedding import EmbeddingSession
from chatterbox.runtime.sessions import SessionSettings, open_session

CPU = SessionSettings("cpu", 1, {})
VOCAB = 6563
IDS = open_tokenizer(made.path() / "tokenizer.json").encode("Hello there, [laugh] you!")
END_ID = int(IDS[-1])


def graph(precision="fp32"):
    return made.path() / "onnx" / f"embed_tokens{PRECISION_SUFFIX[precision]}.onnx"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_tables_give_what_the_session_gives(precision):
    session = EmbeddingSession(open_session(graph(precision), CPU))
    host = host_embedder(graph(precision), session, VOCAB, END_ID)
    assert host is not None
    np.testing.assert_allclose(host.text(IDS), session.text(IDS), atol=1e-6)
    codes = np.arange(0, 6562, 7)
    found = host.codes(codes)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, session.codes(codes), atol=1e-6)


def test_tables_that_do_not_give_what_the_session_gives_are_not_used():
    session = EmbeddingSession(open_session(graph(), CPU))

    class Another:
        def text(self, ids):
            return session.text(ids)[:, ::-1]

        def codes(self, codes):
            return session.codes(codes)

    assert host_embedder(graph(), Another(), VOCAB, END_ID) is None


def test_tables_that_cannot_be_told_apart_are_not_used(tmp_path):
    session = EmbeddingSession(open_session(graph(), CPU))
    assert host_embedder(graph(), session, VOCAB + 1, END_ID) is None
    model = onnx.load(str(graph()))
    tables = [node for node in model.graph.node if node.op_type == "Gather"]
    del tables[0].input[0]
    path = tmp_path / "one.onnx"
    onnx.save(model, str(path))
    assert host_embedder(path, session, VOCAB, END_ID) is None


def test_tables_that_are_only_a_part_of_a_row_are_not_used():
    """The embedded model adds to each letter where its sound is expected, and parts of codes."""
    path = mini.path() / "onnx" / "embed_tokens.onnx"
    session = EmbeddingSession(open_session(path, CPU))
    again = session.text(np.array([104, 104, END_ID, END_ID]))
    assert np.abs(again[0] - again[1]).max() > 0.01
    assert host_embedder(path, session, VOCAB, END_ID) is None
