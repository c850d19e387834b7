"""Kills a move of a ledger into PostgreSQL at each line of its code, and repeats it each time.

    python -m tests.ledger.move_kills DATABASE_URL FOLDER [EVERY]

The database has a ledger without records. With EVERY, only each so-many-th line is tried, and each
of the last ones, behind the commit. It prints how many kills there were, what could pay after them,
and what was wrong, in JSON.
"""

import inspect
import json
import os
import secrets
import shutil
import signal
import sys
from contextlib import closing
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from tests.ledger.old_version.contents import END, FILE
from tests.postgres.fixtures import EMPTY, connected
from wan_mcp.ledger.postgres import moving
from wan_mcp.ledger.postgres.connection import connect
from wan_mcp.ledger.sqlite import connection, moved
from wan_mcp.ledger.sqlite.schema import MOVED

KILLED_IN = {inspect.getsourcefile(module) for module in (moving, moved)}


def main(url: str, folder: Path, every: int) -> dict[str, Any]:
    """Kill at one line after the other, until the move is done before the line is reached."""
    seen: set[str] = set()
    wrong: list[int] = []
    line = 1
    for number in count():
        renew(url, folder)
        while not killed(url, folder, line):
            if every == 1:
                return {"kills": number, "seen": sorted(seen), "wrong": wrong}
            line, every = line - every + 1, 1
            renew(url, folder)
        line += every
        rows = jobs_in_database(url)
        is_marked = version(folder) == MOVED
        seen.add("database" if rows else "neither" if is_marked else "file")
        move(url, folder)
        if (rows and not is_marked) or not is_whole(url, folder):
            wrong.append(number)
    raise AssertionError


def killed(url: str, folder: Path, line: int) -> bool:
    """Move in a process that is killed at that line. Returns False if it ended before."""
    child = os.fork()
    if child == 0:
        sys.settrace(Killer(line).trace)
        move(url, folder)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


class Killer:
    """Counts the lines that are reached for the first time, and kills this process at one."""

    def __init__(self, line: int) -> None:
        self._left = line
        self._reached: set[tuple[str, int]] = set()

    def trace(self, frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in KILLED_IN:
            return None
        place = (frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and place not in self._reached:
            self._reached.add(place)
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.trace


def renew(url: str, folder: Path) -> None:
    """The old file again, and a database without records."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "ledger").mkdir(parents=True)
    shutil.copyfile(FILE, folder / "ledger/ledger.db")
    with connected(url) as database:
        database.execute(EMPTY.format(secrets.token_hex(32)).encode())


def move(url: str, folder: Path) -> None:
    with connect(url) as database:
        moving.move(folder, database, lambda: END)


def jobs_in_database(url: str) -> list[Any]:
    with connected(url) as database:
        return database.execute("SELECT number, handle, state FROM jobs ORDER BY 1").fetchall()


def version(folder: Path) -> int:
    with closing(connection.connect(folder / "ledger/ledger.db")) as file:
        return connection.format_of(file)


def is_whole(url: str, folder: Path) -> bool:
    """Whether the database has each row of the file once, and the file is marked."""
    with closing(connection.connect(folder / "ledger/ledger.db")) as file:
        rows = file.execute("SELECT number, handle, state FROM jobs ORDER BY 1").fetchall()
    return version(folder) == MOVED and jobs_in_database(url) == [tuple(row) for row in rows]


if __name__ == "__main__":
    given = sys.argv[1:]
    result = main(given[0], Path(given[1]) / "data", int(given[2]) if given[2:] else 1)
    sys.stdout.write(json.dumps(result) + "\n")
