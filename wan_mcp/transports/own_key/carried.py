"""What one browser carries from page to page while its user signs in: one cookie, sealed.

No other site or user can read it, make one, or let another browser send it. Any server of the team
opens what another one has sealed, so none has to remember who is signing in.
"""

import json
from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response

from wan_mcp.tenants.keys import KeyRing, NotOpened

SECONDS = 600
"""How long it is carried (ours): a user may have to look for a password, or for the key."""
_NAME = "wan-mcp-key"
_UNTIL = "until"


class Carried:
    """The cookie.

    Args:
        ring: seals it.
        site: the public address of the server.
        now: seconds since 1970.
    """

    def __init__(self, ring: KeyRing, site: str, now: Callable[[], float]) -> None:
        is_public = site.startswith("https:")
        # A browser takes one of this name only from this host, by TLS (documented: RFC 6265bis), so
        # that no neighbour of the host can put a cookie of theirs there.
        self._name = f"__Host-{_NAME}" if is_public else _NAME
        self._rules = f"Path=/; HttpOnly; SameSite=Lax{'; Secure' if is_public else ''}"
        self._ring = ring
        self._now = now

    def put(self, response: Response, purpose: str, content: Mapping[str, str]) -> None:
        """Have the browser carry this, and nothing else.

        Args:
            purpose: for which it is opened, and for no other one.
        """
        whole = {**content, _UNTIL: self._now() + SECONDS}
        self._set(response, self._ring.seal(json.dumps(whole), purpose), SECONDS)

    def take(self, request: Request, purpose: str) -> dict[str, str] | None:
        """What a browser carries for this purpose; None if it is nothing, or is too old."""
        try:
            opened = self._ring.open(self._value(request), purpose)
        except NotOpened:
            return None
        content: dict[str, str] = json.loads(opened)
        return content if self._now() < float(content.pop(_UNTIL)) else None

    def drop(self, response: Response) -> None:
        """Have the browser carry nothing any more."""
        self._set(response, "", 0)

    def _value(self, request: Request) -> str:
        """The value of the cookie; "" if there is none, or more than one of this name.

        The name has to be exactly this one. Browsers let a neighbour of the host set a cookie whose
        name has one more character in front, such as a no-break space (observed: Chromium), and
        Starlette, which strips that, would take it for ours.
        """
        given = ";".join(request.headers.getlist("cookie")).split(";")
        pairs = [each.strip(" \t").partition("=") for each in given]
        values = [value for name, _, value in pairs if name == self._name]
        return values[0] if len(values) == 1 else ""

    def _set(self, response: Response, value: str, seconds: int) -> None:
        # Not by `set_cookie`, which would put what is in Base64 between quotation marks.
        cookie = f"{self._name}={value}; Max-Age={seconds}; {self._rules}"
        response.headers.append("set-cookie", cookie)
