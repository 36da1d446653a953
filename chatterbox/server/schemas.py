"""The fields of native calls, with their bounds; and how a body becomes checked fields.

Native calls refuse what they do not have. Dialects, whose clients insist, take it in and name it in
the answer's `X-Ignored-Params`; a recording to imitate is refused even there.
"""

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

from chatterbox.audio.encode import FORMATS, USUAL_RATES_HZ
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


def ignored_header(names: Iterable[str], header: str = HEADER) -> dict[str, str]:
    """The header that names them, in their order; no header where there are none."""
    named = [_word(name) for name in islice(dict.fromkeys(names), MAX_NAMED + 1)]
    if len(named) > MAX_NAMED:
        named[MAX_NAMED - 1 :] = ["..."]
    return {header: ", ".join(named)} if named else {}


def _word(name: str) -> str:
    """No comma, which parts them; and no blank or nothing at an end, which no header may have."""
    return excerpt(name).replace(",", "\\x2c").replace(" ", "\\x20") or '""'


M = TypeVar("M", bound="Call")
L = TypeVar("L", bound="LenientCall")
SEED_LIMIT = 2**32
"""Seeds are below it: what every client language can hold and a header can show."""
MAX_NAME_CHARS = 256
"""No id, name or format is longer; a bound before any look-up."""


def _unicode(value: object) -> object:
    """A lone surrogate is no text: JSON can carry one, no encoder can."""
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise PydanticCustomError("invalid_text", "Not valid Unicode") from None
    return value


Text = Annotated[str, BeforeValidator(_unicode)]
Name = Annotated[str, Field(max_length=MAX_NAME_CHARS), BeforeValidator(_unicode)]
FormatName = Annotated[Name, Field(json_schema_extra={"enum": list(FORMATS)})]
SampleRate = Annotated[int, Field(json_schema_extra={"enum": list(USUAL_RATES_HZ)})]
Transcript = Annotated[str, Field(max_length=1000), BeforeValidator(_unicode)]


class Call(BaseModel):
    """A call's fields. A field it does not have is an error: a misspelt one must not pass."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class NoFields(Call):
    """A call that takes a file and nothing else."""


class LenientCall(Call):
    """The same for a dialect: what it does not know is not refused but named as ignored."""

    model_config = ConfigDict(extra="ignore")
    harmless: ClassVar[frozenset[str]] = frozenset()
    """Names that are passed over in silence."""


ModelName = Annotated[Name, Field(description="One of `GET /models`; none: the default one")]


class SpokenCall(LenientCall):
    """A dialect's call for speech: a recording to imitate is refused where it is not taken."""

    model: ModelName | None = None


class Sampling(BaseModel):
    """The sampling parameters, under their usual names."""

    temperature: Temperature | None = Field(None, description="0: greedy")
    top_k: TopK | None = Field(None, description="0: off")
    top_p: TopP | None = Field(None, description="1: off")
    min_p: MinP | None = Field(None, description="0: off")
    repetition_penalty: RepetitionPenalty | None = Field(None, description="1: off")
    penalty_window: PenaltyWindow | None = Field(
        None, description="Last tokens that the penalty counts; 0: all"
    )

    def sampling(self) -> dict[str, float | None]:
        return {name: getattr(self, name) for name in SAMPLING}


class SamplingFields(Sampling, SpokenCall):
    """A dialect's call that may have them."""


