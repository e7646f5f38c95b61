"""What a spike costs on a CPU: layers by firing rate, sparse against dense, and sampling of a generator.

    OMP_NUM_THREADS=2 python experiments/benchmarks/spikes.py [--rates 0,0.05,0.1,0.15,0.2,0.3,0.5] [--generator mnist]

Layers are those of FSVAE's network for MNIST (T = 16, batch 32) and of the masked prior of `mnist`, with random spikes.
Sparse and dense run alternately; times are the least of `--times`. "Gradient" is that of the weights; the gradient of
the spikes is dense in both. "Of the line" is a rate's time over that of the line through 0 and the time at rate 0.15.

Images are sampled from a loaded model, 256 together and one alone. Where the processor tells its energy (RAPL), it is
shown beside the energy that `tcja-gen evaluate --energy` counts.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from cases import facts
from torch import Tensor, nn

import tcja_gen as tg
from tcja_gen.nn import fuse
from tcja_gen.nn.kernels import sparse
from tcja_gen.nn.sparse import Conv2d, ConvTranspose2d, Linear, dense
from tcja_gen.process import neuron_path, start

UP = {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}
LAYERS = {
    "32C3s2 -> 64, 16 px": (Conv2d(32, 64, 3, 2, 1), (512, 32, 16, 16)),
    "64C3s2 -> 128, 8 px": (Conv2d(64, 128, 3, 2, 1), (512, 64, 8, 8)),
    "128C3s2 -> 256, 4 px": (Conv2d(128, 256, 3, 2, 1), (512, 128, 4, 4)),
    "256T3s2 -> 128, 2 px": (ConvTranspose2d(256, 128, **UP), (512, 256, 2, 2)),
    "128T3s2 -> 64, 4 px": (ConvTranspose2d(128, 64, **UP), (512, 128, 4, 4)),
    "64T3s2 -> 32, 8 px": (ConvTranspose2d(64, 32, **UP), (512, 64, 8, 8)),
    "32T3s2 -> 32, 16 px": (ConvTranspose2d(32, 32, **UP), (512, 32, 16, 16)),
    "128C3 -> 128, 4 px": (Conv2d(128, 128, 3, 1, 1), (512, 128, 4, 4)),
    "128C1 -> 384, 4 px": (Conv2d(128, 384, 1), (512, 128, 4, 4)),
    "512FC -> 2560": (Linear(512, 2560), (512, 512)),
}
ENERGY = sorted(Path("/sys/class/powercap").glob("intel-rapl:?/energy_uj"))  # in microjoules, of every package


def least(functions: dict[str, Callable], times: int) -> dict[str, float]:
    """Milliseconds of each function, run in turns."""
    taken = {name: [] for name in functions}
    for _ in range(times):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            taken[name].append(1e3 * (time.perf_counter() - began))
    return {name: min(values) for name, values in taken.items()}


@torch.no_grad()
def measure(layer: nn.Module, shape: tuple[int, ...], rate: float, times: int) -> dict[str, float]:
    x = (torch.rand(shape) < rate).float()
    x = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
    y = layer(x)
    grad = torch.rand_like(y)
    planes = grad if grad.dim() == 4 else grad[:, :, None, None]

    def forward_dense() -> Tensor:
        with dense(layer):
            return layer(x)

    return least(
        {
            "forward, dense": forward_dense,
            "forward, sparse": lambda: layer(x),
            "gradient, dense": lambda: gradient_dense(layer, x, grad),
            "gradient, sparse": lambda: sparse.weight_gradient(layer, sparse.pack(x), planes),
        },
        times,
    )


def gradient_dense(layer: nn.Module, x: Tensor, grad: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        return grad.t() @ x
    transposed = isinstance(layer, nn.ConvTranspose2d)
    where = layer.stride, layer.padding, layer.dilation, transposed, layer.output_padding, layer.groups
    return torch.ops.aten.convolution_backward(grad, x, layer.weight, None, *where, [False, True, False])[1]


def table(rates: list[float], times: int) -> None:
    print("| layer | rate | forward, dense -> sparse, ms | | of the line | gradient, dense -> sparse, ms | |")
    print("|---|---|---|---|---|---|---|")
    for name, (layer, shape) in LAYERS.items():
        layer.takes_spikes = True
        fuse(layer.to(memory_format=torch.channels_last)).eval()
        found = {rate: measure(layer, shape, rate, times) for rate in [0.0, 0.15, *rates]}
        silent, slope = found[0.0]["forward, sparse"], found[0.15]["forward, sparse"] / 0.15
        for rate in rates:
            ms = found[rate]
            cells = [f"{name} | {rate:g}"]
            for what in ("forward", "gradient"):
                slow, fast = ms[f"{what}, dense"], ms[f"{what}, sparse"]
                cells.append(f"{slow:.2f} -> {fast:.2f} | {slow / fast:.1f} x")
                if what == "forward":
                    share = f"{silent / slow:.0%} of dense" if not rate else f"{fast / (slope * rate):.2f}"
                    cells.append(share)
            print("|", " | ".join(cells), "|", flush=True)


def joules() -> float:
    return sum(int(file.read_text(encoding="ascii")) for file in ENERGY) / 1e6


def sample(name: str, times: int) -> None:
    model = tg.load(name)
    model.sample(range(64))
    for title, module in (("sparse", nn.Module()), ("dense", model)):
        with dense(module):
            for n in (256, 1):
                taken, used = [], 0.0
                for _ in range(times):
                    began, before = time.perf_counter(), joules() if ENERGY else 0
                    model.sample(range(n))
                    taken.append(time.perf_counter() - began)
                    used += joules() - before if ENERGY else 0
                told = f", {used / times / n:.3f} J an image" if ENERGY else ""
                middle = statistics.median(taken)
                print(
                    f"- {title}, {n} together: {n / middle:.0f} images/s, {middle:.3f} s (least {min(taken):.3f}){told}"
                )
    if not ENERGY:
        print("- this processor does not tell its energy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="0,0.05,0.1,0.15,0.2,0.3,0.5")
    parser.add_argument("--generator", default="mnist", help="a run or a pretrained name")
    parser.add_argument("--times", type=int, default=7)
    arguments = parser.parse_args()
    if tg.load(arguments.generator).kind != "generator":
        parser.error(f"--generator {arguments.generator}: a classifier makes no images")
    path, why = neuron_path(start("cpu").device)
    print(*facts("cpu"), "", sep="\n")
    if path == "native":
        table([float(rate) for rate in arguments.rates.split(",")], arguments.times)
    else:
        print(f"There are no kernels for spikes here ({why}).")
    print(f"\nSampling `{arguments.generator}`:\n")
    sample(arguments.generator, min(arguments.times, 3))


if __name__ == "__main__":
    main()
