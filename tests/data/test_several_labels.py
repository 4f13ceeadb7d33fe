"""Several labels per text: in every format and from Python, and what is wrong with them."""

import gzip
import json
import warnings

import numpy as np
import polars as pl
import pytest

from dlnotes.data.columns import Targets, as_targets, load_columns
from dlnotes.data.corpora import label_separator, load
from dlnotes.data.dataset import load_dataset
from dlnotes.data.readers import named_labels, read
from dlnotes.data.reading import Reading
from dlnotes.data.tokenized import tokenize
from dlnotes.data.writing_systems import choose_tokenizer
from dlnotes.errors import UserError

DOCUMENTS = [(["a", "b"], "x y"), ([], "z"), (["b"], "x"), (["c", "a"], "w, x"), (["a"], "y")] * 3


def jsonl(documents=DOCUMENTS):
    return "".join(json.dumps({"label": y, "text": x}) + "\n" for y, x in documents)


def separated(between, field, quote=""):
    rows = [(between.join(y), x) for y, x in DOCUMENTS]
    return "".join(f"{quote}{y}{quote}{field}{quote}{x}{quote}\n" for y, x in rows)


def columns(field, yes="1", no="0", quote='"'):
    bits = [[yes if name in y else no for name in "abc"] for y, _ in DOCUMENTS]
    rows = [
        field.join([f"{quote}{x}{quote}", *b]) for b, (_, x) in zip(bits, DOCUMENTS, strict=True)
    ]
    return "\n".join([field.join(["text", "a", "b", "c"]), *rows])


def objects(**spelling):
    bits = [{name: spelling["yes" if name in y else "no"] for name in "abc"} for y, _ in DOCUMENTS]
    return [json.dumps({**b, "text": x}) for b, (_, x) in zip(bits, DOCUMENTS, strict=True)]


def parquet(path, **frame):
    pl.DataFrame({**frame, "text": [x for _, x in DOCUMENTS]}).write_parquet(path)


LABELS = [y for y, _ in DOCUMENTS]
FILES = {
    "list.jsonl": (jsonl(), {}),
    "list.json": (json.dumps([{"label": y, "text": x} for y, x in DOCUMENTS]), {}),
    "packed.jsonl.gz": (gzip.compress(jsonl().encode()), {}),
    "marks.txt": ("".join(" ".join([*(f"__label__{y}" for y in ys), x]) + "\n" for ys, x in DOCUMENTS), {}),
    "list.parquet": (lambda path: parquet(path, label=LABELS), {}),
    "separator.parquet": (lambda path: parquet(path, label=["|".join(y) or None for y in LABELS]), {"label_separator": "|"}),
    "separator.csv": ("label,text\n" + separated("|", ",", '"'), {"label_separator": "|"}),
    "named.csv": ("label,text\n" + separated("|", ",", '"'), {"label_separator": "pipe"}),
    "comma.csv": ("label,text\n" + separated(", ", ",", '"'), {"label_separator": ","}),
    "long.csv": (separated(" and ", ";"), {"label_separator": "and", "header": "no"}),
    "semicolons.csv": (separated("|", ";"), {"label_separator": "|", "header": "no"}),
    "separator.tsv": (separated("|", "\t"), {"label_separator": "|"}),
    "header.tsv": ("label\ttext\n" + separated(";;", "\t"), {"label_separator": ";;"}),
    "separator.jsonl": (jsonl([("|".join(y), x) for y, x in DOCUMENTS]), {"label_separator": "|"}),
    "blank.tsv": (separated("  ", "\t"), {"label_separator": " "}),
    "columns.csv": (columns(","), {"label_column": "a,b,c"}),
    "numbers.csv": (columns(","), {"label_column": "3, 1,2", "header": "yes", "text_column": "0"}),
    "floats.tsv": (columns("\t", "1.0", "0.00", quote=""), {"label_column": "c, a, b"}),
    "truth.csv": (columns(",", "TRUE", "False"), {"label_column": "a,b,c"}),
    "words.csv": (columns(",", "Yes", " no"), {"label_column": "a,b,c"}),
    "columns.jsonl": ("\n".join(objects(yes=1, no=0)), {"label_column": "a,b,c"}),
    "mixed.jsonl": ("\n".join(objects(yes=True, no="0")), {"label_column": "a,b,c"}),
    "floats.jsonl": ("\n".join(objects(yes=1.0, no=0.0)), {"label_column": "a,b,c"}),
    "columns.parquet": (
        lambda path: parquet(path, **{n: [n in y for y in LABELS] for n in "abc"}),
        {"label_column": "a,b,c"},
    ),
    "floats.parquet": (
        lambda path: parquet(path, **{n: [float(n in y) for y in LABELS] for n in "abc"}),
        {"label_column": "a,b,c"},
    ),
}  # fmt: skip


