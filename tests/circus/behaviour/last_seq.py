"""Prints how many records Papa has had from a process."""

import asyncio
import sys

from papa_dbus.client import aio


async def main(name: str) -> None:
    """Ask."""
    async with aio.connect() as kernel:
        print((await kernel.list_processes(name))[name].last_seq)


asyncio.run(main(sys.argv[1]))
