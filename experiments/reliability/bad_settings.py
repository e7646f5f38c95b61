"""Recipes, flags, weights and calls of the API, sound and not."""

import json
import string
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from cases import GENERATOR, SMALL, Case, Tools
from safetensors import safe_open
from safetensors.torch import save_file

import tcja_gen as tg
from tcja_gen.models import build
from tcja_gen.training import config as configs

# settings

RANGES = {"steps": (0, -3), "batch": (0, -8), "lr": (0.0, -1.0), "ema": (1.0, -0.1), "log_every": (0, -1)}
RANGES |= {"checkpoint_every": (0,), "warmup": (-1,), "objective.adversarial.noise": (-0.5,)}
RANGES |= {"objective.perceptual.weight": (-1.0,), "objective.adversarial.weight": (-0.1, 0.0)}
RANGES |= {"weight_decay": (-1.0,), "clip": (-1.0,), "mixup": (-0.5,), "shift": (-1,), "prior_lr": (0.0, -2.0)}

OLD = ("perceptual = 0.5", "noise = 0.1", "model.latent = 8", "model.k = 4", 'model.latent_kind = "codes"')
CODES = """
[model]
encoder = "4C3s2"
decoder = "4C3-4T4s2"
time_steps = 2
latent = { kind = "codes", channels = 2, prior = "4C3" }
"""
STAGES = """
[[stage]]
name = "autoencoder"
fit = "autoencoder"

[[stage]]
name = "prior"
fit = "prior"
"""


def toml(t: Tools) -> Iterator[Case]:
    base = 'steps = 1\nbatch = 8\ncompile = "off"\ndevice = "cpu"\nsample_every = 0\n'
    model = '[model]\nencoder = "4C3s2-TCJA"\ntime_steps = 2\n\n[model.latent]\nchannels = 4\nk = 2\n'
    wrong = {int: ['"many"', "1.5", "true", "[1]"], float: ['"low"', "true", "{}"], str: ["7", "true", '["a"]']}
    wrong[bool] = ["1", '"yes"', "0.0"]
    known = {f.name: type(getattr(configs.Config(), f.name)) for f in configs.fields(configs.Config)}
    known = {name: kind for name, kind in known.items() if kind in wrong and name not in base}

    def recipe(text: str | bytes) -> list:
        path = t.here / f"{t.draw.randrange(10**9)}.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return ["train", path, "--out", t.here / "run"]

    def line(key: str, value) -> str:
        old = [row for row in base.splitlines() if not row.startswith(f"{key} =")]
        return "\n".join([*old, f"{key} = {value}", model])

    while True:
        yield Case("sound", False, recipe(base + model))
        yield Case("with a BOM", False, recipe(b"\xef\xbb\xbf" + (base + model).encode()))
        yield Case("lines of Windows", False, recipe((base + model).replace("\n", "\r\n")))
        odd = "".join(t.draw.choices("😀üß日ab \\\"'", k=6))
        yield Case("any name", False, [*recipe(base + model)[:-1], t.here / f"n{odd}"])
        yield Case("UTF-16", True, recipe((base + model).encode(t.draw.choice(["utf-16", "utf-16-be"]))))
        yield Case("Latin-1", True, recipe(f'{base}out = "ü"\n'.encode("latin-1")))
        yield Case("random bytes", True, recipe(t.draw.randbytes(200)))
        yield Case("no TOML", True, recipe(base + t.draw.choice(["steps", "= 3", "[model", "a = ", "steps = 2", "{}"])))
        yield Case("a deep nest", True, recipe("a = " + "[" * t.draw.randrange(3000, 9000)))
        yield Case("a number without end", True, recipe("seed = " + "9" * 5000))
        for _ in range(3):
            name = t.draw.choice([*known])
            yield Case(f"{name} of another type", True, recipe(line(name, t.draw.choice(wrong[known[name]]))))
            name = t.draw.choice([*RANGES])
            yield Case(f"{name} out of range", True, recipe(line(name, t.draw.choice(RANGES[name]))))
        name = t.draw.choice([name for name in known if known[name] is float])
        yield Case(f"{name} not finite", True, recipe(line(name, t.draw.choice(["nan", "inf", "-inf"]))))
        slip = t.draw.choice([*known]) + t.draw.choice("xyz")
        yield Case("an unknown key", True, recipe(f"{base}{slip} = 1\n{model}"))
        yield Case("an unknown table", True, recipe(f"{base}{model}[{slip}]\na = 1\n"))
        word = "".join(t.draw.choices(string.ascii_uppercase + string.digits, k=4))
        broken = t.draw.choice([f"4C3s2-{word}Q", "4C3s2--TCJA", "-4C3s2", "0C3s2", "4C3s0", "4C0", "TCJA", "4C3s2-"])
        yield Case("a broken notation", True, recipe((base + model).replace("4C3s2-TCJA", broken)))
        yield Case("a word out of place", True, recipe((base + model).replace("TCJA", "10L")))
        choice = t.draw.choice(["neuron", "latent.kind", "latent.divergence", "readout", "surrogate"])
        yield Case(f"an unknown {choice}", True, recipe(f'model.{choice} = "{word}"\n{base}'))
        for name in ("latent.channels", "latent.k", "time_steps"):
            yield Case(f"{name} out of range", True, recipe(f"model.{name} = {t.draw.choice([0, -1])}\n{base}"))
        kind = t.draw.choice(["poisson", "gaussian", "codes"])
        yield Case("a setting of another latent", True, recipe(f'{base}model.latent = {{ kind = "{kind}", k = 2 }}\n'))
        yield Case("an old name", True, recipe(f"{base}{t.draw.choice(OLD)}\n"))
        yield Case("stages", False, recipe(base + CODES + STAGES))
        stages = t.draw.choice([STAGES + STAGES, STAGES.replace("prior", "deco"), f"{STAGES}{slip} = 1\n"])
        yield Case("broken stages", True, recipe(base + CODES + stages))


