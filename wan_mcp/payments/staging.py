"""Makes the inputs of a request available to PixelDojo, before its commit point.

A file of this computer, or the saved video of an earlier job, is prepared and then uploaded or
lent; a link takes its place in what is sent. Nothing here costs credits: whatever fails ends the
request as `not_sent`, with the reason.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol

import anyio

from wan_mcp.clock import Clock
from wan_mcp.errors import NotSent, StepBy, WanError
from wan_mcp.inputs.local.references import Fragment
from wan_mcp.inputs.preparing.prepare import Prepared
from wan_mcp.inputs.verdict import Role
from wan_mcp.ledger.fingerprint import INPUTS, without_query
from wan_mcp.ledger.record import Record, SentInputs
from wan_mcp.ledger.status import InputProgress, Phase
from wan_mcp.ledger.wallets.workspace import CallersWorkspace
from wan_mcp.models import Replacement
from wan_mcp.payments.sources import LEAST_LIFE, Source, Sources
from wan_mcp.storage.delivery import Content, Delivery
from wan_mcp.wording import duration

FRESH_SECONDS = 60.0
"""A link that was made longer ago is made again before it is sent (ours): its life has begun, and
PixelDojo may fetch it late."""

STILL_SECONDS = 600.0
"""An input that makes no progress for this long is given up (ours). A storage that hangs is given
up earlier, and with a better reason; this limit is for causes that nobody has foreseen."""
MOST_SECONDS = 6 * 3600.0
"""A request whose inputs are still not available after this long is given up (ours): its credits
stay reserved meanwhile, and the link of the input that came first is about to expire."""

LEAST_LEFT = LEAST_LIFE / 2
"""A link of an earlier job that expires sooner is no longer sent: the other input may have taken
long since it was found (ours)."""

Report = Callable[[InputProgress], None]

logger = logging.getLogger(__name__)


class Prepare(Protocol):
    """Turns a file into what is sent of it: `inputs.preparing.prepare.prepare`."""

    def __call__(
        self,
        source: Content,
        role: Role,
        fragment: Fragment,
        seconds: float,
        folder: Path,
        report: Callable[[float], None] = ...,
    ) -> Awaitable[Prepared]: ...


@dataclass(frozen=True)
class _Delivered:
    """One input that PixelDojo can fetch.

    Attributes:
        content: what is under the link; None if the link is that of an earlier job's video.
        made_at: when the link was made, in seconds of the monotonic clock.
        expires_at: when the link of an earlier job expires; None if that is not known.
    """

    name: str
    link: str
    content: Content | None = None
    made_at: float = 0.0
    expires_at: datetime | None = None


class Staged:
    """The inputs of one request, which PixelDojo can fetch now.

    Args:
        wanted: the request as it was located.
        notes: what was changed in its files, or could not be changed, in sentences.
        renew: makes a new link in place of one that has become old.
        discard: deletes the files that were written for it; they cannot be delivered again.

    Attributes:
        inputs: what the ledger keeps of them.
    """

    def __init__(
        self,
        wanted: Replacement,
        delivered: Sequence[_Delivered],
        notes: str,
        renew: Callable[[_Delivered], Awaitable[_Delivered]],
        discard: Callable[[], None],
    ) -> None:
        self._wanted = wanted
        self._delivered = delivered
        self._renew = renew
        self.discard = discard
        self.inputs = SentInputs({each.name: each.link for each in delivered}, notes)

    async def sent(self) -> Replacement:
        """The request as it is sent now, with fresh links.

        Raises:
            NotSent: a link can no longer be made, or it would lead to another file.
        """
        with as_not_sent():
            self._delivered = [await self._renew(each) for each in self._delivered]
        for each in self._delivered:
            if without_query(each.link) != without_query(self.inputs.links[each.name]):
                raise NotSent(
                    f"The place of the file for {each.name} has changed.",
                    next_step="Repeat the same call.",
                )
        links = {each.name: each.link for each in self._delivered}
        hashes = dict.fromkeys(f"{name}_sha256" for name in INPUTS)
        return self._wanted.model_copy(update={**links, **hashes})


class Staging:
    """Prepares and delivers the inputs of requests.

    Args:
        sources: finds the files and the videos of earlier jobs.
        prepare: turns a file into what is sent of it.
        delivery: makes a file available; None if only links are passed on.
        folder: where prepared files lie until their request is sent.
        require_public: raises ValueError, with the end of a sentence, for a link that PixelDojo
            certainly cannot reach.

    Attributes:
        sources: as given.
    """

    def __init__(
        self,
        sources: Sources,
        prepare: Prepare,
        delivery: Delivery | None,
        folder: Path,
        clock: Clock,
        *,
        require_public: Callable[[str], object],
    ) -> None:
        self._public = require_public
        self.sources = sources
        self._prepare = prepare
        self._delivery = delivery
        self._folder = folder
        self._clock = clock

    async def stage(self, record: Record, wanted: Replacement, report: Report) -> Staged:
        """Prepare and deliver the inputs of a claimed request that are not links.

        Args:
            report: called whenever there is more to say.

        Raises:
            NotSent: one of them cannot be delivered; nothing was sent.
        """
        prepared: dict[str, Prepared] = {}
        written = ExitStack()
        try:
            with (
                as_not_sent(),
                _at_most(MOST_SECONDS, "The inputs are not available after {span}."),
            ):
                sources = await self._prepare_all(wanted, prepared, written, report)
                delivered = await self._deliver_all(record.submission_id, sources, prepared, report)
        except BaseException:
            written.close()
            raise
        renew = partial(self._renewed, record.submission_id)
        notes = " ".join(note for each in prepared.values() for note in each.notes)
        return Staged(wanted, delivered, notes, renew, written.close)

    async def release(self, submission_id: str) -> None:
        """Take back the inputs of a request that is over, because no job needs them."""
        if self._delivery is not None:
            await self._delivery.release(submission_id)

    async def _prepare_all(
        self,
        wanted: Replacement,
        prepared: dict[str, Prepared],
        written: ExitStack,
        report: Report,
    ) -> list[Source]:
        """Find and prepare the inputs that are not links. Returns them.

        Args:
            prepared: filled with what is made of the files, by the name of the input.
            written: filled with callbacks that delete the files that are written.
        """
        report(InputProgress(Phase.PREPARING))
        sources = []
        for name in INPUTS:
            if source := await self.sources.source(wanted, name):
                written.callback(source.discard)
                sources.append(source)
        for source in sources:
            if source.content is not None:
                prepared[source.role.name] = ready = await self._prepare(
                    source.content,
                    source.role,
                    source.fragment,
                    wanted.seconds,
                    self._folder,
                    partial(_report_share, report),
                )
                written.callback(ready.discard)
        return sources

    async def _deliver_all(
        self,
        submission_id: str,
        sources: Sequence[Source],
        prepared: Mapping[str, Prepared],
        report: Report,
    ) -> list[_Delivered]:
        size = sum(each.content.size for each in prepared.values())
        uploads = self._delivery is not None and self._delivery.uploads
        progress = InputProgress(Phase.UPLOADING if uploads else Phase.LENDING, 0, size)
        delivered = []
        for source in sources:
            name, ready = source.role.name, prepared.get(source.role.name)
            if ready is None:
                ends = source.expires_at
                delivered.append(_Delivered(name, source.link, expires_at=ends))
                continue
            report(progress)
            part = partial(_report_part, report, progress)
            delivered.append(await self._deliver(ready.content, submission_id, name, part))
            progress = replace(progress, sent=progress.sent + ready.content.size)
        for each in delivered:
            self._require_public(each)
        return delivered

    def _require_public(self, each: _Delivered) -> None:
        """Raises NotSent for a link that would be refused from a caller, too."""
        try:
            self._public(each.link)
        except ValueError as exc:
            raise NotSent(
                f"The link that was made for {each.name} {exc}.",
                transient=False,
                next_step="Nothing was charged. Ask the user to correct WAN_MCP_PUBLIC_URL, or the "
                "address of the storage (AWS_ENDPOINT_URL): the internet must be able to reach it.",
                step_by=StepBy.OPERATOR,
            ) from None

    async def _deliver(
        self, content: Content, submission_id: str, name: str, report: Callable[[int], None]
    ) -> _Delivered:
        assert self._delivery is not None  # without one, a source has only a link
        still = f"{name} was not made available: nothing moved for {{span}}."
        with _at_most(STILL_SECONDS, still) as scope:
            moved = partial(_report_move, report, scope, [0])
            link = await self._delivery.link(content, submission_id, name, moved)
        return _Delivered(name, link, content, self._clock.monotonic())

    async def _renewed(self, submission_id: str, each: _Delivered) -> _Delivered:
        age = self._clock.monotonic() - each.made_at
        if each.expires_at and each.expires_at - self._clock.wall() < LEAST_LEFT:
            raise NotSent(
                f"The link to the video of the earlier job, which is {each.name}, expires before "
                "PixelDojo could be sure to fetch it: the other input took too long.",
                next_step="Nothing was charged. Call again: another way to that video is tried, if "
                "there is one.",
            )
        if each.content is None or age <= FRESH_SECONDS:
            return each
        return await self._deliver(each.content, submission_id, each.name, _say_nothing)


StagingOf = Callable[[CallersWorkspace], Staging]
"""Makes the inputs of a workspace available, with its own jobs and uploads."""


def _report_share(report: Report, share: float) -> None:
    report(InputProgress(Phase.PREPARING, int(share * 100)))


def _report_part(report: Report, before: InputProgress, sent: int) -> None:
    report(replace(before, sent=min(before.sent + sent, before.size)))


def _report_move(
    report: Callable[[int], None], scope: anyio.CancelScope, most: list[int], sent: int
) -> None:
    """Pass the number of sent bytes on. Only a new maximum counts as movement."""
    if sent > most[0]:
        most[0] = sent
        scope.deadline = anyio.current_time() + STILL_SECONDS
    report(sent)


@contextmanager
def _at_most(seconds: float, what: str) -> Iterator[anyio.CancelScope]:
    """Raises NotSent if its block takes longer; {span} in the text becomes that duration."""
    with anyio.move_on_after(seconds) as scope:
        yield scope
    if scope.cancelled_caught:
        raise NotSent(
            what.format(span=duration(seconds)),
            next_step="Nothing was charged. Repeating the same call is safe. If it keeps failing, "
            "ask the user to check the network.",
            step_by=StepBy.OPERATOR,
        )


def _say_nothing(sent: int) -> None:
    """Report nothing: an object that exists already is only signed again."""


@contextmanager
def as_not_sent() -> Iterator[None]:
    """Whatever fails within it ends the request as not sent, because nothing was sent yet."""
    try:
        yield
    except NotSent:
        raise
    except WanError as refusal:
        step, by = refusal.next_step, refusal.step_by
        raise NotSent(refusal.what, transient=False, next_step=step, step_by=by) from refusal
    except OSError as error:
        raise NotSent(
            f"An input could not be read or prepared on this computer: "
            f"{error.strerror or type(error).__name__}.",
            next_step="Repeat the same call when the file is complete and there is room on the "
            "disk.",
            step_by=StepBy.OPERATOR,
        ) from error
    except Exception as defect:
        logger.exception("making the inputs available met a defect")
        raise NotSent(
            "Making the inputs available met a defect of wan-mcp; the server's log has the "
            "details.",
            transient=False,
            next_step="Tell the user.",
        ) from defect
