"""One thread a process, so that figures do not depend on the machine; and the smallest model that has all parts."""

import os

import pytest
import torch
from latent_kinds import LATENT_KINDS

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
if not torch.cuda.is_available():  # the GPU's kernels are interpreted; Triton reads this when it is imported
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_session(tmp_path_factory):
    """What one test compiles, or trains for scores, is there for the next, in all processes of the session; the user's
    own cache is left alone."""
    before = os.environ.get("XDG_CACHE_HOME")
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # that of all workers
    os.environ["XDG_CACHE_HOME"] = folder = os.environ.get("TCJA_GEN_TESTS_CACHE") or str(base / "cache")
    yield folder
    os.environ.pop("XDG_CACHE_HOME") if before is None else os.environ.update(XDG_CACHE_HOME=before)


@pytest.fixture
def tiny() -> dict:
    """Settings of a generator of 8 x 8 images with attention, small enough for a step in milliseconds."""
    return {
        "image_size": 8,
        "image_channels": 1,
        "time_steps": 3,
        "encoder": "8C3s2-TCJA-8C3s2-TCJA",
        "latent": {"channels": 8, "k": 4},
    }


@pytest.fixture(scope="session", params=LATENT_KINDS)
def latent_kind(request) -> dict:
    """Settings of the generator with a kind of latent, each kind in turn; the rest is as in `tiny`."""
    return LATENT_KINDS[request.param]


@pytest.fixture(scope="session")
def quick_networks(cache_of_the_session):
    """The autoencoder and the classifier that score digits, trained for a few steps, where `evaluate` finds them."""
    from tcja_gen.data import load_images
    from tcja_gen.metrics import autoencoder, classifier, fit

    digits, shape = load_images("digits", "train"), {"size": 32, "seed": 0}
    fit.kept(
        "autoencoder",
        lambda state: autoencoder.train_autoencoder(digits.images, **shape, width=64, steps=8),
        autoencoder.load_autoencoder,
        fingerprint=digits.fingerprint,
        **shape,
        width=64,
        steps=autoencoder.default_steps(len(digits)),
    )
    fit.kept(
        "classifier",
        lambda state: classifier.train_classifier(digits.images, digits.labels, **shape, steps=40),
        classifier.load_classifier,
        fingerprint=digits.fingerprint,
        **shape,
        width=128,
        steps=classifier.classifier_steps(len(digits)),
    )


@pytest.fixture(scope="session")
def dinov2_file(tmp_path_factory):
    """Weights of a small DINOv2's layout, of random numbers."""
    from tcja_gen.metrics.dinov2 import DINOv2

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = DINOv2(width=128, depth=2, places=37 * 37).state_dict()
        state |= {name: torch.randn_like(state[name]) / 10 for name in ("cls_token", "pos_embed")}
    file = tmp_path_factory.mktemp("weights") / "dinov2.pth"
    torch.save(state, file)
    return file


@pytest.fixture(scope="session")
def inception_file(tmp_path_factory):
    """Weights of Inception's layout, of random numbers: the code meets them as it meets the real ones."""
    import io

    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Blank(FeatureExtractorInceptionV3):
        def load_state_dict(self, state_dict):
            """Keeps the random numbers of a new network."""

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Blank("random", ["2048"], empty)
    file = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.save(network.state_dict(), file)
    return file


@pytest.fixture(scope="session")
def torchvision_file(tmp_path_factory):
    """Weights of the layout of torchvision's Inception v3, of random numbers."""
    from torchvision.models import inception_v3

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = inception_v3(init_weights=False)
    file = tmp_path_factory.mktemp("torchvision") / "random.pth"
    torch.save(network.state_dict(), file)
    return file
