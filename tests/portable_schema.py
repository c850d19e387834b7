"""Makes the schemas of the tools, in a form that every host can read, from their models."""

import json
from copy import deepcopy
from functools import cache
from typing import Any

from pydantic import BaseModel

from wan_mcp.models import JobList, JobResult
from wan_mcp.surface.answers.credits import CreditOverview
from wan_mcp.surface.answers.several import WaitResult
from wan_mcp.surface.arguments import (
    Arguments,
    CheckCredits,
    GetJobStatus,
    KeepVideo,
    ListJobs,
    ReplaceCharacter,
    WaitForJob,
)

MODELS: dict[str, tuple[type[Arguments], type[BaseModel] | None]] = {
    "replace_character": (ReplaceCharacter, JobResult),
    "get_job_status": (GetJobStatus, JobResult),
    "wait_for_job": (WaitForJob, WaitResult),
    "list_jobs": (ListJobs, JobList),
    "check_credits": (CheckCredits, CreditOverview),
    "cancel_job": (GetJobStatus, JobResult),
    "keep_video": (KeepVideo, None),
}
"""What each tool takes, and what it answers; None where no schema of that is published."""
PAID, CANCEL = "replace_character", "cancel_job"
PAID_FIELDS = frozenset(
    {"limit", "limit_value", "used", "blocking_job_ids", "credits_remaining", "upload_page"},
)
"""The fields of JobResult that only a paid call can have: only its schema describes them."""
FREE_FIELDS = frozenset(
    {
        *("source_video", "character_image", "video_duration", "resolution"),
        *("elapsed_seconds", "saved_url"),
    }
)
"""The fields of JobResult that only a free call can have: the schema of the paid one omits them."""
CANCEL_FIELDS = frozenset(
    {
        *("message", "job_id", "status", "charged", "job_charged", "credit_cost"),
        *("retry_safe", "retry_after_seconds", "code", "next"),
    }
)
"""The fields of JobResult that cancel_job gives."""
UNDESCRIBED = ("order", "take", "takes", "kept")
"""Fields of a job in a list that its schema omits: they say what they are, and each byte is in
every conversation."""


def schemas_json() -> str:
    """The file of the package that its tools publish."""
    schemas = {
        name: {"input": portable_schema(arguments), "output": answer_schema(name)}
        for name, (arguments, _) in MODELS.items()
    }
    return json.dumps(schemas, indent=1) + "\n"


def answer_schema(tool: str) -> dict[str, Any] | None:
    """The schema of a tool's answers, with only the fields that this tool can give.

    The words of `charged`, `code` and `status` are listed and explained once, in the paid tool:
    what is listed is in every conversation.
    """
    _, answers = MODELS[tool]
    if answers is None:
        return None
    schema = portable_schema(answers)
    fields = schema["properties"]
    for name in fields.keys() - _given(tool, answers, frozenset(fields)):
        del fields[name]
    if answers is JobList:
        for name in UNDESCRIBED:
            del fields["jobs"]["items"]["properties"][name]
    if tool != PAID:
        for name in fields.keys() & {"charged", "code", "status"}:
            fields[name].pop("enum", None)
            fields[name].pop("description", None)
    return schema


def _given(tool: str, answers: type[BaseModel], fields: frozenset[str]) -> frozenset[str]:
    """The fields of its answers that a tool can give."""
    if tool == CANCEL:
        return CANCEL_FIELDS
    if not issubclass(answers, JobResult):
        return fields
    return fields - (FREE_FIELDS if tool == PAID else PAID_FIELDS)


def portable_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a model in a form that every host can read.

    It is one object without `$ref`, titles, unions with null, or our docstrings. One host answers
    every prompt with an error when a single tool holds `$ref`, a union with null, `const` or an
    enum of numbers; another takes `additionalProperties` for a schema and breaks on `false`;
    others drop what they do not know (observed elsewhere).
    """
    return deepcopy(_portable(model))  # the caller may change its copy


@cache
def _portable(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema()
    plain: dict[str, Any] = _plain(schema, schema.get("$defs", {}))
    for name in ("$defs", "description"):
        plain.pop(name, None)
    return plain


def _plain(node: Any, defs: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_plain(item, defs) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = defs[node["$ref"].rpartition("/")[2]]
        node = {k: v for k, v in {**target, **node}.items() if k not in {"$ref", "description"}}
    if "anyOf" in node:
        (kept,) = [option for option in node["anyOf"] if option != {"type": "null"}]
        return _plain({**kept, **{k: v for k, v in node.items() if k != "anyOf"}}, defs)
    return {k: _plain(v, defs) for k, v in node.items() if not _is_noise(k, v)}


def _is_noise(name: str, value: Any) -> bool:
    # A property may itself be called "title": then its value is a schema, not a string.
    is_title = name == "title" and isinstance(value, str)
    is_boolean_schema = name == "additionalProperties" and isinstance(value, bool)
    return is_title or is_boolean_schema or (name == "default" and value is None)
