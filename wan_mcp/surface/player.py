"""The pages on which a host shows a job, and the list of jobs (MCP Apps); and those of the server.

Each page is one file without any request for another: what the pages share is put into them when
they are served.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from urllib.parse import urlsplit

from mcp.server.apps import Apps, ResourceCsp
from mcp.server.mcpserver.resources import FunctionResource

PLAYER_URI = "ui://wan-mcp/player.html"
GALLERY_URI = "ui://wan-mcp/gallery.html"
MIME_TYPE = "text/html;profile=mcp-app"
"""The type by which hosts recognise such a page (MCP Apps 2026-01-26)."""

MEDIA_ORIGIN = "https://temp.pixeldojo.ai"
"""Where PixelDojo keeps finished videos (documented in its examples)."""
_API_ORIGIN = "https://pixeldojo.ai"
_INCLUDE = re.compile(r"\{\{include ([a-z]+\.[a-z]+)\}\}\n")


def media_origins(api_base: str, storage: str | None = None) -> list[str]:
    """The origins that the pages load videos from; the host's policy (CSP) allows no other.

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
    """The player as HTML. It is the same for every job and holds no secret.

    It contains the origins, so that it does not try to load what its host would block.
    """
    return filled("player.html", {"media-origins": " ".join(media_origins(api_base, storage))})


def gallery_page(origins: list[str], *, nonce: str | None = None) -> str:
    """The gallery as HTML. It is the same for every user and holds no secret.

    Args:
        origins: where it may load videos from.
        nonce: shows that style and script are ours, where a browser shows the page without a host;
            None in a host.
    """
    values = {"media-origins": " ".join(origins), "shown-by": "browser" if nonce else "host"}
    attribute = f' nonce="{escape(nonce)}"' if nonce else ""
    icon = '<link rel="icon" href="data:,">' if nonce else ""  # or browsers ask for one
    html = filled("gallery.html", values)
    return html.replace("{{nonce}}", attribute).replace("{{icon}}", icon)


def upload_page(
    nonce: str, slots: Sequence[str], refusal: str = "", *, limit: str = "", max_bytes: int = 0
) -> str:
    """The page on which a user uploads files, as HTML. It holds no secret.

    Args:
        nonce: shows that style and script are ours.
        slots: which files it takes: `video` and `image`, or one of them.
        refusal: why it takes none, in sentences.
        limit: how large a file may be, in words.
        max_bytes: the same in bytes.
    """
    words = {"slots": " ".join(slots), "limit": limit and f"at most {limit}", "refusal": refusal}
    html = filled("upload.html", words | {"max-bytes": str(max_bytes)})
    return html.replace("{{nonce}}", f' nonce="{escape(nonce)}"')


def page_apps(api_base: str, storage: str | None = None) -> Apps:
    """The extension that offers the pages; the tools name theirs in their `_meta`.

    Args:
        api_base, storage: as for `media_origins`.
    """
    origins = media_origins(api_base, storage)
    csp = ResourceCsp(resource_domains=origins)
    ui = {"csp": csp.model_dump(by_alias=True, exclude_none=True), "prefersBorder": True}
    apps = Apps()
    for uri, title, html in (
        (PLAYER_URI, "Player", lambda: page(api_base, storage)),
        (GALLERY_URI, "Gallery", lambda: gallery_page(origins)),
    ):
        name = title.lower()
        resource = FunctionResource(
            uri=uri, name=name, title=title, mime_type=MIME_TYPE, meta={"ui": ui}, fn=html
        )
        apps.add_resource(resource)
    return apps


def filled(name: str, values: Mapping[str, str]) -> str:
    """A page with texts in the places for them.

    Args:
        name: of its file.
        values: the texts, by the names of their places. They are made harmless as HTML, and the
            name of a place in one of them stays what it is, whatever is filled in later.
    """
    html = _whole(name)
    for key, value in values.items():
        html = html.replace(f"{{{{{key}}}}}", escape(value).replace("{", "&#123;"))
    return html


@cache
def _whole(name: str) -> str:
    """A file of the pages, with the files that it includes."""
    text = (files(__package__) / "pages" / name).read_text("utf-8")
    return _INCLUDE.sub(lambda include: _whole(include[1]), text)
