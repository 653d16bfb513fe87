"""docs/ as a site: it is built without a warning, and with it go dead links, anchors and names of the code."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
PICTURES = sorted((PROJECT / "docs/pictures").glob("*.svg"))
#: By page, a word of what it is generated of: papactl's commands, the contract, the line protocol's table, docstrings.
GENERATED = {
    "papactl": "papactl socket make", "dbus": "MakeProcess", "papad": "make socket NAME", "python": "make_process",
}  # fmt: skip
SVG = "{http://www.w3.org/2000/svg}"


def makefile_variable(name: str) -> list[str]:
    """The words of a variable of the Makefile."""
    lines = (PROJECT / "Makefile").read_text().splitlines()
    [value] = [line.partition(":=")[2] for line in lines if line.split(":=")[0].strip() == name]
    return value.split()


def test_the_site(tmp_path: Path) -> None:
    options = makefile_variable("SPHINX")
    options[options.index("--doctree-dir") + 1] = str(tmp_path / "doctrees")
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, "--builder", "html", PROJECT / "docs", tmp_path / "site"],
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert (built.returncode, built.stdout + built.stderr) == (0, "")
    pages = {page.relative_to(tmp_path / "site").with_suffix("") for page in (tmp_path / "site").rglob("*.html")}
    assert {page.relative_to(PROJECT / "docs").with_suffix("") for page in (PROJECT / "docs").rglob("*.md")} <= pages
    for name, text in GENERATED.items():
        assert text in (tmp_path / f"site/reference/{name}.html").read_text()
    # A reader without a network sees all of it.
    for page in (tmp_path / "site").rglob("*.html"):
        assert 'src="http' not in page.read_text()
        assert '<link rel="stylesheet" type="text/css" href="http' not in page.read_text()


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md"])
def test_a_link_into_the_checkout_leads_somewhere(file: str) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", (PROJECT / file).read_text()):
        assert (PROJECT / link).exists(), link


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_picture_is_told_to_who_does_not_see_it(picture: Path) -> None:
    root = ElementTree.parse(picture).getroot()  # noqa: S314 (our own)
    told = {element.get("id") for tag in ("title", "desc") for element in root.findall(f"{SVG}{tag}") if element.text}
    assert root.get("role") == "img"
    assert told == set(str(root.get("aria-labelledby")).split())
