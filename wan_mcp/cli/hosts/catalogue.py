"""The hosts that can be set up: where each keeps its settings, and what an entry looks like."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wan_mcp.cli.hosts.formats import Format
from wan_mcp.cli.hosts.json_text import JsonWithComments
from wan_mcp.cli.hosts.toml_yaml import Toml, Yaml

NAME = "wan-mcp"
"""The name of our entry in every host."""
KEY_SETTING = "PIXELDOJO_API_KEY"
"""The environment variable that passes the user's key to the server."""
SECRET_INPUT = {
    "type": "promptString",
    "id": "pixeldojo-key",
    "description": "PixelDojo API key",
    "password": True,
}
"""The input with which VS Code asks its user for the key (documented)."""
SECRET_REFERENCE = "${input:pixeldojo-key}"
"""How an entry refers to the secret that VS Code keeps (documented)."""


@dataclass(frozen=True)
class Program:
    """The command with which a host starts the server.

    Attributes:
        command: the program's full path; its folder is rarely in the search path of hosts.
        arguments: the arguments of the program.
        environment: settings for the server, the key among them.
    """

    command: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Folders:
    """Where a system keeps the settings of programs.

    Attributes:
        home: the user's home folder.
        settings: the usual folder: `Application Support`, `%APPDATA%` or `~/.config`.
        config: the folder in XDG_CONFIG_HOME, or `~/.config`, on every system.
        environment: the variables by which the folders of some hosts can be moved.
    """

    home: Path
    settings: Path
    config: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(
        cls, environment: Mapping[str, str], home: Path, platform: str = sys.platform
    ) -> "Folders":
        """The folders of a user on one platform, named as `sys.platform` names it."""
        config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
        if platform == "darwin":
            settings = home / "Library" / "Application Support"
        elif platform == "win32":
            settings = Path(environment.get("APPDATA") or home / "AppData" / "Roaming")
        else:
            settings = config
        return cls(home, settings, config, environment)

    def moved_by(self, variable: str, usual: Path) -> Path:
        """The folder that a variable names; the usual one if it is not set."""
        return Path(self.environment.get(variable) or usual)


Shape = Callable[[Program], dict[str, Any]]


@dataclass(frozen=True)
class Host:
    """One host and its settings.

    Attributes:
        id: its name on the command line.
        title: its name as its makers write it.
        file: where its settings are, for the folders of a user.
        format: the format of the settings.
        group: the path of keys to the group of servers.
        shape: makes the entry for a program.
        command_key: the key of the program in an entry.
        environment_key: the key of the environment in an entry.
        inputs: the path of keys to the list of values that the host asks its user for and keeps
            secret; empty if it cannot, and then the key is in the file.
        restart: what a user has to do so that the host reads the settings again.
    """

    id: str
    title: str
    file: Callable[[Folders], Path]
    format: Format
    group: tuple[str, ...]
    shape: Shape
    command_key: str = "command"
    environment_key: str = "env"
    inputs: tuple[str, ...] = ()
    restart: str = "Restart it."

    @property
    def path(self) -> tuple[str, ...]:
        """The path of keys to our entry."""
        return (*self.group, NAME)

    def is_installed(self, folders: Folders) -> bool:
        """Whether its settings exist, or at least the folder that it creates when first used."""
        file = self.file(folders)
        return file.exists() or (file.parent != folders.home and file.parent.is_dir())


def _plain(program: Program) -> dict[str, Any]:
    return {
        "command": program.command,
        "args": list(program.arguments),
        "env": dict(program.environment),
    }


def _typed(program: Program) -> dict[str, Any]:
    return {"type": "stdio", **_plain(program)}


def _opencode(program: Program) -> dict[str, Any]:
    return {
        "type": "local",
        "command": [program.command, *program.arguments],
        "environment": dict(program.environment),
        "enabled": True,
    }


def _goose(program: Program) -> dict[str, Any]:
    return {
        "enabled": True,
        "type": "stdio",
        "name": NAME,
        "cmd": program.command,
        "args": list(program.arguments),
        "envs": dict(program.environment),
        "timeout": 300,
    }


