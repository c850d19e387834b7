"""The arguments of the tools: PixelDojo's documented parameters, under their documented names.

Every value that can be read without loss is accepted. All others are refused before a request is
made, in one answer. That answer repeats no value, because a value may be a signed link, a path or
a secret.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from wan_mcp.errors import InvalidArguments
from wan_mcp.models import Cursor, JobStatus, Replacement, Resolution
from wan_mcp.surface.argument_types import (
    CLIP,
    CURSOR,
    FLAG,
    ID,
    IDS,
    LINES,
    PICTURE,
    RANDOM_SEED,
    SEED,
    STATUS,
    OnAnotherComputer,
    input_reference,
    whole_number,
)
from wan_mcp.wording import number

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
    **dict.fromkeys(("id", "job", "ids", "jobs", "jobids"), "job_id"),
    **dict.fromkeys(("timeout", "wait", "maxwait"), "timeout_seconds"),
    **dict.fromkeys(("count", "max", "number"), "limit"),
    **dict.fromkeys(("nextcursor", "after", "page", "pagetoken", "offset"), "cursor"),
}
"""Other words for our options, in small letters and nothing else. Ignored, they would make a paid
job run with a default that nobody chose."""

_CONFIGURE = (
    f"{InvalidArguments.advice} The operator of this server can let users upload their files: with "
    "WAN_MCP_STORAGE_URL, over HTTP."
)

MOST_SECONDS = 15
"""The longest video that a job makes (documented)."""


class Arguments(BaseModel):
    """The arguments of one call.

    Null, "" and "null" mean "left out", although the schema does not offer them: models and forms
    fill every argument with something. An argument that is none of ours and cannot be meant as one
    is the host's own, and is ignored.

    Attributes:
        needs_key: whether the call is about an account, and so needs an API key.
    """

    needs_key: ClassVar[bool] = True
    # Only of the tools that are called: building all of them takes 5 ms of the start.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

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
    whole_number(1, MOST_SECONDS),
    Field(description="Seconds to make, 1 to 15, at most the clip's length. Default 5."),
]
Lines = Annotated[
    Resolution | None,
    LINES,
    Field(description="480 (default) or 720.", json_schema_extra={"default": "480"}),
]


class ReplaceCharacter(Arguments):
    """The nine documented parameters of wan-2.2-replace."""

    video: Annotated[
        str,
        CLIP,
        Field(
            description="The clip: a public link to the file, a path on this computer, "
            "wan://uploads/{id} or wan://jobs/{job_id}/video. A path or wan:// may end in "
            "#t=12,17: those seconds."
        ),
    ]
    character_image: Annotated[
        str,
        PICTURE,
        Field(description="A picture of the new character: link or path."),
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

    @model_validator(mode="after")
    def _as_long_as_fragment(self) -> Self:
        """The clip is made as long as its fragment, if that ends and no seconds are asked for."""
        seconds = _fragment_seconds(self.video)
        if seconds is None:
            return self
        if "video_duration" in self.model_fields_set:
            if seconds >= self.video_duration:
                return self
            raise _of_fragment(
                "video_duration",
                f"is {self.video_duration}, and the fragment of video has {number(seconds)} s "
                "(ask for fewer seconds, or end the fragment later)",
            )
        if not 1 <= seconds < MOST_SECONDS + 1:
            instead = "later" if seconds < 1 else "sooner, or give video_duration"
            raise _of_fragment(
                "video",
                f"has a fragment of {number(seconds)} s, and a job makes 1 to {MOST_SECONDS} "
                f"(end it {instead})",
            )
        return self.model_copy(update={"video_duration": int(seconds)})

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


def _fragment_seconds(video: str) -> float | None:
    """How long the fragment of a clip is; None if it has none, or one without an end."""
    found = input_reference(video)
    if found is None or found.fragment.end is None:
        return None
    return round(found.fragment.end - found.fragment.start, 3)


def _of_fragment(argument: str, error: str) -> PydanticCustomError:
    """The refusal of an argument that does not go with another one."""
    return PydanticCustomError("fragment", "{error}", {"argument": argument, "error": error})


class GetJobStatus(Arguments):
    """Which job."""

    job_id: Annotated[str, ID, Field(description="As replace_character gave it.")]


class WaitForJob(Arguments):
    """Which job or jobs, and how long."""

    job_id: Annotated[
        tuple[str, ...],
        IDS,
        Field(description="As replace_character gave it; up to 50, separated by commas."),
    ]
    timeout_seconds: Annotated[
        int,
        whole_number(0, 900),
        Field(description="0 to 900, default 45; many hosts end a call at 60."),
    ] = 45


class KeepVideo(GetJobStatus):
    """Which video."""

    kept: Annotated[bool, FLAG, Field(description="False undoes it. Default true.")] = True


class ListJobs(Arguments):
    """Which jobs."""

    status: Annotated[
        JobStatus | None,
        STATUS,
        Field(
            description="Ended ones: completed, failed or lost (default: all), refused, "
            "not_sent; queued, submitting, running and unknown ones are always listed."
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
        """A job of that size, without its inputs: only its price is asked."""
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


def read_arguments(
    model: type[A],
    given: dict[str, Any],
    *,
    loopback: bool,
    local: bool = False,
    home: Path | None = None,
    uploads: bool = False,
) -> A:
    """The arguments of a call, checked.

    Args:
        loopback: whether links to this machine are accepted.
        local: whether paths of this computer are accepted, as over stdio.
        home: what `~` means in one; None: what the system says.
        uploads: whether users can upload files to this server.

    Raises:
        InvalidArguments: names every problem at once.
    """
    context = {"loopback": loopback, "local": local, "home": home, "uploads": uploads}
    try:
        return model.model_validate(given, context=context)
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False)
        next_step = _CONFIGURE if any(map(_is_on_another_computer, errors)) else None
        refusal = _refusal([dict(error) for error in errors], model)
        raise InvalidArguments(refusal, next_step=next_step) from None


def _is_on_another_computer(error: Mapping[str, Any]) -> bool:
    return isinstance(error.get("ctx", {}).get("error"), OnAnotherComputer)


def _refusal(errors: list[dict[str, Any]], model: type[Arguments]) -> str:
    names = list(model.model_fields)
    problems = [_sentence(error, names) for error in errors[:MAX_PROBLEMS]]
    if len(errors) > MAX_PROBLEMS:
        problems.append(f"and {len(errors) - MAX_PROBLEMS} more")
    text = "The arguments cannot be used: " + "; ".join(problems) + "."
    if any(error["type"] in ("extra_forbidden", "missing") for error in errors):
        text += f" The tool takes {', '.join(names)}."
    return text


def argument_of(error: Mapping[str, Any]) -> str:
    """The argument that an error of pydantic is about."""
    of_all = error.get("ctx", {}).get("argument", "arguments")
    return str(error["loc"][0] if error["loc"] else of_all)


def _sentence(error: dict[str, Any], names: list[str]) -> str:
    name = argument_of(error)
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
