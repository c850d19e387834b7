"""Gives out the player page, and says from where it may load films."""

from html import escape
from importlib.resources import files
from urllib.parse import urlsplit

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


def player(api_base: str) -> str:
    """The page as HTML; it is the same for every job and holds no secret.

    The page is told its origins so that it tries nothing that its host would block.
    """
    page = files(__package__).joinpath("player.html").read_text("utf-8")
    return page.replace(_GAP, escape(" ".join(media_origins(api_base))))
