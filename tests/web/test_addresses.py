"""Which web addresses are accepted, and which are refused for which reason."""

import ipaddress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wan_mcp.web.addresses import MAX_URL, is_global, is_loopback, media_url

patient = settings(deadline=None)  # a busy machine is no defect

MACHINE = "points at this machine"
PRIVATE = "points into a private network"
PRIVATE_NAME = "names a host of a private network"
BAD_HOST = "has a host name that is not valid"
ODD_NUMBER = "has a host that is neither a name nor an address in its usual spelling"
UNSEEN = "contains spaces, control or invisible characters"
SCHEME = "must start with https:// or http://"
LOCAL = "is a path on this computer"
NO_HOST = "has no host"
MALFORMED = "is not a well-formed URL"
LOGIN = "contains a user name or password"
NO_URL = "is not a URL"

ACCEPTED = [
    "https://cdn.example.com/clip.mp4",
    "http://cdn.example.com/clip.mp4",
    "HTTPS://CDN.EXAMPLE.COM/clip.mp4",
    "https://cdn.example.com:8443/clip.mp4",
    "https://cdn.example.com:/clip.mp4",
    "https://cdn.example.com./clip.mp4",
    "https://cdn.example.com",
    "https://cdn.example.com/a%20b/clip.mp4#t=3",
    "https://b.s3.eu-west-1.example.com/c.mp4?X-Sig=a%2Fb%2B%3D&X-Expires=900&u=me@example.com",
    "https://cdn.example.com/redirect?to=http://127.0.0.1/",
    "https://my_bucket.example.com/clip.mp4",
    "https://m\u00fcnchen.example.com/clip.mp4",
    "https://\u4f8b\u3048.\u30c6\u30b9\u30c8.example.com/\u30af\u30ea\u30c3\u30d7.mp4",
    "https://cdn\u3002example\u3002com/clip.mp4",
    "https://xn--mnchen-3ya.example.com/clip.mp4",
    "https://localhost.example.com/clip.mp4",
    "https://internal.example.com/clip.mp4",
    "https://8.8.8.8/clip.mp4",
    "https://[2606:4700:4700::1111]/clip.mp4",
    "https://[2606:4700:4700::1111]:8443/clip.mp4",
    "https://[::ffff:8.8.8.8]/clip.mp4",
    "https://[64:ff9b::808:808]/clip.mp4",
    "https://" + "a" * 63 + ".example.com/clip.mp4",
    "https://example.com/".ljust(MAX_URL, "x"),
]

LOOPBACK = [
    "http://localhost/x",
    "http://LOCALHOST:8000/x",
    "http://localhost./x",
    "http://me.localhost/x",
    "http://\uff4c\uff4f\uff43\uff41\uff4c\uff48\uff4f\uff53\uff54/x",
    "http://127.0.0.1/x",
    "http://127.0.0.1.:80/x",
    "http://127.255.255.254/x",
    "http://127.1/x",
    "http://127.0.1/x",
    "http://0x7f000001/x",
    "http://0X7F.0.0.1/x",
    "http://0x7f.1/x",
    "http://2130706433/x",
    "http://017700000001/x",
    "http://0177.0.0.1/x",
    "http://0177.0x0.0.01/x",
    "http://\uff11\uff12\uff17.0.0.1/x",
    "http://\u2460\u2461\u2466.0.0.1/x",
    "http://127\u30020\u30020\u30021/x",
    "http://127\uff0e0\uff610\uff0e1/x",
    "http://[::1]/x",
    "http://[0:0:0:0:0:0:0:1]:80/x",
    "http://[::ffff:127.0.0.1]/x",
    "http://[::FFFF:7f00:1]/x",
]

