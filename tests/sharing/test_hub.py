"""Models are published on a hub and loaded from it by name. The hub is a small server that speaks its protocol."""

import base64
import hashlib
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tcja_gen as tg
from tcja_gen.cli import main
from tcja_gen.errors import MissingFile, UserError
from tcja_gen.evaluation import Request, own_data, write_record
from tcja_gen.evaluation.references import References
from tcja_gen.report.subject import Subject
from tcja_gen.sharing.graphs import facts
from tcja_gen.sharing.hub import write_repository
from tcja_gen.shipped import weights
from tcja_gen.training import recipes

hub = pytest.importorskip("huggingface_hub")
pytest.importorskip("huggingface_hub.constants")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Repositories as folders of files below `folder`: make one, commit files to it, fetch them."""

    folder: Path

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            return self.answer({"url": f"{hub.constants.ENDPOINT}/{name}", "id": name, "name": name})
        if "/preupload/" in self.path:
            files = [file["path"] for file in json.loads(body)["files"]]
            return self.answer(
                {"files": [{"path": f, "uploadMode": "regular", "shouldIgnore": False, "oid": None} for f in files]}
            )
        if "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    (self.folder / self.repository() / line["value"]["path"]).write_bytes(content)
            url = f"{hub.constants.ENDPOINT}/{self.repository()}/commit/{COMMIT}"
            return self.answer({"commitUrl": url, "commitOid": COMMIT, "success": True})
        if self.path == "/api/validate-yaml":  # the metadata of the card
            return self.answer({"errors": [], "warnings": []})
        self.answer({}, 404)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        if self.path.startswith("/api/models/"):
            found = (self.folder / self.repository()).is_dir()
            return self.answer({"id": self.repository(), "sha": COMMIT, "siblings": []}, 200 if found else 404)
        repository, _, rest = self.path.lstrip("/").partition("/resolve/")
        file = self.folder / repository / rest.split("/")[-1]
        if not file.is_file():
            missing = "EntryNotFound" if file.parent.is_dir() else "RepoNotFound"
            return self.answer({}, 404, {"X-Error-Code": missing, "X-Repo-Commit": COMMIT})
        content = file.read_bytes()
        etag = hashlib.sha1(content).hexdigest()
        self.answer(content, 200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    def repository(self) -> str:
        return "/".join(self.path.split("/")[3:5])

    def answer(self, content: dict | bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *words):
        pass


def at(address: str, patch: pytest.MonkeyPatch) -> None:
    """Sets the hub's address, as $HF_ENDPOINT does when huggingface_hub is imported."""
    patch.setattr(hub.constants, "ENDPOINT", address)
    template = hub.constants.HUGGINGFACE_CO_URL_TEMPLATE
    patch.setattr(hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + template[template.index("/{repo_id}") :])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The running hub, as which huggingface_hub is set up, and an empty cache."""
    Hub.folder = tmp_path_factory.mktemp("hub")
    made = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        at(f"http://127.0.0.1:{made.server_port}", patch)
        patch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(hub.constants, "HF_HUB_DISABLE_XET", True)
        patch.setenv("HF_TOKEN", "hf_of_nobody")
        yield made
    made.shutdown()


@pytest.fixture(scope="module")
def pushed(server, tmp_path_factory):
    """A model that was pushed by the command."""
    file = tmp_path_factory.mktemp("run") / "model.safetensors"
    shutil.copyfile(weights()["digits"], file)
    assert main(["push", str(file), "somebody/spikes"]) == 0
    return file


def test_a_pushed_model_is_loaded_by_its_name_on_the_hub(pushed):
    mine, theirs = tg.load(pushed), tg.load("hf:somebody/spikes")
    assert torch.equal(mine.sample([0, 1]), theirs.sample([0, 1]))


def test_commands_take_the_name_on_the_hub(pushed, tmp_path):
    assert main(["sample", "hf:somebody/spikes", "--n", "1", "--out", str(tmp_path)]) == 0
    assert len([*tmp_path.glob("*.png")]) == 1


def test_a_card_says_what_the_model_is(pushed):
    folder = Hub.folder / "somebody" / "spikes"
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text.startswith("---\nlibrary_name: tcja_gen\n")
    assert 'tg.load("hf:somebody/spikes")' in text and "[model.latent]" in text and "digits" in text
    assert (folder / "samples.png").stat().st_size > 1000 and "samples.png" in text


def published(file: Path, data: Path) -> dict:
    """What a score tells of published statistics beside images of one's own."""
    file.parent.mkdir()
    np.savez(file, mu=np.zeros(64), sigma=np.eye(64))
    return References(Request(reference=file, data=data, size=8, channels=1)).facts(["fad"])


