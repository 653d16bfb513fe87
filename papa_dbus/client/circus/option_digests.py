"""What a circusd asked for when it had Papa start a process, to be compared with what its file says later.

Papa keeps a digest of each option as a value beside the process: what is in an environment may be secret.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

#: The options as Circus calls them.
_NAMES = {"stdout": "close_child_stdout", "stderr": "close_child_stderr"}


def digest(command: Sequence[str], options: Mapping[str, Any]) -> str:
    """Return the text of the value."""
    said = {"cmd": _of(list(command))} | {_NAMES.get(name, name): _of(value) for name, value in options.items()}
    return json.dumps(said, sort_keys=True)


def differences(then: str | None, now: str, command: Sequence[str], found: Mapping[str, Any]) -> list[str]:
    """Name the options that differ. A process of unknown origin is judged by its command."""
    before = _read(then)
    if before:
        after = json.loads(now)
        return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    said = " ".join(command)
    return ["cmd"] if "$(socket." not in said and found.get("args", said) != said else []


def _read(said: str | None) -> dict[str, Any]:
    """Return what a value says; nothing if somebody else has written it."""
    try:
        read = json.loads(said or "{}")
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def _of(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]
