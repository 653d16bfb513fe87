"""The Makefile as people type it: every message is one line that says what to do. Nothing is installed here."""

import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]


def make(*words: str) -> "subprocess.CompletedProcess[str]":
    """make, to its end."""
    command = ["make", "--no-print-directory", *words]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60)


def test_make_alone_lists_what_there_is() -> None:
    listed = make().stdout
    assert listed == make("help").stdout == make("all").stdout
    for word in ("run", "test", "check", "install", "uninstall", "clean"):
        assert f"make {word} " in listed


@pytest.mark.parametrize("word", ["hlep", "start", "deploy", "coverage", "papad"])
def test_a_word_that_is_none(word: str) -> None:
    done = make(word)
    assert done.returncode == 2
    assert f"papa: there is no 'make {word}'; 'make help' lists what there is" in done.stderr


@pytest.mark.parametrize(("word", "same"), [("tests", "test"), ("lint", "check"), ("build", "dist")])
def test_words_for_the_same(word: str, same: str) -> None:
    """A folder of that name is not what is asked for."""
    assert make("--dry-run", word).stdout == make("--dry-run", same).stdout != ""


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ("PREFIX=opt/papa", "PREFIX=opt/papa: must be an absolute path"),
        ("PREFIX=~/papa", "PREFIX=~/papa: make does not know ~"),
        ("PREFIX=/opt/my papa", "PREFIX=/opt/my papa: no spaces"),
        ("POLKIT=maybe", "POLKIT=maybe: must be yes or no"),
        ("PYTHON=/no/python", "PYTHON=/no/python: there is no such program"),
    ],
)
def test_a_wrong_value_is_told_before_anything_is_done(variable: str, told: str) -> None:
    done = make("install", variable)
    assert done.returncode == 2
    assert done.stderr.startswith(f"papa: {told}")
    assert done.stdout == ""


@pytest.mark.root
@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_without_root(verb: str) -> None:
    script = (PROJECT / "tools/system").read_text()  # the checkout may be a folder of root's alone
    done = subprocess.run(
        ["sh", "-s", verb], input=script, cwd="/", user=65534, group=65534, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr == f"papa: as root, please: sudo make {verb} (or with DESTDIR=)\n"


def test_nothing_to_uninstall(tmp_path: Path) -> None:
    done = make("uninstall", f"DESTDIR={tmp_path}", "PREFIX=/opt/nowhere")
    assert done.returncode == 0
    assert "nothing is installed below" in done.stdout
