"""Programs open their output by name: /dev/stdout, /dev/stderr, /proc/self/fd/1; whatever user they run as."""

import os
import stat
from collections.abc import Iterator

import pytest

from papa_dbus.service.fork.fork import ForkServer
from papa_dbus.service.kernel.kernel import Kernel
from tests.support import Reader, output_of, run

pytestmark = pytest.mark.root

#: As nginx, php-fpm and many scripts do.
BY_NAME = "echo one >/dev/stdout; echo two | tee /dev/stderr; echo three >>/proc/self/fd/2"


@pytest.fixture(params=["papad", "fork server"], autouse=True)
def forked_by(request: pytest.FixtureRequest, kernel: Kernel) -> Iterator[None]:
    """Run each test twice: who forks makes no difference."""
    if request.param == "papad":
        yield
        return
    fork_server = ForkServer()
    kernel.fork = fork_server.fork
    yield
    fork_server.close()


@pytest.mark.parametrize("user", ["www-data", "nobody", 4242, None])
async def test_it_is_opened_as_any_user(kernel: Kernel, user: str | int | None) -> None:
    await run(kernel, "sh", "-c", BY_NAME, uid=user, gid=None if user is None else 65534)
    reader = Reader(kernel, ["p"])
    await reader.until_exited()
    assert reader.data("out") == b"one\ntwo\n"
    assert reader.data("err") == b"two\nthree\n"
    assert [end.exit_code for end in reader.ends] == [0]


async def test_one_pipe_for_both(kernel: Kernel) -> None:
    assert await output_of(kernel, "sh", "-c", BY_NAME, uid="www-data", stderr="stdout") == "one\ntwo\ntwo\nthree\n"


async def test_a_program_that_becomes_another_user_by_itself(kernel: Kernel) -> None:
    """As su(1), gosu and php-fpm's master do it."""
    script = BY_NAME + "; cat <&- </proc/self/fd/1"
    said = await output_of(kernel, "setpriv", "--reuid=33", "--regid=33", "--clear-groups", "sh", "-c", script)
    assert "one\n" in said
    assert said.count("two\n") == 2
    assert "three\n" in said
    assert "cannot open /proc/self/fd/1: Permission denied" in said, "it may not read what others print"


@pytest.mark.parametrize("null", ["stdout", "stderr"])
async def test_what_is_not_kept_stays_the_null_device_and_roots(kernel: Kernel, null: str) -> None:
    said = await output_of(kernel, "sh", "-c", BY_NAME, uid="www-data", **{null: "null"})
    assert said == {"stdout": "two\nthree\n", "stderr": "one\ntwo\n"}[null]
    status = os.stat("/dev/null")
    assert stat.S_ISCHR(status.st_mode)
    assert status.st_uid == 0


async def test_another_user_cannot_open_it(kernel: Kernel) -> None:
    info = await run(kernel, "sleep", "1000", uid="www-data")
    said = await output_of(kernel, "sh", "-c", f"echo forged >/proc/{info.pid}/fd/1", uid="nobody", name="forger")
    assert "denied" in said
    root = os.open(f"/proc/{info.pid}/fd/1", os.O_WRONLY | os.O_NONBLOCK)
    assert os.fstat(root).st_uid != 0
    os.close(root)
