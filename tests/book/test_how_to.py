"""The pages of docs/en that are in folders: their commands and snippets run, and nothing is missing."""

import contextlib
import csv
import importlib
import io
import itertools
import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import polars as pl
import pytest
import torch
import yaml

pytest.importorskip("sphinx", reason="needs the extra docs")

import dlnotes
from chapters.commands import as_markdown, help_of
from dlnotes import commands
from dlnotes.models import MODELS
from dlnotes.optim import OPTIMIZERS
from small import model_args

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "en"
HOW_TO = sorted(path.stem for path in (DOCS / "how-to").glob("*.md"))
CAN_EXPORT = torch.__version__ >= torch.torch_version.TorchVersion("2.13")


def read(page):
    text = (DOCS / f"{page}.md").read_text("utf-8")
    included = re.fullmatch(r"```\{include\} (\S+)\n```\n", text)
    return ((DOCS / page).parent / included[1]).read_text("utf-8") if included else text


def fenced(language, text):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.S | re.M)


def lines(page):
    """The command lines of a page, in order."""
    text = "".join(fenced("sh", read(page))).replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in text.splitlines() if line.strip()]


LIKED = ["a joy from start to finish", "the film of the year", "warm, funny and wise"]
DISLIKED = ["a waste of two hours", "the plot makes no sense", "dull and far too long"]
NEUTRAL = ["I saw it on Sunday", "the cinema was full", "it takes two hours", "we sat in front"]
PLACES = ["garden", "kitchen", "office"]


def reviews(n, seed):
    """Texts and labels; one in ten is labelled wrong, so that nothing is certain."""
    draw = random.Random(seed)
    for number in range(n):
        label, said = (("good", LIKED), ("bad", DISLIKED))[number % 2]
        parts = draw.sample([draw.choice(said), *draw.sample(NEUTRAL, 3)], 4)
        yield ". ".join(parts), label if draw.random() > 0.1 else "bad"


def topics(n, seed):
    draw = random.Random(seed)
    said = {"food": "the soup", "price": "the bill", "service": "the waiter"}
    for _ in range(n):
        labels = sorted(draw.sample(sorted(said), draw.randrange(4)))
        moods = ["was excellent", "was a mistake"]
        about = [f"{said[label]} {draw.choice(moods)}" for label in labels]
        yield ". ".join([*about, draw.choice(NEUTRAL)]), labels


def table(path, names, rows, separator=","):
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=separator).writerows([names, *rows])


