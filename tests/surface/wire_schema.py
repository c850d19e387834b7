"""Validates messages of the server against the published JSON Schema of a protocol revision."""

import base64
import gzip
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it has no types of its own
from jsonschema.validators import validator_for  # type: ignore[import-untyped]

SCHEMAS = Path(__file__).with_name("protocol_schemas")
HANDSHAKE = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]
MODERN = "2026-07-28"
TASKS = "tasks-extension"

Message = dict[str, Any]

_RESULTS = {
    "server/discover": "DiscoverResult",
    "initialize": "InitializeResult",
    "ping": "EmptyResult",
    "tools/list": "ListToolsResult",
    "tools/call": "CallToolResult",
    "resources/list": "ListResourcesResult",
    "resources/templates/list": "ListResourceTemplatesResult",
    "resources/read": "ReadResourceResult",
    "resources/subscribe": "EmptyResult",
    "resources/unsubscribe": "EmptyResult",
    "subscriptions/listen": "SubscriptionsListenResult",
    "prompts/list": "ListPromptsResult",
    "prompts/get": "GetPromptResult",
    "completion/complete": "CompleteResult",
}
_RESULTS_OF_TASKS = {
    "tools/call": "CreateTaskResult",
    "tasks/get": "GetTaskResult",
    "tasks/update": "UpdateTaskResult",
    "tasks/cancel": "CancelTaskResult",
}
_URI = r"[A-Za-z][A-Za-z0-9+.-]*:(?:%[0-9A-Fa-f]{2}|[\w.~:/?#\[\]@!$&'()*+,;=-])*"


def _is_uri(value: object) -> bool:
    return not isinstance(value, str) or bool(re.fullmatch(_URI, value, re.ASCII))


def _is_template(value: object) -> bool:
    return not isinstance(value, str) or _is_uri(re.sub(r"\{\w+\}", "x", value))


def _is_base64(value: object) -> bool:
    return not isinstance(value, str) or bool(base64.b64decode(value, validate=True) or True)


_formats = jsonschema.FormatChecker(formats=())
_formats.checks("uri")(_is_uri)
_formats.checks("uri-template")(_is_template)
_formats.checks("byte", raises=ValueError)(_is_base64)


def violations(message: Message, revision: str, method: str | None = None) -> list[str]:
    """What a message of the server breaks; empty if nothing.

    Args:
        method: what the message answers; None for a notification or a request of the server.

    Raises:
        KeyError: the revision has no answer to `method`.
    """
    return [
        f"{revision} {method or message.get('method')} {name}: {error.json_path}: {error.message}"
        for schema, name, part in _rules(message, revision, method)
        for error in validator(schema, name).iter_errors(part)
    ]


@cache
def validator(schema: str, name: str) -> Any:
    """A validator of one definition, with the formats that the protocol uses."""
    document, holder = _document(schema)
    return validator_for(document)(
        {**document, "$ref": f"#/{holder}/{name}"}, format_checker=_formats
    )


@cache
def _document(schema: str) -> tuple[Message, str]:
    document = json.loads(gzip.decompress((SCHEMAS / f"{schema}.json.gz").read_bytes()))
    return document, "$defs" if "$defs" in document else "definitions"


def _rules(message: Message, revision: str, method: str | None) -> Iterator[tuple[str, str, Any]]:
    """The definitions that apply to a message, and to what part of it."""
    names = _definitions(revision)
    yield revision, "JSONRPCMessage", message
    if "error" in message:
        name = "JSONRPCErrorResponse" if "JSONRPCErrorResponse" in names else "JSONRPCError"
        yield revision, name, message
        yield from _rules_of_error(message, revision)
    elif message.get("method") == "notifications/tasks":
        yield TASKS, "TaskStatusNotification", message
    elif "result" not in message:
        yield revision, "ServerRequest" if "id" in message else "ServerNotification", message
    elif method is not None:
        yield from _rules_of_result(message, revision, method)


def _rules_of_result(
    message: Message, revision: str, method: str
) -> Iterator[tuple[str, str, Any]]:
    names, result = _definitions(revision), message["result"]
    whole = "JSONRPCResultResponse" if "JSONRPCResultResponse" in names else "JSONRPCResponse"
    yield revision, whole, message
    if method.startswith("tasks/") or result.get("resultType") == "task":
        yield TASKS, _RESULTS_OF_TASKS[method], result
        if method == "tasks/get" and "result" in result:
            yield revision, _RESULTS["tools/call"], result["result"]
    elif result.get("resultType") == "input_required":
        yield revision, "InputRequiredResult", result
    else:
        yield revision, _RESULTS[method], result
    if f"{_RESULTS.get(method)}Response" in names and result.get("resultType") != "task":
        yield revision, f"{_RESULTS[method]}Response", message


def _rules_of_error(message: Message, revision: str) -> Iterator[tuple[str, str, Any]]:
    """The definition of the error with the same code, which is of the message or of its part."""
    for name, definition in _definitions(revision).items():
        properties = definition.get("properties", {})
        for part, facts in (
            (message["error"], properties.get("code", {})),
            (message, _code(properties.get("error", {}))),
        ):
            if facts.get("const") == message["error"]["code"]:
                yield revision, name, part


def _code(error: Message) -> Message:
    inner: list[Message] = [each.get("properties", {}) for each in error.get("allOf", [])]
    return next((each["code"] for each in inner if "code" in each), {})


def _definitions(revision: str) -> Message:
    document, holder = _document(revision)
    definitions: Message = document[holder]
    return definitions
