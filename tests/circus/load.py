"""Constant load on http://127.0.0.1:8080: a new connection for each request, from several threads.

Each line on stdin is answered with a JSON line: how many requests were answered, and what went wrong with the others.
At the end of stdin it ends.
"""

import http.client
import json
import sys
from collections import Counter
from threading import Event, Lock, Thread

THREADS = 4
TIMEOUT = 20  # seconds, for one request
PAUSE = 0.01  # seconds after each, so that the machine has time for what is tested

answered = Counter[str]()
failures: list[str] = []
lock = Lock()
done = Event()


def ask() -> None:
    """Make one request. Raises OSError, HTTPException, ValueError."""
    connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=TIMEOUT)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if answer.status != 200 or not text.startswith(b"hello from "):
        raise ValueError(f"{answer.status} {text!r}")


def keep_asking() -> None:
    """Ask until the end."""
    while not done.wait(PAUSE):
        try:
            ask()
        except (OSError, http.client.HTTPException, ValueError) as error:
            with lock:
                failures.append(repr(error))
            return
        with lock:
            answered["requests"] += 1


threads = [Thread(target=keep_asking) for _ in range(THREADS)]
for thread in threads:
    thread.start()
for _ in sys.stdin:
    with lock:
        print(json.dumps([answered["requests"], failures]), flush=True)
done.set()
for thread in threads:
    thread.join()
