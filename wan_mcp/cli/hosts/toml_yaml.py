"""Settings in TOML and YAML. Libraries write them back with their comments."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wan_mcp.cli.hosts.formats import UNSAFE, BrokenText, KeyPath

if TYPE_CHECKING:
    from ruamel.yaml import YAML

_NO_WRAPPING = 1 << 20


class Toml:
    """TOML, as in Codex."""

    def load(self, text: str) -> dict[str, Any]:
        """See Format."""
        import tomlkit
        from tomlkit.exceptions import TOMLKitError

        try:
            return tomlkit.parse(text).unwrap()
        except TOMLKitError as exc:
            raise BrokenText(f"is not TOML: {exc}") from None

    def put(self, text: str, path: KeyPath, value: Any) -> str:
        """See Format."""
        import tomlkit

        document = tomlkit.parse(text)
        group: Any = document
        new: Any = _table(value)
        place = 0
        while place + 1 < len(path) and path[place] in group:
            group = group[path[place]]
            place += 1
        for key in reversed(path[place + 1 :]):
            outer: Any = tomlkit.table(is_super_table=True)
            outer[key] = new
            new = outer
        try:
            group[path[place]] = new
        except ValueError:  # the servers are written on one line, in which a table is not possible
            raise BrokenText(UNSAFE) from None
        return document.as_string()

    def remove(self, text: str, path: KeyPath) -> str:
        """See Format."""
        import tomlkit

        document = tomlkit.parse(text)
        group: Any = document
        for key in path[:-1]:
            group = group[key]
        del group[path[-1]]
        return document.as_string()


class Yaml:
    """YAML, as in Goose."""

    def load(self, text: str) -> dict[str, Any]:
        """See Format."""
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        try:
            value = YAML(typ="safe", pure=True).load(text)
        except (YAMLError, ValueError) as exc:
            raise BrokenText(f"is not YAML: {str(exc).splitlines()[0]}") from None
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise BrokenText("has something else where its settings belong")
        return value

    def put(self, text: str, path: KeyPath, value: Any) -> str:
        """See Format."""
        yaml = _yaml(text)
        document = yaml.load(text) or {}
        group = document
        for key in path[:-1]:
            if group.get(key) is None:
                group[key] = {}
            group = group[key]
        group[path[-1]] = dict(value)
        return _written(yaml, document)

    def remove(self, text: str, path: KeyPath) -> str:
        """See Format."""
        yaml = _yaml(text)
        document = yaml.load(text)
        group = document
        for key in path[:-1]:
            group = group[key]
        del group[path[-1]]
        return _written(yaml, document)


def _table(value: Mapping[str, Any]) -> Any:
    """A table whose groups are written on one line each."""
    import tomlkit

    table = tomlkit.table()
    for key, part in value.items():
        if isinstance(part, Mapping):
            group = tomlkit.inline_table()
            group.update(part)
            part = group
        table[key] = part
    return table


def _yaml(text: str) -> YAML:
    """A reader and writer of YAML with the indentation of this text."""
    from ruamel.yaml import YAML
    from ruamel.yaml.util import load_yaml_guess_indent

    _, indent, dash_indent = load_yaml_guess_indent(text)
    yaml = YAML()
    if indent is not None:
        yaml.map_indent, yaml.sequence_indent = indent, indent
        yaml.sequence_dash_offset = dash_indent or 0
    yaml.preserve_quotes = True
    yaml.width = _NO_WRAPPING
    return yaml


def _written(yaml: YAML, document: Any) -> str:
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue()
