"""How the value of one argument is read, and how its type is published.

Models send `"7"` for 7 and 720 for `"720"`, so every value that can be read without loss is taken.
Of the clip and the picture only the form is read here: whether a file of this computer may be used
is found out when it is opened.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic_core import CoreSchema, core_schema

from wan_mcp.models import JOB_ID, UPLOADS, Cursor, JobStatus, Resolution, cursor
from wan_mcp.web import addresses

if TYPE_CHECKING:
    from pathlib import Path

    from wan_mcp.inputs.local.references import Reference

MAX_IDS = 50
"""How many jobs one call may wait for (ours); as many as list_jobs shows in one answer."""
RANDOM_SEED = -1
"""Means "no seed given": some frameworks make every argument required (ours)."""


ELSEWHERE = "file:///"
"""What an input is read as that has to be uploaded first: a file that no server opens."""


class OnAnotherComputer(ValueError):
    """An input is a file of its user's computer, and this server takes no uploads."""


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


def _clip(value: Any, info: core_schema.ValidationInfo) -> str:
    text = _string(value)
    if _is_to_be_uploaded(text, info):
        return ELSEWHERE
    found = _reference(text, info)
    if found is not None:
        return found.uri
    link = _link(text, info)
    if re.search(_CUT, link):  # it would be used from its beginning, and the wrong seconds be paid
        instead = "give the path of a copy on this computer" if _is_local(info) else "cut it first"
        raise ValueError(f"is a link, of which no seconds can be taken by #t= ({instead})")
    return link


def _picture(value: Any, info: core_schema.ValidationInfo) -> str:
    text = _string(value)
    if _is_to_be_uploaded(text, info):
        return ELSEWHERE
    found = _reference(text, info)
    if found is None:
        return _link(text, info)
    if found.uri.startswith("wan:") and not found.uri.startswith(UPLOADS):
        raise ValueError("must be a picture, and wan:// leads to the video of a job")
    if str(found.fragment):
        raise ValueError("is a picture, of which no seconds can be taken (leave out #t=)")
    return found.uri


_CUT = r"#(?:[^#]*&)?t=(?:npt:)?[0:]*[1-9]"
"""The end of a link from which seconds are to be left out at the beginning."""


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a link or a path, in a string")
    return value.strip(" ")


def _reference(text: str, info: core_schema.ValidationInfo) -> "Reference | None":
    """What an input means if it is no link. A path is one only where paths are accepted."""
    is_meant = _is_local(info) or text[:4].lower() == "wan:"
    return input_reference(text, info.context and info.context["home"]) if is_meant else None


def input_reference(text: str, home: "Path | None" = None) -> "Reference | None":
    """What an input leads to; None for a link. Raises ValueError: it is malformed.

    Args:
        home: what `~` means, which a canonical input does not contain; None: what the system says.
    """
    # Imported by the first paid call: a host waits for everything that the start imports.
    from wan_mcp.inputs.local.references import reference

    return reference(text, home=home)


def _is_to_be_uploaded(text: str, info: core_schema.ValidationInfo) -> bool:
    """Whether a file is meant that its user can upload to this server, and has not yet."""
    return bool(info.context and info.context.get("uploads")) and _is_elsewhere(text)


def _is_elsewhere(text: str) -> bool:
    from wan_mcp.inputs.local.references import is_elsewhere

    return is_elsewhere(text)


def _link(text: str, info: core_schema.ValidationInfo) -> str:
    loopback = bool(info.context and info.context["loopback"])
    try:
        return addresses.media_url(text, loopback=loopback, paths=_is_local(info))
    except ValueError as exc:
        if _is_local(info) or not _is_elsewhere(text):
            raise
        raise OnAnotherComputer(str(exc)) from None


def _is_local(info: core_schema.ValidationInfo) -> bool:
    return bool(info.context and info.context["local"])


def _job_id(value: Any, info: core_schema.ValidationInfo) -> str:
    # Anything but letters, digits, - and _ could climb to another endpoint with the key.
    if not isinstance(value, str) or not re.fullmatch(JOB_ID, value.strip(" ")):
        raise ValueError("must be a job_id as replace_character returned it")
    return value.strip(" ")


def _job_ids(value: Any, info: core_schema.ValidationInfo) -> tuple[str, ...]:
    """One id or several, each once, in the order given. A list is taken too: models send one."""
    given = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in given):
        raise ValueError("must be a job_id as replace_character returned it, or several")
    parts = [part for each in given for part in re.split("[ ,]+", each) if part]
    ids = tuple(dict.fromkeys(parts))
    if len(ids) > MAX_IDS:
        raise ValueError(f"names {len(ids)} jobs, and one call waits for at most {MAX_IDS}")
    if not ids:
        raise ValueError("names no job")
    if len(ids) == 1:
        return (_job_id(ids[0], info),)
    for number, part in enumerate(parts, 1):
        if not re.fullmatch(JOB_ID, part):
            raise ValueError(
                f"number {number} must be a job_id as replace_character returned it (separate them "
                "by commas)"
            )
    return ids


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
CLIP = ArgumentType(_clip, {"type": "string"})
PICTURE = ArgumentType(_picture, {"type": "string"})
ID = ArgumentType(_job_id, {"type": "string"})
IDS = ArgumentType(_job_ids, {"type": "string"})
CURSOR = ArgumentType(_cursor, {"type": "string"})
SEED = replace(whole_number(RANDOM_SEED, 2**53 - 1), published={"type": "integer"})
