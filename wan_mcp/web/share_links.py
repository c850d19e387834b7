"""The well-known places that show a page around a file, and how to get the file out of them."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_ELSEWHERE = "upload the file to public storage and give its direct https link"
_PLAYER = (
    "that site gives no link to the file itself: download the clip, if you may, then " + _ELSEWHERE
)
_GENERAL = (
    "give the address of the file itself: on the page, copy the link of its download button or "
    f"of the picture, or {_ELSEWHERE}"
)


@dataclass(frozen=True)
class _Place:
    """One kind of place.

    Attributes:
        hosts: their names; subdomains are meant too.
        advice: what to do about a page there.
        pages: the addresses that never lead to a file, as `host/path?query` without www or m;
            none where the same address may give both.
    """

    hosts: str
    advice: str
    pages: re.Pattern[str] | None = None


# How each place behaves is observed elsewhere, and may change. A page that is missing here is left
# to the look; a file that is taken for a page could never be used: so only the sure ones are here.
_PLACES = (
    _Place(
        "drive.google.com docs.google.com",
        "in Google Drive share the file with anyone who has the "
        "link, then give https://drive.google.com/uc?export=download&id=FILE_ID with the id from "
        f"the link; for more than 100 MB Drive shows a page there as well: then {_ELSEWHERE}",
        re.compile(r"(?:drive|docs)\.google\.com/(?:file/(?:u/\d+/)?d/|drive/|open\?)"),
    ),
    _Place(
        "dropbox.com",
        "make the link end in dl=1 instead of dl=0",
        re.compile(r"dropbox\.com/[^?]*\?(?!.*\b(?:dl|raw)=1\b)(?:.*&)?dl=0\b"),
    ),
    _Place(
        "onedrive.live.com 1drv.ms sharepoint.com",
        "add download=1 to the query of the link, and let anyone open it",
    ),
    _Place(
        "github.com",
        "give the file's address at raw.githubusercontent.com (its Raw button)",
        re.compile(r"github\.com/[^/]+/[^/]+/blob/(?!.*[?&]raw=(?:1|true)\b)"),
    ),
    _Place(
        "youtube.com youtu.be vimeo.com tiktok.com instagram.com facebook.com fb.watch x.com "
        "twitter.com reddit.com twitch.tv dailymotion.com dai.ly bilibili.com b23.tv",
        _PLAYER,
        re.compile(
            r"(?:music\.)?youtube\.com/(?:(?:watch|playlist)\?|(?:shorts|live|embed|clip)/)"
            r"|youtu\.be/|vimeo\.com/(?:channels/\w+/)?\d+(?:/[0-9a-f]{6,})?/?(?:\?|$)"
            r"|tiktok\.com/(?:@[^/]*/(?:video|photo)|t)/|v[mt]\.tiktok\.com/"
            # With /media behind it Instagram has given the picture itself.
            r"|instagram\.com/(?:[^/]+/)?(?:p|reels?|tv)/[^/?]+/?(?:\?|$)"
            r"|facebook\.com/(?:watch/?\?|reel/|share/|[^/]+/videos/)|fb\.watch/"
            r"|(?:x|twitter)\.com/[^/]+/status/"
            r"|(?:old\.)?reddit\.com/(?:r|user)/[^/]+/(?:comments|s)/"
            r"|twitch\.tv/(?:videos/|[^/]+/clip/)|clips\.twitch\.tv/"
            r"|dailymotion\.com/video/|dai\.ly/|bilibili\.com/video/|b23\.tv/"
        ),
    ),
    _Place(
        "photos.google.com photos.app.goo.gl icloud.com wetransfer.com we.tl",
        _PLAYER,
        re.compile(
            r"photos\.google\.com/(?:share|photo|album|u/\d+)/|photos\.app\.goo\.gl/"
            r"|share\.icloud\.com/photos/|icloud\.com/(?:photos|iclouddrive|sharedalbum)/"
            r"|wetransfer\.com/downloads/|we\.tl/"
        ),
    ),
)
_MINOR = re.compile(r"^(?:www|m|mobile)\.")


def way_to_the_file(*urls: str) -> str:
    """What to do about a page at the first of these addresses that is a well-known place."""
    for url in urls:
        host = (urlsplit(url).hostname or "").rstrip(".")
        for place in _PLACES:
            if any(f".{host}".endswith(f".{name}") for name in place.hosts.split()):
                return place.advice
    return _GENERAL


def way_around(host: str, path: str, query: str) -> str | None:
    """What to do about an address that shows a page for sure; None for any other.

    Args:
        host: in ASCII and lower case.
    """
    address = f"{_MINOR.sub('', host.rstrip('.'))}{path}?{query}".removesuffix("?")
    for place in _PLACES:
        if place.pages and place.pages.match(address):
            return place.advice
    return None
