"""The exported folder: network, vocabulary, labels, decision, and a program that reads raw text."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import torch

from dlnotes.data.tokenization import MARKS, QUESTION_TOKEN
from dlnotes.errors import UserError
from dlnotes.export.fasttext import save_bin
from dlnotes.export.program import (
    TOLERANCE,
    Averaged,
    Exportable,
    check_torch,
    difference,
    program_of,
    require,
    save_onnx,
    save_program,
)
from dlnotes.export.session import Session, members_of
from dlnotes.export.tokenizers import lower_case, steps_of
from dlnotes.files import (
    in_utf8,
    is_kept,
    kept,
    make_folder,
    read_json,
    remove,
    remove_abandoned,
    resolved,
    write_json,
)
from dlnotes.training.classifier import Ensemble, TextClassifier
from dlnotes.training.folder import CONFIG, LABELS, MERGES, VOCABULARY

FORMATS = {"onnx": "model.onnx", "torch": "model.pt2", "fasttext": "model.bin"}
"""Name of the network's file in each format."""
FULL = "model-float32.onnx"
"""Name of the file of the network before quantization."""
PROGRAM = "predict.py"
_FORMAT = "dlnotes export 1"
_BUILDING = ".dlnotes-export-"
"""How the name of a folder begins in which an export is being written."""
_Network = TypeVar("_Network", bound=Averaged)


@dataclass
class Exported:
    """The result of an export.

    Attributes:
        network: The network's file.
        difference: How far its scores, before quantization, are from the model's (see
            `difference`); None for fastText's format.
        quantized: The same difference for the quantized network; None if there is none.
        without_program: Why `PROGRAM` was not written; None if it was.
    """

    network: Path
    difference: float | None
    quantized: float | None
    without_program: str | None


def check_place(run: Path, out: Path, overwrite: bool) -> None:
    """Require that an export to a folder would not destroy other files.

    Raises:
        UserError: `out` is the run's folder, inside it, or contains it; it is not empty and
            `overwrite` is not set; or it holds anything but an earlier export.
    """
    place, its_run = resolved(out), resolved(run)
    if place == its_run or place in its_run.parents or its_run in place.parents:
        raise UserError(f"cannot write to {out}: it is the run {run}, inside it, or contains it")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UserError(f"cannot write to {out}: it is not a folder; give another OUT")
    if not out.exists():
        return
    files = [*out.iterdir()]
    unfinished = [file for file in files if file.name.startswith(_BUILDING)]
    if any(map(is_kept, unfinished)):
        raise UserError(f"cannot write to {out}: another export is writing to it")
    if files == unfinished:
        return
    if not overwrite:
        raise UserError(f"{out} is not empty: give another OUT, or --overwrite")
    config = out / CONFIG
    found = read_json(config, "is not an export") if config.exists() else None
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise UserError(f"{out} does not hold an earlier export: give another OUT")
    for file in filter(_is_ours, out.iterdir()):
        if file.is_dir() and not file.is_symlink():
            raise UserError(f"cannot write {file}: it is a folder; give another OUT")


def export(
    classifier: TextClassifier | Ensemble, out: Path, kind: str = "onnx", *, int8: bool = False
) -> Exported:
    """Write a classifier for programs without dlnotes; an earlier export in `out` is replaced.

    Everything is written before anything is replaced. Other files in `out` are not touched.

    Args:
        classifier: The trained classifier.
        out: The folder, see `check_place`.
        kind: A key of `FORMATS`.
        int8: Quantize an ONNX network; the original is also kept, as `FULL`.

    Raises:
        UserError: A package is missing, or torch is too old; the format cannot represent the
            classifier; the network's scores are not those of the model; `out` cannot be written.
    """
    if kind != "fasttext":
        check_torch()
    if kind == "onnx":
        require("onnx", "onnxscript", "onnxruntime")
    place = resolved(out)
    make_folder(place.parent, "; give another OUT")
    # An existing folder may be a mount point or a program's current folder: its files are replaced,
    # not the folder.
    there = place if place.is_dir() else place.parent
    for folder in {there, place.parent}:
        remove_abandoned(folder, _BUILDING)
    building = there / f"{_BUILDING}{secrets.token_hex(4)}"
    try:
        building.mkdir()
        with kept(building):
            with in_utf8(building) as folder:
                differences = _write_network(classifier, folder / FORMATS[kind], kind, int8)
            without = write_rest(classifier, building, kind)
            if there == place:
                for file in filter(_is_ours, place.iterdir()):
                    file.unlink()
                for file in building.iterdir():
                    file.replace(place / file.name)
            else:
                building.rename(place)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        remove(building)
    return Exported(out / FORMATS[kind], *differences, without)


