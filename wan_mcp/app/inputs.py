"""The inputs of requests that are no links, and how they reach PixelDojo."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

from wan_mcp.videos.job_files import JobFiles

if TYPE_CHECKING:
    from pathlib import Path

    from anyio.abc import TaskGroup

    from wan_mcp.clock import Clock
    from wan_mcp.inputs.local.files import LocalFiles
    from wan_mcp.inputs.received.reception import Reception
    from wan_mcp.ledger.record import Record
    from wan_mcp.ledger.sqlite.places import Chosen
    from wan_mcp.ledger.threaded.ledger import ThreadedLedger
    from wan_mcp.ledger.wallets.workspace import CallersWorkspace
    from wan_mcp.models import InputReport, Replacement
    from wan_mcp.payments.staging import Staging
    from wan_mcp.settings import Settings
    from wan_mcp.storage.delivery import Delivery
    from wan_mcp.storage.lending import Lending
    from wan_mcp.storage.uploads import Uploads


@dataclass
class Inputs:
    """The inputs of requests that are no links. Nothing is imported or opened before it is needed.

    Attributes:
        own: the folder in which videos are saved, whose files may be inputs as well; None if
            that is in object storage, or nowhere.
        job_files: looks at inputs.
        local: whether the caller is on this machine; otherwise its files have to be uploaded.
        upload_page: where that can be done; None for nowhere.
    """

    settings: Settings
    ledger: ThreadedLedger
    data: Chosen
    own: Path | None
    job_files: JobFiles
    tasks: TaskGroup
    clock: Clock
    local: bool
    upload_page: str | None = None

    @cached_property
    def files(self) -> LocalFiles | None:
        """The files that may be inputs."""
        from wan_mcp.inputs.local.files import LocalFiles
        from wan_mcp.inputs.local.folders import input_folders

        if not self.local:
            return None
        folders = input_folders(self.settings.input_dirs, self.own, self.settings.home)
        return LocalFiles(folders, int(self.settings.max_input_mb * 1e6), self.tasks)

    def staging_of(self, whose: CallersWorkspace) -> Staging:
        """Makes the inputs of one workspace available to PixelDojo, with its own jobs and uploads.

        One that is made anew has to read files again that another one has read.
        """
        from wan_mcp.inputs.preparing.prepare import prepare
        from wan_mcp.inputs.received.own_uploads import OwnUploads
        from wan_mcp.ledger.wallets.workspace import Workspace
        from wan_mcp.payments.sources import Sources
        from wan_mcp.payments.staging import Staging
        from wan_mcp.web.addresses import media_url

        async def name() -> str:
            return Workspace.of(await whose()).name

        async def find(id: str) -> Record | None:
            return await self.ledger.find(await name(), id)

        folder, link = self._prepared, self.job_files.stored_link
        delivers = self.local and self.delivery is not None
        uploads = OwnUploads(self.reception, name) if self.reception else None
        sources = Sources(self.files, find, self.clock, link, uploads, delivers=delivers)
        public = partial(media_url, loopback=self.settings.on_loopback)
        return Staging(sources, prepare, self.delivery, folder, self.clock, require_public=public)

    @cached_property
    def _prepared(self) -> Path:
        """Where files lie that are made for a request, without what an earlier process left."""
        from wan_mcp.inputs.preparing.prepare import remove_leftovers

        folder = self._folder("prepared")
        remove_leftovers(folder)
        return folder

    @property
    def delivery(self) -> Delivery | None:
        """How files reach PixelDojo; None if there is no way."""
        return self.lending or self.uploads

    @cached_property
    def lending(self) -> Lending | None:
        """Lends files through an address of the user's."""
        url = self.settings.public_url
        if url is None or not self.local:
            return None
        from wan_mcp.storage.lending import Lending

        return Lending(
            url,
            self.settings.public_port,
            self._folder("lent"),
            secret=partial(self.ledger.secret, "lending"),
            is_live=self._is_live,
            tasks=self.tasks,
            clock=self.clock,
        )

    @cached_property
    def uploads(self) -> Uploads | None:
        """Uploads files into storage of the user's."""
        if self.settings.storage_url is None or not (self.local or self.upload_page):
            return None
        from wan_mcp.storage.object_store import ObjectStore
        from wan_mcp.storage.uploads import Uploads

        return Uploads(ObjectStore(self.settings.storage_url, self.settings.clouds), self.clock)

    @cached_property
    def reception(self) -> Reception | None:
        """Takes the files that users upload; None where they cannot."""
        if self.upload_page is None or self.uploads is None:
            return None
        from wan_mcp.inputs.received.reception import Reception

        secret, most = partial(self.ledger.secret, "uploads"), self.settings.max_input_mb * 1e6
        store, folder, now = self.uploads.store, self._folder("prepared"), self.clock.wall
        return Reception(store, secret, folder, int(most), now, self.upload_page)

    async def check(self, wanted: Replacement, *, seconds: float) -> InputReport:
        """Look at both inputs, see `inputs.preflight`."""
        from wan_mcp.ledger.fingerprint import has_links_only

        files = None if has_links_only(wanted) else self.files
        return await self.job_files.check_inputs(wanted, seconds=seconds, files=files)

    async def run(self) -> None:
        """Lend files, and delete old uploads, until cancelled."""
        if self.data.folder is None:
            return
        if self.lending is not None:
            self.tasks.start_soon(self.lending.run)
        if self.uploads is None:
            return
        from wan_mcp.storage.old_objects import delete_regularly

        received = [self.reception.shelves.delete_old] if self.reception else []
        await delete_regularly([self.uploads.delete_old, *received], self.clock)

    def _folder(self, name: str) -> Path:
        from wan_mcp.ledger.contract import LedgerUnavailable

        if self.data.folder is None:
            raise LedgerUnavailable("There is no folder for the ledger and for prepared files.")
        return self.data.folder / name

    async def _is_live(self, submission_id: str) -> bool:
        from wan_mcp.ledger.record import LIVE

        # Of any account on the ledger: all of their servers share the port and the folder.
        records = await self.ledger.coordination.records([submission_id])
        return any(record.state in LIVE for record in records)