class SpeechFields(Sampling, Call):
    """The fields of `/tts` and `/tts/json`."""

    text: Text = Field(description="What to say")
    voice_id: Name | None = Field(
        None, description="Id or name of a registered voice; none: the default voice"
    )
    model: ModelName | None = None
    transcript: Transcript | None = Field(
        None, description="What is said in `voice_file`, for models that need to know"
    )
    seed: int | None = Field(
        None, ge=0, lt=SEED_LIMIT, description="Equal seeds, equal speech; none: drawn"
    )
    max_new_tokens: MaxNewTokens | None = Field(
        None, description="Most speech tokens of a segment (Turbo: 25 are a second)"
    )
    speed: float = Field(1.0, ge=SLOWEST, le=FASTEST, description="Tempo; the pitch is kept")
    loudness: float | None = Field(
        None, ge=-50.0, le=-5.0, description="LUFS to bring the sound to; none: as it comes"
    )
    code_blocks: CodeBlocks | None = Field(
        None, description="Fenced code in the text: `skip` or `speak`; none: as configured"
    )
    response_format: FormatName = Field("wav", description="Container")
    sample_rate: SampleRate | None = Field(
        None, description="Hz; none: the model's own, or the format's where it has but one"
    )
    stream: bool = Field(True, description="Send sound while it is made")


def file_route(*media_types: str) -> dict[str, Any]:
    """What a route says of itself whose answer is a file."""
    content: dict[str, Any] = {media_type: {} for media_type in media_types}
    return {
        "response_class": Response,
        "responses": {200: {"description": "A file", "content": content}},
    }


SOUND_ROUTE = file_route(*(row.media_type for row in FORMATS.values()))


def random_seed() -> int:
    """For a request that names none; not of the system's generator, as ids are."""
    return random.randrange(SEED_LIMIT)


def fields_of(kind: type[M], body: Body) -> M:
    """The body's fields, checked. JSON is held to its types; a form's strings are converted,
    and an empty one counts as not given. Raises UnknownField, InvalidText and InvalidValue."""
    given = body.fields
    if not body.typed:
        given = {name: value for name, value in given.items() if value != "" or name == "text"}
    for name in given:
        if name not in kind.model_fields:
            raise _unknown(name, kind.model_fields)
    fields = _checked(kind, given, strict=body.typed)
    for other in body.other_files:
        raise UnknownField(
            f"There is no file '{excerpt(other)}' in this call.", param=excerpt(other)
        )
    return fields


def lenient_fields_of(kind: type[L], body: Body) -> tuple[L, tuple[str, ...]]:
    """The body's fields, checked and converted, and the names of those that `kind` does not have.
    Null, and an empty string of a form, count as not given. Raises InvalidText, InvalidValue, and
    UnknownField for a recording that a call for speech would have to imitate."""
    given = {
        name: value
        for name, value in body.fields.items()
        if value is not None and (body.typed or value != "")
    }
    fields = _checked(kind, given)
    aliases = (field.validation_alias for field in kind.model_fields.values())
    known = {name for alias in aliases if isinstance(alias, AliasChoices) for name in alias.choices}
    known |= kind.model_fields.keys() | kind.harmless
    unknown = tuple(name for name in given if name not in known)
    if issubclass(kind, SpokenCall):
        for name in unknown:
            if given[name] and names_recording(name):
                raise UnknownField(
                    f"'{excerpt(name)}' is not taken here: register the recording with POST "
                    "/voices/register, and ask for the voice by its name.",
                    param=excerpt(name),
                )
    return fields, unknown


def _checked(kind: type[M], given: dict[str, Any], *, strict: bool = False) -> M:
    """The first of pydantic's errors is raised as ours. It never repeats the input, but for the
    name of a field that does not exist, cut and escaped."""
    try:
        return kind.model_validate(given, strict=strict)
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
    """It is none of the `known` fields; but perhaps one was meant."""
    near = get_close_matches(name[:MAX_QUOTED_CHARS], known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    return UnknownField(f"There is no field '{excerpt(name)}'{hint}", param=excerpt(name))


def query_schema(kind: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI's parameters for a call whose fields stand in the address."""
    schema = kind.model_json_schema()
    needed = schema.get("required", ())
    return {
        "parameters": [
            {"name": name, "in": "query", "required": name in needed, "schema": field}
            for name, field in schema["properties"].items()
        ]
    }


def form_schema(kind: type[BaseModel], *, file: str | None = None) -> dict[str, Any]:
    """OpenAPI's request body for a call that is read by content type."""
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
