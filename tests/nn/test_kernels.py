"""Kernels against the plain loops: those of a CPU, and those of a GPU, there or else in Triton's interpreter."""

import copy
import os
import subprocess
import sys
from dataclasses import replace
from importlib import import_module

import pytest
import torch

from tcja_gen.nn import LIF, Neuron, NormLIF, SpikingEncoder, fuse, lif, neurons
from tcja_gen.nn.fused import batch_norm_backward, spike_step, squared_deviations
from tcja_gen.nn.kernels import cpu, sparse
from tcja_gen.nn.neurons import (
    PRESETS,
    SURROGATES,
    gated_spikes,
    gated_spikes_backward,
    spikes,
    spikes_backward,
    summed_spikes,
    summed_spikes_backward,
)
from tcja_gen.process import neuron_path

GPU = "cuda" if torch.cuda.is_available() else "cpu"  # where Triton runs
NEURONS = {
    **PRESETS,
    "reset below rest": Neuron(tau=3.0, v_threshold=0.7, v_reset=-0.1, detach_reset=False, surrogate="box"),
    "input whole, reset below": Neuron(tau=1.5, decay_input=False, v_reset=-0.2, surrogate="triangle", alpha=0.8),
}


@pytest.fixture(params=["native", "triton"])
def path(request):
    """What kernels are compared with the plain loops; tensors are made where they run."""
    if request.param == "native" and not cpu.compiler():
        pytest.skip("there is no C++ compiler")
    if request.param == "triton":
        pytest.importorskip("triton", reason="Triton is not installed: pip install triton (Linux)")
        if GPU == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
            pytest.skip("Triton was imported without TRITON_INTERPRET=1")
    with torch.device("cpu" if request.param == "native" else GPU):
        yield request.param


@pytest.fixture
def kernels(path):
    return import_module("tcja_gen.nn.kernels." + {"native": "cpu", "triton": "gpu"}[path])


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    values = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed), device="cpu")
    return values.to(torch.get_default_device())


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
    cheaper = (x, a, b, grad - 0.5, *arguments[4:])
    for backward in (kernels.spikes_backward, spikes_backward):
        close(summed(*backward(*cheaper, cost=0.5)), summed(*spikes_backward(*arguments)), 1e-4)


