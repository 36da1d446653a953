"""Fault table, section G: invalid recordings, through every call that takes one."""

import ast
import io
import random
import re
import zipfile
from pathlib import Path

import numpy as np
import psutil
import pytest
from faults.harness import SECRET, Rig, running
from faults.source import dotted, nodes
from harness import error_of
from voices.clips import babble, encoded
from voices.hostile import HOSTILE, wave

import chatterbox
from chatterbox.families.turbo.spec import LM_PROMPT_S
from chatterbox.voices.sandbox import SandboxedDecoder

SOUND = babble(2.0)
GOOD = encoded(SOUND, "FLAC")
CAP_S = 30.0
ENGINE = {"max_reference_s": CAP_S}


@pytest.fixture
async def rig(tmp_path):
    """A server that reads 30 s of a recording, with a real decode child."""
    async with running(tmp_path, engine=ENGINE) as rig:
        yield rig


PATHS = {  # every call that takes a recording → its field, and the fields beside it
    "/voices/register": ("voice_file", {}),
    "/tts": ("voice_file", {"text": f"A {SECRET}."}),
    "/tts/json": ("voice_file", {"text": f"A {SECRET}."}),
    "/v1/audio/voices": ("audio_sample", {"name": "n"}),
    "/v1/voices/add": ("files", {"name": "n"}),
    "/upload_reference": ("files", {}),
    "/clone_speaker": ("wav_file", {}),
}


async def send(rig: Rig, data: bytes, path: str = "/voices/register"):
    field, beside = PATHS[path]
    files = {field: ("../../etc/passwd\r\nX-Evil: 1", data, "audio/wav")}
    return await rig.client.post(path, files=files, data=beside)


def code_of(answer) -> str:
    """The error's code in any dialect; a voice's id where it is none."""
    body = answer.json()
    if answer.status_code < 400:
        return "ok"
    if "error" in body:
        return body["error"]["code"]
    detail = body["detail"]
    if isinstance(detail, str):
        return detail
    return detail[0]["type"] if isinstance(detail, list) else detail["status"]


