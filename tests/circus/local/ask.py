"""Asks a circusd what it reads from its input, a message in JSON on each line, and prints the answers."""

import json
import sys

from circus.client import CircusClient
from circus.exc import CallError

client = CircusClient(timeout=10, endpoint=sys.argv[1])
for line in sys.stdin:
    try:
        answer = client.send_message(**json.loads(line))
    except CallError as error:
        answer = {"status": "error", "reason": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
