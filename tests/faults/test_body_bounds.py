"""Fault table, F96 to F100: limits on request bodies and uploads."""

import asyncio
import encodings.aliases
import gc
import time
from contextlib import AsyncExitStack, asynccontextmanager

import numpy as np
import psutil
import pytest
from faults.harness import GOLDEN, KEY, SECRET, Rig, running
from harness import error_of
from voices.clips import babble, encoded

from chatterbox.server import body, multipart

CODECS = sorted(set(encodings.aliases.aliases.values()))
CODECS += ["punycode", "idna", "unicode_escape", "raw_unicode_escape", "undefined", "nonsense", ""]
CODECS += ["UTF-8", "US-ASCII", "ISO-8859-1", "windows-1252", "shift_jis", "rot13"]
READ = {"utf8", "ascii", "usascii", "latin1", "iso88591"}
SLOW = ("\U00010000" + "x" * 20_000).encode("punycode") + b"a" * 90_000
"""Text that Python's punycode codec takes seconds to decode."""
QUICK_S = 0.5
"""Allowed processor time: ten times what the fault table says."""
FIELD = b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
MIB = 2**20


def form(*parts: tuple[bytes, bytes, bytes]) -> bytes:
    """Return a multipart body of parts (name, rest of the head, content)."""
    return b"".join(FIELD % part for part in parts) + b"--x--\r\n"


async def post(rig: Rig, content: bytes, kind: str, path: str = "/tts"):
    return await rig.client.post(path, content=content, headers={"content-type": kind})


def is_read(label: str) -> bool:
    return label.lower().replace("-", "").replace("_", "") in READ


