"""Runs inside a container, where NotifyAccess=all: changes papa.service's descriptor store behind papad's back.

As a process of the service: `drop NAME` has systemd forget what is kept under a name, `keep NAME` has it keep a
descriptor more, `stranger NAME` a pidfd and the pipe of a program that prints for ever and counts in /run/printed.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

PRINTER = "i=0; while echo $i; do i=$((i+1)); echo $i > /run/printed; sleep 0.02; done"


def notify(text: str, *fds: int) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.connect("/run/systemd/notify")
        socket.send_fds(systemd, [text.encode()], fds)
        # All of it has been worked on when systemd closes this one (sd_notify_barrier(3)).
        read, write = os.pipe()
        socket.send_fds(systemd, [b"BARRIER=1"], [write])
    os.close(write)
    os.read(read, 1)


how, name = sys.argv[1:]
if how == "stranger":
    read, write = os.pipe()
    null = subprocess.DEVNULL
    printer = subprocess.Popen(["sh", "-c", PRINTER], stdin=null, stdout=write, stderr=null, start_new_session=True)
    fds = [read, os.pidfd_open(printer.pid)]
    print(printer.pid)  # noqa: T201 (its result)
else:
    fds = [os.open("/dev/null", os.O_RDONLY)]
Path("/sys/fs/cgroup/system.slice/papa.service/cgroup.procs").write_text(str(os.getpid()))
if how == "drop":
    notify(f"FDSTOREREMOVE=1\nFDNAME={name}")
else:
    notify(f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0", *fds)
