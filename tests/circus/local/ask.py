"""Asks a circusd what it reads from its input, a message in JSON on each line, and prints the answers."""

import json
import sys

from circus.client import CircusClient
from circus.exc import CallError

client = CircusClient(timeout=30, endpoint=sys.argv[1])
for line in sys.stdin:
    try:
        print(json.dumps(client.send_message(**json.loads(line))), flush=True)
    except CallError as error:
        print(json.dumps({"status": "error", "reason": str(error)}), flush=True)
