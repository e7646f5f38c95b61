"""One optimiser step: losses, gradients, AdamW with the step's learning rate, the moving average of the weights.

On a GPU the work of a step is captured as a CUDA graph and replayed, which launches its hundreds of small kernels at
once. Launched one by one, the kernels of a small network leave the GPU idle most of the time. What changes from step to
step lies in tensors that the graph reads: the batch, the random numbers, the progress, the learning rate.
"""

import copy
import gc
import math
import warnings
from collections.abc import Callable
from itertools import chain

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import UserError
from ..models import FITS
from ..models.fit import PRIOR
from ..nn import Draws, NotedDraws, PlacedDraws, StepDraws
from ..process import Process
from .config import Config
from .firing import FiringCost

BETAS, BETAS_ADVERSARIAL = (0.9, 0.999), (0.5, 0.99)  # of AdamW, without and with a discriminator
WARM_UP = 3  # steps before a graph is captured, in which kernels are compiled and chosen

Values = dict[str, Tensor]  # losses by name


class Step:
    """Does the training steps of a run. terms: further terms of the loss by name; some are trained, too (`adversary`).

    The attribute `ema` is a copy of the model with the moving average of all weights and running statistics, or None.
    """

    def __init__(self, model: nn.Module, terms: nn.ModuleDict, config: Config, process: Process):
        self.model, self.terms, self.config, self.process = model, terms, config, process
        self.device = process.device
        self.ema = copy.deepcopy(model).requires_grad_(False) if config.ema else None
        self.averaged = (float_tensors(self.ema), float_tensors(model)) if self.ema else None
        self.firing = FiringCost(config.objective.firing, model) if config.objective.firing else None
        self.objective: nn.Module = Losses(model, terms, config)
        groups = parameter_groups(model, config)
        groups += [{"params": [*d.parameters()]} for d in terms.values() if is_trained(d)]
        self.trained = [p for p in self.objective.parameters() if p.requires_grad]  # order independent of groups
        if process.world > 1:
            for tensor in terms.state_dict().values():  # machines may have trained or cached different ones
                dist.broadcast(tensor, 0)
            ids = [self.device.index] if self.device.type == "cuda" else None
            self.objective = nn.parallel.DistributedDataParallel(
                self.objective, device_ids=ids, broadcast_buffers=False
            )
        self.optimizer = torch.optim.AdamW(
            groups,
            config.lr,
            betas=BETAS_ADVERSARIAL if config.objective.adversarial else BETAS,
            weight_decay=config.weight_decay,
            fused=True,
            capturable=self.device.type == "cuda",
        )
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self._make_rates_tensors()
        self.graph = Graph(self._losses, self.device, config.graph == "on") if graphs(config, process) else None

    def __call__(self, number: int, x: Tensor, targets: Tensor | None, eager: bool = False) -> Values:
        """Does step `number`, counted from 0. Returns its losses and the gradient norm by name, still on the device.

        x, targets: this process's share of the batch, as the model takes them. eager: without the CUDA graph, so that
        hooks of modules run.
        """
        config, process = self.config, self.process
        draws = StepDraws(config.seed, number, config.batch, process.rank, process.world, self.device)
        self.rate = rate(config, number)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"].fill_(peak * self.rate)
        run = self._losses if eager or not self.graph else self.graph
        losses = run(x, targets, draws, number / config.steps)
        if self.ema:
            self._average(number)
        return losses

    def _losses(self, x: Tensor, targets: Tensor | None, draws: Draws, progress: float | Tensor) -> Values:
        """The part of a step that a CUDA graph captures: losses, gradients, clipping and the optimiser."""
        config = self.config
        self.optimizer.zero_grad(set_to_none=True)  # first, so that the forward pass has their memory
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            losses = self.objective(x, draws, progress, targets)
        losses = self.firing.added(losses) if self.firing else losses
        losses["loss"].backward()
        norm = nn.utils.clip_grad_norm_(self.trained, config.clip or math.inf)
        self.optimizer.step()
        return {**{name: loss.detach() for name, loss in losses.items()}, "gradient_norm": norm}

    @torch.no_grad()
    def _average(self, number: int) -> None:
        """Updates the moving average. The decay starts low: at most (1 + n) / (10 + n), and 0 at the first step."""
        decay = min(self.config.ema, (1 + number) / (10 + number)) if number else 0.0
        torch._foreach_lerp_(*self.averaged, 1 - decay)

    def _make_rates_tensors(self) -> None:
        """Makes the learning rates tensors, so that a CUDA graph reads their current values."""
        for group in self.optimizer.param_groups:
            group["lr"] = torch.zeros((), device=self.device)

    def state(self) -> dict:
        """State to resume from, for `checkpoints.write`."""
        return {
            "model": self.model.state_dict(),
            "terms": {name: term.state_dict() for name, term in self.terms.items()},
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict() if self.ema else {},
        }

    def restore(self, state: dict) -> None:
        """Loads what `state` returned."""
        self.model.load_state_dict(state["model"])
        for name, weights in state["terms"].items():
            self.terms[name].load_state_dict(weights)
        self.optimizer.load_state_dict(state["optimizer"])
        self._make_rates_tensors()
        if self.ema:
            self.ema.load_state_dict(state["ema"])


