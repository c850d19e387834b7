# /// script
# dependencies = ["dbos>=3.4", "mcp>=2.3,<3"]
# ///
"""Makes a video in a durable workflow: DBOS goes on after a crash where it had stopped.

DBOS runs a step again if the program ended before the result of the step was recorded. Here that
costs nothing, also for the paid step: wan-mcp returns the existing job for the same call while the
job runs, and for 15 minutes after it is completed.

Usage: python durable_workflow.py VIDEO IMAGE
"""

import asyncio
import os
import sys

from dbos import DBOS, SetWorkflowID
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

SERVER = StdioServerParameters(command="wan-mcp", env=dict(os.environ))


async def ask(tool, arguments):
    """The answer of a tool, from a server that runs for this one call."""
    async with Client(SERVER) as client:
        return (await client.call_tool(tool, arguments)).structured_content


@DBOS.step()
async def call(tool, arguments):
    return await ask(tool, arguments)


@DBOS.workflow()
async def make_video(video, image):
    answer = await call("replace_character", {"video": video, "character_image": image})
    while answer.get("status") in ("queued", "submitting", "running"):
        answer = await call("wait_for_job", {"job_id": answer["job_id"]})
    return answer


async def main(video, image):
    DBOS(config={"name": "wan-mcp-example"})  # keeps its records in a SQLite file in this folder
    DBOS.launch()  # continues what an earlier run has left
    with SetWorkflowID(f"{video} {image}"):  # a second run finds the first one by this name
        workflow = await DBOS.start_workflow_async(make_video, video, image)
    answer = await workflow.get_result()
    print(answer["message"], answer.get("video_url", ""))
    DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
