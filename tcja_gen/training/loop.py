"""The training loop of generators and classifiers, with logs, checkpoints and validation. A run can be killed at any
time and resumed.

A step is a function of the weights, the seed and the step's number: batches, augmentation, latent draws and dropout all
follow from (seed, step). So a run that is killed after N/2 steps and resumed ends with the same weights as a run of N
steps, bit for bit on a CPU. Two processes, each with half of every batch, train the same model as one process.
"""

import signal
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote

import torch
import torch.distributed as dist
from torch import nn

from ..errors import UserError
from ..evaluation import pictures
from ..models import FITS, store
from ..models.settings import build
from ..nn import StepDraws, evaluating, fuse, set_memory
from ..process import Process, first_ahead, neuron_path, peak_memory, reuse_freed_memory
from ..progress import clock
from ..settings import differences, shortened
from . import activity, checkpoints, runs
from .adoption import adopt, stages
from .adversary import Adversary
from .config import FREE_ON_RESUME, Config, as_table, change, text
from .firing import FiringCost
from .guard import Guard
from .perceptual import check_data, perceptual
from .samples import Samples
from .step import Losses, Step, is_trained, parameter_groups

QUIET = 60  # seconds after which a line tells the step, though no report is due
GRID = 64  # images in the grids that a run writes, from seeds 0 .. 63


@dataclass
class Run:
    """A training run on disk."""

    folder: Path
    step: int
    """The last step that was done."""
    finished: bool
    """False if the run was stopped before its last step."""

    @property
    def model(self) -> nn.Module:
        """The model of the last checkpoint, in evaluation mode."""
        return store.load(self.folder)

    @property
    def stats(self) -> list[dict]:
        """What was logged, by step: losses, firing rates, speed, validation losses. Of all stages, one after another,
        each record with the name of its "stage"."""
        stages = store.stages(self.folder)
        if not stages:
            return runs.statistics(self.folder)
        return [{"stage": stage.name, **record} for stage in stages for record in runs.statistics(stage)]

    def curves(self):
        """A picture (PIL) of the losses, firing rates and learning rate by step, of the last stage that has begun."""
        from ..report.figures import curves_picture

        records = self.stats
        return curves_picture([r for r in records if r.get("stage") == records[-1].get("stage")])

    def __repr__(self) -> str:
        losses = [record["validation_loss"] for record in self.stats if "validation_loss" in record]
        validation = f", validation loss {losses[-1]:.4f}" if losses else ""
        return f"Run({self.folder}: step {self.step}, {'finished' if self.finished else 'stopped'}{validation})"


@dataclass(frozen=True)
class Place:
    """The place of a stage in a run with several stages."""

    run: Path
    """Folder of the whole run, which --resume takes."""
    names: tuple[str, ...]
    """Names of all stages, in order."""
    number: int
    """Number of this stage, counted from 1."""

    @property
    def name(self) -> str:
        return self.names[self.number - 1]

    @property
    def folder(self) -> Path:
        return self.run / f"stage-{self.number}-{self.name}"

    def __str__(self) -> str:
        return f"stage {self.number} of {len(self.names)}, {self.name}"

    def facts(self) -> dict:
        """The stage in the provenance of its weights."""
        return {"name": self.name, "number": self.number, "of": list(self.names)}


