"""uvicorn as this program uses it: h11, quiet, and without its own handling of signals."""

import contextlib
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp


def quiet_config(app: ASGIApp) -> uvicorn.Config:
    """How every port of this program is served."""
    return uvicorn.Config(
        app,
        http="h11",  # it comes with mcp, whatever else is installed
        ws="none",
        lifespan="off",  # entered elsewhere, where its errors reach the caller
        log_config=None,  # the root logger's handlers: stderr
        log_level="warning",
        access_log=False,  # it would contain URLs with their queries
        proxy_headers=False,
        server_header=False,
    )


class WebServer(uvicorn.Server):
    """uvicorn without its signal handlers, which would raise the signal again at the end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave every signal to `shutdown`."""
        yield
