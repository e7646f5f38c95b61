import pytest
import torch
from latent_kinds import LATENT_KINDS
from PIL import Image
from scripts import EXPERIMENTS, run_script
from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter
from torch import nn

import tcja_gen as tg
from tcja_gen.evaluation.energy import AC_PJ, MAC_PJ, ann_twin, count, of_run, operations, table, totals
from tcja_gen.models import Classifier, build
from tcja_gen.nn import ATTENTION, PRESETS, TCJA, CurrentGate
from tcja_gen.nn.neurons import lif

SEEDS = range(64)


class Spike(nn.Module):
    def forward(self, x):
        return (x > 0).float()


def spikes(*shape, rate=0.3, seed=0):
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def two_layers():
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, 3, stride=2, padding=1)  # 5 x 5 -> 3 x 3
    return nn.Sequential(conv, Spike(), nn.Flatten(), nn.Linear(27, 4))


def by_layer(rows, kind=None):
    return {row.layer: row for row in rows if kind in (None, row.kind)}


def by_hand(conv, x):
    """Every input that is not zero, every tap, and whether what it adds to lies in the output."""
    (kh, kw), (sh, sw), (ph, pw) = conv.kernel_size, conv.stride, conv.padding
    height, width = conv(x).shape[-2:]
    transposed, found = isinstance(conv, nn.ConvTranspose2d), 0
    for _, _, i, j in x.nonzero().tolist():
        for a in range(kh):
            for b in range(kw):
                if transposed:
                    y, z = i * sh - ph + a, j * sw - pw + b
                elif (i + ph - a) % sh or (j + pw - b) % sw:
                    continue
                else:
                    y, z = (i + ph - a) // sh, (j + pw - b) // sw
                found += 0 <= y < height and 0 <= z < width
    return found * conv.out_channels // conv.groups


def test_a_two_layer_net_costs_what_a_hand_count_says_borders_included():
    net, x = two_layers(), torch.zeros(1, 2, 5, 5)
    x[0, 0, 0, 0] = 1  # a corner: meets 1 output, (0, 0)
    x[0, 1, 0, 1] = 1  # on the upper border between two outputs: 2
    x[0, 1, 1, 1] = 1  # between four outputs: 4
    x[0, 0, 4, 4] = 1  # the other corner: 1
    rows = by_layer(operations(net, lambda: net(x), 1))
    assert (rows["0"].ac, rows["0"].mac, rows["0"].nonzero, rows["0"].inputs) == (3 * 8, 0, 4, 50)
    fired = int((net[0](x) > 0).sum())
    assert (rows["3"].ac, rows["3"].mac, rows["3"].dense) == (4 * fired, 0, 4 * 27)
    assert rows["0"].dense == 2 * 3 * 49  # of 3 x 3 outputs 4 see 4 pixels, 4 see 6, 1 sees 9
    assert rows["0"].energy == pytest.approx(AC_PJ * 24)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
        nn.Conv2d(4, 2, (2, 5), stride=(1, 3), padding=(1, 2)),
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
        nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1),
        nn.ConvTranspose2d(4, 6, 4, stride=3, padding=2, output_padding=2, groups=2),
    ],
)
def test_every_product_of_a_spike_is_counted_once_whatever_stride_and_padding(layer):
    for x in (spikes(2, 4, 6, 7), torch.ones(2, 4, 6, 7)):
        (row,) = operations(layer, lambda x=x: layer(x), 1)
        assert (row.ac, row.mac) == (by_hand(layer, x), 0) and row.dense == by_hand(layer, torch.ones_like(x))


def test_synaptic_operations_are_those_of_spikingjelly():
    net, x, counter = two_layers(), spikes(3, 2, 5, 5), SynOpCounter()
    with torch.no_grad(), DispatchCounterMode([counter]):
        net(x)
    assert totals(operations(net, lambda: net(x), 1))["ac"] == counter.get_total() > 0


