"""The SDK builds its models of messages when they are used."""

import subprocess
import sys

import pytest

from wan_mcp.transports import wire_models

BUILDS_LATE = """
from wan_mcp.transports.wire_models import build_when_used
build_when_used()
from mcp_types.methods import parse_client_request
from mcp_types._v2025_11_25 import CallToolRequest, ListToolsRequest
before = CallToolRequest.__pydantic_complete__, ListToolsRequest.__pydantic_complete__
call = {"name": "list_jobs", "arguments": {}}
read = parse_client_request("tools/call", "2025-11-25", call)
print(*before, CallToolRequest.__pydantic_complete__, ListToolsRequest.__pydantic_complete__)
print(read.params.name)
"""


def test_model_of_a_message_is_built_when_a_message_first_needs_it() -> None:
    """Building all of them at every start would keep a host waiting (ours)."""
    ran = subprocess.run([sys.executable, "-c", BUILDS_LATE], capture_output=True, text=True)
    assert ran.stdout.splitlines() == ["False False True False", "list_jobs"], ran.stderr


def test_sdk_without_that_base_class_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is not documented, and another release may lack it (ours)."""
    monkeypatch.setattr(wire_models, "_BASE_MODULE", "mcp_types._no_such_module")
    wire_models.build_when_used()
