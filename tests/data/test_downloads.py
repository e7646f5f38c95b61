"""`--download` with several processes: each file is fetched once, by one of them, for all."""

import gzip
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from tcja_gen.data import load_images

FILES = {"train-images-idx3-ubyte": 40, "train-labels-idx1-ubyte": 40}
FILES |= {"t10k-images-idx3-ubyte": 20, "t10k-labels-idx1-ubyte": 20}


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A server of a small MNIST on this machine: its address, and the paths that it was asked for."""
    monkeypatch.setattr("urllib.request._opener", None)  # keeps the proxy that it met first, of another test
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path / "mirror"))

        def log_message(self, *_):
            if self.command == "GET":
                asked.append(self.path)

    (tmp_path / "mirror").mkdir()
    draw = np.random.RandomState(0)
    for name, n in FILES.items():
        shape = (n, 28, 28) if "images" in name else (n,)
        head = b"\0\0\x08" + bytes([len(shape)]) + b"".join(side.to_bytes(4, "big") for side in shape)
        content = draw.randint(0, 10, shape).astype(np.uint8).tobytes()
        (tmp_path / "mirror" / f"{name}.gz").write_bytes(gzip.compress(head + content))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", asked
    server.shutdown()


def _download(folder, address: str) -> None:
    from torchvision.datasets import MNIST

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MNIST, "mirrors", [address])
        patch.setattr(MNIST, "resources", [(f"{name}.gz", None) for name in FILES])
        assert len(load_images("mnist", "test", root=f"{folder}/data", download=True)) == 20


def _process(rank: int, folder: str, address: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    import torchvision.datasets  # noqa: F401, so that both look at the same moment

    torch.distributed.barrier()
    _download(folder, address)
    torch.distributed.destroy_process_group()


def test_two_processes_ask_for_a_file_as_often_as_one_does(mirror, tmp_path):
    address, asked = mirror
    _download(tmp_path / "alone", address)
    alone, _ = sorted(asked), asked.clear()
    torch.multiprocessing.spawn(_process, (str(tmp_path), address), nprocs=2)
    assert sorted(asked) == alone and set(alone) == {f"/{name}.gz" for name in FILES}
