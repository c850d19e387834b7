# /// script
# dependencies = ["mcp>=2.3,<3"]
# ///
"""Makes one video in two steps: the result of the first job is the source of the second.

So two people of a video are replaced one after the other. Inputs are links, or full paths of files
(how these reach PixelDojo is in docs/files.md). Run again soon, it gets the same jobs and pays for
none of them a second time.

Usage: python two_steps.py VIDEO FIRST_IMAGE SECOND_IMAGE
"""

import os
import sys

import anyio
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters


async def make(client, **inputs):
    """One video, from the payment to the last answer about it."""
    answer = (await client.call_tool("replace_character", inputs)).structured_content
    while answer.get("status") in ("queued", "submitting", "running"):
        job = {"job_id": answer["job_id"]}
        answer = (await client.call_tool("wait_for_job", job)).structured_content
    return answer


async def chain(client, video, images):
    """The answer about the last video, or about the first one that could not be made."""
    for image in images:
        answer = await make(client, video=video, character_image=image, video_duration=3)
        print(answer["message"], answer["next"])
        if answer.get("status") != "completed":
            break
        video = f"wan://jobs/{answer['job_id']}/video"
    return answer


async def main(video, *images):
    server = StdioServerParameters(command="wan-mcp", env=dict(os.environ))
    async with Client(server) as client:
        await chain(client, video, images)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
