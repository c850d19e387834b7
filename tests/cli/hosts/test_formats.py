"""One entry is added to a text or taken out, and everything else stays as a person wrote it."""

import json
import random

import pytest

from wan_mcp.cli.hosts.formats import BrokenText, Format, entry_in, with_entry, without_entry
from wan_mcp.cli.hosts.json_text import JsonWithComments
from wan_mcp.cli.hosts.toml_yaml import Toml, Yaml

JSON, TOML, YAML = JsonWithComments(), Toml(), Yaml()
ENTRY = {"command": "/opt/wan-mcp", "args": [], "env": {"PIXELDOJO_API_KEY": "dummy"}}
PATH = ("servers", "wan-mcp")

COMMENTED = """{
  // mine
  "servers": {
    "other": {"command": "x", "n": [1, 2]}, /* keep */
    // the last line
  },
  "theme": "dark",
}
"""


@pytest.mark.parametrize(
    "text",
    [
        COMMENTED,
        '{"servers": {}}',
        '{\n  "servers": {\n    "a": 1 // note\n  }\n}',
        '{\r\n\t"servers": {\r\n\t\t"a": 1\r\n\t}\r\n}\r\n',
    ],
)
def test_json_is_the_same_text_after_adding_and_removing(text: str) -> None:
    """Comments, trailing commas, tabs and line ends survive (ours)."""
    added = with_entry(JSON, text, PATH, ENTRY)
    assert entry_in(JSON.load(added), PATH) == ENTRY
    assert without_entry(JSON, added, PATH) == text


def test_added_json_has_the_indentation_and_line_ends_of_the_file() -> None:
    """A person finds the entry written as the rest is (ours)."""
    added = with_entry(JSON, '{\r\n\t"servers": {\r\n\t\t"a": 1\r\n\t}\r\n}', PATH, ENTRY)
    assert '\r\n\t\t"wan-mcp": {\r\n\t\t\t"command"' in added
    assert "\n" not in added.replace("\r\n", "")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('{"servers":{ // c\n "wan-mcp":1, "b":2}}', '{"servers":{ // c\n  "b":2}}'),
        ('{"servers":{ "b":2, // c\n "wan-mcp":1 }}', '{"servers":{ "b":2 // c\n  }}'),
        ('{"servers":{// only\n"wan-mcp":1}}', '{"servers":{// only\n}}'),
        ('{"servers":{"wan-mcp":1}}', '{"servers":{}}'),
        ('{"servers":{"wan-mcp":1,"b":2}}', '{"servers":{"b":2}}'),
    ],
)
def test_removing_json_leaves_comments_and_neighbours(text: str, left: str) -> None:
    """What stands around the entry is not swallowed by a comment or a comma (ours)."""
    assert without_entry(JSON, text, PATH) == left


def test_a_question_is_added_to_a_list_and_taken_out_again() -> None:
    """VS Code keeps its questions in a list, which may have comments (documented)."""
    text = '{\n  "inputs": [\n    {"id": "a"}, // mine\n    {"id": "b"}\n  ]\n}'
    added = with_entry(JSON, text, ("inputs", 2), {"id": "c"})
    assert JSON.load(added)["inputs"] == [{"id": "a"}, {"id": "b"}, {"id": "c"}]
    assert "// mine" in added
    assert without_entry(JSON, added, ("inputs", 2)) == text


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (TOML, '# mine\nmodel = "x"\n\n[servers.other]\ncommand = "y" # keep\n\n[z]\na = 1\n'),
        (TOML, '[servers]\nother = {command = "y"} # keep\n'),
        (YAML, '# mine\nMODEL: "x"\nservers:\n  other:\n    on: true  # keep\nz: 1\n'),
    ],
)
def test_toml_and_yaml_keep_their_comments_and_neighbours(form: Format, text: str) -> None:
    """Everything else is there in its spelling, with the entry and after it is gone (ours)."""
    added = with_entry(form, text, PATH, ENTRY)
    assert entry_in(form.load(added), PATH) == ENTRY
    left = without_entry(form, added, PATH)
    for line in text.splitlines():
        assert line in added
        assert line in left
    assert form.load(left) == form.load(text)


@pytest.mark.parametrize("form", [JSON, TOML, YAML])
def test_an_empty_text_gets_the_entry_alone(form: Format) -> None:
    """A host's file may be empty or not there yet (ours)."""
    added = with_entry(form, "", PATH, ENTRY)
    assert form.load(added) == {"servers": {"wan-mcp": ENTRY}}


@pytest.mark.parametrize("form", [JSON, TOML, YAML])
def test_an_equal_entry_changes_nothing(form: Format) -> None:
    """Adding twice is adding once (ours)."""
    added = with_entry(form, "", PATH, ENTRY)
    assert with_entry(form, added, PATH, ENTRY) is added


@pytest.mark.parametrize("form", [JSON, TOML, YAML])
def test_an_entry_takes_the_place_of_an_earlier_one(form: Format) -> None:
    """After an upgrade the program may lie elsewhere (ours)."""
    added = with_entry(form, "", PATH, {**ENTRY, "command": "/old"})
    assert form.load(with_entry(form, added, PATH, ENTRY)) == {"servers": {"wan-mcp": ENTRY}}


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (JSON, "{"),
        (JSON, "[]"),
        (JSON, '{"servers": []}'),
        (JSON, '{"a": 1,,}'),
        (TOML, "x = ["),
        (TOML, "servers = 1"),
        (YAML, "a: ["),
        (YAML, "- a"),
    ],
)
def test_a_broken_text_is_not_changed(form: Format, text: str) -> None:
    """What cannot be read is a reason to refuse, not to start anew (ours)."""
    with pytest.raises(BrokenText):
        with_entry(form, text, PATH, ENTRY)


def _random_json(chance: random.Random, depth: int = 0) -> str:
    """A valid text with comments, white space and trailing commas where people put them."""

    def space() -> str:
        return chance.choice(["", " ", "\n", "\n  ", " /* a } b */ ", " // c {\n"])

    if depth > 2 or chance.random() < 0.3:
        return chance.choice(["1", "true", "null", '"a,b}"', '"\\"{"', "-2.5e3"])
    named = depth == 0 or chance.random() < 0.6
    count = chance.randrange(4)
    parts = []
    for place in range(count):
        name = f'"k{place}"{space()}:{space()}' if named else ""
        parts.append(f"{space()}{name}{_random_json(chance, depth + 1)}{space()}")
    tail = "," + space() if parts and chance.random() < 0.3 else ""
    opening, closing = "{}" if named else "[]"
    return opening + (",".join(parts) + tail or space()) + closing


def test_any_json_with_comments_keeps_its_values() -> None:
    """Random texts: the entry comes and goes, and nothing else changes its value (ours)."""
    for seed in range(300):
        text = _random_json(random.Random(seed))
        if not text.startswith("{"):
            text = f'{{"k": {text}}}'
        before = JSON.load(text)
        added = with_entry(JSON, text, PATH, ENTRY)
        assert JSON.load(added) == {**before, "servers": {"wan-mcp": ENTRY}}, text
        left = without_entry(JSON, added, PATH)
        assert JSON.load(left) == {**before, "servers": {}}, text
        assert text.count("//") == left.count("//"), text


def test_plain_json_stays_plain_json() -> None:
    """Claude Desktop reads no comments and no trailing commas (observed elsewhere)."""
    text = json.dumps({"servers": {"a": {"command": "x"}}, "b": [1]}, indent=4)
    assert json.loads(with_entry(JSON, text, PATH, ENTRY))["servers"]["wan-mcp"] == ENTRY
