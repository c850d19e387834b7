"""Has the host show the page for a PixelDojo key of the user's own, if it can open one.

The key never passes through the conversation. A host says on opening the page that its user has
agreed to that, and nothing of what came of it: whether there is a key shows when the same call
comes again. In revision 2026-07-28 the page is the answer to the call, which the host repeats by
itself, at once perhaps. So it is shown once, and then words say what to do.
"""

import secrets
from typing import Any

from mcp.server.mcpserver import Context
from mcp.shared.exceptions import UrlElicitationRequiredError
from mcp.types import ElicitRequest, ElicitRequestURLParams, InputRequiredResult

from wan_mcp.errors import WanError
from wan_mcp.surface.consent import STATELESS_REVISION

URL_REVISION = "2025-11-25"
"""The revision in which the page is an error of the protocol. Earlier ones know no pages."""
QUESTION = "own_key"
_MESSAGE = (
    "You have no PixelDojo key on this server yet, so nothing was sent. Store your own on this "
    "page, where you also show who you are: you sign in, or bring your token of this server. Give "
    "neither key nor token to the assistant."
)


def page_for_key(context: Context[Any, Any], failure: WanError) -> InputRequiredResult | None:
    """The question with which the host opens the page; None if words have to name it.

    Args:
        failure: that of the call.

    Raises:
        UrlElicitationRequiredError: the same in revision 2025-11-25.
    """
    elicitation = context.client_capabilities and context.client_capabilities.elicitation
    if failure.key_page is None or not elicitation or elicitation.url is None:
        return None
    page = ElicitRequestURLParams(message=_MESSAGE, url=failure.key_page)
    if context.protocol_version == URL_REVISION:
        page.elicitation_id = secrets.token_hex(16)
        raise UrlElicitationRequiredError([page], _MESSAGE)
    if context.protocol_version != STATELESS_REVISION or QUESTION in (
        context.input_responses or {}
    ):
        return None
    return InputRequiredResult(input_requests={QUESTION: ElicitRequest(params=page)})
