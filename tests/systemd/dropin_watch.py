"""Runs inside a container: reads a hosted process to its end with the drop-in, while other threads go on making calls.

Says "line N" now and then, so that who ends papad meanwhile need not guess; at the end, one line of JSON.
"""

import json
import sys
import threading

from papa_dbus.client import Error, Papa

wrong: list[str] = []
made = [0, 0]
done = threading.Event()


def call_again_and_again() -> None:
    """Calls on one client, each of which must succeed."""
    with Papa() as p:
        while not done.is_set():
            made[0] += 1
            try:
                p.set("count", str(made[0]))
                if (value := p.get("count")) != str(made[0]):
                    wrong.append(f"count is {value}, and was set to {made[0]}")
            except Error as error:
                wrong.append(f"set or get: {error!r}")


def come_again_and_again() -> None:
    """Clients that come and go, each with a watch that it leaves at once."""
    while not done.is_set():
        made[1] += 1
        try:
            with Papa() as p:
                p.list_processes("writer")
                p.watch_processes("silent").close()
        except Error as error:
            wrong.append(f"a new client: {error!r}")


threads = [threading.Thread(target=call_again_and_again), threading.Thread(target=come_again_and_again)]
lines = b""
said = 0
with Papa() as p, p.watch_processes("writer") as watcher:
    for thread in threads:
        thread.start()
    while (read := watcher.read()) is not None:
        lines += b"".join(record.data for record in read[0])
        if (count := lines.count(b"\n")) >= said + 50:
            said = count
            sys.stdout.write(f"line {count}\n")
            sys.stdout.flush()
    done.set()
    for thread in threads:
        thread.join()
    numbers = lines.decode().split()
    first_wrong = next(
        (n for n, (is_, was) in enumerate(zip(numbers, range(len(numbers)), strict=True)) if int(is_) != was), None
    )
    seen = {
        "wrong": wrong, "lines": len(numbers), "first wrong line": first_wrong, "exit code": watcher.exit_code,
        "calls": made[0], "clients": made[1], "left": list(p.list_processes("writer")),
    }  # fmt: skip
print(json.dumps(seen))  # noqa: T201