def put(path, content):
    if callable(content):
        content(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def names(texts):
    return [{texts.label_names[k] for k in texts.labels.of(i)} for i in range(len(texts))]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("block_bytes", [1 << 26, 40], ids=["whole", "blocks"])
def test_every_format_gives_the_same_sets(tmp_path, name, block_bytes):
    content, options = FILES[name]
    path = put(tmp_path / name, content)
    texts = tokenize(path, block_bytes=block_bytes, **options)
    assert names(texts) == [set(y) for y in LABELS]
    assert len(texts) == len(DOCUMENTS)
    assert texts.label_names == ["a", "b", "c"]
    words = [
        " ".join(texts.types.gather(texts.tokens[slice(*texts.offsets[i : i + 2])]))
        for i in range(4)
    ]
    assert words == ["x y", "z", "x", "w , x"]


@pytest.mark.parametrize("name", ["list.jsonl", "marks.txt", "separator.csv", "columns.csv", "list.parquet"])  # fmt: skip
def test_the_cache_holds_sets(tmp_path, name):
    content, options = FILES[name]
    path = put(tmp_path / name, content)
    cache = tmp_path / "cache"
    first = tokenize(path, cache_dir=cache, **options)
    entries = list(cache.iterdir())
    path.touch()
    again = tokenize(path, cache_dir=cache, **options)
    assert list(cache.iterdir()) == entries
    assert len(entries) == 1
    assert names(again) == names(first) == [set(y) for y in LABELS]
    assert again.lines.tolist() == first.lines.tolist()
    assert again.labels.classes == 3


def test_the_cache_does_not_mistake_one_way_of_reading_for_another(tmp_path):
    path = put(tmp_path / "a.tsv", "a|b\tx\nb\ty\n")
    found = [
        tokenize(path, cache_dir=tmp_path / "cache", **options).label_names
        for options in ({}, {"label_separator": "|"}, {"label_separator": "b"}, {})
    ]
    assert found == [["a|b", "b"], ["a", "b"], ["a|"], ["a|b", "b"]]
    marked = put(tmp_path / "a.txt", "__label__a x\n__label__b y\nz\n")
    for _ in range(2):
        bare = tokenize(marked, cache_dir=tmp_path / "cache", multi_label=True)
        assert names(bare) == [{"a"}, {"b"}, set()]
        with pytest.raises(
            UserError, match=r"a\.txt:3: the line does not begin with __label__NAME"
        ):
            tokenize(marked, cache_dir=tmp_path / "cache")


def test_a_label_that_is_given_twice_counts_once_and_blanks_are_stripped(tmp_path):
    path = put(tmp_path / "a.tsv", " a | b|a||\tx\n | \ty\nb\tz\n")
    assert names(tokenize(path, label_separator="|")) == [{"a", "b"}, set(), {"b"}]
    path = put(
        tmp_path / "a.jsonl", jsonl([([" a", "a ", "b"], "x"), ("b", "y"), ([1, 2.50, True], "z")])
    )
    assert names(tokenize(path)) == [{"a", "b"}, {"b"}, {"1", "2.5", "true"}]


def test_a_file_of_lists_and_single_labels(tmp_path):
    """In whatever order, and in whatever blocks."""
    rows = [
        ("a", "x"),
        (["b", "a"], "y"),
        ("a", "\ud83d\ude00"),
        ([], "z"),
        ("1.0", "u"),
        ([1.0], "v"),
    ]
    for order in (rows, rows[::-1], rows * 20):
        path = put(tmp_path / "a.jsonl", jsonl(order))
        expected = [{y} if isinstance(y, str) else {str(each) for each in y} for y, _ in order]
        for block_bytes in (1 << 26, 50):
            assert names(tokenize(path, block_bytes=block_bytes)) == expected


WRONG = {
    "null in a list": ("a.jsonl", jsonl([(["a"], "x"), (["a", None], "y")]), {}, r"a\.jsonl:2: 'label' holds null at position 1"),
    "null for a list": ("a.jsonl", jsonl([(["a"], "x"), (None, "y")]), {}, r"a\.jsonl:2: the record has no label"),
    "list in a list": ("a.jsonl", jsonl([(["a"], "x"), ([["a"]], "y")]), {}, r"a\.jsonl:2: 'label' holds \['a'\]"),
    "empty in a list": ("a.jsonl", jsonl([(["a"], "x"), (["a", " "], "y")]), {}, r"a\.jsonl:2: a label is empty"),
    "list for a text": ("a.jsonl", jsonl([(["a"], ["x"])]), {}, r"a\.jsonl:1: 'text' holds \['x'\]"),
    "parquet null": ("a.parquet", lambda p: parquet(p, label=[*LABELS[:14], ["a", None]]), {}, r"a\.parquet:15: 'label' holds a null"),
    "parquet nan": ("a.parquet", lambda p: parquet(p, label=[[1.0]] * 14 + [[float("nan")]]), {}, r"a\.parquet:15: 'label' holds a null"),
    "parquet none": ("a.parquet", lambda p: parquet(p, label=[*LABELS[:14], None]), {}, r"a\.parquet:15: the record has no label"),
    "parquet nested": ("a.parquet", lambda p: parquet(p, label=[[["a"]]] * 15), {}, r"a\.parquet: column 'label' is of type List"),
    "not a bit": ("a.csv", columns(",").replace("1", "2", 1), {"label_column": "a,b,c"}, r"a\.csv:2: the label's column 'a' holds '2'; .* 1 .* 0 "),
    "minus one": ("a.csv", columns(",") + "\nx,0,-1,0", {"label_column": "a,b,c"}, r"a\.csv:17: the label's column 'b' holds '-1'"),
    "no bit": ("a.csv", columns(",") + "\nx,0,,0", {"label_column": "a,b,c"}, r"a\.csv:17: the label's column 'b' holds ''"),
    "null bit": ("a.jsonl", '{"a": 1, "b": null, "text": "x"}', {"label_column": "a,b"}, r"a\.jsonl:1: the label's column 'b' holds ''"),
    "no column": ("a.csv", columns(","), {"label_column": "a,d"}, r"a\.csv: no label column 'd'; the file has: text, a, b, c"),
    "no key": ("a.jsonl", '{"a": 1, "text": "x"}', {"label_column": "a,d"}, r"a\.jsonl:1: no label column 'd'"),
    "twice": ("a.csv", columns(","), {"label_column": "a,b,a"}, "--label-column a,b,a names a column twice"),
    "text": ("a.csv", columns(","), {"label_column": "a,text"}, "the label and the text are both column 'text'"),
    "both": ("a.csv", columns(","), {"label_column": "a,b", "label_separator": "|"}, "give either them or --label-separator"),
    "long": ("a.tsv", f"a|{'b' * 1001}\tx\n", {"label_separator": "|"}, r"a\.tsv:1: the label has more than 1,000"),
    "empty separator": ("a.tsv", "a\tx\n", {"label_separator": ""}, "label_separator must be one or more characters, .*, not ''"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_with_its_place(tmp_path, case):
    name, content, options, message = WRONG[case]
    path = put(tmp_path / name, content)
    with pytest.raises(UserError, match=message):
        list(read(path, **options))


def test_a_column_whose_name_has_a_comma(tmp_path):
    rows = "yes,x\nno,y\n"
    path = put(tmp_path / "a.csv", '"a,b",text\n' + rows)
    for name in ("a,b", '"a,b"'):
        assert pl.concat(list(read(path, label_column=name)))["label"].to_list() == ["yes", "no"]
    path = put(tmp_path / "b.csv", '"a,b",c,text\n1,0,x\n1,1,y\n')
    assert names(tokenize(path, label_column='"a,b",c')) == [{"a,b"}, {"a,b", "c"}]
    path = put(tmp_path / "a.jsonl", '{"a,b": "yes", "text": "x"}\n')
    assert pl.concat(list(read(path, label_column="a,b")))["label"].to_list() == ["yes"]


# --- data sets ----------------------------------------------------------------------------------


def loaded(tmp_path, train, dev=None, test=None, suffix=".txt", **options):
    given = {"train": train, "dev": dev, "test": test}
    sources = {
        split: put(tmp_path / f"{split}{suffix}", content)
        for split, content in given.items()
        if content is not None
    }
    return load_dataset(sources, **options)


SEVERAL = "__label__a __label__b x\n__label__b y\nz\n" * 4
SINGLE = "__label__a x\n__label__b y\n" * 4


def test_dev_and_test_follow_the_training_data(tmp_path):
    data = loaded(tmp_path, SEVERAL, "__label__a u\n__label__b v\n", "w\n__label__a\n")
    assert data.multi_label
    assert data.dev.labels.dense().tolist() == [[True, False], [False, True]]
    assert data.read_test().labels.dense().tolist() == [[False, False], [True, False]]
    assert data.described["multi_label"] is None


@pytest.mark.parametrize("split", ["dev", "test"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "__label__a x\n__label__a __label__b y\n",
            r":2: the text has 2 labels \(a, b\); each must",
        ),
        ("__label__a x\ny\n", r":2: the line does not begin with __label__NAME"),
        ("__label__a __label__b x\ny\n", r":1: the text has 2 labels"),
    ],
)
def test_several_labels_of_dev_or_test_alone_are_refused(tmp_path, split, content, message):
    with pytest.raises(UserError, match=rf"{split}\.txt{message}"):
        loaded(tmp_path, SINGLE, **{split: content}).read_test()


def test_multi_label_says_what_the_training_documents_do_not_show(tmp_path):
    data = loaded(tmp_path, SINGLE, "__label__a __label__b x\nz\n", multi_label=True)
    assert data.train.labels.dense().tolist() == [[True, False], [False, True]] * 4
    assert data.dev.labels.sizes.tolist() == [2, 0]
    assert not loaded(tmp_path, SINGLE, multi_label=False).multi_label
    ones = jsonl([([y], x) for y, x in [("a", "x"), ("b", "y")] * 4])
    assert loaded(tmp_path, ones, suffix=".jsonl").multi_label
    assert not loaded(tmp_path, ones, suffix=".jsonl", multi_label=False).multi_label
    with pytest.raises(
        UserError, match=r":1: the text has 2 labels \(a, b\); .* multi_label is False"
    ):
        loaded(tmp_path, SEVERAL, multi_label=False)


def test_a_tokenizer_is_chosen_for_texts_without_labels(tmp_path):
    train = "__label__a 天气很好\n没有标签\n__label__b 我们\n" * 4
    path = put(tmp_path / "train.txt", train)
    assert choose_tokenizer(path, Reading(multi_label=True)).tokenizer == "characters"
    data = load_dataset({"train": path, "dev": path}, multi_label=True)
    assert (data.train.labels.sizes == 0).sum() == 4
    with pytest.raises(UserError, match=r":2: .* no line has several labels .* --multi-label"):
        load_dataset({"train": path, "dev": path})


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_column_that_no_text_has_is_a_label(tmp_path, kind):
    frame = pl.DataFrame({"text": ["x", "y"] * 4, "b": [1, 0] * 4, "never": [0] * 8})
    path, test = tmp_path / f"train.{kind}", tmp_path / f"test.{kind}"
    for each, out in ((frame, path), (frame.with_columns(never=1), test)):
        getattr(each, {"csv": "write_csv", "jsonl": "write_ndjson"}.get(kind, "write_parquet"))(out)
    data = load_dataset({"train": path, "test": test}, label_column="b,never")
    assert data.label_names == ["b", "never"]
    assert (data.train.labels.counts() > 0).tolist() == [True, False]
    assert data.read_test().labels.counts().tolist() == [4, 8]
    assert named_labels(path, Reading(label_column="never,b")) == ["never", "b"]
    assert named_labels(path, Reading(label_column="b")) == []
    assert named_labels([("a", "x")], Reading(label_column="b,never")) == []


def test_one_column_of_bits_is_no_set_of_labels(tmp_path):
    content = "food,text\n" + "1,x\n0,y\n" * 4
    assert loaded(tmp_path, content, suffix=".csv", label_column="food").label_names == ["0", "1"]
    with pytest.raises(UserError, match="a column of 0 and 1 would be a single label"):
        loaded(tmp_path, content, suffix=".csv", label_column="food", multi_label=True)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("__label__a __label__d", r"test\.txt:2: label 'd' does not occur in the training data, which has: a, b"),
        ("__label__a __label__A", r"test\.txt:2: label 'A' does not occur"),
    ],
)  # fmt: skip
def test_a_label_that_training_does_not_know(tmp_path, label, message):
    data = loaded(tmp_path, SEVERAL, test=f"__label__b x\n{label} y\n")
    with pytest.raises(UserError, match=message):
        data.read_test()


