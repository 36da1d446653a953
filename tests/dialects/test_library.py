"""Voices under the names that clients use: file names, aliases, recordings in a speech call."""

import io
import wave

import pytest
from harness import error_of, serving

SPEECH = "/v1/audio/speech"


async def register(client, data: bytes = b"RIFF1234", name: str = "Emily") -> str:
    answer = await client.post(
        "/voices/register", data={"name": name}, files={"voice_file": ("a.wav", data)}
    )
    return answer.json()["voice_id"]


@pytest.mark.parametrize(
    ("method", "path", "call"),
    [
        ("POST", SPEECH, {"input": "Hi.", "voice": "NAME"}),
        (
            "POST",
            "/tts",
            {"text": "Hi.", "voice_mode": "predefined", "predefined_voice_id": "NAME"},
        ),
        ("POST", "/tts_to_audio/", {"text": "Hi.", "speaker_wav": "NAME"}),
        ("GET", "/tts_stream", {"text": "Hi.", "speaker_wav": "NAME"}),
    ],
)
async def test_a_voice_name_may_have_a_file_suffix(method, path, call):
    async with serving() as client:
        voice = await register(client, name="Dr. Emily")
        kind = "json" if method == "POST" else "params"

        async def said(name: str):
            asked = {key: value.replace("NAME", name) for key, value in call.items()}
            return await client.request(method, path, **{kind: asked})

        for ending in ("wav", "mp3", "FLAC", "m4a"):
            assert (await said(f"Dr. Emily.{ending}")).status_code == 200
            assert (await said(f"speakers/Dr. Emily.{ending}")).status_code == 200
            assert client.engine.voices.looked_up[-2:] == [voice, voice]
        for other in ("Emily.wav", "Dr. Emily.txt", "Dr. Emily.v2", "Dr"):
            assert (await said(other)).status_code == 404


async def test_aliases_are_in_every_list_of_names():
    async with serving() as client:
        voice = await register(client, name="Anna")
        again = await client.post(
            "/upload_reference", files=[("files", ("Emily.wav", b"RIFF1234"))]
        )
        assert again.json()["uploaded_files"] == ["Emily"]
        assert again.json()["all_reference_files"] == ["Anna", "Emily"]
        await client.put("/voices/slt/aliases/narrator")

        async def listed(path: str):
            return (await client.get(path)).json()

        assert await listed("/get_reference_files") == ["Anna", "Emily"]
        assert await listed("/get_predefined_voices") == [
            {"display_name": "slt", "filename": "slt"},
            {"display_name": "narrator", "filename": "narrator"},
        ]
        names = ["slt", "narrator", "Anna", "Emily"]
        assert await listed("/speakers_list") == names
        assert [one["name"] for one in await listed("/speakers")] == names
        assert list(await listed("/studio_speakers")) == names
        assert (await listed("/v1/audio/voices?format=names"))["voices"] == names
        voices = (await listed("/v1/audio/voices"))["voices"]
        assert [one["name"] for one in voices] == names
        assert [one["id"] for one in voices] == ["slt", "narrator", voice, "Emily"]
        told = (await listed("/v1/voices"))["voices"]
        assert [one["description"] for one in told] == ["Also called narrator", "Also called Emily"]
        for one in voices:
            call = {"input": "Hi.", "voice": one["id"]}
            assert (await client.post(SPEECH, json=call)).status_code == 200


@pytest.mark.parametrize("path", ["/v1/voices", "/voices"])
async def test_a_voice_is_registered_with_travisvns_call(path):
    async with serving() as client:
        form = {"voice_name": "Emily", "language": "en"}
        files = {"voice_file": ("e.wav", b"RIFF1234", "audio/wav")}
        answer = await client.post(path, data=form, files=files)
        assert answer.status_code == 201
        voice = answer.json()["voice"]
        assert (voice["name"], voice["filename"], voice["file_size"]) == ("Emily", "e.wav", 8)
        assert "x-ignored-params" not in answer.headers
        call = {"input": "Hi.", "voice": "Emily"}
        assert (await client.post(SPEECH, json=call)).status_code == 200
        other = await client.post(path, data=form | {"language": "fr"}, files=files)
        assert other.headers["x-ignored-params"] == "language"
        for lacking in ({"data": form}, {"files": files}):
            assert (await client.post(path, **lacking)).status_code == 422


