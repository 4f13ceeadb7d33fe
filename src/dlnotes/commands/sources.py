"""The documents of a run, found again in the files or the corpus that its training read."""

from __future__ import annotations

import errno
from pathlib import Path

from dlnotes.commands import config
from dlnotes.commands.continuing import as_source, sources_with_parents
from dlnotes.data.corpora import load
from dlnotes.data.download import cache_folder
from dlnotes.data.readers import Source, files_of
from dlnotes.errors import UserError
from dlnotes.files import option_of
from dlnotes.training.ensemble import read_record, reading_of
from dlnotes.training.folder import OPTIONS


def files_of_options(**given: tuple[Path, ...]) -> dict[str, tuple[Path, ...]]:
    """The files of options whose values may be patterns, see `dlnotes.data.readers.matching`.

    Args:
        given: What is given for each option.

    Raises:
        UserError: A pattern matches nothing, a file is given twice, or is a link to itself.
    """
    found = {}
    for option, paths in given.items():
        try:
            found[option] = tuple(files_of(paths))
        except UserError as error:
            raise UserError(f"{option_of(option)} {error}") from error
        for path in found[option]:
            check_leads_somewhere(option, path)
    return found


def check_leads_somewhere(option: str, path: Path | None) -> None:
    """Require that a file to read is not a link that leads back to itself.

    Args:
        option: The name of its option.
        path: The file; None for none.

    Raises:
        UserError: It is such a link.
    """
    try:
        if path is not None and path.is_symlink():
            path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            told = "it is a link that leads back to itself"
            raise UserError(f"{option_of(option)} {path} cannot be read: {told}") from error


def check_data_folder(data_dir: Path | None) -> None:
    """Require that the folder of corpora is a folder.

    Raises:
        UserError: There is none, or it is a file.
    """
    if data_dir is not None and not data_dir.is_dir():
        told = "is a file, not a folder" if data_dir.exists() else "does not exist"
        raise UserError(f"--data-dir {data_dir} {told}; give a folder of corpora")


def sources_of(
    run: Path, train: tuple[Path, ...] = (), data_dir: Path | None = None
) -> dict[str, Source]:
    """The documents of each split that a run was given.

    Args:
        run: Its folder, with the options that repeat it and with its record.
        train: The training documents, if they have moved since the options were written.
        data_dir: Folder of corpora, where it is not the one that the options say.

    Raises:
        UserError: The run does not say what it has read, or the corpus cannot be found.
    """
    given = config.read_config(run / OPTIONS) if (run / OPTIONS).exists() else {}
    files = {split: tuple(map(Path, given.get(split) or ())) for split in ("train", "dev", "test")}
    if train:
        files["train"] = train
    elif given.get("from"):
        reading = reading_of(run, read_record(run)[0])
        found = sources_with_parents(run, data_dir)
        return {split: as_source(parts, reading) for split, parts in found.items() if parts}
    if files["train"]:
        return {split: paths for split, paths in files.items() if paths}
    settings, _ = read_record(run)
    data_dir = data_dir or (Path(given["data_dir"]) if given.get("data_dir") else None)
    try:
        return dict(load(settings["corpus"], data_dir=data_dir, cache_dir=cache_folder()))
    except (KeyError, UserError) as error:
        raise UserError(
            f"cannot find what {run} was trained on ({error}): give --train FILE, or other dev "
            "documents with --dev FILE"
        ) from error
