"""The arguments of the tools: PixelDojo's documented parameters, under their documented names.

Models send `"7"` for 7 and 720 for `"720"`, so every value that can be read without loss is
accepted. All others are refused before a request is made, in one answer. That answer repeats no
value, because a value may be a signed link or a secret.
"""

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import CoreSchema, core_schema

from wan_mcp.errors import InvalidArguments
from wan_mcp.models import JOB_ID, Cursor, JobStatus, Replacement, Resolution, cursor
from wan_mcp.web import addresses

MAX_PROBLEMS = 20
"""How many problems a refusal names; a call may have a thousand unknown arguments."""

MAX_HOST_ARGUMENTS = 50
"""How many unknown arguments a call may have (ours): comparing a name with ours takes a while."""

HOST_ARGUMENTS = frozenset(
    {
        *("action", "chatinput", "reason", "reasoning", "sessionid", "task"),
        *("taskprogress", "tool", "toolaction", "toolcallid", "toolname", "toolsummary"),
        *("userid", "waitforprevious", "waitforprevioustools"),
    }
)
"""What hosts add of their own (observed elsewhere), in small letters and nothing else. Only names
that resemble one of ours need to stand here; any other stranger is ignored too."""

ALIASES = {
    **dict.fromkeys(("clip", "source", "sourcevideo", "input", "inputvideo"), "video"),
    **dict.fromkeys(("image", "picture", "photo", "character", "face"), "character_image"),
    **dict.fromkeys(("imageurl", "referenceimage"), "character_image"),
    **dict.fromkeys(("duration", "length", "seconds"), "video_duration"),
    **dict.fromkeys(("quality", "size", "height", "lines"), "resolution"),
    **dict.fromkeys(("references", "referencenum", "refnum"), "refert_num"),
    **dict.fromkeys(("fps", "framerate"), "frames_per_second"),
    **dict.fromkeys(("fast", "speed", "turbo"), "go_fast"),
    **dict.fromkeys(("audio", "sound", "keepaudio", "keepsound"), "merge_audio"),
    **dict.fromkeys(("randomseed", "noiseseed"), "seed"),
    **dict.fromkeys(("id", "job"), "job_id"),
    **dict.fromkeys(("timeout", "wait", "maxwait"), "timeout_seconds"),
    **dict.fromkeys(("count", "max", "number"), "limit"),
    **dict.fromkeys(("nextcursor", "after", "page", "pagetoken", "offset"), "cursor"),
}
"""Other words for our options, in small letters and nothing else. Ignored, they would make a paid
job run with a default that nobody chose."""

RANDOM_SEED = -1
"""Means "no seed given": some frameworks make every argument required (ours)."""


@dataclass(frozen=True)
class ArgumentType:
    """How an argument is read, and the JSON Schema that is published for it.

    Attributes:
        read: the value from what was given; raises ValueError with the end of a sentence.
        published: plain JSON Schema, simpler than what is accepted.
    """

    read: Callable[[Any, core_schema.ValidationInfo], Any]
    published: dict[str, Any]

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, schema: object, handler: object) -> dict[str, Any]:
        return dict(self.published)


def whole_number(lowest: int, highest: int) -> ArgumentType:
    """A whole number within limits: 7, 7.0, "7" and "7.0" are all 7; true and 7.5 are refused."""

    def read(value: Any, info: core_schema.ValidationInfo) -> int:
        number = _exact(value)
        if number is None or not lowest <= number <= highest:
            raise ValueError(f"must be a whole number from {lowest} to {highest}")
        return number

    return ArgumentType(read, {"type": "integer", "minimum": lowest, "maximum": highest})


def _exact(value: Any) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}(\.0{1,9})?", value.strip(" ")):
        return int(value.strip(" ").partition(".")[0])
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _flag(value: Any, info: core_schema.ValidationInfo) -> bool:
    word = value.strip(" ").lower() if isinstance(value, str) else value
    if word is True or word == "true":
        return True
    if word is False or word == "false":
        return False
    raise ValueError("must be true or false")


