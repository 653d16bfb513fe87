"""Says which signals it gets; SIGTERM ends it with exit code 5."""

import signal
import sys

ALL = {signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM}

signal.pthread_sigmask(signal.SIG_BLOCK, ALL)
print("waiting")
while (got := signal.sigwait(ALL)) != signal.SIGTERM:
    print(f"got {signal.Signals(got).name}")
sys.exit(5)