def _code_user(folders: Folders) -> Path:
    return folders.settings / "Code" / "User"


_CLINE = ("globalStorage", "saoudrizwan.claude-dev", "settings", "cline_mcp_settings.json")
_JSON = JsonWithComments()
_SERVERS = ("mcpServers",)

HOSTS = (
    Host(
        "claude-desktop",
        "Claude Desktop",
        lambda folders: folders.settings / "Claude" / "claude_desktop_config.json",
        _JSON,
        _SERVERS,
        _plain,
        restart="Quit Claude Desktop completely and open it again.",
    ),
    Host(
        "claude-code",
        "Claude Code",
        lambda folders: folders.moved_by("CLAUDE_CONFIG_DIR", folders.home) / ".claude.json",
        _JSON,
        _SERVERS,
        _typed,
        restart="Start a new session of Claude Code.",
    ),
    Host(
        "cursor",
        "Cursor",
        lambda folders: folders.home / ".cursor" / "mcp.json",
        _JSON,
        _SERVERS,
        _typed,
    ),
    Host(
        "vscode",
        "VS Code",
        lambda folders: _code_user(folders) / "mcp.json",
        _JSON,
        ("servers",),
        _typed,
        inputs=("inputs",),
        restart="Run MCP: List Servers in VS Code and start wan-mcp; it asks for the key once.",
    ),
    Host(
        "codex",
        "Codex",
        lambda folders: folders.moved_by("CODEX_HOME", folders.home / ".codex") / "config.toml",
        Toml(),
        ("mcp_servers",),
        _plain,
        restart="Start a new session of Codex.",
    ),
    Host(
        "gemini",
        "Gemini CLI",
        lambda folders: folders.home / ".gemini" / "settings.json",
        _JSON,
        _SERVERS,
        _plain,
        restart="Start a new session of Gemini CLI.",
    ),
    Host(
        "opencode",
        "opencode",
        lambda folders: _existing(
            folders.config / "opencode" / "opencode.jsonc",
            folders.config / "opencode" / "opencode.json",
        ),
        _JSON,
        ("mcp",),
        _opencode,
        environment_key="environment",
        restart="Start a new session of opencode.",
    ),
    Host(
        "windsurf",
        "Windsurf",
        lambda folders: folders.home / ".codeium" / "windsurf" / "mcp_config.json",
        _JSON,
        _SERVERS,
        _plain,
        restart="Press the refresh button above Windsurf's list of MCP servers.",
    ),
    Host(
        "zed",
        "Zed",
        lambda folders: (
            folders.settings / "Zed" / "settings.json"
            if folders.settings.name == "Roaming"
            else folders.config / "zed" / "settings.json"
        ),
        _JSON,
        ("context_servers",),
        _plain,
        restart="Zed reads the settings again by itself.",
    ),
    Host(
        "cline",
        "Cline",
        lambda folders: _code_user(folders).joinpath(*_CLINE),
        _JSON,
        _SERVERS,
        _plain,
        restart="Cline reads the settings again by itself.",
    ),
    Host(
        "lm-studio",
        "LM Studio",
        lambda folders: folders.home / ".lmstudio" / "mcp.json",
        _JSON,
        _SERVERS,
        _plain,
        restart="LM Studio reads the settings again by itself.",
    ),
    Host(
        "goose",
        "Goose",
        lambda folders: (
            folders.settings / "Block" / "goose" / "config" / "config.yaml"
            if folders.settings.name == "Roaming"
            else folders.config / "goose" / "config.yaml"
        ),
        Yaml(),
        ("extensions",),
        _goose,
        command_key="cmd",
        environment_key="envs",
        restart="Start a new session of Goose.",
    ),
)
"""Every host that can be set up. Files and shapes are those that the makers document."""


def _existing(preferred: Path, usual: Path) -> Path:
    return preferred if preferred.exists() else usual
