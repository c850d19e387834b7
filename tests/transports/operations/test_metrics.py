"""Metrics: what is counted, what is never shown, and who may ask."""

import json
import math
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

pytest.importorskip("prometheus_client", reason="the extra metrics")

from mcp.client import Client
from prometheus_client.parser import text_string_to_metric_families

from tests.connected import EPOCH, KEY, TERMS
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.cli import http_server
from wan_mcp.logs import facts
from wan_mcp.logs.facts import Figures
from wan_mcp.sandbox import Sandbox
from wan_mcp.sandbox.http import faults
from wan_mcp.server import RunningServer, build_server
from wan_mcp.settings import Settings
from wan_mcp.transports.operations.metrics import Metrics
from wan_mcp.transports.operations.operators import Operators
from wan_mcp.transports.operations.port import listen_for_operators
from wan_mcp.transports.operations.readiness import Readiness

pytestmark = pytest.mark.anyio
time, anyio_backend = in_virtual_time(sockets=True)
SIGNATURE = "SIGNED_7d1e0b93"
DASHBOARD = Path(__file__).parents[3] / "docs" / "deploy" / "grafana-dashboard.json"


class Counted:
    """A real server whose operators have a port of their own."""

    def __init__(self, client: Client, sandbox: Sandbox, url: str) -> None:
        self.client = client
        self.sandbox = sandbox
        self.url = url

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return (await self.client.call_tool(tool, arguments)).structured_content or {}

    async def start(self, **more: object) -> dict[str, Any]:
        video = f"{self.sandbox.source_video_url}?sig={SIGNATURE}"
        image = self.sandbox.image_url
        return await self.call("replace_character", video=video, character_image=image, **more)

    async def text(self) -> str:
        async with httpx.AsyncClient(trust_env=False, timeout=600) as asking:
            answer = await asking.get(f"{self.url}/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=")
        return answer.text

    async def samples(self) -> dict[str, float]:
        return samples(await self.text())


def samples(text: str) -> dict[str, float]:
    """Each sample, by its name and the values of its labels."""
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@asynccontextmanager
async def counted(time: VirtualTime, data: Path, **more: str) -> AsyncIterator[Counted]:
    running = RunningServer()
    async with Sandbox(TERMS, clock=time.monotonic, epoch=EPOCH) as sandbox:
        given = {
            "PIXELDOJO_API_BASE": sandbox.api_base,
            "PIXELDOJO_API_KEY": KEY,
            "WAN_MCP_DATA_DIR": str(data),
            "WAN_MCP_MAX_CREDITS_PER_DAY": "1000",
            **more,
        }
        server = build_server(
            Settings.read(given, data.parent), clock=time.clock(), running=running
        )
        port = listen_for_operators("127.0.0.1", 0)
        url = f"http://127.0.0.1:{port.getsockname()[1]}"
        operators = Operators(running, port)
        readiness = Readiness(running, lambda: False, time.monotonic)
        async with operators.own_port(readiness), Client(server) as client:
            yield Counted(client, sandbox, url)


@pytest.fixture
async def server(time: VirtualTime, tmp_path: Path) -> AsyncIterator[Counted]:
    async with counted(time, tmp_path / "data") as server:
        yield server


async def test_job_is_counted_from_its_call_to_its_cost(server: Counted) -> None:
    """What a dashboard shows is what happened (ours)."""
    job = await server.start(seed=1)
    seen = await server.samples()

    assert seen["wan_mcp_submits_total accepted"] == 1
    assert seen["wan_mcp_calls_total ok replace_character"] == 1
    assert seen["wan_mcp_jobs accepted"] == 1
    assert seen["wan_mcp_credits_total"] == seen["wan_mcp_credits_spent_day"] == job["credit_cost"]
    assert seen["wan_mcp_credits_limit_day"] == 1000
    assert seen["wan_mcp_vendor_request_seconds_count /models/{model}/run 2xx"] == 1
    assert seen["wan_mcp_vendor_limit_per_minute"] > 0
    assert seen["wan_mcp_ledger_seconds_count"] > 3
    assert (seen["wan_mcp_ready"], seen["wan_mcp_ledger_known"]) == (1, 1)
    assert (seen["wan_mcp_payments_open"], seen["wan_mcp_ledger_errors_total"]) == (0, 0)


