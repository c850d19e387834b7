"""`wan-mcp setup --skill`: prints the skill as the file that an assistant reads."""

from wan_mcp.surface.skills import NAME, Skill, read_skill

_FOLDERS = {
    "claude-code": "~/.claude/skills",
    "codex": "~/.agents/skills",
    "opencode": "~/.agents/skills",
}
"""Where hosts look for skills that apply to all projects (documented by each)."""
_CURSOR = "cursor"


def skill_file(host: str | None) -> str:
    """The content of the file.

    For Cursor it is a rule, which the model requests if its description fits (documented); all
    other hosts that read skills use the format of Agent Skills.

    Args:
        host: the name of the host; None for any.
    """
    skill = read_skill()
    return _rule(skill) if host == _CURSOR else skill.text


def skill_place(host: str | None) -> str:
    """Where the file belongs, as a sentence for the user."""
    if host == _CURSOR:
        return f"Save this as .cursor/rules/{NAME}.mdc in your project."
    folder = _FOLDERS.get(host or "", "FOLDER")
    unknown = " FOLDER is where your assistant looks for skills." if folder == "FOLDER" else ""
    return f"Save this as {folder}/{NAME}/SKILL.md.{unknown}"


def _rule(skill: Skill) -> str:
    return f"---\ndescription: {skill.description}\nalwaysApply: false\n---\n\n{skill.body}"
