"""Well-known sites that show a page around a file, and how to get a direct link to the file."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_OTHERWISE = "{otherwise}"
"""Stands in an advice for one of the two below."""
_BY_LINK = "give a direct https link to a copy of the file elsewhere"
_BY_PATH = "download the file and give its path on this computer"
_PLAYER = f"that site gives no link to the file itself: if you may, {_OTHERWISE}"
_GENERAL = (
    "give the address of the file itself: on the page, copy the link of its download button or "
    f"of the picture, or {_OTHERWISE}"
)


@dataclass(frozen=True)
class _Site:
    """One site, or several that behave alike.

    Attributes:
        hosts: host names, separated by spaces; their subdomains are included.
        advice: what to do instead of giving a page of the site.
        pages: matches addresses that never lead to a file, written as `host/path?query` without
            www or m; None where the same address may give a page or a file. It is a text, because
            compiling all of them takes 3 ms, which the start of a server does not need.
    """

    hosts: str
    advice: str
    pages: str | None = None


# How each site behaves is observed elsewhere, and may change. A page that is missing here is found
# by the input check; a file that is mistaken for a page could never be used. So only addresses that
# certainly show a page are listed.
_SITES = (
    _Site(
        "drive.google.com docs.google.com",
        "in Google Drive share the file with anyone who has the "
        "link, then give https://drive.google.com/uc?export=download&id=FILE_ID with the id from "
        f"the link; for more than 100 MB Drive shows a page there as well: then {_OTHERWISE}",
        r"(?:drive|docs)\.google\.com/(?:file/(?:u/\d+/)?d/|drive/|open\?)",
    ),
    _Site(
        "dropbox.com",
        "make the link end in dl=1 instead of dl=0",
        r"dropbox\.com/[^?]*\?(?!.*\b(?:dl|raw)=1\b)(?:.*&)?dl=0\b",
    ),
    _Site(
        "onedrive.live.com 1drv.ms sharepoint.com",
        "add download=1 to the query of the link, and let anyone open it",
    ),
    _Site(
        "github.com",
        "give the file's address at raw.githubusercontent.com (its Raw button)",
        r"github\.com/[^/]+/[^/]+/blob/(?!.*[?&]raw=(?:1|true)\b)",
    ),
    _Site(
        "youtube.com youtu.be vimeo.com tiktok.com instagram.com facebook.com fb.watch x.com "
        "twitter.com reddit.com twitch.tv dailymotion.com dai.ly bilibili.com b23.tv",
        _PLAYER,
        (
            r"(?:music\.)?youtube\.com/(?:(?:watch|playlist)\?|(?:shorts|live|embed|clip)/)"
            r"|youtu\.be/|vimeo\.com/(?:channels/\w+/)?\d+(?:/[0-9a-f]{6,})?/?(?:\?|$)"
            r"|tiktok\.com/(?:@[^/]*/(?:video|photo)|t)/|v[mt]\.tiktok\.com/"
            # With /media at its end, Instagram has given the image itself.
            r"|instagram\.com/(?:[^/]+/)?(?:p|reels?|tv)/[^/?]+/?(?:\?|$)"
            r"|facebook\.com/(?:watch/?\?|reel/|share/|[^/]+/videos/)|fb\.watch/"
            r"|(?:x|twitter)\.com/[^/]+/status/"
            r"|(?:old\.)?reddit\.com/(?:r|user)/[^/]+/(?:comments|s)/"
            r"|twitch\.tv/(?:videos/|[^/]+/clip/)|clips\.twitch\.tv/"
            r"|dailymotion\.com/video/|dai\.ly/|bilibili\.com/video/|b23\.tv/"
        ),
    ),
    _Site(
        "photos.google.com photos.app.goo.gl icloud.com wetransfer.com we.tl",
        _PLAYER,
        (
            r"photos\.google\.com/(?:share|photo|album|u/\d+)/|photos\.app\.goo\.gl/"
            r"|share\.icloud\.com/photos/|icloud\.com/(?:photos|iclouddrive|sharedalbum)/"
            r"|wetransfer\.com/downloads/|we\.tl/"
        ),
    ),
)
_PREFIX = r"^(?:www|m|mobile)\."


def advice_for_page(*urls: str) -> str:
    """How to get a direct link, for a page at the first of these addresses on a known site."""
    both = f"{_BY_PATH}, or {_BY_LINK}"
    for url in urls:
        host = (urlsplit(url).hostname or "").rstrip(".")
        for site in _SITES:
            if any(f".{host}".endswith(f".{name}") for name in site.hosts.split()):
                return site.advice.replace(_OTHERWISE, both)
    return _GENERAL.replace(_OTHERWISE, both)


def advice_if_page(host: str, path: str, query: str, *, paths: bool = False) -> str | None:
    """What to give instead, if this address certainly shows a page; otherwise None.

    Args:
        host: in ASCII and lower case.
        paths: whether the path of a file on this computer will do.
    """
    address = f"{re.sub(_PREFIX, '', host.rstrip('.'))}{path}?{query}".removesuffix("?")
    for site in _SITES:
        if site.pages and re.match(site.pages, address):
            return site.advice.replace(_OTHERWISE, _BY_PATH if paths else _BY_LINK)
    return None