async def test_ledger_in_a_database_is_shown_like_any_other(
    time: VirtualTime, tmp_path: Path, database: str
) -> None:
    """Also how long its work waited for a connection, and that none waits now (ours)."""
    async with counted(time, tmp_path / "data", WAN_MCP_LEDGER_URL=database) as server:
        job = await server.start(seed=1)
        seen = await server.samples()
        text = await server.text()

    assert (seen["wan_mcp_ready"], seen["wan_mcp_ledger_known"]) == (1, 1)
    assert seen["wan_mcp_jobs accepted"] == 1
    assert seen["wan_mcp_credits_spent_day"] == job["credit_cost"]
    assert seen["wan_mcp_ledger_wait_seconds_count"] == seen["wan_mcp_ledger_seconds_count"] > 3
    assert seen["wan_mcp_ledger_work_open"] == 0
    assert database.partition("host=")[2] not in text


async def test_work_that_waits_for_the_ledger_is_counted_until_it_ends(server: Counted) -> None:
    """Many that wait mean a database that is too slow, or too many callers (ours)."""
    await server.start(seed=1)
    (metrics,) = facts.listeners
    assert isinstance(metrics, Metrics)
    metrics.asked_ledger()
    during = (await server.samples())["wan_mcp_ledger_work_open"]
    metrics.used_ledger(0.1, waited=3.0, failed=True)
    after = await server.samples()

    assert (during, after["wan_mcp_ledger_work_open"]) == (1, 0)
    assert after["wan_mcp_ledger_wait_seconds_sum"] >= 3


async def test_request_without_an_answer_is_counted_as_unknown(server: Counted) -> None:
    """An operator has to hear of it: it may have been charged (ours)."""
    server.sandbox.fault("POST", "/api/v1/models/*/run", faults.dropped(work=True))
    server.sandbox.fault("GET", "/api/v1/jobs", faults.status(500), times=None)  # it is not found
    await server.start(seed=1)
    seen = await server.samples()

    assert seen["wan_mcp_submits_total outcome_unknown"] == 1
    assert seen["wan_mcp_vendor_request_seconds_count /models/{model}/run none"] == 1
    assert seen["wan_mcp_jobs unknown"] == 1


async def test_waits_are_counted_while_they_last(time: VirtualTime, server: Counted) -> None:
    """Their number is the load of a replica (ours)."""
    job_id = (await server.start())["job_id"]
    async with anyio.create_task_group() as calls:
        for _ in range(3):
            calls.start_soon(lambda: server.call("wait_for_job", job_id=job_id, timeout_seconds=20))
        await anyio.sleep(10)  # virtual time
        during = (await server.samples())["wan_mcp_waiters"]
    after = (await server.samples())["wan_mcp_waiters"]

    assert (during, after) == (3, 0)


async def test_refused_call_is_counted_by_its_code(server: Counted) -> None:
    """Many refusals by a limit are a reason to look at the limit (ours)."""
    await server.call("get_job_status", job_id="job_none")
    await server.call("replace_character", video="no link")
    seen = await server.samples()

    assert seen["wan_mcp_calls_total not_found get_job_status"] == 1
    assert seen["wan_mcp_calls_total invalid_arguments replace_character"] == 1


async def test_metrics_show_no_key_no_link_no_job_and_no_name(server: Counted) -> None:
    """Who may read them is often not who may read those (ours)."""
    job_id = (await server.start())["job_id"]
    await server.call("wait_for_job", job_id=job_id, timeout_seconds=1)
    await server.call(f"tool_{SIGNATURE}")
    await server.call("wait_for_job", job_id=f"{job_id}x")
    text = await server.text()

    assert "wan_mcp_submits_total" in text
    for secret in (KEY, SIGNATURE, job_id, server.sandbox.origin, "http://", "https://"):
        assert secret not in text


async def test_hundred_scrapes_at_once_read_the_ledger_once(server: Counted) -> None:
    """They must not keep payments from the ledger's thread (ours)."""
    await server.start()
    before = (await server.samples())["wan_mcp_ledger_seconds_count"]
    answers: list[str] = []

    async def scrape() -> None:
        answers.append(await server.text())

    async with anyio.create_task_group() as scrapers:
        for _ in range(100):
            scrapers.start_soon(scrape)

    assert len(answers) == 100
    # One look at the readiness, and one at the figures, of four pieces of work together.
    assert samples(answers[-1])["wan_mcp_ledger_seconds_count"] - before <= 5