NEVER = [
    ("http://0.0.0.0/x", PRIVATE),
    ("http://0/x", PRIVATE),
    ("http://10.0.0.1/x", PRIVATE),
    ("http://0xa000001/x", PRIVATE),
    ("http://167772161/x", PRIVATE),
    ("http://012.0.0.1/x", PRIVATE),
    ("http://10.1/x", PRIVATE),
    ("http://172.16.0.1/x", PRIVATE),
    ("http://192.168.0.1/x", PRIVATE),
    ("http://192.168.0.1./x", PRIVATE),
    ("http://100.64.0.1/x", PRIVATE),
    ("http://169.254.169.254/latest/meta-data", PRIVATE),
    ("http://0xa9fea9fe/x", PRIVATE),
    ("http://2852039166/x", PRIVATE),
    ("http://\uff11\uff16\uff19.254.169.254/x", PRIVATE),
    ("http://224.0.0.1/x", PRIVATE),
    ("http://255.255.255.255/x", PRIVATE),
    ("http://[::]/x", PRIVATE),
    ("http://[::ffff:10.0.0.1]/x", PRIVATE),
    ("http://[::ffff:169.254.169.254]/x", PRIVATE),
    ("http://[::127.0.0.1]/x", PRIVATE),
    ("http://[::ffff:0:127.0.0.1]/x", PRIVATE),
    ("http://[2002:7f00:1::]/x", PRIVATE),
    ("http://[2002:a9fe:a9fe::1]/x", PRIVATE),
    ("http://[2001:0:4136:e378:8000:63bf:80ff:fffe]/x", PRIVATE),
    ("http://[64:ff9b::7f00:1]/x", PRIVATE),
    ("http://[64:ff9b::169.254.169.254]/x", PRIVATE),
    ("http://[64:ff9b:1::a00:1]/x", PRIVATE),
    ("http://[fe80::1]/x", PRIVATE),
    ("http://[fd00:ec2::254]/x", PRIVATE),
    ("http://[fec0::1]/x", PRIVATE),
    ("http://[ff02::1]/x", PRIVATE),
    ("http://[4000::1]/x", PRIVATE),
    ("http://[2001:db8::1]/x", PRIVATE),
    ("http://[3fff::1]/x", PRIVATE),
    ("http://[3fff:fff:ffff::1]/x", PRIVATE),
    ("http://192.0.0.8/x", PRIVATE),
    ("http://192.88.99.1/x", PRIVATE),
    ("http://010.8.8.8/x", ODD_NUMBER),
    ("http://134744072/x", ODD_NUMBER),
    ("http://0x08080808/x", ODD_NUMBER),
    ("http://8.8.2056/x", ODD_NUMBER),
    ("http://256.1.1.1/x", ODD_NUMBER),
    ("http://1.2.3.4.5/x", ODD_NUMBER),
    ("http://99999999999999999999/x", ODD_NUMBER),
    ("http://example.com.0x7f/x", ODD_NUMBER),
    ("http://metadata.google.internal/x", PRIVATE_NAME),
    ("http://METADATA.google.INTERNAL./x", PRIVATE_NAME),
    ("http://metadata/x", PRIVATE_NAME),
    ("http://nas.local/x", PRIVATE_NAME),
    ("http://router.lan/x", PRIVATE_NAME),
    ("http://db.svc.cluster.local/x", PRIVATE_NAME),
    ("http://printer.home.arpa/x", PRIVATE_NAME),
    ("http://host.docker.internal/x", PRIVATE_NAME),
    ("http://wiki.corp/x", PRIVATE_NAME),
    ("http://intranet/x", PRIVATE_NAME),
    ("http://nas.\uff4c\uff4f\uff43\uff41\uff4c/x", PRIVATE_NAME),
    ("http://%31%32%37.0.0.1/x", BAD_HOST),
    ("http://127.0.0.1%00.example.com/x", BAD_HOST),
    ("http://a..example.com/x", BAD_HOST),
    ("http://.example.com/x", BAD_HOST),
    ("http://-a.example.com/x", BAD_HOST),
    ("http://" + "a" * 64 + ".example.com/x", BAD_HOST),
    ("http://" + "a." * 127 + "example/x", BAD_HOST),
    ("http://a,b.example.com/x", BAD_HOST),
    ("http://a*b.example.com/x", BAD_HOST),
    ("http://[v1.example]/x", BAD_HOST),
    ("http://[fe80::1%25eth0]/x", BAD_HOST),
    ("http://[2606:4700::1].example.com/x", BAD_HOST),
    ("http://example.com[2606:4700::1]/x", BAD_HOST),
    ("http://\u2488\u2488.example.com/x", BAD_HOST),
    ("http://[::1/x", MALFORMED),
    ("http://[127.0.0.1]/x", MALFORMED),
    ("http://example.com:99999/x", MALFORMED),
    ("http://example.com:-1/x", MALFORMED),
    ("http://example.com:80a/x", MALFORMED),
    ("http://example.com\uff0f.evil.example/x", MALFORMED),
    ("http://example.com:0/x", "names port 0"),
    ("http://user@example.com/x", LOGIN),
    ("http://user:secret@example.com/x", LOGIN),
    ("http://example.com:80@127.0.0.1/x", LOGIN),
    ("http://@example.com/x", LOGIN),
    ("http://example.com\\@127.0.0.1/x", "contains a backslash"),
    ("http:\\\\127.0.0.1/x", "contains a backslash"),
    ("https://example.com/a\\b", "contains a backslash"),
    ('https://example.com/a.mp4?n="c"&sig=1', 'contains one of " < >'),
    ("https://example.com/<a>.mp4", 'contains one of " < >'),
    ("http://exa\tmple.com/x", UNSEEN),
    ("http://exa\nmple.com/x", UNSEEN),
    ("http://example.com/x\r\nHost: evil", UNSEEN),
    ("http://example.com/a b", UNSEEN),
    ("http://example.com/\x00", UNSEEN),
    ("http://example.com/\x7f", UNSEEN),
    ("http://example.com/\u202egpj.mp4", UNSEEN),
    ("http://example.com/\u2066x", UNSEEN),
    ("http://exa\u200bmple.com/x", UNSEEN),
    ("http://exa\u00admple.com/x", UNSEEN),
    ("http://example.com/\ufeffx", UNSEEN),
    ("http://example.com/\u00a0x", UNSEEN),
    ("http://example.com/\u2028x", UNSEEN),
    ("http://example.com/\ud800", UNSEEN),
    ("\thttp://example.com/", UNSEEN),
    ("https://example.com/".ljust(MAX_URL + 1, "x"), "is longer than 8,192 characters"),
    ("http:cdn.example.com/x", NO_HOST),
    ("http:/cdn.example.com/x", NO_HOST),
    ("http:///x", NO_HOST),
    ("https://", NO_HOST),
    ("https://?x", NO_HOST),
    ("https://:80/x", NO_HOST),
    ("//cdn.example.com/x", SCHEME),
    ("ftp://cdn.example.com/x", SCHEME),
    ("blob:https://example.com/1b2c", SCHEME),
    ("javascript:alert(1)", SCHEME),
    ("gopher://example.com/x", SCHEME),
    ("s3://bucket/clip.mp4", SCHEME),
    ("sandbox:/mnt/data/clip.mp4", SCHEME),
    ("localhost:8000/x", SCHEME),
    ("https;//example.com:80/x", SCHEME),
    ("file:///etc/passwd", LOCAL),
    ("FILE:///etc/passwd", LOCAL),
    ("/mnt/user-data/uploads/my clip.mp4", LOCAL),
    ("/etc/passwd".ljust(3_000, "x"), LOCAL),
    ("~/clip.mp4", LOCAL),
    ("./clip.mp4", LOCAL),
    ("../clip.mp4", LOCAL),
    ("C:\\films\\clip.mp4", LOCAL),
    ("c:/films/clip.mp4", LOCAL),
    ("\\\\server\\share\\clip.mp4", LOCAL),
    ("data:video/mp4;base64,AAAA".ljust(9_000, "A"), "is a data: URL"),
    ("DATA:image/png;base64,AAAA", "is a data: URL"),
    ("", NO_URL),
    ("clip.mp4", NO_URL),
    ("the clip I attached", NO_URL),
    ("cdn.example.com/clip.mp4", NO_URL),
]


