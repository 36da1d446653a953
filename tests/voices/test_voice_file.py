"""Exported files and stored tensors: exact round trips; any change is detected."""

import json
import struct

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from chatterbox.errors import InvalidVoiceFile
from chatterbox.families.turbo.voice import (
    MAX_FEATURE_ROWS,
    TurboVoices,
    VoiceTensors,
    tensors_fault,
)
from chatterbox.families.voices import UnusableVoice
from chatterbox.voices.reference import Reference, ReferenceReport, pcm_to_float
from chatterbox.voices.voice_file import (
    DamagedFile,
    ExportedVoice,
    digest_of,
    flac_to_reference,
    pack,
    read_voice_file,
    reference_to_flac,
    unpack,
    write_voice_file,
)

from .clips import MODEL, FakeEncoder, babble, encoded

REPORT = ReferenceReport(5, 0, 5, None, 0.5, 0, 0.1, 24_000, ("noisy: …",))
PCM = (babble(2) * 20_000).astype(np.int16)
TENSORS = FakeEncoder().encode(babble(1))
TURBO = TurboVoices(None, MODEL)
ARRAYS = TURBO.to_arrays(TENSORS)


def exported(**changes: object) -> ExportedVoice:
    fields = {
        "name": "Anna",
        "aliases": ("a", "é"),
        "reference": Reference(pcm_to_float(PCM), REPORT),
        "model_key": MODEL,
        "arrays": ARRAYS,
    }
    return ExportedVoice(**(fields | changes))  # type: ignore[arg-type]


def changed(**changes: object) -> VoiceTensors:
    names = ("features", "prompt_codes", "speaker", "prompt_mel")
    return VoiceTensors(**{name: changes.get(name, getattr(TENSORS, name)) for name in names})


FILE = write_voice_file(exported())


def test_tensors_round_trip():
    arrays, metadata = unpack(pack(ARRAYS, {"a": "b"}))
    assert metadata == {"a": "b"}
    assert digest_of(TURBO.to_arrays(TURBO.from_arrays(arrays))) == digest_of(ARRAYS)
    assert digest_of(ARRAYS | {"speaker": TENSORS.speaker + 1}) != digest_of(ARRAYS)


def test_references_round_trip():
    assert np.array_equal(flac_to_reference(reference_to_flac(PCM)), PCM)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"fLaC",
        reference_to_flac(PCM)[:5000],
        encoded(PCM, "WAV"),
        encoded(PCM, "FLAC", None, 16_000),
        encoded(np.stack([PCM, PCM], axis=1), "FLAC"),
        reference_to_flac(PCM[:0]),
    ],
)
def test_other_files_are_refused_as_references(data):
    with pytest.raises(DamagedFile):
        flac_to_reference(data)


def test_voices_round_trip():
    again = read_voice_file(FILE)
    assert (again.name, again.aliases) == ("Anna", ("a", "é"))
    assert again.reference.report == REPORT
    assert again.model_key == MODEL
    assert np.array_equal(again.reference.pcm, PCM)
    assert digest_of(again.arrays) == digest_of(ARRAYS)


@pytest.mark.parametrize("size", [0, 4, 8, 100, len(FILE) // 2, len(FILE) - 1])
def test_a_cut_file_is_refused(size):
    with pytest.raises(InvalidVoiceFile):
        read_voice_file(FILE[:size])


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, len(FILE) - 1), bit=st.integers(0, 7))
def test_any_changed_bit_is_found(at, bit):
    data = bytearray(FILE)
    data[at] ^= 1 << bit
    with pytest.raises(InvalidVoiceFile):
        read_voice_file(bytes(data))


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data):
    with pytest.raises(InvalidVoiceFile):
        read_voice_file(data)
    with pytest.raises(InvalidVoiceFile):
        read_voice_file(struct.pack("<Q", len(data)) + data)


def forged(drop: str = "", arrays: dict | None = None, **metadata: str) -> bytes:
    """A file with a correct checksum and changed contents."""
    good_arrays, good_metadata = unpack(FILE)
    contents = good_metadata | metadata
    contents.pop(drop, None)
    return pack({k: v for k, v in (good_arrays | (arrays or {})).items() if k != drop}, contents)


NAN_REPORT = json.dumps(REPORT.as_json() | {"peak": float("nan")})
FORGERIES = {
    "other format": forged(format="x"),
    "other version": forged(version="2"),
    "no format": forged("format"),
    "no names": forged("names"),
    "names no list": forged(names='"Anna"'),
    "names empty": forged(names="[]"),
    "names no strings": forged(names="[1]"),
    "names deep": forged(names="[" * 15_000),
    "report no JSON": forged(report="{"),
    "report NaN": forged(report=NAN_REPORT),
    "report huge": forged(report=json.dumps(REPORT.as_json() | {"warnings": ["x" * 20_000]})),
    "no key": forged("model_key"),
    "no reference": forged("reference_pcm"),
    "reference empty": forged(arrays={"reference_pcm": PCM[:0]}),
    "reference float": forged(arrays={"reference_pcm": PCM.astype(np.float32)}),
    "reference long": forged(arrays={"reference_pcm": np.resize(PCM, 24_000 * 61)}),
    "no checksum": safetensors.numpy.save(ARRAYS, {"format": "x"}),
    "other type": safetensors.numpy.save({"features": np.zeros(3, np.float64)}),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forgeries_are_refused(name):
    with pytest.raises(InvalidVoiceFile) as caught:
        read_voice_file(FORGERIES[name])
    assert caught.value.message.startswith("This")


FAULTY = {
    "rank": changed(speaker=TENSORS.features),
    "type": changed(features=TENSORS.features.astype(np.float64)),
    "codes type": changed(prompt_codes=TENSORS.prompt_codes.astype(np.int32)),
    "no rows": changed(features=TENSORS.features[:0]),
    "too many rows": changed(features=np.zeros((MAX_FEATURE_ROWS + 1, 4), np.float32)),
    "too many codes": changed(
        prompt_codes=np.zeros(251, np.int64), prompt_mel=np.zeros((502, 3), np.float32)
    ),
    "mel and codes": changed(prompt_mel=TENSORS.prompt_mel[:-1]),
    "code above": changed(prompt_codes=np.full(5, 6561)),
    "code below": changed(prompt_codes=np.full(5, -1)),
    "nan": changed(speaker=np.full(6, np.nan, np.float32)),
}


@pytest.mark.parametrize("name", FAULTY)
def test_faulty_tensors_are_refused(name):
    assert tensors_fault(TENSORS) is None
    assert tensors_fault(FAULTY[name])
    with pytest.raises(UnusableVoice):
        TURBO.from_arrays(TURBO.to_arrays(FAULTY[name]))


@pytest.mark.parametrize("drop", ARRAYS)
def test_missing_and_extra_tensors_are_refused(drop):
    with pytest.raises(UnusableVoice, match=drop):
        TURBO.from_arrays({name: array for name, array in ARRAYS.items() if name != drop})
    with pytest.raises(UnusableVoice):
        TURBO.from_arrays(ARRAYS | {"more": ARRAYS[drop]})
