"""Makes a process for each line on stdin, its command, and prints its PID: the least that a server in Python can do.

That is a fork, a gate at which the child stands, the program's execution, and waiting until that has come about.
"""

import gc
import os
import sys

gc.disable()
for line in sys.stdin:
    gate, opens = os.pipe()
    told, status = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.close(opens)
        os.read(gate, 1)
        os.execv(line.split()[0], line.split())
    os.close(gate)
    os.close(status)
    os.write(opens, b"x")
    os.close(opens)
    os.read(told, 1)  # its end: exec has closed the other side
    os.close(told)
    print(pid, flush=True)