def refusal(text: str, **accepted: bool) -> str:
    with pytest.raises(ValueError, match=r"\S") as caught:
        media_url(text, **accepted)
    return str(caught.value)


@pytest.mark.parametrize("loopback", [False, True])
@pytest.mark.parametrize("url", ACCEPTED, ids=ascii)
def test_public_web_address_is_returned_unchanged(url: str, loopback: bool) -> None:
    """A signature in the query would break if one character of it changed (ours)."""
    assert url == media_url(url, loopback=loopback)


@pytest.mark.parametrize("loopback", [False, True])
@pytest.mark.parametrize(("url", "words"), NEVER, ids=ascii)
def test_hostile_or_useless_address_is_refused_with_a_reason(
    url: str, words: str, loopback: bool
) -> None:
    """The sandbox's permission does not extend to private networks in any spelling (ours)."""
    message = refusal(url, loopback=loopback)

    assert message.startswith(words)


@pytest.mark.parametrize("url", LOOPBACK, ids=ascii)
def test_this_machine_is_refused_in_every_spelling(url: str) -> None:
    """PixelDojo cannot fetch from the caller's machine, and must not fetch from its own (ours)."""
    assert refusal(url).startswith(MACHINE)


@pytest.mark.parametrize("url", LOOPBACK, ids=ascii)
def test_this_machine_is_accepted_only_while_the_api_is_there(url: str) -> None:
    """The sandbox serves its own video on loopback (ours)."""
    assert url == media_url(url, loopback=True)