def test_the_dev_split_is_cut_and_texts_without_labels_are_divided():
    pairs = [(list({"ab"[i % 2], "abc"[i % 3]}) * (i % 5 > 0), f"word{i}") for i in range(300)]
    data = load_dataset({"train": pairs}, split_seed=2)
    again = load_dataset({"train": pairs}, split_seed=2)
    assert [data.dev.text(i) for i in range(len(data.dev))] == [again.dev.text(i) for i in range(len(again.dev))]  # fmt: skip
    assert len(data.train) + len(data.dev) == 300
    assert abs(len(data.dev) - 30) <= 3
    assert (data.dev.labels.sizes == 0).sum() == 6
    total = data.train.labels.counts() + data.dev.labels.counts()
    assert np.abs(data.dev.labels.counts() - total / 10).max() <= 1.5
    whole = data.with_dev_in_train()
    assert whole.train.labels.counts().tolist() == total.tolist()
    assert (whole.dev.labels.dense() == data.dev.labels.dense()).all()


def test_too_few_documents_and_labels():
    with pytest.raises(UserError, match="no text has a label; a classifier needs at least two"):
        load_dataset({"train": [([], "x"), ([], "y")]})
    with pytest.raises(UserError, match="only one class, 'a'; a classifier needs"):
        load_dataset({"train": [(["a"], "x"), ([], "y")]})
    with pytest.raises(UserError, match="too few to cut a dev split"):
        load_dataset({"train": [(["a"], "x"), (["b"], "y")]})


