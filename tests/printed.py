"""What the pages print: commands, Python and recipes, in the order in which a reader meets them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "experiments" / "guide"
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("experiments/**/*.md"))]
PROGRAMS = "tcja-gen|python|torchrun|pip|pytest|ruff|mkdocs|tensorboard"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(rf"`((?:[A-Z_]+=\S+ )*(?:{PROGRAMS})\s[^`]+)`")
COMMENT = re.compile(r"(^|\s)#.*")


@dataclass(frozen=True)
class Printed:
    """A command ("shell"), or a whole block of another kind ("python", "toml", "text"); line: of the page, from 1."""

    kind: str
    text: str
    line: int
    before: str  # the text of the page before it


def printed(page: Path) -> list[Printed]:
    """All that a page prints, from its top to its end."""
    text = page.read_text(encoding="utf-8")
    found, prose = [], text
    for block in FENCE.finditer(text):
        prose = prose[: block.start()] + re.sub(r"[^\n]", " ", block[0]) + prose[block.end() :]
        line = text[: block.start()].count("\n") + 1
        commands = _commands(block[2]) if not block[1] else [block[2]]
        found += [Printed(block[1] or "shell", command, line, text[: block.start()]) for command in commands]
    for inline in INLINE.finditer(prose):
        before = text[: inline.start()]
        found.append(Printed("shell", " ".join(inline[1].split()), before.count("\n") + 1, before))
    return sorted(found, key=lambda one: one.line)


def _commands(block: str) -> list[str]:
    """The commands of a block, without comments; a line that ends in a backslash goes on in the next."""
    lines = [COMMENT.sub("", line) for line in block.replace("\\\n", " ").splitlines()]
    return [command for line in lines for part in line.split(" && ") if (command := " ".join(part.split()))]


def words(command: str) -> list[str]:
    """The words of a command, without the variables of the environment that it sets."""
    found = shlex.split(command)
    while re.match(r"[A-Z_]+=", found[0]):
        found.pop(0)
    return found
