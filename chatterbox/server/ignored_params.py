"""Which of a call's parameters change nothing? Named in the answer, never passed over in silence.

Native calls refuse what they cannot honour; dialects whose clients insist take it in and say so.
"""

import re
from collections.abc import Iterable
from itertools import islice

from chatterbox.errors import shown

HEADER = "X-Ignored-Params"
MAX_NAMED = 16
"""A header has its bounds; a call has no more parameters than this to ignore."""

WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+")
REFERENCE = {"ref", "refer", "reference", "references"}
SPEAKER = {"prompt", "speaker", "spk", "clone", "cloned", "cloning", "voice", "cond", "source"}
SOUND = {"audio", "audios", "wav", "speech", "sample", "samples", "clip", "recording"}
CARRIER = {"url", "uri", "base64", "b64", "file", "files", "filename", "path", "paths", "data"}
VECTOR = {"embedding", "embeddings", "emb", "latent", "latents"}


def names_recording(name: str) -> bool:
    """Whether a parameter is one by which other servers take the recording of a voice to imitate
    (`ref_audio`, `audio_prompt_path`, `speakerEmbedding`, `input_audio` …). To ignore it would be
    to speak in another voice."""
    words = {word.lower() for word in WORDS.findall(name)}
    if words & REFERENCE:
        return True
    if words & SPEAKER:
        return bool(words & (SOUND | CARRIER | VECTOR))
    return bool(words & {"audio", "wav"}) and bool(words & (CARRIER | {"input"}))


def ignored_header(names: Iterable[str]) -> dict[str, str]:
    """The header that names them, in their order; no header where there are none."""
    named = [_word(name) for name in islice(dict.fromkeys(names), MAX_NAMED + 1)]
    if len(named) > MAX_NAMED:
        named[MAX_NAMED - 1 :] = ["..."]
    return {HEADER: ", ".join(named)} if named else {}


def _word(name: str) -> str:
    """No comma, which parts them; and no blank or nothing at an end, which no header may have."""
    return shown(name).replace(",", "\\x2c").replace(" ", "\\x20") or '""'
