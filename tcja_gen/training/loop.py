"""The training loop of generators and classifiers: AdamW, warm-up and cosine, moving average, checkpoints, and a run
that can be killed any time.

A step is a function of the weights, the seed and the step's number: batches, augmentation, latent draws and dropout
all follow from (seed, step). So N steps equal N/2, a killed process and N/2 more, bit for bit on a CPU; and two
processes, each with its share of every batch, follow the same course as one.
"""

import signal
import time
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .. import config as configs
from ..config import Config
from ..data import Batches, EventSet, ImageSet, even, found_again, parse_kinds, place
from ..errors import MissingFile, UserError
from ..evaluation import pictures
from ..models import store
from ..nn import StepDraws, evaluating, fuse, set_memory
from ..process import bf16_units, first_ahead, neuron_path, peak_memory, start
from . import activity, checkpoints, runs, task
from .adoption import adopt, stages
from .adversary import Adversary
from .guard import Guard
from .perceptual import perceptual
from .step import Objective, Step, learns

GRID = 64  # images of the grids that a run writes, from seeds 0 .. 63
VALIDATION = 1024  # images, at most, that a checkpoint is judged by


@dataclass
class Run:
    """A training run on disk: its folder, the last step done, and the model of its last checkpoint."""

    folder: Path
    step: int
    finished: bool  # False if it was asked to stop before its last step

    @property
    def model(self) -> nn.Module:
        return store.load(self.folder)


def train(config: Config | str | Path | None = None, *, quiet: bool = False, **overrides) -> Run:
    """Trains a generator or a classifier and returns its `Run`.

    config: a `Config`, a TOML file, or None for the defaults (the embedded digits). Overrides are fields of `Config`,
    model=dict(...) those of the model: train(data="mnist", steps=9000, model=dict(time_steps=8)).
    """
    base = config if isinstance(config, Config) else configs.load(config) if config else Config()
    return Trainer(configs.update(base, overrides), quiet=quiet).run()


def resume(run: str | Path, *, quiet: bool = False, **overrides) -> Run:
    """Goes on with a run from its last checkpoint, whatever ended it. Only settings that cannot change the result
    (devices, logging, where the data are) may be overridden."""
    folder = Path(run)
    if not (folder / "config.toml").is_file():
        raise MissingFile(f"{folder}: no run to resume here (config.toml is missing)")
    saved = configs.load(folder / "config.toml")
    config = configs.update(saved, overrides)
    if config.out != saved.out:
        raise UserError(f"{folder}: a run goes on in its own folder; leave out --out {config.out}")
    if changed := configs.differences(saved, config, configs.FREE_ON_RESUME):
        raise UserError(f"{folder}: a resumed run keeps its settings, but {'; '.join(changed)}; start a new run")
    places = _where_data_are(folder, saved)
    config = replace(config, **{name: places[name] for name in places if getattr(config, name) == getattr(saved, name)})
    return Trainer(config, folder, quiet=quiet).run()


def _check_settings(state: dict, config: Config, folder: Path) -> None:
    """UserError, one line, if config.toml is not what the checkpoint was trained with."""
    trained = configs.update(Config(), state.get("config", asdict(config)))  # states of old do not say
    if changed := configs.differences(trained, config, (*configs.FREE_ON_RESUME, "steps")):  # which may be raised
        told = "; ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        raise UserError(f"{folder / 'config.toml'}: not the settings of its checkpoints ({told}); put them back")


def _where_data_are(folder: Path, saved: Config) -> dict[str, str]:
    """Settings that lead to the data of a run from here, which need not be the folder that it was started in."""
    facts = runs.data_facts(folder)
    found = found_again(saved.data, facts.get("path")) or facts.get("path", saved.data)
    root = facts.get("root")
    return {"data": found, "data_root": root if root and Path(root).is_dir() else saved.data_root}


