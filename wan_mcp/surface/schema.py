"""JSON Schema that every host can read: flat, closed, without the parts that some refuse.

One host answers every prompt with an error when a single tool holds `$ref`, a union with null,
`const`, or an enum of numbers; others drop what they do not know.
"""

from typing import Any

from pydantic import BaseModel


def portable(model: type[BaseModel]) -> dict[str, Any]:
    """The model's schema with references inlined, and without titles, nulls and prose of ours."""
    schema = model.model_json_schema()
    plain = _plain(schema, schema.get("$defs", {}))
    for name in ("$defs", "description"):
        plain.pop(name, None)
    return {**plain, "additionalProperties": False}


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
    return {k: _plain(v, defs) for k, v in node.items() if not _noise(k, v)}


def _noise(name: str, value: Any) -> bool:
    # A property may itself be called "title": then its value is a schema, not a string.
    return (name == "title" and isinstance(value, str)) or (name == "default" and value is None)
