"""The application: says which worker has answered."""

import os
from collections.abc import Callable, Iterable
from typing import Any


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer one request (PEP 3333)."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"hello from {os.getpid()}\n".encode()]
