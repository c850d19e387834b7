"""Whom the operator trusts: the authorization servers, and what their tokens must look like.

This is written in a TOML file, because it contains secrets and lists::

    resource = "https://wan.example.com/mcp"

    [[issuers]]
    issuer = "https://login.example.com"
"""

import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from wan_mcp.web.addresses import is_loopback

RESOURCE_PATH = "/mcp"
"""The end of the address of the resource; a proxy decides what precedes it."""

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
"""Signatures with a private key. A shared secret is not accepted: it can check, but also sign."""

_ADDRESS = r"https?://[!-~]+"


def checked_address(text: str) -> str:
    """The address of an issuer, or one that it names: https, or http on this machine.

    Raises:
        ValueError: the text is the rest of a sentence.
    """
    parts = urlsplit(text) if re.fullmatch(_ADDRESS, text) else urlsplit("")
    if not parts.hostname or re.search(r'[?#@\\"]', text):
        raise ValueError("must be a plain https:// address")
    if parts.scheme != "https" and not is_loopback(parts.hostname):
        raise ValueError("must begin with https:// (or lead to this machine)")
    return text


def _resource(text: str) -> str:
    base = checked_address(text.rstrip("/"))
    path = urlsplit(base).path
    if not path.endswith(RESOURCE_PATH) or path.endswith(f"/token{RESOURCE_PATH}"):
        raise ValueError("must be the public address of this server, which ends with /mcp")
    return base


Address = Annotated[str, AfterValidator(checked_address)]


class Introspection(BaseModel):
    """How an issuer is asked about tokens that only it can read (RFC 7662).

    Attributes:
        url: the address for it; unset: the one in the metadata of the issuer.
        client_id, client_secret: the login of this server there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: Address | None = None
    client_id: str = Field(min_length=1)
    client_secret: SecretStr = Field(min_length=1)


def _secret_in(path: object) -> str:
    """The secret in a file that contains nothing else.

    Raises:
        ValueError: the text is the rest of a sentence, and quotes nothing of the file.
    """
    if not isinstance(path, str) or not Path(path).is_absolute():
        raise ValueError("must be the full path of a file")
    try:
        text = Path(path).read_text("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as exc:
        raise ValueError(f"the file cannot be read ({exc.strerror})") from None
    except UnicodeDecodeError:
        raise ValueError("the file is not UTF-8 text") from None
    if not text.strip() or not text.isprintable():
        raise ValueError("the file is empty, or has more than one line")
    return text


class PageClient(BaseModel):
    """The login of this server at an issuer where people sign in with a browser.

    Attributes:
        client_id: its name there.
        client_secret: the secret in the file; None for a public client, which PKCE protects.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    client_id: str = Field(min_length=1)
    client_secret: Annotated[SecretStr, BeforeValidator(_secret_in)] | None = Field(
        None, alias="client_secret_file"
    )


class Issuer(BaseModel):
    """A trusted authorization server.

    Attributes:
        issuer: its address, exactly as its tokens and its metadata name it.
        audiences: further audiences, besides the resource, for which its tokens may be.
        algorithms: the signatures that it may use.
        jwks_uri: the address of its keys; unset: the one in its metadata.
        introspection: if set, it is asked about each token; otherwise signatures are checked.
        key_page: if set, people can sign in there for the page for keys of their own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    issuer: Address
    audiences: tuple[str, ...] = ()
    algorithms: tuple[Algorithm, ...] = ("RS256", "PS256", "ES256", "EdDSA")
    jwks_uri: Address | None = None
    introspection: Introspection | None = None
    key_page: PageClient | None = None


class Trust(BaseModel):
    """The content of the operator's file.

    Attributes:
        resource: the public address of `/mcp`, without a slash at its end.
        issuers: at least one.
        scope_prefix: the prefix that the issuers require before each scope that a client requests;
            their tokens may contain it or leave it out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    resource: Annotated[str, AfterValidator(_resource)]
    issuers: tuple[Issuer, ...] = Field(min_length=1)
    scope_prefix: str = Field(default="", pattern=r"^[!#-\[\]-~]*$")

    @model_validator(mode="after")
    def _is_unambiguous(self) -> Self:
        if len({each.issuer for each in self.issuers}) < len(self.issuers):
            raise ValueError("names an issuer twice")
        if len([each for each in self.issuers if each.introspection]) > 1:
            # Such a token does not say whose it is, so it would be shown to the other issuer, too.
            raise ValueError("has introspection for more than one issuer")
        return self

    @property
    def key_issuers(self) -> Mapping[str, str]:
        """The issuers with which people can sign in on the page for keys, each with a name to show.

        The name is the host; for issuers on the same host, it is the whole address.
        """
        named = [each.issuer for each in self.issuers if each.key_page is not None]
        hosts = Counter(urlsplit(each).netloc for each in named)
        whole = {each: each.partition("://")[2].rstrip("/") for each in named}
        return {
            each: host if hosts[host := urlsplit(each).netloc] == 1 else whole[each]
            for each in named
        }

    @property
    def metadata_path(self) -> str:
        """The path of the protected resource metadata (RFC 9728)."""
        return f"/.well-known/oauth-protected-resource{urlsplit(self.resource).path}"

    @property
    def metadata_url(self) -> str:
        """The public address of that metadata."""
        parts = urlsplit(self.resource)
        return f"{parts.scheme}://{parts.netloc}{self.metadata_path}"

    @property
    def site(self) -> str:
        """The public address of this server, below which are the pages of users, for example."""
        return self.resource.removesuffix(RESOURCE_PATH)

    @property
    def host(self) -> str:
        """The name of this server as browsers send it, perhaps with a port."""
        parts = urlsplit(self.resource)
        usual = ":443" if parts.scheme == "https" else ":80"
        return parts.netloc.lower().removesuffix(usual)


def read_trust(file: Path) -> Trust:
    """Read the operator's file.

    Raises:
        ValueError: it cannot be used. The text is a clause, and quotes only names from the file.
    """
    try:
        return Trust.model_validate(tomllib.loads(file.read_text("utf-8")))
    except OSError as exc:
        raise ValueError(f"the file cannot be read ({exc.strerror})") from None
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, error["loc"])) or "it"
        raise ValueError(f"{where}: {error['msg'].removeprefix('Value error, ')}") from None
    except ValueError:  # text that is neither UTF-8 nor TOML; its message could quote a secret
        raise ValueError("the file is not TOML in UTF-8") from None
