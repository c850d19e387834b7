"""The addresses of an issuer's keys, introspection and sign-in, according to its own metadata."""

from typing import NamedTuple
from urllib.parse import urlsplit

from wan_mcp.transports.sign_in.trust import Issuer, checked_address
from wan_mcp.web.documents import Document, Documents, Unavailable


class Places(NamedTuple):
    """The addresses for signing in with a browser.

    Attributes:
        authorization: the issuer's page for signing in.
        token: where a code is exchanged.
        takes_form: whether a secret is sent there in the form, because the scheme Basic is not
            accepted.
        names_itself: whether each answer says from which issuer it comes (RFC 9207).
    """

    authorization: str
    token: str
    takes_form: bool
    names_itself: bool


class Discovery:
    """Looks up the addresses of one issuer, once.

    Args:
        issuer: as the operator has configured it; addresses that are set there are not looked up.
        documents: fetches its metadata.
    """

    def __init__(self, issuer: Issuer, documents: Documents) -> None:
        self._issuer = issuer
        self._documents = documents
        self._metadata: Document | None = None

    async def keys(self) -> Document:
        """The issuer's document of keys. Raises Unavailable."""
        try:
            url = self._issuer.jwks_uri or await self._address("jwks_uri")
            return await self._documents.get(url)
        except Unavailable:
            self._metadata = None  # the keys may have moved
            raise

    async def introspection(self) -> str:
        """The address at which the issuer is asked about tokens. Raises Unavailable."""
        own = self._issuer.introspection
        return (own and own.url) or await self._address("introspection_endpoint")

    async def places(self) -> Places:
        """The addresses for signing in with a browser. Raises Unavailable."""
        authorization = await self._address("authorization_endpoint")
        token = await self._address("token_endpoint")
        said = self._metadata or {}
        challenges = said.get("code_challenge_methods_supported")
        if isinstance(challenges, list) and "S256" not in challenges:
            raise Unavailable("has metadata by which it does not know PKCE with S256")
        ways = said.get("token_endpoint_auth_methods_supported")
        ways = ways if isinstance(ways, list) else []
        return Places(
            authorization,
            token,
            "client_secret_post" in ways and "client_secret_basic" not in ways,
            said.get("authorization_response_iss_parameter_supported") is True,
        )

    async def _address(self, name: str) -> str:
        self._metadata = self._metadata or await self._find()
        url = self._metadata.get(name)
        try:
            return checked_address(url if isinstance(url, str) else "")
        except ValueError as exc:
            raise Unavailable(f"has metadata without a usable {name}") from exc

    async def _find(self) -> Document:
        """The issuer's metadata, from the first of its usual addresses that has it."""
        first: Unavailable | None = None
        for url in _places(self._issuer.issuer):
            try:
                metadata = await self._documents.get(url)
            except Unavailable as exc:
                first = first or exc
                continue
            if metadata.get("issuer") != self._issuer.issuer:
                raise Unavailable("has metadata of another issuer")
            return metadata
        assert first is not None
        raise first


def _places(issuer: str) -> tuple[str, str]:
    """The addresses of metadata by OpenID Connect and by RFC 8414."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    begin = f"{parts.scheme}://{parts.netloc}"
    return (
        f"{begin}{path}/.well-known/openid-configuration",
        f"{begin}/.well-known/oauth-authorization-server{path}",
    )
