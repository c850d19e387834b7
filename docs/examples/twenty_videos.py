# /// script
# dependencies = ["mcp>=2.3,<3"]
# ///
"""Makes 20 takes of one video, three at a time, with the official Python client.

Usage: python twenty_videos.py VIDEO IMAGE
"""

import os
import sys

import anyio
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

AT_ONCE = 3  # as many as WAN_MCP_MAX_IN_FLIGHT allows


async def call(client, tool, **arguments):
    """The answer of a tool. A call is repeated only if the answer says that this is safe."""
    while True:
        answer = (await client.call_tool(tool, arguments)).structured_content
        if not answer.get("retry_safe"):
            return answer
        await anyio.sleep(answer.get("retry_after_seconds", 10))


async def make(client, **inputs):
    """One video, from the payment to the last answer about it."""
    answer = await call(client, "replace_character", **inputs)
    while answer.get("status") in ("queued", "submitting", "running"):
        answer = await call(client, "wait_for_job", job_id=answer["job_id"])
    return answer


async def make_all(client, video, image, seeds):
    """All videos, by seed. Run again within 15 minutes, it pays only for what is missing."""
    answers, places = {}, anyio.CapacityLimiter(AT_ONCE)

    async def one(seed):
        async with places:
            answers[seed] = await make(client, video=video, character_image=image, seed=seed)
            print(seed, answers[seed]["message"], answers[seed].get("video_url", ""))

    async with anyio.create_task_group() as tasks:
        for seed in seeds:
            tasks.start_soon(one, seed)
    return answers


async def main(video, image):
    server = StdioServerParameters(command="wan-mcp", env=dict(os.environ))
    async with Client(server) as client:
        await make_all(client, video, image, seeds=range(1, 21))


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
