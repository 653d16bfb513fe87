"""What Linux limits a process to by its control group, version 1 or 2 (cgroups(7)): read, never written.

Whether a limit can be had is not to be guessed from a machine's set-up: a controller may be switched off, on the other
hierarchy, or not delegated to a user's systemd. What stands in the group's own file is so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from papa_dbus.errors import Spawn


@dataclass(frozen=True, slots=True)
class _Control:
    """A controller, its file in version 2, and its files in version 1, the second one being the period of a quota."""

    controller: str
    file: str
    old_files: tuple[str, ...]


_CONTROLS = {
    "memory_max": _Control("memory", "memory.max", ("memory.limit_in_bytes",)),
    "cpu_quota": _Control("cpu", "cpu.max", ("cpu.cfs_quota_us", "cpu.cfs_period_us")),
    "tasks_max": _Control("pids", "pids.max", ("pids.max",)),
}
_PAGE = 4096  # bytes; memory is counted in pages, of which some machines have larger ones
_MOST_PAGES = 64 * 1024


def has(pid: int, unit: str) -> bool:
    """Return whether a process is in the control group of a unit; one that had ended before it came there is not."""
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:  # it has ended, and was reaped
        return False
    return any(line.removesuffix(" (deleted)").endswith(f"/{unit}") for line in groups.splitlines())


def check(pid: int, resources: Mapping[str, int]) -> None:
    """Raise Spawn where one of these limits, by the options of a process, does not hold for that process."""
    for option, value in resources.items():
        control = _CONTROLS[option]
        try:
            folder, files = _place(pid, control)
            words = " ".join((folder / file).read_text().strip() for file in files).split()
        except (OSError, LookupError):
            raise Spawn(
                f"option '{option}': systemd has no {control.controller} controller for it on this machine, or for this"
                " user, so Linux would not limit it (cgroups(7)); ask without it"
            ) from None
        if not _holds(option, value, words):
            raise Spawn(f"option '{option}': systemd has not had Linux limit it: {folder / files[0]} has {words[0]!r}")


def _holds(option: str, asked: int, words: list[str]) -> bool:
    if not all(word.isdigit() for word in words):
        return False  # "max", or -1
    if option == "cpu_quota":
        quota, period = map(int, words)
        return quota * 100 == asked * period
    found = int(words[0])
    if option == "memory_max":  # rounded to pages: which size they have does not matter
        return asked - min(_MOST_PAGES, max(asked, _PAGE)) < found <= asked
    return found == asked


def _place(pid: int, control: _Control) -> tuple[Path, tuple[str, ...]]:
    """Return the folder of a process's group where the controller is, and its files. Raises LookupError."""
    groups: dict[str, str] = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        groups |= dict.fromkeys(controllers.split(","), path)  # version 2's has none: ""
    old = control.controller in groups
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        _, _, _, root, where, *_ = before.split()
        kind, _, options = after.split(" ", 2)
        if (kind == "cgroup" and control.controller in options.split(",")) if old else kind == "cgroup2":
            path = groups[control.controller if old else ""]
            return Path(where) / path.removeprefix(root).lstrip("/"), control.old_files if old else (control.file,)
    raise LookupError(control.controller)
