"""What the tools publish: the contract that every host and model reads."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import anyio
import jsonschema  # type: ignore[import-untyped]  # it has no types of its own
import pytest
from mcp.types import ListToolsResult, Tool
from pydantic import BaseModel

from tests.portable_schema import CANCEL_FIELDS, FREE_FIELDS, PAID_FIELDS, portable_schema
from tests.snapshots import list_tools
from tests.surface.scenarios import LOOKS, NOW, SUBMITS
from wan_mcp.errors import Code
from wan_mcp.models import JobLine, JobList, JobResult, JobStatus
from wan_mcp.server import INSTRUCTIONS
from wan_mcp.surface.answers import results
from wan_mcp.surface.answers.credits import CreditOverview, LimitLine
from wan_mcp.surface.answers.several import WaitResult
from wan_mcp.surface.arguments import (
    CheckCredits,
    GetJobStatus,
    ListJobs,
    ReplaceCharacter,
    WaitForJob,
    read_arguments,
)

REFUSED_BY_SOME_HOST = {
    *("$ref", "$defs", "$schema", "anyOf", "oneOf", "allOf", "not", "const", "title", "examples"),
    *("patternProperties", "prefixItems", "nullable", "if", "then", "else", "format"),
}


@pytest.fixture(params=["auto", "legacy"])
def listed(request: pytest.FixtureRequest) -> ListToolsResult:
    """The whole answer to tools/list, in the newest revision and in a handshake one."""
    return anyio.run(list_tools, request.param)


@pytest.fixture
def tools(listed: ListToolsResult) -> dict[str, Tool]:
    return {tool.name: tool for tool in listed.tools}


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema within a schema: itself, those of its properties and of its items."""
    yield schema
    for inner in [*schema.get("properties", {}).values(), *filter(None, [schema.get("items")])]:
        yield from nodes(inner)


def schemas(tools: dict[str, Tool]) -> list[dict[str, Any]]:
    return [
        schema
        for tool in tools.values()
        for schema in (tool.input_schema, tool.output_schema)
        if schema is not None
    ]


def test_every_schema_is_valid_json_schema(tools: dict[str, Tool]) -> None:
    """2020-12 is the dialect of the protocol (MCP specification)."""
    for schema in schemas(tools):
        jsonschema.Draft202012Validator.check_schema(schema)


def test_no_schema_holds_what_some_host_refuses(tools: dict[str, Tool]) -> None:
    """One such word and a host answers every prompt with an error (observed elsewhere)."""
    every = [node for schema in schemas(tools) for node in nodes(schema)]

    assert sum("made_at" in node.get("properties", {}) for node in every) == 1  # items too
    for schema in schemas(tools):
        for node in nodes(schema):
            assert REFUSED_BY_SOME_HOST.isdisjoint(node), node
            assert isinstance(node["type"], str), node
            assert all(isinstance(choice, str) for choice in node.get("enum", [])), node
            assert None not in node.values(), node


def is_flat(schema: dict[str, Any]) -> bool:
    """Whether a schema is an object of plain values that knows what it requires."""
    plain = {"string", "integer", "number", "boolean"}
    texts = {"type": "array", "items": {"type": "string"}}
    inners = schema["properties"].values()
    required = set(schema.get("required", []))
    return (
        schema["type"] == "object"
        and all(inner["type"] in plain or inner == texts for inner in inners)
        and required <= set(schema["properties"])
    )


def test_every_schema_is_one_flat_object(tools: dict[str, Tool]) -> None:
    """Nesting is lost by some hosts (observed elsewhere)."""
    with_rows = [tools[name].output_schema for name in (*ROWS, "wait_for_job")]

    for schema in schemas(tools):
        assert any(schema is each for each in with_rows) or is_flat(schema)


def test_several_jobs_are_rows_whose_fields_are_in_the_text_and_in_the_docs_alone(
    tools: dict[str, Tool],
) -> None:
    """Their schema would cost each conversation 400 bytes (ours)."""
    fields = (tools["wait_for_job"].output_schema or {})["properties"]

    assert fields["jobs"] == {"type": "array", "items": {"type": "object"}}


