"""The words that come out for what is written, one row for each way of writing."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from text.examples import TAGS, normalise

NUMBERS = [
    ("There were 1234 apples.", "There were one thousand two hundred and thirty-four apples."),
    (
        "It has 1,234,567 bits.",
        "It has one million two hundred and thirty-four thousand five hundred and "
        "sixty-seven bits.",
    ),
    ("Pi is 3.14159.", "Pi is three point one four one five nine."),
    ("A value of .5 or 0.5.", "A value of zero point five or zero point five."),
    ("It fell to -12.", "It fell to minus twelve."),
    ("It fell to −12.", "It fell to minus twelve."),
    ("Between 1,5 and 2.", "Between one, five and two."),
    ("Agent 007.", "Agent zero zero seven."),
    ("2 cats", "Two cats."),
    ("Zero: 0.", "Zero: zero."),
    (
        "Card 4111111111111111.",
        "Card four one one one, one one one one, one one one one, one one one one.",
    ),
    ("1,000,000,000,000,000 stars", "One quadrillion stars."),
    ("the 1st, 2nd, 3rd and 21st", "the first, second, third and twenty-first."),
    ("the 1,000th visitor", "the one thousandth visitor."),
    ("1/2 of it, 3/4 cup, 2/3", "One half of it, three quarters cup, two thirds."),
    ("2 1/2 cups and 1½ pints", "Two and a half cups and one and a half pints."),
    ("He is here 24/7.", "He is here twenty-four seven."),
    ("I give it 8/10.", "I give it eight out of ten."),
    ("pages 10–20, 3-5 people", "pages ten to twenty, three to five people."),
    ("They lost 3-0.", "They lost three zero."),
    ("It is 5 - 3 = 2.", "It is five minus three equals two."),
    ("2+2=4", "Two plus two equals four."),
    ("3 × 4 and 1920x1080", "Three times four and nineteen twenty by ten eighty."),
    ("a 16:9 screen", "a sixteen to nine screen."),
    ("Version 1.2.3 or v2.0", "Version one point two point three or version two point zero."),
    ("Host 192.168.1.1 is up.", "Host one nine two dot one six eight dot one dot one is up."),
    ("6.02e23 atoms", "Six point zero two times ten to the power of twenty-three atoms."),
    ("x² + y³, 2^10", "x squared plus y cubed, two to the power of ten."),
    ("mp3, B2B, H2O, COVID-19", "mp three, B two B, H two O, COVID-nineteen."),
    ("a 5-year-old", "a five-year-old."),
    ("No. 5 and pp. 3-5", "Number five and pages three to five."),
    ("We are #1!", "We are number one!"),
    ("~50 people, ±3", "about fifty people, plus or minus three."),
    ("３７ and ٣ and ⑨", "Thirty-seven and three and nine."),
    ("3x faster", "Three times faster."),
    ("word¹ and another.²", "word and another."),
]
YEARS = [
    ("in 1999", "in nineteen ninety-nine."),
    ("In 2005 and since 2024", "In two thousand and five and since twenty twenty-four."),
    ("In 1066 they came.", "In ten sixty-six they came."),
    ("It holds 1500 litres.", "It holds one thousand five hundred litres."),
    ("2024 people came.", "Two thousand and twenty-four people came."),
    ("1984 is a book.", "Nineteen eighty-four is a book."),
    ("the 1999 film", "the nineteen ninety-nine film."),
    ("more than 2020 votes", "more than two thousand and twenty votes."),
    ("the 1990s and the '80s", "the nineteen nineties and the eighties."),
    ("She is in her 30s; it took 30s.", "She is in her thirties; it took thirty seconds."),
    ("the war of 1914-1918", "the war of nineteen fourteen to nineteen eighteen."),
    ("the 2023/24 season", "the twenty twenty-three twenty-four season."),
    ("in 1900 and 1905", "in nineteen hundred and nineteen oh five."),
]
TIMES = [
    ("at 3:30 pm", "at three thirty PM."),
    ("at 14:05", "at fourteen oh five."),
    ("at 10:00", "at ten o'clock."),
    ("at 5pm", "at five PM."),
    ("It is 3 p.m. He left.", "It is three PM. He left."),
    ("at 9 a.m. on Monday", "at nine AM on Monday."),
    ("open 9-5pm", "open nine to five PM."),
    ("3:30–4:30 pm", "Three thirty to four thirty PM."),
    ("2024-11-21", "November twenty-first, twenty twenty-four."),
    ("2024-11-21T14:05:00Z", "November twenty-first, twenty twenty-four, fourteen oh five UTC."),
    ("on 11/21/2024", "on November twenty-first, twenty twenty-four."),
    ("on 21/11/2024", "on November twenty-first, twenty twenty-four."),
    ("on 21.11.2024", "on November twenty-first, twenty twenty-four."),
    ("On Nov 21, 2024 it rained.", "On November twenty-first, twenty twenty-four it rained."),
    ("Nov. 3rd", "November third."),
    ("on 21 November 2024", "on the twenty-first of November, twenty twenty-four."),
    ("the 4th of July", "the fourth of July."),
    ("in May 2024", "in May twenty twenty-four."),
    ("Mon, Nov 21", "Monday, November twenty-first."),
    (
        "13/13/2024 is no date",
        "Thirteen slash thirteen slash two thousand and twenty-four is no date.",
    ),
]
MONEY = [
    ("$1,234.56", "One thousand two hundred and thirty-four dollars and fifty-six cents."),
    ("It is $1.", "It is one dollar."),
    ("It is $0.99 or 50¢.", "It is ninety-nine cents or fifty cents."),
    ("for £5 or €3.50", "for five pounds or three euros and fifty cents."),
    ("£1.01", "One pound and one penny."),
    ("¥500", "Five hundred yen."),
    (
        "$2 million, $1.5M, $5bn",
        "Two million dollars, one point five million dollars, five billion dollars.",
    ),
    ("20€ and 100 USD", "Twenty euros and one hundred US dollars."),
    ("$5-10 each", "Five to ten dollars each."),
    ("-$5", "Minus five dollars."),
    ("$5/month", "Five dollars per month."),
]
MEASURES = [
    ("5 km, 10kg and 1 lb", "Five kilometers, ten kilograms and one pound."),
    ("a 3.5 GHz chip", "a three point five gigahertz chip."),
    ("at -5°C or 20 °C", "at minus five degrees Celsius or twenty degrees Celsius."),
    ("98.6°F. Then", "Ninety-eight point six degrees Fahrenheit. Then."),
    ("100 km/h", "One hundred kilometers per hour."),
    ("9.8 m/s²", "Nine point eight meters per second squared."),
    ("20 m² of floor", "Twenty square meters of floor."),
    ("6 ft, 6'2\" tall", "Six feet, six foot two tall."),
    ("a 10-km run", "a ten kilometer run."),
    ("5-10 km away", "Five to ten kilometers away."),
    ("16GB of RAM", "Sixteen gigabytes of RAM."),
    ("50% or 0.5 %", "Fifty percent or zero point five percent."),
    ("10-15% more", "Ten to fifteen percent more."),
    ("5 in the morning", "Five in the morning."),
    ("5 min. later", "Five minutes later."),
]
ADDRESSES = [
    ("See https://www.example.com/a-b?x=1#y.", "See example dot com slash a dash b."),
    ("on bbc.co.uk and test.io", "on bbc dot co dot U K and test dot I O."),
    ("Mail john.doe@example.com, please.", "Mail john dot doe at example dot com, please."),
    ("mailto:a@b.org", "a at b dot org."),
    ("song.mp3 and Node.js", "song dot mp three and Node dot js."),
    ("Ask @john_doe about #MachineLearning.", "Ask at john doe about hashtag Machine Learning."),
    ("Call 555-1234.", "Call five five five, one two three four."),
    ("Call (555) 123-4567.", "Call five five five, one two three, four five six seven."),
    (
        "Call +44 20 7946 0958.",
        "Call plus four four, two zero, seven nine four six, zero nine five eight.",
    ),
    ("Kim <kim@a.org> and <https://b.org>", "Kim kim at a dot org and b dot org."),
    (
        "http://127.0.0.1:80/v1.2",
        "one two seven dot zero dot zero dot one colon eighty slash version one point two.",
    ),
    ("Dial 911.", "Dial nine one one."),
    ("/usr/local/bin", "slash usr slash local slash bin."),
]
WORDS = [
    ("Dr. Smith met Mr. Jones and Mrs. Day.", "Doctor Smith met Mister Jones and Missus Day."),
    ("fruit, e.g. apples, i.e. these", "fruit, for example apples, that is these."),
    ("apples, pears, etc. We left.", "apples, pears, et cetera. We left."),
    ("apples, etc.", "apples, et cetera."),
    ("cats vs. dogs", "cats versus dogs."),
    ("St. John lives on Main St. in St. Louis.", "Saint John lives on Main Street in Saint Louis."),
    ("He lives on Main St. Then he left.", "He lives on Main Street. Then he left."),
    ("42nd St. and 5th Ave", "Forty-second Street and fifth Avenue."),
    ("in the U.S. The army", "in the US. The army."),
    ("the U.S. Army", "the US Army."),
    ("J. K. Rowling and J.R.R. Tolkien", "J K Rowling and JRR Tolkien."),
    ("plan B. Then rest.", "plan B. Then rest."),
    ("Apple Inc. is big.", "Apple Incorporated is big."),
    ("King Jr. was there.", "King Junior was there."),
    ("with and w/o sugar", "with and without sugar."),
    ("Henry VIII and Elizabeth I was", "Henry the eighth and Elizabeth the first was."),
    ("World War II, Chapter IV, Rocky III", "World War two, Chapter four, Rocky three."),
    ("Mary I think has an IV drip.", "Mary I think has an IV drip."),
    ("AT&T, R&D, C++ and C#", "AT and T, R and D, C plus plus and C sharp."),
    ("either a < b or 5 > 3", "either a is less than b or five is greater than three."),
]
MARKS = [
    ("He said “Hello” and ‘bye’.", "He said Hello and bye."),
    ("It’s the dogs' day, 'tis rock 'n' roll.", "It's the dogs' day, 'tis rock 'n roll."),
    ("Yes—no – maybe -- so", "Yes — no — maybe — so."),
    ("Wait… what... now", "Wait, what... now."),
    ("What?! Really??? Yes!!!", "What?! Really? Yes!"),
    ("The cat (a tabby) sat (there).", "The cat, a tabby, sat, there."),
    ("the word(s)", "the words."),
    ("It is. (Or was.) Then, (so) on.", "It is. Or was. Then, so, on."),
    ("end.Next,please", "end. Next, please."),
    ("I love it 😀👍🏽! ❤️", "I love it!"),
    ("fun :) ok <3", "fun ok."),
    ("ﬁne caf\u0065\u0301 naïve ½", "fine café naïve one half."),
    ("H̷̢͚e̸͎͝l̵̦̈́l̴̰̽o̶", "Hello."),
    ("a\u200bb so\u00adft \u202ertl\u202c \x00\x1b[31mred\x1b[0m", "ab soft rtl red."),
    ("one\u2028two\r\nThree", "one two.\nThree."),
    ("你好。再见！", "你好. 再见!"),
]
MARKUP = [
    ("<p>Hello <b>bold</b> &amp; new</p><p>Next</p>", "Hello bold and new.\nNext."),
    ("a<b and c>d", "a less than b and c greater than d."),
    ("<!-- hidden <b> --> shown", "shown."),
    ('<speak>Hi<break time="500ms"/>you</speak>', "Hi.\n[pause:0.500s]\nyou."),
    (
        'Hi <break strength="weak"/> you <break/> all',
        "Hi.\n[pause:0.250s]\nyou.\n[pause:0.500s]\nall.",
    ),
    ("**bold**, *it*, `code`, ~~old~~, __init__", "bold, it, code, old, init."),
    ("[a link](https://x.org/a_(b)) and ![a cat](c.png)", "a link and a cat."),
    ("# Title\n\nText\nhere", "Title.\nText here."),
    ("- one\n* two\n1. first\n2) second", "one.\ntwo.\nOne, first.\nTwo, second."),
    ("| a | b |\n|---|:-:|\n| 1 | 2 |", "a, b.\nOne, two."),
    ("> quoted\n\n---\n\nafter", "quoted.\nafter."),
    ("text.[3] More[^1] text", "text. More text."),
]
TAGGED = [
    ("Ha [laugh] ha[sigh]!", "Ha [laugh] ha [sigh]!"),
    ("[clear throat] Well", "[clear throat] Well."),
    ("[Laugh] [unknown] [STOP] [START]", "Laugh unknown STOP START."),
    ("[s]he [laugh", "she laugh."),
    ("<|endoftext|> <|im_start|>", "endoftext im start."),
    (
        "a [pause:1.2s] b [pause:300ms] c [pause] d [PAUSE: 2] e",
        "a.\n[pause:1.200s]\nb.\n[pause:0.300s]\nc.\n[pause:0.500s]\nd.\n[pause:2.000s]\ne.",
    ),
    ("a [pause:999999s] b", "a.\n[pause:10.000s]\nb."),
    ("[pause:soon]", "pause: soon."),
    ("Bye.\n[laugh]\nNow", "Bye.\n[laugh] Now."),
    ("Bye.\n[laugh]", "Bye. [laugh]"),
]
LINES = [
    (
        "A line that an editor has wrapped at seventy characters or more\nGoes on here.",
        "A line that an editor has wrapped at seventy characters or more Goes on here.",
    ),
    ("Chapter One\nIt was night.", "Chapter One.\nIt was night."),
    ("short\nbut small", "short but small."),
    ("It is up to the\nCouncil now", "It is up to the Council now."),
    ("Dear John,\nI write", "Dear John.\nI write."),
]
SECTIONS = (NUMBERS, YEARS, TIMES, MONEY, MEASURES, ADDRESSES, WORDS, MARKS, MARKUP, TAGGED, LINES)
TABLE = [row for section in SECTIONS for row in section]


@pytest.mark.parametrize(("written", "said"), TABLE, ids=[row[0][:32] for row in TABLE])
def test_reads_as(written: str, said: str) -> None:
    assert normalise(written) == said


def test_the_table_is_long_enough_to_mean_something() -> None:
    assert len(TABLE) >= 150


@given(st.lists(st.sampled_from([row[0] for row in TABLE]), max_size=5), st.sampled_from("\n .!;"))
def test_what_is_said_is_not_changed_again(rows: list[str], between: str) -> None:
    said = normalise(f"{between} ".join([*rows, "All done."]))
    assert normalise(said) == said


@given(st.text(max_size=80) | st.text(alphabet="aA1.,'\"-—…$:/ \n()[]!?x5%IV&<>", max_size=60))
def test_only_words_and_stops_come_out(text: str) -> None:
    said = normalise(text)
    bare = re.sub(r"\[(?:pause:\d+\.\d{3}s|" + "|".join(TAGS) + r")\]", "", said)
    strange = [
        c for c in bare if unicodedata.category(c)[0] not in "LM" and c not in " \n'.,!?;:-—"
    ]
    assert strange == []
    for line in filter(None, said.split("\n")):
        assert line == line.strip()
        assert "  " not in line
        assert line[-1] in ".!?]"


def test_the_names_in_the_table_are_all_tags() -> None:
    assert len(TAGS) == 19
