"""Programs that several tests have hosted."""

LINES = 3000
#: It prints more at its end than a pipe holds.
MUCH = f"""
import signal, sys
def end(*_):
    sys.stdout.write(("y" * 99 + chr(10)) * {LINES})
    print("the end", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
while True:
    signal.pause()
"""
