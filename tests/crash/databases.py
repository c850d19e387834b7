"""Ledgers in PostgreSQL for servers that are killed."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

from tests.ledger.stores import HANG_SECONDS

LIMITS = (
    "postgres.connection.ANSWER_SECONDS",
    "postgres.connection.BUSY_SECONDS",
    "postgres.session.BUSY_SECONDS",
    "threaded.turns.WAIT_SECONDS",
)
"""How long servers wait for their database. All of it is longer here."""


@contextmanager
def ledgers(url: str | None, count: int) -> Iterator[list[str | None]]:
    """The address of a ledger for each of some workers, without any record.

    Args:
        url: the address of one that exists, for a single worker; "" to start a server and to make
            them; None for ledgers in files.
    """
    with ExitStack() as patient:
        # On a slow machine what a killed server held is free only later, and a call that is refused
        # for that is not what is looked at here.
        for limit in () if url is None else LIMITS:
            patient.enter_context(patch(f"wan_mcp.ledger.{limit}", HANG_SECONDS))
        if url != "":
            yield [url] * count
        else:
            yield from _made(count)


def _made(count: int) -> Iterator[list[str | None]]:
    from tests.postgres import server as rig
    from tests.postgres.fixtures import connected
    from wan_mcp.ledger.postgres.migrations import migrate

    folder = Path(tempfile.mkdtemp(prefix="wan-mcp-crash-"))
    rig.give_to_server(folder)
    server = rig.Server(rig.installation(), folder)
    server.make()
    server.start(removes=True)
    try:
        names = [f"worker_{number}" for number in range(count)]
        for name in names:
            server.execute(f"CREATE DATABASE {name}")
            with connected(server.url(name)) as connection:
                migrate(connection)
        yield [server.url(name) for name in names]
    finally:
        server.stop()


def end_leases(url: str | None) -> None:
    """Let the time of every dead server pass at once; in a file the kernel has told already."""
    if url is None:
        return
    from tests.postgres.fixtures import connected

    with connected(url) as connection:
        connection.execute("DELETE FROM owners")