@pytest.fixture
def without_gc():
    """No garbage collection: after thousands of tests one takes longer than the calls measured."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_gc")
async def test_f96_only_utf8_and_latin1_are_decoded(rig):
    text = b"A %s." % SECRET.encode()
    multipart = "multipart/form-data; boundary=x"
    for number, codec in enumerate(CODECS):
        label = codec.encode()
        named = b"\r\nContent-Type: text/plain; charset=" + label
        extended = b"; filename*=%s''a%%20b" % label
        contents = (
            (form((b"text", b"", SLOW)), f"{multipart}; charset={codec}"),
            (form((b"text", named, SLOW)), multipart),
            (form((b"text", b"", SLOW), (b"_charset_", b"", label)), multipart),
            (form((b"text", b"", text), (b"voice_file", extended, SLOW)), multipart),
            (b"text=" + SLOW, f"application/x-www-form-urlencoded; charset={codec}"),
            (b"text=a&_charset_=" + label, "application/x-www-form-urlencoded"),
            (b'{"text": "%s"}' % SLOW, f"application/json; charset={codec}"),
        )
        known = is_read(codec) or codec == "punycode"  # for all others one is like the other
        for content, kind in contents if known else (contents[number % len(contents)],):
            began = time.process_time()
            answer = await post(rig, content, kind)
            took_s = time.process_time() - began
            assert took_s < QUICK_S, (codec, kind)
            if not is_read(codec):
                error_of(answer, 415, "unsupported_media_type")
            assert answer.status_code < 500


async def test_f96_old_clients_encodings_are_read(rig):
    said = "Grüße, Zoë."
    multipart = "multipart/form-data; boundary=x"
    urlencoded = "application/x-www-form-urlencoded"
    heard = (await rig.speak(said, seed=3)).content
    rest = [(b"seed", b"", b"3"), (b"response_format", b"", b"pcm")]
    for charset, quoted in (
        ("UTF-8", "Gr%C3%BC%C3%9Fe,+Zo%C3%AB."),
        ("latin1", "Gr%FC%DFe,+Zo%EB."),
        ("ISO-8859-1", "Gr%FC%DFe,+Zo%EB."),
    ):
        data, label = said.encode(charset), charset.encode()
        named = b"\r\nContent-Type: text/plain; charset=" + label
        address = f"text={quoted}&seed=3&response_format=pcm".encode()
        for content, kind in (
            (form((b"text", b"", data), *rest), f'{multipart}; a="b;c"; charset={charset}'),
            (form((b"text", named, data), *rest), "Multipart/Form-Data; Boundary=x"),
            (form((b"text", b"", data), (b"_charset_", b"", label), *rest), multipart),
            (address, f"{urlencoded}; charset={charset}"),
            (address + b"&_charset_=" + label, f"{urlencoded}; charset={charset}"),
        ):
            answer = await post(rig, content, kind)
            assert (answer.status_code, answer.content) == (200, heard), (charset, kind)
    unnamed = await post(rig, form((b"text", b"", said.encode("latin-1")), *rest), multipart)
    assert unnamed.content == heard


async def test_f96_encoded_parts_are_refused(rig):
    async with rig.fault():
        for encoding, right in (
            (b"8bit", True),
            (b"Binary", True),
            (b"7bit", True),
            (b"base64", False),
            (b"quoted-printable", False),
            (b"x-uuencode", False),
        ):
            head = b"\r\nContent-Transfer-Encoding: " + encoding
            content = form((b"text", head, b"A %s." % SECRET.encode()))
            answer = await post(rig, content, "multipart/form-data; boundary=x")
            assert answer.status_code == (200 if right else 415), encoding


@pytest.mark.usefixtures("without_gc")
async def test_f96_costly_bodies_do_not_block_the_event_loop(rig):
    """Near-boundaries, long header options and deep JSON are costly to parse."""
    near = b"\r\n--" * 30_000
    options = "multipart/form-data; boundary=x" + ";a=b" * 7000
    quotes = 'multipart/form-data; boundary="' + ';"' * 15_000
    escapes = b'\r\nX: ";\\' + b'";\\' * 2600
    async with rig.fault():
        for content, kind in (
            (form((b"text", b"", near)), "multipart/form-data; boundary=x"),
            (form((b"text", b"", b"\r" * 120_000)), "multipart/form-data; boundary=x"),
            (form((b"text", b"", b"a")), options),
            (form((b"text", b"", b"a")), quotes),
            (form((b"text", escapes, b"a")), "multipart/form-data; boundary=x"),
            (b'{"text": [' + b"[]," * 40_000 + b"1]}", "application/json"),
            (b'{"a":{},' + b'"":{},' * 20_000 + b'"b":1}', "application/json"),
            (b"{" + b",".join(b'"%d":1' % n for n in range(11_000)) + b"}", "application/json"),
            (b'{"seed": 1.' + b"9" * 120_000 + b"}", "application/json"),
            (b'{"' + "\N{SNOWMAN}".encode() * 40_000 + b'": 1}', "application/json"),
            (b"text=" + b"%E2%98%83" * 13_000, "application/x-www-form-urlencoded"),
        ):
            longest_s = await longest_stop(post(rig, content, kind))
            assert longest_s < QUICK_S, (kind[:40], content[:40])


async def longest_stop(work) -> float:
    """Return the longest time that `work` blocked the event loop."""
    task, longest_s = asyncio.ensure_future(work), 0.0
    while not task.done():
        began = time.thread_time()
        await asyncio.sleep(0.001)
        longest_s = max(longest_s, time.thread_time() - began)
    assert task.result().status_code < 500
    return longest_s


@asynccontextmanager
async def held_back(rig: Rig, path: str, data: bytes, count: int, head: bytes = b""):
    """Send `count` uploads without their last 40 bytes."""
    start = (
        b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%s"
        b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    ) % (path.encode(), len(data), head)
    sending: list[asyncio.Task[None]] = []
    writers = []

    async def send(writer) -> None:
        for at in range(0, len(data) - 40, 65_536):
            writer.write(data[at : min(at + 65_536, len(data) - 40)])
            await writer.drain()

    for _ in range(count):
        _, writer = await rig.raw(start)
        writers.append(writer)
        sending.append(asyncio.create_task(send(writer)))
    try:
        yield
    finally:
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()


FILE = b'; filename="a.wav"'


async def test_f97_only_one_file_is_stored_mostly_on_disk(rig):
    """Eight bodies of 32 files, each just small enough to stay in memory alone."""
    data = form(*[(b"voice_file", FILE, bytes(1_046_576))] * 32)
    async with rig.fault():
        before = psutil.Process().memory_info().rss
        async with held_back(rig, "/voices/register", data, 8):
            await asyncio.sleep(3)
            assert psutil.Process().memory_info().rss - before < 16 * MIB
        await rig.until(lambda: not rig.app.services.admission.disk.used_bytes)


async def test_f97_first_of_repeated_files_is_used(rig):
    first, second = encoded(babble(3, seed=1)), encoded(babble(3, seed=2))
    parts = [(b"files", FILE, first), (b"files", FILE, second), (b"name", b"", b"n")]
    kind = "multipart/form-data; boundary=x"
    async with rig.fault():
        answer = await post(rig, form(*parts), kind, "/v1/voices/add")
        assert answer.status_code == 200
        assert answer.headers["x-ignored-params"] == "files[1:]"
        alone = await post(rig, form(parts[0]), kind, "/upload_reference")
        made = (await rig.client.get("/voices")).json()["voices"]
        assert [voice["voice_id"] for voice in made if not voice["built_in"]] == [
            answer.json()["voice_id"]
        ], alone.text
        other = await post(rig, form((b"x", FILE, first)), kind, "/clone_speaker")
        assert other.status_code == 422


async def test_f97_all_bodies_share_one_memory_limit(tmp_path):
    text = b'{"text": "' + b" " * 50_000
    head = b"POST /tts HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    async with running(tmp_path, body_memory_mb=1) as rig, rig.fault():
        room = rig.app.services.admission.memory
        before = room.used_bytes  # the golden request's
        for _ in range(40):
            await rig.raw(head + b"Content-Length: 60000\r\n\r\n" + text)
        await rig.until(lambda: room.used_bytes > 900_000)
        await asyncio.sleep(0.1)
        assert room.used_bytes <= room.limit_bytes
        error_of(await rig.speak(" " * 100_000 + "a"), 429, "overloaded")
        for writer in rig.connections:
            writer.transport.abort()
        await rig.until(lambda: room.used_bytes == before)
        assert (await rig.speak()).status_code == 200


async def test_f98_uploads_leave_half_of_the_places(tmp_path):
    """Uploads wait for each other, but not for speech."""
    going = asyncio.Event()

    async with running(tmp_path, engine={"max_concurrent_requests": 4}) as rig, rig.fault():
        encode, loop = rig.encoder.encode, asyncio.get_running_loop()

        def slowly(audio, transcript):
            asyncio.run_coroutine_threadsafe(going.wait(), loop).result(60)
            return encode(audio, transcript)

        rig.encoder.encode = slowly
        uploads = [
            asyncio.create_task(
                rig.client.post(
                    "/voices/register",
                    files={"voice_file": ("a", encoded(babble(3, seed=seed)))},
                )
            )
            for seed in range(6)
        ]
        await rig.until(lambda: rig.engine.admission.active == 3)  # the golden request and two
        await asyncio.sleep(0.3)
        assert (rig.engine.admission.active, rig.engine.admission.queued) == (3, 0)
        assert (await rig.speak()).status_code == 200
        going.set()
        assert {(await answer).status_code for answer in uploads} == {201}


async def test_f98_slow_uploads_hold_no_speech_place(tmp_path):
    data = form((b"voice_file", FILE, bytes(MIB)))
    engine = {"max_concurrent_requests": 2, "max_queued_requests": 0}
    async with (
        running(tmp_path, engine=engine) as rig,
        held_back(rig, "/voices/register", data, 6),
    ):
        await asyncio.sleep(0.3)
        assert rig.engine.admission.active == 0
        for _ in range(2):
            assert (await rig.speak()).status_code == 200
        fields = {"text": (None, f"A {SECRET}.")}
        assert (await rig.client.post("/tts", files=fields)).status_code == 200


async def test_f98_one_key_leaves_upload_places_for_others(tmp_path):
    other = f"other-{SECRET}-0123456789"
    mine, theirs = ({"authorization": f"Bearer {key}"} for key in (KEY, other))
    data = form((b"voice_file", FILE, bytes(MIB)))
    async with running(tmp_path, api_keys=f"{KEY},{other}") as rig:
        rig.headers = mine
        key = f"Authorization: {theirs['authorization']}\r\n".encode()
        async with held_back(rig, "/voices/register", data, 8, key):
            await asyncio.sleep(0.5)
            files = {"voice_file": ("a", encoded(babble(3)))}
            answer = await rig.client.post("/voices/register", files=files, headers=mine)
            assert answer.status_code == 201
            answer = await rig.client.post("/voices/register", files=files, headers=theirs)
            error_of(answer, 429, "key_limit")


async def test_f98_cloning_request_releases_its_upload_before_speaking(tmp_path):
    engine = {"max_concurrent_requests": 4}
    async with running(tmp_path, engine=engine) as rig, AsyncExitStack() as held:
        files = {"voice_file": ("a", encoded(babble(3)))}
        for _ in range(4):  # twice as many as may upload at once; nobody reads
            client = await held.enter_async_context(rig.new_client(narrow=True))
            fields = {name: str(value) for name, value in GOLDEN.items()}
            call = client.stream("POST", "/tts", data=fields, files=files)
            assert (await held.enter_async_context(call)).status_code == 200
        assert rig.engine.admission.active == 4
        assert not rig.app.services.admission.disk.used_bytes


async def test_f99_withheld_upload_times_out(rig, monkeypatch):
    """Early bytes give no credit."""
    monkeypatch.setattr(body, "STALL_S", 0.4)
    data = form((b"voice_file", FILE, bytes(4 * MIB)))
    async with rig.fault():
        reader, writer = await rig.raw(
            b"POST /voices/register HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" % len(data)
        )
        writer.write(data[:-5000])
        await writer.drain()

        async def drip() -> None:
            for at in range(5000, 40, -1):
                writer.write(data[-at : -at + 1])
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(60):
            assert b" 408 " in await reader.readline()
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
        writer.transport.abort()


async def test_f99_full_disk_is_reported_and_recovers(tmp_path, monkeypatch):
    data = form((b"voice_file", FILE, bytes(700_000)))
    kind = "multipart/form-data; boundary=x"
    async with running(tmp_path, upload_disk_mb=1) as rig, rig.fault():
        async with held_back(rig, "/voices/register", data, 1):
            await rig.until(lambda: rig.app.services.admission.disk.used_bytes > 600_000)
            answer = await post(rig, data, kind, "/voices/register")
            error_of(answer, 507, "storage_full")
            assert int(answer.headers["retry-after"]) >= 1
        await rig.until(lambda: not rig.app.services.admission.disk.used_bytes)
        assert (await post(rig, data, kind, "/voices/register")).status_code == 415

        class Full(multipart.SpooledTemporaryFile):
            def rollover(self):
                raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(multipart, "SpooledTemporaryFile", Full)
            for path in ("/voices/register", "/voices/import", "/v1/audio/voice_consents"):
                part = data if "consents" not in path else data.replace(b"voice_file", b"recording")
                assert (await post(rig, part, kind, path)).status_code == 507
        files = {"voice_file": ("a", encoded(babble(3)))}
        assert (await rig.client.post("/voices/register", files=files)).status_code == 201


async def test_f100_consent_recordings_are_hashed_from_disk_holding_a_place(rig):
    data = np.random.default_rng(0).bytes(24 * MIB)
    fields = {"name": "n", "language": "en-US"}
    async with rig.fault():
        content = form((b"recording", FILE, data), (b"name", b"", b"n"))

        async def send() -> bytes:
            reader, writer = await rig.raw(
                b"POST /v1/audio/voice_consents HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\n\r\n"
                % len(content)
            )
            for at in range(0, len(content), 65_536):
                writer.write(content[at : at + 65_536])
                await writer.drain()
            answer = await reader.readline()
            writer.transport.abort()
            return answer

        await send()  # whatever the first call loads is there
        before, most = psutil.Process().memory_info().rss, 0
        calls = [asyncio.create_task(send()) for _ in range(3)]
        while not all(call.done() for call in calls):
            most = max(most, psutil.Process().memory_info().rss)
            await asyncio.sleep(0.005)
        assert all(b" 200 " in call.result() for call in calls)
        assert most - before < 32 * MIB, (most - before) / MIB
        answer = await rig.client.post(
            "/v1/audio/voice_consents", data=fields, files={"recording": ("a", b"")}
        )
        assert answer.status_code == 422


async def test_f100_one_key_leaves_room_for_other_keys_consents(tmp_path, monkeypatch):
    other = f"other-{SECRET}-0123456789"
    monkeypatch.setattr("chatterbox.voices.consents.MAX_OF_ONE_KEY", 3)
    async with running(tmp_path, api_keys=f"{KEY},{other}") as rig:
        rig.headers = {"authorization": f"Bearer {KEY}"}

        async def give(key: str) -> int:
            answer = await rig.client.post(
                "/v1/audio/voice_consents",
                data={"name": "n"},
                files={"recording": ("a", b"sound")},
                headers={"authorization": f"Bearer {key}"},
            )
            return answer.status_code

        assert [await give(other) for _ in range(4)] == [200, 200, 200, 507]
        assert await give(KEY) == 200