async def test_f60_files_that_are_no_recordings(rig):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("a.wav", GOOD)
    playlist = b"#EXTM3U\nhttp://169.254.169.254/a.wav\nfile:///etc/passwd\n"
    async with rig.fault():
        assert code_of(await send(rig, b"")) == "invalid_value"
        for data in (SECRET.encode(), playlist, packed.getvalue(), b"RIFF", bytes(5000)):
            answer = await send(rig, data)
            assert code_of(answer) in ("unsupported_audio", "unreadable_audio")
            assert SECRET not in answer.text
        for part in range(1, 50):
            answer = await send(rig, GOOD[: len(GOOD) * part // 50])
            assert code_of(answer) in ("ok", "unreadable_audio", "audio_too_short")
        await noise(rig, 50)


async def noise(rig: Rig, count: int, seed: int = 60) -> None:
    rng = random.Random(seed)
    heads = [b"", GOOD[:60], encoded(SOUND)[:60], encoded(SOUND, "OGG", "VORBIS")[:200]]
    for _ in range(count):
        answer = await send(rig, rng.choice(heads) + rng.randbytes(rng.randrange(1, 3000)))
        assert answer.status_code in (201, 200, 415, 422)


@pytest.mark.slow
async def test_f60_ten_thousand_times(rig):
    for part in range(20):  # the golden request waits for 30 s at most
        async with rig.fault():
            await noise(rig, 500, seed=part)


def half_an_hour() -> bytes:
    return encoded(np.zeros(1800 * 8_000, np.int16), "FLAC", "PCM_16", 8_000)


async def test_f61_f63_bombs_through_every_call(rig):
    flac = half_an_hour()
    opus = encoded(np.zeros(int(CAP_S * 2) * 48_000, np.int16), "OGG", "OPUS", 48_000)
    wide = encoded(np.zeros((2400, 1024), np.int16), "WAV", "PCM_16", 24_000)
    assert len(flac) < 131 * 1024
    async with rig.fault():
        await send(rig, GOOD)  # the child is warm
        before = psutil.Process().memory_info().rss
        for path in PATHS:
            for bomb, code in ((flac, "audio_too_long"), (opus, "audio_too_long")):
                answer = await send(rig, bomb, path)
                assert answer.status_code == 422, path
                assert code_of(answer) == code or "longer than" in code_of(answer), path
            answer = await send(rig, wide, path)
            assert answer.status_code == 415, path
        assert psutil.Process().memory_info().rss - before < 32 * 2**20


def test_f63_one_guard_for_all_of_them():
    """Only the decode child and the decoder itself decode; only the library asks for it."""
    package = Path(chatterbox.__file__).parent
    allowed = {
        "decode_audio": {"voices/sandbox.py", "voices/decode_child.py"},
        "av.open": {"voices/audio_file.py", "voices/decode_child.py", "audio/encoders.py"},
        # and the references that this program has written itself
        "soundfile.SoundFile": {"voices/audio_file.py", "voices/voice_file.py"},
    }
    for path, node in nodes(package, *allowed):
        if isinstance(node, ast.Call) and (called := dotted(node.func)) in allowed:
            assert str(path.relative_to(package)) in allowed[called], called


async def test_f62_headers_that_promise_too_much(rig):
    claims = bytearray(encoded(SOUND))
    claims[4:8] = claims[40:44] = b"\xff\xff\xff\xfe"
    async with rig.fault():
        for rate_hz, channels in ((1, 1), (655_350, 8), (24_000, 1024), (24_000, 9)):
            answer = await send(rig, wave(rate_hz=rate_hz, channels=channels) + bytes(9000))
            assert (answer.status_code, code_of(answer)) == (415, "unsupported_audio")
        assert code_of(await send(rig, bytes(claims))) == "ok"  # what is there counts
        too_long = encoded(np.zeros(int(CAP_S + 1) * 8000, np.int16), rate_hz=8000)
        assert code_of(await send(rig, too_long)) == "audio_too_long"


def as_float(samples, subtype: str = "FLOAT") -> bytes:
    return encoded(np.asarray(samples, np.float64), "WAV", subtype)


async def test_f64_samples_that_are_no_sound(rig):
    heard: list[np.ndarray] = []
    encode = rig.encoder.encode
    rig.encoder.encode = lambda audio, _: (heard.append(audio), encode(audio))[1]
    bad = [SOUND.astype(np.float64).copy() for _ in range(3)]
    bad[0][500], bad[1][500], bad[2][500] = np.nan, np.inf, -np.inf
    async with rig.fault():
        bad.append(SOUND * 1e38)
        for samples in bad:
            for subtype in ("FLOAT", "DOUBLE"):
                answer = await send(rig, as_float(samples, subtype))
                assert (answer.status_code, code_of(answer)) == (422, "audio_not_finite")
        for samples in (np.zeros(48_000), np.full(48_000, 0.5)):
            answer = await send(rig, as_float(samples))
            assert (answer.status_code, code_of(answer)) == (422, "audio_silent")
        for data in (
            as_float(np.sign(SOUND)),
            encoded(SOUND, "WAV", "PCM_U8"),
            encoded(SOUND, "WAV", "PCM_24"),
            as_float(SOUND, "DOUBLE"),
        ):
            assert code_of(await send(rig, data)) == "ok"
        assert heard
        for audio in heard:
            assert np.isfinite(audio).all()
            assert np.abs(audio).max() <= 1


async def test_f65_lengths(rig):
    heard: list[int] = []
    encode = rig.encoder.encode
    rig.encoder.encode = lambda audio, _: (heard.append(audio.size), encode(audio))[1]
    async with rig.fault():
        for seconds in (0.2, 0.9):
            answer = await send(rig, encoded(babble(seconds)))
            assert (answer.status_code, code_of(answer)) == (422, "audio_too_short")
        answer = await send(rig, encoded(babble(3)))
        assert answer.status_code == 201
        assert any("short_reference" in warning for warning in answer.json()["warnings"])
        for seed, seconds in enumerate((20, CAP_S)):
            answer = await send(rig, encoded(babble(seconds, seed=seed)))
            assert answer.status_code == 201
        answer = await send(rig, encoded(babble(CAP_S + 0.1)))
        assert (answer.status_code, code_of(answer)) == (422, "audio_too_long")
        assert max(heard) <= LM_PROMPT_S * 24_000


async def test_f67_forms_that_are_none(rig):
    part = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    file = b'--x\r\nContent-Disposition: form-data; name="voice_file"; filename="a"\r\n\r\n%s\r\n'
    good, other = file % GOOD, (file % GOOD).replace(b"voice_file", b"other")
    forms = (
        (part % (b"name", b"x"), 422, "invalid_value", "voice_file"),
        (good * 2, 422, "invalid_value", "voice_file"),
        (good + other, 422, "unknown_field", "other"),
        (part % (b"nam", b"x") + good, 422, "unknown_field", "nam"),
        (part % (b"voice_file", b"RIFF"), 422, "unknown_field", "voice_file"),
        (part % (b"name", b"a") * 2 + good, 422, "invalid_value", "name"),
        (b"".join(part % (b"f%d" % n, b"1") for n in range(40)) + good, 400, "invalid_body", None),
        (part % (b"name", b"a" * 70_000) + good, 413, "body_too_large", None),
        (part % (b"name", b"a" * 2_000_000) + good, 413, "body_too_large", None),
        (good.replace(b'; name="voice_file"', b""), 400, "invalid_body", None),
    )
    async with rig.fault():
        for body, *error in forms:
            for kind in ("multipart/form-data; boundary=x", "multipart/form-data"):
                answer = await rig.client.post(
                    "/voices/register", content=body + b"--x--\r\n", headers={"content-type": kind}
                )
                error_of(answer, *(error if "=" in kind else (400, "invalid_body")))
        for cut in range(0, len(GOOD), len(GOOD) // 20):
            body = (file % GOOD)[:cut]
            headers = {"content-type": "multipart/form-data; boundary=x"}
            answer = await rig.client.post("/voices/register", content=body, headers=headers)
            assert answer.status_code in (400, 422)


async def test_f68_a_child_that_hangs(tmp_path, monkeypatch):
    child = SandboxedDecoder(program=HOSTILE)
    patience_s = child.wall_s
    monkeypatch.setattr("chatterbox.voices.library.guarded_decoder", lambda: child)
    async with running(tmp_path) as rig, rig.fault():
        assert code_of(await send(rig, GOOD)) == "ok"
        child.wall_s = 0.4
        answer = await send(rig, b"BAD!time.sleep(60)")
        child.wall_s = patience_s
        assert (answer.status_code, code_of(answer)) == (422, "unreadable_audio")
        assert code_of(await send(rig, encoded(babble(2.5, seed=3)))) == "ok"


def test_the_list_of_calls_is_whole():
    """Whoever adds a call that takes a recording adds it here."""
    package = Path(chatterbox.__file__).parent
    using = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"\bUpload\b|_with_recording", path.read_text())
        and "APIRouter" in path.read_text()
    }
    assert using == {
        "dialects/elevenlabs/voices.py",
        "dialects/openai/voices.py",
        "dialects/sillytavern.py",
        "server/speech_response.py",
        "server/voice_routes.py",
    }