@pytest.mark.parametrize("url", ["/clip.mp4", "data:,x", "clip.mp4", "http://127.0.0.1/clip.mp4"])
@pytest.mark.parametrize(
    ("paths", "instead"), [(False, "a public https link"), (True, "the whole path of the file")]
)
def test_refusal_of_a_local_file_says_what_to_give_instead(
    url: str, paths: bool, instead: str
) -> None:
    """A person who attached a file needs to know what to do instead (ours)."""
    message = refusal(url, paths=paths)

    assert f"(PixelDojo must be able to fetch it: give {instead}" in message
    assert ("path of" in message) is paths


@pytest.mark.parametrize("url", ["https://youtu.be/abc", "https://drive.google.com/file/d/1AbC"])
def test_refusal_of_a_page_names_a_path_only_where_paths_are_taken(url: str) -> None:
    """Advice that is refused in its turn costs a person time (ours)."""
    assert "give its path on this computer" in refusal(url, paths=True)
    assert "path" not in refusal(url)
    assert "{" not in refusal(url) + refusal(url, paths=True)


PAGES = [
    "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
    "https://m.youtube.com/shorts/abc",
    "https://WWW.YouTube.COM./watch?v=x",
    "https://www\u3002youtube\u3002com/watch?v=x",
    "https://youtu.be/dQw4w9WgXcQ?t=3",
    "https://vimeo.com/123456",
    "https://vimeo.com/123456/abcdef0123",
    "https://www.tiktok.com/@me/video/123",
    "https://vm.tiktok.com/ZMabc/",
    "https://www.instagram.com/reel/Cabc/?igsh=x",
    "https://x.com/me/status/123",
    "https://www.facebook.com/watch/?v=1",
    "https://www.reddit.com/r/aww/comments/abc/title/",
    "https://drive.google.com/file/d/1AbC/view?usp=sharing",
    "https://drive.google.com/file/d/1AbC",
    "https://drive.google.com/open?id=1AbC",
    "https://drive.google.com/drive/folders/1AbC",
    "https://docs.google.com/file/d/1AbC/edit",
    "https://www.dropbox.com/s/abc/clip.mp4?dl=0",
    "https://www.dropbox.com/scl/fi/abc/clip.mp4?rlkey=x&st=y&dl=0",
    "https://photos.app.goo.gl/AbC",
    "https://photos.google.com/share/AbC?key=x",
    "https://share.icloud.com/photos/0abc",
    "https://we.tl/t-AbC",
    "https://github.com/me/films/blob/main/clip.mp4",
]
FILES = [
    "https://drive.google.com/uc?export=download&id=1AbC",
    "https://drive.google.com/thumbnail?id=1AbC&sz=w1000",
    "https://drive.usercontent.google.com/download?id=1AbC&export=download",
    "https://docs.google.com/presentation/d/1AbC/export/png",
    "https://lh3.googleusercontent.com/d/1AbC",
    "https://www.dropbox.com/s/abc/clip.mp4?dl=1",
    "https://www.dropbox.com/scl/fi/abc/clip.mp4?rlkey=x&raw=1",
    "https://www.dropbox.com/s/abc/clip.mp4?dl=0&raw=1",
    "https://www.dropbox.com/s/dl/abc/clip.mp4",
    "https://dl.dropboxusercontent.com/s/abc/clip.mp4?dl=0",
    "https://github.com/me/films/blob/main/clip.mp4?raw=true",
    "https://github.com/me/films/raw/main/clip.mp4",
    "https://github.com/me/films/releases/download/v1/clip.mp4",
    "https://img.youtube.com/vi/dQw4w9WgXcQ/0.jpg",
    "https://i.redd.it/abc.jpg",
    "https://player.vimeo.com/external/123.hd.mp4?s=abc",
    "https://www.instagram.com/p/Cabc/media/?size=l",
    "https://graph.facebook.com/123/picture",
    "https://onedrive.live.com/download?resid=1&authkey=x",
    "https://notyoutube.com/watch?v=x",
    "https://youtube.com.example.com/watch?v=x",
    "https://cdn.example.com/youtube.com/watch?v=x",
]


@pytest.mark.parametrize("url", PAGES, ids=ascii)
def test_link_known_to_be_a_page_is_refused_with_advice(url: str) -> None:
    """PixelDojo would charge for a page that it cannot use (assumed)."""
    message = refusal(url)

    assert message.startswith("shows a page, not the file itself (")
    assert "link" in message or "address" in message


@pytest.mark.parametrize("url", FILES, ids=ascii)
def test_link_that_may_lead_to_a_file_is_accepted(url: str) -> None:
    """The same sites also give files, at other addresses (observed elsewhere)."""
    assert url == media_url(url)


