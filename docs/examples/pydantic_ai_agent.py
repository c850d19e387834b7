# /// script
# dependencies = ["pydantic-ai-slim[mcp,openai]>=2.68"]
# ///
"""An agent of Pydantic AI makes a video.

Usage: python pydantic_ai_agent.py VIDEO IMAGE
"""

import asyncio
import os
import sys

from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset

TASK = "Put the person of {image} into {video}, 3 seconds. Wait for the video, and show its link."


async def main(video, image):
    server = StdioTransport(command="wan-mcp", args=[], env=dict(os.environ))
    # "failed" shows the model each answer of a call that went wrong, which says what to do next.
    # On a busy computer, the start may take longer than the default, 5 s.
    tools = MCPToolset(server, tool_error_behavior="failed", init_timeout=60)
    agent = Agent("openai:gpt-5-mini", toolsets=[tools])
    async with agent:
        answer = await agent.run(TASK.format(video=video, image=image))
    print(answer.output)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
