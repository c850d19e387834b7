"""Which variables of an environment, or of a .env file, are settings of this program."""

import difflib
import re
from collections.abc import Mapping

_QUOTES = ('""', "''", "\u201c\u201d", "\u2018\u2019")


def ours(values: Mapping[str, str | None]) -> dict[str, str]:
    """Our names only. A blank value, or a literal ${...} that a bundle passes for it, is unset."""
    named = {name: _bare(value or "") for name, value in values.items() if _is_ours(name)}
    return {
        name: value
        for name, value in named.items()
        if value and not _is_placeholder(value) and not _is_service_link(name, value)
    }


def _bare(value: str) -> str:
    """Without outer spaces, and without the quotes that `docker --env-file` takes as written."""
    value = value.strip()
    quoted = len(value) > 1 and value[0] + value[-1] in _QUOTES
    return value[1:-1].strip() if quoted else value


def _is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes has set it for a service whose name begins like ours (documented)."""
    if re.fullmatch(r"[A-Z_]+_SERVICE_(HOST|PORT(_\w+)?)", name):
        return True
    link = re.search(r"_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$", name)
    return link is not None and (link[1] is not None or "://" in value)


def _is_ours(name: str) -> bool:
    # Other programs may use PIXELDOJO_ too: only a name close to one of ours is a mistake.
    rest = name.startswith("PIXELDOJO_") and name.removeprefix("PIXELDOJO_")
    near = rest and difflib.get_close_matches(rest, ("API_KEY", "API_BASE"))
    return name.startswith("WAN_MCP_") or bool(near)


def _is_placeholder(value: str) -> bool:
    return re.fullmatch(r"\$\{[^}]*\}", value) is not None
