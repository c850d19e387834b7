"""Serves the gallery until Ctrl-C, or until the terminal closes."""

from collections.abc import Callable

import anyio
import uvicorn

from wan_mcp.cli.gallery.listing import Listing
from wan_mcp.cli.gallery.site import Site
from wan_mcp.cli.jobs.own_ledger import OwnLedger
from wan_mcp.transports.listener import listen

HOST = "127.0.0.1"
LAST_ANSWER_SECONDS = 1
"""How long an answer may still take when the command ends (ours)."""


def show_gallery(
    ledger: OwnLedger, say: Callable[[str], object], open: Callable[[str], bool]
) -> int:
    """Serve the gallery on a free port of this machine, and open it in the user's browser.

    Args:
        say: shows a line.
        open: opens a link with the system, and returns whether that was possible.

    Raises:
        OSError: no port can be used; the text is a sentence.
        KeyboardInterrupt: the user pressed Ctrl-C.
    """
    with listen(HOST, 0) as listener:
        address = listener.getsockname()[1]
        site = Site(Listing(ledger), address)
        link = f"http://{HOST}:{address}{site.path}"
        config = uvicorn.Config(
            site.app(),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,  # it would contain the token
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=LAST_ANSWER_SECONDS,
        )
        server = uvicorn.Server(config)

        async def serve() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.to_thread.run_sync, announce)
                await server.serve(sockets=[listener])

        def announce() -> None:
            say(f"Your videos: {link}")
            say("They can be seen with this link only. It works until you press Ctrl-C here.")
            if not open(link):
                say("No browser was found: open the link yourself.")

        anyio.run(serve)
    return 0
