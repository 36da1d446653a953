"""Voices that clients expect: OpenAI's, ElevenLabs' and Orpheus', mapped to built-in ones."""

from collections.abc import Iterable, Mapping

from chatterbox.errors import VoiceNotFound
from chatterbox.server.dialect import Services
from chatterbox.server.voice_service import VoiceService
from chatterbox.voices.names import VoiceInfo

LANGUAGES = {
    "en": "English",
    "fr": "French",
    "de": "German",
    "es": "Spanish",
    "it": "Italian",
    "ko": "Korean",
    "hi": "Hindi",
    "zh": "Chinese",
}
"""By ISO 639-1."""


def _by_name(voices: dict[str, str]) -> dict[str, str]:
    return {name.lower(): voice for voice, names in voices.items() for name in names.split()}


OPENAI_VOICES = _by_name(
    {
        "slt": "alloy coral nova sage shimmer marin",
        "rms": "ash echo verse",
        "awb": "ballad fable",
        "kal16": "onyx cedar",
    }
)
"""OpenAI's names → the built-in voice nearest in kind. Clients send these unasked (Pipecat refuses
any other), so they must speak; a real voice of that name goes first."""
ELEVENLABS_VOICES = _by_name(
    {
        "slt": """
            21m00Tcm4TlvDq8ikWAM AZnzlk1XvdvUeBnXmlld EXAVITQu4vr4xnSDxMaL
            9BWtsMINqrJLrRacOk9x FGY2WhTYpPnrIDTdsKH5 LcfcDJNUP1GQjkzn1xUU
            MF3mGyEYCl7XYWbV9V6O SAz9YHcvj6GT2YYXdXww ThT5KcBeYPX3keUQqHPh
            XB0fDUnXU5powFXDhCwa Xb7hH8MSUJpSbSDYk0k2 XrExE9yKIg1WjnnlVkGX
            cgSgspJ2msm6clMCkdW9 jBpfuIE2acCO8z3wKNLl jsCqWAovK2LkecY7zXl4
            oWAxZDx7w5VEj9dCyTzz pFZP5JQG7iQjIQuC4Bku pMsXgVXv3BLzUgSXRplE
            piTKgcLEGmPE4e6mEKli z9fAnlkpzviPz146aGWa zrHiDhphv9ZnVXBqCLjz
        """,
        "rms": """
            29vD33N1CtxCmqQRPOHJ 2EiwWnXFnvU5JabPnv8n 5Q0t7uMcjvnagumLfvZi
            CwhRBWXzGAHq8TQ4Fs17 ErXwobaYiN019PkySvjV GBv7mTt0atIp3Br8iCZE
            N2lVS1w4EtoT3dr4eOWO ODq5zmih8GrVes37Dizd SOYHLrjzK2X1ezoPC6cr
            TX3LPaxmHKxFdv7VOQHJ TxGEqnHWrfWFTfGW9XjX VR6AewLTigWG4xSOukaG
            bIHbv24MWmeRgasZH58o cjVigY5qzO86Huf0OWal flq6f7yk4E4fJM5XTYuZ
            g5CIjZEefAph4nQFvHAz iP95p4xoKVk53GoZ742B t0jbNlBVZ17f02VDIeMI
            wViXBPUzp2ZZixB1xQuM yoZ06aMxZJJ28mfd3POQ zcAOhNBS3c14rBihAFp1
        """,
        "awb": """
            CYw3kZ02Hs0563khs1Fj D38z5RcWu1voky8WS1ja IKne3meq5aSn9XLyUdCD
            JBFqnCBsd6RMkjVDRZzb ZQe5CZNOzWyzPSCn5a3c Zlb1dXrM653N07WRdFW3
            bVMeCyTHy58xNoL34h3p onwK4e9ZLuTAKqWW03F9
        """,
        "kal16": """
            nPczCjzI2devNBz1zQrb pNInz6obpgDQGcFmaJgB pqHfZKP75CvOlQylNhV4
        """,
    }
)
"""Ids of ElevenLabs' premade voices, which their examples and many programs are written with:
women; men of America; of Britain, Ireland and Australia; deep ones."""
ORPHEUS_VOICES = _by_name(
    {"slt": "tara leah jess mia zoe", "rms": "leo", "awb": "dan", "kal16": "zac"}
)
"""Orpheus' eight voices, in the same way, where Orpheus is not what speaks."""


def voice_or_alias(services: Services, name: str | None, aliases: Mapping[str, str]) -> str | None:
    """The id of the voice meant by `name`; None: the default voice. Raises VoiceNotFound."""
    if name is None:
        return None
    try:
        return services.voice_id(name)
    except VoiceNotFound:
        alias = aliases.get(name.lower())
        if alias is None:
            raise
        try:
            return services.voices.library.info(alias).voice_id
        except VoiceNotFound:  # the built-in voice's recording is lost, or the model has its own
            if aliases is not ORPHEUS_VOICES:
                return None
        raise


async def orpheus_voice(services: Services, name: str | None) -> str | None:
    """The same on the sockets of Orpheus' servers, without blocking the event loop."""
    return await services.voices.ask(voice_or_alias, services, name or None, ORPHEUS_VOICES)


def names_of(voices: Iterable[VoiceInfo]) -> list[str]:
    """Every name and alias, for clients that know voices by name alone."""
    return [name for info in voices for name in info.names]


def is_spoken(voices: VoiceService, language: str | None) -> bool:
    """Whether a language code asks for one that the model speaks; None does."""
    code = (language or "").lower().replace("_", "-").split("-")[0]
    return code in ("", "auto", *voices.languages)


def languages_of(voices: VoiceService) -> dict[str, str]:
    """What the model speaks: code → name."""
    return {code: LANGUAGES.get(code, code) for code in voices.languages}
