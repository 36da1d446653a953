"""Text in pieces: which sentences are released when, and the times of characters."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatterbox.dialects.shared.alignment import Timing, original_pieces
from chatterbox.dialects.shared.incremental_speech import MAX_ITEMS, SpeechQueue
from chatterbox.dialects.shared.sentence_buffer import MAX_CHARS, SentenceBuffer
from chatterbox.engine.speech_stream import SpeechReport
from chatterbox.errors import Overloaded, TextTooLong


def parts(*pieces: str, **how) -> list[str]:
    buffer, found = SentenceBuffer(**how), []
    for piece in pieces:
        buffer.feed(piece)
        if part := buffer.take():
            found.append(part)
    return [*found, buffer.flush()]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["Hello the", "re. How", " are you"], ["Hello there.", " How are you"]),
        (["It costs 3", ".5", " dollars. Good", "."], ["It costs 3.5 dollars.", " Good."]),
        (["Ask Dr", ". ", "Smith. ", "He knows."], ["Ask Dr. Smith.", " He knows."]),
        (["See e", ".g. ", "the first. ", "Yes"], ["See e.g. the first.", " Yes"]),
        (["J. ", "R. ", "Smith wrote. ", "It"], ["J. R. Smith wrote.", " It"]),
        (["He said “so it is.” ", "She"], ["He said “so it is.”", " She"]),
        (["Really now?! ", "Yes"], ["Really now?!", " Yes"]),
        (["Oh. ", "I see that. ", "Fine"], ["Oh. I see that.", " Fine"]),
        (["a heading here\n", "And text"], ["a heading here\n", "And text"]),
        (["it was in the\n", "garden and", " not here"], ["it was in the\ngarden and not here"]),
        (["wait... what? ", "no"], ["wait... what?", " no"]),
        (["これは文です。次", "の文。"], ["これは文です。次の文。"]),
        (["", ""], [""]),
    ],
)
def test_sentences_are_released_as_soon_as_they_are_complete(pieces, expected):
    assert parts(*pieces) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("It is done. ", "It costs $5. ", "Is it done? ", "The list is here:\n"),
        *("It weighs 5 lbs. I", "The answer is no. It", "It was long ago... T"),
        *("Title of the text\nT", "It ends at 5 p.m. The "),
    ],
)
def test_a_sentence_is_released_by_the_character_that_decides_it(text):
    buffer = SentenceBuffer()
    for letter in text[:-1]:
        buffer.feed(letter)
        assert buffer.take() == ""
    buffer.feed(text[-1])
    assert buffer.take()


@pytest.mark.parametrize("size", [1, 3, 100])
def test_code_and_thoughts_are_dropped_as_they_arrive(size):
    text = (
        "<think>\nHm. Well. No.\n</think>\nHere it is:\n\n```python\nx = 1. \n\ny = 2\n```\n"
        "Run `x. y` now. See\n> ~~~\n> z. Z\n> ~~~\nAnd so on. "
    )
    found = parts(*(text[at : at + size] for at in range(0, len(text), size)))
    left = "Here it is: ``` ``` Run `x. y` now. See ``` ``` And so on."
    assert " ".join("".join(found).split()) == left
    spoken = parts(*text[text.index("Here") :], code_blocks="speak")
    assert "".join(spoken) == text[text.index("Here") :]


def test_open_code_stays_open_after_a_flush_and_ends_with_its_text():
    buffer = SentenceBuffer()
    buffer.feed("Here it is:\n```\nx = 1. \ny")
    assert buffer.flush() == "Here it is:\n"
    assert buffer.is_blank()
    buffer.feed(" = 2\n```\nIt ran well. N")
    assert buffer.take() == "```\n```\nIt ran well."
    buffer.feed("ow:\n```\nx")
    assert buffer.flush().strip() == "Now:"
    buffer.reset()
    buffer.feed("The next one begins. A")
    assert buffer.take() == "The next one begins."


def test_a_long_block_of_code_is_not_buffered():
    buffer = SentenceBuffer()
    buffer.feed("```\n")
    for _ in range(2000):
        buffer.feed("some_call(of=something)\n")
        assert len(buffer) < 100
    assert buffer.take() == ""


@pytest.mark.parametrize(
    "unit", ["a. ", "U.S. ", "[a](b", "<a b=", "`a ", "\\[", "...", "a\n", "\n "]
)
def test_time_per_character_does_not_grow_with_the_buffer(unit):
    def seconds(chars: int) -> float:
        buffer, began = SentenceBuffer(), time.thread_time()
        for letter in (unit * chars)[:chars]:
            buffer.feed(letter)
        return time.thread_time() - began

    assert seconds(16_000) < 10 * seconds(4_000) + 0.1


def test_an_endless_sentence_is_cut_after_a_clause():
    text = "and then he went on, and on " * 20
    found = parts(*(word + " " for word in text.split()))
    assert len(found) > 2
    assert all(len(part) <= MAX_CHARS for part in found)
    assert all(part.rstrip().endswith(",") for part in found[:-1])
    assert len(parts("x" * 1000, "y")[0]) == MAX_CHARS


def test_a_schedule_holds_text_back():
    sentence = "Twenty characters ok. "
    assert parts(*[sentence] * 5, min_chars=[60, 20]) == [
        (sentence * 3).rstrip(),
        " " + sentence.rstrip(),
        " " + sentence.rstrip(),
        " ",
    ]
    buffer = SentenceBuffer([60])
    buffer.feed(sentence)
    assert buffer.take() == ""
    assert buffer.take(at_once=True) == sentence.rstrip()


def test_a_complete_piece_ends_without_a_following_blank():
    buffer = SentenceBuffer()
    buffer.feed("This is whole.", complete=True)
    assert buffer.take() == "This is whole."
    buffer.feed("This is not", complete=True)
    assert buffer.take() == ""


@given(st.lists(st.text(alphabet="aB.!?,\n “”3Dr", max_size=12), max_size=40))
def test_no_character_is_lost_or_changed(pieces):
    assert "".join(parts(*pieces)) == "".join(pieces)


async def test_the_queue_keeps_the_order_and_its_limits():
    async def first() -> None: ...

    async def second() -> None: ...

    queue = SpeechQueue(max_chars=40)
    queue.feed("One sentence. And")
    queue.then(first)
    queue.feed("Another")
    queue.end(second)
    items = [await queue.next() for _ in range(5)]
    assert items == ["One sentence. And", first, "Another", second, None]
    queue = SpeechQueue(max_chars=40)
    queue.feed("a" * 40)
    with pytest.raises(TextTooLong):
        queue.feed("b")
    queue.flush()
    with pytest.raises(TextTooLong):
        queue.feed("b")
    await queue.next()
    queue.feed("b")
    for _ in range(MAX_ITEMS - 1):
        queue.then(first)
    with pytest.raises(Overloaded):
        queue.then(first)


# --- timing


def report(*ends_s: float, texts: tuple[str, ...]) -> SpeechReport:
    made = SpeechReport(segments=len(texts), segment_texts=texts)
    made.segment_starts_s = [0.0, *(end + 0.1 for end in ends_s)][: len(texts)]
    made.segment_ends_s = list(ends_s)
    return made


TEXT = "The first part. And the second part."
TEXTS = ("The first part.", "And the second part.")


@pytest.mark.parametrize("step_s", [0.01, 0.3, 0.5, 10])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("lead_s", [0.0, 0.12])
def test_every_character_is_returned_once_without_gaps(step_s, known, lead_s):
    full = report(1.0, 2.5, texts=TEXTS)
    seen = full if known else report(texts=TEXTS)
    timing = Timing(original_pieces(TEXT, TEXTS), seen, lead_s)
    end_s, now_s, found = lead_s + 2.5, 0.0, []
    while now_s < end_s:
        now_s = min(end_s, now_s + step_s)
        if not known:  # told late, when each segment has ended
            seen.segment_ends_s = [e for e in full.segment_ends_s if lead_s + e <= now_s]
            seen.segment_starts_s = [0.0, 1.1][: 1 + len(seen.segment_ends_s)]
        found.append((timing.until(now_s), now_s))
    found.append((timing.until(end_s, last=True), end_s))
    told_until_s = 0.0
    for alignment, until_s in found:
        if alignment.text:
            assert alignment.bounds_s[0] == pytest.approx(told_until_s, abs=2e-3)
            assert alignment.bounds_s[-1] <= until_s + 1e-9
            assert len(alignment.bounds_s) == len(alignment.text) + 1
            told_until_s = alignment.bounds_s[-1]
    assert told_until_s == pytest.approx(end_s, abs=2e-3)
    assert "".join(alignment.text for alignment, _ in found) == TEXT


def test_words_end_where_a_blank_follows():
    timing = Timing(original_pieces(TEXT, TEXTS), report(1.0, 2.5, texts=TEXTS))
    early = timing.words(0.5, offset_s=10.0)
    found = [*early, *timing.words(2.5, last=True, offset_s=10.0)]
    assert [w.text for w in early] == ["The"]
    assert [w.text for w in found] == TEXT.split()
    assert found[0].start_s == 10.0
    assert found[2].end_s == pytest.approx(11.0, abs=2e-3)
    assert found[3].start_s == pytest.approx(11.1, abs=2e-3)
    assert found[-1].end_s == pytest.approx(12.5, abs=2e-3)
    assert timing.words(2.5, last=True) == []
