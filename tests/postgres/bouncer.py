"""PgBouncer in transaction mode in front of a server, where the machine has it.

Consecutive transactions go to different connections, as far as several are open.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from tests.postgres.needs import missing
from tests.postgres.server import PORT, Server, as_server, give_to_server

_SETTINGS = """
[databases]
* = host={server} port={port} user=postgres
[pgbouncer]
unix_socket_dir = {folder}
listen_port = {port}
auth_type = any
pool_mode = transaction
server_round_robin = 1
default_pool_size = {connections}
"""


@contextmanager
def bouncer_to(server: Server, connections: int = 20) -> Iterator[Path]:
    """The folder of a bouncer's socket, for `Server.url`.

    Args:
        connections: how many it makes to the server at most.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        missing("pgbouncer", "PgBouncer: apt-get install pgbouncer")
    folder = Path(mkdtemp(prefix="wan-mcp-bouncer-"))
    give_to_server(folder)
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        _SETTINGS.format(server=server.folder, folder=folder, port=PORT, connections=connections)
    )
    with subprocess.Popen(
        [program, settings],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        **as_server(),
    ) as bouncer:
        try:
            assert bouncer.stderr is not None
            said: list[str] = []
            for line in bouncer.stderr:
                said.append(line)
                if "process up" in line:
                    break
            else:
                raise AssertionError("".join(said))
            yield folder
        finally:
            bouncer.terminate()
    shutil.rmtree(folder)
