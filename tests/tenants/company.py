"""A server for two teams' people in this process, with the sandbox as PixelDojo, for tests."""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from tests.replicas.caller import Caller
from tests.tenants.team import Blue, Time, ring
from wan_mcp.front_desk.health import HealthDesk
from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.server import RunningServer, build_server
from wan_mcp.settings import Settings
from wan_mcp.tenants.administration import users, wallets
from wan_mcp.tenants.administration.acts import Operator
from wan_mcp.tenants.directory import StoredDirectory
from wan_mcp.tenants.key_page import KeyPage
from wan_mcp.tenants.keys import KeyRing
from wan_mcp.transports.http import serve_http
from wan_mcp.transports.listener import listen
from wan_mcp.transports.operations.operators import Operators
from wan_mcp.transports.shutdown import Deadlines
from wan_mcp.transports.sign_in.sign_in import SignIn
from wan_mcp.transports.sign_in.trust import Trust

TASKS = "io.modelcontextprotocol/tasks"
FOR_EVER = Terms(pending_seconds=0, processing_seconds=50, price=10)
"""A job takes 50 s of the sandbox's clock, which stands still until a test moves it."""


PATIENT = Deadlines(grace_seconds=600)
"""A slow machine ends no test."""


class Person(Caller):
    """A user at their host.

    Attributes:
        id: of the user.
    """

    def __init__(self, company: "Company", user: str, token: str, **more: Any) -> None:
        super().__init__(company.url, headers={"authorization": f"Bearer {token}"}, **more)
        self.id = user
        self._sandbox = company.sandbox

    async def order(self, seed: int = 1, **changes: Any) -> dict[str, Any]:
        """Start a job; the data of the answer."""
        inputs = {
            "video": self._sandbox.source_video_url,
            "character_image": self._sandbox.image_url,
        }
        return await self.call("replace_character", **{**inputs, "seed": seed, **changes})

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The data of a tool's answer; of a task, only what stands in the place of it."""
        result = (await self.ask("tools/call", name=tool, arguments=arguments))["result"]
        if result.get("resultType") == "task":
            return {"job_id": result["taskId"], "message": result["statusMessage"]}
        data: dict[str, Any] = result["structuredContent"]
        return data

    async def read(self, uri: str) -> dict[str, Any]:
        """The answer to the question for a resource, also an error."""
        return await self.ask("resources/read", uri=uri)


class Company(Blue):
    """The team Blue with Ann and Bob, Eve with a wallet of her own, and Zoe without any.

    Attributes:
        url: of the server.
        database: its address.
        time: that of the answers about people.
        jobs_time: that of the jobs at PixelDojo.
    """

    def __init__(
        self,
        operator: Operator,
        database: str,
        sandbox: Sandbox,
        jobs_time: Time,
        folder: Path,
    ) -> None:
        super().__init__(operator, sandbox.key, sandbox.api_base)
        self.zoe = users.add(operator, "Zoe", None, None, None)
        key, base = sandbox.open_account(), sandbox.api_base
        self.eves = wallets.add(operator, ring(), "Eve's", key, base, user=self.eve)
        self.sandbox = sandbox
        self.url = ""
        self.time = Time()
        self.jobs_time = jobs_time
        self.running = RunningServer()
        self.database = database
        self._folder = folder

    def person(self, user: str, *, tasks: bool = False) -> Person:
        """A user with a new token."""
        return self.holder(user, self.token(user).text, tasks=tasks)

    def holder(self, user: str, token: str, *, tasks: bool = False) -> Person:
        """A user with this token."""
        return Person(self, user, token, extensions={TASKS: {}} if tasks else None)

    @asynccontextmanager
    async def served(
        self,
        keys: KeyRing | None = None,
        settings: Mapping[str, str] | None = None,
        key_page: str | None = None,
        issuer: Callable[[str], Awaitable[Mapping[str, object]]] | None = None,
    ) -> AsyncIterator["Company"]:
        """Within it, the server runs.

        Args:
            keys: the key ring of the server.
            settings: of the operator, besides those that the rest needs.
            key_page: the public address of the page for keys of users.
            issuer: where people sign in, as the operator writes it who knows the address of the
                server: then they can do so on the page for keys, too.
        """
        given = {
            "PIXELDOJO_API_BASE": self.sandbox.api_base,
            "PIXELDOJO_API_KEY": self.sandbox.key,  # which must never be used
            "WAN_MCP_LEDGER_URL": self.database,
            "WAN_MCP_DATA_DIR": str(self._folder),
            "WAN_MCP_ARCHIVE": "off",
            "WAN_MCP_MAX_CREDITS_PER_DAY": "1000",
            **(settings or {}),
        }
        directory = StoredDirectory(self.database, keys or ring(), self.time)
        self.running = RunningServer()
        desk = HealthDesk(listen("127.0.0.1", 0))
        here = f"http://127.0.0.1:{desk.listener.getsockname()[1]}"
        trust, page = None, KeyPage(key_page) if key_page else None
        if issuer:
            given_issuer = await issuer(here)
            trust = Trust.model_validate({"resource": f"{here}/mcp", "issuers": [given_issuer]})
            page = KeyPage(f"{here}/key", trust.key_issuers)
        server = build_server(
            Settings.read(given, self._folder),
            running=self.running,
            people=directory,
            upload_page="http://127.0.0.1/uploads",
            key_page=page,
        )
        listens = anyio.Event()

        def announce(url: str) -> None:
            self.url = url
            listens.set()

        async def serve() -> None:
            await serve_http(
                server,
                desk=desk,
                announce=announce,
                operators=Operators(self.running, own_keys=lambda: self.running.own_keys),
                sign_in=SignIn(directory, trust, ring().derived("page for keys")),
                deadlines=PATIENT,
            )

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            await listens.wait()
            try:
                yield self
            finally:  # not by a cancel, which would cut payments
                signal.raise_signal(signal.SIGTERM)
