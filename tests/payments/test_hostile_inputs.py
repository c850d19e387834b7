"""A paid request in the air, while the server looks at files that are made to stop it."""

from pathlib import Path

import anyio
import pytest

from tests.connected import connected
from tests.inputs.hostile import HOSTILE, PICTURES
from tests.inputs.test_markup import FREEZING
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.sandbox.http import faults
from wan_mcp.sandbox.http.faults import Fault
from wan_mcp.sandbox.http.message import Reply

pytestmark = pytest.mark.anyio

RUN = "/api/v1/models/wan-2.2-replace/run"
KINDS = {
    "comments": FREEZING["comments"],
    "hidden-table": HOSTILE["hidden-table"],
    "many-segments": PICTURES["many-segments"],
}

time, anyio_backend = in_virtual_time(0.0, sockets=True)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_paid_request_in_the_air_keeps_its_job_id(
    time: VirtualTime, tmp_path: Path, kind: str
) -> None:
    """The server stood still, and the answer with the id was lost (observed elsewhere)."""
    gate = anyio.Event()
    file = Fault(work=True, reply=Reply(200, {"Content-Type": "video/mp4"}, KINDS[kind]))
    async with connected(time, tmp_path, local=True) as host:
        host.sandbox.fault("POST", RUN, faults.held(faults.honest(), after=gate))
        sent = await host.call(
            "replace_character",
            video=host.sandbox.source_video_url,
            character_image=host.sandbox.image_url,
            seed=1,
        )
        host.sandbox.fault("GET", "/media/hostile", file, times=None)
        hostile = f"{host.sandbox.origin}/media/hostile"
        answer = await host.call("replace_character", video=hostile, character_image=hostile)
        meanwhile = await host.call("list_jobs")
        gate.set()
        found = await host.call("wait_for_job", job_id=sent["job_id"], timeout_seconds=900)
        (first, *_) = host.sandbox.charges

    assert sent["status"] == "submitting"
    assert answer["charged"] in ("no", "yes")
    assert meanwhile["jobs"]
    assert (found["status"], found["job_id"]) == ("completed", first.job_id)
