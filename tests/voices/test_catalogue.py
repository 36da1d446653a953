"""Names of voices: which are allowed, and which voice a name finds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatterbox.errors import InvalidVoiceId
from chatterbox.voices.names import (
    MAX_ALIASES,
    NameIndex,
    VoiceInfo,
    normalize_name,
    with_alias,
    without_alias,
)
from chatterbox.voices.reference import ReferenceReport

REPORT = ReferenceReport(1, 0, 1, None, 0, 0, 0, 24_000, ())


def info(voice_id: str, name: str, *aliases: str) -> VoiceInfo:
    return VoiceInfo(voice_id, name, aliases, 1.5, False, REPORT)


CATALOGUE = NameIndex([info("v-1", "Anna", "narrator"), info("v-2", "v-1x")])


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("v-1", "v-1"),
        ("anna", "v-1"),
        (" ANNA ", "v-1"),
        ("Narrator", "v-1"),
        ("v-1X", "v-2"),
        ("V-1", None),
        ("", None),
        ("../v-1", None),
    ],
)
def test_finding(asked, found):
    voice = CATALOGUE.find(asked)
    assert (voice.voice_id if voice else None) == found


def test_names_are_compared_without_case_and_unicode_form():
    catalogue = NameIndex([info("v-1", "Zo\u00eb Stra\u00dfe")])
    assert catalogue.find("ZOE\u0308 STRASSE") is not None


@pytest.mark.parametrize("name", ["ANNA", "narrator", "v-1", "V-1", "v-2"])
def test_taken_names(name):
    with pytest.raises(InvalidVoiceId, match="belongs to another voice"):
        CATALOGUE.free_name(name, "v-3")


@pytest.mark.parametrize("name", ["Zoe/2", "/", "a/", " /b", ".", ".."])
def test_names_that_do_not_fit_in_a_url_are_refused(name):
    with pytest.raises(InvalidVoiceId, match="cannot contain '/'"):
        CATALOGUE.free_name(name, "v-3")
    assert CATALOGUE.free_names([name, "Ben"], "v-3") == ["Ben"]
    assert normalize_name(name)  # names stored by earlier versions stay valid


@pytest.mark.parametrize("name", ["a.b", "...", "Zoe, 2", "half\\half", "50 %", "#1?"])
def test_names_that_fit_in_a_url_when_quoted_are_accepted(name):
    assert CATALOGUE.free_name(name, "v-3") == name


def test_own_names_are_free():
    assert CATALOGUE.free_name("ANNA", "v-1") == "ANNA"
    assert CATALOGUE.free_names(["anna", "x\n", "Ben", "v-2"], "v-3") == ["Ben"]


@pytest.mark.parametrize("name", ["", "  ", "a" * 101, "a\nb", "a\x00", "\ud800", "a\u2028b"])
def test_impossible_names(name):
    with pytest.raises(InvalidVoiceId):
        normalize_name(name)


@given(st.text(max_size=120))
def test_normalizing_twice_changes_nothing(name):
    try:
        kept = normalize_name(name)
    except InvalidVoiceId:
        return
    assert normalize_name(kept) == kept
    catalogue = NameIndex([info("v-1", kept)])
    assert catalogue.find(name) is not None


def test_aliases_are_limited_and_not_duplicated():
    voice = info("v-1", "Anna", *(f"a{i}" for i in range(MAX_ALIASES)))
    assert with_alias(voice, "A0") == voice.aliases
    assert with_alias(voice, "anna") == voice.aliases
    with pytest.raises(InvalidVoiceId):
        with_alias(voice, "one more")
    assert without_alias(voice, "A0") == voice.aliases[1:]


def test_a_catalogue_does_not_change():
    more = CATALOGUE.with_voice(info("v-3", "Ben"))
    assert CATALOGUE.find("ben") is None
    assert more.find("ben") is not None
    assert more.without("v-3").find("ben") is None


def test_json():
    assert info("v-1", "Anna", "x").as_json() == {
        "voice_id": "v-1",
        "name": "Anna",
        "aliases": ["x"],
        "created_at": 1,
        "built_in": False,
        "report": REPORT.as_json(),
    }
