"""The model's published pages, and the check of a request's body against the published schema."""

from collections.abc import Iterator
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

from wan_mcp.sandbox.vendor.prices import prices_of
from wan_mcp.sandbox.vendor.terms import Terms

MODEL = "wan-2.2-replace"
_URL = {"type": "string", "format": "uri"}


def body_schema(terms: Terms) -> dict[str, Any]:
    """The JSON Schema of a submit's body (documented fields, as strict as the vendor's sample)."""
    wire_type = "integer" if isinstance(terms.resolutions[0], int) else "string"
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["video", "character_image", "video_duration"],
        "properties": {
            "video": _URL,
            "character_image": _URL,
            "video_duration": {"type": "integer", "minimum": 1, "maximum": 15, "default": 5},
            "resolution": {
                "type": wire_type,
                "enum": list(terms.resolutions),
                "default": terms.resolutions[0],
            },
            "refert_num": {"type": "integer", "minimum": 1, "maximum": 10},
            "frames_per_second": {"type": "integer", "minimum": 8, "maximum": 30},
            "go_fast": {"type": "boolean", "default": False},
            "merge_audio": {"type": "boolean", "default": True},
            "seed": {"type": "integer"},
            # The vendor's SDK sends it to every model. The sandbox never calls it: the payload
            # and its signature are unknown, and a sandbox should not contact other hosts.
            "webhook_url": _URL,
        },
    }


def model_summary(terms: Terms) -> dict[str, Any]:
    """The model's entry in the list of models, with its price in credits."""
    quoted = terms.price if terms.quoted_price is None else terms.quoted_price
    return {
        "apiId": MODEL,
        "name": "WAN 2.2 Replace",
        "description": "Sandbox copy of the character replacement model: no video is really made.",
        "modality": "video",
        "creditCost": prices_of(quoted).page,
    }


def model_page(terms: Terms) -> dict[str, Any]:
    """The model's own page: its summary and its schema."""
    return {**model_summary(terms), "requestSchema": body_schema(terms)}


def model_list(terms: Terms) -> dict[str, Any]:
    """The list of models, which holds one."""
    return {"models": [model_summary(terms)], "total": 1, "imageCount": 0, "videoCount": 1}


def complaints(body: object, schema: dict[str, Any]) -> Iterator[str]:
    """One phrase for each way in which a body breaks the schema, beginning with the field."""
    if not isinstance(body, dict):
        return iter(["body must be a JSON object"])
    return chain(_missing(body, schema), _invalid(body, schema))


def _missing(body: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    return (f"{name} is required" for name in schema["required"] if name not in body)


def _invalid(body: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    for name, value in body.items():
        rule = schema["properties"].get(name)
        if rule is None:
            yield f"{name} is not a known field"
        else:
            yield from (f"{name} {complaint}" for complaint in _field_complaints(value, rule))


_PYTHON_TYPES = {"string": str, "integer": int, "boolean": bool}


def _field_complaints(value: object, rule: dict[str, Any]) -> Iterator[str]:
    # bool is an int to Python, but not to JSON Schema.
    if not isinstance(value, _PYTHON_TYPES[rule["type"]]) or (
        isinstance(value, bool) and rule["type"] != "boolean"
    ):
        yield f"must be {rule['type']}"
    elif "enum" in rule and value not in rule["enum"]:
        yield f"must be one of {rule['enum']}"
    elif isinstance(value, int) and not _in_range(value, rule):
        yield f"must be between {rule['minimum']} and {rule['maximum']}"
    elif isinstance(value, str) and rule.get("format") == "uri" and not _is_url(value):
        yield "must be an http(s) URL"


def _in_range(value: int, rule: dict[str, Any]) -> bool:
    return "minimum" not in rule or rule["minimum"] <= value <= rule["maximum"]


def _is_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)