def flags(t: Tools) -> Iterator[Case]:
    run = t.run
    while True:
        number = t.draw.randrange(1, 99)
        yield Case(
            "seeds", False, ["sample", run, "--seeds", f"{number}, {number + 2}-{number + 3}", "--out", t.here / "out"]
        )
        yield Case("an alias", False, ["sample", run, "--number", "2", "--grid", "--out", t.here / "out"])
        seeds = t.draw.choice(["3-1", "a", "1,,2", "-4", "1-2-3", "1.5", f"{10**30}", ","])
        yield Case("broken seeds", True, ["sample", run, f"--seeds={seeds}", "--out", t.here / "out"])
        yield Case("no images", True, ["sample", run, "--n", t.draw.choice(["0", "-1"]), "--out", t.here / "out"])
        yield Case("no number", True, ["sample", run, "--n", t.draw.choice(["x", "1.5", "", "1e3"])])
        yield Case("an unknown flag", True, ["sample", run, f"--{t.draw.choice(['nn', 'sed', 'Grid', 'x.y'])}", "1"])
        yield Case("a flag without a value", True, ["sample", run, t.draw.choice(["--n", "--out", "--seeds"])])
        yield Case("no run", True, ["sample"])
        yield Case("a run too many", True, ["sample", run, run])
        yield Case("a run and a name", True, ["sample", run, "mnist"])
        yield Case("an unknown name", True, ["sample", t.draw.choice(["mnis", "MNIST", "", "../x"])])
        yield Case("an old flag", True, ["train", t.draw.choice(["--model.k", "--perceptual", "--model.latent"]), "1"])
        yield Case("no such stage", True, ["train", "mnist", "--stage", t.draw.choice(["priors", "2", "all"])])
        yield Case("a recipe with a slip", True, ["train", t.draw.choice(["mnsit", "classify/digit", "recipes/mnist"])])
        yield Case("an unknown command", True, [t.draw.choice(["trian", "Sample", "--nope", "sampel"])])
        device = t.draw.choice(["tpu", "cuda:x", "cpu:-3", "7"])
        yield Case("an unknown device", True, ["sample", run, "--device", device])
        yield Case("an unknown checkpoint", True, ["sample", run, "--which", "first"])
        yield Case("a class of none", True, ["sample", run, "--class", str(number)])
        rounds = ["--rounds", str(number)] if number % 2 else ["--temperature", str(number)]
        yield Case("rounds of none", True, ["sample", run, *rounds, "--out", t.here / "out"])
        yield Case("one step", True, ["interpolate", run, "--steps", "1", "--out", t.here / "out"])
        yield Case("no pairs", True, ["interpolate", run, "--pairs", t.draw.choice(["0", "-2"])])
        yield Case(
            "too many pairs",
            True,
            ["interpolate", run, "--images", t.folder(), "--pairs", "9"],
        )
        metric = t.draw.choice(["fdi", "fad,,x", "FAD", "accuracy"])
        yield Case("an unknown metric", True, ["evaluate", run, "--metrics", metric])
        yield Case("an unknown split", True, ["evaluate", run, "--split", "dev"])
        yield Case("n below 0", True, ["evaluate", run, "--metrics", "reconstruction", "--n", "-5"])
        yield Case("two data sets", True, ["evaluate", run, "--data", "digits", "--reference", "digits"])
        yield Case("no record", True, ["evaluate", run, "--compare", t.here / "gone.json"])
        yield Case("images without data", True, ["evaluate", t.folder()])
        yield Case("a size too small", True, ["check", t.folder(), "--size", "x"])
        yield Case("channels of none", True, ["reference", t.folder(), "--channels", t.draw.choice(["2", "4", "-1"])])
        yield Case("images for a generator", True, ["predict", run, t.folder()])
        yield Case("nothing to predict", True, ["predict", t.events_run, t.folder()])
        yield Case("a recipe that is not there", True, ["train", t.here / "gone.toml"])
        yield Case("a folder for a recipe", True, ["train", t.folder()])
        yield Case("no run to go on with", True, ["train", "--resume", t.folder()])
        yield Case("a run with other settings", True, ["train", "--resume", run, "--steps", str(number + 9)])
        yield Case("a run in the way", True, ["train", *GENERATOR, "--out", run])
        yield Case(
            "events to generate", True, ["train", *SMALL, "--data", t.recording.parents[2], "--out", t.here / "out"]
        )


