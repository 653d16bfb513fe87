"""Runs as a process of its own: a client of the bus that plays by no rules. Prints which errors it got, as JSON."""

import asyncio
import json
import sys
from collections import Counter

from tests.bus.client import Client

MIB = 1024 * 1024


async def flood(client: Client) -> Counter[str]:
    """Wrong calls, large ones, more than can be answered at once, and watches that nobody acknowledges."""
    calls = [client.call("GetValue", "s", "no such") for _ in range(3000)]
    calls += [client.call("MakeProcess", "as", ["wrong"]) for _ in range(1000)]
    calls += [client.call("SetValue", "ss", "large", "x" * (3 * MIB)) for _ in range(20)]
    calls += [client.call("ListValues", "as", [""] * 600_000)]
    calls += [client.call("MakeProcess", "sasa{sv}", f"n{n}", ["/nope"], {}) for n in range(50)]
    calls += [client.call("Watch", "asa{sv}", ["worker"], {}) for _ in range(1100)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    return Counter(type(result).__name__ for result in results if isinstance(result, BaseException))


async def main(address: str) -> None:
    client = Client(address)
    await client.bus.start()
    print(json.dumps(await flood(client)), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await client.bus.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
