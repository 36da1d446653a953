"""What is left of HTML, Markdown, citations, arrows and menu paths."""

import pytest
from text.examples import normalise

from chatterbox.text.markup import unknown_tags

TAGS = [
    ("<laugh> Ha <sigh>, <clear throat> so.", "[laugh] Ha [sigh], [clear throat] so."),
    ("Well <cough/> so <gasp />.", "Well [cough] so [gasp]."),
    ("<happy>So it is.</happy> <Laugh> <laughs>", "So it is. Laugh laughs."),
    ("a < laugh > b", "a is less than laugh is greater than b."),
]
ELEMENTS = [
    ("Dear <customer>, call <phone number>", "Dear customer, call phone number."),
    ("<answer>Yes</answer> <custom/>", "Yes."),
    ("<think>So, the user…</think>Yes, it is.", "Yes, it is."),
    ("<think>\nOne.\n\nTwo.\n</think>\n\nYes.", "Yes."),
    ("<Thinking>a<b> b</Thinking> Yes.", "Yes."),
    ("a first idea\n</think>\n\nYes.", "Yes."),
    ("Yes.\n<reasoning>never closed\nand on", "Yes."),
    ("Put it into a <think> tag, then on.", "Put it into a think tag, then on."),
    ("Dear <your name here>, hi", "Dear your name here, hi."),
    ("<thinking of you> I left.", "thinking of you I left."),
    ('<details type="reasoning" done="true">\n> hm\n</details>\nYes.', "Yes."),
    ("<details open><summary>More</summary>It rains.</details>So.", "More.\nIt rains.\nSo."),
    ("a<style>b{c:d}</style> e<script>f(1)</script>", "a.\ne."),
    ("<title>Sea</title><header>Top</header><button>Go</button>now", "Sea.\nTop.\nGo.\nnow."),
    ("<select><option>red<option>blue</select>", "red.\nblue."),
    ("20 m<sup>2</sup>, the 3<sup>rd</sup>", "Twenty square meters, the third."),
    ("snow<sup>4</sup> and ice<sup><a href='#n'>[5]</a></sup>.", "snow and ice."),
    ("H<sub>2</sub>O", "H two O."),
    ("The <section> element and `<b>`.", "The section element and b."),
    ("#include <vector>", "hash include vector."),
    ("x <y and y> z", "x is less than y and y greater than z."),
]
CITATIONS = [
    ("[3, 4] is a list", "Three, four is a list."),
    ("It fell.[1][2] Then [3, 4] it rose [5-7].", "It fell. Then it rose."),
    ("Rain 【3:1†log.txt】 fell【2】.", "Rain fell."),
    ("It rose.[1](https://a.org/b) So [[2]](https://c.org).", "It rose. So."),
    ("Rome[citation needed] fell[^1].\n\n[^1]: In the west.", "Rome fell.\nIn the west."),
    (
        "Set vec[3], y[0], my_rows[7] and m[1][2].",
        "Set vec three, y zero, my rows seven and m one two.",
    ),
    ("rows[4] = 2, grid[i][j]", "rows four equals two, grid i j."),
    ("in [0, 1], x = [1, 2]", "in zero, one, x equals one, two."),
    ("Some [2], [3] and [4] differ.", "Some differ."),
    ("as [4] shows, see [2]", "as four shows, see two."),
    ("The [guide][g] and [page].\n\n[g]: https://a.org 'A'", "The guide and page."),
    ("[sigh][laugh] Well [s]he", "[sigh] [laugh] Well she."),
]
ESCAPES = [
    (r"\*bare\* and \_so\_, it\'s 1\.5\!", "bare and so, it's one point five!"),
    (r"\# five\-six \> two", "five-six is greater than two."),
    (r"6 \* 7, AT\&T", "Six times seven, AT and T."),
    ("can`t and `run`s", "can't and runs."),
]
TABLES = [
    ("|8|3|5|", "Eight, three, five."),
    ("|Name|Age|\n|-|-|\n|Bo|7|\n|Al||", "Name, Age.\nBo, seven.\nAl."),
    ("Name|Age\n:-|-:\nBo|7", "Name, Age.\nBo, seven."),
    ("run a || b | c", "run a or b, c."),
]
PATHS = [
    ("Quality > Quantity", "Quality is greater than Quantity."),
    ("Sales > Costs again", "Sales is greater than Costs again."),
    ("Format > Cells", "Format, then Cells."),
    ("Photo Tools > Crop", "Photo Tools, then Crop."),
    ("Choose Edit > Find > Replace.", "Choose Edit, then Find, then Replace."),
    ("Open **Tools** > `Check it`.", "Open Tools, then Check it."),
    ("go to settings > sound", "go to settings, then sound."),
    ("Home >> Garden >> Roses", "Home, then Garden, then Roses."),
    ("Home › Garden › Roses", "Home, then Garden, then Roses."),
    ("Windows 11 > Settings > Sound", "Windows eleven, then Settings, then Sound."),
    ("Idea -> Draft -> Print", "Idea, then Draft, then Print."),
    ("A → B → C, x --> y, Rome => Ostia", "A to B to C, x to y, Rome to Ostia."),
    ("from 5 → 10 and p->next", "from five to ten and p to next."),
    ("→ On we go. Next →", "On we go. Next."),
    ("↑ 5%, ↓ 2%", "up five percent, down two percent."),
    (
        "a > b, 5 > 3, sales > costs",
        "a is greater than b, five is greater than three, sales is greater than costs.",
    ),
    ("Seats > 90", "Seats is greater than ninety."),
    ("« Oui » dit-elle", "Oui dit-elle."),
]
TABLE = [*TAGS, *ELEMENTS, *CITATIONS, *ESCAPES, *TABLES, *PATHS]


@pytest.mark.parametrize(("written", "said"), TABLE, ids=[row[0][:32] for row in TABLE])
def test_reads_as(written: str, said: str) -> None:
    assert normalise(written) == said


def test_words_that_look_like_tags_are_found():
    text = (
        "[giggle] a[i], [1], [Laugh] ha [laugh] [pause:1s] [PAUSE] [b](c) [d][1] [e]: [ whisper ]"
    )
    assert list(unknown_tags(text, frozenset({"laugh"}))) == ["giggle", "Laugh", "whisper"]
