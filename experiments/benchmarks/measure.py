"""One measurement in a process of its own: a training step, sampling, or every layer of a network.

    python experiments/benchmarks/measure.py '{"by": "plain", "time_steps": 16, "batch": 32}'

prints a line of JSON. `cpu.py` and `gpu.py` ask for many. Images are random numbers, which costs the same. The network
is FSVAE's (compat) or the same with TCJA at every stage; the neurons behind its convolutions and linear layers run by

    ours          this package, on the path that `tcja-gen show --environment` tells
    plain         PyTorch alone, eager: its batch normalisation, a loop over time, autograd
    spikingjelly  PyTorch's batch normalisation and SpikingJelly's LIFNode (on a GPU with its Triton kernels)
    snntorch      PyTorch's batch normalisation and a loop over snnTorch's Leaky

all with the neuron's own constants; SpikingJelly and snnTorch with the arctangent surrogate, as they have no other that
all of them share. The latent's draw, step by step and without gradient, is ours everywhere.

Memory is what a step takes beyond weights, optimiser and program: the peak after a small step has run.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tcja_gen.models import build
from tcja_gen.nn import LIF, Draws, Gate, Neuron, NormLIF, SpikingBlock, StepDraws, fuse, lif_step, set_memory
from tcja_gen.process import neuron_path, start
from tcja_gen.training.step import WARM_UP, Graph

STAGES = "32C3s2{0}-64C3s2{0}-128C3s2{0}-256C3s2{0}"
NETWORKS = {
    "compat": {"encoder": STAGES.format(""), "neuron": "fsvae"},
    "tcja": {"encoder": STAGES.format("-TCJA"), "neuron": "fsvae"},
}


@dataclass(frozen=True)
class Case:
    what: str = "step"  # or "layers"
    by: str = "ours"
    network: str = "compat"
    time_steps: int = 16
    batch: int = 32  # over all processes
    image_size: int = 32
    precision: str = "fp32"
    memory: str = "speed"
    graph: bool = False  # whether a step is a CUDA graph
    processes: int = 1
    device: str = "cpu"
    steps: int = 8
    sampling: int = 0  # images, 0: not measured


# the neurons of others


def plain_neurons(neuron: Neuron) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        v, out = None, []
        for frame in x.unbind(0):
            spike, v = lif_step(frame, v, neuron)
            out.append(spike)
        return torch.stack(out)

    return run


def spikingjelly_neurons(neuron: Neuron) -> Callable[[Tensor], Tensor]:
    from spikingjelly.activation_based import functional, surrogate
    from spikingjelly.activation_based.neuron import LIFNode

    node = LIFNode(
        neuron.tau,
        neuron.decay_input,
        neuron.v_threshold,
        neuron.v_reset,
        surrogate.ATan(2.0),
        neuron.detach_reset,
        step_mode="m",
    )

    def run(x: Tensor) -> Tensor:
        functional.reset_net(node)
        return node(x)

    return run


def snntorch_neurons(neuron: Neuron) -> Callable[[Tensor], Tensor]:
    from snntorch import Leaky, surrogate

    node = Leaky(1 - 1 / neuron.tau, neuron.v_threshold, spike_grad=surrogate.atan(2.0), reset_mechanism="zero")

    def run(x: Tensor) -> Tensor:
        membrane, out = torch.zeros_like(x[0]), []
        for frame in x.unbind(0):
            spike, membrane = node(frame / neuron.tau if neuron.decay_input else frame, membrane)
            out.append(spike)
        return torch.stack(out)

    return run


OTHERS = {"plain": plain_neurons, "spikingjelly": spikingjelly_neurons, "snntorch": snntorch_neurons}


class Normalised(nn.Module):
    """PyTorch's batch normalisation with a layer's parameters, and neurons of other make."""

    def __init__(self, layer: NormLIF, neurons: Callable[[Tensor], Tensor]):
        super().__init__()
        self.layer, self.neurons = layer, neurons
        self.step = layer.step

    def forward(self, x: Tensor, steps: int | None = None, offset: Tensor | None = None) -> Tensor:
        n, frame = self.layer, x.shape if steps else x.shape[1:]
        weight = n.weight * n.scale
        rows = x if steps else x.flatten(0, 1)
        y = F.batch_norm(rows, n.running_mean, n.running_var, weight, n.bias, self.training, n.momentum, n.eps)
        return self.neurons(y.expand(steps, *frame) if steps else y.view(x.shape))


def by_other_means(model: nn.Module, by: str) -> nn.Module:
    for block in model.modules():
        if isinstance(block, SpikingBlock):
            block.neurons = Normalised(block.neurons, OTHERS[by](block.neurons.neuron))
        if isinstance(block, Gate):
            block.forward = partial(gated, block)
    return model


def gated(block: Gate, x: Tensor) -> Tensor:
    return x * block.gate(x).to(x.dtype)[..., None, None]


def network(case: Case, device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    shape = {"image_size": case.image_size, "time_steps": case.time_steps}
    scheduled = {"end": 0.1, "replace": "vote"} if case.time_steps > 6 else {}  # it begins with the sixth step
    model = build(shape | NETWORKS[case.network] | {"latent": {"scheduled": scheduled}}).to(device).train()
    if case.by == "ours":
        return set_memory(fuse(model, neuron_path(device)[0]), case.memory)
    return by_other_means(model, case.by)


# measuring


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(function: Callable, times: int, device: torch.device) -> list[float]:
    taken = []
    for _ in range(times):
        wait(device)
        began = time.perf_counter()
        function()
        wait(device)
        taken.append(time.perf_counter() - began)
    return taken


def forget_peak(device: torch.device) -> float:
    """Starts to look for the peak anew; the memory in use now, in MB."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 1e6
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return _status("VmRSS")