def test_equal_texts_with_different_sets_are_found():
    train = [(["a", "b"], "x"), (["b", "a"], "x"), (["a"], "y"), ([], "y"), (["c"], "z")]
    found = load_dataset(
        {"train": train, "dev": [("c", "z"), (["a"], "x"), ("b", "v")]}
    ).duplicates()
    assert found.contradictory == 2
    assert found.shared == {"dev": 2}
    table = found.table()
    assert table["label"].to_list() == ["a, b", "a, b", "a", "a", "", "c", "c"]
    assert table["problem"].to_list()[-1] == "several splits"


WARNINGS = {
    "composed": ([("a|b", "x"), ("a", "y"), ("b", "z")], {}, r"the label 'a\|b' is a class of its own: .* --label-separator '\|'"),
    "composed of three": ([("a, b", "x"), ("a", "y"), ("b", "z")], {}, "--label-separator ','"),
    "needless": ([("a", "x"), ("b", "y")], {"label_separator": "|"}, r"no text has several labels with '\|' between"),
    "lists of Python": ([("['a', 'b']", "x"), ("['a']", "y"), ("[]", "z")], {}, r"the label \"\['a', 'b'\]\" is a class of its own: it looks like a list"),
    "lists of numbers": ([("[1, 2]", "x"), ("[1]", "y")], {}, r"the label '\[1, 2\]' is a class of its own"),
    "lists in parts": ([("['a', 'b']", "x"), ("[]", "y")], {"label_separator": ","}, r"looks like a list"),
    "spellings": ([(["a", "A"], "x"), ("b", "y")], {}, "the labels 'A' and 'a' are two classes"),
    "as many labels as texts": ([([f"l{i}"], "x y") for i in range(20)], {}, "20 classes for 20 documents"),
}  # fmt: skip


