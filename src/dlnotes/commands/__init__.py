"""The programs behind ``dlnotes NAME`` and ``scripts/NAME.py``: a table from name to module.

A module is imported only when its command runs, so that ``dlnotes --help`` is quick.
"""

from __future__ import annotations

import importlib
import sys
import time
from contextvars import ContextVar
from functools import partial
from typing import Any

from dlnotes.errors import UserError

COMMANDS = {
    "train": "Train a text classifier: a corpus or your own files in, a run folder out.",
    "advise": "Race models on your own documents, and recommend one with the evidence.",
    "compare": "Compare models on your own documents, and tell which differences are real.",
    "evaluate": "Measure a trained classifier on labelled documents.",
    "calibrate": "Choose how a trained classifier decides: temperature, thresholds, rejection.",
    "predict": "Classify raw text with a trained classifier.",
    "serve": "Serve a trained classifier over HTTP, with an interface for programs and a web page.",
    "export": "Write a trained classifier for programs without dlnotes: ONNX, torch, fastText.",
    "runs": "List trained runs, or compare the settings and figures of some.",
    "ensemble": "Join trained runs into an ensemble, weighted on the dev split.",
    "translate": "Train a translator on parallel text, translate with it, measure it by BLEU.",
    "learn-vectors": "Learn word vectors from text for classifiers to start from.",
    "verify": "Compare every rule, activation and model with torch and the papers.",
    "claims": "Test the claims of the notes by experiments, and write a report.",
    "completion": "Print a script that completes commands and options in your shell.",
}

_IN_SEVERAL_PROCESSES = ("train", "translate")

started_at: ContextVar[float] = ContextVar("started_at")
"""When the command began, before its imports, by `time.perf_counter`."""


def main() -> None:
    """Run the command that the command line names."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        from dlnotes.cli import columns, filled

        left, width = max(map(len, COMMANDS)) + 4, columns()
        rows = "\n".join(
            filled(f"  {known:{left - 2}}{about}", width, " " * left)
            for known, about in COMMANDS.items()
        )
        about = "Text classifiers, optimizers and activations, written from scratch in PyTorch."
        more = "dlnotes COMMAND --help explains a command; dlnotes --version prints the version."
        _print(
            "usage: dlnotes COMMAND [OPTIONS]\n\n"
            f"{filled(about, width)}\n\n"
            f"commands:\n{rows}\n\n"
            f"{filled(more, width)}"
        )
    elif name == "--version":
        from dlnotes import __version__

        _print(f"dlnotes {__version__}")
    elif name in COMMANDS:
        run(name, sys.argv[2:])
    else:
        import difflib

        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        listed = ", ".join(COMMANDS)
        print(f"error: dlnotes has no command {name!r}; it has {listed}{hint}", file=sys.stderr)
        sys.exit(2)


def _print(text: str) -> None:
    from dlnotes.cli import drop_output

    try:
        print(text, flush=True)
    except OSError as error:
        drop_output()
        if not isinstance(error, BrokenPipeError):
            told = f"cannot write to standard output: {error.strerror}"
            print(f"error: {told}", file=sys.stderr)
            sys.exit(2)


def run(name: str, arguments: list[str] | None = None) -> None:
    """Run one command.

    Args:
        name: A key of `COMMANDS`.
        arguments: The arguments after its name. None: those of a script that is named after the
            command.
    """
    token = started_at.set(time.perf_counter())
    from dlnotes import cli, launch, threads

    threads.configure()
    prog = f"dlnotes {name}"
    if arguments is None:
        prog, arguments = sys.argv[0], sys.argv[1:]
    try:
        with cli.exit_handler():  # while torch is imported, too
            if launch.world_size() > 1 and name not in _IN_SEVERAL_PROCESSES:
                known = " and ".join(_IN_SEVERAL_PROCESSES)
                raise UserError(f"{name} runs in one process, without torchrun, unlike {known}")

            from dlnotes.commands.config import with_config

            program = load(name)
            cli.run(program, prog=prog, arguments=partial(with_config, program, arguments))
    finally:
        started_at.reset(token)


def load(name: str) -> Any:
    """The function of a command, or its several functions by name."""
    module = importlib.import_module(f"dlnotes.commands.{name.replace('-', '_')}")
    return module.main
