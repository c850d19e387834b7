"""What hosts, models and users are shown is reviewed: two snapshots, and a budget of bytes."""

import json

import anyio
import pytest
from mcp.types import ListToolsResult

from tests.portable_schema import MODELS, schemas_json
from tests.snapshots import COMMAND, SENTENCES, TOOLS, list_tools, sentences_txt, tools_json
from wan_mcp.surface.calls import Calls
from wan_mcp.surface.tools import SCHEMAS, WanTool, build_tools

MAX_TOOL_LIST_BYTES = 12_400
"""Of everything that a host receives. What is not for the model is left to the host's programs. Its
sixth tool, cancel_job, and the place in the queue took 1,300 of them: without these, somebody who
has twenty requests queued by mistake could not stop them from being paid."""
MAX_SHOWN_BYTES = 5_000
"""Of what a model is shown: names, descriptions and the schemas of arguments."""
TOOLS_CHANGED = (
    f"tools/list is no longer the reviewed one in {TOOLS.name}. It is the contract with every host "
    "and model: a renamed field or a new requirement breaks clients, and descriptions steer "
    f"models. Run `{COMMAND}`, review the diff of {TOOLS.name}, and commit it with the change."
)
SENTENCES_CHANGED = (
    f"A model or user now reads something else than the reviewed {SENTENCES.name}. Run "
    f"`{COMMAND}` and review the diff: is each sentence true, complete and plain, does it name "
    "the next step, and can nobody read it as advice to pay twice? Then commit it with the change."
)
OVER_BUDGET = (
    f"tools/list has more than {MAX_TOOL_LIST_BYTES:,} bytes. The whole list is in the context of "
    "every conversation of every user, who pays for it. Shorten descriptions or drop a field; "
    f"raise the budget only for something that every conversation needs. Then run `{COMMAND}`."
)


SCHEMAS_CHANGED = (
    f"The schemas that the tools publish are no longer those of their models. Run `{COMMAND}`, and "
    f"commit {SCHEMAS.name} with the change."
)


@pytest.fixture(params=["auto", "legacy"])
def listed(request: pytest.FixtureRequest) -> ListToolsResult:
    """The whole answer to tools/list, in the newest revision and in a handshake one."""
    return anyio.run(list_tools, request.param)


def test_published_schemas_are_those_of_the_models() -> None:
    """They are shipped, because making them would delay every start (ours)."""
    assert json.loads(SCHEMAS.read_text("utf-8")) == json.loads(schemas_json()), SCHEMAS_CHANGED


def test_each_tool_reads_the_arguments_whose_schema_it_publishes() -> None:
    tools = build_tools(Calls(None, False, False), loopback=False)

    assert {tool.name: tool.arguments for tool in tools if isinstance(tool, WanTool)} == {
        name: arguments for name, (arguments, _) in MODELS.items()
    }


def test_published_tools_are_the_reviewed_ones(listed: ListToolsResult) -> None:
    """A change of the contract is seen in the diff of a file (ours)."""
    assert json.loads(tools_json(listed)) == json.loads(TOOLS.read_text("utf-8")), TOOLS_CHANGED


def test_whole_tool_list_fits_the_budget_on_the_wire(listed: ListToolsResult) -> None:
    """Each byte is in every conversation of every user (ours)."""
    result = listed.model_dump(mode="json", by_alias=True, exclude_none=True)
    line = json.dumps({"jsonrpc": "2.0", "id": 1_000, "result": result}, separators=(",", ":"))

    assert len(line.encode()) < MAX_TOOL_LIST_BYTES, OVER_BUDGET


def test_what_a_model_is_shown_of_the_tools_fits_its_budget(listed: ListToolsResult) -> None:
    """Few hosts show it the schemas of answers (observed elsewhere)."""
    shown = [
        {"name": each.name, "description": each.description, "inputSchema": each.input_schema}
        for each in listed.tools
    ]

    assert len(json.dumps(shown, separators=(",", ":")).encode()) < MAX_SHOWN_BYTES


def test_sentences_for_models_and_users_are_the_reviewed_ones() -> None:
    """They stand verbatim only there; all other tests assert facts (ours)."""
    assert sentences_txt() == SENTENCES.read_text("utf-8"), SENTENCES_CHANGED
