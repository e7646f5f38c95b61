import gzip
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from tcja_gen.data import check_images, load_images

NOISE = np.random.RandomState(3)


def write_idx(path: Path, values: np.ndarray):
    path.parent.mkdir(parents=True, exist_ok=True)
    axes = b"".join(n.to_bytes(4, "big") for n in values.shape)
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + axes + values.tobytes())


@pytest.fixture
def mnist_root(tmp_path):
    for part, n in {"train": 24, "t10k": 5}.items():
        write_idx(tmp_path / f"MNIST/raw/{part}-images-idx3-ubyte", NOISE.randint(0, 256, (n, 28, 28), np.uint8))
        write_idx(tmp_path / f"MNIST/raw/{part}-labels-idx1-ubyte", np.arange(n, dtype=np.uint8) % 10)
    return tmp_path


def test_mnist_is_read_from_torchvisions_files_without_a_network(mnist_root):
    train = load_images("mnist", "train+validation", root=mnist_root)
    raw = (mnist_root / "MNIST/raw/train-images-idx3-ubyte").read_bytes()[16:]
    assert train.images.shape == (24, 1, 28, 28) and train.images.dtype == torch.uint8
    assert train.images.numpy().tobytes() == raw
    assert train.labels.tolist() == [i % 10 for i in range(24)] and len(train.classes) == 10
    assert len(load_images("mnist", "test", root=mnist_root)) == 5


def test_mnist_at_32_is_pillows_bilinear_resize_byte_for_byte(mnist_root):
    small = load_images("mnist", "test", root=mnist_root).images
    large = load_images("mnist", "test", root=mnist_root, size=32).images
    for before, after in zip(small, large, strict=True):
        wanted = PIL.Image.fromarray(before[0].numpy()).resize((32, 32), PIL.Image.Resampling.BILINEAR)
        assert np.array_equal(after[0].numpy(), np.array(wanted))


def test_missing_mnist_is_one_line_that_names_files_folder_and_remedy(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        load_images("mnist", root=tmp_path)
    message = str(caught.value)
    assert "\n" not in message and "--download" in message
    assert "train-images-idx3-ubyte" in message and str(tmp_path / "MNIST/raw") in message


def test_failed_download_is_one_line_too(tmp_path, monkeypatch):
    for scheme in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(scheme, "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(FileNotFoundError) as caught:
        load_images("cifar10", root=tmp_path, download=True)
    assert "\n" not in str(caught.value) and "failed" in str(caught.value)


def test_cut_off_mnist_file_is_named(mnist_root):
    file = mnist_root / "MNIST/raw/t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="t10k-images-idx3-ubyte is damaged .100 bytes, its header says 3936"):
        load_images("mnist", root=mnist_root)


def test_still_compressed_mnist_is_named_as_missing(mnist_root):
    file = mnist_root / "MNIST/raw/train-labels-idx1-ubyte"
    file.with_suffix(".gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    with pytest.raises(FileNotFoundError, match="wants train-labels-idx1-ubyte in"):
        load_images("mnist", root=mnist_root)


def test_celeba_has_its_own_splits_and_fsvaes_crop(tmp_path):
    (tmp_path / "celeba/img_align_celeba").mkdir(parents=True)
    for i in range(4):
        face = NOISE.randint(0, 256, (218, 178, 3), np.uint8)
        PIL.Image.fromarray(face).save(tmp_path / f"celeba/img_align_celeba/00000{i}.jpg")
    lines = [f"00000{i}.jpg {part}\n" for i, part in enumerate([0, 0, 1, 2])]
    (tmp_path / "celeba/list_eval_partition.txt").write_text("".join(lines))
    train = load_images("celeba", "train", root=tmp_path)
    assert train.images.shape == (2, 3, 64, 64) and train.labels is None
    original = PIL.Image.open(tmp_path / "celeba/img_align_celeba/000000.jpg")
    wanted = original.crop((15, 35, 163, 183)).resize((64, 64), PIL.Image.Resampling.BILINEAR)
    assert np.array_equal(train.images[0].permute(1, 2, 0).numpy(), np.array(wanted))
    assert len(load_images("celeba", "validation", root=tmp_path)) == 1


@pytest.fixture
def cifar_as_pictures(tmp_path):
    for split, n in {"train": 14, "test": 4}.items():
        for i in range(n):
            file = tmp_path / f"cifar10-png/{split}/{('cat', 'airplane')[i % 2]}/{i:05d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(NOISE.randint(0, 256, (32, 32, 3), np.uint8)).save(file)
    return tmp_path


def test_cifar10_as_pictures_has_its_own_order_official_test_split_and_class_names(cifar_as_pictures):
    train = load_images("cifar10", "train+validation", root=cifar_as_pictures)
    assert train.labels.tolist() == [1, 0] * 7 and train.classes == ("airplane", "cat") and train.name == "cifar10"
    first = PIL.Image.open(cifar_as_pictures / "cifar10-png/train/cat/00000.png")
    assert np.array_equal(train.images[0].permute(1, 2, 0).numpy(), np.array(first))
    assert len(load_images("cifar10", "test", root=cifar_as_pictures)) == 4
    assert check_images("cifar10", root=cifar_as_pictures) == []


def test_a_lossy_or_incomplete_copy_is_not_taken_for_cifar10(cifar_as_pictures):
    last = cifar_as_pictures / "cifar10-png/train/cat/00006.png"
    last.rename(last.with_suffix(".jpg"))
    with pytest.raises(ValueError, match="00006.jpg: not picture 6 of train; PNG files train/CLASS/NUMBER.png"):
        load_images("cifar10", root=cifar_as_pictures)
    last.with_suffix(".jpg").unlink()
    with pytest.raises(ValueError, match="00007.png: not picture 6 of train"):
        load_images("cifar10", root=cifar_as_pictures)


def test_halved_faces_get_fsvaes_crop(tmp_path):
    for split in ("train", "test"):
        (tmp_path / "celeba" / split).mkdir(parents=True)
        noise = NOISE.randint(0, 256, (109, 89, 3), np.uint8)
        PIL.Image.fromarray(noise).save(tmp_path / f"celeba/{split}/000001.png")
    test = load_images("celeba-10k", "test", root=tmp_path)
    wanted = PIL.Image.fromarray(noise).crop((8, 18, 82, 92)).resize((64, 64), PIL.Image.Resampling.BILINEAR)
    assert np.array_equal(test.images[0].permute(1, 2, 0).numpy(), np.array(wanted)) and test.labels is None


def test_missing_faces_are_told_with_their_folder_and_origin(tmp_path):
    with pytest.raises(FileNotFoundError, match="celeba-10k wants train, test in .*celeba: fetch the pictures from"):
        load_images("celeba-10k", root=tmp_path, download=True)


def test_digits_need_no_files_and_span_black_to_white():
    digits = load_images("digits", "all")
    assert digits.images.shape == (1797, 1, 8, 8)
    assert digits.images.min() == 0 and digits.images.max() == 255
    assert digits.labels[:3].tolist() == [0, 1, 2] and digits.classes == tuple("0123456789")
