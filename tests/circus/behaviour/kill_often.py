"""Kills the watcher `killed`'s process as often as it is told, each as soon as circusd has it; prints how often."""

import os
import signal
import sys
import time

from circus.client import CircusClient

PATIENCE = 20  # seconds


def next_pid(client: CircusClient, last: int) -> int:
    """Wait for another process than the last."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        pids = client.send_message("list", name="killed")["pids"]
        if pids and pids != [last]:
            return int(pids[0])
    raise TimeoutError(f"process {last} was killed, and nothing came after it")


client = CircusClient(timeout=PATIENCE)
pid = 0
for _ in range(int(sys.argv[1])):
    pid = next_pid(client, pid)
    os.kill(pid, signal.SIGKILL)
print(next_pid(client, pid))
client.stop()
