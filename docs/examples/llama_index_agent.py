# /// script
# dependencies = ["llama-index-core", "llama-index-llms-openai", "llama-index-tools-mcp>=0.6"]
# ///
"""An agent of LlamaIndex makes a video.

LlamaIndex starts a new server for each call. The job is found all the same, by its id.

Usage: python llama_index_agent.py VIDEO IMAGE
"""

import asyncio
import os
import sys

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.openai import OpenAI
from llama_index.tools.mcp import BasicMCPClient, McpToolSpec

TASK = "Put the person of {image} into {video}, 3 seconds. Wait for the video, and show its link."


async def main(video, image):
    # wait_for_job needs more than the default, 30 s
    client = BasicMCPClient("wan-mcp", args=[], env=dict(os.environ), timeout=60)
    tools = await McpToolSpec(client).to_tool_list_async()
    agent = FunctionAgent(tools=tools, llm=OpenAI(model="gpt-5-mini"), streaming=False)
    print(await agent.run(TASK.format(video=video, image=image), max_iterations=30))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