@pytest.mark.parametrize("case", WARNINGS)
def test_what_may_be_a_mistake_is_told(case):
    pairs, options, message = WARNINGS[case]
    with pytest.warns(UserWarning, match=message):
        load_dataset({"train": pairs, "dev": pairs[:1]}, **options)


def test_nothing_is_told_where_nothing_is_wrong():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_dataset({"train": DOCUMENTS, "dev": DOCUMENTS})
        load_dataset({"train": [("a|b", "x"), ("a", "y"), ("c", "z")] * 3, "dev": [("c", "x")]})
        load_dataset({"train": [("[other]", "x"), ("[1]", "y"), ("(c)", "z")] * 3, "dev": [("(c)", "x")]})  # fmt: skip
        many = [([f"l{i}", f"l{i + 1}", f"l{i % 9}"], "x") for i in range(20)]
        load_dataset({"train": many, "dev": many})


def test_a_first_line_with_unknown_names_of_columns_is_told(tmp_path):
    rows = "a|b\tx\nb\ty\na\tz\n" * 4
    with pytest.warns(UserWarning, match=r"train\.tsv:1: the label 'topics' occurs nowhere else"):
        loaded(tmp_path, "topics\tbody\n" + rows, suffix=".tsv", label_separator="|", dev=rows)


