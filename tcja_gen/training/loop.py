"""The training loop of generators and classifiers: AdamW, warm-up and cosine, moving average, checkpoints, and a run
that can be killed at any time.

A step is a function of the weights, the seed and the step's number: batches, augmentation, latent draws and dropout
all follow from (seed, step). So N steps equal N/2, a killed process and N/2 more, bit for bit on a CPU; and two
processes, each with its share of every batch, follow the same course as one.
"""

import signal
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from ..data import even
from ..errors import UserError
from ..evaluation import pictures
from ..models import FITS, store
from ..models.settings import build
from ..nn import StepDraws, evaluating, fuse, set_memory
from ..process import Process, first_ahead, neuron_path, peak_memory
from ..settings import differences, shortened
from . import activity, checkpoints, runs
from .adoption import adopt, stages
from .adversary import Adversary
from .config import FREE_ON_RESUME, Config, as_table, change
from .guard import Guard
from .perceptual import check_labels, perceptual
from .samples import Samples
from .step import Losses, Step, is_trained, parameter_groups

GRID = 64  # images of the grids that a run writes, from seeds 0 .. 63


@dataclass
class Run:
    """A training run on disk: its folder, the last step done, and the model of its last checkpoint."""

    folder: Path
    step: int
    finished: bool  # False if it was asked to stop before its last step

    @property
    def model(self) -> nn.Module:
        return store.load(self.folder)


@dataclass(frozen=True)
class Place:
    """Where a run stands among the stages of a recipe."""

    run: Path
    """The folder of the whole run, which --resume takes."""
    names: tuple[str, ...]
    """Of all stages."""
    number: int
    """Of this one, from 1."""

    @property
    def name(self) -> str:
        return self.names[self.number - 1]

    @property
    def folder(self) -> Path:
        return self.run / f"stage-{self.number}-{self.name}"

    def __str__(self) -> str:
        return f"stage {self.number} of {len(self.names)}, {self.name}"

    def facts(self) -> dict:
        """For the provenance of weights."""
        return {"name": self.name, "number": self.number, "of": list(self.names)}


