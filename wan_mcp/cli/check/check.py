"""One run of `wan-mcp check`: what is checked, in which order, and with which keys."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from wan_mcp.cli.check import installation, network
from wan_mcp.cli.check.bucket import bucket, stored_videos
from wan_mcp.cli.check.database import Database
from wan_mcp.cli.check.entries import OURS, Entries, Entry, Start, read
from wan_mcp.cli.check.findings import Finding, Report, broken, note
from wan_mcp.cli.check.network import Access
from wan_mcp.cli.check.start import started
from wan_mcp.cli.check.storage import Disks, chosen_folder
from wan_mcp.cli.hosts.catalogue import HOSTS, Folders
from wan_mcp.settings import API_BASE, KEY, Settings
from wan_mcp.videos.unfinished import Free, free_bytes


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Check:
    """Everything that is checked, on this machine and on the network.

    Attributes:
        environment: the variables of the shell.
        folders: where hosts keep their settings; None for a user without a home folder.
        connect: returns a client for PixelDojo's API.
        start: starts the server of an entry.
        free: looks up how much room a disk has.
        now: gives the date and time, UTC.
    """

    environment: Mapping[str, str]
    folders: Folders | None
    connect: network.Connect = network.connect
    start: Start = started
    free: Free = free_bytes
    now: Callable[[], datetime] = _utc_now

    async def run(self, report: Report) -> None:
        """Check one thing after the other. No finding contains a key."""
        settings, about_settings = installation.settings(self.environment)
        entries = self._entries()
        ours = [each for each in entries if isinstance(each, Entry)]
        accesses = _accesses(settings, ours)
        keys = {access.key for access in accesses} - {""}
        # If another setting cannot be used, the key is not tried, but it is still a secret.
        hidden = {each.environment.get(KEY, "") for each in ours} | _addresses(settings)
        report.secrets = (keys | hidden) - {""}
        report.add(installation.program())
        report.add(installation.extras(settings))
        report.add(about_settings)
        if settings is not None:
            await self._records(settings, accesses, report)
            report.add(await bucket(settings, self.now))
            if found := await stored_videos(settings):
                report.add(found)
        await network.look(accesses, self.connect, self.now, report)
        if not keys and not _has_users(settings):
            report.add(_no_key(entries))
        known = Entries(self.start, self.environment.get("PATH"), _neutral_folder())
        for each in entries:
            report.add(each if isinstance(each, Finding) else await known.look(each))
            if isinstance(each, Entry) and (other := _other_ledger(each, settings)):
                report.add(other)

    async def _records(
        self, settings: Settings, accesses: Sequence[Access], report: Report
    ) -> None:
        """Check the ledger and the people in it, and the folder for videos."""
        disks = Disks(settings, self.free, self.now, accesses, report)
        if settings.ledger_url.get_secret_value():
            Database(settings, accesses, report).look()
        else:
            disks.ledger()
        if settings.sign_in is not None or settings.personal_keys:
            from wan_mcp.cli.check import sign_in  # it needs what only a team installs

            await sign_in.look(settings, report)
        disks.videos()

    def _entries(self) -> list[Entry | Finding]:
        if self.folders is None:
            return []
        passed_on = {
            name: value
            for name, value in self.environment.items()
            if not name.upper().startswith(OURS)
        }
        found = (read(host, self.folders, passed_on, _neutral_folder()) for host in HOSTS)
        return [each for each in found if each is not None]


def _accesses(settings: Settings | None, entries: Sequence[Entry]) -> list[Access]:
    """Every key with the API to which it is sent, once each; only the API if there is no key."""
    places: dict[tuple[str, str], list[str]] = {}
    if settings is not None:
        # Where people sign in, a key in the settings is not used.
        key = "" if _has_users(settings) else settings.api_key.get_secret_value()
        places[settings.api_base, key] = ["the settings of this shell"]
    for entry in entries:
        if entry.settings is not None:
            place = places.setdefault((entry.settings.api_base, entry.key), [])
            place.append(f"{entry.host.title}'s entry")
    found = [Access(base, key, tuple(names)) for (base, key), names in places.items()]
    with_key = [access for access in found if access.key]
    return with_key or found[:1] or [Access(API_BASE, "")]


def _has_users(settings: Settings | None) -> bool:
    """Whether people sign in, whose PixelDojo keys are in the ledger."""
    return settings is not None and settings.sign_in is not None


def _addresses(settings: Settings | None) -> set[str]:
    """The addresses of the database, which contain its password."""
    if settings is None:
        return set()
    return {each.get_secret_value() for each in (settings.ledger_url, settings.ledger_listen_url)}


def _no_key(entries: Sequence[Entry | Finding]) -> Finding:
    asking = [e.host.title for e in entries if isinstance(e, Entry) and e.host.inputs]
    if asking:
        return note(
            "key",
            f"No key was found here; {asking[0]} keeps it as a secret, so it was not tried.",
            "To try a key: set PIXELDOJO_API_KEY in this shell and run this again.",
        )
    return broken(
        "key",
        "No PixelDojo API key was found, neither in the settings of this shell nor in a host's "
        "entry.",
        "Create one in your account on pixeldojo.ai, then run wan-mcp setup HOST, which asks for "
        "it.",
    )


def _other_ledger(entry: Entry, settings: Settings | None) -> Finding | None:
    """The finding about an entry whose server would use a ledger other than this shell's."""
    if settings is None or entry.settings is None:
        return None
    databases = settings.ledger_url, entry.settings.ledger_url
    if any(each.get_secret_value() for each in databases):
        return None if databases[0] == databases[1] else _other_database(entry)
    own, other = chosen_folder(settings).folder, chosen_folder(entry.settings).folder
    if other in (own, None):
        return None
    return note(
        "ledger",
        f"The server of {entry.host.title}'s entry keeps its jobs in {other}, and this shell in "
        f"{own}: what is paid for in one of them is not known in the other.",
        "Set WAN_MCP_DATA_DIR to the same folder everywhere, or nowhere.",
    )


def _other_database(entry: Entry) -> Finding:
    return note(
        "ledger",
        f"The server of {entry.host.title}'s entry keeps its jobs in another place than this "
        "shell, and one of the two is a database: what is paid for in one of them is not known in "
        "the other.",
        "Set WAN_MCP_LEDGER_URL to the same address everywhere, or nowhere.",
    )


def _neutral_folder() -> Path:
    """The folder of this installation, which has no `.env` file that could hold a key."""
    return Path(sys.executable).parent
