"""How to get a file out of the well-known places that show a page around it."""

from urllib.parse import urlsplit

_ELSEWHERE = "upload the file to public storage and give its direct https link"
_PLAYER = (
    "that site gives no link to the file itself: download the clip, if you may, then " + _ELSEWHERE
)
_GENERAL = (
    "give the address of the file itself: on the page, copy the link of its download button or "
    f"of the picture, or {_ELSEWHERE}"
)
# How each place behaves is observed elsewhere, and may change.
_PLACES = {
    "drive.google.com docs.google.com": "in Google Drive share the file with anyone who has the "
    "link, then give https://drive.google.com/uc?export=download&id=FILE_ID with the id from the "
    f"link; for more than 100 MB Drive shows a page there as well: then {_ELSEWHERE}",
    "dropbox.com": "make the link end in dl=1 instead of dl=0",
    "onedrive.live.com 1drv.ms sharepoint.com": "add download=1 to the query of the link, and let "
    "anyone open it",
    "github.com": "give the file's address at raw.githubusercontent.com (its Raw button)",
    "youtube.com youtu.be vimeo.com tiktok.com instagram.com facebook.com fb.watch x.com "
    "twitter.com reddit.com twitch.tv dailymotion.com bilibili.com": _PLAYER,
    "photos.google.com photos.app.goo.gl icloud.com wetransfer.com we.tl": _PLAYER,
}


def way_to_the_file(*urls: str) -> str:
    """What to do about a page at the first of these addresses that is a well-known place."""
    for url in urls:
        host = (urlsplit(url).hostname or "").rstrip(".")
        for names, advice in _PLACES.items():
            if any(f".{host}".endswith(f".{name}") for name in names.split()):
                return advice
    return _GENERAL