def write_files(folder):
    """The files that the pages speak of, in small."""
    for name, n in (("reviews", 120), ("more-reviews", 40)):
        table(folder / f"{name}.csv", ["text", "label"], reviews(n, seed=n))
    new = [(number, text) for number, (text, _) in enumerate(reviews(20, seed=7))]
    table(folder / "new-reviews.csv", ["id", "text"], new)
    articles = [("a title", *review) for review in reviews(60, seed=8)]
    table(folder / "articles.csv", ["title", "body", "sentiment"], articles)
    (folder / "parts").mkdir()
    for number in range(3):
        table(folder / "parts" / f"{number}.csv", ["text", "label"], reviews(40, seed=number))
    (folder / "unlabelled.txt").write_text("\n".join(text for text, _ in reviews(200, 9)) + "\n")
    known = sorted({word for text, _ in reviews(50, 10) for word in re.findall(r"\w+", text)})
    numbers = " ".join(["0.1"] * 100)
    (folder / "glove.100d.txt").write_text("".join(f"{word} {numbers}\n" for word in known))
    for name, n in (("topics", 120), ("more-topics", 40)):
        rows = [json.dumps({"text": text, "label": labels}) for text, labels in topics(n, n)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    found = list(topics(120, 120))
    table(folder / "topics.csv", ["text", "label"], [(t, "|".join(ls)) for t, ls in found])
    names = ["food", "price", "service"]
    columns = [(text, *(int(name in labels) for name in names)) for text, labels in found]
    table(folder / "columns.csv", ["text", *names], columns)
    marked = (" ".join([*(f"__label__{label}" for label in ls), text]) for text, ls in found if ls)
    (folder / "topics.txt").write_text("\n".join(marked) + "\n")
    draw = random.Random(0)
    stories = []
    for first, second in itertools.product(PLACES, PLACES):
        who = draw.choice(["Mary", "John"])
        told = f"Mary went to the {first}. John went to the {second}."
        label = first if who == "Mary" else second
        stories += [{"text": f"{told} <question> Where is {who}?", "label": label}] * 8
    (folder / "stories.jsonl").write_text("".join(json.dumps(s) + "\n" for s in stories))
    babi = folder / "data" / "babi" / "en-10k"
    babi.mkdir(parents=True)
    for split in ("train", "test"):
        told = "".join(
            f"1 Mary moved to the {place}.\n2 Where is Mary? \t{place}\t1\n"
            for place in PLACES * 10
        )
        (babi / f"qa1_single-supporting-fact_{split}.txt").write_text(told)
    (folder / "multi30k").mkdir()
    pairs = [("ein hund läuft .", "a dog runs ."), ("eine katze schläft .", "a cat sleeps .")] * 8
    for split in ("train", "val", "test2016"):
        for side, language in enumerate(("de", "en")):
            text = "".join(pair[side] + "\n" for pair in pairs)
            (folder / "multi30k" / f"{split}.{language}").write_text(text)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with the files, and the run that most pages begin with."""
    folder = tmp_path_factory.mktemp("reader")
    write_files(folder)
    with contextlib.chdir(folder) if hasattr(contextlib, "chdir") else changed(folder):
        run(["dlnotes", "train", "--train", "reviews.csv", "--out", "runs/reviews", "--epochs=3"])
    return folder


@contextlib.contextmanager
def changed(folder):
    """`contextlib.chdir`, which Python 3.10 does not have."""
    before = Path.cwd()
    os.chdir(folder)
    yield
    os.chdir(before)


def run(arguments):
    """Run a command in this process, as `dlnotes` would; what it printed."""
    printed, told, before = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO(), sys.argv
    sys.argv, code = arguments, None
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(told):
            commands.main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = before
    assert not code, f"{shlex.join(arguments)}: {told.getvalue()}"
    printed.seek(0)
    return printed.read()


def quick(arguments):
    """The same command on less: few epochs, small models, a device that is there."""
    more = []
    if arguments[1:2] == ["train"] and not {"--epochs", "--resume"} & {*arguments}:
        more += ["--epochs", "2"]
    if "transformer" in arguments and "--model-args" not in arguments:
        more += model_args("transformer")
    if "cuda" in arguments and not torch.cuda.is_available():
        more += ["--device", "cpu"]
    if arguments[1:3] == ["translate", "train"]:
        more += ["--model-args", "embedding_dim=8", "hidden_size=8"]
    if "--minutes" in arguments:
        more += ["--minutes", "0.25"]
    if "--folds" in arguments:
        more += ["--folds", "2"]
    return [*arguments, *more]


ALONE = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
"""The environment of a process of its own."""
OF_THEIR_OWN = {"serve", "processes", "billion-documents"}
"""Pages whose commands need several processes; they have tests of their own."""
WRITTEN = {
    "own-csv": ["labelled.csv", "doubtful.csv", "runs/articles", "reviews-classifier"],
    "several-labels": ["runs/topics", "runs/separated", "runs/columns", "runs/marks"],
    "vectors": ["words.vec", "runs/vectors"],
    "ensembles": ["runs/together", "runs/bagged", "runs/boosted"],
    "interrupted": ["runs/long/metrics.json", "runs/again"],
    "gpu": ["runs/gpu"],
    "large-text": ["runs/smaller"],
    "calibrate": ["reliability.png", "wrong.csv", "page.html"],
    "compare": ["runs/compare/reviews/comparison.json", "runs/advice/reviews/advice.json"],
    "export": ["exported/predict.py", "small/model.onnx", "fasttext-model/model.bin"],
    "stories": ["story.html", "runs/babi-1"],
    "translation": ["runs/de-en"],
}
"""What is there after the commands of a page."""


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(WRITTEN))
def test_the_commands_of_a_page_run(page, files, tmp_path, monkeypatch):
    if page == "export" and not CAN_EXPORT:
        pytest.skip("needs torch 2.13")
    if page == "vectors":
        pytest.importorskip("gensim")
    if page == "compare":
        pytest.importorskip("sklearn")
    folder = tmp_path / "reader"
    shutil.copytree(files, folder)
    monkeypatch.chdir(folder)
    if page == "own-csv":  # which trains it
        shutil.rmtree("runs/reviews")
    if page == "interrupted":
        interrupt(lines("how-to/interrupted")[0][1:-1])  # less --resume
    printed = []
    for line in lines(f"how-to/{page}"):
        if line[0] == "python":
            command = [sys.executable, *line[1:]]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            printed.append(done.stdout)
        else:
            assert line[0] == "dlnotes", line
            printed.append(run(quick(line)))
    for snippet in fenced("python", read(f"how-to/{page}")):
        exec(compile(snippet, page, "exec"), {})
    assert all(Path(name).exists() for name in WRITTEN[page])
    for shown in fenced("text", read(f"how-to/{page}")):
        if '"top"' in shown and "..." not in shown:
            keys = list(json.loads(shown))
            assert any(list(json.loads(text)) == keys for text in printed if text.startswith("{"))


def test_every_page_of_commands_is_tested():
    with_commands = {page for page in HOW_TO if lines(f"how-to/{page}")}
    assert with_commands == {*WRITTEN, *OF_THEIR_OWN}


def interrupt(arguments):
    """Train in a process of its own, and press Ctrl-C after the first epoch."""
    command = [sys.executable, "-m", "dlnotes", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ALONE) as program:
        for told in program.stderr:
            if told.startswith("epoch   1"):
                program.send_signal(signal.SIGINT)
                break
        rest = program.stderr.read()
    assert program.returncode == 130
    assert "Stopped and saved. Go on with:" in rest
    assert "--resume" in rest


def torchrun(folder, arguments):
    """Start what follows torchrun, with a `dlnotes` on the path."""
    program = folder / "bin" / "dlnotes"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m dlnotes "$@"\n')
    program.chmod(0o755)
    environment = {**ALONE, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "torch.distributed.run", *arguments, "--epochs", "2"]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_several_processes_train_on_one_machine_and_on_two(files, tmp_path):
    """The second machine is this one, too."""
    folder = tmp_path / "reader"
    shutil.copytree(files, folder)
    one, two = lines("how-to/processes")
    assert one[0] == two[0] == "torchrun"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        here = f"127.0.0.1:{free.getsockname()[1]}"
    two = [a.replace("HOST:29400", here).replace("/shared", "shared") for a in two[1:]]
    for programs in ([torchrun(folder, one[1:])], [torchrun(folder, two) for _ in range(2)]):
        for program in programs:
            _, told = program.communicate(timeout=120)
            assert program.returncode == 0, told
    for out in ("runs/two", "shared/run"):
        record = json.loads((folder / out / "metrics.json").read_text())
        assert record["dev"]["accuracy"] > 0


def test_the_command_for_a_billion_documents_is_understood(tmp_path, monkeypatch):
    """Its torchrun apart, which needs a hundred machines."""
    monkeypatch.chdir(tmp_path)
    frame = pl.DataFrame(reviews(60, seed=1), schema=["text", "label"], orient="row")
    frame.write_parquet("corpus.parquet")
    (line,) = lines("how-to/billion-documents")
    assert line[:2] == ["OMP_NUM_THREADS=2", "torchrun"]
    printed = run([*line[line.index("dlnotes") :], "--min-freq", "1", "--dry-run"])
    assert "batch_size: 6400" in printed


@pytest.mark.slow
def test_a_classifier_is_served(files, monkeypatch):
    for package in ("fastapi", "uvicorn", "httptools", "prometheus_client"):
        pytest.importorskip(package)
    monkeypatch.chdir(files)
    first, asked, second = lines("how-to/serve")
    assert [first[0], asked[0], second[0]] == ["dlnotes", "curl", "dlnotes"]
    for line in (first, second):
        port = line.index("--port") if "--port" in line else len(line)
        command = [sys.executable, "-m", *line[:port], *line[port + 2 :], "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ALONE) as program:
            try:
                told = next(told for told in program.stdout if "http://" in told)
                at = re.search(r"http://[\w.]+:(\d+)", told)
                where = f"http://127.0.0.1:{at[1]}"
                body = asked[asked.index("-d") + 1].encode()
                header = dict([asked[asked.index("-H") + 1].split(": ")])
                request = Request(f"{where}{urlsplit(asked[-1]).path}", body, header)
                with urlopen(request, timeout=30) as answer:
                    assert json.load(answer)["label"] in ("good", "bad")
                for kind, path in re.findall(
                    r"^\| `(GET) (/\w+(?:\.\w+)?)`", read("how-to/serve"), re.M
                ):
                    with urlopen(f"{where}{path}", timeout=30) as answer:
                        assert answer.status == 200, (kind, path)
            finally:
                program.terminate()
                program.communicate(timeout=30)


@pytest.mark.parametrize("page", ["own-rule", "own-activation", "own-model"])
def test_the_cells_of_a_page_run(page, capsys, monkeypatch):
    without = NotImplementedError("not compiled, to be quick")
    monkeypatch.setattr("dlnotes.optim._native.load", lambda: without)
    for known in (MODELS, OPTIMIZERS):
        for name in [*known]:
            monkeypatch.setitem(known, name, known[name])
    namespace = {}
    for cell in fenced(r"\{code-cell\} python", read(f"how-to/{page}")):
        exec(compile(cell, page, "exec"), namespace)
    MODELS.pop("two-pools", None)
    OPTIMIZERS.pop("signed-momentum", None)
    printed = capsys.readouterr().out
    for expected in EXPECTED[page]:
        assert expected in printed


EXPECTED = {
    "own-rule": ["[1.0, -2.0, 0.5]", "C loop", "Careless fails 'finite'", "['good']"],
    "own-activation": ["True\nTrue\nFalse\n", "sharpness must be a finite number"],
    "own-model": ["['good']\nTrue\n1.0\n"],
}
"""What the text of the page relies on."""


def options_of(words):
    return {
        option
        for written, _ in help_of(words).options
        for option in re.findall(r"(?<!\w)--?[a-z][\w-]*", written)
    }


def test_every_option_that_a_page_names_exists():
    every = {name for name in commands.COMMANDS if name != "translate"}
    every |= {f"translate {part}" for part in ("train", "translate", "score")}
    known = set().union(*map(options_of, every))
    known |= {"--version", "--help", "--max-restarts"}  # the last is torchrun's
    for page in HOW_TO:
        prose = re.sub(r"^```.*?^```$", "", read(f"how-to/{page}"), flags=re.S | re.M)
        named = {
            o
            for code in re.findall(r"`([^`]+)`", prose)
            for o in re.findall(r"--[a-z][\w-]*", code)
        }
        assert named - {"--folder"} <= known, page


def test_every_extra_and_every_file_that_a_page_names_exists():
    project = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]
    extras = re.findall(r"^(\w+) = \[", project.partition("\n[")[0], re.M)
    pages = [f"how-to/{page}" for page in HOW_TO] + ["project/design", "project/contributing"]
    for page in pages:
        for extra in re.findall(r"pip install '\.\[(\w+)\]'", read(page)):
            assert extra in extras, page
        for path in re.findall(r"(?:^|[` ])((?:src|scripts|tests|docs)/[\w./-]+\w)", read(page)):
            assert (ROOT / path).exists(), (page, path)


def test_the_reference_has_every_public_name():
    for package in ("optim", "activations", "models", "nn", "oracles"):
        module = importlib.import_module(f"dlnotes.{package}")
        text = read(f"reference/{package}")
        named = re.findall(rf"^\.\. auto\w+:: dlnotes\.{package}\.(?:\w+\.)?(\w+)$", text, re.M)
        assert {*module.__all__} <= {*named}
    assert "dlnotes.TextClassifier" in read("reference/classifier")
    assert dlnotes.__all__ == ["TextClassifier"]


def test_the_reference_has_every_command():
    pages = "".join(
        map(read, ("reference/commands", "reference/commands-use", "reference/commands-check"))
    )
    named = re.findall(r"^```\{command\} (.*)$", pages, re.M)
    assert named == re.findall(r"^## (.*)$", pages, re.M)
    assert len(named) == len({*named})
    assert {name.split()[0] for name in named} == set(commands.COMMANDS)
    parts = {name.split()[1] for name in named if name.startswith("translate ")}
    assert parts == set(commands.load("translate"))


def test_a_page_says_what_the_help_says():
    found = help_of("runs")
    assert found.about[0].startswith("List the runs below a folder")
    told = dict(found.options)
    assert told["PATH …"].endswith("or run folders to compare. (default: runs)")
    assert told["--json PATH"] == "Also write what is listed to this file, with all settings."
    text = as_markdown("runs", found)
    assert "```{program} dlnotes runs\n```" in text
    assert "```{option} --sort STR\nname, model, corpus, parent, dev\\_accuracy," in text
    assert "--help" not in text
    every = dict(help_of("train").options)
    assert len(every) > 50
    assert all(every.values())


def test_the_changelog_and_the_citation_are_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == dlnotes.__version__
    assert cited["authors"] == [{"name": "the dlnotes authors"}]
    sections = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert sections[0].startswith("Unreleased")
