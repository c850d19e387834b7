"""The image of docs/deploy/Dockerfile, run by podman as a careful operator runs it.

`.ci/run deploy` builds it, and says in TESTED_IMAGE with which options podman finds it.
"""

import base64
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.ledger.stores import HANG_SECONDS
from tests.postgres import server as rig
from tests.postgres.needs import missing
from tests.replicas.caller import Caller
from tests.storm.vendor import pixeldojo
from wan_mcp.front_desk.health import ALIVE_PATH, READY_PATH

PORT = 8765
METRICS_PORT = 9464
URL = f"http://127.0.0.1:{PORT}"
CAREFUL = [
    *("--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp"),
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
]
"""As docs/deploy/compose.yaml has it."""
HERE = [
    *("--network", "host", "--runtime", "crun", "--cgroups", "disabled"),
    *("--ulimit", "nofile=1024:4096", "--ulimit", "nproc=1000:1000"),
]
"""What podman needs where the tests run: neither bridges nor cgroups nor higher limits."""
SURVEY = """
import json, os
found = [
    os.path.join(top, name)
    for top, folders, files in os.walk("/")
    if not top.startswith(("/proc", "/sys", "/dev"))
    for name in [*folders, *files]
    if not os.path.islink(path := os.path.join(top, name)) and os.access(path, os.W_OK)
]
print(json.dumps({"user": os.getuid(), "group": os.getgid(), "written": found}))
"""


@pytest.fixture
def podman() -> list[str]:
    """The program, and where it finds the image."""
    options = os.environ.get("TESTED_IMAGE")
    if options is None:
        missing("image", "the image: bash .ci/run deploy")
    return ["podman", *options.split(), "--cgroup-manager", "cgroupfs"]


