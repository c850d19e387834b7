"""The player: a page on which a host shows a job and plays its video (MCP Apps)."""

from html import escape
from importlib.resources import files
from urllib.parse import urlsplit

from mcp.server.apps import Apps, ResourceCsp
from mcp.server.mcpserver.resources import FunctionResource

PLAYER_URI = "ui://wan-mcp/player.html"
MIME_TYPE = "text/html;profile=mcp-app"
"""The type by which hosts recognise such a page (MCP Apps 2026-01-26)."""

MEDIA_ORIGIN = "https://temp.pixeldojo.ai"
"""Where PixelDojo keeps finished videos (documented in its examples)."""
_API_ORIGIN = "https://pixeldojo.ai"
_ORIGINS_PLACEHOLDER = "{{media-origins}}"


def media_origins(api_base: str, storage: str | None = None) -> list[str]:
    """The origins that the page loads videos from; the host's policy (CSP) allows no other.

    Args:
        api_base: the address of the API. Its origin is added when it is not PixelDojo's own: the
            sandbox keeps its videos there.
        storage: the origin of links to the user's own object storage; None if videos are not
            saved there.
    """
    base = urlsplit(api_base)
    own = f"{base.scheme}://{base.netloc.rpartition('@')[2]}"
    others = [own if own != _API_ORIGIN else None, storage]
    return [MEDIA_ORIGIN, *filter(None, others)]


def page(api_base: str, storage: str | None = None) -> str:
    """The page as HTML. It is the same for every job and holds no secret.

    It contains the origins, so that it does not try to load what its host would block.
    """
    html = files(__package__).joinpath("player.html").read_text("utf-8")
    return html.replace(_ORIGINS_PLACEHOLDER, escape(" ".join(media_origins(api_base, storage))))


def player_app(api_base: str, storage: str | None = None) -> Apps:
    """The extension that offers the page; the tools name the page in their `_meta`.

    Args:
        api_base, storage: as for `media_origins`.
    """
    csp = ResourceCsp(resource_domains=media_origins(api_base, storage))
    ui = {"csp": csp.model_dump(by_alias=True, exclude_none=True), "prefersBorder": True}
    apps = Apps()
    apps.add_resource(
        FunctionResource(
            uri=PLAYER_URI,
            name="player",
            title="Player",
            mime_type=MIME_TYPE,
            meta={"ui": ui},
            fn=lambda: page(api_base, storage),
        )
    )
    return apps
