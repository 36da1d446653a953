"""Other scripts pass through whole; some signs become words."""

import unicodedata

import pytest

from chatterbox.text import normalise

SCRIPTS = [
    "สวัสดีครับ ทำไมน้ำแข็ง",
    "नमस्ते दुनिया क्या हाल है",
    "தமிழ் மொழி வணக்கம்",
    "বাংলা ভাষা কেমন",
    "తెలుగు భాష",
    "ಕನ್ನಡ ಭಾಷೆ",
    "മലയാളം ഭാഷ",
    "ગુજરાતી ભાષા",
    "ਪੰਜਾਬੀ ਭਾਸ਼ਾ",
    "සිංහල භාෂාව",
    "မြန်မာဘာသာ",
    "ភាសាខ្មែរ",
    "ພາສາລາວ ນ້ຳ",
    "བོད་སྐད".replace("་", " "),
    "שָׁלוֹם עֲלֵיכֶם",
    "السَّلَامُ عَلَيْكُم",
    "می\u200cخواهم کتاب",
    "Tiếng Việt rất đẹp",
    "ẹ̀kọ́ Yorùbá",
    "за́мок и замо́к",
    "ελληνική γλώσσα",
    "հայերեն լեզու",
    "ქართული ენა",
    "አማርኛ ቋንቋ",
    "한국어 말",
    "日本語ガギグ",
]
SIGNS = [
    ("H̷̢͚e̸͎͝l̵̦̈́l̴̰̽o̶", "Hello."),
    ("नमस्ते। क्या?", "नमस्ते. क्या?"),
    ("צה״ל ביתֿ־ספר", "צהל ביתֿ ספר."),
    ("你好.再见", "你好. 再见."),
    ("5★ or 4.5⭐, 1★", "Five stars or four point five stars, one star."),
    ("★★★★☆ for this ★ book", "Four stars for this book."),
    ("a\u200bb, co\u00adop, 👩\u200d🚀 x\u200dy", "ab, coop, xy."),
    ("wow!!1! and no!!!11", "wow! and no!"),
    ("fine!! 11 left", "fine! Eleven left."),
]


@pytest.mark.parametrize("text", SCRIPTS)
def test_other_scripts_pass_whole(text: str) -> None:
    assert normalise(text) == unicodedata.normalize("NFC", text) + "."


@pytest.mark.parametrize(("written", "said"), SIGNS, ids=[ascii(row[0])[:32] for row in SIGNS])
def test_reads_as(written: str, said: str) -> None:
    assert normalise(written) == said