class Trainer:
    """One run, from its config, whose sizes are those of the data, to its end.

    folder: of a run that goes on from its last checkpoint, if it has one. place: of a stage of a recipe.
    """

    def __init__(
        self,
        config: Config,
        process: Process,
        data: Samples,
        folder: Path | None = None,
        quiet: bool = False,
        place: Place | None = None,
    ):
        if FITS[config.fit].starts_from_a_run and not config.init_from:
            raise UserError(f"fit = {config.fit!r} needs --init-from, the run whose codes it is fitted to")
        self.config, self.process, self.data, self.place = config, process, data, place
        self.device = process.device
        state = checkpoints.read(folder) if folder else None
        if state:
            _check_settings(state, config, data, folder)
        self.log = runs.Log(quiet) if self.process.first else runs.Silence()
        if place:
            self.log.say(str(place))

        torch.manual_seed(config.seed)
        self.model = new_model(config).to(self.device)
        self.terms = _terms(config, self.data, self.process, {*state["terms"]} if state else set(), self.log)
        self.stages = state["stages"] if state else self._start_from(config)
        if config.task == "generate":
            self.model.provenance = {"stages": self.stages}  # by which it knows whether it can sample
        self.frozen = _freeze(self.model, config)
        for part in (self.model, self.terms):
            fuse(part, neuron_path(self.device, config.compile)[0])
            set_memory(part, config.memory)
        self.batches = self.data.batches(config, self.process)
        self.stepper = Step(self.model, self.terms, config, self.process)
        self.guard = Guard("try a lower --lr or --precision fp32", self.process.world)
        self.step, self.saved = 0, 0  # the last step that was done, and the last one of a checkpoint
        if state:
            self.step = self.saved = state["step"]
            self.stepper.restore(state)
        self._open(folder, resumed=bool(state))

    def _start_from(self, config: Config) -> list[str] | None:
        """Takes over weights of the run that this one starts from; the fits behind this model's weights."""
        before = None
        if config.init_from:
            provenance, line = adopt(self.model, config, self.data.train.fingerprint)
            before = provenance.get("stages")
            self.log.say(line)
        return stages(FITS[config.fit], self.model, before, config.init) if config.task == "generate" else None

    def _open(self, folder: Path | None, resumed: bool) -> None:
        """The run's folder and its log."""
        first = self.process.first
        self.folder = folder or self.process.share(runs.new_folder(self.config) if first else None)
        self.provenance = {
            "run": self.folder.name,
            "data": self.data.facts,
            "seed": self.config.seed,
            "steps": self.config.steps,
            "versions": runs.versions(),
            **self.model.provenance,
            **({"stage": self.place.facts()} if self.place else {}),
        }
        if first:
            runs.forget_after(self.folder, self.step)
            checkpoints.forget_after(self.folder, self.step)
            runs.write_environment(self.folder, self.config, self.device, self.process.world, self.data.facts)
            self.log.open(self.folder)
            self._describe(resumed)

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
                if self.process.any(stop.asked):
                    break
        return self._finish()

    def _to_training(self, model: nn.Module) -> None:
        model.train()
        for part in self.frozen:
            if part is not model.encoder or self.config.init_from:  # a random encoder learns its running statistics
                part.eval()

    def _due(self, every: int) -> bool:
        return self.step % every == 0 and self.step < self.config.steps

    # what a run tells

    def _report(self, seen: dict, since: float) -> None:
        """Means over the steps since the last report; stops the run if one was not finite."""
        count = len(self.guard)
        self.guard.check(self.step, self._kept())  # waits for a GPU to be done
        means, seconds = self.guard.means(), max(time.monotonic() - since, 1e-6)
        if not self.process.first:
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

    def _describe(self, resumed: bool) -> None:
        config, facts = self.config, self.data.facts
        begun = f"resuming at step {self.step}" if resumed else "training"
        parameters = sum(p.numel() for p in self.model.parameters())
        processes = f" in {self.process.world} processes" if self.process.world > 1 else ""
        self.log.say(
            f"{begun}: {facts['images']} images of {facts['name']}, "
            f"{parameters:,} parameters, T = {config.model.time_steps}, on {self.device}{processes}; "
            f"run folder {self.folder}"
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
            state = {"data": self.data.train.fingerprint, "config": as_table(self.config)}
            state |= {"stages": self.stages, **self.stepper.state()}
            checkpoints.write(self.folder, self.step, model, self.config.model, {**self.provenance, **facts}, state)
            checkpoints.prune(self.folder, self.config.keep_every)
        self.saved = self.step

    @torch.no_grad()
    def _validate(self, model: nn.Module) -> dict[str, float]:
        """Losses of the averaged weights on validation samples, with the same draws every time; without the terms that
        change from step to step."""
        fixed = {name: term for name, term in self.terms.items() if not is_trained(term)}
        losses = Losses(model, nn.ModuleDict(fixed), self.config)
        judged, totals = self.data.judged, {}
        for first in range(0, len(judged), self.config.batch):  # no more at once than training has room for
            chosen = judged[first : first + self.config.batch]
            x, targets = self.data.validation_batch(chosen, self.config.model.classes, self.device)
            n = len(chosen)
            with evaluating(losses):
                found = losses(x, StepDraws(0, first, n, device=self.device), 1.0, targets)
            for name, loss in found.items():
                totals[name] = totals.get(name, 0.0) + loss.item() * n / len(judged)
        return totals

    def _pictures(self) -> None:
        if not self.process.first or self.config.task != "generate":
            return
        model, name = self._averaged(), f"step-{self.step:06d}.png"
        if model.prior_is_trained:
            pictures.save_grid(model.sample(range(GRID)), self.folder / "samples" / name)
        validation = self.data.validation
        originals = validation.images[even(GRID // 2, len(validation))].float() / 255
        pairs = torch.stack([originals, model.reconstruct(originals).cpu()], 1).flatten(0, 1)
        pictures.save_grid(pairs, self.folder / "reconstructions" / name)

    def _averaged(self) -> nn.Module:
        """The model that is used and kept."""
        return self.stepper.ema or self.model

    def _finish(self) -> Run:
        finished = self.step >= self.config.steps
        self._checkpoint()
        self._pictures()
        again = self.place.run if self.place else self.folder
        if not finished:
            self.log.say(f"stopped at step {self.step}, saved; go on with: tcja-gen train --resume {again}")
        elif not self.place or self.place.number == len(self.place.names):
            self.log.say(f"done: {again}; look at it: tcja-gen show {again}")
        self.log.close()
        if self.process.world > 1:
            dist.barrier()
        return Run(self.folder, self.step, finished)


def _check_settings(state: dict, config: Config, data: Samples, folder: Path) -> None:
    """UserError, one line, if config.toml or the data are not what the checkpoint was trained with."""
    trained = as_table(change(Config(), state["config"]))
    if changed := differences(trained, as_table(config), (*FREE_ON_RESUME, "steps")):  # which may be raised
        told = f"not the settings of its checkpoints ({shortened(changed)}); put them back"
        raise UserError(f"{folder / 'config.toml'}: {told}")
    if state["data"] != data.train.fingerprint:
        found = f"the samples of {config.data!r} are not those that this run was trained on"
        raise UserError(f"{folder}: {found}; --data tells where those are")


def new_model(config: Config) -> nn.Module:
    """The model of a config whose sizes are known. UserError if its head does not name the classes of the data."""
    model = build(config.model, config.objective.classification)
    if (head := model.head) is not None and head.classes != config.model.classes:
        raise UserError(
            f"model.head {config.model.head!r} names {head.classes} classes, the data have {config.model.classes}"
        )
    return model


def _freeze(model: nn.Module, config: Config) -> list[nn.Module]:
    """Freezes the parts of a model whose weights stay as they are, and returns them."""
    frozen = FITS[config.fit].frozen(model) if config.task == "generate" else []
    frozen = [model.encoder, *frozen] if config.freeze else frozen
    for part in frozen:
        part.requires_grad_(False)
    return frozen


def rehearse(config: Config, data: Samples) -> None:
    """UserError if a stage cannot be trained: better now than when the stages before it are done, or set aside."""
    model = new_model(config)
    if config.init_from:
        adopt(model, config, data.train.fingerprint)
    _freeze(model, config)
    parameter_groups(model, config)
    if config.objective.adversarial:
        Adversary(config.objective.adversarial, config.model)
    if config.objective.perceptual:
        check_labels(data.train)


def _terms(config: Config, data: Samples, process: Process, kept: set[str], log) -> nn.ModuleDict:
    """Terms of a generator's loss that compare its images with real ones; `kept`: those whose weights are in the state
    that the run goes on from."""
    objective, found = config.objective, nn.ModuleDict()
    if objective.adversarial:
        found["adversarial"] = Adversary(objective.adversarial, config.model)
    if objective.perceptual:
        with first_ahead(process):
            term = perceptual(objective.perceptual, data.train, process.device, "perceptual" in kept, log.say)
        found["perceptual"] = term
    return found.to(process.device)


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
