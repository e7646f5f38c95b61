"""Damages what a training and the cache keep, and what they write to, and demands that nothing good is lost.

    python experiments/reliability/faults.py

Each case is a command line of this package in a process of its own. It must end with exit code 0 and the weights of a
run that nothing disturbed, or with one line and exit code 1 or 2, and go on once the fault is gone; no traceback, no
half-written file, no whole checkpoint that is gone. Cases:

    truncated   each file of a run, and of the cache, cut to a random length
    limit       no file may grow past a random size, in the middle of a training
    full        a training on a small disk (tmpfs) that is full at a random moment, then emptied
    read-only   the run's folder, or the cache, cannot be written to
    clock       the clock is set back: all files are a day from now

Small disks and read-only places are mounted in a name space of this process alone (`unshare`, Linux); where that is not
to be had they are left out, and the table says so.
"""

import argparse
import contextlib
import io
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from kills import COMMON, MODEL, unlike

from tcja_gen.cli import main as command
from tcja_gen.models import store
from tcja_gen.training import resume, train

SETTINGS = {**COMMON, "steps": 12, "checkpoint_every": 4, "keep_every": 4, "model": MODEL}
INSIDE = "TCJA_GEN_FAULTS_INSIDE"  # the environment's mark of the process with mounts of its own


class Bench:
    """Runs command lines and judges how they end."""

    def __init__(self, place: Path, whole: Path):
        self.place, self.whole, self.rows = place, whole, {}

    def fresh(self, name: str) -> Path:
        """A copy of the undisturbed run that has come to step 8 of 12."""
        run = self.place / name
        shutil.copytree(self.whole, run)
        shutil.rmtree(run / "checkpoints" / "step-000012")
        return run

    def try_(self, kind: str, arguments: list, before: Callable = lambda: None) -> int:
        """Exit code of a command line, in a fork that `before` has prepared; counts what must not be."""
        row = self.rows.setdefault(kind, {"cases": 0, "went on": 0, "told in a line": 0, "tracebacks": 0, "lost": 0})
        row["cases"] += 1
        told = self.place / "stderr"
        child = os.fork()
        if not child:
            code = 99
            with contextlib.suppress(BaseException), open(told, "w", buffering=1, encoding="utf-8") as sys.stderr:
                with contextlib.redirect_stdout(io.StringIO()):
                    before()
                    code = command([*map(str, arguments)])
            os._exit(code)
        code, text = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), told.read_text(encoding="utf-8")
        wrong = code not in (0, 1, 2) or "Traceback" in text or "a fault of tcja_gen's own" in text
        row["tracebacks"] += wrong
        row["went on" if code == 0 else "told in a line"] += not wrong
        if wrong:
            print(f"{kind}: {arguments}: exit code {code}\n{text[-2000:]}", file=sys.stderr)
        return code

    def same(self, kind: str, run: Path) -> None:
        """Counts a run as lost that does not end, by now, with the weights of the undisturbed one."""
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                resume(run, quiet=True)
            found = unlike(self.whole, run)
        except Exception as error:
            found = [repr(error)]
        if left := [*run.rglob("*.tmp"), *run.rglob("*.part")]:
            found.append(f"left {left[0].name}")
        self.rows[kind]["lost"] += bool(found)
        if found:
            print(f"{kind}: {run}: {found}", file=sys.stderr)


def truncated(bench: Bench, chance: random.Random, each: int) -> None:
    files = [p.relative_to(bench.whole) for p in sorted(bench.whole.rglob("*")) if p.is_file() and p.stat().st_size]
    for number in range(each):
        for file in (f for f in files if "step-000012" not in f.parts):
            run = bench.fresh("cut")
            content = (run / file).read_bytes()
            (run / file).write_bytes(content[: chance.randrange(len(content))])
            kind = f"truncated: {file.name if 'events.out' not in file.name else 'events.out.tfevents'}"
            bench.try_(kind, [("sample", "show", "evaluate")[number % 3], run])
            code = bench.try_(kind, ["train", "--resume", run])
            if code and file.name == "config.toml":  # what the user has to put back
                (run / file).write_bytes(content)
            bench.same(kind, run)
            shutil.rmtree(run)


def cache(bench: Bench, chance: random.Random, each: int) -> None:
    kept, kind = Path(os.environ["XDG_CACHE_HOME"]) / "tcja_gen", "truncated: the cache"
    ask = ["evaluate", bench.whole, "--metrics", "fad,fid-classifier,kid-classifier", "--n", "64", "--out"]
    bench.try_(kind, [*ask, bench.place / "before.json"])
    for _ in range(each):
        for file in [p for p in sorted(kept.iterdir()) if p.is_file()]:
            content = file.read_bytes()
            file.unlink()  # another file, not the one that a process may have mapped
            file.write_bytes(content[: chance.randrange(len(content))])
            code = bench.try_(kind, [*ask, bench.place / "after.json"])
            bench.rows[kind]["lost"] += code != 0 or file.stat().st_size < len(content)  # it must be made again