@pytest.mark.parametrize("images", [1, 2, 18, 36])
@pytest.mark.parametrize("width", [24, 200, 1500])
@pytest.mark.parametrize("frames", [3, 1])
def test_gated_currents_fire_and_learn_as_in_the_plain_loop(kernels, path, images, width, frames):
    """Images of 36 rows down to one, which fill a tile, share one, or need several."""
    if path == "triton" and (width, images) not in ((24, 2), (24, 36), (200, 18)):
        return  # the interpreter takes long
    neuron = NEURONS["reset below rest"] if width == 200 else PRESETS["tcja"]
    x, grad, f = 1.5 * numbers(frames, 36, width), numbers(3, 36, width, seed=4), 1 + 0.3 * numbers(3, images, width)
    a, b, mean, rstd = affine(width)
    fired = kernels.gated_spikes(x, a, b, f, neuron)
    assert torch.equal(fired, gated_spikes(x, a, b, f, neuron)) and 0.02 < fired.mean() < 0.98
    arguments = (x, a, b, f, grad, mean, neuron)
    wanted, *sums = gated_spikes_backward(*arguments)
    close(kernels.gated_spikes_backward(*arguments), [wanted, *sums], 1e-4)
    for backward in (kernels.gated_spikes_backward, gated_spikes_backward):
        close(backward(x, a, b, f, grad - 0.5, mean, neuron, cost=0.5), [wanted, *sums], 1e-3)
    shift = numbers(frames, images, width, seed=5)
    given = (x, a, mean, rstd, b, 0.1 * mean, shift)
    close([kernels.batch_norm_backward(wanted.clone(), *given)], [batch_norm_backward(wanted, *given)])
    for wrong in (f[:, :, 1:], f[:2], f[:, :1].repeat(1, 5, 1)):
        with pytest.raises(ValueError, match="neurons: "):
            kernels.gated_spikes(x.expand(3, -1, -1), a, b, wrong, neuron)


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("shape", [(5, 70, 24), (5, 3, 1500)])
def test_spikes_that_are_only_summed_up_count_as_those_that_are_written(kernels, path, shape, half):
    dtype = torch.bfloat16 if half else torch.float32
    x, grad, (a, b, mean, rstd) = numbers(*shape).to(dtype), numbers(*shape[1:], seed=5).to(dtype), affine(shape[2])
    neuron, w = Neuron.preset("fsvae"), torch.tensor([0.4, 0.5, 0.7, 0.8, 1.0])
    ours, plain = kernels.summed_spikes(x, a, b, neuron, w), summed_spikes(x, a, b, neuron, w)
    assert torch.equal(ours, plain) if path == "native" else torch.allclose(ours, plain, rtol=1e-2 if half else 1e-5)
    found = kernels.summed_spikes_backward(x, a, b, grad, mean, rstd, neuron, w)
    if path == "native":
        replaced = kernels.summed_spikes_backward(over := x.clone(), a, b, grad, mean, rstd, neuron, w, overwrite=True)
        assert replaced[0].data_ptr() == over.data_ptr()
        assert all(torch.equal(one, other) for one, other in zip(replaced, found, strict=True))
    wanted = summed_spikes_backward(x, a, b, grad, mean, rstd, neuron, w)
    for one, other in zip(found, wanted, strict=True):
        one, other = (part if part.shape == x.shape else part.sum(0) for part in (one, other))
        torch.testing.assert_close(one, other, rtol=2e-2 if half else 2e-5, atol=5e-2 if half else 2e-5)


@pytest.mark.skipif(not cpu.compiler(), reason="there is no C++ compiler")
@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize(
    "steps, images, pixels, width", [(3, 4, 9, 24), (2, 3, 50, 200), (5, 7, 4, 1100), (3, 3, 1, 16)]
)
def test_spikes_as_bits_are_summed_up_and_learn_as_those_that_are_written(steps, images, pixels, width, half):
    dtype, neuron = torch.bfloat16 if half else torch.float32, PRESETS["fsvae"]
    x, (a, b, mean, rstd) = numbers(steps, images * pixels, width).to(dtype), affine(width)
    fired = spikes(x, a, b, neuron, steps).float().unflatten(1, (images, pixels))
    bits = cpu.spike_bits(x, a, b, neuron, len(x))
    rows = bits.unflatten(1, (images, pixels)).flatten(0, 1)
    assert torch.equal(rows, sparse.pack(fired.flatten(0, 1).mT[..., None]).bits[:, :, 0])
    assert torch.equal(sparse.sums_over_pixels(rows, width), fired.sum(2).flatten(0, 1))
    grad, scale, shift = (numbers(*size, seed=7) for size in ((images, pixels, width), *[(steps, images, width)] * 2))
    sums = sparse.sums_over_pixels(rows, width, grad)
    torch.testing.assert_close(sums, (fired * grad).sum(2).flatten(0, 1), rtol=1e-5, atol=1e-5)
    total = sparse.sums_over_time(bits, scale)
    torch.testing.assert_close(total, (fired * scale[:, :, None]).sum(0).flatten(0, 1), rtol=1e-5, atol=1e-5)
    flat = grad.flatten(0, 1).to(dtype)
    found = cpu.scaled_sum_backward(x, a, b, flat, mean, rstd, neuron, scale, shift)
    given = (scale[:, :, None] * flat.float().unflatten(0, (images, pixels)) + shift[:, :, None]).flatten(1, 2)
    close(
        summed(*found, None),
        summed(*spikes_backward(x, a, b, given, mean, rstd, neuron, steps)),
        2e-2 if half else 1e-4,
    )


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


