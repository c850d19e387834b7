"""What the benches compare with: the smallest MCP server of one tool that this SDK permits.

With an API address and a key as arguments, its tool reads a job with one GET.
"""

import sys

from mcp.server.mcpserver import MCPServer

server = MCPServer("bare", log_level="ERROR")


async def idle(job_id: str) -> str:
    """Do nothing."""
    return job_id


def reader(api_base: str, key: str) -> None:
    """Add the tool that reads a job from PixelDojo."""
    import httpx  # here, because a server without requests would not import it

    client = httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"})

    @server.tool()
    async def get_job_status(job_id: str) -> str:
        """Read a job from PixelDojo and return the reply."""
        return (await client.get(f"{api_base}/jobs/{job_id}")).text


if len(sys.argv) > 1:
    reader(*sys.argv[1:])
else:
    server.add_tool(idle, name="get_job_status")
server.run("stdio")
