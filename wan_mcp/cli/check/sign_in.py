"""Checks signing in: are the settings complete, and can the issuers be read?"""

from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup

from wan_mcp.cli.check.findings import Finding, Report, broken, note, ok
from wan_mcp.cli.http_command import require_complete
from wan_mcp.cli.team import trust_of
from wan_mcp.settings import BadSettings, Settings
from wan_mcp.tenants.caller import IdentityUnknown
from wan_mcp.transports.sign_in.code_flow import (
    ABOUT_CLIENT,
    Begun,
    CodeFlow,
    CodeRefused,
    Misfit,
)
from wan_mcp.transports.sign_in.discovery import Discovery
from wan_mcp.transports.sign_in.key_sets import KeySet
from wan_mcp.transports.sign_in.opaque_tokens import OpaqueTokens
from wan_mcp.transports.sign_in.refusals import WrongToken
from wan_mcp.transports.sign_in.remembered import Remembered
from wan_mcp.transports.sign_in.trust import Issuer, Trust
from wan_mcp.web.documents import Document, Documents, Unavailable
from wan_mcp.wording import counted

NO_TOKEN = "wan-mcp-check"
"""A text that no issuer has ever used as a token, a code, or the name of a key (assumed)."""
_NETWORK = (
    "Compare the address with that of your authorization server, and check whether this computer "
    "reaches it: the network, and the proxy settings (HTTPS_PROXY, NO_PROXY)."
)
_REGISTER = (
    "Compare client_id and client_secret_file with the client that you registered there: it has to "
    "be one for the authorization code flow, with the redirect address {back}."
)
_CHANGE = "Take it out of the file of WAN_MCP_SIGN_IN: while it is in there, anybody can sign in."


async def look(settings: Settings, report: Report) -> None:
    """Report on the settings, and then on each issuer; its documents are read once.

    Args:
        settings: settings with which people sign in, or have keys of their own.
    """
    try:
        require_complete(settings, "localhost")
        trust = trust_of(settings)
    except BadSettings as exc:
        way_out = "Correct it; until then wan-mcp http does not start with these settings."
        report.add(broken("sign-in", f"{exc}.", way_out))
        return
    if trust is None:
        report.add(ok("sign-in", "People sign in with tokens of wan-mcp.", issuers=[]))
        return
    issuers = [each.issuer for each in trust.issuers]
    found = (
        f"People sign in at {trust.resource} with tokens of {counted(len(issuers), 'issuer')}, or "
        "of wan-mcp."
    )
    report.add(ok("sign-in", found, resource=trust.resource, issuers=issuers))
    documents = Documents()
    try:
        async with anyio.create_task_group() as tasks:
            for issuer in trust.issuers:
                looking = _Issuer(trust, issuer, documents, tasks)
                report.add(await looking.look())
                if issuer.key_page is not None:
                    report.add(await looking.page(in_use=bool(settings.personal_keys)))
    finally:
        await documents.aclose()


@dataclass(frozen=True)
class _Issuer:
    trust: Trust
    issuer: Issuer
    documents: Documents
    tasks: TaskGroup

    async def look(self) -> Finding:
        """Check a token as a server does. It is invented, so it should be refused."""
        name, own = self.issuer.issuer, self.issuer.introspection
        try:
            await (self._keys() if own is None else self._introspection())
        except WrongToken:
            what = "its keys" if own is None else "what it says about tokens"
            return ok("issuer", f"{name} answers, and {what} can be used.", issuer=name)
        except Unavailable as exc:
            secret = "" if own is None else "Check client_id and client_secret, too. "
            return broken("issuer", f"{name} {exc}.", secret + _NETWORK, issuer=name)
        return broken("issuer", f"{name} accepts an invented token.", _CHANGE)

    async def page(self, *, in_use: bool) -> Finding:
        """Exchange an invented code. If the client fits, the code is the only reason to refuse."""
        name, flow = self.issuer.issuer, CodeFlow(self.trust, self.issuer, self.documents)
        register = _REGISTER.format(back=flow.redirect)
        try:
            await flow.token(Begun.new(name), {"iss": name, "code": NO_TOKEN})
        except Misfit as exc:
            found = f"Nobody can sign in on the page for keys: {name} {exc.why}."
            return broken("issuer", found, register, issuer=name)
        except CodeRefused as exc:
            # Any other error is about the invented code.
            if exc.error in ABOUT_CLIENT:
                found = f"Nobody can sign in on the page for keys: {name} answers {exc.error}."
                return broken("issuer", found, register, issuer=name)
        except IdentityUnknown as exc:
            why = str(exc).removeprefix("the issuer ")
            found = f"Nobody can sign in on the page for keys: {name} {why}."
            return broken("issuer", found, _NETWORK, issuer=name)
        else:
            return broken("issuer", f"{name} gives a token for an invented code.", _CHANGE)
        found = (
            f"{name} knows the client with which people sign in on the page for keys; its redirect "
            f"address has to be {flow.redirect}."
        )
        if in_use:
            return ok("issuer", found, issuer=name, redirect=flow.redirect)
        way_out = "Set WAN_MCP_PERSONAL_KEYS=on, or there is no such page."
        return note("issuer", found, way_out, issuer=name)

    async def _keys(self) -> None:
        discovery, failed = Discovery(self.issuer, self.documents), list[Unavailable]()

        async def fetch() -> Document:
            try:
                return await discovery.keys()
            except Unavailable as exc:
                failed.append(exc)
                raise

        kinds = self.issuer.algorithms
        try:
            await KeySet(self.issuer.issuer, fetch, kinds, self.tasks).find(kinds[0], NO_TOKEN)
        except IdentityUnknown:
            raise (failed or [Unavailable("shows no keys that can be used")])[0] from None

    async def _introspection(self) -> None:
        known = Remembered(self.tasks)
        try:
            await OpaqueTokens(self.trust, self.issuer, self.documents, known).check(NO_TOKEN)
        except IdentityUnknown as exc:
            # The text begins with the name of the issuer, which the line contains already.
            raise Unavailable(str(exc).removeprefix(f"issuer {self.issuer.issuer} ")) from None