class Losses(nn.Module):
    """The losses of a batch as one module, which holds the model and the further terms of the loss."""

    def __init__(self, model: nn.Module, terms: nn.ModuleDict, config: Config):
        super().__init__()
        self.model, self.terms = model, terms
        self.options = {"fit": FITS[config.fit], "terms": terms} if config.task == "generate" else {}

    def forward(self, x: Tensor, draws: Draws, progress: float | Tensor, targets: Tensor | None) -> Values:
        return self.model(x, draws, progress, targets=targets, **self.options)


def parameter_groups(model: nn.Module, config: Config) -> list[dict]:
    """Parameter groups for the optimiser. The latent's prior is a group of its own if it has its own learning rate.

    UserError if `prior_lr` is set but no prior is trained.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if config.prior_lr == 1:
        return [{"params": [*trained.values()]}]
    prior = [trained.pop(name) for name in [*trained] if name.startswith(PRIOR)]
    if not prior:
        raise UserError("config: prior_lr has no meaning here: no prior is trained")
    return [{"params": [*trained.values()]}, {"params": prior, "lr": config.lr * config.prior_lr}]


class Graph:
    """run(x, targets, draws, progress), captured as a CUDA graph after `WARM_UP` calls. Returned tensors are copies.

    If `run` cannot be captured, a warning says so and it runs without a graph. With `required` it is an error instead.
    """

    def __init__(self, run: Callable[..., Values], device: torch.device, required: bool = False):
        self.run, self.device, self.required = run, device, required
        self.calls, self.graph, self.failed = 0, None, False
        self.stream = torch.cuda.Stream(device)

    def __call__(self, x: Tensor, targets: Tensor | None, draws: StepDraws, progress: float) -> Values:
        self.calls += 1
        if self.calls <= WARM_UP:
            self.noted = NotedDraws(draws)
            return self._on_capture_stream(lambda: self.run(x, targets, self.noted, progress))
        if not self.graph and not self.failed:
            self._capture(x, targets)
        if self.failed:
            return self.run(x, targets, draws, progress)
        self.inputs.fill(x, targets, draws, progress)
        self.graph.replay()
        return {name: loss.clone() for name, loss in self.losses.items()}

    def _capture(self, x: Tensor, targets: Tensor | None) -> None:
        self.inputs = GraphInputs(x, targets, self.noted)
        gc.collect()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self.stream):
                self.losses = self.run(*self.inputs.arguments)
        except RuntimeError as error:
            if self.required:
                raise
            self.failed = True
            reason = str(error).strip().splitlines()[0]
            warnings.warn(f"this model's step runs without a CUDA graph: {reason}", stacklevel=2)
        else:
            self.graph = graph

    def _on_capture_stream(self, run: Callable[[], Values]) -> Values:
        """Runs on the stream of the capture, since autograd's buffers of the parameters must belong to that stream."""
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            losses = run()
        torch.cuda.current_stream(self.device).wait_stream(self.stream)
        return losses


class GraphInputs:
    """Arguments of a step, in tensors whose memory stays the same. `fill` copies the values of a step into them."""

    def __init__(self, x: Tensor, targets: Tensor | None, noted: NotedDraws):
        self.x = torch.empty_like(x)
        self.targets = None if targets is None else torch.empty_like(targets)
        self.draws = PlacedDraws(noted)
        self.progress = torch.empty((), device=x.device)

    @property
    def arguments(self) -> tuple:
        return self.x, self.targets, self.draws, self.progress

    def fill(self, x: Tensor, targets: Tensor | None, draws: StepDraws, progress: float) -> None:
        self.x.copy_(x)
        if targets is not None:
            self.targets.copy_(targets)
        self.draws.fill(draws)
        self.progress.fill_(progress)


def graphs(config: Config, process: Process) -> bool:
    """Whether steps are captured as CUDA graphs. UserError if the config requires them and they are not possible."""
    possible = process.device.type == "cuda" and process.world == 1
    if config.graph == "on" and not possible:
        raise UserError("graph = 'on': CUDA graphs are for one process on one GPU")
    return possible and config.graph != "off"


def rate(config: Config, step: int) -> float:
    """Learning rate of a step as a fraction of the peak: linear warm-up, then a cosine to 0, or constant."""
    warmup, steps = config.warmup, config.steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


def is_trained(module: nn.Module) -> bool:
    """Whether any parameter of the module gets gradients."""
    return any(p.requires_grad for p in module.parameters())


def float_tensors(model: nn.Module) -> list[Tensor]:
    """Weights and running statistics of floating point; buffers of other types never change."""
    return [tensor for tensor in chain(model.parameters(), model.buffers()) if tensor.is_floating_point()]