def test_no_schema_holds_a_boolean_where_a_schema_can_stand(tools: dict[str, Tool]) -> None:
    """google-genai's adapter cannot read `additionalProperties: false` (observed elsewhere).

    An unknown argument is refused at run time where it may be a misspelt option.
    """
    for schema in schemas(tools):
        for node in nodes(schema):
            assert "additionalProperties" not in node
            inners = [*node.get("properties", {}).values(), node.get("items", {})]
            assert all(isinstance(inner, dict) for inner in inners)


@pytest.mark.parametrize(
    ("name", "omitted"),
    [
        ("replace_character", FREE_FIELDS),
        ("get_job_status", PAID_FIELDS),
        ("wait_for_job", PAID_FIELDS),
    ],
)
def test_tool_describes_each_field_that_its_answers_can_have(
    tools: dict[str, Tool], name: str, omitted: frozenset[str]
) -> None:
    """And no other, because each byte is in every conversation (ours)."""
    described = set((tools[name].output_schema or {})["properties"])
    submits = [results.submit_result(view, now=NOW) for view in SUBMITS.values()]
    looks = [results.status_result(view, now=NOW) for view in LOOKS.values()]
    answers = submits if name == "replace_character" else looks
    given = {field for each in answers for field in each.model_dump(exclude_none=True)}

    model = WaitResult if name == "wait_for_job" else JobResult
    assert described == set(model.model_fields) - omitted
    assert omitted < set(JobResult.model_fields)
    assert given <= described


def test_cancelling_describes_the_few_fields_of_its_answers(tools: dict[str, Tool]) -> None:
    """The others are those of a job, and get_job_status has them (ours)."""
    schema = tools["cancel_job"].output_schema or {}

    assert set(schema["properties"]) == CANCEL_FIELDS < set(JobResult.model_fields)


@pytest.mark.parametrize(("field", "words"), [("code", Code), ("status", JobStatus)])
def test_paid_tool_lists_every_word_and_the_others_take_any(
    tools: dict[str, Tool], field: str, words: type[Code] | type[JobStatus]
) -> None:
    """They would repeat 300 bytes in every conversation (ours)."""
    listed = {
        name: fields[field]
        for name, tool in tools.items()
        if field in (fields := (tool.output_schema or {})["properties"])
    }

    assert listed.pop("replace_character") == {"type": "string", "enum": list(map(str, words))}
    assert len(listed) > 1
    assert all(each == {"type": "string"} for each in listed.values())


def test_icon_is_a_valid_uri(tools: dict[str, Tool]) -> None:
    """A URI has no raw spaces, quotes or angle brackets (RFC 3986)."""
    for tool in tools.values():
        for icon in tool.icons or []:
            assert re.fullmatch(r"data:image/svg\+xml,(%[0-9A-F]{2}|[\w.~:/=',-])+", icon.src)
            svg = ElementTree.fromstring(unquote(icon.src.partition(",")[2]))
            assert svg.tag == "{http://www.w3.org/2000/svg}svg"


ROWS = {
    "list_jobs": ("jobs", ["job_id", "status", "made_at"]),
    "check_credits": ("limits", ["limit"]),
}
"""The tools whose answer has rows, with the field of the rows and what each row has."""


@pytest.mark.parametrize("name", ROWS)
def test_only_a_list_of_rows_nests_and_each_row_is_flat(tools: dict[str, Tool], name: str) -> None:
    """A list of jobs cannot be flat; its text says the same to a host that drops it (ours)."""
    listing = tools[name].output_schema
    assert listing is not None
    field, required = ROWS[name]
    rows = listing["properties"][field]
    rest = {name: inner for name, inner in listing["properties"].items() if name != field}

    assert rows.keys() == {"type", "items"}
    assert rows["type"] == "array"
    assert is_flat(rows["items"])
    assert is_flat({**listing, "properties": rest})
    assert rows["items"]["required"] == required


