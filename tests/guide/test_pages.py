"""Links lead somewhere, the guide has all of its pages, the tree of files is true, and the website builds."""

import re
import shutil
import subprocess
import sys
import unicodedata
from functools import cache
from pathlib import Path

import pytest
from printed import FENCE, GUIDE, PAGES, ROOT, printed

import tcja_gen as tg

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|<img[^>]* src=\"([^\"]+)\"")
CARDS = [*ROOT.glob("tcja_gen/weights/*.md")]
SUFFIXES = {".py", ".cpp", ".md", ".toml", ".ipynb", ""}


def without_code(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", without_code(page), re.MULTILINE)
    return {slug(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)) for heading in headings}


def slug(heading: str) -> str:
    plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip())


def broken(page: Path) -> list[str]:
    links = [one or other for one, other in LINK.findall(without_code(page))]
    found = []
    for link in (link for link in links if "://" not in link):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or anchor and anchor not in anchors(target):
            found.append(f"{page.relative_to(ROOT)}: {link}")
    return found


def test_every_link_leads_to_a_file_and_a_heading_that_are_there():
    assert [line for page in [*PAGES, *CARDS] for line in broken(page)] == []


def test_every_page_of_the_guide_is_in_the_website_and_on_the_first_page():
    pages = {page.name for page in GUIDE.glob("*.md")} - {"index.md"}
    shown = {*re.findall(r"guide/([\w-]+\.md)", (GUIDE / "mkdocs.yml").read_text(encoding="utf-8"))} - {"index.md"}
    listed = {*re.findall(r"\]\(([\w-]+\.md)\)", (GUIDE / "index.md").read_text(encoding="utf-8"))}
    assert pages == shown, "experiments/guide/mkdocs.yml: nav"
    assert pages == listed, "experiments/guide/index.md"


def test_the_api_page_has_every_name_of_the_package():
    told = {line.rpartition(".")[2] for line in re.findall(r"^::: (.+)$", (GUIDE / "api.md").read_text(), re.MULTILINE)}
    assert {*tg.__all__} <= told


def drawn() -> set[str]:
    """Paths of the tree in architecture.md; those of folders end with /."""
    (tree,) = (one.text for one in printed(GUIDE / "architecture.md") if one.text.startswith("tcja_gen/\n"))
    found, folders = set(), []
    for line in tree.splitlines():
        name, depth = line.split()[0], (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [name]
        found.add("".join(folders))
    return found


def test_the_tree_of_files_is_true():
    tree = drawn()
    assert [path for path in sorted(tree) if not (ROOT / path).exists()] == []
    folders = {path for path in tree if path.endswith("/") and any(p != path and p.startswith(path) for p in tree)}
    files = {str(file.relative_to(ROOT)) for folder in folders for file in (ROOT / folder).iterdir() if is_told(file)}
    assert files - tree == set(), "add a line to the tree in experiments/guide/architecture.md"


def is_told(file: Path) -> bool:
    return file.is_file() and file.suffix in SUFFIXES and file.name != "__init__.py"


def test_the_website_builds_without_a_warning(tmp_path):
    mkdocs = shutil.which("mkdocs") or Path(sys.executable).parent / "mkdocs"
    if not Path(mkdocs).exists():
        pytest.skip('needs pip install -e ".[docs]"')
    command = [mkdocs, "build", "--strict", "-f", GUIDE / "mkdocs.yml", "-d", tmp_path / "site"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr  # --quiet would keep warnings from being counted
    assert (tmp_path / "site" / "assets" / "n-mnist-film.gif").exists()
    page = (tmp_path / "site" / "guide" / "api" / "index.html").read_text(encoding="utf-8")
    assert "Trains a generator or a classifier" in page  # a docstring
