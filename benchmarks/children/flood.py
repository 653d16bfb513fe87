"""Writes so many bytes in pieces of one size, at most so many a second (0: as fast as they are taken).

Into a file, the last argument, it then writes the MB/s at which they were taken, and when it began (CLOCK_MONOTONIC).
"""

import os
import sys
import time

total, piece, rate = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
data = b"x" * (piece - 1) + b"\n"
begin = time.monotonic()
sent = 0
while sent < total:
    sent += os.write(1, data)
    if rate and (ahead := begin + sent / rate - time.monotonic()) > 0:
        time.sleep(ahead)
with open(sys.argv[4], "w", encoding="ascii") as told:
    told.write(f"{sent / 1e6 / (time.monotonic() - begin)} {begin}\n")
