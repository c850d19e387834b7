"""The measure of the benches: the least that a server of one tool costs with this SDK.

With an address and a key as arguments its tool makes the one GET that looking at a job is.
"""

import sys

from mcp.server.mcpserver import MCPServer

server = MCPServer("bare", log_level="ERROR")


async def idle(job_id: str) -> str:
    """Do nothing."""
    return job_id


def reader(api_base: str, key: str) -> None:
    """Give the server the tool that asks the vendor."""
    import httpx  # a server that never asks anybody would not import it either

    client = httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"})

    @server.tool()
    async def get_job_status(job_id: str) -> str:
        """Ask the vendor and pass on what it said."""
        return (await client.get(f"{api_base}/jobs/{job_id}")).text


if len(sys.argv) > 1:
    reader(*sys.argv[1:])
else:
    server.add_tool(idle, name="get_job_status")
server.run("stdio")
