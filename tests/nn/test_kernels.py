"""The GPU's kernels against the plain loops: on a GPU where there is one, else in Triton's interpreter."""

import importlib
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from tcja_gen.nn import LIF, Neuron, NormLIF, fuse, lif, neurons
from tcja_gen.nn.neurons import PRESETS, SURROGATES, spikes, spikes_backward

pytest.importorskip("triton", reason="Triton is not installed: pip install triton (Linux)")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NEURONS = {
    **PRESETS,
    "reset below rest": Neuron(tau=3.0, v_threshold=0.7, v_reset=-0.1, detach_reset=False, surrogate="box"),
    "input whole, reset below": Neuron(tau=1.5, decay_input=False, v_reset=-0.2, surrogate="triangle", alpha=0.8),
}


@pytest.fixture(scope="module")
def kernels():
    if DEVICE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("Triton was imported without TRITON_INTERPRET=1")
    return importlib.import_module("tcja_gen.nn.kernels")


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def affine(channels: int) -> list[torch.Tensor]:
    """a, b, mean and 1 / deviation of a normalisation that has learned something."""
    return [
        1 + 0.2 * numbers(channels, seed=1),
        *(0.3 * numbers(channels, seed=s) for s in (2, 3)),
        numbers(channels).abs(),
    ]


def summed(gx, sums, products, gv) -> tuple:
    """The sums over what rows ever."""
    return gx, *(part if part is None else part.sum(0) for part in (sums, products)), gv


def close(ours, plain, tolerance: float = 2e-5) -> None:
    for a, b in zip(ours, plain, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS)
@pytest.mark.parametrize("shape", [(5, 70, 24), (5, 3, 200)])
@pytest.mark.parametrize("frames", [5, 1])
def test_normalised_neurons_fire_and_learn_as_in_the_plain_loop(kernels, neuron, shape, frames):
    x, grad = 1.5 * numbers(frames, *shape[1:]), numbers(*shape, seed=4)
    a, b, mean, rstd = affine(shape[-1])
    fired = kernels.spikes(x, a, b, neuron, len(grad))
    assert torch.equal(fired, spikes(x, a, b, neuron, len(grad)))
    assert 0.02 < fired.mean() < 0.98
    arguments = (x, a, b, grad, mean, rstd, neuron, len(grad))
    close(summed(*kernels.spikes_backward(*arguments)), summed(*spikes_backward(*arguments)))


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("detach", [True, False])
def test_every_surrogate_and_reset_has_the_plain_loops_gradient(kernels, surrogate, detach):
    neuron = replace(PRESETS["tcja"], surrogate=surrogate, alpha=0.9 * SURROGATES[surrogate], detach_reset=detach)
    x, grad, v = 1.5 * numbers(6, 1, 700), numbers(6, 1, 700, seed=1), 0.3 * numbers(1, 700, seed=2)
    for membrane in (None, v):
        assert torch.equal(
            kernels.spikes(x, None, None, neuron, 6, membrane), spikes(x, None, None, neuron, 6, membrane)
        )
        arguments = (x, None, None, grad, None, None, neuron, 6, membrane)
        close(summed(*kernels.spikes_backward(*arguments)), summed(*spikes_backward(*arguments)))


def test_a_program_with_several_blocks_sums_over_all_of_them(kernels, monkeypatch):
    monkeypatch.setattr(kernels, "PROGRAMS", 2)
    x, grad = numbers(3, 100, 40), numbers(3, 100, 40, seed=1)
    a, b, mean, rstd = affine(40)
    arguments = (x, a, b, grad, mean, rstd, PRESETS["fsvae"], 3)
    close(summed(*kernels.spikes_backward(*arguments)), summed(*spikes_backward(*arguments)))


def test_half_precision_in_and_out_full_precision_between(kernels):
    x, grad = (1.5 * numbers(8, 40, 16)).bfloat16(), numbers(8, 40, 16, seed=1).bfloat16()
    a, b, mean, rstd = affine(16)
    fired = kernels.spikes(x, a, b, PRESETS["tcja"], 8)
    assert fired.dtype == torch.bfloat16
    assert torch.equal(fired.float(), spikes(x.float(), a, b, PRESETS["tcja"], 8))
    arguments = (x, a, b, grad, mean, rstd, PRESETS["tcja"], 8)
    ours, plain = (summed(*module.spikes_backward(*arguments)) for module in (kernels, neurons))
    assert ours[0].dtype == torch.bfloat16
    close(ours[:1], plain[:1], 1e-2)
    close(ours[1:], plain[1:])


@pytest.mark.parametrize("layer", [NormLIF(6), NormLIF(6, Neuron.preset("fsvae")).eval(), LIF(Neuron.preset("tet"))])
def test_layers_give_the_same_on_kernels_and_in_autocast(kernels, layer):
    layer, x, results = layer.to(DEVICE), 2 * numbers(4, 3, 6, 4, 4), []
    for path in ("plain", "triton"):
        fuse(layer, path).zero_grad()
        given = x.clone().requires_grad_()
        with torch.autocast(DEVICE, torch.bfloat16):
            fired = layer(given)
        (fired * x.roll(1, 0)).sum().backward()
        results.append([fired.detach(), given.grad, *(p.grad for p in layer.parameters())])
    close(*results)
    assert results[0][1].abs().sum() > 0


def test_lif_takes_membranes_and_frames_of_any_shape(kernels):
    frame, v = numbers(2, 3, 5).requires_grad_(), (0.3 * numbers(2, 3, 5, seed=1)).requires_grad_()
    results = []
    for path in ("plain", "triton"):
        fired = lif(frame, v, steps=4, path=path)
        results.append([fired, *torch.autograd.grad((fired * numbers(4, 2, 3, 5)).sum(), [frame, v])])
    close(*results)


COMPILE = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from tcja_gen.nn import kernels

scalars = dict.fromkeys(["rows", "width", "steps"], "i32")
scalars |= dict.fromkeys(["tau", "leak", "v_threshold", "v_reset", "alpha"], "fp32")
given = dict(x="*bf16", a="*fp32", b="*fp32", grad="*bf16", mean="*fp32", rstd="*fp32", membranes="*fp32", gx="*bf16",
             sums="*fp32", products="*fp32", spikes="*bf16")
constants = dict(STATIC=False, AFFINE=True, AT_REST=True, DECAY_INPUT=True, STRICT=False, DETACH=False,
                 SURROGATE="atan", ROWS=16, COLUMNS=32, v0=None, gv=None)
for kernel in (kernels._forward, kernels._backward):
    known = {name: constants[name] for name in kernel.arg_names if name in constants}
    signature = {name: ({**given, **scalars}).get(name, "constexpr") for name in kernel.arg_names}
    made = compile(ASTSource(kernel, signature, known), target=GPUTarget("cuda", 90, 32))
    print(kernel.__name__, len(made.asm["cubin"]), made.metadata.shared)
"""


def test_kernels_become_machine_code_of_a_gpu_that_is_not_there():
    """Triton carries NVIDIA's assembler: types, shapes and syntax are checked without a device."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "_forward" in done.stdout and "_backward" in done.stdout
