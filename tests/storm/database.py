"""A PostgreSQL and its standby: restarted, killed and failed over while servers use it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from tests.postgres.fixtures import TEMPLATE, prepare
from tests.postgres.server import PORT, Server, give_to_server, installation, reachable

LEDGER = TEMPLATE


class Pair:
    """Two servers. What is committed at the first is at the second, which takes over at the end.

    Attributes:
        url: the address for ledgers, whichever of the two can be written.
    """

    def __init__(self, primary: Server, standby: Server) -> None:
        self._primary = primary
        self._standby = standby
        self._has_failed_over = False
        folders = f"{primary.folder},{standby.folder}&port={PORT},{PORT}"
        self.url = f"postgresql://postgres@/{LEDGER}?host={folders}&target_session_attrs=read-write"

    def restart(self) -> None:
        """Stop the server in order, as for an update, and start it."""
        self._primary.stop()
        self._primary.start()

    def crash(self) -> None:
        """Kill all its processes, and start it: it recovers from its log."""
        self._primary.kill()
        self._primary.start()

    def fail_over(self) -> None:
        """Kill the server for good, and let the standby take its place."""
        self._primary.kill()
        self._standby.promote()
        self._has_failed_over = True

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What a statement finds at the server that can be written."""
        server = self._standby if self._has_failed_over else self._primary
        return server.execute(sql, database=LEDGER)


@contextmanager
def paired() -> Iterator[Pair]:
    """A new ledger on a server, and a standby that each commit waits for."""
    with ExitStack() as ending:
        folders = [Path(mkdtemp(prefix="wan-mcp-storm-")) for _ in range(2)]
        for folder in folders:
            ending.callback(rmtree, folder, ignore_errors=True)
            give_to_server(folder)
        primary = Server(reachable(installation(), folders[0]), folders[0])
        primary.provide(installation())
        primary.make()
        ending.callback(primary.end)
        primary.start()
        prepare(primary)
        standby = primary.standby(folders[1])
        ending.callback(standby.end)
        standby.start()
        # After the copy, so that the standby itself will wait for nobody.
        primary.execute(
            "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"
        )
        yield Pair(primary, standby)
