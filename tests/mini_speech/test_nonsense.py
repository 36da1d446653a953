"""The sentences of `tools/train_mini/nonsense.py` say each word as often as is wanted."""

from collections import Counter
from pathlib import Path

import pytest

from tools.train_mini import nonsense
from tools.train_mini.align import LETTERS

COMMON, LESS_COMMON = ("about", "heard", "woman"), ("apple", "orchid", "soup", "zebra")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A package's tree with two short lists; the longer one has the shorter one's words too."""
    folder = tmp_path / "usr/share/dict/scowl"
    folder.mkdir(parents=True)
    for kind, extra in (("english", ("Bach", "it's")), ("american", ("color",))):
        for size, words in ((10, COMMON), (20, COMMON + LESS_COMMON)):
            (folder / f"{kind}-words.{size}").write_text("\n".join(words + extra), "latin-1")
    return tmp_path


def said(sentences: list[str]) -> Counter[str]:
    return Counter(word.strip(",.?!") for text in sentences for word in text.split())


def test_common_words_come_as_often_as_is_wanted(root: Path) -> None:
    known = ["the woman heard the woman."] * 3
    sentences = nonsense.common(root, known, 1)
    assert sentences == nonsense.common(root, known, 1)
    counts, before = said(sentences), said(known)
    for word in (*COMMON, "color"):
        least = nonsense.COMMON_TIMES[10] - before[word]
        assert counts[word] >= max(0, least), word
    for word in LESS_COMMON:
        assert counts[word] == nonsense.COMMON_TIMES[20]
    assert not counts["bach"] + counts["it's"]
    assert all(set(text) <= set(LETTERS) and len(text.split()) <= 14 for text in sentences)
    assert "a apple" not in " ".join(sentences)


def test_words_that_are_known_well_are_not_said_again(root: Path) -> None:
    scores = {"heard": 1.0, "about": 0.01, "soup": 0.5, "apple": 0.1}
    counts = said(nonsense.hard(root, scores, 1))
    assert counts["heard"] == sum(nonsense.HARD_TIMES[10])
    assert counts["soup"] == 3
    assert not counts["apple"] + counts["woman"]
