"""Processes of this machine, as /proc has them: which of them a process started, and which are workers of its Ray."""

import re
from contextlib import suppress
from pathlib import Path


def descendants(pid: int) -> list[tuple[int, str]]:
    """Return (pid, title) of all processes below one, by pid; Ray's have titles like `ray::MapBatches(_decode)`."""
    parents, titles = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            titles[int(entry.name)] = _title(entry)
    found = []
    for candidate in sorted(titles):
        above = candidate
        while above in parents and above != pid:
            above = parents[above]
        if above == pid and candidate != pid:
            found.append((candidate, titles[candidate]))
    return found


def workers_of(driver: int) -> list[tuple[int, str]]:
    """Return (pid, title) of the busy workers of a driver's own Ray, which write into the folder of its session.

    Not of idle ones: Ray waits for a forked worker that is killed before it has registered.
    """
    sessions = {found[0] for _, title in descendants(driver) for found in re.finditer(r"/session_[\d_-]+/", title)}
    workers = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            title, output = _title(entry), str((entry / "fd" / "1").readlink())
            is_busy = title.startswith("ray::") and title != "ray::IDLE"
            if is_busy and any(session in output for session in sessions):
                workers.append((int(entry.name), title))
    return workers


def _title(entry: Path) -> str:
    return (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