def _is_ours(file: Path) -> bool:
    """Whether a file has a name that an export writes."""
    name = file.name.lstrip("0123456789").removeprefix("-")
    fixed = {*FORMATS.values(), FULL, PROGRAM, CONFIG, LABELS}
    return file.name in fixed or name in (VOCABULARY, MERGES)


def network_of(classifier: TextClassifier | Ensemble, kind: type[_Network]) -> _Network:
    """The network of a classifier, or of an ensemble's members with a weight above 0."""
    models = [member.model for member in members_of(classifier)]
    if isinstance(classifier, TextClassifier):
        return kind(models)
    weights = [weight for weight in classifier.weights if weight > 0]
    return kind(models, weights, classifier.average, classifier.multi_label)


def _write_network(
    classifier: TextClassifier | Ensemble, path: Path, kind: str, int8: bool
) -> tuple[float | None, float | None]:
    """Write the network; return how far its scores are off before quantization, and after it."""
    if kind == "fasttext":
        save_bin(classifier, path)
        return None, None
    program = program_of(network_of(classifier, Exportable))
    scores: Callable[..., Any]
    if kind == "torch":
        save_program(program, path)
        scores = torch.export.load(path).module()
    else:
        save_onnx(program, path)
        scores = Session(path)
    sizes = [len(member.vocabulary) for member in members_of(classifier)]
    model = network_of(classifier, Averaged)
    far = difference(model, scores, sizes)
    if not far <= TOLERANCE:
        raise UserError(
            f"the {kind} network's scores differ from the model's by {far:.1e}, more than "
            f"{TOLERANCE:.0e}: it is not written"
        )
    if not int8:
        return far, None
    path.rename(path.with_name(FULL))
    quantize(path.with_name(FULL), path)
    return far, difference(model, Session(path), sizes)


def quantize(full: Path, path: Path) -> None:
    """Dynamic quantization by onnxruntime: int8 weights, and activations quantized on the fly."""
    import logging

    from onnxruntime.quantization import QuantType, quantize_dynamic

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # a warning suggests to preprocess the model
    try:
        quantize_dynamic(
            full,
            path,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm", "Gather", "Conv"],
            extra_options={"EnableSubgraph": True},
        )
    finally:
        logging.disable(before)


def write_rest(classifier: TextClassifier | Ensemble, folder: Path, kind: str) -> str | None:
    """Write vocabularies, labels, configuration and program; return why there is no program."""
    members, without = [], None if kind == "onnx" else f"it is for --format onnx, not {kind}"
    several = isinstance(classifier, Ensemble)
    for number, member in enumerate(members_of(classifier), 1):
        name = f"{number}-{VOCABULARY}" if several else VOCABULARY
        member.vocabulary.save(folder / name)
        if member.subwords:
            member.subwords.save(folder / (f"{number}-{MERGES}" if several else MERGES))
        steps = None
        try:
            steps = steps_of(member.tokenizer)
        except UserError as error:
            without = str(error)
        keeps_questions = member.vocabulary.has_marks(MARKS["sentences"])
        members.append(
            {
                "vocabulary": name,
                "tokenizer": member.tokenizer,
                "steps": steps,
                "max_tokens": member.max_tokens,
                "question": QUESTION_TOKEN if keeps_questions else None,
            }
        )
    write_json(folder / LABELS, classifier.label_names)
    config = {
        "format": _FORMAT,
        "network": FORMATS[kind],
        "multi_label": classifier.multi_label,
        **asdict(classifier.decision),
        "members": members,
        "lower": lower_case(),
    }
    write_json(folder / CONFIG, config)
    if without is None:
        program = resources.files("dlnotes.export") / PROGRAM
        with resources.as_file(program) as path:
            shutil.copyfile(path, folder / PROGRAM)
    return without
