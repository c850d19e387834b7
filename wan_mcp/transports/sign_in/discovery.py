"""Where an issuer has its keys, and where it is asked about tokens, as its own metadata says."""

from urllib.parse import urlsplit

from wan_mcp.transports.sign_in.trust import Issuer, checked_address
from wan_mcp.web.documents import Document, Documents, Unavailable


class Discovery:
    """Looks up the addresses of one issuer, once.

    Args:
        issuer: as the operator has written it; what stands there is not looked up.
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
        """Where it is asked about tokens. Raises Unavailable."""
        own = self._issuer.introspection
        return (own and own.url) or await self._address("introspection_endpoint")

    async def _address(self, name: str) -> str:
        self._metadata = self._metadata or await self._find()
        url = self._metadata.get(name)
        try:
            return checked_address(url if isinstance(url, str) else "")
        except ValueError as exc:
            raise Unavailable(f"has metadata without a usable {name}") from exc

    async def _find(self) -> Document:
        """The issuer's metadata, from the first of its usual places that has one."""
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
    """Those of OpenID Connect and of RFC 8414."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    begin = f"{parts.scheme}://{parts.netloc}"
    return (
        f"{begin}{path}/.well-known/openid-configuration",
        f"{begin}/.well-known/oauth-authorization-server{path}",
    )
