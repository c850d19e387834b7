"""The queries of the dashboard and of the alerts, asked at a real Prometheus."""

import math
import re
from pathlib import Path

import anyio
import pytest

pytest.importorskip("prometheus_client", reason="the extra metrics")

from tests.connected import EPOCH
from tests.deployment.prometheus import DASHBOARD, panels, program, prometheus, store
from tests.transports.operations.test_metrics import Counted, counted
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.sandbox.http import faults

pytestmark = pytest.mark.anyio
time, anyio_backend = in_virtual_time(sockets=True)
OPERATIONS = DASHBOARD.parents[1] / "operations.md"
EVERY = 15.0
"""How often Prometheus would read the metrics, in seconds."""
JOBS = 6
COMPARED = re.compile(r" ([<>]) ")
UNKNOWN = 'max(wan_mcp_jobs{state="unknown"}) > 0'
"""The alert that has a reason here."""


async def worked(server: Counted, time: VirtualTime) -> list[tuple[float, str]]:
    """Make jobs for some minutes, and lose one. Returns what Prometheus would have read."""
    scrapes: list[tuple[float, str]] = []
    async with anyio.create_task_group() as reading:

        async def read() -> None:
            while True:
                scrapes.append((EPOCH + time.monotonic(), await server.text()))
                await anyio.sleep(EVERY)

        reading.start_soon(read)
        for seed in range(JOBS):
            job = await server.start(seed=seed)
            await server.call("wait_for_job", job_id=job["job_id"], timeout_seconds=55)
            await anyio.sleep(EVERY)
        server.sandbox.fault("POST", "/api/v1/models/*/run", faults.dropped(work=True))
        server.sandbox.fault("GET", "/api/v1/jobs", faults.status(500), times=None)
        lost = await server.start(seed=JOBS)
        # On a slow machine the call has been answered before the answer of PixelDojo is lost.
        await server.call("wait_for_job", job_id=lost["job_id"], timeout_seconds=55)
        await anyio.sleep(2 * EVERY)
        reading.cancel_scope.cancel()
    return scrapes


def alerts() -> list[str]:
    """The alerts of docs/operations.md."""
    lines = OPERATIONS.read_text("utf-8").splitlines()
    firsts = [line.split("`")[1] for line in lines if line.startswith("| `")]
    return [each for each in firsts if COMPARED.search(each)]


async def test_every_query_of_the_dashboard_and_of_the_alerts_finds_figures(
    time: VirtualTime, tmp_path: Path
) -> None:
    """Prometheus refuses a wrong query, and answers one that finds nothing with nothing (ours)."""
    program("prometheus")
    async with counted(time, tmp_path / "data") as server:
        scrapes = await worked(server, time)
    store(tmp_path, scrapes)
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    # Compared so, what does not fire has a figure, too: 0.
    fires = {alert: COMPARED.sub(r" \1 bool ", alert) for alert in alerts()}
    with prometheus(tmp_path) as asked:
        queries = [*shown, *fires.values()]
        series = {query: asked.at(query, scrapes[-1][0]) for query in queries}
    values = {query: [float(each["value"][1]) for each in series[query]] for query in queries}

    assert (len(shown), len(fires)) == (24, 8)
    assert not [query for query in queries if not values[query] or math.isnan(sum(values[query]))]
    assert [alert for alert, query in fires.items() if any(values[query])] == [UNKNOWN]