def test_a_model_of_a_folder_called_like_a_data_set_is_not_scored_on_that_set(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("digits").mkdir()
    for i in range(12):
        Image.new("L", (8, 8), i * 20).save(f"digits/{i}.png")
    run = tg.train(data="./digits", out="run", steps=1, batch=4, warmup=0, quiet=True, model=tiny).folder
    tg.export(run, format="safetensors", out="small.safetensors")
    assert own_data(tg.load("small.safetensors")) == "./digits"
    Path("digits").rename("elsewhere")
    with pytest.raises(MissingFile, match="./digits, are not there"):
        own_data(tg.load("small.safetensors"))


def test_no_file_of_a_published_run_names_a_folder_of_this_machine(tiny, tmp_path, monkeypatch):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(12):
        Image.new("L", (8, 8), i * 20).save(pictures / f"{i}.png")
    short = {"steps": 1, "batch": 4, "warmup": 0, "quiet": True, "model": tiny}
    before = tg.train(out=str(tmp_path / "before"), **short).folder
    run = tg.train(data=str(pictures), out=str(tmp_path / "run"), init_from=str(before), **short).folder
    monkeypatch.setattr("sys.argv", [str(tmp_path / "bin" / "tcja-gen"), "push", str(run), "somebody/pictures"])
    score = {"scores": {"fad": 1.0}, "protocol": {"fad": published(tmp_path / "mine" / "statistics.npz", pictures)}}
    write_record(run / "scores" / "step-000001" / "fad.json", score)
    write_repository(Subject(run), "somebody/pictures", tmp_path / "repository")
    assert "| fad | 1 |" in (tmp_path / "repository" / "README.md").read_text()
    assert str(tmp_path) not in json.dumps(facts(tg.load(run), "all"))  # of a part that is exported
    files = [*(tmp_path / "repository").iterdir()]
    assert {file.name for file in files} == {"README.md", "config.toml", "model.safetensors", "samples.png"}
    assert not [file.name for file in files if str(tmp_path).encode() in file.read_bytes()]
    config = recipes.load(tmp_path / "repository" / "config.toml")
    assert (config.data, config.init_from, config.steps) == ("./pictures", "before", 1)
    assert tg.load(tmp_path / "repository").provenance["data"]["source"] == "./pictures"


def test_without_a_network_the_copy_is_used_or_one_line_says_what_is_missing(pushed, monkeypatch):
    tg.load("hf:somebody/spikes")
    at("http://127.0.0.1:9", monkeypatch)  # nobody listens there
    assert tg.load("hf:somebody/spikes").kind == "generator"
    with pytest.raises(MissingFile, match="cannot be reached, and this machine has no copy"):
        tg.load("hf:somebody/else")


def test_a_name_that_the_hub_does_not_have_is_told_in_one_line(pushed):
    (Hub.folder / "somebody" / "empty").mkdir()
    with pytest.raises(UserError, match="'spikes': the name of a repository is owner/name"):
        tg.push("digits", "spikes")
    reasons = {"nobody/none": "no such repository", "somebody/empty": "holds no model", "a b": "wanted hf:owner/name"}
    for name, reason in reasons.items():
        with pytest.raises(UserError, match=reason) as error:
            tg.load(f"hf:{name}")
        assert "\n" not in str(error.value)