REFERENCES = [
    *("ref_audio", "ref_audio_url", "refAudio", "ref_wav_path", "ref_text", "reference_audio"),
    *("reference_id", "references", "reference_audio_filename", "voice_ref", "voiceReference"),
    *("audio_prompt", "audio_prompt_path", "prompt_wav", "prompt_speech_16k", "prompt_audio_url"),
    *("spk_audio_prompt", "speaker_wav", "speaker_embedding", "voice_file", "voice_sample_url"),
    *("clone_audio", "input_audio", "audio_base64", "wav_path", "refer_wav_path", "cond_latents"),
]


async def test_a_recording_in_a_speech_call_is_refused():
    async with serving() as client:
        for name in REFERENCES:
            call = {"input": "Hi.", "voice": "slt"}
            for value in ("https://example.com/a.wav", {"data": "UklGRg=="}, ["a.wav"]):
                answer = await client.post(SPEECH, json={**call, name: value})
                error = error_of(answer, 422, "unknown_field", name)
                assert error["message"].startswith(f"'{name}'")
            for nothing in (None, "", [], False):
                answer = await client.post(SPEECH, json={**call, name: nothing})
                assert answer.status_code == 200, name


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("/tts", {"text": "Hi.", "voice_mode": "predefined", "predefined_voice_id": "slt"}),
        ("/tts_to_audio/", {"text": "Hi.", "speaker_wav": "slt"}),
        ("/v1/text-to-speech/slt", {"text": "Hi."}),
        ("/v1/text-to-speech/slt/stream", {"text": "Hi."}),
        ("/api/tts_streaming", {"text": "Hi.", "voice": "slt"}),
    ],
)
async def test_a_recording_is_refused_on_every_route(path, call):
    async with serving() as client:
        assert (await client.post(path, json=call)).status_code == 200
        answer = await client.post(path, json=call | {"ref_audio": "a.wav"})
        assert answer.status_code == 422
        assert "ref_audio" in answer.text


NO_REFERENCES = [
    *("instructions", "prompt", "prompt_text", "prompt_lang", "voice_settings", "voice_speed"),
    *("audio_format", "audio_effects", "output_audio_codec", "language", "task_type", "emotion"),
    *("sample_rate", "num_samples", "cfg_weight", "exaggeration", "response_id", "user_data"),
    *("preference", "clone_strength", "file", "x_vector_only_mode", "previous_request_ids"),
]


async def test_fields_without_a_recording_are_ignored():
    async with serving() as client:
        for name in NO_REFERENCES:
            answer = await client.post(SPEECH, json={"input": "Hi.", "voice": "slt", name: "x"})
            assert answer.status_code == 200
            assert answer.headers["x-ignored-params"] == name


@pytest.mark.parametrize(
    "call",
    [
        {"path": "/tts", "data": {"text": "Hi.", "stream": "false"}},
        {"path": SPEECH, "json": {"input": "Hi.", "response_format": "wav", "stream": False}},
    ],
)
async def test_whole_files_have_their_true_length(call):
    async with serving() as client:
        answer = await client.post(call.pop("path"), **call)
        assert "x-ignored-params" not in answer.headers
        with wave.open(io.BytesIO(answer.content)) as file:
            assert file.getnframes() == (len(answer.content) - 44) // 2 == 4800


@pytest.mark.parametrize("stream", [True, None, "true"])
async def test_openais_call_is_streamed_by_default(stream):
    async with serving() as client:
        call = {"input": "Hi.", "response_format": "wav", "stream": stream}
        answer = await client.post(SPEECH, json=call)
        assert answer.content[40:44] == b"\xff" * 4
        events = await client.post(SPEECH, json=call | {"stream_format": "sse", "stream": False})
        assert events.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize(
    ("path", "call"),
    [
        (SPEECH, {"input": "Hi.", "voice": "slt"}),
        ("/tts_to_audio/", {"text": "Hi."}),
        ("/v1/text-to-speech/slt", {"text": "Hi."}),
    ],
)
async def test_an_uploaded_file_in_a_speech_call_is_refused(path, call):
    async with serving() as client:
        for name in ("voice_file", "file", "ref_audio"):
            answer = await client.post(path, data=call, files={name: ("a.wav", b"RIFF1234")})
            assert answer.status_code == 422
            assert "takes no files" in answer.text
