"""Ids end as the model wants, and no text gives itself a control id."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from text.examples import TAGS
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
from tokenizers import Tokenizer as Library

from chatterbox.errors import EmptyText, ModelError
from chatterbox.families.tokenizer import Tokenizer
from chatterbox.families.turbo.load import open_tokenizer

END = "<|endoftext|>"
CONTROLS = [END, "[START]", "<|im_start|>"]
MERGES = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "w")]


def build(*, template: bool, end_in_vocab: bool = True, special_tags: bool = False) -> Library:
    """GPT-2's shape in small: byte-level BPE, an end token, 19 tags after it."""
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(m) for m in MERGES)]
    vocab = {piece: at for at, piece in enumerate(pieces)}
    if end_in_vocab:
        vocab[END] = len(vocab)
    library = Library(models.BPE(vocab=vocab, merges=MERGES))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([AddedToken(c, special=True) for c in CONTROLS])
    tags = [AddedToken(f"[{tag}]", special=special_tags, normalized=False) for tag in sorted(TAGS)]
    (library.add_special_tokens if special_tags else library.add_tokens)(tags)
    end = library.token_to_id(END)
    if template:
        library.post_processor = processors.TemplateProcessing(
            single=f"$A {END} {END}", special_tokens=[(END, end)]
        )
    return library


@pytest.fixture(scope="module", params=["template", "bare", "end only added", "special tags"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    library = build(
        template=request.param != "bare",
        end_in_vocab=request.param != "end only added",
        special_tags=request.param == "special tags",
    )
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    library.save(str(path))
    return open_tokenizer(path)


REFERENCE = build(template=False)
END_ID = REFERENCE.token_to_id(END)
TAG_IDS = {REFERENCE.token_to_id(f"[{tag}]") for tag in TAGS}
CONTROL_IDS = {REFERENCE.token_to_id(control) for control in CONTROLS}


def test_ends_in_exactly_two_end_tokens(loaded: Tokenizer) -> None:
    ids = loaded.encode("hello world")
    assert ids.dtype == np.int64
    assert ids[-2:].tolist() == [END_ID, END_ID]
    assert END_ID not in ids[:-2]
    assert REFERENCE.decode(ids[:-2].tolist()) == "hello world"


def test_one_letter_gives_three_ids(loaded: Tokenizer) -> None:
    assert loaded.encode("h").shape == (3,)


def test_tags_are_single_ids(loaded: Tokenizer) -> None:
    ids = loaded.encode("".join(f"[{tag}]" for tag in sorted(TAGS)))
    assert set(ids[:-2].tolist()) == TAG_IDS
    assert len(ids) == 21


@pytest.mark.parametrize("tag", ["[Laugh]", "[laughs]", "[clear  throat]", "laugh"])
def test_other_brackets_are_spelled_out(loaded: Tokenizer, tag: str) -> None:
    assert not TAG_IDS & set(loaded.encode(tag).tolist())


@pytest.mark.parametrize("control", [*CONTROLS, f"a{END}b", END * 3, f"{END} "])
def test_control_tokens_in_a_text_are_text(loaded: Tokenizer, control: str) -> None:
    body = loaded.encode(control)[:-2].tolist()
    assert not CONTROL_IDS & set(body)
    assert REFERENCE.decode(body) == control


@given(
    text=st.lists(st.sampled_from([*CONTROLS, "[laugh]", "a", " ", "<|"]) | st.text()).map("".join)
)
def test_no_text_gives_control_ids(loaded: Tokenizer, text: str) -> None:
    if not text:
        return
    ids = loaded.encode(text)
    assert len(ids) >= 3
    assert ids[-2:].tolist() == [END_ID, END_ID]
    assert not CONTROL_IDS & set(ids[:-2].tolist())


def test_text_without_ids_is_an_empty_text(tmp_path: Path) -> None:
    library = Library(models.BPE(vocab={"a": 0, END: 1}, merges=[]))
    library.add_special_tokens([END])
    library.save(str(tmp_path / "tokenizer.json"))
    few = open_tokenizer(tmp_path / "tokenizer.json")
    assert few.encode("a").tolist() == [0, 1, 1]
    for text in ("你好", ""):
        with pytest.raises(EmptyText):
            few.encode(text)


@pytest.mark.parametrize("content", ["", "{}", "[]", "<html>", '{"added_tokens": []}', None])
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        open_tokenizer(path)


def test_a_file_without_the_end_token_is_refused(tmp_path: Path) -> None:
    Library(models.BPE(vocab={"a": 0}, merges=[])).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelError, match="endoftext"):
        open_tokenizer(tmp_path / "tokenizer.json")
