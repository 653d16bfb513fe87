"""Prints so many lines, each with the moment of its writing (CLOCK_MONOTONIC, ns), at a steady pace."""

import os
import sys
import time

count, pause = int(sys.argv[1]), float(sys.argv[2])
for _ in range(count):
    time.sleep(pause)
    os.write(1, b"%d\n" % time.monotonic_ns())
