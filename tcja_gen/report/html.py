"""An HTML page in one file: its style, and the few elements that reports are made of.

Pictures are written into the page: images as PNG or JPEG, diagrams as SVG in the page's own colour of text. The page
loads nothing, runs no script, and follows the reader's choice of light or dark.
"""

import base64
import html
import io
import re
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from ..evaluation import pictures

WIDEST = 640  # pixels of a picture; the page shows none wider
BOX = 4  # of PIL's resampling: the mean of the pixels
NUMBER = ' class="number"'
INK = "#010203"  # what is drawn in this colour gets the page's colour of text

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ --paper: #fdfdfc; --ink: #1c1f24; --faint: #5d6570; --line: #d9dce0; --box: #f2f3f5; --blue: #2563eb; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --paper: #14161a; --ink: #e4e6ea; --faint: #9aa3af; --line: #333840; --box: #1e2127; --blue: #7aa7ff; }}
}}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }}
h1 {{ font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }}
h2 {{ font-size: 1.25rem; margin: 2.5rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--line); }}
h3 {{ font-size: 1rem; margin: 1.3rem 0 .4rem; }}
p {{ margin: .4rem 0; max-width: 46rem; }}
nav {{ font-size: .9rem; margin: 1rem 0; }}
nav a {{ margin-right: .9rem; white-space: nowrap; }}
a {{ color: var(--blue); text-decoration: none; }}
.faint, figcaption, summary {{ color: var(--faint); font-size: .9rem; }}
.scroll {{ overflow-x: auto; margin: .6rem 0; }}
table {{ border-collapse: collapse; font-size: .9rem; overflow-wrap: normal; }}
th, td {{ text-align: left; vertical-align: top; padding: .25rem .9rem .25rem 0;
  border-bottom: 1px solid var(--line); }}
th {{ font-weight: 600; color: var(--faint); }}
.facts {{ overflow-wrap: anywhere; }}
.number {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
td:first-child {{ min-width: 6rem; }}
pre {{ background: var(--box); padding: .7rem .9rem; border-radius: .4rem; overflow-x: auto; font-size: .85rem; }}
code {{ font-size: .9em; }}
.panels {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: .8rem 1.2rem; }}
figure {{ margin: .6rem 0; }}
img {{ max-width: 100%; height: auto; display: block; border-radius: .2rem; }}
.pixels {{ image-rendering: pixelated; width: 34rem; }}
.panels .pixels {{ width: 100%; }}
.small .pixels {{ width: 18rem; }}
.strips {{ display: grid; grid-template-columns: 8rem minmax(0, 34rem); gap: .3rem .8rem; align-items: center; }}
.strips > div {{ font-size: .9rem; color: var(--faint); }}
@media (max-width: 40rem) {{ .strips {{ grid-template-columns: minmax(0, 1fr); }} }}
svg {{ max-width: 100%; height: auto; display: block; color: var(--ink); }}
.bar {{ display: inline-block; height: .7rem; background: var(--blue); border-radius: .15rem; margin-right: .5rem; }}
.row {{ white-space: nowrap; }}
details {{ margin: .6rem 0; }}
</style>
</head>
<body>
<header><h1>{title}</h1><p class="faint">{subtitle}</p></header>
<nav>{links}</nav>
<main>
{sections}
</main>
<footer class="faint"><p>{footer}</p></footer>
</body>
</html>
"""


@dataclass
class Section:
    title: str
    parts: Sequence[str]
    """HTML."""


def page(title: str, subtitle: str, sections: Sequence[Section], footer: str) -> str:
    """The whole file."""
    links = "\n".join(f'<a href="#part-{i}">{escape(section.title)}</a>' for i, section in enumerate(sections))
    written = [
        f'<section id="part-{i}">\n<h2>{escape(section.title)}</h2>\n' + "\n".join(section.parts) + "\n</section>"
        for i, section in enumerate(sections)
    ]
    texts = {"title": escape(title), "subtitle": escape(subtitle), "footer": escape(footer)}
    return PAGE.format(**texts, links=links, sections="\n".join(written))


def escape(text: object) -> str:
    """Text as HTML; what UTF-8 cannot hold becomes a question mark."""
    return html.escape(str(text).encode(errors="replace").decode())


def paragraph(text: object, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def heading(text: object) -> str:
    return f"<h3>{escape(text)}</h3>"


def code(text: object) -> str:
    return f"<pre>{escape(text)}</pre>"


def details(summary: object, inner: str) -> str:
    """A part that is closed until the reader opens it."""
    return f"<details><summary>{escape(summary)}</summary>\n{inner}\n</details>"


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Cells are texts, numbers, or HTML (`Raw`); columns of numbers are aligned to the right, empty ones are left out.
    No head: names and facts, which are broken into lines wherever the screen ends."""
    columns = [column for column in zip(*rows, strict=True)]
    filled = [i for i, column in enumerate(columns) if any(cell != "" for cell in column)]
    numeric = {i: bool(head) and all(_is_number(cell) for cell in columns[i] if cell != "") for i in filled}
    titles = "".join(f"<th{NUMBER * numeric[i]}>{escape(head[i])}</th>" for i in filled) if head else ""
    cells = ("".join(_cell(row[i], numeric[i]) for i in filled) for row in zip(*columns, strict=True))
    lines = [f"<tr>{row}</tr>" for row in cells]
    first = f"<thead><tr>{titles}</tr></thead>" if head else ""
    kind = "" if head else ' class="facts"'
    return f'<div class="scroll"><table{kind}>{first}<tbody>\n' + "\n".join(lines) + "\n</tbody></table></div>"


