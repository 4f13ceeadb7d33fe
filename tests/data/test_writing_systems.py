"""The tokenizer that is chosen by looking at the texts."""

import polars as pl
import pytest

from dlnotes.data.columns import load_columns
from dlnotes.data.dataset import load_dataset
from dlnotes.data.layout import Layout
from dlnotes.data.reading import Reading
from dlnotes.data.writing_systems import choose_tokenizer

TEXTS = {
    "English": ("the cat sat on the mat.", "basic_english", "sentences"),
    "German": ("Größe ist eine Größe für sich", "basic_english", "sentences"),
    "Chinese": ("我来到北京清华大学", "characters", "sentence_characters"),
    "traditional Chinese": ("我來到臺灣", "characters", "sentence_characters"),
    "Japanese": ("これはテストです。ね", "characters", "sentence_characters"),
    "Thai": ("ฉันไปโรงเรียน", "characters", "sentence_characters"),
    "Lao": ("ຂ້ອຍໄປໂຮງຮຽນ", "characters", "sentence_characters"),
    "Khmer": ("ខ្ញុំទៅសាលា", "characters", "sentence_characters"),
    "Burmese": ("ကျွန်တော်ကျောင်းသွားတယ်", "characters", "sentence_characters"),
    "Korean": ("나는 학교에 갑니다. 좋다", "words", "sentence_words"),
    "Arabic": ("ذهبت إلى المدرسة", "words", "sentence_words"),
    "Hindi": ("मैं स्कूल जाता हूँ।", "words", "sentence_words"),
    "Russian": ("Я иду в школу", "basic_english", "sentences"),
    "half Chinese by words": (
        "我来到北京大学 the old university",
        "characters",
        "sentence_characters",
    ),
    "a Chinese name": (
        "the university of Beijing, 北京, is an old one",
        "basic_english",
        "sentences",
    ),
    "no letters": ("123 !!! 🤷", "basic_english", "sentences"),
    "nothing": ("", "basic_english", "sentences"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_chosen(name):
    text, usual, by_sentence = TEXTS[name]
    pairs = [("a", text), ("b", text)] * 10
    for sentences, expected in ((False, usual), (True, by_sentence)):
        choice = choose_tokenizer(pairs, Layout(), sentences=sentences)
        assert choice.tokenizer == expected
        assert (choice.why == "") == (expected in ("basic_english", "sentences"))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("मैं स्कूल जाता हूँ।", ["मैं", "स्कूल", "जाता", "हूँ", "।"]),
        ("أين المدرسة؟", ["أين", "المدرسة", "؟"]),
        ("یہ اچھا ہے۔", ["یہ", "اچھا", "ہے", "۔"]),
    ],
)
def test_marks_of_scripts_without_capitals_are_no_parts_of_words(text, tokens):
    dataset = load_dataset({"train": [("a", text), ("b", text)] * 10})
    assert dataset.train.text(0).split() == tokens


@pytest.mark.parametrize("sentences", [False, True])
def test_a_data_set_says_what_was_chosen(sentences):
    dataset = load_dataset(
        {"train": [("a", "好吃。真的"), ("b", "不好")] * 10}, sentences=sentences
    )
    expected = "sentence_characters" if sentences else "characters"
    assert dataset.tokenizer == dataset.described["tokenizer"] == expected
    assert dataset.why == "100 % of the letters are of scripts without spaces"
    assert ("</s>" in dataset.train.text(0).split() + dataset.train.text(1).split()) == sentences
    assert load_columns(["好吃", "不好"] * 10, [0, 1] * 10, Reading()).tokenizer == "characters"
    given = load_dataset({"train": [("a", "好吃"), ("b", "不好")] * 10}, tokenizer="basic_english")
    assert (given.tokenizer, given.why) == ("basic_english", "")


def test_all_parts_of_files_are_looked_at(tmp_path):
    """Three files, and the Chinese documents at the end of the last; the same choice each time."""
    for i in range(3):
        rows = ["a\tthe cat sat on the mat\n"] * 3000 + [f"b\t{'我来到北京' * 9}\n"] * (
            3000 * (i == 2)
        )
        (tmp_path / f"{i}.tsv").write_text("".join(rows))
    files = [tmp_path / f"{i}.tsv" for i in range(3)]
    assert choose_tokenizer(files[:2], Layout()).tokenizer == "basic_english"
    chosen = [choose_tokenizer(files, Layout()) for _ in range(2)]
    assert chosen[0] == chosen[1]
    assert chosen[0].tokenizer == "characters"


def test_little_is_read_of_a_large_file(tmp_path, monkeypatch):
    from dlnotes.data import writing_systems

    read = []

    def counting(*given, **how):
        for frame in pl_read(*given, **how):
            read.append(frame.height)
            yield frame

    pl_read = writing_systems.read
    monkeypatch.setattr(writing_systems, "read", counting)
    monkeypatch.setattr(writing_systems, "_BLOCK_BYTES", 1 << 14)
    path = tmp_path / "train.tsv"
    path.write_text("".join(f"a\tsome words of line {i}\n" for i in range(60_000)))
    choose_tokenizer(path, Layout())
    assert len(read) <= writing_systems._BLOCKS
    assert sum(read) < 30_000


def test_iterators_are_not_used_up():
    pairs = [("a", "好"), ("b", "坏")] * 10
    dataset = load_dataset({"train": iter(pairs), "dev": iter(pairs)})
    assert dataset.tokenizer == "characters"
    assert (len(dataset.train), len(dataset.dev)) == (20, 20)
    assert load_dataset({"train": pl.DataFrame(pairs, ["label", "text"], orient="row")}).why
