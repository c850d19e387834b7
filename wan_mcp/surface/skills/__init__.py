"""The skill: how to use the tools well, for a model that reads it when it needs it.

There is one text, `replace-a-character/SKILL.md`, in the format of Agent Skills. The server offers
it by the skills extension (`io.modelcontextprotocol/skills`, documented: its stable specification
for revision 2026-07-28), `wan-mcp setup --skill` prints it as a file for other assistants, and
`.claude-plugin/` makes it a plugin of Claude Code. Until a model reads it, only its name and
description are in a conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from mcp.server.context import HandlerResult
from mcp.server.extension import Extension, MethodBinding, ResourceBinding
from mcp.server.mcpserver.resources import FunctionResource
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, PaginatedRequestParams, RequestParams

from wan_mcp.surface.calls import RequestContext

NAME = "replace-a-character"
SKILLS = "io.modelcontextprotocol/skills"
URI = f"skill://{NAME}/SKILL.md"
MIME_TYPE = "text/markdown"
REVISIONS = frozenset({"2026-07-28"})
CACHED_MS = 300_000
"""How long a host may keep what it was given; it changes only with the version (ours)."""


@dataclass(frozen=True)
class Skill:
    """A file in the format of Agent Skills.

    Attributes:
        text: the whole file.
        description: when to read it; with the name it is all that a model sees until then.
        body: the file without its front matter.
    """

    text: str
    description: str
    body: str

    @property
    def frontmatter(self) -> dict[str, str]:
        """The front matter as data."""
        return {"name": NAME, "description": self.description}


def read_skill() -> Skill:
    """The skill of this version."""
    text = Path(__file__).with_name(NAME).joinpath("SKILL.md").read_bytes().decode()
    _, head, body = text.split("---\n", 2)
    name, description = head.splitlines()
    if name != f"name: {NAME}":
        raise ValueError("the skill has another name than its folder")
    return Skill(text, description.removeprefix("description: "), body.lstrip())


class GetSkillParams(RequestParams):
    """Which skill."""

    uri: str


class Skills(Extension):
    """The extension `io.modelcontextprotocol/skills`, with this one skill."""

    identifier = SKILLS

    def __init__(self) -> None:
        self._skill = read_skill()

    def resources(self) -> Sequence[ResourceBinding]:
        """The file, which every host can read as a resource."""
        resource = FunctionResource(
            uri=URI,
            name=NAME,
            description=self._skill.description,
            mime_type=MIME_TYPE,
            fn=lambda: self._skill.text,
        )
        return [ResourceBinding(resource)]

    def methods(self) -> Sequence[MethodBinding]:
        """The methods of the extension."""
        return [
            MethodBinding("skills/list", PaginatedRequestParams, self._list, REVISIONS),
            MethodBinding("skills/get", GetSkillParams, self._get, REVISIONS),
        ]

    async def _list(self, ctx: RequestContext, params: PaginatedRequestParams) -> HandlerResult:
        return _result(skills=[self._entry()])

    async def _get(self, ctx: RequestContext, params: GetSkillParams) -> HandlerResult:
        if params.uri != URI:
            raise MCPError(INVALID_PARAMS, f"There is no such skill, only {URI}.")
        return _result(skill=self._entry())

    def _entry(self) -> dict[str, Any]:
        content = self._skill.text.encode()
        file = {"uri": URI, "digest": f"sha256:{sha256(content).hexdigest()}", "size": len(content)}
        return {"uri": URI, "frontmatter": self._skill.frontmatter, "resources": [file]}


def _result(**content: Any) -> dict[str, Any]:
    return {
        "resultType": "complete",
        **content,
        "ttlMs": CACHED_MS,
        "cacheScope": "public",
    }
