"""Prints so many lines, each with the moment of its writing (CLOCK_MONOTONIC, ns), at a steady pace.

It begins when a file is there, where one is named: so many of these begin when all have started.
"""

import os
import sys
import time

count, pause = int(sys.argv[1]), float(sys.argv[2])
while len(sys.argv) > 3 and not os.path.exists(sys.argv[3]):
    time.sleep(0.1)
for _ in range(count):
    time.sleep(pause)
    os.write(1, b"%d\n" % time.monotonic_ns())
if len(sys.argv) > 3:
    time.sleep(1)  # so that the last lines do not wait for the ends of many interpreters