def run(*command: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=HANG_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@contextmanager
def container(podman: Sequence[str], *options: str) -> Iterator[str]:
    """A container of the image that serves HTTP. Yields its id once it answers."""
    begin = [*podman, "run", "--detach", *CAREFUL, *HERE, *options, "wan-mcp"]
    started = run(*begin, "http", "--port", str(PORT))
    try:
        wait_for(ALIVE_PATH)
        yield started
    finally:
        run(*podman, "rm", "--force", "--volumes", started)


def wait_for(path: str, status: int = 200) -> httpx.Response:
    """The answer with a status, which is asked for until it comes."""
    end = time.monotonic() + HANG_SECONDS
    while time.monotonic() < end:
        try:
            answer = httpx.get(URL + path, trust_env=False, timeout=HANG_SECONDS)
        except httpx.TransportError:
            continue
        if answer.status_code == status and b"still starting" not in answer.content:
            return answer
    pytest.fail(f"no {status} at {path}")


KEY = "PIXELDOJO_API_KEY=pd_sandbox"
SECRETS = "/run/secrets"
OPERATOR = (
    "team add Blue",
    f"wallet add blue --team Blue --key-file {SECRETS}/key",
    "user add Ann --team Blue",
    "limits set --user Ann --credits-per-day 15",
)
"""What an operator types at the image, each after `wan-mcp admin`."""
NO_DATABASE = "WAN_MCP_LEDGER_URL=postgresql://127.0.0.1:1/wan"


@pytest.mark.parametrize(
    ("settings", "lacks"),
    [([], "key"), (["--env", KEY, "--env", NO_DATABASE], "ledger")],
    ids=["no key", "no database"],
)
def test_container_that_lacks_something_lives_and_is_not_ready(
    podman: list[str], settings: list[str], lacks: str
) -> None:
    """What is missing is named, and a supervisor does not start it again and again (ours)."""
    with container(podman, *settings):
        missing = wait_for(READY_PATH, 503).json()["missing"]
        alive = wait_for(ALIVE_PATH)

    assert set(missing) == {lacks}
    assert alive.json() == {"status": "ok"}


def test_container_writes_its_data_folder_alone_and_ends_when_it_is_asked_to(
    podman: list[str], tmp_path: Path
) -> None:
    """No root, a root file system that nobody can write, and an end with code 0 (ours)."""
    (tmp_path / "key").write_text("pd_sandbox")
    (tmp_path / "key").chmod(0o444)
    more = ["--volume", f"{tmp_path / 'key'}:/run/secrets/key:ro"]
    more += ["--env", "PIXELDOJO_API_KEY_FILE=/run/secrets/key"]
    more += ["--env", f"WAN_MCP_METRICS_PORT={METRICS_PORT}"]
    with container(podman, *more) as started:
        ready = wait_for(READY_PATH)
        metrics = httpx.get(f"http://127.0.0.1:{METRICS_PORT}/metrics", trust_env=False)
        healthy = run(*podman, "healthcheck", "run", started)
        seen = json.loads(run(*podman, "exec", started, "python", "-c", SURVEY))
        run(*podman, "kill", "--signal", signal.SIGTERM.name, started)
        code = run(*podman, "wait", started)
        said = run(*podman, "logs", started)

    assert ready.json() == {"status": "ready"}
    assert "wan_mcp_ready 1.0" in metrics.text
    assert (seen["user"], seen["group"]) == (10001, 10001)
    assert {"/data", "/tmp"} <= set(seen["written"])
    assert not [each for each in seen["written"] if not each.startswith(("/data", "/tmp"))]
    assert (healthy, code) == ("", "0")
    assert "Traceback" not in said


@pytest.fixture
def ledger_url(postgres: rig.Server) -> Iterator[str]:
    """The address of an empty database, as a container reaches it."""
    with rig.private_server(postgres) as server:
        server.start(address="127.0.0.1")
        yield f"postgresql://postgres@127.0.0.1:{rig.PORT}/postgres"


def test_team_is_made_served_and_charged_by_the_image_alone(
    podman: list[str], ledger_url: str, tmp_path: Path
) -> None:
    """Every command and the server are those of the image, with a real PostgreSQL (ours)."""
    secrets = {"key": "pd_sandbox", "ring": f"a {base64.b64encode(bytes(32)).decode()}"}
    for name, text in secrets.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o444)
    tmp_path.chmod(0o755)
    with pixeldojo([secrets["key"]], 0.0, seed=1) as dojo:
        settings = {
            "WAN_MCP_LEDGER_URL": ledger_url,
            "WAN_MCP_SIGN_IN": "tokens",
            "WAN_MCP_KEY_RING_FILE": f"{SECRETS}/ring",
            "PIXELDOJO_API_BASE": dojo.api_base,
        }
        given = [f"--env={name}={value}" for name, value in settings.items()]
        given.append(f"--volume={tmp_path}:{SECRETS}:ro")
        run(*podman, "run", "--rm", *CAREFUL, *HERE, *given, "wan-mcp", "admin", "migrate")
        with container(podman, *given) as started:
            typed = [*podman, "exec", started, "wan-mcp", "admin"]
            for command in OPERATOR:
                run(*typed, *command.split())
            token = run(*typed, "token", "add", "Ann").split()[0]
            ready = wait_for(READY_PATH)
            paid, refused = anyio.run(order_twice, token, dojo.links)
            audit = json.loads(run(*typed, "audit", "--json"))["audit"]
        charges, _ = dojo.paid()

    assert ready.json() == {"status": "ready"}
    assert (paid["charged"], refused["charged"]) == ("yes", "no")
    assert refused["code"] == "limit_reached"
    assert len(charges) == 1
    assert [row["target"] for row in audit if row["action"] == "job.buy"] == [paid["job_id"]]


async def order_twice(token: str, links: tuple[str, str]) -> list[dict[str, Any]]:
    """What the server says to two different requests, one after the other."""
    video, image = links
    headers = {"authorization": f"Bearer {token}"}
    async with Caller(f"{URL}/mcp", headers=headers) as caller:
        return [
            await caller.call("replace_character", video=video, character_image=image, seed=seed)
            for seed in (1, 2)
        ]