# weights


def weights(t: Tools) -> Iterator[Case]:
    whole = next((t.run / "checkpoints").glob("step-*/model.safetensors"))
    with safe_open(whole, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def sample(path: Path) -> list:
        return ["sample", path, "--n", "2", "--grid", "--out", t.here / "out"]

    def written(data: bytes, name: str = "w.safetensors") -> list:
        (t.here / name).write_bytes(data)
        return sample(t.here / name)

    def saved(changes: dict | None = None, **facts: str | None) -> list:
        told = {key: value for key, value in (metadata | facts).items() if value is not None}
        save_file({**tensors, **(changes or {})}, t.here / "w.safetensors", told)
        return sample(t.here / "w.safetensors")

    def settings(**changes) -> str:
        return json.dumps(json.loads(metadata["model"]) | changes)

    while True:
        data, name = whole.read_bytes(), t.draw.choice([*tensors])
        yield Case("sound", False, saved())
        yield Case("cut off", True, written(data[: t.draw.randrange(len(data))]))
        yield Case("random bytes", True, written(t.draw.randbytes(t.draw.randrange(1000))))
        yield Case("a huge header", True, written(struct.pack("<Q", t.draw.randrange(2**40, 2**60)) + data[8:]))
        yield Case("a pickle", True, written(b"\x80\x04\x95" + t.draw.randbytes(50), "w.pth"))
        yield Case("no metadata", True, saved(format=None, kind=None, model=None, provenance=None))
        yield Case("another format", True, saved(format=str(t.draw.randrange(3, 99))))
        yield Case("another kind", True, saved(kind="diffusion"))
        yield Case("settings that are no JSON", True, saved(model=metadata["model"][: t.draw.randrange(20)]))
        yield Case("no settings", True, saved(model=None))
        yield Case("a provenance that is no JSON", True, saved(provenance="{"))
        yield Case("an unknown setting", True, saved(model=settings(colour=3)))
        yield Case("a setting of another type", True, saved(model=settings(image_size=t.draw.choice(["a", None, [8]]))))
        yield Case("another shape", True, saved({name: torch.zeros(3, 5, 7)}))
        yield Case("a tensor too many", True, saved({"more": torch.zeros(2)}))
        other = {"kind": t.draw.choice(["bernoulli", "poisson"]), "channels": 9}
        yield Case("settings of other weights", True, saved(model=settings(latent=other)))
        nan = {name: torch.full_like(value, torch.nan) for name, value in tensors.items() if value.is_floating_point()}
        yield Case("no numbers", True, saved(nan))
        yield Case("not there", True, sample(t.here / "gone.safetensors"))
        (t.here / "nothing").mkdir()
        yield Case("an empty folder", True, sample(t.here / "nothing"))
        yield Case("a text", True, written(b"version https://git-lfs.github.com/spec/v1\n"))


# the API

NETWORK = {"image_size": 8, "encoder": "4C3s2", "latent": {"channels": 4, "k": 2}}


def api(t: Tools) -> Iterator[Case]:
    model = tg.load(t.run)
    while True:
        n, other = t.draw.randrange(1, 9), t.draw.choice([4, 7, 9, 16])
        x = torch.rand(n, 1, 8, 8)
        use = t.draw.choice([model.reconstruct, model.encode])
        yield Case("images", False, lambda x=x, n=n: len(model.reconstruct(x)) == n)
        yield Case("seeds of a tensor", False, lambda n=n: len(model.sample(torch.arange(n))) == n)
        yield Case("not square", True, partial(use, torch.rand(n, 1, 8, other)))
        yield Case("another size", True, partial(use, torch.rand(n, 1, other, other)))
        yield Case("other channels", True, partial(use, torch.rand(n, t.draw.choice([2, 3, 4]), 8, 8)))
        yield Case("channels last", True, partial(use, x.permute(0, 2, 3, 1)))
        yield Case("no batch", True, partial(use, x[0]))
        yield Case("none", True, partial(use, x[:0]))
        yield Case("numpy", True, partial(use, x.numpy()))
        yield Case("no tensor", True, partial(use, t.draw.choice([None, [1.0], "a", 3])))
        kind = t.draw.choice([torch.float64, torch.float16, torch.bfloat16, torch.uint8, torch.int64, torch.bool])
        yield Case(f"{kind}", True, partial(use, (x * 255).to(kind)))
        spoilt = x.clone()
        spoilt.view(-1)[t.draw.randrange(64)] = t.draw.choice([float("nan"), float("inf"), -1.0, 255.0])
        yield Case("one value out of range", True, partial(use, spoilt))
        yield Case("seeds too few", True, partial(use, torch.rand(n + 1, 1, 8, 8), range(n)))
        yield Case("no seeds", True, partial(model.sample, t.draw.choice([[], range(0), torch.arange(0), ""])))
        yield Case("broken seeds", True, partial(model.sample, t.draw.choice([3, [0.5], "a", [None], [2**70], None])))
        yield Case("classes of none", True, partial(model.sample, range(n), classes=0))
        yield Case("latents of another shape", True, partial(model.decode, torch.zeros(n, other, other + 1)))
        yield Case("latents between spikes", True, partial(model.decode, model.encode(x) * 0.5 + 0.1))
        yield Case("batches of ends", True, partial(model.interpolate, x, x, 3))
        yield Case("steps of none", True, partial(model.interpolate, x[0], x[0], t.draw.choice([1, 0, -3, 2.5])))
        precise = getattr(build(NETWORK), t.draw.choice(["half", "double", "bfloat16"]))
        yield Case("another precision", True, lambda precise=precise: precise().sample(range(2)))
        yield Case("scores of numpy", True, partial(tg.evaluate, x.numpy(), "digits"))
        yield Case("scores of channels last", True, partial(tg.evaluate, x.permute(0, 2, 3, 1), "digits"))
        yield Case("scores of none", True, partial(tg.evaluate, x[:0], "digits"))
        yield Case("scores of whole numbers", True, partial(tg.evaluate, x.long(), "digits"))
        yield Case("scores out of range", True, partial(tg.evaluate, spoilt.expand(len(x), 1, 8, 8) * 300, "digits"))
        yield Case("scores against a tensor", True, partial(tg.evaluate, x, x))
        yield Case("an unknown metric", True, partial(tg.evaluate, x, "digits", metrics=[t.draw.choice(["fdi", ""])]))
        yield Case("broken names of metrics", True, partial(tg.evaluate, x, "digits", metrics="fad;psnr"))
        yield Case("an unknown setting", True, partial(tg.train, out=str(t.here / "run"), colour=3))
        yield Case("a model of none", True, partial(tg.load, t.here / "gone"))
        yield Case("pixels of an encoder", True, partial(model.encoder, torch.rand(8, 8)))
