"""Counts how often a ledger waits for an answer of PostgreSQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch


@contextmanager
def round_trips(ledger: Any) -> Iterator[list[object]]:
    """Within it, the list gets longer with each answer that a payment waits for.

    Args:
        ledger: in PostgreSQL. Its other connections are not counted.
    """
    from wan_mcp.ledger.postgres.connection import Link

    answers: list[object] = []
    wait = Link.wait

    def counted(link: Link, *args: Any, **named: Any) -> Any:
        opened = ledger._store._opened
        if opened is not None and link is opened.session._link:
            answers.append(args)
        return wait(link, *args, **named)

    with patch.object(Link, "wait", counted):
        yield answers