def test_what_is_not_a_spike_is_paid_as_multiplication():
    conv, x = nn.Conv2d(3, 5, 3, padding=1), spikes(2, 3, 4, 4)
    (plain,) = operations(conv, lambda: conv(x), 2)
    (scaled,) = operations(conv, lambda: conv(x * 0.7), 2)
    assert plain.binary and not scaled.binary
    assert plain.ac == scaled.mac > 0 and plain.mac == scaled.ac == 0
    assert scaled.energy == pytest.approx(scaled.mac * MAC_PJ)


def test_gates_make_the_next_layer_multiply_and_their_own_cost_is_listed():
    with_gate = build(Classifier(image_size=8, time_steps=3, encoder="4C3-TCJA(2,3)-6C3", head="10L"))
    without = build(Classifier(image_size=8, time_steps=3, encoder="4C3-6C3", head="10L"))
    x = torch.rand(5, 1, 8, 8)
    gated, plain = by_layer(count(with_gate, x)), by_layer(count(without, x), "convolution")
    attention, second = gated["encoder.stages.1"], by_layer(count(with_gate, x), "convolution")["encoder.stages.2"]
    stream = 3 * 4 * 8 * 8
    assert attention.mac == stream + 3 * 4 * (4 * 2 + 3 * 3) + 2 * 3 * 4 and attention.ac == stream
    assert second.ac == 0 < second.mac and not second.binary
    assert plain["encoder.stages.1"].mac == 0 < plain["encoder.stages.1"].ac


@pytest.mark.parametrize(("word", "products"), [("FC", (3 * 8) ** 2), ("Conv2d(2,4)", 2 * 4 * 3 * 8)])
def test_a_gate_uses_every_weight_as_often_as_its_layer_is_wide(word, products):
    """On a stream of T = 3 and C = 8: all with all, or a kernel at each of T C places."""
    model = build(Classifier(image_size=8, time_steps=3, encoder=f"8C3-{word}-4C3", head="10L"))
    (gate,) = by_layer(count(model, torch.rand(2, 1, 8, 8)), "attention").values()
    assert gate.mac == 3 * 8 * 64 + products + 3 * 8 and gate.ac == 3 * 8 * 64


@pytest.mark.parametrize("word", ATTENTION)
def test_every_attention_has_a_cost_and_its_inner_layers_are_not_counted_twice(word):
    model = build(Classifier(image_size=8, time_steps=3, encoder=f"8C3-{word}-4C3", head="10L"))
    rows = count(model, torch.rand(2, 1, 8, 8))
    (gate,) = by_layer(rows, "attention").values()
    assert gate.mac > 3 * 8 * 64 or word in ("TSM", "CSM")
    on_currents = issubclass(ATTENTION[word], CurrentGate)
    assert gate.layer == f"encoder.stages.{0 if on_currents else 1}"
    assert not [row for row in rows if row.layer.startswith(gate.layer + ".")]


def counted(encoder, x):
    """Rows by layer and kind of a classifier that fires."""
    torch.manual_seed(0)
    model = build(Classifier(image_size=8, time_steps=3, encoder=encoder, head="10L"))
    for name, bias in model.named_parameters():
        if name.endswith("neurons.bias"):
            torch.nn.init.constant_(bias, 1.0)
    rows = count(model, x)
    return {(row.layer.removeprefix("encoder.stages."), row.kind): row for row in rows}, totals(rows)


def test_a_gate_of_currents_leaves_the_next_layer_adding():
    x = torch.rand(5, 1, 8, 8)
    rows, sums = counted("4C3-TCJAC(2,3)-6C3", x)
    gate, first, second = rows["0", "attention"], rows["0", "convolution"], rows["1", "convolution"]
    stream = 3 * 4 * 8 * 8
    assert gate.mac == stream + 3 * 4 * (4 * 2 + 3 * 3) + 2 * 3 * 4
    assert gate.ac == stream / 3  # the mean of a static frame, once
    assert second.binary and second.mac == 0 < second.ac and first.frames == 1
    assert gate.folded == pytest.approx(MAC_PJ * (gate.mac - stream + 2 * 3 * 4) + AC_PJ * gate.ac)  # into the neurons
    assert sums["folded"] == pytest.approx(sums["energy"] - MAC_PJ * (stream - 2 * 3 * 4))
    _, signed = counted("4C3-TCJACproduct(2,3)-6C3", x)  # a gate that may be negative: into the weights
    assert signed["folded"] == pytest.approx(signed["energy"] - MAC_PJ * (stream - 3 * 4 * 9))
    gains, known = counted("4C3-CSM-6C3", x)
    assert gains["0", "attention"].energy == 0 and known["folded"] == known["energy"]
    gains, known = counted("4C3-TSM-6C3", x)
    assert (gains["0", "attention"].mac, gains["0", "attention"].ac) == (stream, 0)
    assert known["folded"] == pytest.approx(known["energy"] - MAC_PJ * stream)
    _, plain = counted("4C3-6C3", x)
    assert sums["energy"] < 1.2 * plain["energy"] and plain["folded"] == plain["energy"]


