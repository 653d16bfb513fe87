"""The coverage-guided fuzzers, for some seconds each; how many inputs they have tried is printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from papa_dbus import output_frames

ROOT = Path(__file__).parents[2]
SECONDS = 12
#: A machine that does other things too tries at least so many; else the fuzzer did not fuzz.
FEWEST = {"fuzz_frames": 10_000, "fuzz_lines": 10_000, "fuzz_store": 100}
SEEDS = {
    "fuzz_frames": [
        b"\0" + output_frames.greeting() + output_frames.ended("finished") + output_frames.answer("a.b", "c"),
        b"\7" + output_frames.acknowledge({"p": 1, "q": 2**64 - 1}),
        b"\3" + output_frames.begin_output("p", 7, [(1, 4, 0), (2, 0, 1)], 4) + b"one\n",
        b"\1" + output_frames.dropped("p", 1, 2, 3) + output_frames.exited("p", 4, 5, -9, True),
    ],
    "fuzz_lines": [
        b"\0list processes\nset a b\nget a\nquit\n",
        b"\1make process n uid=0 env.A=b rlimit.nofile=9 shell=1 /bin/sh -c x\n",
        b"\2m s n host=::1 port=80 umask=077\r\nremove sockets a* b\r\n",
        b"\3POST / HTTP/1.1\r\nHost: x\r\n\r\nset a b\r\n",
        b"\4\xff\xfd\x06\xff\xf4\xff\xfa\x18\x01\xff\xf0watch p\n",
        b'\5make process n quote=json ["a","\\u00e9"]\nmake process n quote=shell /x \'a b\'\n',
    ],
    # The last made SQLite quote bytes that are no text.
    "fuzz_store": [
        bytes(8),
        bytes(range(64)),
        b"\xff" * 300,
        bytes.fromhex("ffff7eff0c8500e5ffffffff0433ff3dffffff0cfe00cf"),
    ],
}


@pytest.mark.parametrize("fuzzer", sorted(SEEDS))
def test_fuzzed(fuzzer: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS[fuzzer]):
        (corpus / str(number)).write_bytes(seed)
    command = [sys.executable, "-m", f"tests.fuzz.{fuzzer}", f"-max_total_time={SECONDS}", "-max_len=1000", "-seed=1",
               f"-artifact_prefix={tmp_path}/", str(corpus)]  # fmt: skip
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=10 * SECONDS,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    ended = re.search(r"Done (\d+) runs in (\d+) second", done.stderr)
    assert ended is not None, done.stderr[-2000:]
    print(f"\n{fuzzer}: {ended[1]} inputs in {ended[2]} s, {len(list(corpus.iterdir()))} of them new to the code")
    assert int(ended[1]) >= FEWEST[fuzzer]
