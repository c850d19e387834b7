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

from tests.deployment.test_files import DEPLOY, caddy, compose, run, sign_in
from tests.ledger.stores import HANG_SECONDS
from tests.postgres.needs import missing
from tests.replicas.caller import Caller
from tests.replicas.processes import ROOT, Output
from tests.storm.vendor import PixelDojo, pixeldojo
from tests.tenants.team import Blue, operator_of

USER, PASSWORD, KEY = "team", "correct horse", "pd_sandbox"
SECRETS = "/run/secrets"
REPLICAS = ("wan-1", "wan-2")


@dataclass(frozen=True)
class Variant:
    """One way to start the services.

    Attributes:
        variables: what is given to the compose file.
        keys: the content of the secret that the replicas have beside the address of the database.
    """

    variables: Mapping[str, str]
    keys: str

    @property
    def signs_in(self) -> bool:
        return "WAN_SIGN_IN" in self.variables


VARIANTS = {
    "a password": Variant({}, KEY),
    "sign-in": Variant(sign_in(), f"a {base64.b64encode(b'a'.ljust(32, bytes([1]))).decode()}"),
}


@dataclass(frozen=True)
class Team:
    """All services.

    Attributes:
        trusts: the authority of the proxy's certificate.
        dojo: PixelDojo.
        authorization: the header of somebody who may call.
    """

    trusts: ssl.SSLContext
    dojo: PixelDojo
    authorization: str


@pytest.fixture(params=VARIANTS)
def team(
    tmp_path: Path, new_database: Callable[[], str], request: pytest.FixtureRequest
) -> Iterator[Team]:
    """All services of the file."""
    variant = VARIANTS[request.param]
    if not os.environ.get("OWN_NETWORK"):
        missing("network", "a network in which all ports are free: bash .ci/run deploy")
    program = caddy()
    services = compose()["services"]
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    database = new_database()
    (secrets / "key").write_text(variant.keys)
    (secrets / "ledger_url").write_text(database)
    with ExitStack() as ending:
        dojo = ending.enter_context(pixeldojo([KEY], 0.0, seed=1))
        more = {"PIXELDOJO_API_BASE": dojo.api_base}
        given = variant.variables
        migration = settings(services["migrate"], tmp_path, given)
        run(*server(services["migrate"]), environment=migration)
        word = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        authorization = f"Basic {word}"
        if variant.signs_in:
            with operator_of(database) as operator:
                blue = Blue(operator, KEY, dojo.api_base)
                authorization = f"Bearer {blue.token(blue.ann).text}"
        outputs = [
            ending.enter_context(
                started(
                    server(services[name]),
                    {**settings(services[name], tmp_path, given, name), **more},
                )
            )
            for name in REPLICAS
        ]
        for output in outputs:
            output.wait_for(r"http://127\.0\.0\.1:\d+/mcp")
        proxy = ["run", "--config", str(DEPLOY / "Caddyfile")]
        around = proxied(program, services, tmp_path, given)
        ending.enter_context(started([program, *proxy], around))
        yield Team(authority(tmp_path), dojo, authorization)


def server(service: Mapping[str, Any]) -> list[str]:
    """What the image runs for a service."""
    return [sys.executable, "-m", "wan_mcp", *service["command"]]


def settings(
    service: Mapping[str, Any], folder: Path, given: Mapping[str, str], name: str = "migrate"
) -> dict[str, str]:
    """The environment of a service: of its image, and of its own."""
    image = re.findall(r"(WAN_MCP_\w+)=(\S+)", (DEPLOY / "Dockerfile").read_text("utf-8"))
    own = {key: chosen(value, given) for key, value in service["environment"].items()}
    found = {**os.environ, **dict(image), **own, "WAN_MCP_DATA_DIR": str(folder / name)}
    return {key: value.replace(SECRETS, str(folder / "secrets")) for key, value in found.items()}


def chosen(value: str, given: Mapping[str, str]) -> str:
    """A value of the file, where these variables are set (documented: interpolation of Compose)."""

    def choose(named: "re.Match[str]") -> str:
        name, sign, other = named.groups()
        return other if name not in given or (sign == ":-" and not given[name]) else given[name]

    return re.sub(r"\$\{(\w+)(:?-)(.*?)\}", choose, value)


def proxied(
    program: str, services: Mapping[str, Any], folder: Path, given: Mapping[str, str]
) -> dict[str, str]:
    """The environment of the proxy: without a PATH it cannot change whom this system trusts."""
    listed = services["proxy"]["environment"].items()
    own = {key: chosen(value, given) for key, value in listed}
    hashed = run(program, "hash-password", "--plaintext", PASSWORD).strip()
    assert set(own) == {"WAN_HOST", "WAN_DOOR", "WAN_USER", "WAN_PASSWORD_HASH"}
    own.update({"WAN_USER": USER, "WAN_PASSWORD_HASH": hashed, **given})
    return {**own, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "PATH": ""}


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


def test_team_of_the_compose_file_pays_once_behind_tls_and_lets_no_stranger_in(team: Team) -> None:
    """Two equal calls, which the proxy gives to one replica each, are one payment (ours)."""
    video, image = team.dojo.links
    headers = {"authorization": team.authorization}
    with httpx.Client(verify=team.trusts, trust_env=False, timeout=HANG_SECONDS) as asking:
        ready = [asking.get(f"http://127.0.0.1:{port}/readyz") for port in (8765, 8766)]
        counted = [asking.get(f"http://127.0.0.1:{port}/metrics") for port in (9464, 9465)]
        stranger = asking.post("https://localhost/mcp", json={})
        paths = ("/metrics", "/readyz", "/livez", "/")
        hidden = [asking.get(f"https://localhost{path}", headers=headers) for path in paths]

    async def call_twice() -> list[dict[str, Any]]:
        job = {"video": video, "character_image": image, "seed": 1}
        async with Caller("https://localhost/mcp", headers=headers, trusts=team.trusts) as caller:
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
