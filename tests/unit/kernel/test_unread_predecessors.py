"""What nobody has acknowledged of an earlier process goes to a watch that consumes its successor."""

from papa_dbus.service.kernel.kernel import Kernel
from tests.support import Reader, run


async def test_a_consumer_that_is_there_gets_it_when_the_last_other_one_leaves(kernel: Kernel) -> None:
    await run(kernel, "sh", "-c", "echo first words; exit 3")
    leaves = Reader(kernel, ["p"], acknowledge=False)
    await leaves.until_exited()
    await run(kernel, "sh", "-c", "echo second process; exec sleep 600")
    stays = Reader(kernel, ["p"], acknowledge=False)
    await stays.until("second process")
    assert b"first" not in stays.data()
    leaves.watch.close()
    assert not stays.watch.take(1 << 20)  # not before what it has in hand is acknowledged: numbers would be mixed up
    stays.watch.acknowledge_taken()
    await stays.until("first words")
    await stays.until_exited()
    assert [end.exit_code for end in stays.ends] == [3]
    stays.watch.acknowledge_taken()
    assert not kernel._superseded
    kernel.remove_processes(["p"])
