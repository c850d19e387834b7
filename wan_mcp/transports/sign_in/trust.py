"""Whom the operator trusts: the authorization servers, and what their tokens must look like.

It is written in a file in TOML, because it has secrets and lists::

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
"""The end of the address of the resource; what stands before it is the matter of a proxy."""

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
"""Signatures by a private key. A shared secret is no option: whoever can check one can sign."""

_ADDRESS = r"https?://[!-~]+"


def checked_address(text: str) -> str:
    """The address of an issuer, or one that it names: https, or http on this machine.

    Raises:
        ValueError: the rest of a sentence.
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
        url: where; unset: where the metadata of the issuer says.
        client_id, client_secret: what this server is called there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: Address | None = None
    client_id: str = Field(min_length=1)
    client_secret: SecretStr = Field(min_length=1)


def _secret_in(path: object) -> str:
    """The secret that is alone in a file.

    Raises:
        ValueError: the rest of a sentence, without anything of the file.
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
    """What this server is called at an issuer where people sign in with a browser.

    Attributes:
        client_id: its name there.
        client_secret: what is alone in the file; None for a public client, which PKCE protects.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    client_id: str = Field(min_length=1)
    client_secret: Annotated[SecretStr, BeforeValidator(_secret_in)] | None = Field(
        None, alias="client_secret_file"
    )


class Issuer(BaseModel):
    """An authorization server that is trusted.

    Attributes:
        issuer: its address, exactly as its tokens and its metadata name it.
        audiences: what its tokens may be for besides the resource.
        algorithms: the signatures that it may use.
        jwks_uri: where its keys are; unset: where its metadata says.
        introspection: set: it is asked about each token; unset: its signatures are checked.
        key_page: set: people can sign in there on the page for keys of their own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    issuer: Address
    audiences: tuple[str, ...] = ()
    algorithms: tuple[Algorithm, ...] = ("RS256", "PS256", "ES256", "EdDSA")
    jwks_uri: Address | None = None
    introspection: Introspection | None = None
    key_page: PageClient | None = None


class Trust(BaseModel):
    """What the operator has written.

    Attributes:
        resource: the public address of `/mcp`, without a slash at its end.
        issuers: at least one.
        scope_prefix: what the issuers want before each scope that a client asks for; their tokens
            may name it or leave it out.
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
            # Nothing in such a token says whose it is: it would be shown to the other issuer.
            raise ValueError("has introspection for more than one issuer")
        return self

    @property
    def key_issuers(self) -> Mapping[str, str]:
        """Those at which people can sign in on the page for keys, each with a name for people.

        It is the host; of issuers with one host, all of the address.
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
        """Its public address."""
        parts = urlsplit(self.resource)
        return f"{parts.scheme}://{parts.netloc}{self.metadata_path}"

    @property
    def site(self) -> str:
        """The public address below which all of this server is, such as the pages of users."""
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
        ValueError: it cannot be used. The text is a clause, with nothing of the file but names.
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
