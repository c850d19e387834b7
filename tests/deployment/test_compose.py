"""The services of docs/deploy/compose.yaml, started by hand with what the file says about each.

Where an engine for containers runs, `docker compose up` does the same. Here they are processes in a
network of their own: PostgreSQL, `migrate`, both replicas, and Caddy with TLS in front of them.
"""

import base64
import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `metrics` is not installed")

from tests.deployment.test_files import DEPLOY, caddy, compose, run
from tests.ledger.stores import HANG_SECONDS
from tests.postgres.needs import missing
from tests.replicas.caller import Caller
from tests.replicas.processes import ROOT, Output
from tests.storm.vendor import PixelDojo, pixeldojo

USER, PASSWORD = "team", "correct horse"
SECRETS = "/run/secrets"
REPLICAS = ("wan-1", "wan-2")


@dataclass(frozen=True)
class Team:
    """All services.

    Attributes:
        trusts: the authority of the proxy's certificate.
        dojo: PixelDojo.
    """

    trusts: ssl.SSLContext
    dojo: PixelDojo


@pytest.fixture
def team(tmp_path: Path, new_database: Callable[[], str]) -> Iterator[Team]:
    """All services of the file."""
    if not os.environ.get("OWN_NETWORK"):
        missing("network", "a network in which all ports are free: bash .ci/run deploy")
    program = caddy()
    services = compose()["services"]
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "pixeldojo_key").write_text("pd_sandbox")
    (secrets / "ledger_url").write_text(new_database())
    with ExitStack() as ending:
        dojo = ending.enter_context(pixeldojo(["pd_sandbox"], 0.0, seed=1))
        more = {"PIXELDOJO_API_BASE": dojo.api_base}
        run(*server(services["migrate"]), environment=settings(services["migrate"], tmp_path))
        outputs = [
            ending.enter_context(
                started(
                    server(services[name]), {**settings(services[name], tmp_path, name), **more}
                )
            )
            for name in REPLICAS
        ]
        for output in outputs:
            output.wait_for(r"http://127\.0\.0\.1:\d+/mcp")
        proxy = ["run", "--config", str(DEPLOY / "Caddyfile")]
        ending.enter_context(started([program, *proxy], proxied(program, services, tmp_path)))
        yield Team(authority(tmp_path), dojo)


def server(service: Mapping[str, Any]) -> list[str]:
    """What the image runs for a service."""
    return [sys.executable, "-m", "wan_mcp", *service["command"]]


def settings(service: Mapping[str, Any], folder: Path, name: str = "migrate") -> dict[str, str]:
    """The environment of a service: of its image, and of its own."""
    image = re.findall(r"(WAN_MCP_\w+)=(\S+)", (DEPLOY / "Dockerfile").read_text("utf-8"))
    own = {key: chosen(value) for key, value in service["environment"].items()}
    found = {**os.environ, **dict(image), **own, "WAN_MCP_DATA_DIR": str(folder / name)}
    return {key: value.replace(SECRETS, str(folder / "secrets")) for key, value in found.items()}


def chosen(value: str) -> str:
    """A value of the file where nobody has set the variable that it may name."""
    return re.sub(r"\$\{\w+:-(.*)\}", r"\1", value)


def proxied(program: str, services: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """The environment of the proxy: without a PATH it cannot change whom this system trusts."""
    given = {key: chosen(value) for key, value in services["proxy"]["environment"].items()}
    hashed = run(program, "hash-password", "--plaintext", PASSWORD).strip()
    assert set(given) == {"WAN_HOST", "WAN_USER", "WAN_PASSWORD_HASH"}
    given.update(WAN_USER=USER, WAN_PASSWORD_HASH=hashed)
    return {**given, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "PATH": ""}


def authority(folder: Path) -> ssl.SSLContext:
    """The one that Caddy makes for a host on this computer, once it is there."""
    made = folder / "caddy/pki/authorities/local/root.crt"
    end = time.monotonic() + HANG_SECONDS
    while time.monotonic() < end:
        try:
            trusts = ssl.create_default_context(cafile=made)
            httpx.get("https://localhost", verify=trusts, trust_env=False)
        except (OSError, httpx.TransportError):
            continue
        return trusts
    pytest.fail("the proxy does not answer")


@contextmanager
def started(command: list[str], environment: Mapping[str, str]) -> Iterator[Output]:
    """A program, until the block ends."""
    with subprocess.Popen(
        command, env=dict(environment), cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Output(process)
        finally:
            process.terminate()
            process.wait(HANG_SECONDS)


def test_team_of_the_compose_file_pays_once_behind_tls_and_a_password(team: Team) -> None:
    """Two equal calls, which the proxy gives to one replica each, are one payment (ours)."""
    video, image = team.dojo.links
    word = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    with httpx.Client(verify=team.trusts, trust_env=False, timeout=HANG_SECONDS) as asking:
        ready = [asking.get(f"http://127.0.0.1:{port}/readyz") for port in (8765, 8766)]
        counted = [asking.get(f"http://127.0.0.1:{port}/metrics") for port in (9464, 9465)]
        stranger = asking.post("https://localhost/mcp", json={})
        paths = ("/metrics", "/readyz", "/livez", "/")
        hidden = [asking.get(f"https://localhost{path}", auth=(USER, PASSWORD)) for path in paths]

    async def call_twice() -> list[dict[str, Any]]:
        job = {"video": video, "character_image": image, "seed": 1}
        async with Caller(
            "https://localhost/mcp",
            headers={"authorization": f"Basic {word}"},
            trusts=team.trusts,
        ) as caller:
            return [await caller.call("replace_character", **job) for _ in REPLICAS]

    answers = anyio.run(call_twice)
    with httpx.Client(trust_env=False) as asking:
        calls = [
            'wan_mcp_calls_total{outcome="ok",tool="replace_character"} 1.0'
            in asking.get(f"http://127.0.0.1:{port}/metrics").text
            for port in (9464, 9465)
        ]

    assert [each.status_code for each in (*ready, *counted)] == [200] * 4
    assert stranger.status_code == 401
    assert [each.status_code for each in hidden] == [404] * len(paths)
    assert [each["charged"] for each in answers] == ["yes", "no"]
    assert calls == [True, True]
    assert len(team.dojo.paid()[0]) == 1
