"""The replicas of a storm: killed and started again while HAProxy spreads the calls over them."""

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from tests.replicas.processes import NAMES, Balancer, Replica, balanced, free_address


@dataclass
class Deployment:
    """All replicas.

    Attributes:
        replicas: the processes.
        balancer: in front of them.
        kills: how many processes were killed.
    """

    replicas: Sequence[Replica]
    balancer: Balancer
    kills: int = 0

    async def kill_now_and_then(self, seconds: float, dice: random.Random) -> None:
        """Kill one replica after the other, and start it again at once, until cancelled."""
        while seconds > 0:
            await anyio.sleep(seconds)
            await anyio.to_thread.run_sync(self.kill_one, dice)

    def said_down(self) -> dict[str, int]:
        """How often HAProxy took a replica out, for each reason."""
        down = r"Server (\w+)/.* is DOWN, reason: ([^,]+)"
        found = [re.search(down, line) for line in self.balancer.output.lines]
        return dict(Counter(f"{each[1]}: {each[2]}" for each in found if each))

    def kill_one(self, dice: random.Random) -> None:
        """Kill one replica, and start it again at once."""
        replica = dice.choice(self.replicas)
        replica.kill()
        self.kills += 1
        replica.begin()


@contextmanager
def deployed(count: int, settings: Mapping[str, str], folder: Path) -> Iterator[Deployment]:
    """So many replicas, and HAProxy in front of them.

    Args:
        settings: that all of them have.
        folder: for what they keep, each in a folder of its own.
    """
    with ExitStack() as ending:
        address = ending.enter_context(free_address())
        public = {"WAN_MCP_ALLOWED_HOSTS": f"127.0.0.1:{address.getsockname()[1]}"}
        replicas = [
            Replica({**settings, **public, "WAN_MCP_DATA_DIR": str(folder / name)})
            for name in NAMES[:count]
        ]
        for replica in replicas:
            ending.callback(replica.kill)
            replica.begin()
        for replica in replicas:
            replica.listen()
        ports = [each.port for each in replicas]
        yield Deployment(replicas, ending.enter_context(balanced(address, ports)))
