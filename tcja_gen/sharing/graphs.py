"""`export`: a part of a model (`parts.py`) as a file that runs without this package.

    pt2      PyTorch: torch.export.load(file).module()(*inputs)
    onnx     ONNX Runtime and others: InferenceSession(file).run(None, {name: array, ...})
    nir      neuromorphic hardware, and no tracing: see `nir.py`

A fourth format, safetensors, is the whole model for this package, in half precision: see `store.save_copy`.

torch.export traces the part once, on the plain path of the kernels, so that a file holds nothing but ATen or ONNX
operations, gates and neurons unrolled over the T steps. The size of the batch is free. Results are the model's own
within rounding; where a membrane lies within rounding of the threshold, a spike may differ.

What the file is goes along as metadata, JSON by name: inputs and outputs, the hash of the model's weights, classes,
facts of the training. It is the extra file "tcja_gen.json" of a .pt2, the metadata_props of an ONNX model, and the
metadata of a NIR graph.
"""

import copy
import io
import json
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node

from .. import __version__
from ..errors import UserError
from ..files import check_file, replacing, write
from ..models import load
from ..models.overview import parts as parts_of
from ..models.store import save_copy, weights_hash, without_places
from ..nn import fuse
from . import nir
from .parts import Part, make_part

FACTS = "tcja_gen.json"  # the extra file of a .pt2


def export(model: nn.Module | str | Path, part: str = "all", format: str = "", out: str | Path | None = None) -> Path:
    """Writes a part of a model to a file and returns its path.

    model: a model, or what `load` finds. part: one of `PARTS`. format: pt2, onnx, nir or safetensors; "": that of the
    file's ending, else pt2. out: the file; by default PART.FORMAT in the working directory. UserError if the model has
    no such part, if it cannot be exported, or if the ending is that of another format; OSError if nothing can be
    written there.
    """
    path, format = file_of(part, format, out)
    check_file(path)
    if format == "safetensors":
        return _write_whole(model, part, path)
    model = model if isinstance(model, nn.Module) else load(model)
    traced = fuse(copy.deepcopy(model).cpu().eval().requires_grad_(False), "plain")
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        if format == "nir":
            return _write_nir(traced, part, path)
        made = make_part(traced, part)
        write(path, FORMATS[format](made, facts(model, part) | _signature(made) | made.facts))
    return path


def file_of(part: str, format: str, out: str | Path | None) -> tuple[Path, str]:
    """The file and the format of `export`, from its arguments."""
    known = (*FORMATS, "nir", "safetensors")
    ending = Path(out or "").suffix[1:].lower()
    if str(out or "").endswith("/"):
        raise UserError(f"{out}: a folder; name a file in it")
    if format and format not in known:
        raise UserError(f"unknown format {format!r}; known: {', '.join(known)}")
    if format and ending in known and ending != format:
        raise UserError(f"{out}: the format is {format}, the ending that of {ending}; change one of them")
    format = format or (ending if ending in known else "pt2")
    return Path(out or f"{part}.{format}"), format


def _write_whole(model: nn.Module | str | Path, part: str, path: Path) -> Path:
    if part != "all" or isinstance(model, nn.Module):
        raise UserError("format safetensors is a whole model, with the settings in its file: give a name, and no part")
    save_copy(model, path, half=True)
    return path


def facts(model: nn.Module, part: str) -> dict:
    """What a file says of itself, as JSON can hold it."""
    notated = parts_of(model).items()
    return {
        "tcja_gen": __version__,
        "kind": model.kind,
        "part": part,
        "time_steps": model.time_steps,
        "classes": model.provenance.get("data", {}).get("classes", []),
        "notation": {name: network.notation for name, network in notated if hasattr(network, "notation")},
        "weights": weights_hash(model),
        "provenance": without_places(model.provenance),
    }


def _signature(part: Part) -> dict:
    """Inputs by name, and the output."""
    *inputs, (output, meaning) = part.meanings.items()
    given = {name: _shape(part.inputs[name]) | {"meaning": text} for name, text in inputs}
    return {"inputs": given, "output": {"name": output, "meaning": meaning}}


def _shape(example: Tensor) -> dict:
    return {"shape": ["batch", *example.shape[1:]], "dtype": str(example.dtype).removeprefix("torch.")}


def _as_texts(about: dict) -> dict[str, str]:
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in about.items()}


def trace(part: Part) -> ExportedProgram:
    """The part as a graph, with the weights that it uses and for batches of any size."""
    batch = ({0: Dim("batch")},) * len(part.inputs)
    program = torch.export.export(part.module, tuple(part.inputs.values()), dynamic_shapes=(batch,))
    _drop_unused_weights(program)
    for node in program.graph.nodes:  # where each operation stands in whose source files
        node.meta = {"val": node.meta["val"]} if "val" in node.meta else {}
    return program


def _drop_unused_weights(program: ExportedProgram) -> None:
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    for node in [node for node in program.graph.nodes if node.op == "placeholder" and not node.users]:
        spec = specs[node.name]
        if spec.kind is not InputKind.USER_INPUT:
            program.graph.erase_node(node)
            program.graph_signature.input_specs.remove(spec)
            kept = program.state_dict if spec.target in program.state_dict else program.constants
            kept.pop(spec.target)


def _is_aten(node: Node) -> bool:
    """Whether PyTorch alone can run it."""
    return node.op != "call_function" or str(node.target).startswith(("aten.", "<built-in"))


def _pt2(part: Part, about: dict) -> bytes:
    file = io.BytesIO()
    program = trace(part)
    if not all(_is_aten(node) for node in program.graph.nodes):  # such as operations of SpikingJelly, or contexts
        program = program.run_decompositions()
    torch.export.save(program, file, extra_files={FACTS: json.dumps(about)})
    return file.getvalue()


def _onnx(part: Part, about: dict) -> bytes:
    try:
        import onnxscript  # noqa: F401  which torch.onnx needs
    except ImportError:
        raise UserError('format onnx needs two more packages: pip install "tcja_gen[export]"') from None
    names = {"input_names": list(part.inputs), "output_names": [part.output]}
    program = torch.onnx.export(trace(part), dynamo=True, verbose=False, **names)
    model = program.model_proto
    del model.metadata_props[:], model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for name, text in _as_texts(about).items():
        model.metadata_props.add(key=name, value=text)
    return model.SerializeToString()


def _write_nir(model: nn.Module, part: str, path: Path) -> Path:
    made = nir.graph(model, part)
    made.metadata = _as_texts(facts(model, part))
    with replacing(path) as temporary:
        nir.write(made, temporary)
    return path


FORMATS = {"pt2": _pt2, "onnx": _onnx}
