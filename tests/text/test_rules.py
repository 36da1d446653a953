"""A rule that fails, or takes too long, costs nothing but itself."""

import logging
import time

import pytest
from text.examples import normalise, prepare

from chatterbox.errors import TextTooLong
from chatterbox.text import SegmentLimits, dates, normalisation, roman
from chatterbox.text import segment as segments

TEXT = "Henry VIII paid $5.\nMr. Marsh took Chapter IV on May 5.\nIt is 10 km & more."


def failing(*_: object) -> str:
    raise ValueError("the secret words of somebody")


def test_a_fault_costs_its_rule_in_its_sentence_only(monkeypatch, caplog):
    class Fault(Exception):
        """One that nobody has warned of yet."""

    def faulty(*_: object) -> str:
        raise Fault("the secret words of somebody")

    monkeypatch.setattr(roman, "ordinal", faulty)  # of kings
    with caplog.at_level(logging.WARNING, "chatterbox.text"):
        for _ in range(3):
            assert normalise(TEXT) == (
                "Henry VIII paid five dollars.\nMister Marsh took Chapter four on May fifth.\n"
                "It is ten kilometers and more."
            )
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "chatterbox.text.roman.read" in record.getMessage()
    assert "secret" not in record.getMessage()
    assert record.exc_info is None


@pytest.mark.parametrize("failed", range(len(normalisation._WORDS + normalisation._NUMBERS) + 8))
def test_any_rule_may_fail(monkeypatch, failed):
    """Whichever it is, the text is spoken, and the other rules do their work."""
    tables = ("_MARKUP", "_CHARACTERS", "_LINES", "_WORDS", "_NUMBERS", "_SIGNS")
    for table in tables:
        was = getattr(normalisation, table)
        if failed < len(was):
            monkeypatch.setattr(normalisation, table, (*was[:failed], failing, *was[failed + 1 :]))
            break
        failed -= len(was)
    said = " ".join(segment.text for segment in prepare(TEXT, SegmentLimits()))
    for word in ("Henry", "paid", "Marsh", "took", "Chapter", "May", "more"):
        assert word in said


def test_a_fault_is_looked_for_sentence_by_sentence(monkeypatch):
    say = dates.time_of_day

    def noon_fails(hour: int, *more: object) -> str:
        if hour == 12:
            raise KeyError(hour)
        return say(hour, *more)

    monkeypatch.setattr(dates, "time_of_day", noon_fails)
    assert "three thirty PM" in normalise("At 12:30 pm it rang. At 3:30 pm it rang again.")


def test_where_cutting_fails_the_text_is_cut_at_blanks(monkeypatch):
    monkeypatch.setattr(segments, "split", failing)
    limits = SegmentLimits(max_chars=40)
    found = [segment.text for segment in prepare("Some words to say. " * 9, limits)]
    assert "".join(found).replace(" ", "").replace(".", "") == "Somewordstosay" * 9
    assert all(len(text) <= 40 for text in found)


def test_a_text_that_takes_too_long_is_refused(monkeypatch):
    def slow(text: str) -> str:
        began = time.thread_time()
        while time.thread_time() < began + 0.01:
            pass
        return text

    monkeypatch.setattr(normalisation, "_WORDS", (slow,))
    monkeypatch.setattr(normalisation, "LEAST_TEXT_S", 0.1)
    monkeypatch.setattr(normalisation, "CHAR_S", 0.0)
    assert prepare("A short text.", SegmentLimits())
    with pytest.raises(TextTooLong) as caught:
        prepare("A long text of many words. " * 3000, SegmentLimits())
    assert caught.value.param == "text"
    assert "smaller parts" in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        *("A sentence of words. " * 900, "word " * 4000, "Line\n" * 4000, "x" * 9000),
        "[clear throat] " * 700,
    ],
    ids=lambda text: text[:8].strip(),
)
def test_no_rule_sees_more_than_a_block(text):
    seen = []

    def look(block: str) -> str:
        seen.append(block)
        return block

    normalisation.by_blocks(look, text)
    assert all(len(block) <= normalisation.BLOCK_CHARS for block in seen)
    assert "".join("".join(seen).split()) == "".join(text.split())
    assert all(block.count("[") == block.count("]") for block in seen)


def test_blocks_leave_no_trace_between_lines_and_sentences():
    assert normalise("Nobody knows. " * 500) == ("Nobody knows. " * 500).strip()
    assert normalise("One line\n" * 500) == ("One line.\n" * 500).strip()
