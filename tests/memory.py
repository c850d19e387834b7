"""How much memory another process has needed (Linux)."""

from pathlib import Path


def most_memory(pid: int) -> int:
    """Bytes of resident memory that a process has had at most so far."""
    status = Path(f"/proc/{pid}/status").read_text("ascii", errors="replace")
    [line] = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
