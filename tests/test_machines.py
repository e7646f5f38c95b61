"""Other machines than the one at hand: busy ones, unlike processors, Windows and macOS, as far as they can be had."""

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tcja_gen as tg
from tcja_gen.nn.kernels import cpu
from tcja_gen.process import cores, peak_memory

needs_gcc = pytest.mark.skipif(not shutil.which("g++"), reason="there is no g++")


def python(code: str, **environment) -> subprocess.CompletedProcess:
    kept = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=kept | environment)
    assert done.returncode == 0, done.stderr
    return done


BESIDE = """
import os, subprocess, sys, threading, time
import torch
from tcja_gen.process import start

others = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(3 * os.cpu_count())]
torch.set_num_threads(2)
start("cpu")
x, end = torch.ones(10**6), time.monotonic() + 20
sleeping = lambda: any(thread.name == "tcja_gen sleeps" for thread in threading.enumerate())
try:
    while time.monotonic() < end and not sleeping() and "GOMP_SPINCOUNT" not in os.environ:
        x.add_(1)
    print(sleeping())
finally:
    for other in others:
        other.kill()
"""


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the system does not tell who waits for a core")
def test_beside_busy_processes_threads_that_wait_sleep_unless_the_user_says_how_long():
    assert python(BESIDE).stdout == "True\n"
    assert python(BESIDE, GOMP_SPINCOUNT="300000").stdout == "False\n"


@pytest.mark.skipif(sys.platform != "linux", reason="libgomp is torch's on Linux")
def test_a_crowd_comes_and_goes_and_changes_no_number():
    code = """
import os, time, torch
from tcja_gen.busy import Crowd
x = torch.randn(300, 300, generator=torch.Generator().manual_seed(0))
before, alone = x @ x, len(os.listdir("/proc/self/task"))
more = lambda: len(os.listdir("/proc/self/task")) - alone
def wait(for_what):
    end = time.monotonic() + 10
    while not for_what() and time.monotonic() < end:
        time.sleep(0.01)
crowd = Crowd()
wait(lambda: more() > os.cpu_count())
assert torch.equal(x @ x, before) and more() > os.cpu_count()
crowd.leave()
wait(lambda: more() == 0)
print(more(), torch.equal(x @ x, before))
"""
    assert python(code).stdout == "0 True\n"


def test_processes_of_torchrun_share_the_cores_and_a_container_has_its_quota(tmp_path, monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    mine = cores(tmp_path)
    assert 1 <= mine <= os.cpu_count()
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cores(tmp_path) == mine
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert cores(tmp_path) == 1
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    for quota, allowed in (("-1", mine), ("90000", 1)):
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        assert cores(tmp_path) == allowed
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert cores(Path("/nowhere")) == max(mine // 2, 1)


def test_a_process_of_several_takes_its_share_of_the_threads_unless_told_how_many():
    show = "from tcja_gen.process import start; import torch; start('cpu'); print(torch.get_num_threads())"
    many = str(os.cpu_count())
    assert python(show, LOCAL_WORLD_SIZE=many).stdout == "1\n"
    assert python(show, LOCAL_WORLD_SIZE=many, OMP_NUM_THREADS="2").stdout == "2\n"


TINY = {"steps": 1, "batch": 4, "log_every": 1, "sample_every": 0, "device": "cpu", "compile": "off"}


def test_a_run_goes_on_where_the_system_does_not_tell_its_memory(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows: importing it fails
    model = {"encoder": "4C3s2-4C3s2", "latent": {"channels": 4}, "time_steps": 2}
    assert tg.train(out=str(tmp_path / "run"), quiet=True, model=model, **TINY).finished
    first = json.loads((tmp_path / "run" / "stats.jsonl").read_text().splitlines()[0])
    assert "loss" in first and "peak_memory_mb" not in first


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_in_megabytes_on_linux_and_on_macos(monkeypatch):
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024 / 1e6
    here = peak_memory(torch.device("cpu"))
    assert here == pytest.approx(peak, rel=0.01)
    monkeypatch.setattr(sys, "platform", "darwin")  # where the same call tells bytes
    assert peak_memory(torch.device("cpu")) == pytest.approx(here / 1024, rel=0.01)


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Loads the kernels as a new process does, by a compiler that hurries; (its script, a function that does it)."""
    script = tmp_path / "quick g++"

    def compiler(march: str = "native") -> None:
        replaced = f'"${{@/-march=native/-march={march}}}"'
        script.write_text(f"#!/bin/bash\necho x >> {shlex.quote(str(tmp_path))}/calls\nexec g++ {replaced} -O0\n")
        script.chmod(0o755)

    def load():
        cpu.library.cache_clear()
        return cpu.library()

    compiler()
    load.compiler = compiler
    load.files = lambda: sorted((tmp_path / "cache").rglob("neurons-*.so"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", f"env LANG=C {shlex.quote(str(script))}")
    yield load
    cpu.library.cache_clear()


@needs_gcc
def test_a_compiler_may_have_words_before_it(build):
    """CXX="ccache g++"."""
    assert shlex.split(cpu.compiler())[1:] == ["LANG=C", shlex.split(os.environ["CXX"])[2]]
    assert build().parts and len(build.files()) == 1


@needs_gcc
def test_a_kernel_cut_short_in_the_cache_is_compiled_again(build):
    build()
    (file,) = build.files()
    whole = file.read_bytes()
    for left in (0, len(whole) // 2, len(whole) - 1):
        file.unlink()
        file.write_bytes(whole[:left])
        assert build().parts
        (file,) = build.files()
        assert len(file.read_bytes()) > 0.999 * len(whole)


@needs_gcc
@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs names of processors")
def test_processors_that_differ_do_not_share_a_kernel(build):
    build()
    build.compiler("x86-64")
    build()
    build()
    assert len(build.files()) == 2


@needs_gcc
def test_a_cache_that_cannot_be_written_costs_a_compilation_and_not_the_kernels(build, tmp_path, monkeypatch):
    (tmp_path / "full").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "full"))
    assert build().parts


KEPT = """
import os, sys, torch
from tcja_gen.process import reuse_freed_memory

resident = lambda: int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
for whether in (False, True, False):
    reuse_freed_memory(whether)
    before, several = resident(), [torch.ones(2**24) for _ in range(4)]  # 64 MiB each
    del several
    print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_training_that_recomputes_gives_large_tensors_back_at_once():
    returned, kept, again = map(float, python(KEPT).stdout.split())
    assert returned < 72 and kept > 192 and again < 72  # of 256 MB
