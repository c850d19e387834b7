r"""Four hosts that people use read what `wan-mcp setup` writes: their own command lines say so.

Run it by hand, from the root of the project, in an environment with wan-mcp (about a minute)::

    npm install --prefix FOLDER @anthropic-ai/claude-code @openai/codex \
        @google/gemini-cli opencode-ai
    python -m tests.hosts_cli FOLDER/node_modules/.bin

A host whose program is not in the folder (or, without one, not on the PATH) is skipped. For each
other one, in an empty home folder of its own and without any key of the user, it shows what the
program prints about the entry. If anything does not hold, the exit code is 1.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from wan_mcp.cli.hosts.catalogue import HOSTS, Folders, Host
from wan_mcp.cli.hosts.change import this_program

KEY = "dummy-key-0123456789"
SECONDS = 120
"""How long one program may take."""


@dataclass(frozen=True)
class Real:
    """A host's own program.

    Attributes:
        program: its name.
        accepts: what its list of servers says about one that it has read.
        text: settings of a user, with comments where the host reads them.
        edit: what the user changes in them later, and into what.
    """

    program: str
    accepts: str
    text: str
    edit: tuple[str, str]


_JSON = '{\n  "mcpServers": {\n    "other": {"command": "/bin/false"}\n  },\n  "verbose": true\n}\n'
_COMMENTED = '{\n  // mine\n  "%s": {}, /* keep */\n  "theme": "%s"%s\n}\n'
_COMMENT = ("// mine", "// mine, edited")
REAL = {
    "claude-code": Real("claude", "Connected", _JSON, ("/bin/false", "/bin/true")),
    "codex": Real(
        "codex",
        "enabled",
        '# mine\nmodel = "x"\n\n[mcp_servers.other]\ncommand = "/bin/false" # keep\n',
        ("# mine", "# mine, edited"),
    ),
    # It reads comments, but no comma behind the last setting.
    "gemini": Real("gemini", "Connected", _COMMENTED % ("mcpServers", "Default", ""), _COMMENT),
    "opencode": Real("opencode", "connected", _COMMENTED % ("mcp", "system", ","), _COMMENT),
}


class Home:
    """An empty home folder, and one host in it.

    Args:
        folder: the home folder.
        program: the host's own program.
    """

    def __init__(self, folder: Path, host: Host, program: str) -> None:
        self.file = host.file(Folders.read({}, folder))
        self._host = host
        self._program = program
        self._work = folder / "work"
        self._work.mkdir(parents=True)
        self._environment = {
            **{name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ},
            "HOME": str(folder),
            "USERPROFILE": str(folder),
            "NO_COLOR": "1",
            "WAN_MCP_DATA_DIR": str(folder / "data"),
            # Gemini CLI starts no server in a folder that the user has not trusted.
            "GEMINI_CLI_TRUSTED_FOLDERS_PATH": str(folder / "trusted.json"),
        }
        (folder / "trusted.json").write_text(json.dumps({str(self._work): "TRUST_FOLDER"}))

    def setup(self, *options: str) -> int:
        """Run `wan-mcp setup` for the host; returns the exit code."""
        words = [this_program().command, "setup", self._host.id, "--yes", *options]
        return self._run(words, {"PIXELDOJO_API_KEY": KEY}).returncode

    def listed(self) -> str:
        """What the host's own program prints about its servers."""
        ended = self._run([self._program, "mcp", "list"], {})
        return ended.stdout + ended.stderr

    def write(self, text: str) -> None:
        """Give the user settings that everybody may read."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_bytes(text.encode())
        self.file.chmod(0o644)

    def _run(self, words: list[str], more: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            cwd=self._work,
            env={**self._environment, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )


class Trial:
    """What holds for one host, and what does not."""

    def __init__(self, host: Host, real: Real, program: str) -> None:
        self.failures = 0
        self._host, self._real, self._program = host, real, program

    def run(self) -> int:
        """Try everything; returns how much does not hold."""
        for part in (self._empty_home, self._settings_of_a_user, self._later_edits):
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                part(Home(Path(folder).resolve(), self._host, self._program))
        return self.failures

    def _empty_home(self, home: Home) -> None:
        self._holds("setup writes the entry into an empty home", home.setup() == 0)
        once = home.file.read_bytes()
        self._holds("twice is once", home.setup() == 0 and home.file.read_bytes() == once)
        listed = home.listed()
        say("".join(f"    | {line}\n" for line in listed.splitlines() if line.strip()))
        (ours, *_) = [line for line in listed.splitlines() if "wan-mcp" in line] or [""]
        self._holds("its own program accepts the entry", self._real.accepts in ours)
        self._holds("its own program shows no key", KEY not in listed)
        was_written = home.file.read_bytes() != once  # the program keeps its state there
        home.setup("--remove")
        left = home.file.read_text() if home.file.exists() else None
        as_before = left is None if not was_written else left is not None and "wan-mcp" not in left
        self._holds("--remove leaves no entry, and no file that was not there", as_before)

    def _settings_of_a_user(self, home: Home) -> None:
        home.write(self._real.text)
        home.setup()
        home.setup("--remove")
        as_before = home.file.read_bytes() == self._real.text.encode()
        self._holds("--remove gives the file back byte for byte", as_before)
        rights = home.file.stat().st_mode & 0o777
        self._holds("and its rights", rights == 0o644 or sys.platform == "win32")
        beside = [each.name for each in home.file.parent.iterdir() if "before" in each.name]
        self._holds("and leaves no copy", not beside)

    def _later_edits(self, home: Home) -> None:
        home.write(self._real.text)
        home.setup()
        listed = home.listed()
        self._holds("beside the user's settings it is accepted", self._real.accepts in listed)
        text = home.file.read_text()
        before, after = self._real.edit
        self._holds("comments and settings survive setup", before in text)
        home.file.write_text(text.replace(before, after))
        home.setup("--remove")
        left = home.file.read_text()
        self._holds("later edits survive --remove", after in left and "wan-mcp" not in left)
        kept = "keep" in left or "keep" not in self._real.text
        self._holds("and so do all comments", kept)

    def _holds(self, what: str, does: bool) -> None:
        self.failures += not does
        say(f"  {'holds' if does else 'DOES NOT HOLD'}: {what}\n")


def say(text: str) -> None:
    """Show a text at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def main(folder: str | None) -> int:
    """Try every host whose program is there."""
    failures = 0
    for host in HOSTS:
        if (real := REAL.get(host.id)) is None:
            continue
        program = shutil.which(real.program, path=folder)
        if program is None:
            say(f"{host.title}: skipped, because {real.program} is not here\n")
            continue
        say(f"{host.title}\n")
        failures += Trial(host, real, program).run()
    say(f"{failures} of all this does not hold.\n" if failures else "All of it holds.\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else None))
