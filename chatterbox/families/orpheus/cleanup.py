"""What is done to a segment's text before it is tokenised: it ends in a full stop."""

import re

STOPS = {r"[\u3040-\u30ff\u4e00-\u9fff]": "。", r"[\u0900-\u097f]": "।"}
"""By script: full stops other than a point."""
_TAGS = r"(?:\s*[\[<][^\W\d][\w ]*[\]>])*"
_TRAILING = re.compile(rf"(?P<said>.*?)(?P<tags>{_TAGS})", re.DOTALL)
_ENDED = re.compile(r"[.!?…。！？।]['\"»”’)\]]*$")


def clean_up(text: str) -> str:
    """A full stop where there is none, before the sounds that end it: without one the model repeats
    itself more often."""
    text = " ".join(text.split())
    match = _TRAILING.fullmatch(text)
    said, tags = (match["said"], match["tags"]) if match else (text, "")
    if not said or _ENDED.search(said):
        return text
    said = said.rstrip(" ,;:-–—，；：、")
    stop = next((stop for script, stop in STOPS.items() if re.search(script + r"\W*$", said)), ".")
    return said + stop + tags
