"""Fields of the native calls, and the validation of request bodies.

Native calls refuse unknown fields. Dialects, whose clients send some, list them in the header
`X-Ignored-Params`, and refuse only unknown fields that would hold a recording to clone.
"""

import functools
import random
import re
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError
from pydantic.functional_validators import BeforeValidator
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from chatterbox.audio.encode import FORMATS
from chatterbox.audio.encoders import USUAL_RATES_HZ
from chatterbox.audio.shaping import FASTEST, SLOWEST
from chatterbox.config.tts import (
    SAMPLING,
    MaxNewTokens,
    MinP,
    PenaltyWindow,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
)
from chatterbox.errors import (
    MAX_QUOTED_CHARS,
    ChatterboxError,
    InvalidText,
    InvalidValue,
    UnknownField,
    excerpt,
)
from chatterbox.server.body import Body
from chatterbox.text import CodeBlocks

IGNORED_HEADER = "X-Ignored-Params"
MAX_NAMED = 16
"""Limit for the names in one header; "..." replaces the rest."""

WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+")
REFERENCE = {"ref", "refer", "reference", "references"}
SPEAKER = {"prompt", "speaker", "spk", "clone", "cloned", "cloning", "voice", "cond", "source"}
SOUND = {"audio", "audios", "wav", "speech", "sample", "samples", "clip", "recording"}
CARRIER = {"url", "uri", "base64", "b64", "file", "files", "filename", "path", "paths", "data"}
VECTOR = {"embedding", "embeddings", "emb", "latent", "latents"}


def names_recording(name: str) -> bool:
    """Return whether other servers use a parameter of this name for a recording to clone, such as
    `ref_audio`, `audio_prompt_path` or `input_audio`. Speech that ignored the parameter would be in
    another voice."""
    words = {word.lower() for word in WORDS.findall(name)}
    if words & REFERENCE:
        return True
    if words & SPEAKER:
        return bool(words & (SOUND | CARRIER | VECTOR))
    return bool(words & {"audio", "wav"}) and bool(words & (CARRIER | {"input"}))


def ignored_header(names: Iterable[str], header: str = IGNORED_HEADER) -> dict[str, str]:
    """Return a header that lists the names in their order, or no header if there are none."""
    words = [_header_word(name) for name in islice(dict.fromkeys(names), MAX_NAMED + 1)]
    if len(words) > MAX_NAMED:
        words[MAX_NAMED - 1 :] = ["..."]
    return {header: ", ".join(words)} if words else {}


def _header_word(name: str) -> str:
    """Escape commas, which separate the names, and spaces, which may not begin or end a value."""
    return excerpt(name).replace(",", "\\x2c").replace(" ", "\\x20") or '""'


M = TypeVar("M", bound="CallFields")
L = TypeVar("L", bound="LenientFields")
SEED_LIMIT = 2**32
"""Seeds are below this limit, so that every client language can represent them."""
MAX_NAME_CHARS = 256
"""Limit for ids, names and formats, checked before any lookup."""


def _check_unicode(value: object) -> object:
    """Refuse lone surrogates, which JSON can carry but UTF-8 cannot."""
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise PydanticCustomError("invalid_text", "Not valid Unicode") from None
    return value


Text = Annotated[str, BeforeValidator(_check_unicode)]
Name = Annotated[str, Field(max_length=MAX_NAME_CHARS), BeforeValidator(_check_unicode)]
FormatName = Annotated[Name, Field(json_schema_extra={"enum": list(FORMATS)})]
SampleRate = Annotated[int, Field(json_schema_extra={"enum": list(USUAL_RATES_HZ)})]
Transcript = Annotated[str, Field(max_length=1000), BeforeValidator(_check_unicode)]


class CallFields(BaseModel):
    """Base of a call's fields. Unknown fields are errors, so that typos are noticed."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class NoFields(CallFields):
    """Fields of a call that takes only a file."""


class LenientFields(CallFields):
    """Base of a dialect's fields. Unknown fields are reported as ignored."""

    model_config = ConfigDict(extra="ignore")
    harmless: ClassVar[frozenset[str]] = frozenset()
    """Names of unknown fields that are not reported."""


ModelName = Annotated[
    Name, Field(description="A name from `GET /models`; by default the first model")
]


class LenientSpeechFields(LenientFields):
    """Base of the fields of a dialect's speech call. Unknown fields that would hold a recording to
    clone are refused."""

    model: ModelName | None = None


class Sampling(BaseModel):
    """Sampling parameters under their usual names."""

    temperature: Temperature | None = Field(None, description="0 is greedy sampling")
    top_k: TopK | None = Field(None, description="0 is off")
    top_p: TopP | None = Field(None, description="1 is off")
    min_p: MinP | None = Field(None, description="0 is off")
    repetition_penalty: RepetitionPenalty | None = Field(None, description="1 is off")
    penalty_window: PenaltyWindow | None = Field(
        None, description="How many of the last tokens the penalty counts; 0 is all"
    )

    def sampling(self) -> dict[str, float | None]:
        return {name: getattr(self, name) for name in SAMPLING}


class SamplingFields(Sampling, LenientSpeechFields):
    """Base of the fields of a dialect's speech call with sampling parameters."""


