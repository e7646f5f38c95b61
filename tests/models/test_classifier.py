import copy
from dataclasses import replace

import pytest
import torch

from tcja_gen.models import Classifier, Generator, build, load, save
from tcja_gen.nn import BernoulliSettings, StepDraws
from tcja_gen.nn.objectives import CrossEntropy
from tcja_gen.training import recipes
from tcja_gen.training.adoption import adopt
from tcja_gen.training.config import Config

SMALL = Classifier(image_size=8, time_steps=3, encoder="8C3s2-TCJA-8C3s2-TCJA", head="DP.5-12FC-4L")
JOINT = Generator(image_size=8, time_steps=3, encoder=SMALL.encoder, latent=BernoulliSettings(channels=8, k=4))
NETWORKS = [name for name in recipes.recipes() if recipes.load(name).task == "classify"]


def network(name: str) -> torch.nn.Module:
    """The network of a recipe, without memory."""
    with torch.device("meta"):
        return build(recipes.load(f"classify/{name}").model)


def targets(n: int, classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.arange(n) % classes, classes).float()


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("dvs128-gesture", 1_832_576),
        ("n-caltech101", 21_907_096),
        ("cifar10-dvs", 11_369_450),
        ("cifar10-dvs-tet", 9_304_466),
        ("n-caltech101-tet", 21_909_829),
    ],
)
def test_the_papers_networks_have_its_codes_parameters(name, parameters):
    assert sum(p.numel() for p in network(name).parameters()) == parameters


def test_without_attention_the_tet_network_has_its_codes_parameters():
    settings = recipes.load("classify/cifar10-dvs-tet").model
    with torch.device("meta"):
        plain = build(replace(settings, encoder=settings.encoder.replace("-TCJA(2,2)", "")))
    assert sum(p.numel() for p in plain.parameters()) == 9_271_498


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_of_every_recipe_trains_a_step_and_is_kept(name, tmp_path):
    torch.manual_seed(0)
    recipe = recipes.load(name)
    settings, encoder, head = recipe.model, recipe.model.encoder, recipe.model.head
    if settings.image_size > 100:  # the same words on fewer pixels, so that the test takes seconds
        settings = replace(settings, image_size=64, image_width=0)
    for wide, narrow in (
        ("512", "24"),
        ("256", "16"),
        ("128", "12"),
        ("64", "8"),
        ("1024FC", "24FC"),
        ("2048FC", "24FC"),
    ):
        encoder = encoder.replace(f"{wide}C", f"{narrow}C").replace(f"{wide}R", f"{narrow}R")
        head = head.replace(f"{wide}FC", f"{narrow}FC")
    settings = replace(settings, encoder=encoder, head=head.replace("1024FC", "24FC").replace("2048FC", "24FC"))
    model = build(settings, recipe.objective.classification)
    c, size, steps = model.image_channels, model.image_size, model.time_steps
    x = torch.poisson(torch.full((steps, 4, c, size, size), 0.5)) if c == 2 else torch.rand(4, c, size, size) * 2 - 1
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    losses = model(x, StepDraws(0, 0, 4), targets=targets(4, model.classes))
    losses["loss"].backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    optimizer.step()
    save(tmp_path / "model.safetensors", model, settings, {})
    again = load(tmp_path / "model.safetensors")
    assert again.objective == recipe.objective.classification
    samples = x.transpose(0, 1) if c == 2 else (x + 1) / 2
    assert torch.equal(again.classify(samples), model.classify(samples))


def test_a_prediction_does_not_depend_on_the_mode_or_on_other_samples():
    torch.manual_seed(0)
    model, images = build(SMALL), torch.rand(9, 1, 8, 8)
    for _ in range(5):
        model(images * 2 - 1, targets=targets(9, 4))
    outputs = model.classify(images)
    assert model.training and outputs.shape == (9, 3, 4)
    assert torch.allclose(outputs[4:5], model.classify(images[4:5]), atol=1e-5)
    assert torch.equal(model.predict(images), outputs.mean(1).argmax(1))