async def test_nothing_is_counted_for_nobody(tmp_path: Path, time: VirtualTime) -> None:
    """A person's own server has no port for metrics (ours)."""
    async with counted(time, tmp_path / "data"):
        assert len(facts.listeners) == 1

    assert facts.listeners == []


def test_package_for_metrics_is_not_imported_unless_they_are_shown() -> None:
    """Most servers count nothing, and it is an extra (ours)."""
    code = (
        "import sys, wan_mcp.cli.http_server, wan_mcp.app.app, wan_mcp.jobs; "
        "print('prometheus_client' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "False"


def test_metrics_without_their_package_stop_the_start_in_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Somebody who wants to watch must not find out later that nothing was counted (ours)."""
    monkeypatch.setattr(http_server, "find_spec", lambda name: None)
    settings = Settings.read({"WAN_MCP_METRICS_PORT": "9464"}, tmp_path)

    with pytest.raises(OSError, match=r"needs the extra metrics: pip install 'wan-mcp\[metrics\]'"):
        http_server._own_port(settings)


@pytest.mark.parametrize(("host", "why"), [("127.0.0.1", "in use"), ("203.0.113.9", "not of this")])
def test_port_that_cannot_be_used_is_refused_in_a_sentence(host: str, why: str) -> None:
    """The caller prints it (ours)."""
    with listen_for_operators("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            OSError, match=rf"Cannot listen on {host} port {port} for metrics: .*{why}"
        ):
            listen_for_operators(host, port)


# The dashboard


async def exported() -> set[str]:
    """The name of every sample that there can be."""

    async def figures() -> Figures:
        return Figures(True, {"accepted": 1})

    metrics = Metrics(figures, Readiness(RunningServer(), lambda: False))
    metrics.called("list_jobs", "ok")
    metrics.submitted("accepted", 1.0)
    metrics.exchanged("/jobs/{job_id}", 200, 0.1)
    return {name.split(" ")[0] for name in samples((await metrics.text()).decode())}


async def test_dashboard_asks_only_for_what_is_exported() -> None:
    """A graph of a name that is gone stays empty, and nobody notices (ours)."""
    names = await exported()
    board = json.loads(DASHBOARD.read_text("utf-8"))
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked = {name for query in queries for name in re.findall(r"(?:wan_mcp|process)_\w+", query)}

    assert len(asked) > 15
    assert asked - names - ({"process_resident_memory_bytes", "process_cpu_seconds_total"}) == set()
    assert not [query for query in queries if query.count("(") != query.count(")")]


async def test_dashboard_shows_every_metric_of_ours() -> None:
    """What is counted and never looked at costs without a use (ours)."""
    board = DASHBOARD.read_text("utf-8")
    families = {
        re.sub(r"_(total|created|bucket|sum|count)$", "", each) for each in await exported()
    }

    unseen = {each for each in families if each.startswith("wan_mcp_") and each not in board}
    assert unseen == {"wan_mcp_info", "wan_mcp_ledger_known"}


async def test_page_for_operators_names_every_metric_and_no_other() -> None:
    """An alert on a name that is gone never fires (ours)."""
    page = (DASHBOARD.parents[1] / "operations.md").read_text("utf-8")
    lasting = {each for each in await exported() if not each.endswith("_created")}
    families = {re.sub(r"_(bucket|sum|count)$", "", each) for each in lasting}

    named = set(re.findall(r"wan_mcp_\w+", page))
    assert named == {each for each in families if each.startswith("wan_mcp_")} - {"wan_mcp_info"}


async def test_figure_that_is_not_known_is_no_zero() -> None:
    """An alert on a balance of 0 must not fire while the ledger cannot be read (ours)."""

    async def figures() -> Figures:
        raise ValueError("broken")

    metrics = Metrics(figures, Readiness(RunningServer(), lambda: True))
    seen = samples((await metrics.text()).decode())

    assert math.isnan(seen["wan_mcp_credits_balance"])
    assert (seen["wan_mcp_ready"], seen["wan_mcp_ledger_known"]) == (0, 0)
