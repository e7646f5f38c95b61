"""Recipes and names as other systems write them."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import tcja_gen as tg
from tcja_gen.cli import main
from tcja_gen.training import config as configs
from tcja_gen.training import recipes

ROOT = Path(__file__).parents[1]
TINY = {"steps": 1, "batch": 8, "compile": "off", "device": "cpu", "quiet": True}
MODEL = {"encoder": "8C3s2-TCJA-8C3s2-TCJA", "latent": {"channels": 4, "k": 2}, "time_steps": 2}


@pytest.mark.parametrize("line", ["\n", "\r\n"])
def test_a_recipe_that_an_editor_of_windows_wrote_is_read(tmp_path, line):
    text = line.join(["# Größe", "steps = 7", "[model.latent]", "channels = 5"])
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    found = recipes.load(tmp_path / "a.toml")
    assert (found.steps, found.model.latent.channels) == (7, 5)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("steps = 7".encode("utf-16"), "UTF-16, TOML is UTF-8: save it as UTF-8"),
        (b"\xfe\xff" + "steps = 7".encode("utf-16-be"), "UTF-16, TOML is UTF-8"),
        ('out = "Größe"'.encode("latin-1"), "not UTF-8 (invalid start byte at byte 9)"),
        (b"steps = " + b"9" * 5000, "not TOML"),
        (b"steps = " + b"[" * 5000, "not TOML"),
        (b"steps = 7\0", "not TOML"),
        (b'out = "a\\ud83d"', "not TOML"),
        (b'data = "a\\u0000b"', "data is 'a\\x00b', which is no UTF-8"),
        (bytes(range(256)), "not UTF-8"),
    ],
)
def test_a_recipe_that_is_no_text_is_one_line(tmp_path, capsys, data, says):
    (tmp_path / "a.toml").write_bytes(data)
    assert main(["train", str(tmp_path / "a.toml")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "a.toml: " in line and says in line


NAMES = ["😀", "Größe", "quo\"te and 'quote'", "back\\slash", "tab\tand\nline", "del\x7f", "\u2028", "日本"]


@pytest.mark.parametrize("name", NAMES)
def test_settings_with_any_name_are_read_as_they_were_written(tmp_path, name):
    config = configs.Config(out=name)
    (tmp_path / "config.toml").write_text(configs.text(config), encoding="utf-8")
    assert recipes.load(tmp_path / "config.toml") == config


def test_a_run_by_any_name_goes_on_and_is_used(tmp_path):
    run = tg.train(out=str(tmp_path / "😀 ü"), model=MODEL, **TINY)
    assert tg.resume(run.folder, quiet=True).finished and len(tg.load(run.folder).sample(range(2))) == 2


def test_a_name_that_no_recipe_can_keep_is_refused_before_the_work(tmp_path, capsys):
    assert main(["train", "--steps", "1", "--out", os.fsdecode(os.fsencode(tmp_path) + b"/gr\xfcn")]) == 2
    assert "out is " in capsys.readouterr().err and not any(tmp_path.iterdir())


@pytest.mark.parametrize("variables", [{"LC_ALL": "C.UTF-8"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}])
def test_check_names_files_whose_names_are_no_text(tmp_path, variables):
    (tmp_path / "bilder").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "bilder" / "0.png")
    for name in (b"gr\xfcn.png", "😀.png".encode()):
        with open(os.path.join(os.fsencode(tmp_path / "bilder"), name), "wb") as file:
            file.write(b"nothing")
    command = [sys.executable, "-m", "tcja_gen", "check", str(tmp_path / "bilder")]
    environment = {**os.environ, **variables, "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=100)
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 2, done.stderr
    assert rb"gr\udcfcn.png: not an image" in done.stdout and b"2 problems" in done.stderr


def text_without_encoding(path: Path) -> list[str]:
    """Calls that read or write text by the machine's own encoding."""
    found = []
    for call in (node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        words = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        named = "encoding" in {keyword.arg for keyword in call.keywords} or "utf-8" in words
        binary = any("b" in word for word in words) or name == "open" and isinstance(call.func, ast.Attribute)
        text = name in ("read_text", "write_text") or name == "open" and not binary
        if (text or any(keyword.arg == "text" for keyword in call.keywords)) and not named:
            found.append(f"{path.relative_to(ROOT)}:{call.lineno}")
    return found


def test_every_text_file_is_utf8_by_name():
    paths = {*ROOT.glob("tcja_gen/**/*.py"), *ROOT.glob("experiments/**/*.py")}
    assert [line for path in sorted(paths) for line in text_without_encoding(path)] == []