def test_the_fingerprint_of_texts_knows_sets_and_is_that_of_the_test_split():
    test = [(["a", "b"], "x"), ([], "y")]
    data = load_dataset({"train": DOCUMENTS, "dev": DOCUMENTS, "test": test})
    data.read_test()
    assert data.fingerprints["test"] == data.test_fingerprint()
    others = [
        [("ab", "x"), ([], "y")],
        [(["a"], "x"), (["b"], "y")],
        [(["a", "b"], "x"), (["y"], "")],
    ]
    assert len({tokenize(each).fingerprint for each in [test, *others]}) == 4
    frame = pl.DataFrame({"label": ["a|b", "b"] * 4, "text": list("xyzuvwxy")})
    data = load_dataset({"train": frame, "dev": frame, "test": frame}, label_separator="|")
    data.read_test()
    assert data.multi_label
    assert data.fingerprints["test"] == data.test_fingerprint()


# --- Python's objects ---------------------------------------------------------------------------

NAMES = [["a", "b"], [], ["c"], ["a"]]
BITS = [[1, 1, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0]]


class Sparse:
    """Like a matrix of SciPy."""

    indices = np.array([1, 0, 2, 0])
    indptr = np.array([0, 2, 2, 3, 4])
    data = np.ones(4)
    shape = (4, 3)

    def tocsr(self):
        return self

    def eliminate_zeros(self):
        pass


NUMBERS = [[0, 1], [], [2], [0]]
FORMS = {
    "lists": (NAMES, NAMES, list("abc")),
    "tuples": ([tuple(y) for y in NAMES], NAMES, list("abc")),
    "sets": (map(set, NAMES), NAMES, list("abc")),
    "a column of lists": (pl.Series(NAMES), NAMES, list("abc")),
    "objects": (np.array([*NAMES, None], object)[:4], NAMES, list("abc")),
    "numbers": ([[7, 3], [], [5], [3]], [[3, 7], [], [5], [3]], [3, 5, 7]),
    "NumPy's numbers": ([np.array([7, 3]), [], [5], [3]], [[3, 7], [], [5], [3]], [3, 5, 7]),
    "single ones among them": ([["b", "a"], [], "c", "a"], NAMES, list("abc")),
    "matrix": (np.array(BITS), NUMBERS, [0, 1, 2]),
    "matrix of bools": (np.array(BITS, bool), NUMBERS, [0, 1, 2]),
    "matrix of floats": (np.array(BITS, float), NUMBERS, [0, 1, 2]),
    "rows": (BITS, NUMBERS, [0, 1, 2]),
    "sparse": (Sparse(), NUMBERS, [0, 1, 2]),
    "frame": (pl.DataFrame(BITS, ["z", "y", "x"], orient="row"), [["z", "y"], [], ["x"], ["z"]], ["z", "y", "x"]),
}  # fmt: skip


def test_a_sparse_matrix_stays_as_it_is_and_its_zeros_are_no_labels():
    class Explicit(Sparse):
        data = np.array([1, 0, 1, 0])

        def eliminate_zeros(self):
            raise AssertionError("it is changed")

    assert as_targets(Explicit()).sets == [[1], [], [2], []]