def test_neurons_with_a_gate_folded_into_leak_and_threshold_fire_the_same_spikes():
    torch.manual_seed(0)
    gate, z = ATTENTION["TCJAC"](6, 5, k_time=2, k_channel=3), torch.randn(6, 3, 5)
    assert gate.is_positive and not ATTENTION["TCJACproduct"](6, 5).is_positive
    x, f = torch.randn(6, 3, 5, 4, 4), gate(3 * z).detach()[..., None, None]
    neuron = PRESETS["tcja"]
    leak, fired, u, before = 1 - 1 / neuron.tau, [], torch.zeros_like(x[0]), f[0]
    for current, now in zip(x, f, strict=True):
        u = leak * before / now * u + current / neuron.tau
        fired.append(u >= neuron.v_threshold / now)
        u, before = u.masked_fill(fired[-1], 0.0), now
    assert f.std() > 0.1 and 0.05 < torch.stack(fired).float().mean() < 0.5
    assert torch.equal(torch.stack(fired), lif(x * f, neuron=neuron).bool())


def test_gates_on_spikes_folded_into_the_next_weights_let_it_add():
    x = torch.rand(5, 1, 8, 8)
    rows, sums = counted("4C3-TCJA-6C3", x)
    gate, second = rows["1", "attention"], rows["2", "convolution"]
    weights = 6 * 4 * 9 * 3  # at each of 3 steps
    assert second.ac == 0 and second.folded == pytest.approx(MAC_PJ * weights + AC_PJ * second.mac)
    assert gate.folded == pytest.approx(gate.energy - MAC_PJ * 3 * 4 * 64)
    logits = rows["head.stages.1", "linear"]
    assert logits.folded == logits.energy and sums["folded"] < sums["energy"]
    assert f"gates folded: {sums['folded']:,.0f} pJ" in table([*rows.values()])


def test_a_static_image_meets_the_first_convolution_once_and_neurons_leak_at_every_step():
    model = build(Classifier(image_size=8, time_steps=3, encoder="4C3-MP2-6C3", head="10L"))
    rows = count(model, torch.rand(5, 1, 8, 8) * 0.4 + 0.6)  # never 0.5, the grey that becomes 0
    weights, neurons = by_layer(rows, "convolution"), by_layer(rows, "neurons")
    first, second = weights["encoder.stages.0"], weights["encoder.stages.2"]
    assert (first.frames, second.frames) == (1, 3) and first.mac == first.dense == 4 * 22 * 22 and first.ac == 0
    assert neurons["encoder.stages.0"].mac == neurons["encoder.stages.0"].inputs == 3 * 4 * 8 * 8
    logits = by_layer(rows, "linear")["head.stages.1"]
    assert logits.frames == 3 and logits.dense == 3 * 6 * 16 * 10 and logits.ac == pytest.approx(logits.nonzero * 10)


def test_sampling_counts_the_prior_at_every_step_and_the_last_convolution_once(model):
    rows = count(model, SEEDS)
    linear, neurons = by_layer(rows, "linear"), by_layer(rows, "neurons")
    assert linear["latent.prior.blocks.2"].dense == 3 * 32 * 32 and linear["latent.prior.blocks.2"].frames == 3
    assert neurons["latent.prior.blocks.2"].inputs == 3 * 32
    assert by_layer(rows)["decoder.last"].frames == 1 and not by_layer(rows)["decoder.last"].binary
    assert not [layer for layer in linear if layer.startswith(("encoder", "latent.posterior"))]
    before, after = linear["latent.prior.blocks.1"], neurons["latent.prior.blocks.0"]
    assert before.rate == after.rate  # spikes that go out come in