class Trainer:
    """Trains one run, or one stage of a run, to its end. UserError if its settings, data and checkpoints do not agree.

    config: complete, with the sizes of the data (`samples.prepare`). folder: of a run to resume from its last
    checkpoint, or from its start if there is none. place: of a stage.
    """

    def __init__(
        self,
        config: Config,
        process: Process,
        data: Samples,
        folder: Path | None = None,
        quiet: bool = False,
        place: Place | None = None,
        on_record: runs.OnRecord | None = None,
    ):
        if FITS[config.fit].starts_from_a_run and not config.init_from:
            raise UserError(f"fit = {config.fit!r} needs --init-from, the run with the trained autoencoder")
        self.config, self.process, self.data, self.place = config, process, data, place
        self.device = process.device
        state = checkpoints.read(folder) if folder else None
        if state:
            _check_settings(state, config, data, folder)
        self.log = runs.Log(quiet, on_record) if self.process.first else runs.NoLog()
        if place:
            self.log.say(str(place))

        torch.manual_seed(config.seed)
        self.model = new_model(config).to(self.device)
        self.terms = _terms(config, self.data, self.process, {*state["terms"]} if state else set(), self.log)
        self.stages = state["stages"] if state else self._start_from(config)
        if config.task == "generate":
            self.model.provenance = {"stages": self.stages}  # the model needs it to know whether it can sample
        self.frozen = _freeze(self.model, config)
        for part in (self.model, self.terms):
            fuse(part, neuron_path(self.device, config.compile)[0])
            set_memory(part, config.memory)
        if self.device.type == "cpu":
            reuse_freed_memory(config.memory == "speed")
        self.batches = self.data.batches(config, self.process)
        self.stepper = Step(self.model, self.terms, config, self.process)
        self.guard = Guard("try a lower --lr or --precision fp32", self.process.world)
        self.step, self.saved = 0, 0  # the last step that was done, and the last one with a checkpoint
        if state:
            self.step = self.saved = state["step"]
            self.stepper.restore(state)
        self._open(folder, resumed=bool(state))

    def _start_from(self, config: Config) -> list[str] | None:
        """Takes over weights of `init_from`, if there is one. Returns the names of the fits that train this model."""
        before = None
        if config.init_from:
            provenance, line = adopt(self.model, config, self.data.train.fingerprint)
            before = provenance.get("stages")
            self.log.say(line)
        return stages(FITS[config.fit], self.model, before, config.init) if config.task == "generate" else None

    def _open(self, folder: Path | None, resumed: bool) -> None:
        """Makes the folder of the run, unless it is resumed, and opens its log."""
        first = self.process.first
        self.folder = folder or self.process.share(runs.new_folder(self.config) if first else None)
        self.provenance = {
            "run": self.folder.resolve().name,
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
            self.log.open(self.folder, text(self.config))
            self._describe(resumed)

    def run(self) -> Run:
        """Does all steps that are left. Ctrl-C or SIGTERM ends it after the current step, with a checkpoint."""
        self._to_training(self.model)
        with stopping() as stop:
            since = told = time.monotonic()
            while self.step < self.config.steps:
                watching = (self.step + 1) % self.config.log_every == 0 or self.step + 1 == self.config.steps
                with activity.watch(self.model) if watching else nullcontext() as firing:
                    self.guard.add(self.stepper(self.step, *self.batches.at(self.step), eager=watching))
                self.step += 1
                if watching:
                    self._report(firing, since)
                    since = told = time.monotonic()
                elif time.monotonic() - told > QUIET:
                    self._say_progress(since)
                    told = time.monotonic()
                if self._at_interval(self.config.checkpoint_every):
                    self._checkpoint()
                if self.config.sample_every and self._at_interval(self.config.sample_every):
                    self._pictures()
                if self.process.any(stop.asked):
                    break
            if len(self.guard):  # stopped between two reports
                self._report({}, since)
        return self._finish()

    def _to_training(self, model: nn.Module) -> None:
        model.train()
        for part in self.frozen:
            if part is not model.encoder or self.config.init_from:  # a random encoder needs running statistics first
                part.eval()

    def _at_interval(self, every: int) -> bool:
        return self.step % every == 0 and self.step < self.config.steps

    # log

    def _report(self, activities: dict, since: float) -> None:
        """Logs means over the steps since the last report. Diverged if a number was not finite.

        activities: of the neurons in the last step, from `activity.watch`. since: time of the last report.
        """
        count = len(self.guard)
        self.guard.check(self.step, self._saved_checkpoint())  # waits until a GPU is done
        means, seconds = self.guard.means(), max(time.monotonic() - since, 1e-6)
        if not self.process.first:
            return
        rates = activity.summary(activities)
        firing = {"firing_rate": rates["rate"], "dead": rates["dead"], "layers": rates["layers"]} if activities else {}
        peak = peak_memory(self.device)
        memory = {} if peak is None else {"peak_memory_mb": peak}
        speed, speed_left = self._speed(count, seconds)
        self.log.record(
            self.step,
            {
                **means,
                "lr": self.stepper.rate * self.stepper.peaks[0],
                "images_per_second": speed,
                **memory,
                **firing,  # empty for an ANN
            },
        )
        losses = "  ".join(f"{name} {value:.4f}" for name, value in means.items() if name != "gradient_norm")
        spikes = f"rate {rates['rate']:.3f}  dead {rates['dead']:.1%}  " if activities else ""
        self.log.say(f"step {self.step}/{self.config.steps}  {losses}  {spikes}{speed_left}")

    def _say_progress(self, since: float) -> None:
        """A line between two reports that are long apart. It has no losses, which a GPU would have to be waited for."""
        speed_left = self._speed(len(self.guard), time.monotonic() - since)[1]
        self.log.say(f"step {self.step}/{self.config.steps}  {speed_left}")

    def _speed(self, steps: int, seconds: float) -> tuple[float, str]:
        """Images per second, and words for it with the time that is left, from so many steps in so many seconds."""
        speed = steps * self.config.batch / seconds
        left = (self.config.steps - self.step) * seconds / steps
        return speed, f"{speed:.0f} images/s  {clock(left)} left"

    def _saved_checkpoint(self) -> str:
        """Words for an error message: which checkpoint the run has."""
        if not self.saved:
            return "no checkpoint had been written"
        return f"the checkpoint of step {self.saved} is kept in {self.folder}"

    def _describe(self, resumed: bool) -> None:
        config, facts = self.config, self.data.facts
        start = f"resuming at step {self.step}" if resumed else "training"
        parameters = sum(p.numel() for p in self.model.parameters())
        steps, batch = f"{config.steps:,} steps of {config.batch}", config.steps * config.batch
        epochs = f"{steps} ({batch / facts['images']:.3g} epochs)"
        processes = f" in {self.process.world} processes" if self.process.world > 1 else ""
        self.log.say(
            f"{start}: {facts['images']} images of {facts['name']}, "
            f"{epochs}, {parameters:,} parameters, T = {config.model.time_steps}, on {self.device}{processes}; "
            f"run folder {self.folder}"
        )

    # checkpoints and pictures

    def _checkpoint(self) -> None:
        """Writes weights, state and scores on validation samples. Diverged if a number so far is not finite."""
        if self.step == self.saved:
            return
        self.guard.check(self.step, self._saved_checkpoint())
        model = self._averaged()
        score = self._validate(model)
        self.guard.check_scores(score, self.step, self._saved_checkpoint())
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
        """Losses of `model` on validation samples, with the same random numbers every time. Terms that are trained are
        left out, since they change from step to step."""
        fixed = {name: term for name, term in self.terms.items() if not is_trained(term)}
        losses = Losses(model, nn.ModuleDict(fixed), self.config)
        judged, totals = self.data.judged, {}
        for first in range(0, len(judged), self.config.batch):  # no larger batches than in training, for memory
            chosen = judged[first : first + self.config.batch]
            x, targets = self.data.validation_batch(chosen, self.config.model.classes, self.device)
            n = len(chosen)
            with evaluating(losses):
                values = losses(x, StepDraws(0, first, n, device=self.device), 1.0, targets)
            for name, loss in values.items():
                totals[name] = totals.get(name, 0.0) + loss.item() * n / len(judged)
        return totals

    def _pictures(self) -> None:
        """Writes grids of samples and of reconstructions of validation images."""
        if not self.process.first or self.config.task != "generate":
            return
        model, drawn = self._averaged(), {}
        if model.prior_is_trained:
            images, names = model.sample(range(GRID)), self.data.facts.get("classes", ())
            drawn["samples"] = pictures.samples(images, range(GRID), model.classes, names)
        originals = self.data.originals(GRID // 2)
        drawn["reconstructions"] = pictures.rows(pictures.pairs(originals, model.reconstruct(originals).cpu()))
        for name, pixels in drawn.items():
            seeds = range(GRID if name == "samples" else len(originals))
            facts = {**pictures.made_by(model, seeds), "run": self.provenance["run"], "step": str(self.step)}
            pictures.save(pixels, self.folder / name / f"step-{self.step:06d}.png", facts)
        self.log.pictures(self.step, drawn)

    def _averaged(self) -> nn.Module:
        """The model that is saved: the moving average, if there is one."""
        return self.stepper.ema or self.model

    def _finish(self) -> Run:
        finished = self.step >= self.config.steps
        self._checkpoint()
        self._pictures()
        whole = self.place.run if self.place else self.folder
        if not finished:
            self.log.say(f"stopped at step {self.step}, saved; go on with: tcja-gen train --resume {quote(str(whole))}")
        elif not self.place or self.place.number == len(self.place.names):
            self.log.say(f"done: {whole}; look at it: tcja-gen show {quote(str(whole))}")
        self.log.close()
        if self.process.world > 1:
            dist.barrier()
        return Run(self.folder, self.step, finished)


def _check_settings(state: dict, config: Config, data: Samples, folder: Path) -> None:
    """UserError if config.toml or the data differ from what the checkpoint was trained with."""
    trained = as_table(change(Config(), state["config"]))
    if changed := differences(trained, as_table(config), (*FREE_ON_RESUME, "steps")):  # steps may be raised
        problem = f"not the settings of its checkpoints ({shortened(changed)}); put them back"
        raise UserError(f"{folder / 'config.toml'}: {problem}")
    if state["data"] != data.train.fingerprint:
        problem = f"the samples of {config.data!r} are not those that this run was trained on"
        raise UserError(f"{folder}: {problem}; name their folder or file by --data")


def new_model(config: Config) -> nn.Module:
    """The model of a complete config, with random weights. UserError if its head has other classes than the data."""
    model = build(config.model, config.objective.classification)
    if (head := model.head) is not None and head.classes != config.model.classes:
        raise UserError(
            f"model.head {config.model.head!r} names {head.classes} classes, the data have {config.model.classes}"
        )
    return model


def _freeze(model: nn.Module, config: Config) -> list[nn.Module]:
    """Freezes the parts of a model that are not trained, and returns them."""
    frozen = FITS[config.fit].frozen(model) if config.task == "generate" else []
    frozen = [model.encoder, *frozen] if config.freeze else frozen
    for part in frozen:
        part.requires_grad_(False)
    return frozen


def rehearse(config: Config, process: Process, data: Samples) -> None:
    """UserError if a stage cannot be trained. Asked before the stages before it are trained, or set aside."""
    data.batches(config, replace(process, device=torch.device("cpu")))
    model = new_model(config)
    if config.init_from:
        adopt(model, config, data.train.fingerprint)
    _freeze(model, config)
    parameter_groups(model, config)
    if config.objective.firing:
        FiringCost(config.objective.firing, model)
    if config.objective.adversarial:
        Adversary(config.objective.adversarial, config.model)
    if config.objective.perceptual:
        check_data(config.objective.perceptual, data.train)


def _terms(config: Config, data: Samples, process: Process, resumed: set[str], log) -> nn.ModuleDict:
    """The further terms of a generator's loss, by name. resumed: those whose weights will be loaded from a state."""
    objective, terms = config.objective, nn.ModuleDict()
    if objective.adversarial:
        terms["adversarial"] = Adversary(objective.adversarial, config.model)
    if objective.perceptual:
        with first_ahead(process):
            term = perceptual(objective.perceptual, data.train, process.device, "perceptual" in resumed, log.say)
        terms["perceptual"] = term
    return terms.to(process.device)


@contextmanager
def stopping():
    """Inside, SIGINT and SIGTERM set `.asked` of the yielded object. A second signal has its usual effect."""

    class Stop:
        asked = False

    def ask(number, _):
        Stop.asked = True
        signal.signal(number, before[number])

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, ask)
    except ValueError:  # only the main thread can set handlers
        pass
    try:
        yield Stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
