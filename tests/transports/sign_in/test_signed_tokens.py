"""Tokens of issuers: the ones that are accepted, and every way to forge one."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
import respx
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.transports.sign_in.scene import (
    ISSUER,
    NOW,
    RESOURCE,
    Issuer,
    Scene,
    key_of,
    opened,
    trust,
)

pytestmark = pytest.mark.anyio
OTHER = "https://login.example.org"


def part(value: object) -> str:
    """One part of a token."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def unsigned(header: object, claims: object, signature: bytes = b"") -> str:
    return f"{part(header)}.{part(claims)}.{part(signature) if signature else ''}"


def with_claims(token: str, claims: object) -> str:
    """The token with other claims under its signature."""
    head, _, signature = token.split(".")
    return f"{head}.{part(claims)}.{signature}"


def by_public_key(issuer: Issuer) -> str:
    """Signed with a shared secret that everybody knows: the public key."""
    public = key_of("RS256").public_key()
    secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    token = unsigned({"alg": "HS256", "typ": "JWT", "kid": "k1"}, issuer.claims())
    signed = token.rstrip(".").encode()
    return f"{signed.decode()}.{part(hmac.digest(secret, signed, hashlib.sha256))}"


def forged(**headers: Any) -> Callable[[Issuer], str]:
    """Signed with a key of the forger's."""
    key = key_of("RS256", 9)
    own = Issuer(keys={"k1": ("RS256", key)})
    return lambda _issuer: own.token(headers=headers)


def good(headers: dict[str, Any] | None = None, **changes: Any) -> Callable[[Issuer], str]:
    """Signed by the issuer itself."""
    return lambda issuer: issuer.token(headers=headers, **changes)


FORGED: dict[str, Callable[[Issuer], str]] = {
    "another key": forged(),
    "another key in its header": forged(
        jwk=Issuer(keys={"x": ("RS256", key_of("RS256", 9))}).jwk("x")
    ),
    "another place for keys": forged(jku="https://evil.example/keys", x5u="https://evil.example"),
    "another kind of key": lambda issuer: Issuer(keys={"k1": ("ES256", key_of("ES256"))}).token(),
    "no signature": lambda issuer: unsigned({"alg": "none", "kid": "k1"}, issuer.claims()),
    "None as a word": lambda issuer: unsigned({"alg": "NoNe", "kid": "k1"}, issuer.claims()),
    "no kind of signature": lambda issuer: unsigned({"kid": "k1"}, issuer.claims()),
    "a kind that is a list": lambda issuer: unsigned({"alg": ["RS256"]}, issuer.claims()),
    "the public key as a secret": by_public_key,
    "a changed claim": lambda issuer: with_claims(issuer.token(), issuer.claims(sub="sub-bob")),
    "its signature cut": lambda issuer: issuer.token().rpartition(".")[0] + ".",
    "an issuer nobody trusts": good(iss=OTHER),
    "an issuer with a slash more": good(iss=f"{ISSUER}/"),
    "no issuer": good(iss=None),
    "an issuer that is a list": good(iss=[ISSUER]),
    "a kind that is not allowed": lambda issuer: Issuer(
        keys={"k1": ("RS512", key_of("RS256"))}
    ).token(),
    "expired": good(exp=NOW - 31),
    "no end": good(exp=None),
    "an end that is text": good(exp=str(NOW + 300)),
    "an end that is true": good(exp=True),
    "an end that is no number": good(exp=float("nan")),
    "an end beyond all years": good(exp=10**400),
    "a beginning beyond all years": good(nbf=-(10**400)),
    "for later": good(nbf=NOW + 31),
    "made later": good(iat=NOW + 31),
    "made when it is true": good(iat=True),
    "longer than a header may be": good(filler="x" * 6000),
    "a header that is no text": lambda issuer: unsigned(b"\xff\xfe", issuer.claims(), b"x"),
    "another audience": good(aud="https://other.example.com/mcp"),
    "an audience that begins alike": good(aud=f"{RESOURCE}2"),
    "another audience that contains it": good(aud=f"{RESOURCE} https://x"),
    "no audience": good(aud=None),
    "an audience that is an object": good(aud={RESOURCE: 1}),
    "no person": good(sub=None),
    "an empty person": good(sub=""),
    "a person that is a number": good(sub=7),
    "a person of 256 letters": good(sub="a" * 256),
    "an identity token": good({"typ": "id+jwt"}),
    "an unknown demand": good({"crit": ["exp"], "exp": 1}),
    "a header nested too deep": lambda issuer: unsigned(b"[" * 5000, issuer.claims(), b"x"),
    "claims nested too deep": lambda issuer: unsigned({"alg": "RS256"}, b'{"a":' * 900, b"x"),
    "claims that are a list": lambda issuer: unsigned({"alg": "RS256"}, [], b"x"),
    "encrypted": lambda issuer: "a.b.c.d.e",
}


