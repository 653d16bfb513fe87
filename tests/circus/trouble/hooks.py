"""Hooks that note down that they were called; one of them wants a process that lives."""

import json
import os
from typing import Any


def note(watcher: Any, arbiter: Any, hook_name: str, **said: Any) -> bool:
    """Take any hook's call."""
    with open("/srv/trouble/hooks.log", "a") as log:
        log.write(json.dumps({"hook": hook_name, **said}, default=str) + "\n")
    return True


def lives(watcher: Any, arbiter: Any, hook_name: str, pid: int, **said: Any) -> bool:
    """Take after_spawn's, as uwsgi_hooks does: a process that is not there has failed."""
    note(watcher, arbiter, hook_name, pid=pid)
    return os.path.exists(f"/proc/{pid}")