def test_output_link_is_not_mistaken_for_a_page() -> None:
    """The vendor knows where it has stored the video (ours)."""
    assert media_url("https://www.dropbox.com/s/abc/clip.mp4?dl=0", secure=True)


def test_output_link_must_be_https_unless_on_loopback() -> None:
    """The video is private to its owner, so it must not travel over plain http (ours)."""
    assert refusal("http://cdn.example.com/f.mp4", secure=True) == "is not an https address"
    assert media_url("HTTPS://cdn.example.com/f.mp4", secure=True)
    assert media_url("http://127.0.0.1:9/f.mp4", secure=True, loopback=True)
    assert refusal("http://127.0.0.1:9/f.mp4", secure=True).startswith(MACHINE)
    assert refusal("https://10.0.0.1/f.mp4", secure=True, loopback=True).startswith(PRIVATE)


SPICE = st.sampled_from(
    [
        *["http://", "https://", "[", "]", "::1", "127.1", "@", "\\", ":", "/", ".", "%", "0x7f"],
        *["\u202e", "\u3002", "\uff11", "\ud800", "\x00", "?", "#", "//", "xn--"],
        *["localhost", "example.com"],
    ]
)
URLS = st.one_of(st.text(max_size=60), st.lists(st.one_of(SPICE, st.text(max_size=6))).map("".join))


@patient
@given(text=URLS, loopback=st.booleans(), secure=st.booleans())
@example(text="http://[", loopback=False, secure=False)
@example(text="http://" + "xn--a." * 300, loopback=False, secure=True)
def test_any_text_is_accepted_whole_or_refused_in_ascii(
    text: str, loopback: bool, secure: bool
) -> None:
    """Only ValueError is raised, and its text is always our own (ours)."""
    message = ""
    try:
        assert text == media_url(text, loopback=loopback, secure=secure)
    except ValueError as refused:
        message = str(refused)

    assert message.isascii()
    assert len(message) < 200


@patient
@given(secret=st.text(alphabet="QJXZ", min_size=8, max_size=30), place=st.sampled_from(range(7)))
def test_refusal_never_repeats_a_part_of_the_address(secret: str, place: int) -> None:
    """An address may carry a signature or a password (ours)."""
    shapes = [
        "http://user:{}@example.com/",
        "http://10.0.0.1/?sig={}",
        "http://{}.local/",
        "ftp://example.com/{}",
        "/home/{}",
        "http://example.com/{}\n",
        "http://{}..example.com/",
    ]
    message = refusal(shapes[place].format(secret))

    assert secret not in message
    assert secret.lower() not in message


@pytest.mark.parametrize(
    ("host", "here"),
    [
        *[("localhost", True), ("LocalHost.", True), ("a.localhost", True), ("127.0.0.1", True)],
        *[("[::1]", True), ("::1", True), ("0x7f.1", True), ("::ffff:127.0.0.1", True)],
        *[("", False), ("example.com", False), ("0.0.0.0", False), ("10.0.0.1", False)],
        *[("128.0.0.1", False), ("localhost.example.com", False), ("notlocalhost", False)],
    ],
)
def test_loopback_means_this_machine_and_nothing_else(host: str, here: bool) -> None:
    """Settings use this before they allow http for the API itself (ours)."""
    assert here is is_loopback(host)


@patient
@given(
    st.one_of(
        st.ip_addresses(network="10.0.0.0/8"),
        st.ip_addresses(network="172.16.0.0/12"),
        st.ip_addresses(network="192.168.0.0/16"),
        st.ip_addresses(network="169.254.0.0/16"),
        st.ip_addresses(network="127.0.0.0/8"),
        st.ip_addresses(network="100.64.0.0/10"),
    )
)
def test_private_ipv4_stays_private_when_ipv6_embeds_it(v4: ipaddress.IPv4Address) -> None:
    """Mapped, translated, compatible, 6to4 and NAT64 addresses lead to the inner one (ours)."""
    inner = int(v4)
    disguises = [
        ipaddress.IPv6Address(inner),
        ipaddress.IPv6Address(0xFFFF << 32 | inner),
        ipaddress.IPv6Address(0xFFFF << 48 | inner),
        ipaddress.IPv6Address(0x64_FF9B << 96 | inner),
        ipaddress.IPv6Address(0x2002 << 112 | inner << 80 | 1),
    ]

    assert not is_global(v4)
    assert [address for address in disguises if is_global(address)] == []
