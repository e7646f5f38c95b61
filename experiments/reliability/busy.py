"""Training beside busy processes: images a second of the default training, with 0, 1, 2 and 8 of them.

    python experiments/reliability/busy.py
    python experiments/reliability/busy.py --busy 2 --processes 2 --setting "OMP_NUM_THREADS=2"

A worker per setting of the environment trains the digits as `tcja-gen train` does. All are started first and stopped
(SIGSTOP); then they take turns, one at a time, so that whatever else happens on the machine meets all settings alike.
The table has the median over the turns and its ratio to the first setting, which is libgomp's own: threads that wait
spin 300,000 times before they sleep. Ours, with no setting, is what `tcja_gen.busy` makes of it. The row of 0 busy
processes means something on a quiet machine alone. Six minutes with the defaults. Linux.
"""

import argparse
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

LIBGOMP = "GOMP_SPINCOUNT=300000"
OURS = ""
WARM_UP = 6  # steps before the first turn
LONGEST = 8  # times `--seconds` that a turn may take until it has seen two steps


class Worker:
    """A training in a process group of its own, which runs only in its turns."""

    def __init__(self, setting: str, processes: int):
        self.folder = tempfile.mkdtemp()
        ours = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
        environment = ours | dict(pair.split("=") for pair in setting.split())
        first, *others = places(processes)
        self.process = self._start(environment | first)
        self.others = [self._start(environment | place) for place in others]
        self.done: list[float] = []  # when each step began
        threading.Thread(target=self._listen, daemon=True).start()
        while len(self.done) < WARM_UP and self.process.poll() is None:
            time.sleep(0.1)
        self._send(signal.SIGSTOP)

    def _start(self, environment: dict[str, str]) -> subprocess.Popen:
        group = self.process.pid if hasattr(self, "process") else 0  # that of the first
        command = [sys.executable, __file__, "--train", self.folder]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, process_group=group)

    def turn(self, seconds: float) -> float:
        """Images a second of one turn."""
        before, start = len(self.done), time.monotonic()
        self._send(signal.SIGCONT)
        while time.monotonic() < start + seconds or (
            len(self.done) < before + 2 and time.monotonic() < start + LONGEST * seconds
        ):
            time.sleep(0.05)
        self._send(signal.SIGSTOP)
        begun = self.done[before:]
        if len(begun) > 1:
            return 128 * (len(begun) - 1) / (begun[-1] - begun[0])
        return 128 * len(begun) / (time.monotonic() - start)

    def end(self) -> None:
        self._send(signal.SIGKILL)
        for process in (self.process, *self.others):
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _listen(self) -> None:
        for _ in self.process.stdout:
            self.done.append(time.monotonic())

    def _send(self, number: int) -> None:
        if self.process.poll() is not None:
            raise SystemExit("the training ended; its last words are above")
        os.killpg(self.process.pid, number)


def places(processes: int) -> list[dict[str, str]]:
    """What torchrun tells each process of a training; it would put them into groups of their own."""
    if processes == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    shared |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    return [shared | {"RANK": str(i), "LOCAL_RANK": str(i)} for i in range(processes)]


def train(folder: str) -> None:
    """The default training; the first process prints a line at the start of every step."""
    from tcja_gen.training.config import Config
    from tcja_gen.training.loop import Trainer
    from tcja_gen.training.samples import prepare

    config = Config(out=f"{folder}/run", steps=100_000, checkpoint_every=100_000, sample_every=0)
    trainer = Trainer(*prepare(config), quiet=True)
    batch_at = trainer.batches.at

    def at(step: int):
        if trainer.process.first:
            print(flush=True)
        return batch_at(step)

    trainer.batches.at = at
    trainer.run()


def measure(workers: dict[str, Worker], busy: int, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Rates of every worker's turns beside `busy` processes."""
    others = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(busy)]
    rates = {name: [] for name in workers}
    try:
        for _ in range(rounds):
            for name, worker in workers.items():
                rates[name].append(worker.turn(seconds))
    finally:
        for other in others:
            other.kill()
            other.wait()
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--busy", default="0,1,2,8", help="numbers of busy processes")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every setting beside each number")
    parser.add_argument("--seconds", type=float, default=6, help="of a turn")
    parser.add_argument("--processes", type=int, default=1, help="that each training is shared by")
    parser.add_argument("--setting", action="append", default=[], help="more environments: 'NAME=VALUE NAME=VALUE'")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.train:
        return train(asked.train)
    both = f" {asked.setting.pop()}" if asked.processes > 1 and asked.setting else ""
    settings = {"libgomp's own": LIBGOMP + both, "ours": OURS + both} | {text: text + both for text in asked.setting}
    workers = {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # those that are stopped would stay
    try:
        for name, setting in settings.items():
            workers[name] = Worker(setting, asked.processes)
        print(f"| images/s, busy processes | {' | '.join(workers)} |\n|--:|{'--:|' * len(workers)}", flush=True)
        for busy in map(int, asked.busy.split(",")):
            rates = measure(workers, busy, asked.rounds, asked.seconds)
            medians = {name: statistics.median(r) for name, r in rates.items()}
            first = next(iter(medians.values()))
            print(f"| {busy} | {' | '.join(f'{m:.0f} ({m / first:.2f})' for m in medians.values())} |", flush=True)
    finally:
        for worker in workers.values():
            worker.end()


if __name__ == "__main__":
    main()
