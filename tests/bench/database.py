"""A PostgreSQL for one run of a bench, whose commits wait for the disk as those in life do."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from tests.postgres import server as rig

COUNT_SECONDS = 0.25
"""How often connections are counted."""

_CONNECTIONS = "SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'wan-mcp'"


@contextmanager
def own_server() -> Iterator[rig.Server]:
    """A server that runs meanwhile, and is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="wan-mcp-bench-"))
    rig.give_to_server(folder)
    server = rig.Server(rig.installation(), folder)
    durable = {**rig.SETTINGS, "fsync": "on", "full_page_writes": "on"}
    try:
        server.make()
        with patch.object(rig, "SETTINGS", durable):
            server.start()
        yield server
    finally:
        server.end()
        shutil.rmtree(folder)


async def count_connections(database: rig.Server, found: list[int]) -> None:
    """Count the connections of wan-mcp to a database until cancelled."""
    while True:
        [(connections,)] = await asyncio.to_thread(database.execute, _CONNECTIONS)
        found.append(connections)
        await asyncio.sleep(COUNT_SECONDS)
