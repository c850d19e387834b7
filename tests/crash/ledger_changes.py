"""Change the ledger's files under running servers, each a process of its own; about two minutes.

    python tests/crash/ledger_changes.py [change ...]

What happens is described in `tests.ledger.changes`. The charges that the sandbox counts decide. If
a job was paid for twice, or if a paid job is neither listed nor spoken of, the exit code is 1.
"""

import asyncio
import sys
import tempfile
from contextlib import AbstractAsyncContextManager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.ledger.changes import CHANGES, outcome_of
from tests.ledger.old_version.servers import Host, server
from wan_mcp.sandbox import Sandbox, Terms


async def main(names: list[str]) -> int:
    """Make these changes, or all. Returns the exit code."""
    broken = 0
    for name in names or CHANGES:
        with tempfile.TemporaryDirectory() as scratch:
            problems, said = await _tried(name, Path(scratch) / "data")
        broken += len(problems)
        sys.stdout.write(f"{name:28} {'; '.join(problems) or 'held'}\n    {said}\n")
    return 1 if broken else 0


async def _tried(name: str, data: Path) -> tuple[list[str], str]:
    terms = Terms(credits=1000, price=1, pending_seconds=0, processing_seconds=0)
    async with Sandbox(terms) as sandbox:

        def serve(folder: Path) -> AbstractAsyncContextManager[Host]:
            return server(sandbox, folder)

        outcome = await outcome_of(CHANGES[name], serve, data)
    return outcome.broken(), outcome.notice or f"{len(outcome.listed)} jobs listed"


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