def _lines(value: Any, info: core_schema.ValidationInfo) -> Resolution:
    # No str() of what is given: a huge number or a deep list would break it.
    plain = value.strip(" ").lower().removesuffix("p") if isinstance(value, str) else value
    match _exact(plain):
        case 480:
            return "480"
        case 720:
            return "720"
    raise ValueError('must be "480" or "720"')


def _media_url(value: Any, info: core_schema.ValidationInfo) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a URL in a string")
    loopback = bool(info.context and info.context["loopback"])
    return addresses.media_url(value.strip(" "), loopback=loopback)


def _job_id(value: Any, info: core_schema.ValidationInfo) -> str:
    # Anything but letters, digits, - and _ could climb to another endpoint with the key.
    if not isinstance(value, str) or not re.fullmatch(JOB_ID, value.strip(" ")):
        raise ValueError("must be a job_id as replace_character returned it")
    return value.strip(" ")


def _status(value: Any, info: core_schema.ValidationInfo) -> JobStatus:
    if isinstance(value, str) and value.strip(" ").lower() in set(JobStatus):
        return JobStatus(value.strip(" ").lower())
    raise ValueError(f"must be one of {', '.join(JobStatus)}")


def _cursor(value: Any, info: core_schema.ValidationInfo) -> Cursor:
    found = cursor(value.strip(" ")) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be the next_cursor of an earlier answer, or left out")
    return found


FLAG = ArgumentType(_flag, {"type": "boolean"})
# As strings, because some hosts refuse an enum of numbers together with every other tool.
LINES = ArgumentType(_lines, {"type": "string", "enum": ["480", "720"]})
STATUS = ArgumentType(_status, {"type": "string", "enum": list(JobStatus)})
URL = ArgumentType(_media_url, {"type": "string"})
ID = ArgumentType(_job_id, {"type": "string"})
CURSOR = ArgumentType(_cursor, {"type": "string"})
SEED = replace(whole_number(RANDOM_SEED, 2**53 - 1), published={"type": "integer"})


