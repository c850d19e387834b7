"""The replicas of a storm: killed and started again while HAProxy spreads the calls over them."""

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import anyio.to_thread

from tests.replicas.processes import NAMES, Balancer, Replica, balanced, free_address


@dataclass
class Deployment:
    """All replicas. Each is one process for each wallet, as long as a process has one vendor key.

    Attributes:
        urls: where the replicas of each wallet are reached.
        balancers: in front of them.
        kills: how many processes were killed.
    """

    urls: list[str] = field(default_factory=list)
    wallets: list[list[Replica]] = field(default_factory=list)
    balancers: list[Balancer] = field(default_factory=list)
    kills: int = 0

    async def kill_now_and_then(self, seconds: float, dice: random.Random) -> None:
        """Kill one replica after the other, and start it again at once, until cancelled."""
        while seconds > 0:
            await anyio.sleep(seconds)
            number = dice.randrange(len(self.wallets[0]))
            await anyio.to_thread.run_sync(self._kill, number)

    def said_down(self) -> dict[str, int]:
        """How often HAProxy took a replica out, for each reason."""
        lines = [line for each in self.balancers for line in each.output.lines]
        found = [re.search(r"Server (\w+)/.* is DOWN, reason: ([^,]+)", line) for line in lines]
        return dict(Counter(f"{each[1]}: {each[2]}" for each in found if each))

    def _kill(self, number: int) -> None:
        for replicas in self.wallets:
            replicas[number].kill()
            self.kills += 1
        for replicas in self.wallets:
            replicas[number].begin()


@contextmanager
def deployed(keys: Sequence[str], count: int, settings: Mapping[str, str]) -> Iterator[Deployment]:
    """Replicas for each of these vendor keys, and HAProxy in front of them.

    Args:
        count: of the replicas.
        settings: that all of them have.
    """
    deployment = Deployment()
    with ExitStack() as ending:
        folder = Path(ending.enter_context(TemporaryDirectory()))
        addresses = [ending.enter_context(free_address()) for _ in keys]
        for key, address in zip(keys, addresses, strict=True):
            replicas = [
                Replica(
                    {
                        **settings,
                        "PIXELDOJO_API_KEY": key,
                        "WAN_MCP_DATA_DIR": str(folder / key / name),
                        "WAN_MCP_ALLOWED_HOSTS": f"127.0.0.1:{address.getsockname()[1]}",
                    }
                )
                for name in NAMES[:count]
            ]
            for replica in replicas:
                ending.callback(replica.kill)
                replica.begin()
            deployment.wallets.append(replicas)
        for replicas, address in zip(deployment.wallets, addresses, strict=True):
            for replica in replicas:
                replica.listen()
            ports = [each.port for each in replicas]
            balancer = ending.enter_context(balanced(address, ports))
            deployment.balancers.append(balancer)
            deployment.urls.append(balancer.url)
        yield deployment