def test_a_program_with_several_blocks_sums_over_all_of_them(kernels, path, monkeypatch):
    if path == "triton":
        monkeypatch.setattr(kernels, "PROGRAMS", 2)
    rows = 100 if path == "triton" else 2000
    x, grad = numbers(3, rows, 40), numbers(3, rows, 40, seed=1)
    a, b, mean, rstd = affine(40)
    arguments = (x, a, b, grad, mean, rstd, PRESETS["fsvae"], 3)
    ours, plain = (summed(*module.spikes_backward(*arguments)) for module in (kernels, neurons))
    close(ours[:1], plain[:1])
    close(ours[1:], plain[1:], 1e-4)
    torch.testing.assert_close(kernels.squared_deviations(x, mean).sum(0), squared_deviations(x, mean).sum(0))


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("shape", [(3, 40, 24), (2, 3, 1500)])
def test_normalisation_goes_back_as_in_plain_pytorch(kernels, shape, half):
    g, x = (numbers(*shape, seed=seed).to(torch.bfloat16 if half else torch.float32) for seed in (0, 1))
    a, mean_g, mean, rstd = affine(shape[-1])
    close([kernels.squared_deviations(x, mean).sum(0)], [squared_deviations(x, mean).sum(0)])
    given = (x, a, mean, rstd, mean_g, 0.1 * mean)
    plain = batch_norm_backward(g, *given)
    close([kernels.batch_norm_backward(g.clone(), *given)], [plain], 1e-2 if half else 2e-5)
    assert plain.dtype == x.dtype


def test_inputs_may_lie_in_memory_in_any_way(kernels):
    x, grad = numbers(40, 3, 24).transpose(0, 1), numbers(24, 40, 3, seed=1).permute(2, 1, 0)
    a, b, mean, rstd = (column.repeat_interleave(2)[::2] for column in affine(24))
    v = 0.3 * numbers(24, 40, seed=2).t()
    assert torch.equal(kernels.spikes(x, a, b, PRESETS["tcja"], 3, v), spikes(x, a, b, PRESETS["tcja"], 3, v))
    arguments = (a, b, PRESETS["tcja"], 3)
    assert torch.equal(kernels.spikes(x, *arguments), spikes(x, *arguments))
    arguments = (x, a, b, grad, mean, rstd, PRESETS["tcja"], 3)
    close(summed(*kernels.spikes_backward(*arguments)), summed(*spikes_backward(*arguments)))
    close([kernels.squared_deviations(x, mean).sum(0)], [squared_deviations(x, mean).sum(0)])
    g = numbers(3, 40, 24)
    close(
        [kernels.batch_norm_backward(g.clone(), x, a, mean, rstd, b, mean)],
        [batch_norm_backward(g, x, a, mean, rstd, b, mean)],
    )


@pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS)
@pytest.mark.parametrize("width", [24, 1500])
def test_a_time_step_fires_and_goes_on_as_the_plain_one(kernels, neuron, width):
    x, v = 1.5 * numbers(7, width), 0.3 * numbers(7, width, seed=5)
    a, b, *_ = affine(width)
    (ours, membrane), (plain, expected) = kernels.spike_step(x, v, a, b, neuron), spike_step(x, v, a, b, neuron)
    assert torch.equal(ours, plain) and torch.equal(membrane, expected)
    assert 0.02 < ours.mean() < 0.98


