"""Who reads an answer where people sign in, as far as that decides what they can do next."""

from contextlib import suppress

from wan_mcp.errors import NoKey
from wan_mcp.surface.answers.team_user import TeamUser
from wan_mcp.tenants.caller import IdentityUnknown
from wan_mcp.tenants.current import current_caller
from wan_mcp.tenants.directory import StoredDirectory
from wan_mcp.tenants.key_page import KeyPage


async def team_user(directory: StoredDirectory, page: KeyPage | None) -> TeamUser:
    """The caller of this request, who has no PixelDojo account unless one is known.

    Args:
        directory: knows whose wallet pays for them.
        page: where users store keys of their own; None where they cannot.
    """
    caller = current_caller()
    if caller is None:
        return TeamUser()
    with suppress(IdentityUnknown, NoKey):
        if (await directory.seat(caller.user)).is_own:
            return TeamUser(True, page.url if page and page.is_for(caller) else None)
    return TeamUser()