class Arguments(BaseModel):
    """The arguments of one call.

    Null, "" and "null" mean "left out", although the schema does not offer them: models and forms
    fill every argument with something. An argument that is none of ours and cannot be meant as one
    is the host's own, and is ignored.

    Attributes:
        needs_key: whether the call is about an account, and so needs an API key.
    """

    needs_key: ClassVar[bool] = True
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _only_ours(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        names = list(cls.model_fields)
        left = {name: value for name, value in given.items() if not _is_left_out(value)}
        if sum(name not in names for name in left) > MAX_HOST_ARGUMENTS:
            return left  # all of them are refused, and none is compared with our names
        return {
            name: value for name, value in left.items() if name in names or meant_as(name, names)
        }


VideoDuration = Annotated[
    int,
    whole_number(1, 15),
    Field(description="Seconds to make, 1 to 15, at most the clip's length. Default 5."),
]
Lines = Annotated[
    Resolution | None,
    LINES,
    Field(description="480 (default) or 720.", json_schema_extra={"default": "480"}),
]


class ReplaceCharacter(Arguments):
    """The nine documented parameters of wan-2.2-replace."""

    video: Annotated[str, URL, Field(description="Public http(s) URL of the source clip.")]
    character_image: Annotated[
        str,
        URL,
        Field(description="Public http(s) URL of a picture of the new character."),
    ]
    video_duration: VideoDuration = 5
    resolution: Lines = None
    refert_num: Annotated[
        int | None,
        whole_number(1, 10),
        Field(description="Reference frames, 1 to 10; only 1 and 5 may have an effect."),
    ] = None
    frames_per_second: Annotated[
        int | None, whole_number(8, 30), Field(description="8 to 30; may have no effect.")
    ] = None
    go_fast: Annotated[bool, FLAG, Field(description="Faster, lower quality. Default false.")] = (
        False
    )
    merge_audio: Annotated[bool, FLAG, Field(description="Keep the sound. Default true.")] = True
    seed: Annotated[
        int | None,
        SEED,
        Field(description="Same seed, same take. -1 or left out: random."),
    ] = None

    def replacement(self) -> Replacement:
        """The request in our own terms, with only what the caller set."""
        given = self.model_fields_set
        return Replacement(
            video=self.video,
            character_image=self.character_image,
            seconds=self.video_duration,
            resolution=self.resolution,
            references=self.refert_num,
            frames_per_second=self.frames_per_second,
            go_fast=self.go_fast if "go_fast" in given else None,
            merge_audio=self.merge_audio if "merge_audio" in given else None,
            seed=None if self.seed == RANDOM_SEED else self.seed,
        )


class GetJobStatus(Arguments):
    """Which job."""

    job_id: Annotated[str, ID, Field(description="As replace_character gave it.")]


class WaitForJob(GetJobStatus):
    """Which job, and how long."""

    timeout_seconds: Annotated[
        int,
        whole_number(0, 900),
        Field(description="0 to 900, default 45; many hosts end a call at 60."),
    ] = 45


class ListJobs(Arguments):
    """Which jobs."""

    status: Annotated[
        JobStatus | None,
        STATUS,
        Field(
            description="Ended ones: completed, failed or lost (default: all 3), refused, "
            "not_sent; submitting, running and unknown ones are always listed."
        ),
    ] = None
    limit: Annotated[int, whole_number(1, 50), Field(description="1 to 50, default 10.")] = 10
    cursor: Annotated[
        Cursor | None, CURSOR, Field(description="For older jobs: next_cursor of the last answer.")
    ] = None


class CheckCredits(Arguments):
    """The size of the job whose price is asked for."""

    needs_key = False
    video_duration: VideoDuration = 5
    resolution: Lines = None

    def replacement(self) -> Replacement:
        """A job of that size, which nobody wants yet."""
        lines: Resolution = self.resolution or "480"
        return Replacement(
            video="", character_image="", seconds=self.video_duration, resolution=lines
        )


A = TypeVar("A", bound=Arguments)


def _is_left_out(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in ("", "null"))


def meant_as(name: str, names: Sequence[str]) -> str | None:
    """The option of ours that an unknown argument may be meant as; None when it is the host's own.

    Args:
        names: the options of the tool.
    """
    plain = re.sub("[^a-z0-9]", "", name[:80].lower())
    if plain in HOST_ARGUMENTS:
        return None
    if (option := ALIASES.get(plain)) in names:
        return option
    near = difflib.get_close_matches(name[:80].lower(), names, n=1, cutoff=0.6)
    return near[0] if near else None


def read_arguments(model: type[A], given: dict[str, Any], *, loopback: bool) -> A:
    """The arguments of a call, checked.

    Args:
        loopback: whether links to this machine are accepted.

    Raises:
        InvalidArguments: names every problem at once.
    """
    try:
        return model.model_validate(given, context={"loopback": loopback})
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False)
        raise InvalidArguments(_refusal([dict(error) for error in errors], model)) from None


def _refusal(errors: list[dict[str, Any]], model: type[Arguments]) -> str:
    names = list(model.model_fields)
    problems = [_sentence(error, names) for error in errors[:MAX_PROBLEMS]]
    if len(errors) > MAX_PROBLEMS:
        problems.append(f"and {len(errors) - MAX_PROBLEMS} more")
    text = "The arguments cannot be used: " + "; ".join(problems) + "."
    if any(error["type"] in ("extra_forbidden", "missing") for error in errors):
        text += f" The tool takes {', '.join(names)}."
    return text


def _sentence(error: dict[str, Any], names: list[str]) -> str:
    name = str(error["loc"][0]) if error["loc"] else "arguments"
    if error["type"] == "missing":
        return f"{name} is required"
    if error["type"] == "extra_forbidden":
        return _unknown(name, names)
    return f"{name} {error['ctx']['error'] if 'ctx' in error else 'cannot be read'}"


def _unknown(name: str, names: list[str]) -> str:
    # A name is the caller's data too: one with digits inside might be an API key in its place.
    shown = name if re.fullmatch(r"[A-Za-z_]{1,38}[0-9]{0,2}", name) else "an argument"
    meant = meant_as(name, names)
    return f"{shown} is unknown" + (f" (did you mean {meant}?)" if meant else "")
