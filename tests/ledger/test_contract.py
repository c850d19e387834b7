"""The contract of the ledger: who may know an engine, and what an unusable ledger says."""

import ast
from pathlib import Path

import pytest

from wan_mcp.ledger.contract import LedgerUnavailable

ENGINE = (
    "sqlite3",
    "wan_mcp.ledger.coordination_transactions",
    "wan_mcp.ledger.rows",
    "wan_mcp.ledger.sqlite",
    "wan_mcp.ledger.statements",
    "wan_mcp.ledger.threaded",
    "wan_mcp.ledger.transactions",
)
"""What an engine is made of. Another engine may be made of something else."""

MODULES = {
    path.stem: ast.parse(path.read_text("utf-8"))
    for path in Path(__file__).parent.glob("test_*.py")
}
SUITE = sorted(
    name
    for name, tree in MODULES.items()
    if any(
        isinstance(node, ast.Attribute) and ast.unparse(node) == "stores.store"
        for node in ast.walk(tree)
    )
)
"""The conformance suite: every module that runs its tests on a store of each engine."""


def imports(tree: ast.Module) -> set[str]:
    """Everything that a module imports, as dotted names down to the imported thing."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_the_suite_contains_what_every_engine_promises() -> None:
    """A module that no longer takes its stores from the factory would silently leave the suite."""
    assert {"test_coordination", "test_ledger", "test_ledger_limits"} <= set(SUITE)


@pytest.mark.parametrize("name", SUITE)
def test_the_suite_knows_the_contract_and_a_factory_and_no_engine(name: str) -> None:
    """A second engine joins by one line in `stores.STORES`, without a change of the suite."""
    names = imports(MODULES[name])
    known = {each for each in names if f"{each}.".startswith(tuple(f"{part}." for part in ENGINE))}

    assert known == set()
    assert "tests.ledger.stores" in names


def test_a_busy_ledger_may_be_asked_again() -> None:
    """Nothing was sent, and other processes finish by themselves; other failures do not."""
    broken, busy = LedgerUnavailable("No."), LedgerUnavailable("No.", transient=True)

    assert (broken.retry_safe, busy.retry_safe) == (False, True)
    assert LedgerUnavailable.retry_safe is False
    assert "WAN_MCP_DATA_DIR" in broken.next_step
    assert busy.next_step == "Call again in a minute."