def test_every_tool_has_a_title_hints_and_an_icon(tools: dict[str, Tool]) -> None:
    """Directories refuse tools without them (observed elsewhere)."""
    for tool in tools.values():
        hints = tool.annotations

        assert tool.title
        assert hints is not None
        assert None not in (
            *(hints.read_only_hint, hints.destructive_hint),
            *(hints.idempotent_hint, hints.open_world_hint),
        )
        assert tool.icons
        assert tool.icons[0].src.startswith("data:image/svg+xml,%3Csvg%20")


def test_names_and_descriptions_fit_the_tightest_host(tools: dict[str, Tool]) -> None:
    """mcp__wan__NAME within 64 characters, a description within 1,024 (observed elsewhere)."""
    for tool in tools.values():
        assert tool.name.replace("_", "").isalnum()
        assert len(f"mcp__wan-mcp__{tool.name}") <= 64
        assert 40 < len(tool.description or "") <= 1_024
        assert (tool.description or "").isascii()


def test_only_the_paid_tool_is_marked_as_spending(tools: dict[str, Tool]) -> None:
    """Hosts ask their user before a call that is not read-only (ours)."""
    marks = {
        name: (
            *(hints.read_only_hint, hints.destructive_hint),
            *(hints.idempotent_hint, hints.open_world_hint),
        )
        for name, tool in tools.items()
        if (hints := tool.annotations)
    }

    assert marks == {
        "replace_character": (False, True, False, True),
        "get_job_status": (True, False, True, True),
        "wait_for_job": (True, False, True, True),
        "list_jobs": (True, False, True, False),
        "check_credits": (True, False, True, True),
        "cancel_job": (False, True, True, False),
    }


def test_paid_tool_takes_exactly_the_documented_parameters(tools: dict[str, Tool]) -> None:
    """Nine, with the vendor's names, ranges and defaults (vendor)."""
    schema = tools["replace_character"].input_schema
    facts = {
        name: {key: value for key, value in inner.items() if key != "description"}
        for name, inner in schema["properties"].items()
    }

    assert schema["required"] == ["video", "character_image"]
    assert facts == {
        "video": {"type": "string"},
        "character_image": {"type": "string"},
        "video_duration": {"type": "integer", "minimum": 1, "maximum": 15, "default": 5},
        "resolution": {"type": "string", "enum": ["480", "720"], "default": "480"},
        "refert_num": {"type": "integer", "minimum": 1, "maximum": 10},
        "frames_per_second": {"type": "integer", "minimum": 8, "maximum": 30},
        "go_fast": {"type": "boolean", "default": False},
        "merge_audio": {"type": "boolean", "default": True},
        "seed": {"type": "integer"},
    }


def test_free_tools_take_what_they_need_and_no_more(tools: dict[str, Tool]) -> None:
    """Either id is one argument, and a list of fifty is the most (ours)."""
    facts = {
        name: {
            argument: {key: value for key, value in inner.items() if key != "description"}
            for argument, inner in tool.input_schema["properties"].items()
        }
        for name, tool in tools.items()
        if name != "replace_character"
    }
    job_id = {"type": "string"}
    seconds = {"type": "integer", "minimum": 0, "maximum": 900, "default": 45}

    assert facts == {
        "get_job_status": {"job_id": job_id},
        "cancel_job": {"job_id": job_id},
        "wait_for_job": {"job_id": job_id, "timeout_seconds": seconds},
        "list_jobs": {
            "status": {"type": "string", "enum": [str(status) for status in JobStatus]},
            "limit": {"type": "integer", "minimum": 1, "maximum": 50, "default": 10},
            "cursor": {"type": "string"},
        },
        "check_credits": {
            "video_duration": {"type": "integer", "minimum": 1, "maximum": 15, "default": 5},
            "resolution": {"type": "string", "enum": ["480", "720"], "default": "480"},
        },
    }
    assert "required" not in tools["check_credits"].input_schema
    assert "required" not in tools["list_jobs"].input_schema


