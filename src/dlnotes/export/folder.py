"""The exported folder: network, vocabulary, labels, decision, and a program that reads raw text."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
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
    is_in_use,
    is_unfinished,
    kept,
    make_folder,
    read_json,
    remove_unfinished,
    resolved,
    unfinished,
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
_UNFINISHED = "unfinished"
"""Field of the configuration: whether files are being replaced."""
_FILES = "files"
"""Field of the configuration: the names of the export's files."""
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
    if out.is_symlink() and not place.exists():
        raise UserError(f"cannot write to {out}: it is a link to {place}, which does not exist")
    if any(is_in_use(file) for file in _check_files(out, overwrite)):
        raise UserError(f"cannot write to {out}: another export is writing to it")


def _check_files(out: Path, overwrite: bool) -> list[Path]:
    """Require that the files in a folder may be replaced; return the exports being written in it.

    Raises:
        UserError: See `check_place`.
    """
    if not out.exists():
        return []
    if not out.is_dir():
        raise UserError(f"cannot write to {out}: it is not a folder; give another OUT")
    try:
        files = [*out.iterdir()]
    except OSError as error:
        raise UserError(f"cannot read {out}: {error.strerror}") from error
    building = [file for file in files if is_unfinished(file, _BUILDING)]
    if files == building:
        return building
    config = out / CONFIG
    if not overwrite:
        why = "is not empty: give another OUT, or --overwrite"
        with suppress(UserError):
            if _found(config).get(_UNFINISHED):
                why = "holds an unfinished export: --overwrite replaces it"
        raise UserError(f"{out} {why}")
    if _found(config).get("format") != _FORMAT:
        raise UserError(f"{out} does not hold an earlier export: give another OUT")
    return building


def _refuse_others(out: Path, names: Iterable[str]) -> None:
    """Require that files of these names may be written to a folder.

    Raises:
        UserError: There is one of these names that does not belong to the earlier export.
    """
    if not out.is_dir():
        return
    for name in sorted({*names} - _files_of_export(out)):
        if os.path.lexists(out / name):
            raise UserError(
                f"cannot write {out / name}: what is there does not belong to the earlier export; "
                "move it, or give another OUT"
            )


def _found(config: Path) -> dict[str, Any]:
    """The configuration in a folder; empty if there is none."""
    found = read_json(config, "is not an export") if config.exists() else None
    return found if isinstance(found, dict) else {}


def export(
    classifier: TextClassifier | Ensemble,
    out: Path,
    kind: str = "onnx",
    *,
    int8: bool = False,
    overwrite: bool = True,
) -> Exported:
    """Write a classifier for programs without dlnotes; an earlier export in `out` is replaced.

    Everything is written before anything is replaced. Other files in `out` are not touched. While
    files are being replaced, the configuration says so: if the process is killed then, the program
    refuses the folder, and the next export replaces it.

    Args:
        classifier: The trained classifier.
        out: The folder, see `check_place`.
        kind: A key of `FORMATS`.
        int8: Quantize an ONNX network; the original is also kept, as `FULL`.
        overwrite: Whether an earlier export may be replaced.

    Raises:
        UserError: A package is missing, or torch is too old; the format cannot represent the
            classifier; the network's scores are not those of the model; `out` cannot be written,
            or holds what must not be replaced, see `check_place`.
    """
    if kind != "fasttext":
        check_torch()
    if kind == "onnx":
        require("onnx", "onnxscript", "onnxruntime")
    place = resolved(out)
    _check_files(out, overwrite)
    _refuse_others(out, [FORMATS[kind], *[FULL] * int8])
    # The folder that is there may be a mount point, where its parent is read-only or on another
    # disk.
    there = place if place.is_dir() else place.parent
    if there != place:
        make_folder(there, "; give another OUT")
    for folder in {there, place.parent}:
        remove_unfinished(folder, _BUILDING)
    try:
        with unfinished(there, _BUILDING) as building:
            with in_utf8(building) as folder:
                differences = _write_network(classifier, folder / FORMATS[kind], kind, int8)
            without = write_rest(classifier, building, kind)
            _put(building, place, out, overwrite)
    except BlockingIOError as error:
        raise UserError(f"cannot write to {out}: another export is writing to it") from error
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error
    return Exported(out / FORMATS[kind], *differences, without)


def _put(building: Path, place: Path, out: Path, overwrite: bool) -> None:
    """Put finished files in their place; at each moment it holds one export or says it does not.

    A folder that is there is never replaced as a whole: it may be a mount point or a program's
    current folder, may hold other files, and no system-independent call exchanges two folders.

    Args:
        building: The folder with all files of the export.
        place: Where they belong.
        out: The same as the user gave it, for messages.
        overwrite: See `export`.

    Raises:
        BlockingIOError: Another export is doing this.
        OSError: A file cannot be written.
        UserError: There are files by now that must not be replaced.
    """
    files = {path.name: path for path in building.iterdir()}
    for path in files.values():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if not place.exists():
        try:
            building.rename(place)
            return
        except OSError:
            if not place.is_dir():  # otherwise, another export was faster
                raise
    with kept(place):
        _check_files(out, overwrite)
        _refuse_others(out, files)
        earlier = _files_of_export(place)
        mark = building / _UNFINISHED
        both = sorted(earlier | files.keys())
        write_json(mark, {"format": _FORMAT, _UNFINISHED: True, _FILES: both})
        mark.replace(place / CONFIG)
        config = files.pop(CONFIG)
        for name, path in files.items():
            path.replace(place / name)
        for name in earlier - files.keys() - {CONFIG}:
            (place / name).unlink(missing_ok=True)
        config.replace(place / CONFIG)


def _files_of_export(place: Path) -> set[str]:
    """The names of the files of the export in a folder, finished or not."""
    there = {path.name for path in place.iterdir() if _is_ours(path)}
    there -= {name for name in there if (place / name).is_dir() and not (place / name).is_symlink()}
    listed = _found(place / CONFIG).get(_FILES)
    # Earlier versions did not list them.
    if not isinstance(listed, list):
        return there
    return there & {name for name in listed if isinstance(name, str)}


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
    if without is None:
        program = resources.files("dlnotes.export") / PROGRAM
        with resources.as_file(program) as path:
            shutil.copyfile(path, folder / PROGRAM)
    config[_FILES] = sorted([CONFIG, *(path.name for path in folder.iterdir())])
    write_json(folder / CONFIG, config)
    return without
