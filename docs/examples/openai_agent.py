# /// script
# dependencies = ["openai-agents>=0.24"]
# ///
"""An agent of the OpenAI Agents SDK makes a video.

Usage: python openai_agent.py VIDEO IMAGE
"""

import asyncio
import os
import sys

from agents import Agent, Runner
from agents.mcp import MCPServerStdio

TASK = "Put the person of {image} into {video}, 3 seconds. Wait for the video, and show its link."


async def main(video, image):
    server = MCPServerStdio(
        name="wan-mcp",
        params={"command": "wan-mcp", "env": dict(os.environ)},
        client_session_timeout_seconds=60,  # wait_for_job needs more than the default, 5 s
    )
    async with server:
        agent = Agent(name="Video maker", model="gpt-5-mini", mcp_servers=[server])
        answer = await Runner.run(agent, TASK.format(video=video, image=image), max_turns=30)
    print(answer.final_output)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
