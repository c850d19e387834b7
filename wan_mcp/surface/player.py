"""Gives out the player page, and says from where it may load films."""

from html import escape
from importlib.resources import files
from urllib.parse import urlsplit

from mcp.server.apps import Apps, ResourceCsp
from mcp.server.mcpserver.resources import FunctionResource

URI = "ui://wan-mcp/player.html"
MIME_TYPE = "text/html;profile=mcp-app"
"""How hosts tell such a page from a document (MCP Apps, 2026-01-26)."""

MEDIA_ORIGIN = "https://temp.pixeldojo.ai"
"""Where PixelDojo keeps finished films (documented in its examples)."""
_API_ORIGIN = "https://pixeldojo.ai"
_GAP = "{{media-origins}}"


def media_origins(api_base: str) -> list[str]:
    """The only origins that the page needs: a host's Content-Security-Policy allows no other.

    Args:
        api_base: where the API is; films lie beside it only when it is not PixelDojo's own, as
            with the sandbox.
    """
    base = urlsplit(api_base)
    own = f"{base.scheme}://{base.netloc.rpartition('@')[2]}"
    return [MEDIA_ORIGIN] if own == _API_ORIGIN else [MEDIA_ORIGIN, own]


def page(api_base: str) -> str:
    """The page as HTML; it is the same for every job and holds no secret.

    The page is told its origins so that it tries nothing that its host would block.
    """
    html = files(__package__).joinpath("player.html").read_text("utf-8")
    return html.replace(_GAP, escape(" ".join(media_origins(api_base))))


def player_app(api_base: str) -> Apps:
    """The player page for hosts that show pages (MCP Apps); the tools name it in their `_meta`.

    Args:
        api_base: where the API is; films may lie beside it.
    """
    csp = ResourceCsp(resource_domains=media_origins(api_base))
    ui = {"csp": csp.model_dump(by_alias=True, exclude_none=True), "prefersBorder": True}
    apps = Apps()
    apps.add_resource(
        FunctionResource(
            uri=URI,
            name="player",
            title="Player",
            mime_type=MIME_TYPE,
            meta={"ui": ui},
            fn=lambda: page(api_base),
        )
    )
    return apps
