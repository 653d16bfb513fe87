"""Writes down its surroundings, as JSON in the file that its first argument names, and waits."""

import json
import os
import resource
import signal
import stat
import sys


def limits():
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {name[7:].lower(): resource.getrlimit(getattr(resource, name)) for name in names}


def sockets():
    found = []
    for fd in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                found.append(os.get_blocking(fd))
        except OSError:
            continue
    return found


os.umask(umask := os.umask(0))
said = {
    "argv": sys.argv[2:],
    "argv0": open("/proc/self/cmdline", "rb").read().split(b"\0")[0].decode(),
    "cwd": os.getcwd(),
    "env": dict(os.environ),
    "groups": sorted(os.getgroups()),
    "gid": os.getgid(),
    "input": os.readlink("/proc/self/fd/0"),
    "limits": limits(),
    "shell": open(f"/proc/{os.getppid()}/cmdline", "rb").read().split(b"\0")[0].decode().rpartition("/")[2] == "sh",
    "leader": os.getsid(0) == os.getpid(),
    "sockets": sockets(),
    "uid": os.getuid(),
    "umask": umask,
}
with open(sys.argv[1] + ".new", "w") as file:
    json.dump(said, file)
os.rename(sys.argv[1] + ".new", sys.argv[1])
print("out", flush=True)
print("err", file=sys.stderr, flush=True)
while True:
    signal.pause()
