"""Commands of an operator, typed in this process."""

import base64
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import anyio.to_thread

from wan_mcp.cli.commands import run


async def typed(
    words: Sequence[str], database: str, folder: Path, key: str, **environment: str
) -> None:
    """Type a command at a database, with the key ring of `team.ring`.

    Args:
        key: the PixelDojo key in the file that the command names as `key.txt`.
        environment: further settings.
    """
    ring, key_file = folder / "key-ring", folder / "key.txt"
    ring.write_text("a " + base64.b64encode(b"a".ljust(32, b"\1")).decode())
    key_file.write_text(key)
    for file in (ring, key_file):
        file.chmod(0o600)
    environment |= {"WAN_MCP_LEDGER_URL": database, "WAN_MCP_KEY_RING_FILE": str(ring)}
    given = [str(key_file) if word == "key.txt" else word for word in words]
    code = await anyio.to_thread.run_sync(partial(run, given, environment, lambda error: 2))
    assert code == 0, words