def test_a_gated_readout_adds_spikes_and_its_last_layer_still_runs_once(tiny):
    rows = {}
    for kind in ("membrane", "tcja"):
        torch.manual_seed(0)
        model = build(tiny | {"readout": kind, "encoder": "8C3s2-8C3s2", "image_channels": 3})
        for norm in model.decoder.modules():
            if hasattr(norm, "running_var"):
                torch.nn.init.constant_(norm.bias, 1.5)  # enough current to fire
        rows[kind] = by_layer(count(model, SEEDS))
    plain, gated = rows["membrane"]["decoder.readout"], rows["tcja"]["decoder.readout"]
    assert gated.ac == 6 * plain.ac > 0 and gated.mac == 3 * 3 * 3 + 3 * 3 and plain.mac == 0
    assert rows["tcja"]["decoder.last"] == rows["membrane"]["decoder.last"]


def test_a_layer_costs_a_sample_the_same_however_many_are_counted(model):
    x = torch.rand(64, 1, 8, 8)
    one, two = count(model, list(SEEDS)), count(model, [*SEEDS, *SEEDS])
    assert one == two and totals(one)["ac"] > 0
    one, two = count(model, x, "reconstruct"), count(model, torch.cat([x, x]), "reconstruct")
    assert [(row.layer, row.kind, row.dense) for row in one] == [(row.layer, row.kind, row.dense) for row in two]
    assert by_layer(one, "linear")["latent.posterior.blocks.0"].frames == 3 + 2  # T to draw, T - 1 to feed


def test_counting_leaves_the_model_as_it_was(model):
    model.train()
    images = model.sample(SEEDS)
    count(model, SEEDS)
    assert torch.equal(model.sample(SEEDS), images) and model.training
    for layer in model.modules():
        assert not layer._forward_hooks and "step" not in vars(layer)


def test_the_twin_runs_the_same_layers_once_and_dense(model):
    rows = count(model, SEEDS)
    twin, seen = by_layer(ann_twin(rows)), by_layer(rows, "linear")
    for layer, row in seen.items():
        assert twin[layer].mac == row.dense / row.frames and twin[layer].ac == 0
    assert {row.kind for row in twin.values()} == {"linear", "transposed", "attention"}
    assert twin["decoder.last"].mac == by_layer(rows)["decoder.last"].dense


def test_a_masked_prior_costs_its_twin_a_pass_a_round():
    codes = {"kind": "codes", "channels": 2, "prior": "8C3-8R3[TCJA]"}
    model = {"image_size": 8, "time_steps": 3, "encoder": "8C3s2", "decoder": "8T4s2"}
    twins = {}
    for rounds in (2, 4):
        torch.manual_seed(0)
        generator = build(model | {"latent": codes | {"rounds": rounds}})
        twins[rounds] = {(row.layer, row.kind): row.mac for row in ann_twin(count(generator, range(64)))}
    for layer, macs in twins[2].items():
        again = layer[0].startswith("latent.prior.trunk")
        assert twins[4][layer] == pytest.approx(macs * (2 if again else 1)), layer
    assert twins[4]["latent.prior.logits", "linear"] == 16 * 8 * 2**6  # once a place
    assert twins[4]["decoder.last", "transposed"] == 484 * 8  # 8 x 8 pixels, 3 x 3 taps, less what falls outside