def test_wrong_images_are_named():
    with pytest.raises(ValueError, match=r"wants images \(1, 8, 8\) \(C, H, W\), got \(3, 8, 8\)"):
        build(SMALL).classify(torch.rand(2, 3, 8, 8))


def test_a_joint_generator_learns_both_tasks_at_once():
    torch.manual_seed(0)
    model = build(replace(JOINT, head="4L", classes=4))
    losses = model(torch.rand(4, 1, 8, 8) * 2 - 1, StepDraws(0, 0, 4), targets=targets(4, 4))
    assert {*losses} == {"loss", "reconstruction", "divergence", "accuracy"}
    losses["loss"].backward()
    assert all(p.grad is not None for p in model.head.parameters())
    plain = copy.deepcopy(model)
    plain.objective = CrossEntropy(weight=0.0)
    other = plain(torch.rand(4, 1, 8, 8) * 2 - 1, StepDraws(0, 0, 4), targets=targets(4, 4))
    assert torch.allclose(other["loss"], other["reconstruction"] + other["divergence"])


def test_a_conditional_generators_images_depend_on_seed_and_class_alone():
    torch.manual_seed(0)
    model = build(replace(JOINT, classes=3, latent=replace(JOINT.latent, conditional=True)))
    optimizer, y = torch.optim.AdamW(model.parameters(), 1e-2), targets(30, 3)
    shades = y.argmax(1).float().view(-1, 1, 1, 1).expand(-1, 1, 8, 8) - 1  # class 0 is black, class 2 white
    for step in range(80):
        optimizer.zero_grad()
        model(shades + 0.1 * torch.randn(30, 1, 8, 8), StepDraws(0, step, 30), targets=y)["loss"].backward()
        optimizer.step()
    images = model.sample([5, 6, 7], classes=[2, 0, 1])
    assert torch.equal(images[1:2], model.sample([6], classes=0))
    assert torch.equal(model.sample([5, 6]), model.sample([5, 6], classes=[5 % 3, 6 % 3]))
    assert images[0].mean() > images[2].mean() + 0.1 > images[1].mean() + 0.2
    assert model.reconstruct(torch.rand(2, 1, 8, 8)).shape == (2, 1, 8, 8)  # the posterior asks for no class
    with pytest.raises(ValueError, match="class 3 asked for; the model knows 0 to 2"):
        model.sample([0], classes=3)
    with pytest.raises(ValueError, match="trained without classes"):
        build(JOINT).sample([0], classes=0)


def test_an_encoder_is_handed_on_in_both_directions(tmp_path):
    torch.manual_seed(0)
    generator, classifier = build(JOINT), build(SMALL)
    for model, other, settings in ((generator, classifier, JOINT), (classifier, generator, SMALL)):
        save(tmp_path / "model.safetensors", model, settings, {})
        fresh = copy.deepcopy(other)
        adopt(fresh, Config(init_from=str(tmp_path / "model.safetensors")))
        for name, value in model.encoder.state_dict().items():
            assert torch.equal(fresh.encoder.state_dict()[name], value)
    wider = build(replace(SMALL, encoder="8C3s2-TCJA-9C3s2-TCJA"))
    with pytest.raises(ValueError, match="it does not fit this model: encoder.stages.2"):
        adopt(wider, Config(init_from=str(tmp_path / "model.safetensors")))


def test_large_recordings_pass_a_classifier_a_few_at_a_time():
    """64 of N-Caltech101's would take 10 GB a layer of 64 channels."""
    sizes = {"image_size": 180, "image_width": 240, "image_channels": 2, "time_steps": 14}
    model = build(Classifier(**sizes, encoder="2C3s4", head="2L"))
    seen = []
    model.encoder.register_forward_pre_hook(lambda module, x: seen.append(x[0].shape[1]))
    model.classify(torch.zeros(9, 14, 2, 180, 240))
    assert seen == [4, 4, 1]
