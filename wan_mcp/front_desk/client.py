"""What a client says about itself, as far as it is certain that the SDK accepts it."""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` itself takes several ms to import
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeGuard

_PREFIX = "io.modelcontextprotocol/"
_REVISION = _PREFIX + "protocolVersion"
_CAPABILITIES = _PREFIX + "clientCapabilities"
_INFO = _PREFIX + "clientInfo"
_HELLO = {"protocolVersion", "capabilities", "clientInfo"}
_PAGES = _PREFIX + "ui"
_PAGE_TYPE = "text/html;profile=mcp-app"
_TEXTS = ("name", "version", "title", "description", "websiteUrl")


def names_revision(params: dict[str, Any]) -> bool:
    """Whether a request carries its revision in `_meta`, as those of 2026-07-28 and later do."""
    meta = params.get("_meta")
    return isinstance(meta, dict) and _REVISION in meta


def modern_revision(params: dict[str, Any], known: Sequence[str]) -> str | None:
    """The revision of a request that carries one of these, with nothing beside it but `_meta`."""
    meta = params.get("_meta")
    reserved = (_REVISION, _CAPABILITIES, _INFO)
    if params.keys() != {"_meta"} or not isinstance(meta, dict) or not _is_meta(meta, reserved):
        return None
    is_complete = is_capabilities(meta.get(_CAPABILITIES)) and (
        _INFO not in meta or is_implementation(meta[_INFO])
    )
    revision: str | None = meta.get(_REVISION)
    return revision if is_complete and revision in known else None


def is_hello(params: dict[str, Any]) -> bool:
    """Whether these are parameters of `initialize`."""
    return (
        params.keys() - {"_meta"} == _HELLO
        and _has_plain_meta(params)
        and isinstance(params["protocolVersion"], str)
        and is_capabilities(params["capabilities"])
        and is_implementation(params["clientInfo"])
    )


def is_plain(params: dict[str, Any]) -> bool:
    """Whether these parameters, of an earlier revision, are nothing but `_meta`."""
    return params.keys() <= {"_meta"} and _has_plain_meta(params)


def is_capabilities(given: object) -> bool:
    """Whether these are capabilities of a client, each of the form that the protocol gives it."""
    return _is_objects(given) and all(map(_is_capability, given.keys(), given.values()))


def shows_pages(capabilities: dict[str, Any]) -> bool:
    """Whether a client shows pages (MCP Apps), by the rule of the SDK.

    Args:
        capabilities: of the form that `is_capabilities` accepts.
    """
    types = capabilities.get("extensions", {}).get(_PAGES, {}).get("mimeTypes")
    return isinstance(types, list) and _PAGE_TYPE in types


def modern_shows_pages(params: dict[str, Any]) -> bool:
    """The same of a request for which `modern_revision` gives a revision."""
    return shows_pages(params["_meta"][_CAPABILITIES])


def is_implementation(given: object) -> bool:
    """Whether this is the name and version of a program. Icons are left to the SDK."""
    if not isinstance(given, dict) or not {"name", "version"} <= given.keys() <= {*_TEXTS}:
        return False
    return all(isinstance(text, str) for text in given.values())


def _is_capability(name: str, value: dict[str, Any]) -> bool:
    if name == "roots":
        return value.keys() <= {"listChanged"} and isinstance(value.get("listChanged", True), bool)
    if name in ("experimental", "extensions", "sampling", "elicitation"):
        return _is_objects(value)
    return name != "tasks" or _is_nothing_but_objects(value)


def _is_objects(given: object) -> TypeGuard[dict[str, dict[str, Any]]]:
    return isinstance(given, dict) and all(isinstance(value, dict) for value in given.values())


def _is_nothing_but_objects(given: object) -> bool:
    return _is_objects(given) and all(map(_is_nothing_but_objects, given.values()))


def _has_plain_meta(params: dict[str, Any]) -> bool:
    meta = params.get("_meta", {})
    return isinstance(meta, dict) and _is_meta(meta)


def _is_meta(meta: dict[str, Any], reserved: Sequence[str] = ()) -> bool:
    """Whether `_meta` has no name of the protocol but a valid progress token and the given ones."""
    token = meta.get("progressToken", "")
    is_token = isinstance(token, str) or type(token) is int
    return is_token and all(name in reserved for name in meta if name.startswith(_PREFIX))