@pytest.mark.parametrize("form", FORMS)
def test_targets_in_the_forms_that_people_have(form):
    given, expected, classes = FORMS[form]
    found = as_targets(given)
    assert isinstance(found, Targets)
    assert found.sets == expected
    assert found.classes == classes


@pytest.mark.parametrize(
    "given", [["a", "b"], [["a"], ["b"]], np.array([["a"], ["b"]]), iter("ab")]
)
def test_one_label_for_each_text_is_no_set(given):
    assert as_targets(given) == ["a", "b"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([["a"], ["b", None]], r"labels\[1\]\[1\] is None: every label must be"),
        ([["a"], ["b", " "]], r"labels\[1\]\[1\] is ' ': every label must be"),
        ([["a"], ["b", 1]], r"labels\[1\]\[1\] is 1, but labels\[0\]\[0\] is 'a'"),
        ([["a"], ["b", 1.5]], r"labels\[1\]\[1\] is 1.5: every label .*not a continuous one"),
        ([{"a"}, {None}], r"labels\[1\] is None"),
        ([["a"], [["b"], "c"]], r"labels\[1\]\[0\] is \['b'\]: every label must be"),
        (
            np.array([[1, 2], [0, 1]]),
            r"several that hold 0 and 1, not of shape \(2, 2\) with 2 in it",
        ),
        (np.array([["a", "b"]]), r"not of shape \(1, 2\) with 'a' in it"),
        (np.array([[1, 2], [0, 1]]), r"with 2 in it$"),
        (pl.DataFrame({"x": [1, 0], "y": [5, 1]}), r"with 5 in it; choose from x, y"),
    ],
)
def test_targets_that_cannot_be_used(given, message):
    with pytest.raises(UserError, match=message):
        as_targets(given)


def test_columns_of_python_become_a_data_set():
    texts = [f"word{i} x" for i in range(40)]
    data = load_columns(texts, np.array(BITS * 10), Reading(), dev=(["u", "v"], [[2, 1], []]))
    assert (data.multi_label, data.labels, data.label_names) == (True, [0, 1, 2], ["0", "1", "2"])
    assert data.train.labels.dense().astype(int).tolist() == BITS * 10
    assert data.dev.labels.dense().tolist() == [[False, True, True], [False] * 3]
    data = load_columns(texts, NAMES * 10, Reading(), dev=(["u", "v"], ["c", "a"]))
    assert data.dev.labels.dense().tolist() == [[False, False, True], [True, False, False]]
    data = load_columns(
        texts, ["a", "b"] * 20, Reading(multi_label=True), dev=(["u"], [["b", "a"]])
    )
    assert data.dev.labels.dense().tolist() == [[True, True]]


def test_labels_of_dev_that_do_not_fit():
    texts = list("uvwx")
    with pytest.raises(UserError, match=r"dev labels\[0\] is 'd', which does not occur in labels"):
        load_columns(texts, NAMES, Reading(), dev=(["u"], [["a", "d"]]))
    with pytest.raises(
        UserError, match="dev labels has several labels for a text, but labels has one"
    ):
        load_columns(texts, list("abab"), Reading(), dev=(["u"], [["a", "b"]]))
    with pytest.raises(UserError, match="texts and labels must be equally long, not 4 and 3"):
        load_columns(texts, NAMES[:3], Reading())


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (["a", None], r"record 2: \['a', None\] must be a list of labels"),
        ([["a"]], r"record 2: \[\['a'\]\] must be a list of labels"),
        (np.array([0, 1]), "record 2: the label is an array; several labels must be a list"),
        (["a", "\ud83d"], "record 2: half of a surrogate pair"),
    ],
)
def test_pairs_that_cannot_be_used(label, message):
    with pytest.raises(UserError, match=message):
        list(read([(["a"], "x"), (label, "y")]))


def test_a_corpus_says_what_stands_between_labels(tmp_path):
    folder = tmp_path / "goemotions"
    folder.mkdir()
    for split in ("train", "test"):
        put(folder / f"{split}.tsv", "joy|love\tx\njoy\ty\nlove\tz\n" * 4)
    sources = load("goemotions", data_dir=tmp_path)
    data = load_dataset(sources, label_separator=label_separator("goemotions"))
    assert data.label_names == ["joy", "love"]
    assert label_separator("goemotions-small") == "|"
    assert label_separator("trec") is None
    assert label_separator("mine") is None