def test_price_is_asked_for_with_the_words_of_the_paid_call(tools: dict[str, Tool]) -> None:
    """A model that has read the one schema has read the other (ours)."""
    paid = tools["replace_character"].input_schema["properties"]
    asked = tools["check_credits"].input_schema["properties"]

    assert asked == {name: paid[name] for name in ("video_duration", "resolution")}


def test_filter_says_what_it_never_hides(tools: dict[str, Tool]) -> None:
    """Nobody can filter a lost purchase away (ours)."""
    words = tools["list_jobs"].input_schema["properties"]["status"]["description"]

    assert words.endswith("submitting, running and unknown ones are always listed.")


def test_ranges_and_defaults_are_also_said_in_words(tools: dict[str, Tool]) -> None:
    """Some hosts drop minimum, maximum and default from the schema (observed elsewhere)."""
    for tool in tools.values():
        for name, inner in tool.input_schema["properties"].items():
            words = inner["description"].lower()
            for key in ("minimum", "maximum", "default"):
                if key in inner:
                    assert str(inner[key]).lower() in words, (name, key)
            for choice in inner.get("enum", []):
                assert choice in words, name


def test_every_default_published_is_the_one_that_is_used(tools: dict[str, Tool]) -> None:
    """A host that fills defaults in must not change the job (ours)."""
    needed = {"video": "https://a.example/v.mp4", "character_image": "https://a.example/i.png"}
    properties = tools["replace_character"].input_schema["properties"]
    filled = {name: inner["default"] for name, inner in properties.items() if "default" in inner}
    bare = read_arguments(ReplaceCharacter, needed, loopback=False)
    full = read_arguments(ReplaceCharacter, {**needed, **filled}, loopback=False)

    assert full.model_dump() == {**bare.model_dump(), "resolution": "480"}
    for name, model in (("wait_for_job", WaitForJob), ("list_jobs", ListJobs)):
        fields = tools[name].input_schema["properties"]
        said = {key: inner["default"] for key, inner in fields.items() if "default" in inner}
        used = {key: model.model_fields[key].default for key in said}
        assert said == used != {}


def test_fields_a_model_must_have_are_required_of_every_answer(tools: dict[str, Tool]) -> None:
    """What happened, whether it cost something, and what to do now (ours)."""
    for tool in tools.values():
        assert tool.output_schema is not None
        assert tool.output_schema["required"] == ["message", "charged", "next"]


def test_instructions_are_short_and_name_every_tool(tools: dict[str, Tool]) -> None:
    """They stand in every conversation, and say that jobs cost and links die (ours)."""
    assert len(INSTRUCTIONS) < 1_000
    assert all(name in INSTRUCTIONS for name in tools)
    assert "credits" in INSTRUCTIONS
    assert "temporary" in INSTRUCTIONS


class Inner(BaseModel):
    """Prose that is not for the wire."""

    title: str
    size: int | None = None


class Outer(BaseModel):
    """A model with all that `portable_schema` takes away."""

    inner: Inner
    title: str | None = None


def test_portable_schema_inlines_references_and_drops_noise() -> None:
    """References and unions with null are what hosts fail on (observed elsewhere)."""
    inner = {
        "type": "object",
        "properties": {"title": {"type": "string"}, "size": {"type": "integer"}},
        "required": ["title"],
    }

    assert portable_schema(Outer) == {
        "type": "object",
        "properties": {"inner": inner, "title": {"type": "string"}},
        "required": ["inner"],
    }


def test_portable_schema_leaves_the_model_itself_alone() -> None:
    """The schema is built for each tool, from one shared model (ours)."""
    inputs = (ReplaceCharacter, GetJobStatus, WaitForJob, ListJobs, CheckCredits)
    models = (*inputs, JobResult, JobList, JobLine, CreditOverview, LimitLine)
    for model in models:
        assert portable_schema(model) == portable_schema(model)
        assert portable_schema(model)["properties"].keys() == model.model_fields.keys()