class Trainer:
    """One run from its config (or, with `folder`, from its last checkpoint) to its end."""

    def __init__(self, config: Config, folder: Path | None = None, quiet: bool = False):
        if config.fit in ("decoder", "prior") and not config.init_from:
            raise UserError(f"fit = {config.fit!r} needs --init-from, the run whose codes it is fitted to")
        self.process = start(config.device)
        self.device = self.process.device
        if config.precision == "auto":
            config = replace(config, precision="bf16" if bf16_units(self.device) else "fp32")
        state = checkpoints.read(folder) if folder else None
        if state:
            _check_settings(state, config, folder)
        if self.process.first and not folder:
            runs.check_place(config)

        with first_ahead(self.process):
            data = task.load_split(config, "train")
        self.config = config = replace(config, model=replace(config.model, **task.shapes(config, data)))
        self.validation = task.load_split(config, "validation")
        total = len(self.validation)
        self.judged = even(total if config.task == "classify" else VALIDATION, total)
        facts = {"name": data.name, "source": config.data, "fingerprint": data.fingerprint, "images": len(data)}
        facts |= place(config.data, config.data_root)
        if isinstance(data, EventSet):
            facts["by"] = config.events_by
        if data.classes:
            facts["classes"] = list(data.classes)
        if state and state["data"] != data.fingerprint:
            found = f"the samples of {config.data!r} are not those that this run was trained on"
            raise UserError(f"{folder}: {found}; --data tells where those are")

        torch.manual_seed(config.seed)
        self.model = task.new_model(config).to(self.device)
        self.distances = self._distances(data, {*state.get("distances", {})} if state else set()).to(self.device)
        before = adopt(self.model, config, data.fingerprint).get("stages") if config.init_from and not state else None
        self.stages = state.get("stages") if state else stages(config, before)
        if config.task == "generate":
            self.model.provenance = {"stages": self.stages}  # by which it knows whether it can sample
        self.frozen = self._frozen()
        for part in self.frozen:
            part.requires_grad_(False)
        for part in (self.model, self.distances):
            fuse(part, neuron_path(self.device, config.compile)[0])
            set_memory(part, config.memory)
        self.batches = Batches(
            data,
            config.batch,
            seed=config.seed,
            flip=config.flip,
            shift=config.shift,
            augment=parse_kinds(config.augment),
            mixup=config.mixup,
            classes=config.model.classes,
            rank=self.process.rank,
            world=self.process.world,
            device=self.device,
        )
        self.stepper = Step(self.model, self.distances, config, self.process)
        self.guard = Guard("try a lower --lr or --precision fp32", self.process.world)
        self.step, self.saved = 0, 0  # the last step that was done, and the last one of a checkpoint
        if state:
            self.step = self.saved = state["step"]
            self.stepper.restore(state)

        self.folder = folder or self._share(runs.new_folder(config) if self.process.first else None)
        self.provenance = {
            "run": self.folder.name,
            "data": facts,
            "seed": config.seed,
            "versions": runs.versions(),
            **self.model.provenance,
        }
        self.log = None
        if self.process.first:
            runs.forget_after(self.folder, self.step)
            checkpoints.forget_after(self.folder, self.step)
            self.log = runs.Log(self.folder, quiet)
            self._describe(facts, resumed=bool(state))

    def run(self) -> Run:
        """All steps that are left. Ctrl-C, or a signal to end, saves after the step in hand."""
        self._to_training(self.model)
        with stopping() as stop:
            since = time.monotonic()
            while self.step < self.config.steps:
                watching = (self.step + 1) % self.config.log_every == 0
                with activity.watch(self.model) if watching else nullcontext() as seen:
                    self.guard.add(self.stepper(self.step, *self.batches.at(self.step), eager=watching))
                self.step += 1
                if watching:
                    self._report(seen, since)
                    since = time.monotonic()
                if self._due(self.config.checkpoint_every):
                    self._checkpoint()
                if self.config.sample_every and self._due(self.config.sample_every):
                    self._pictures()
                if self._any(stop.asked):
                    break
        return self._finish()

    def _to_training(self, model: nn.Module) -> None:
        model.train()
        for part in self.frozen:
            if part is not model.encoder or self.config.init_from:  # a random encoder learns its running statistics
                part.eval()

    def _distances(self, data: ImageSet | EventSet, kept: set[str]) -> nn.ModuleDict:
        """What compares a generator's images with real ones, beside the squared error; `kept`: those whose weights are
        in the state that the run goes on from."""
        config, found = self.config, nn.ModuleDict()
        if config.adversarial:
            found["adversarial"] = Adversary(config)
        if config.perceptual:
            with first_ahead(self.process):
                found["perceptual"] = perceptual(data, config.perceptual, self.device, "perceptual" in kept)
        return found

    def _frozen(self) -> list[nn.Module]:
        """Parts of the model whose weights stay as they are."""
        frozen = self.model.frozen(self.config.fit) if self.config.task == "generate" else []
        return [self.model.encoder, *frozen] if self.config.freeze else frozen

    def _due(self, every: int) -> bool:
        return self.step % every == 0 and self.step < self.config.steps

    # what a run tells

    def _report(self, seen: dict, since: float) -> None:
        """Means over the steps since the last report; stops the run if one was not finite."""
        count = len(self.guard)
        self.guard.check(self.step, self._kept())  # waits for a GPU to be done
        means, seconds = self.guard.means(), max(time.monotonic() - since, 1e-6)
        if not self.log:
            return
        rates = activity.summary(seen)
        firing = {"firing_rate": rates["rate"], "dead": rates["dead"], "layers": rates["layers"]} if seen else {}
        peak = peak_memory(self.device)
        memory = {} if peak is None else {"peak_memory_mb": peak}
        speed = count * self.config.batch / seconds
        left = (self.config.steps - self.step) * seconds / count
        self.log.record(
            self.step,
            {
                **means,
                "lr": self.stepper.rate * self.stepper.peaks[0],
                "images_per_second": speed,
                **memory,
                **firing,  # an ANN has none
            },
        )
        losses = "  ".join(f"{name} {value:.4f}" for name, value in means.items() if name != "gradient_norm")
        told = f"rate {rates['rate']:.3f}  dead {rates['dead']:.1%}  " if seen else ""
        self.log.say(f"step {self.step}/{self.config.steps}  {losses}  {told}{speed:.0f} images/s  {clock(left)} left")

    def _kept(self) -> str:
        """What of the run is kept, for whoever reads that it failed."""
        if not self.saved:
            return "no checkpoint had been written"
        return f"the checkpoint of step {self.saved} is kept in {self.folder}"

    def _describe(self, facts: dict, resumed: bool) -> None:
        runs.write_json(self.folder / "environment.json", runs.environment(self.device, self.process.world, facts))
        parameters = sum(p.numel() for p in self.model.parameters())
        self.log.say(
            f"{'resuming at step ' + str(self.step) if resumed else 'training'}: {facts['images']} images of "
            f"{facts['name']}, {parameters:,} parameters, T = {self.config.model.time_steps}, on {self.device}"
            + (f" in {self.process.world} processes" if self.process.world > 1 else "")
            + f"; run folder {self.folder}"
        )

    # what a run leaves

    def _checkpoint(self) -> None:
        """Weights, state and scores on validation images, if all numbers so far are finite."""
        if self.step == self.saved:
            return
        self.guard.check(self.step, self._kept())
        model = self._averaged()
        score = self._validate(model)
        self.guard.check_scores(score, self.step, self._kept())
        if self.process.first:
            self.log.record(self.step, {f"validation_{name}": value for name, value in score.items()})
            facts = {"step": self.step, "weights": "EMA" if self.stepper.ema else "raw", "validation": score}
            state = {"data": self.provenance["data"]["fingerprint"], "config": asdict(self.config)}
            state |= {"stages": self.stages, **self.stepper.state()}
            settings = task.settings(self.config)
            checkpoints.write(self.folder, self.step, model, settings, {**self.provenance, **facts}, state)
            checkpoints.prune(self.folder, self.config.keep_every)
        self.saved = self.step

    @torch.no_grad()
    def _validate(self, model: nn.Module) -> dict[str, float]:
        """Losses of the averaged weights on validation samples, the same draws every time; of distances, those that
        stay as they are."""
        fixed = {name: d for name, d in self.distances.items() if not learns(d)}
        objective = Objective(model, nn.ModuleDict(fixed), self.config)
        totals: dict[str, float] = {}
        count = len(self.judged)
        for first in range(0, count, self.config.batch):  # no more at once than training has room for
            chosen = self.judged[first : first + self.config.batch]
            x, targets = self._samples(chosen)
            n = len(chosen)
            with evaluating(objective):
                losses = objective(x, StepDraws(0, first, n, device=self.device), 1.0, targets)
            for name, loss in losses.items():
                totals[name] = totals.get(name, 0.0) + loss.item() * n / count
        return totals

    def _samples(self, chosen: Tensor) -> tuple[Tensor, Tensor | None]:
        """Validation samples as a batch, and their targets."""
        data, classes = self.validation, self.config.model.classes
        x = data.samples[chosen].to(self.device).float()
        x = x.transpose(0, 1) if isinstance(data, EventSet) else x / 127.5 - 1
        targets = None
        if data.labels is not None and classes:
            targets = nn.functional.one_hot(data.labels[chosen], classes).float().to(self.device)
        return x, targets

    def _pictures(self) -> None:
        if not self.process.first or self.config.task != "generate":
            return
        model, name = self._averaged(), f"step-{self.step:06d}.png"
        if model.prior_is_trained:
            pictures.save_grid(model.sample(range(GRID)), self.folder / "samples" / name)
        originals = self.validation.images[even(GRID // 2, len(self.validation))].float() / 255
        pairs = torch.stack([originals, model.reconstruct(originals).cpu()], 1).flatten(0, 1)
        pictures.save_grid(pairs, self.folder / "reconstructions" / name)

    def _averaged(self) -> nn.Module:
        """The model that is used and kept."""
        return self.stepper.ema or self.model

    def _finish(self) -> Run:
        finished = self.step >= self.config.steps
        self._checkpoint()
        self._pictures()
        if self.log:
            if finished:
                self.log.say(f"done: {self.folder}; look at it: tcja-gen show {self.folder}")
            else:
                self.log.say(f"stopped at step {self.step}, saved; go on with: tcja-gen train --resume {self.folder}")
            self.log.close()
        if self.process.world > 1:
            dist.barrier()
        return Run(self.folder, self.step, finished)

    # processes

    def _share(self, path: Path | None) -> Path:
        """The first process's path, on all of them."""
        if self.process.world == 1:
            return path
        box = [path]
        dist.broadcast_object_list(box)
        return box[0]

    def _any(self, flag: bool) -> bool:
        if self.process.world == 1:
            return flag
        votes = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(votes)
        return votes.item() > 0


@contextmanager
def stopping():
    """Within, SIGINT and SIGTERM set `.asked` of the yielded object; a second one does what it always does."""

    class Stop:
        asked = False

    def ask(number, _):
        Stop.asked = True
        signal.signal(number, before[number])

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, ask)
    except ValueError:  # not in the main thread: signals are not ours
        pass
    try:
        yield Stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