def peak(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else _status("VmHWM")


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(float(line.split()[1]) / 1e3 for line in lines if line.startswith(key))


def measure_step(case: Case) -> dict:
    began = time.perf_counter()
    process = start(case.device)
    device = process.device
    own = model = network(case, device)
    if process.world > 1:
        model = nn.parallel.DistributedDataParallel(own, broadcast_buffers=False)
    capturable = device.type == "cuda"
    optimizer = torch.optim.AdamW(own.parameters(), 1e-3, weight_decay=1e-3, fused=True, capturable=capturable)
    count = iter(range(10**6))

    def work(x: Tensor, targets: None, draws: Draws, progress: float | Tensor) -> dict[str, Tensor]:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=case.precision == "bf16"):
            loss = model(x, draws, progress)["loss"]
        loss.backward()
        optimizer.step()
        return {"loss": loss.detach()}

    def step(work: Callable, batch: int) -> None:
        x = torch.rand(batch // process.world, 1, case.image_size, case.image_size, device=device) * 2 - 1
        work(x, None, StepDraws(0, next(count), batch, process.rank, process.world, device), 0.0)

    seconds(partial(step, work, 4 * process.world), 1, device)
    first = time.perf_counter() - began  # with the model's making, and the kernels'
    before = forget_peak(device)
    run = partial(step, Graph(work, device, required=True) if case.graph else work, case.batch)
    seconds(run, WARM_UP + 1 if case.graph else 2, device)
    taken = seconds(run, case.steps, device)
    result = {
        "first_step_s": first,
        "step_s": statistics.median(taken),
        "least_s": min(taken),
        "images_per_s": case.batch / statistics.median(taken),
        "memory_mb": peak(device) - before,
        "parameters": sum(p.numel() for p in own.parameters()),
    }
    if case.sampling:
        least = min(seconds(partial(own.sample, range(case.sampling)), 3, device))
        result["sampled_per_s"] = case.sampling / least
    return result if process.first else {}


def limits(device: torch.device, precision: str) -> tuple[float, float]:
    """Bytes and floating-point operations a second that this device reaches when it does nothing else."""
    size, side = (2**28, 8192) if device.type == "cuda" else (2**24, 1024)
    a, b = torch.empty(size, device=device), torch.ones(size, device=device)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    m = torch.ones(side, side, device=device, dtype=dtype)
    copy, product = (min(seconds(f, 7, device)) for f in (lambda: a.copy_(b), lambda: m @ m))
    return 8 * size / copy, 2 * side**3 / product


@torch.no_grad()
def _note_weights(seen: dict[nn.Module, tuple], block: SpikingBlock, args: tuple) -> None:
    """Input and output of a block's weights, which in training run without their bias and past their own hooks."""
    pixels = -2 if isinstance(block.weights, nn.Linear) else -4
    x = args[0].flatten(0, pixels)
    seen[block.weights] = (x,), block.weights(x)


def measure_layers(case: Case) -> dict:
    """Forward and backward pass of every layer alone, and its share of what memory and products allow.

    Bytes are the least that these algorithms move: 3 x input + 2 x output of weights, 9 passes of normalisation and
    neurons, 7 of a gate.
    """
    from torch.utils.flop_counter import FlopCounterMode

    device = start(case.device).device
    model = network(case, device)
    seen: dict[nn.Module, tuple] = {}
    for layer in model.modules():
        if isinstance(layer, SpikingBlock):
            layer.register_forward_pre_hook(partial(_note_weights, seen))
        elif isinstance(layer, (nn.Linear, nn.ConvTranspose2d, NormLIF, LIF, Gate)):
            layer.register_forward_hook(lambda layer, args, out: seen.update({layer: (args, out)}))
    cast = partial(torch.autocast, device.type, torch.bfloat16, enabled=case.precision == "bf16")
    x = torch.rand(case.batch, 1, case.image_size, case.image_size, device=device) * 2 - 1
    with cast():
        model(x, StepDraws(0, 0, case.batch, device=device), 0.0)
    bandwidth, products = limits(device, case.precision)
    rows, names = [], {layer: name for name, layer in model.named_modules()}
    for layer, ((x, *rest), out) in seen.items():
        if names[layer].startswith("latent"):
            continue
        layer._forward_hooks.clear()
        given, grad = x.detach().requires_grad_(), torch.rand_like(out)

        def both(layer=layer, given=given, rest=rest, grad=grad) -> None:
            with cast():
                layer(given, *rest).backward(grad)

        with FlopCounterMode(display=False) as counter:
            both()
        taken = statistics.median(seconds(both, case.steps, device))
        ins, outs = given.numel() * given.element_size(), out.numel() * out.element_size()
        moved = 3 * ins + 2 * outs if counter.get_total_flops() else (7 if isinstance(layer, Gate) else 9) * outs
        rows.append(
            {
                "layer": names[layer],
                "ms": 1e3 * taken,
                "bandwidth": moved / taken / bandwidth,
                "products": counter.get_total_flops() / taken / products,
            }
        )
    return {"bandwidth_gb_per_s": bandwidth / 1e9, "tflop_per_s": products / 1e12, "layers": rows}


def main() -> None:
    case = Case(**json.loads(sys.argv[1]))
    result = (measure_step if case.what == "step" else measure_layers)(case)
    if int(os.environ.get("RANK", 0)) == 0:
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