def test_a_prior_that_is_guided_or_sweeps_costs_its_twin_every_pass():
    latent = {"kind": "codes", "channels": 2, "prior": "8C3", "rounds": 4, "conditional": True}
    latent |= {"class_dropout": 0.2, "random_masks": 0.2}
    generator = build({"image_size": 8, "encoder": "8C3s2", "decoder": "8T4s2", "latent": latent, "classes": 2})
    first, passes = "latent.prior.trunk.stages.0", {}
    for name, how in {"plain": {}, "guided": {"guidance": 1.0}, "sweeps": {"guidance": 0.0, "sweeps": 2}}.items():
        generator.sample_by(**how)  # guided in half of the rounds, if nothing else is said
        passes[name] = by_layer(ann_twin(count(generator, range(64))), "convolution")[first].frames
    assert passes == {"plain": 4, "guided": 6, "sweeps": 12}


def test_a_net_of_relus_has_no_spikes_and_costs_what_a_twin_does(tiny):
    torch.manual_seed(0)
    model = build(tiny | LATENT_KINDS["gaussian"])
    for rows in (count(model, SEEDS), count(model, torch.rand(64, 1, 8, 8), "reconstruct")):
        assert rows == ann_twin(rows) and {row.kind for row in rows} >= {"linear", "transposed", "attention"}
        assert all(row.mac == row.dense > 0 and not row.binary for row in rows)
        assert all(row.ac == 0 for row in rows if row.kind != "attention")
        assert "no neurons, ReLU" in table(rows) and "firing rate" not in table(rows)
    classifier = build(Classifier(image_size=8, time_steps=1, encoder="4C3-4R3[TCJA]-MP2", head="10L", neuron="relu"))
    rows = count(classifier, torch.zeros(2, 1, 8, 8))
    assert totals(rows)["mac"] == totals(rows)["dense"] > 0


def test_the_table_adds_up_and_shows_its_formula(model):
    rows = count(model, SEEDS)
    text, sums = table(rows), totals(rows)
    assert sums["energy"] == pytest.approx(MAC_PJ * sums["mac"] + AC_PJ * sums["ac"])
    total = next(line for line in text.splitlines() if line.startswith("total"))
    assert total.split()[-1] == f"{sums['energy']:,.0f}" and "4.6 pJ x MAC + 0.9 pJ x AC" in text
    assert 0 < sums["rate"] < 1 and all(row.layer in text for row in rows)


def test_mistakes_are_told_in_one_line(model):
    classifier = build(Classifier(image_size=8, encoder="4C3", head="10L"))
    with pytest.raises(ValueError, match="63 samples; a generator runs 64 at a time"):
        count(model, range(63))
    with pytest.raises(ValueError, match="no energy of 'sample'"):
        count(classifier, SEEDS, "sample")
    with pytest.raises(ValueError, match="'sample' is that of seeds"):
        count(model, torch.rand(64, 1, 8, 8))
    with pytest.raises(ValueError, match="'reconstruct' is that of images"):
        count(model, SEEDS, "reconstruct")
    with pytest.raises(ValueError, match="padded by 'circular'"):
        conv = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")
        operations(conv, lambda: conv(torch.ones(1, 1, 4, 4)), 1)


def test_a_generator_of_few_images_whose_prior_is_not_trained_has_an_energy(tiny, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(12):
        Image.new("L", (8, 8), i * 20).save(pictures / f"{i}.png")
    codes = {"kind": "codes", "channels": 2, "prior": "4C3", "rounds": 2}
    model = tiny | {"encoder": "8C3s2-8C3s2", "decoder": "8T4s2-8T4s2", "latent": codes}
    how = dict(fit="autoencoder", steps=1, batch=4, warmup=0, quiet=True, out=str(tmp_path / "run"))
    run = tg.train(data=str(pictures), model=model, **how)
    assert totals(of_run(run.folder)[1])["energy"] > 0


def test_a_gate_of_a_linear_stream_squeezes_nothing():
    gate, x = TCJA(3, 8), spikes(3, 2, 8)
    (row,) = operations(gate, lambda: gate(x), 2)
    assert row.ac == 0 and row.mac == 24 + 3 * 8 * (8 * 2 + 3 * 2) + 2 * 24


def test_the_experiment_tells_its_usage(capsys):
    with pytest.raises(SystemExit) as end:
        run_script(EXPERIMENTS / "energy.py", "--help")
    assert not end.value.code and "RUN [RUN ...]" in capsys.readouterr().out
