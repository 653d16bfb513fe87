"""Prints numbered lines, each with its time, until SIGINT; then says how many there were."""

import signal
import sys
from datetime import datetime
from itertools import count

INTERVAL = 0.005  # seconds


def main() -> None:
    """Print, a line at a time."""
    # Blocked and waited for: the signal ends it between two lines, never within one.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    for number in count(1):
        now = datetime.now()  # noqa: DTZ005 (local, as circusd's own stamps are)
        sys.stdout.write(f"line {number} at {now:%Y-%m-%d %H:%M:%S.%f}\n")
        sys.stdout.flush()
        if signal.sigtimedwait({signal.SIGINT}, INTERVAL):
            print(f"end after {number} lines", flush=True)
            return


main()
