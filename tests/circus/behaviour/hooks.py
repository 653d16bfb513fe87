"""Hooks that note down that they were called, and with what."""

import json
from typing import Any


def note(watcher: Any, arbiter: Any, hook_name: str, **said: Any) -> bool:
    """Take any hook's call."""
    with open("/srv/behaviour/hooks.log", "a") as log:
        log.write(json.dumps({"hook": hook_name, "watcher": watcher.name, **said}, default=str) + "\n")
    return True
