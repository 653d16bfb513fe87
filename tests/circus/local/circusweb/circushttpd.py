"""Waits, as the server of circus-web's pages would."""

import signal


def main() -> None:
    """Wait until it is ended."""
    while True:
        signal.pause()