@torch.no_grad()
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("laid", ["across", "half"])
def test_steps_fire_as_the_sequence_does_however_their_inputs_lie_in_memory(path, preset, laid):
    """Membranes come back from a step as they went in: here transposed, or in half precision."""
    layer = NormLIF(40, PRESETS[preset]).eval().to(torch.get_default_device())
    for one, seed in ((layer.weight, 1), (layer.bias, 2), (layer.running_mean, 3)):
        one += 0.3 * numbers(40, seed=seed)
    layer.running_var *= 0.5 + numbers(40, seed=4).abs()
    x = 1.5 * numbers(6, 24, 40).transpose(1, 2).contiguous().transpose(1, 2)  # frames that are not contiguous
    fuse(layer, path)
    sequence, v, fired = layer(x), None, []
    for frame in x:
        spikes, v = layer.step(frame, v)
        fired.append(spikes)
        v = v.t().contiguous().t()
    assert torch.equal(torch.stack(fired), sequence) and 0.02 < sequence.mean() < 0.98
    v = v.half() if laid == "half" else v
    (_, ours), (_, plain) = layer.step(x[0], v), fuse(layer, "plain").step(x[0], v)
    assert ours.dtype == plain.dtype == torch.float32 and torch.equal(ours, plain)


def test_numbers_that_are_too_few_are_refused_before_a_kernel_reads_past_them(kernels):
    x, neuron, (a, b, mean, rstd) = numbers(3, 40, 24), PRESETS["tcja"], affine(24)
    for wrong in (
        lambda: kernels.spikes(x, a[:20], b, neuron, 3),
        lambda: kernels.spikes(x, a, b, neuron, 3, numbers(20, 24)),
        lambda: kernels.spikes(x, a, b, neuron, 5),
        lambda: kernels.spikes_backward(x, a, b, x[:2], mean, rstd, neuron, 3),
        lambda: kernels.spike_step(x[0], numbers(10, 24), a, b, neuron),
        lambda: kernels.squared_deviations(x, mean[:5]),
        lambda: kernels.batch_norm_backward(x[:2].clone(), x, a, mean, rstd, b, mean),
    ):
        with pytest.raises(ValueError, match="neurons: "):
            wrong()
    layer = NormLIF(24).to(x.device)
    for frame, v in ((numbers(40, 20), None), (x[0], numbers(10, 24)), (numbers(4, 24, 3, 3), None)):
        with pytest.raises(ValueError, match="a time step"):
            layer.step(frame, v)


def test_gradients_of_other_types_and_layouts_are_read_as_they_are(kernels):
    x, grad = numbers(3, 40, 24).bfloat16(), numbers(3, 24, 40, seed=1).transpose(1, 2)
    a, b, mean, rstd = affine(24)
    arguments = (a, b, grad, mean, rstd, PRESETS["tcja"], 3)
    ours, plain = (summed(*module.spikes_backward(x, *arguments)) for module in (kernels, neurons))
    close(ours, plain, 2e-2)
    given = (x.float(), a, mean, rstd, b, mean)
    close([kernels.batch_norm_backward(grad.clone(), *given)], [batch_norm_backward(grad, *given)])


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
def test_layers_give_the_same_on_kernels_and_in_autocast(path, layer):
    layer, x, results = copy.deepcopy(layer).to(torch.get_default_device()), 2 * numbers(4, 3, 6, 4, 4), []
    for one in ("plain", path):
        fuse(layer, one).zero_grad()
        given = x.clone().requires_grad_()
        with torch.autocast(given.device.type, torch.bfloat16):
            fired = layer(given)
        (fired * x.roll(1, 0)).sum().backward()
        results.append([fired.detach(), given.grad, *(p.grad for p in layer.parameters())])
    close(*results)
    assert results[0][1].abs().sum() > 0


def test_lif_takes_membranes_and_frames_of_any_shape(path):
    frame, v = numbers(2, 3, 5).requires_grad_(), (0.3 * numbers(2, 3, 5, seed=1)).requires_grad_()
    results = []
    for one in ("plain", path):
        fired = lif(frame, v, steps=4, path=one)
        results.append([fired, *torch.autograd.grad((fired * numbers(4, 2, 3, 5)).sum(), [frame, v])])
    close(*results)


COMPILE = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from tcja_gen.nn.kernels import gpu

