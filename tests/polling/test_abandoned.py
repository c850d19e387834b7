"""A request whose process died before it sent it: whoever asks for it learns that soon."""

from pathlib import Path
from unittest.mock import patch

import anyio
import pytest

from tests.connected import KEY, Host, connected
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.ledger.sqlite.engine import SQLiteLedger
from wan_mcp.ledger.sqlite.liveness import ProcessLock
from wan_mcp.models import Replacement
from wan_mcp.payments.reconciliation import IDLE_SECONDS
from wan_mcp.polling.job_reader import STUCK_SECONDS

pytestmark = pytest.mark.anyio
time, anyio_backend = in_virtual_time(sockets=True)


async def abandoned(host: Host, data: Path, time: VirtualTime) -> str:
    """The submission id of a request that another process has claimed before it was killed."""
    await host.call("list_jobs")  # the server looks for such requests now, and then every 30 s
    other = SQLiteLedger(data / "ledger", now=time.wall)
    account = await other.account(host.sandbox.api_base, KEY)
    wanted = Replacement(
        video=host.sandbox.source_video_url, character_image=host.sandbox.image_url
    )
    claim = await other.claim(account, wanted, generated_seed=1, estimate=10.0)
    with patch.object(ProcessLock, "release", ProcessLock.drop_inherited):
        await other.aclose()
    return claim.record.submission_id


async def test_status_of_a_request_whose_process_died_is_known_when_it_is_asked_for(
    time: VirtualTime, tmp_path: Path
) -> None:
    """Not only when the next regular look comes (ours)."""
    async with connected(time, tmp_path) as host:
        id = await abandoned(host, tmp_path, time)
        early = await host.call("get_job_status", job_id=id)
        await anyio.sleep(STUCK_SECONDS)  # virtual time
        late = await host.call("get_job_status", job_id=id)

    assert (early["status"], late["status"]) == ("submitting", "not_sent")
    assert STUCK_SECONDS < IDLE_SECONDS


async def test_wait_for_a_request_whose_process_died_ends(
    time: VirtualTime, tmp_path: Path
) -> None:
    """It was never sent, so there is nothing to wait for (ours)."""
    async with connected(time, tmp_path) as host:
        id = await abandoned(host, tmp_path, time)
        began = time.monotonic()
        ended = await host.call("wait_for_job", job_id=id, timeout_seconds=IDLE_SECONDS - 2)

    assert ended["status"] == "not_sent"
    assert time.monotonic() - began < IDLE_SECONDS - 2