class Raw(str):
    """A cell that is HTML already."""


def bar(share: float, text: str) -> Raw:
    """A cell with a bar, as long as `share` in [0, 1] says, and a text behind it."""
    width = 6 * min(max(share, 0.0), 1.0)
    return Raw(f'<span class="row"><span class="bar" style="width:{width:.2f}rem"></span>{escape(text)}</span>')


def _cell(cell: object, numeric: bool) -> str:
    shown = f"{cell:,}" if isinstance(cell, int) else f"{cell:.4g}" if isinstance(cell, float) else cell
    return f"<td{NUMBER * numeric}>{cell if isinstance(cell, Raw) else escape(shown)}</td>"


def _is_number(cell: object) -> bool:
    """Whether a cell is a number, perhaps with its deviation or a per cent sign; a version or a hash is none."""
    return bool(re.fullmatch(r"[-+]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?( ?[%±].*)?", str(cell)))


def figure(inner: str, caption: str = "", kind: str = "") -> str:
    """kind: "small" for a picture that needs no width."""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="{kind}">{inner}{below}</figure>' if kind else f"<figure>{inner}{below}</figure>"


def panels(figures: Iterable[str]) -> str:
    """Figures side by side where there is room."""
    return '<div class="panels">\n' + "\n".join(figures) + "\n</div>"


def image(pixels: Tensor, text: str) -> str:
    """A picture, uint8 (C, H, W): PNG if it is grey, JPEG if it has colours; at most `WIDEST` pixels wide. text: for
    those who cannot see it."""
    picture = pictures.to_picture(pixels)
    if picture.width > WIDEST:
        picture = picture.resize((WIDEST, round(picture.height * WIDEST / picture.width)), BOX)
    grey = picture.mode == "L" or bool((pixels[0] == pixels[1]).all() and (pixels[1] == pixels[2]).all())
    content = io.BytesIO()
    if grey:
        picture.convert("L").save(content, "png", optimize=True)
    else:
        picture.save(content, "jpeg", quality=88)
    return embedded(content.getvalue(), "png" if grey else "jpeg", text)


def embedded(content: bytes, kind: str, text: str) -> str:
    """A picture file as an element of the page."""
    data = base64.b64encode(content).decode()
    return f'<img class="pixels" alt="{escape(text)}" src="data:image/{kind};base64,{data}">'


@contextmanager
def drawing():
    """Inside, matplotlib draws in the page's colours, for `svg`."""
    from matplotlib import rc_context

    names = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    options = {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10, "axes.titlesize": 10}
    clear = {"figure.facecolor": "none", "axes.facecolor": "none", "legend.facecolor": "none"}
    with rc_context({**options, **clear, **dict.fromkeys(names, INK)}):
        yield


def svg(figure, text: str) -> str:
    """A matplotlib figure as an element of the page, without what would refer to other files or clash with others.
    text: for those who cannot see it."""
    content = io.StringIO()
    figure.savefig(content, format="svg", transparent=True, bbox_inches="tight")
    drawn = content.getvalue()
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn[drawn.index("<svg") :], flags=re.DOTALL)
    used = set(re.findall(r"#([\w.-]+)", drawn))
    drawn = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", drawn)
    drawn = re.sub(r"<!--.*?-->\n? *", "", drawn, flags=re.DOTALL).replace(INK, "currentColor").strip()
    return drawn.replace("<svg ", f'<svg role="img" aria-label="{escape(text)}" ', 1)
