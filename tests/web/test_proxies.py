"""The proxy for an address: as the environment means it, whatever else the environment holds."""

import pytest

from wan_mcp.web.proxies import chosen, proxy_for

URL = "https://pixeldojo.ai/api/v1"
PROXY = "http://127.0.0.1:3128"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    "entries",
    [
        "localhost,127.0.0.0/8,::1/128",
        "[::bad, ,/,:,10.0.0.0/99,*x*",
        "dojo.ai,notpixeldojo.ai,pixeldojo.ai:8443",
        "fe80::/10,[::1]:443,169.254.0.0/16",
    ],
)
def test_entry_that_does_not_mean_the_host_has_no_effect(
    entries: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Least of all one that cannot be read (observed: every request failed)."""
    monkeypatch.setenv("NO_PROXY", entries)
    assert proxy_for(URL) is None

    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    assert proxy_for(URL) == PROXY


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("*", URL),
        ("pixeldojo.ai", URL),
        (".PixelDojo.ai", URL),
        ("x, *.pixeldojo.ai", "https://api.pixeldojo.ai/v1"),
        ("pixeldojo.ai:8443", "https://pixeldojo.ai:8443/v1"),
        ("10.0.0.0/8", "https://10.1.2.3/v1"),
        ("10.1.2.3", "https://10.1.2.3/v1"),
        ("fd00::/8", "https://[fd00::1]/v1"),
        ("[fd00::1]", "https://[fd00::1]/v1"),
    ],
)
def test_exempt_host_is_reached_directly(
    entry: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual spellings of NO_PROXY (observed elsewhere)."""
    monkeypatch.setenv("NO_PROXY", entry)
    monkeypatch.setenv("HTTPS_PROXY", PROXY)

    assert proxy_for(url) is None


@pytest.mark.parametrize(
    ("proxies", "best"),
    [
        ({}, None),
        ({"http": PROXY}, None),
        ({"https": PROXY, "all": "socks5://127.0.0.1:7891"}, PROXY),
        ({"https": "socks5://127.0.0.1:7891", "all": PROXY}, PROXY),
        ({"https": PROXY, "all": "http://other:1"}, PROXY),
        ({"all": "127.0.0.1:3128"}, PROXY),
        ({"all": "socks://127.0.0.1:7891/"}, "socks5://127.0.0.1:7891/"),
        ({"all": "SOCKS5H://127.0.0.1:7891"}, "socks5h://127.0.0.1:7891"),
    ],
)
def test_plain_proxy_wins_over_socks(proxies: dict[str, str], best: str | None) -> None:
    """It works without a further package, and both lead out (ours)."""
    assert chosen(proxies, "https") == best
