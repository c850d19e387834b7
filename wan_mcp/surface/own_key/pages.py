"""The pages on which a user stores or removes a PixelDojo key of their own. They run no script."""

from collections.abc import Mapping
from html import escape

from wan_mcp.surface.player import filled

_TITLE = "Your own PixelDojo key"
_REMOVAL = "See or remove your PixelDojo key"
_FOCUSED = ' tabindex="-1" autofocus'


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
    return _begun_at(_with_section(html, section), field, problem)


def signed_in_page(
    nonce: str,
    name: str,
    issuer: str,
    ticket: str,
    *,
    state: str = "",
    removable: bool = False,
    field: str = "",
    problem: str = "",
) -> str:
    """The page on which a user who has signed in brings a key, or removes one, as HTML.

    Args:
        nonce: shows that style is ours.
        name, issuer: as whom they have signed in, and where.
        ticket: what each form brings back.
        state: what is stored for them, in sentences.
        removable: whether they can remove it.
        field, problem: as in `key_page`; also why it was not removed.
    """
    known = {"name": name, "issuer": issuer, "ticket": ticket, "state": state}
    html = _filled("signedin.html", nonce, {**_problem(field, problem), **known})
    html = _with_section(html, filled("removable.html", known) if removable else "")
    return _begun_at(html, field, problem)


def removal_page(
    nonce: str, field: str = "", problem: str = "", *, state: str = "", has_issuers: bool = False
) -> str:
    """The page on which a user with a token sees what is stored and removes it, as HTML.

    Args:
        nonce, field, problem: as in `key_page`.
        state: what is stored for the user who has just asked, in sentences; "" if no user has.
        has_issuers: whether others sign in elsewhere, who remove it on another page.
    """
    texts = {**_problem(field, problem, "token", title=_REMOVAL), "state": state}
    html = _with_section(
        _filled("remove.html", nonce, texts), filled("elsewhere.html", {}) if has_issuers else ""
    )
    html = html.replace("{{state-state}}", _FOCUSED if state and not problem else "")
    return _begun_at(html, field, problem)


def removed_page(nonce: str) -> str:
    """The page that says that no key of the user is stored, as HTML."""
    return _filled("removed.html", nonce, {})


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


def _problem(field: str, problem: str, *more: str, title: str = _TITLE) -> dict[str, str]:
    """The texts of a page with a problem, at the field that it is about."""
    texts = {"refusal" if not each else f"{each}-problem": each for each in ("", "key", *more)}
    words = {place: problem if each == field else "" for place, each in texts.items()}
    return {"title": f"Error: {title[0].lower()}{title[1:]}" if problem else title, **words}


def _with_section(html: str, section: str) -> str:
    """The page with what only some have."""
    return html.replace("{{section}}\n", section)


def _filled(name: str, nonce: str, values: Mapping[str, str]) -> str:
    return filled(name, values).replace("{{nonce}}", f' nonce="{escape(nonce)}"')


def _begun_at(html: str, field: str, problem: str) -> str:
    """The page, at whose problem the browser begins: without a script, that announces it."""
    states = {"": "refusal", "token": "token", "key": "key"}
    for each, name in states.items():
        marked = ' aria-invalid="true" autofocus' if each else _FOCUSED
        html = html.replace(f"{{{{{name}-state}}}}", marked if problem and each == field else "")
    return html
