"""A server whose model has fixed voices and cannot clone."""

from dataclasses import replace

from fakes import fake_voice
from faults.harness import running
from harness import error_of
from voices.clips import babble, encoded

from chatterbox.families.voices import FixedVoice, FixedVoices
from chatterbox.voices.sandbox import AudioDecoder

FIXED = FixedVoices(
    (FixedVoice("tara", "en"), FixedVoice("leo", "en")), "tara", lambda name: fake_voice(name).data
)
CLIP = {"voice_file": ("me.wav", encoded(babble(2)))}


async def test_fixed_voices_are_listed_and_speak(tmp_path):
    async with running(tmp_path, engine={"fixed": FIXED}) as rig:
        listed = (await rig.client.get("/voices")).json()
        assert [voice["voice_id"] for voice in listed["voices"]] == ["tara", "leo"]
        assert listed["default_voice"] == "tara"
        health = (await rig.client.get("/health")).json()
        assert (health["default_voice"], health["cloning"]) == ("tara", None)
        for path in ("/v1/voices", "/v1/audio/voices"):
            assert "leo" in (await rig.client.get(path)).text
        right = (await rig.speak(seed=1)).content
        assert (await rig.speak(seed=1, voice_id="Tara")).content == right
        assert (await rig.speak(seed=1, voice_id="leo")).status_code == 200
        error_of(await rig.speak(voice_id="slt"), 404, "voice_not_found", "voice_id")


async def test_f116_recording_is_refused_with_the_reason(tmp_path):
    async with running(tmp_path, engine={"fixed": FIXED}) as rig:
        for path, form in (
            ("/voices/register", {}),
            ("/tts", {"text": "A zebrafish."}),
            ("/voices/import", {}),
        ):
            answer = await rig.client.post(path, data=form, files=CLIP)
            error_of(answer, 422, "cloning_unavailable")
            assert "tara, leo" in answer.text
        for kind in ("export", "recording"):
            error_of(await rig.client.get(f"/voices/leo/{kind}"), 422, "cloning_unavailable")
        error_of(await rig.client.delete("/voices/leo"), 403, "voice_protected", "voice_id")


async def test_transcript_can_be_sent_with_a_recording(tmp_path, monkeypatch):
    monkeypatch.setattr("chatterbox.voices.library.guarded_decoder", AudioDecoder)
    async with running(tmp_path) as rig:
        told, encode = [], rig.encoder.encode
        rig.encoder.encode = lambda audio, said: (told.append(said), encode(audio))[1]
        form = {"name": "Anna", "transcript": "So it is."}
        answer = await rig.client.post("/voices/register", data=form, files=CLIP)
        assert answer.status_code == 201
        assert told == [None], "Turbo does not need it"


async def test_every_dialect_reports_the_model_s_languages(tmp_path):
    async with running(tmp_path, engine={"fixed": FIXED}) as rig:
        model = rig.engine.model
        rig.engine.model = replace(model, family=replace(model.family, languages=("de", "fr")))
        health = (await rig.client.get("/health")).json()
        assert (health["family"], health["languages"]) == ("Chatterbox Turbo", ["de", "fr"])
        spoken = (await rig.client.get("/languages")).json()["languages"]
        assert spoken == {"German": "de", "French": "fr"}
        models = (await rig.client.get("/v1/models", headers={"xi-api-key": "any"})).json()
        assert [one["language_id"] for one in models[0]["languages"]] == ["de", "fr"]
        for code, ignored in (("de-AT", False), ("en", True)):
            body = {"text": "Ja.", "language_code": code}
            answer = await rig.client.post("/v1/text-to-speech/leo", json=body)
            assert ("language_code" in answer.headers.get("x-ignored-params", "")) == ignored
