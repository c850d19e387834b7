"""The benches in tests/bench are run by hand: what keeps them usable between two runs."""

import json
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

import wan_mcp
from tests.bench.bench import HELLO
from tests.bench.crowd import SELF, TERMS, served
from tests.bench.servers import opened_scene
from tests.mutations import MUTATIONS, ROOT, Mutation

WAN_MCP = Path(wan_mcp.__file__).parent


def test_the_watched_server_serves_and_writes_how_late_its_loop_was(tmp_path: Path) -> None:
    request = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}
    command = [*SELF, "server", str(tmp_path / "lags")]
    ran = subprocess.run(command, input=json.dumps(request) + "\n", capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["result"]["serverInfo"]
    assert isinstance(json.loads((tmp_path / "lags").read_text()), list)


@pytest.mark.anyio
async def test_a_bench_whose_server_dies_ends_with_an_error() -> None:
    reads_one_line_and_dies = [sys.executable, "-c", "input()"]
    with pytest.raises(ExceptionGroup, match="TaskGroup") as failed, anyio.fail_after(600):
        async with opened_scene(TERMS, 1) as scene, served(reads_one_line_and_dies, scene):
            await anyio.sleep_forever()
    (why,) = failed.value.exceptions
    assert "the server ended" in str(why)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_text_that_a_mutation_replaces_occurs_once_and_its_tests_exist(mutation: Mutation) -> None:
    """The mutations are tried by hand, and one that cannot be tried stops them all. (ours)"""
    places = [(WAN_MCP / file).read_text("utf-8").count(old) for file, old, _ in mutation.edits]
    tests = [test.partition("::") for test in mutation.tests]

    assert set(places) == {1}
    for file, _, name in tests:
        assert f"def {name.partition('[')[0]}(" in (ROOT / file).read_text("utf-8")
