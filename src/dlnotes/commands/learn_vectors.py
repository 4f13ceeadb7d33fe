"""Learn word vectors from text for classifiers to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from dlnotes.arguments import checked
from dlnotes.cli import expanded
from dlnotes.commands.sources import check_data_folder
from dlnotes.data.corpora import load
from dlnotes.data.download import cache_folder
from dlnotes.data.readers import Source
from dlnotes.data.word2vec import TextLearning, learn_from, unlabelled
from dlnotes.display import console, tell
from dlnotes.errors import UserError
from dlnotes.files import check_output, locked
from dlnotes.training.folder import check_not_of_a_run


@checked
def main(
    texts: tuple[str, ...],
    /,
    out: Path,
    learning: Annotated[TextLearning, arg(name="")] = TextLearning(),
    data_dir: Path | None = None,
) -> None:
    """Learn word vectors (skip-gram with negative sampling) from the training texts of corpora.

    A few hundred labelled documents say little about words; millions of words of other text say
    more. Afterwards, give the file to dlnotes train --vectors FILE, with the same --tokenizer.

    Args:
        texts: Names of corpora (imdb, 20ng, …), or your own files: any format that dlnotes train
            reads, or a .txt with a text per line; labels are ignored.
        out: Where to write the vectors, in word2vec's text format.
        learning: How they are learned.
        data_dir: Folder of corpora, as for dlnotes train.
    """
    if not texts:
        raise UserError("give one or more corpora or files to learn from")
    sources: list[Source] = []
    check_data_folder(data_dir)
    for name in texts:
        path = expanded(name)
        if path.exists():
            sources.append(path)
        elif path.suffix or "/" in name:
            raise UserError(f"{path} does not exist; give a file, or the name of a corpus")
        else:
            sources += unlabelled(load(name, data_dir=data_dir, cache_dir=cache_folder()))
    check_output(out)
    check_not_of_a_run(out=out)
    terminal, epochs = console(stderr=True), learning.epochs
    lock = locked(out.with_name(f".{out.name}.lock"), f"cannot write {out}: it")
    with lock, terminal.status("reading") as status:
        count = learn_from(
            sources,
            out,
            learning,
            cache_dir=cache_folder() / "tokens",
            on_epoch=lambda done: status.update(f"word2vec: {done} of {epochs} passes"),
        )
    tell(f"{out}: {count:,} word vectors of {learning.dimensions} numbers")
