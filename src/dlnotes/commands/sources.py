"""The documents of a run, found again in the files or the corpus that its training read."""

from __future__ import annotations

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
        UserError: A pattern matches nothing, or a file is given twice.
    """
    found = {}
    for option, paths in given.items():
        try:
            found[option] = tuple(files_of(paths))
        except UserError as error:
            raise UserError(f"{option_of(option)} {error}") from error
    return found


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
