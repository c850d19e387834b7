"""The pages on which a user stores a PixelDojo key of their own. They run no script."""

from collections.abc import Mapping
from html import escape

from wan_mcp.surface.player import filled

_TITLE = "Your own PixelDojo key"


def key_page(
    nonce: str,
    field: str = "",
    problem: str = "",
    issuers: Mapping[str, str] | None = None,
) -> str:
    """The page on which a user brings a key and a token, as HTML. It holds no secret.

    Args:
        nonce: shows that style is ours.
        field: which field the problem is about: `token` or `key`; "" for neither.
        problem: why the key was not stored, in sentences; "" where none was brought.
        issuers: where else users can sign in, each address with a name for people.
    """
    ways = "".join(
        f'    <button class="main" name="issuer" value="{escape(each)}">Sign in with {escape(name)}'
        "</button>\n"
        for each, name in (issuers or {}).items()
    )
    html = _filled("key.html", nonce, _problem(field, problem, "token"))
    section = filled("ways.html", {}).replace("{{ways}}", ways) if ways else ""
    return _begun_at(html.replace("{{section}}\n", section), field, problem)


def signed_in_page(
    nonce: str, name: str, issuer: str, ticket: str, *, field: str = "", problem: str = ""
) -> str:
    """The page on which a user brings a key who has signed in, as HTML.

    Args:
        nonce: shows that style is ours.
        name, issuer: as whom they have signed in, and where.
        ticket: what the form brings back.
        field, problem: as in `key_page`.
    """
    known = {"name": name, "issuer": issuer, "ticket": ticket}
    html = _filled("signedin.html", nonce, {**_problem(field, problem), **known})
    return _begun_at(html, field, problem)


def leading_page(nonce: str, issuer: str, address: str) -> str:
    """The page that leads a browser on, at once, as HTML.

    Args:
        nonce: shows that style is ours.
        issuer: what people call the authorization server.
        address: where it leads to.
    """
    return _filled("leading.html", nonce, {"issuer": issuer, "address": address})


def unsigned_page(nonce: str, problem: str) -> str:
    """The page for a user who is not signed in, as HTML.

    Args:
        nonce: shows that style is ours.
        problem: why not, in sentences.
    """
    return _filled("unsigned.html", nonce, {"problem": problem})


def stored_page(nonce: str) -> str:
    """The page that says that a key is stored, as HTML."""
    return _filled("stored.html", nonce, {})


def _problem(field: str, problem: str, *more: str) -> dict[str, str]:
    """The texts of a page with a problem, at the field that it is about."""
    texts = {"refusal" if not each else f"{each}-problem": each for each in ("", "key", *more)}
    words = {place: problem if each == field else "" for place, each in texts.items()}
    return {"title": f"Error: {_TITLE[0].lower()}{_TITLE[1:]}" if problem else _TITLE, **words}


def _filled(name: str, nonce: str, values: Mapping[str, str]) -> str:
    return filled(name, values).replace("{{nonce}}", f' nonce="{escape(nonce)}"')


def _begun_at(html: str, field: str, problem: str) -> str:
    """The page, at whose problem the browser begins: without a script, that announces it."""
    states = {"": "refusal", "token": "token", "key": "key"}
    for each, name in states.items():
        marked = ' aria-invalid="true" autofocus' if each else ' tabindex="-1" autofocus'
        html = html.replace(f"{{{{{name}-state}}}}", marked if problem and each == field else "")
    return html
