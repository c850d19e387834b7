# /// script
# dependencies = ["mcp>=2.3,<3"]
# ///
"""Makes 20 takes of one video with the official Python client: 20 calls at once, and one wait.

What the limits have no room for yet waits in the server's queue, at no cost. What a limit refuses
is printed with the reason. Run again within 15 minutes of that, it pays only for what is missing.

Usage: python twenty_videos.py VIDEO IMAGE
"""

import asyncio
import os
import sys

from mcp.client import Client
from mcp.client.stdio import StdioServerParameters


async def make_all(client, video, image, seeds):
    """How each job ended, and the answers about those that were not started."""

    async def call(tool, **arguments):
        return (await client.call_tool(tool, arguments)).structured_content

    order = {"video": video, "character_image": image}
    calls = [call("replace_character", **order, seed=seed) for seed in seeds]
    answers = await asyncio.gather(*calls)
    ids = [answer["job_id"] for answer in answers if "job_id" in answer]
    waited = {"jobs": [], "pending": len(ids)}
    while waited["pending"]:
        waited = await call("wait_for_job", job_id=" ".join(ids), timeout_seconds=900)
    return waited["jobs"], [answer for answer in answers if "job_id" not in answer]


async def main(video, image):
    server = StdioServerParameters(command="wan-mcp", env=dict(os.environ))
    async with Client(server) as client:
        jobs, refused = await make_all(client, video, image, seeds=range(1, 21))
    for job in jobs:
        print(job.get("seed"), job.get("status"), job.get("video_url") or job.get("saved_path", ""))
    for answer in refused:
        print(answer["message"], answer["next"])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
