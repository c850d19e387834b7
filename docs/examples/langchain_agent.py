# /// script
# dependencies = ["langchain>=1.5", "langchain-mcp-adapters>=0.3", "langchain-openai"]
# ///
"""An agent of LangChain makes a video.

Usage: python langchain_agent.py VIDEO IMAGE
"""

import asyncio
import os
import sys

from langchain.agents import create_agent
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.tools import load_mcp_tools
from langchain_openai import ChatOpenAI

TASK = "Put the person of {image} into {video}, 3 seconds. Wait for the video, and show its link."


async def main(video, image):
    server = {"transport": "stdio", "command": "wan-mcp", "args": [], "env": dict(os.environ)}
    client = MultiServerMCPClient({"wan-mcp": server})
    async with client.session("wan-mcp") as session:  # one server for the whole conversation
        agent = create_agent(ChatOpenAI(model="gpt-5-mini"), await load_mcp_tools(session))
        task = TASK.format(video=video, image=image)
        answer = await agent.ainvoke({"messages": [{"role": "user", "content": task}]})
    print(answer["messages"][-1].text)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