def limit(bench: Bench, chance: random.Random, each: int) -> None:
    largest = max(p.stat().st_size for p in bench.whole.rglob("*") if p.is_file())
    for _ in range(8 * each):
        run, size = bench.fresh("limited"), chance.randrange(1, largest)
        how = (resource.RLIMIT_FSIZE, (size, size))
        bench.try_("no file may grow past a size", ["train", "--resume", run], lambda how=how: resource.setrlimit(*how))
        bench.same("no file may grow past a size", run)
        shutil.rmtree(run)


def full(bench: Bench, chance: random.Random, each: int) -> None:
    kind, disk, needed = "the disk is full", bench.place / "disk", sum(p.stat().st_size for p in bench.whole.rglob("*"))
    disk.mkdir()
    for _ in range(8 * each):
        mount("-t", "tmpfs", "-o", f"size={4 * needed}", "tmpfs", disk)
        run, filler = disk / "run", disk / "filler"
        shutil.copytree(bench.whole, run)
        for step in ("step-000008", "step-000012"):
            shutil.rmtree(run / "checkpoints" / step)
        filler.write_bytes(bytes(shutil.disk_usage(disk).free - chance.randrange(needed // 2)))
        bench.try_(kind, ["train", "--resume", run])
        filler.unlink()
        bench.same(kind, run)
        subprocess.run(["umount", str(disk)], check=True)


def read_only(bench: Bench) -> None:
    kind = "a folder that is read-only"
    run, cache_home = bench.fresh("fixed"), Path(os.environ["XDG_CACHE_HOME"])
    for folder in (run, cache_home):
        mount("--bind", folder, folder)
        mount("-o", "remount,bind,ro", folder)
    shape = ["--steps", "2", "--device", "cpu"]
    bench.try_(kind, ["train", "--resume", run])
    bench.try_(kind, ["train", "--out", run / "new", *shape])
    bench.try_(kind, ["sample", run, "--n", "2", "--out", run / "samples"])
    bench.try_(kind, ["evaluate", run, "--n", "64", "--metrics", "fad"])
    bench.try_(kind, ["train", "--objective.perceptual.weight", ".1", "--out", bench.place / "perceptual", *shape])
    for folder in (run, cache_home):
        subprocess.run(["umount", str(folder)], check=True)
    bench.same(kind, run)


def clock(bench: Bench) -> None:
    kind = "the clock is set back a day"
    run, later = bench.fresh("later"), time.time() + 86400
    for file in run.rglob("*"):
        os.utime(file, (later, later))
    for arguments in (["train", "--resume", run], ["show", run], ["sample", run, "--n", "2", "--out", run / "samples"]):
        bench.try_(kind, arguments)
    bench.same(kind, run)


def mount(*arguments) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=3, help="random lengths or moments of each kind")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    chance = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as place:
        os.environ["XDG_CACHE_HOME"] = str(Path(place) / "cache")
        (Path(place) / "cache").mkdir()
        os.chdir(place)
        whole = Path(place) / "whole"
        child = os.fork()
        if not child:
            train(out=str(whole), quiet=True, **SETTINGS)
            os._exit(0)
        os.waitpid(child, 0)
        bench = Bench(Path(place), whole)
        assert len(store.steps(whole)) == 3
        truncated(bench, chance, asked.each)
        limit(bench, chance, asked.each)
        clock(bench)
        cache(bench, chance, asked.each)
        if os.environ.get(INSIDE):
            full(bench, chance, asked.each)
            read_only(bench)
        table(bench.rows)
    return int(any(row["tracebacks"] or row["lost"] for row in bench.rows.values()))


def table(rows: dict[str, dict]) -> None:
    columns = [*next(iter(rows.values()))]
    print(f"| fault | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(map(str, row.values()))} |")
    if not os.environ.get(INSIDE):
        print("\nfull disks and read-only places were left out: no name space of its own to mount them in")


if __name__ == "__main__":
    if not os.environ.get(INSIDE) and shutil.which("unshare"):
        inside = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, *sys.argv]
        if subprocess.run([*inside[:4], "true"]).returncode == 0:
            os.execvpe("unshare", inside, {**os.environ, INSIDE: "1"})
    sys.exit(main())