scalars = dict.fromkeys(["rows", "width", "pixels", "steps"], "i32")
scalars |= dict.fromkeys(["cost", "tau", "leak", "v_threshold", "v_reset", "alpha", "scale", "eps"], "fp32")
given = dict.fromkeys(["x", "grad", "gx", "g", "spikes"], "*bf16")
given |= dict.fromkeys(["a", "b", "mean", "rstd", "membranes", "sums", "products", "out", "mean_g", "mean_gx"], "*fp32")
gates = dict.fromkeys(["f", "shift"], "*fp32")
constants = dict(STATIC=False, AFFINE=True, AT_REST=True, DECAY_INPUT=True, STRICT=False, DETACH=False,
                 SURROGATE="atan", END=False, ROWS=16, COLUMNS=32, v0=None, gv=None, v_end=None, f=None, shift=None)
for kernel, ends in ((gpu._forward, {}), (gpu._forward, {"v0": "*fp32", "v_end": "*fp32"}), (gpu._backward, {}),
                     (gpu._squared_deviations, {}), (gpu._batch_norm_backward, {}), (gpu._forward, gates),
                     (gpu._backward, gates), (gpu._batch_norm_backward, gates)):
    typed = given | scalars | ends
    constants |= dict(AT_REST="v0" not in ends, END="v_end" in ends, GATED=ends is gates, SHIFTED=ends is gates)
    known = {name: constants[name] for name in kernel.arg_names if name in constants and name not in typed}
    signature = {name: typed.get(name, "constexpr") for name in kernel.arg_names}
    made = compile(ASTSource(kernel, signature, known), target=GPUTarget("cuda", 90, 32), options=gpu.EXACT)
    assert "fma" not in made.asm["ptx"]
    print(kernel.__name__, len(made.asm["cubin"]), made.metadata.shared)
"""


@pytest.mark.slow
def test_kernels_become_machine_code_of_a_gpu_that_is_not_there():
    """Triton carries NVIDIA's assembler: types, shapes and syntax are checked without a device."""
    pytest.importorskip("triton", reason="Triton is not installed: pip install triton (Linux)")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == 8


@pytest.mark.skipif(not cpu.compiler(), reason="there is no C++ compiler")
def test_the_number_of_threads_changes_no_bit_of_a_gradient():
    with torch.device("cpu"):
        x, grad, f = numbers(4, 3000, 32), numbers(4, 3000, 32, seed=1), 1 + 0.3 * numbers(4, 30, 32)
        a, b, mean, rstd = affine(32)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            results.append(
                [
                    *cpu.spikes_backward(x, a, b, grad, mean, rstd, PRESETS["tcja"], 4)[:3],
                    *cpu.gated_spikes_backward(x, a, b, f, grad, mean, PRESETS["tcja"]),
                ]
            )
        finally:
            torch.set_num_threads(1)
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


@pytest.mark.parametrize("compiler", [None, "false"])
def test_without_a_working_compiler_neurons_run_plain_and_say_why(compiler, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cpu, "compiler", lambda: compiler)
    cpu.library.cache_clear()
    try:
        path, why = neuron_path(torch.device("cpu"))
        assert path == "plain" and ("false fails" in why or "no C++ compiler" in why)
        with pytest.raises(ValueError, match="compile = 'on': "):
            neuron_path(torch.device("cpu"), "on")
    finally:
        cpu.library.cache_clear()
    assert not list(tmp_path.rglob("*.so*"))


@pytest.mark.skipif(not cpu.compiler(), reason="there is no C++ compiler")
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_model_gives_what_it_gives_otherwise():
    """A trace does not see that a kernel still reads a tensor whose address it was given."""
    torch.manual_seed(0)
    encoder = fuse(SpikingEncoder("16C3-TCJA-16C3", 1, 3, image_size=4), "native")
    compiled, x = torch.compile(encoder, backend="eager"), torch.rand(4, 1, 4, 4)
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    for training in (True, False):
        found = []
        for network in (encoder, compiled, compiled):
            encoder.load_state_dict(state)
            encoder.train(training)
            with torch.no_grad():
                found.append(network(x))
        assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
