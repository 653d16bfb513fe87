"""Times that are stored or told."""

import time


def now() -> int:
    """Return the time in µs of CLOCK_REALTIME, as systemd's interfaces give it."""
    return time.time_ns() // 1000


def since_boot() -> int:
    """Return µs of CLOCK_BOOTTIME: nobody sets it, and it outlives papad."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