class SpeechFields(Sampling, CallFields):
    """The fields of `/tts` and `/tts/json`."""

    text: Text = Field(description="Text to speak")
    voice_id: Name | None = Field(
        None, description="Id, name or alias of a voice; by default the default voice"
    )
    model: ModelName | None = None
    transcript: Transcript | None = Field(
        None, description="Words spoken in `voice_file`, for models that need them"
    )
    seed: int | None = Field(
        None,
        ge=0,
        lt=SEED_LIMIT,
        description="The same seed gives the same speech; random by default",
    )
    max_new_tokens: MaxNewTokens | None = Field(
        None, description="Limit for each segment (Turbo: 25 tokens are a second)"
    )
    speed: float = Field(1.0, ge=SLOWEST, le=FASTEST, description="Tempo; the pitch stays the same")
    loudness: float | None = Field(
        None, ge=-50.0, le=-5.0, description="Loudness in LUFS; by default as the model speaks"
    )
    code_blocks: CodeBlocks | None = Field(
        None, description="`skip` or `speak` fenced code in the text; by default as configured"
    )
    response_format: FormatName = Field("wav", description="File format")
    sample_rate: SampleRate | None = Field(
        None, description="Sample rate in Hz; by default the model's, or the format's only one"
    )
    stream: bool = Field(True, description="Send audio while it is made")


def file_route(*media_types: str) -> dict[str, Any]:
    """Return the arguments of a route that responds with a file."""
    content: dict[str, Any] = {media_type: {} for media_type in media_types}
    return {
        "response_class": Response,
        "responses": {200: {"description": "A file", "content": content}},
    }


SOUND_ROUTE = file_route(*(encoder.media_type for encoder in FORMATS.values()))


def random_seed() -> int:
    """Return a random seed, like `request_id` without the system's generator."""
    return random.randrange(SEED_LIMIT)


def parse_fields(kind: type[M], body: Body) -> M:
    """Validate a native call's body. JSON values must have the right type; a form's strings are
    converted, and empty strings count as absent. Raises UnknownField, InvalidText, InvalidValue."""
    values = body.fields
    if not body.typed:
        values = {name: value for name, value in values.items() if value != "" or name == "text"}
    for name in values:
        if name not in kind.model_fields:
            raise _unknown(name, kind.model_fields)
    fields = _validate(kind, values, strict=body.typed)
    for other in body.other_files:
        raise UnknownField(
            f"There is no file '{excerpt(other)}' in this call.", param=excerpt(other)
        )
    return fields


def parse_lenient_fields(kind: type[L], body: Body) -> tuple[L, tuple[str, ...]]:
    """Validate and convert a dialect's body. Returns the fields, and the names of unknown fields.

    Nulls, and a form's empty strings, count as absent. Raises InvalidText, InvalidValue, and
    UnknownField for a recording to clone in a speech call.
    """
    values = {
        name: value
        for name, value in body.fields.items()
        if value is not None and (body.typed or value != "")
    }
    fields = _validate(kind, values)
    aliases = (field.validation_alias for field in kind.model_fields.values())
    known = {name for alias in aliases if isinstance(alias, AliasChoices) for name in alias.choices}
    known |= kind.model_fields.keys() | kind.harmless
    unknown = tuple(name for name in values if name not in known)
    if issubclass(kind, LenientSpeechFields):
        for name in unknown:
            if values[name] and names_recording(name):
                raise UnknownField(
                    f"'{excerpt(name)}' is not accepted here: register the recording with POST "
                    "/voices/register, and request the voice by its name.",
                    param=excerpt(name),
                )
    return fields, unknown


def _validate(kind: type[M], values: dict[str, Any], *, strict: bool = False) -> M:
    """Validate fields, and raise pydantic's first error as UnknownField, InvalidText or
    InvalidValue. Messages quote no input except an unknown field's name, shortened and escaped."""
    try:
        return kind.model_validate(values, strict=strict)
    except ValidationError as fault:
        first = fault.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    param = excerpt(where) if where else None
    match first["type"]:
        case "extra_forbidden":
            raise _unknown(where)
        case "invalid_text":
            raise InvalidText(f"'{param}' is not valid Unicode text.", param=param)
        case "missing":
            raise InvalidValue(f"'{param}' is required.", param=param)
    reason = first["msg"]
    raise InvalidValue(f"'{param}': {reason}." if param else f"{reason}.", param=param)


def _unknown(name: str, known: Iterable[str] = ()) -> ChatterboxError:
    """Return the error for an unknown field, with the most similar known name as a hint."""
    near = get_close_matches(name[:MAX_QUOTED_CHARS], known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    return UnknownField(f"There is no field '{excerpt(name)}'{hint}", param=excerpt(name))


@functools.cache
def query_schema(kind: type[BaseModel]) -> dict[str, Any]:
    """Return OpenAPI's parameters for a call with its fields in the query."""
    schema = kind.model_json_schema()
    needed = schema.get("required", ())
    return {
        "parameters": [
            {"name": name, "in": "query", "required": name in needed, "schema": field}
            for name, field in schema["properties"].items()
        ]
    }


@functools.cache
def form_schema(kind: type[BaseModel], *, file: str | None = None) -> dict[str, Any]:
    """Return OpenAPI's request body for a call that accepts JSON, forms and multipart."""
    schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    properties, required = schema.get("properties", {}), schema.get("required", [])
    content: dict[str, Any] = {}
    if file is None or kind is SpeechFields:
        for media_type in ("application/json", "application/x-www-form-urlencoded"):
            content[media_type] = {"schema": schema}
    else:
        required = [*required, file]
    if file is not None:
        properties = properties | {
            file: {
                "type": "string",
                "format": "binary",
                "description": "A recording of the voice: 5 to 15 s of clean speech are best",
            }
        }
    multipart = {**schema, "properties": properties, "required": required}
    content["multipart/form-data"] = {"schema": multipart}
    return {"requestBody": {"required": True, "content": content}}
