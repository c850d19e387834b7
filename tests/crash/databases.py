"""Ledgers in PostgreSQL for servers that are killed."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def ledgers(url: str | None, count: int) -> Iterator[list[str | None]]:
    """The address of a ledger for each of some workers, without any record.

    Args:
        url: the address of one that exists, for a single worker; "" to start a server and to make
            them; None for ledgers in files.
    """
    if url != "":
        yield [url] * count
        return
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
