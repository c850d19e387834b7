"""Where our errors become the protocol's, outside of the tools, which answer with data instead."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS

from wan_mcp.errors import NotFound, WanError
from wan_mcp.surface.calls import Call, OpenCall

Asked = ServerRequestContext[Any, Any]

JOBS = "wan://jobs"
"""The jobs as a resource; under it, each by its id."""

logger = logging.getLogger(__name__)


@contextmanager
def in_words(**data: str) -> Iterator[None]:
    """Turns what goes wrong within it into an error that says what to do.

    An unexpected exception is logged and not told: to a host of a handshake revision the SDK
    would send its text (observed).

    Args:
        data: what the error names besides, as `uri`.
    """
    try:
        yield
    except MCPError:
        raise
    except WanError as failure:
        code = INVALID_PARAMS if isinstance(failure, NotFound) else INTERNAL_ERROR
        words = f"{failure.what} {failure.next_step}"
        raise MCPError(code, words, data or None) from failure
    except Exception as broken:
        logger.exception("an answer broke")
        words = "This hit a defect of wan-mcp; the server's log has the details."
        raise MCPError(INTERNAL_ERROR, words, data or None) from broken


def opened(open_call: OpenCall, asked: Asked) -> Call:
    """What the caller of a request works with. Raises NoKey."""
    call = open_call(Context(request_context=asked))
    call.jobs.require_key()  # without a key there is no account whose jobs to tell of
    return call
