"""The public keys of an issuer: fetched when they are needed, and not more often.

Anybody can send tokens that name a key which does not exist. So an issuer is asked at most once in
PAUSE_SECONDS, however many tokens there are, and requests in between are answered that the key
cannot be known yet. Keys that are no longer fresh are still used while new ones are fetched, and
while the issuer cannot be reached, up to USABLE_SECONDS: a revoked key may be accepted for that
long.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
import jwt
from anyio.abc import TaskGroup
from jwt.algorithms import Algorithm, get_default_algorithms

from wan_mcp.tenants.caller import IdentityUnknown
from wan_mcp.transports.sign_in.refusals import WrongToken
from wan_mcp.web.documents import Document, Unavailable

FRESH_SECONDS = 600.0
"""How long keys are used before they are fetched again (ours)."""
USABLE_SECONDS = 3600.0
"""How long they are used if the issuer does not answer (ours)."""
PAUSE_SECONDS = 10.0
"""The shortest time between two requests to one issuer (ours)."""
MAX_KEYS = 64
"""The most keys in a document, more than any issuer has (ours): parsing each takes time."""
_RSA_BITS = range(2048, 8193)
_FAMILIES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Key:
    """A public key for signatures of one kind.

    Attributes:
        id: its name at the issuer; None for a key without a name.
        algorithm: the kind of signature.
        material: the key as `jwt` uses it to check signatures.
        method: the algorithm of `jwt` that checks them.
    """

    id: str | None
    algorithm: str
    material: Any
    method: Algorithm

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        """Whether a signature of this message is by this key."""
        return bool(self.method.verify(message, self.material, signature))


class KeySet:
    """The keys of one issuer.

    Args:
        name: the issuer, for the log.
        fetch: gets its document of keys; raises Unavailable.
        algorithms: the signatures that it may use.
        tasks: where keys are fetched, for several requests at once.
        now: a clock that never goes back, in seconds.
    """

    def __init__(
        self,
        name: str,
        fetch: Callable[[], Awaitable[Document]],
        algorithms: Sequence[str],
        tasks: TaskGroup,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._fetch = fetch
        self._algorithms = algorithms
        self._tasks = tasks
        self._now = now
        self._keys: list[Key] = []
        self._fetched_at = self._asked_at = -float("inf")
        self._asking: anyio.Event | None = None

    async def find(self, algorithm: str, id: str | None) -> Key:
        """The key for a signature.

        Args:
            id: its name in the token; None suffices if the issuer has only one key of the kind.

        Raises:
            WrongToken: the issuer has no such key.
            IdentityUnknown: the issuer cannot be reached now.
        """
        key = self._known(algorithm, id)
        if key is None:
            await self._ask()
            key = self._known(algorithm, id)
        elif self._now() - self._fetched_at > FRESH_SECONDS:
            self._begin()
        if key is None:
            raise WrongToken("it is signed with a key that its issuer does not have")
        return key

    def _known(self, algorithm: str, id: str | None) -> Key | None:
        if self._now() - self._fetched_at > USABLE_SECONDS:
            return None
        fitting = [key for key in self._keys if key.algorithm == algorithm]
        if id is None:
            return fitting[0] if len(fitting) == 1 else None
        return next((key for key in fitting if key.id == id), None)

    async def _ask(self) -> None:
        """Have the keys fetched, or wait while another request does. Raises IdentityUnknown."""
        before = self._fetched_at
        self._begin()
        if self._asking is None:
            left = self._asked_at + PAUSE_SECONDS - self._now()
            raise IdentityUnknown("the issuer was asked a moment ago", retry_after=left)
        await self._asking.wait()
        if self._fetched_at == before:
            raise IdentityUnknown("the issuer does not show its keys", retry_after=PAUSE_SECONDS)

    def _begin(self) -> None:
        """Have the keys fetched, unless that is going on or has just been done."""
        if self._asking is None and self._now() - self._asked_at >= PAUSE_SECONDS:
            self._asking, self._asked_at = anyio.Event(), self._now()
            self._tasks.start_soon(self._run, self._asking)

    async def _run(self, asking: anyio.Event) -> None:
        try:
            self._keys = _keys(await self._fetch(), self._algorithms)
            self._fetched_at = self._now()
        except Unavailable as exc:
            logger.warning("no keys of issuer %s: it %s", self._name, exc)
        except Exception:
            # Another program's document must not end the server, in whose tasks payments run.
            logger.exception("the keys of issuer %s could not be read", self._name)
        finally:
            self._asking = None
            asking.set()


def _keys(document: Document, algorithms: Sequence[str]) -> list[Key]:
    """The usable keys. Raises Unavailable if there are none, which may be a mistake."""
    given = document.get("keys")
    if not isinstance(given, list) or len(given) > MAX_KEYS:
        raise Unavailable("shows no list of keys, or one that is too long")
    found = [key for each in given for name in algorithms if (key := _key(each, name)) is not None]
    if not found:
        raise Unavailable("shows no key that can be used")
    return found


def _key(given: object, algorithm: str) -> Key | None:
    """A key for one kind of signature; None if it is not for that, or is not sound."""
    if not isinstance(given, dict) or "d" in given or not _is_for(given, algorithm):
        return None
    try:
        method = get_default_algorithms()[algorithm]
        material: Any = method.from_jwk(given)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if given["kty"] == "RSA" and material.key_size not in _RSA_BITS:
        return None
    id = given.get("kid")
    return Key(id if isinstance(id, str) else None, algorithm, material, method)


def _is_for(given: dict[str, Any], algorithm: str) -> bool:
    operations = given.get("key_ops", ["verify"])
    return (
        given.get("kty") == _FAMILIES[algorithm[:2]]
        and given.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
        and given.get("alg", algorithm) == algorithm
        and given.get("crv") == _CURVES.get(algorithm, given.get("crv"))
    )
