"""What a crowd over HTTP is compared with: the smallest server of this SDK on which calls wait.

It listens at a free port of this computer, prints the address, and never answers a call.
"""

import asyncio
import socket

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("bare", log_level="ERROR")


@server.tool()
async def wait_for_job(job_id: str, timeout_seconds: float, context: Context) -> str:
    """Inform the client once, and wait for ever."""
    await context.report_progress(0, timeout_seconds)
    await asyncio.Event().wait()
    return job_id


def main() -> None:
    """Serve until killed."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listening:
        print(f"http://127.0.0.1:{listening.getsockname()[1]}/mcp", flush=True)
        app = server.streamable_http_app(stateless_http=True)
        uvicorn.Server(uvicorn.Config(app, log_level="error")).run([listening])


if __name__ == "__main__":
    main()