@pytest.mark.parametrize("name", FORGED)
async def test_a_token_that_is_forged_expired_or_for_others_is_refused(
    scene: Scene, name: str
) -> None:
    """Nobody is asked who that might be (ours)."""
    answer = await scene.ask(FORGED[name](scene.issuer))

    assert answer.status_code == 401
    assert scene.people.asked == []


GOOD: dict[str, Callable[[Issuer], str]] = {
    "as RFC 9068 wants it": good(),
    "of another type": good({"typ": "JWT"}),
    "without a type": good({"typ": None}),
    "a slash after the audience": good(aud=f"{RESOURCE}/"),
    "several audiences": good(aud=["https://other.example.com", RESOURCE]),
    "expired within the leeway": good(exp=NOW - 29),
    "made within the leeway": good(iat=NOW + 29, nbf=NOW + 29),
    "an end with a fraction": good(exp=NOW + 0.5),
    "scopes as a list": good(scope=["videos:read"]),
    "scopes of another vendor": good(scope=None, scp="videos:read"),
    "no name for the only key": good({"kid": None}),
    "as long as that of a user of many groups": good(groups="x" * 5000),
}


@pytest.mark.parametrize("name", GOOD)
async def test_what_issuers_really_send_is_accepted(scene: Scene, name: str) -> None:
    """(observed elsewhere)"""
    assert (await scene.ask(GOOD[name](scene.issuer))).status_code == 200


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
async def test_each_usual_signature_is_checked(network: respx.Router, algorithm: str) -> None:
    issuer = Issuer(keys={"k1": (algorithm, key_of(algorithm))})
    issuer.serve(network)
    async with opened(trust(), issuer) as scene:
        fine = await scene.ask(issuer.token())
        head, _, tail = issuer.token().rpartition(".")
        broken = await scene.ask(f"{head}.{'B' if tail[0] == 'A' else 'A'}{tail[1:]}")

    assert [fine.status_code, broken.status_code] == [200, 401]


async def test_one_trusted_issuer_cannot_sign_for_another(network: respx.Router) -> None:
    """Each has its own keys, also where they have the same names (ours)."""
    other = Issuer(OTHER, {"k1": ("RS256", key_of("RS256", 2))})
    Issuer().serve(network)
    other.serve(network)
    async with opened(trust(issuers=[{"issuer": ISSUER}, {"issuer": OTHER}])) as scene:
        own = await scene.ask(other.token())
        lent = await scene.ask(other.token(iss=ISSUER))

    assert [own.status_code, lent.status_code] == [200, 401]


async def test_an_extra_audience_is_that_of_one_issuer_alone(network: respx.Router) -> None:
    """Some corporate issuers name the application, not the address (observed elsewhere)."""
    other = Issuer(OTHER, {"k1": ("RS256", key_of("RS256", 2))})
    Issuer().serve(network)
    other.serve(network)
    both = [{"issuer": ISSUER, "audiences": ["api://wan"]}, {"issuer": OTHER}]
    async with opened(trust(issuers=both)) as scene:
        fine = await scene.ask(scene.issuer.token(aud="api://wan"))
        wrong = await scene.ask(other.token(aud="api://wan"))

    assert [fine.status_code, wrong.status_code] == [200, 401]


async def test_an_expired_token_does_not_make_the_server_ask_for_keys(
    scene: Scene, keys: respx.Route
) -> None:
    """Its key may be gone for good (ours)."""
    assert (await scene.ask(scene.issuer.token(exp=NOW - 3600))).status_code == 401
    assert keys.call_count == 0


@pytest.mark.parametrize("name", ["no signature", "the public key as a secret", "encrypted"])
async def test_a_signature_that_is_not_allowed_does_not_make_the_server_ask_for_keys(
    scene: Scene, keys: respx.Route, name: str
) -> None:
    """The kind of the key decides as well, but nobody need look for one (ours)."""
    await scene.ask(FORGED[name](scene.issuer))

    assert keys.call_count == 0


async def test_a_token_is_good_until_its_end_and_no_longer(scene: Scene) -> None:
    token = scene.issuer.token(exp=NOW + 60)
    statuses = []
    for scene.clock.now in (0, 89, 90):
        statuses.append((await scene.ask(token)).status_code)

    assert statuses == [200, 200, 401]


def test_the_forgers_tokens_are_signed_as_they_say() -> None:
    """Otherwise the tests above would prove nothing (ours)."""
    token = by_public_key(Issuer())
    public = key_of("RS256").public_key()
    secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed, _, signature = token.rpartition(".")

    assert part(hmac.digest(secret, signed.encode(), hashlib.sha256)) == signature
    with pytest.raises(jwt.InvalidKeyError):
        jwt.decode(token, secret, algorithms=["HS256"])
