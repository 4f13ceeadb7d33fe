"""Word vectors from files: each format round-trips, and what is no such file is told."""

import bz2
import gzip
import io
import lzma
import os
import zipfile

import numpy as np
import pytest

import fasttext_vectors as reference
from dlnotes.data.vectors import character_ngrams, read_vectors
from dlnotes.data.vocabulary import Vocabulary
from dlnotes.errors import UserError
from dlnotes.training.pretrained import fingerprint

WORDS = ["the", "goal", "größe", "北京", "chip", ",", "a"]
E = 5
ROWS = np.random.default_rng(0).normal(size=(len(WORDS), E)).astype(np.float32)
VOCABULARY = Vocabulary(["<pad>", "<unk>", "chip", "unseen", "größe", "a", "北京"])


def lines(end="\n"):
    return "".join(
        f"{w} {' '.join(repr(float(v)) for v in row)}{end}"
        for w, row in zip(WORDS, ROWS, strict=True)
    ).encode()


def binary(between=b"\n"):
    records = [w.encode() + b" " + r.tobytes() + between for w, r in zip(WORDS, ROWS, strict=True)]
    return f"{len(WORDS)} {E}\n".encode() + b"".join(records)


HEADER = f"{len(WORDS)} {E}\n".encode()
FORMATS = {
    "glove": lines(),
    "glove, no last line break": lines().rstrip(b"\n"),
    "word2vec text": HEADER + lines(),
    "vec, with its trailing spaces": HEADER + lines(" \n"),
    "dos line breaks": HEADER.replace(b"\n", b"\r\n") + lines("\r\n"),
    "old Mac's line breaks": (HEADER + lines()).replace(b"\n", b"\r"),
    "blank last lines": HEADER + lines() + b"\n \n",
    "a byte order mark": b"\xef\xbb\xbf" + HEADER + lines(),
    "a byte order mark before glove": b"\xef\xbb\xbf" + lines(),
    "tabs": HEADER + lines().replace(b" ", b"\t"),
    "a tab after the word": lines().replace(b" ", b"\t", 1),
    "two blanks": HEADER + lines().replace(b" ", b"  "),
    "blanks before the words": HEADER + b" " + lines().replace(b"\n", b"\n "),
    "words that are not UTF-8": HEADER.replace(b"7", b"8") + b"\xff\xfe 1 2 3 4 5\n" + lines(),
    "a first word with blanks": b"at x@y.org 1 2 3 4 5\n" + lines(),
    "a comment": b"# made by hand\n" + lines(),
    "word2vec binary": binary(),
    "word2vec binary, as gensim writes it": binary(b""),
}


def zipped(content, *names):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name in names or ["glove.txt"]:
            file.writestr(name, content)
    return archive.getvalue()


COMPRESSIONS = [bytes, gzip.compress, bz2.compress, lzma.compress, zipped]


@pytest.mark.parametrize("compress", COMPRESSIONS)
@pytest.mark.parametrize("content", FORMATS.values(), ids=FORMATS)
def test_every_format_gives_the_rows_of_the_vocabulary(tmp_path, content, compress, monkeypatch):
    path = tmp_path / "any-name"
    path.write_bytes(compress(content))
    for head, block in ((256, 7), (300, 64), (1 << 20, 1 << 20)):
        # Words and vectors lie across the blocks.
        monkeypatch.setattr("dlnotes.data.vectors._HEAD_BYTES", head)
        monkeypatch.setattr("dlnotes.data.vectors._BLOCK_BYTES", block)
        read = read_vectors(path, VOCABULARY)
        assert read.ids.tolist() == [2, 4, 5, 6]
        assert read.rows.dtype == np.float32
        np.testing.assert_array_equal(read.rows, ROWS[[4, 2, 6, 3]])


def test_words_with_spaces_and_second_vectors_are_passed_over(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("x 7 7 7\nchip . . 1 2 3\nchip 4 5 6\nchip 8 8 8\na 1 1 1\n")
    read = read_vectors(path, VOCABULARY)
    assert read.ids.tolist() == [2, 5]
    assert read.rows.tolist() == [[4, 5, 6], [1, 1, 1]]


@pytest.mark.parametrize("told", [6, 8])
def test_a_first_line_that_counts_one_too_many_or_too_few_is_told(tmp_path, told):
    """wiki-news-300d-1M-subword.vec has such a line."""
    path = tmp_path / "wiki.vec"
    path.write_bytes(f"{told} {E}\n".encode() + lines() + b"\n")
    with pytest.warns(UserWarning, match=rf"wiki\.vec: the first line says {told} words, but .* 7"):
        assert read_vectors(path, VOCABULARY).ids.tolist() == [2, 4, 5, 6]


def test_more_words_than_the_first_line_says_are_told_in_binary_too(tmp_path):
    path = tmp_path / "words.bin"
    path.write_bytes(binary().replace(b"7", b"6", 1))
    with pytest.warns(
        UserWarning, match=r"the file goes on after the 6 words that its first line gives"
    ):
        assert read_vectors(path, VOCABULARY).ids.tolist() == [2, 4, 6]


@pytest.mark.parametrize("header", [b"", b"3 1\n"])
def test_vectors_of_one_number(tmp_path, header):
    path = tmp_path / "one"
    path.write_bytes(header + b"x 0.5\nchip 1.5\na -1e-2\n")
    assert read_vectors(path, VOCABULARY).rows.tolist() == [[1.5], [np.float32(-1e-2)]]
    path.write_bytes(b"2 1\nchip " + np.float32(1.5).tobytes() + b"\na " + np.float32(2).tobytes())
    assert read_vectors(path, VOCABULARY).rows.tolist() == [[1.5], [2]]


def test_a_vector_of_the_unknown_word_is_taken_and_of_padding_not(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("<pad> 1 2\n<unk> 3 4\nchip 5 6\n")
    assert read_vectors(path, VOCABULARY).ids.tolist() == [1, 2]


@pytest.mark.parametrize(("minn", "maxn"), [(3, 6), (1, 2), (2, 2), (0, 0)])
def test_fasttext_bin_is_the_mean_of_word_and_ngrams(tmp_path, minn, maxn):
    bucket = 50
    matrix = np.random.default_rng(1).normal(size=(len(WORDS) + bucket, E)).astype(np.float32)
    path = tmp_path / "model.bin"
    reference.write_bin(
        path, WORDS, matrix, minn=minn, maxn=maxn, bucket=bucket, labels=["__label__a"]
    )
    read = read_vectors(path, VOCABULARY)
    composed = [3] if maxn else []  # "unseen" is made of its n-grams; <unk> is not a word
    assert read.ids.tolist() == sorted([2, 4, 5, 6, *composed])
    for i, row in zip(read.ids.tolist(), read.rows, strict=True):
        expected = reference.word_vector(VOCABULARY.tokens[i], WORDS, matrix, minn, maxn, bucket)
        np.testing.assert_allclose(row, expected, rtol=1e-6, atol=1e-7)


def test_the_hash_is_fnv1a():
    # Published test vectors of FNV-1a; "<" and ">" enclose the word.
    assert reference.fnv1a("a") == 0xE40C292C
    assert reference.fnv1a("foobar") == 0xBF9CF968
    bucket = 2**40
    grams = character_ngrams("größe".encode(), 3, 4, bucket)
    assert sorted(grams) == sorted(map(reference.fnv1a, reference.ngrams("größe", 3, 4)))


def bin_file(path, **more):
    reference.write_bin(path, WORDS, ROWS, **more)
    return path.read_bytes()


BAD = {
    "empty": (b"", "is empty: it has no word vectors"),
    "prose": (b"once upon a time\nthere was\n", "is not a file of word vectors"),
    "image": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" * 9, "is not a file of word vectors"),
    "words alone": (b"the\ngoal\n", "is not a file of word vectors"),
    "too few numbers": (lines() + b"unseen 1 2\n", r"bad:8: 2 numbers, where others have 5"),
    "no number": (lines() + b"unseen 1 2 3 4 five\n", "bad:8: 'five' is not a number"),
    "not finite": (lines() + b"unseen 1 2 3 4 nan\n", "bad:8: the vector is not finite"),
    "text cut off": (HEADER + lines().split(b",")[0], r"is cut off: it has 5 of 7 words"),
    "binary cut off": (binary()[:-30], r"is cut off.* it has 5 of 7 words"),
    "gzip cut off": (gzip.compress(lines())[:-20], "broken compressed file"),
    "infinite": (lines() + b"unseen 1 2 3 4 1e99\n", "bad:8: the vector is not finite"),
    "too many numbers": (lines() + b"unseen 1 2 3 4 5 6\n", "bad:8: 6 numbers, where others have"),
    "another length": (
        HEADER + b"".join(b"%d 1 2\n" % i for i in range(7)),
        "bad:2: 2 numbers, where the first line says 5",
    ),
    "a decimal comma": (lines().replace(b".", b","), "bad:1: numbers with a decimal comma"),
    "decimal commas and a header": (
        HEADER + lines().replace(b".", b","),
        "bad:2: numbers with a decimal comma",
    ),
    "a decimal comma in one line": (
        lines() + b"unseen 1 2 3,5 4 5\n",
        "bad:8: '3,5' is not a number",
    ),
    "glove cut off": (lines() + b"rare 1 2 3", "bad:8: 3 numbers, where others have 5"),
    "no numbers": (HEADER + b"the\ngoal\n", "bad:2: 0 numbers, where the first line says 5"),
    "no dimension": (b"7 0\n" + b"the\n" * 7, "bad:1: vectors of 0 numbers; allowed: 1 to 16,384"),
    "huge": (b"7 99999999999\n" + lines(), "bad:1: vectors of 99,999,999,999 numbers"),
    "many words": (b"99999999999 5\n" + lines(), "is cut off: it has 7 of 99,999,999,999 words"),
    "many words, binary": (binary().replace(b"7", b"9" * 11, 1), "is cut off.* it has 7 of 99,999"),
    "binary of another length": (binary().replace(b"5", b"6", 1), "is cut off|is damaged"),
    "UTF-16": (lines().decode().encode("utf-16"), "is UTF-16; convert it"),
    "zip of several files": (zipped(lines(), "a", "b"), "has 2 files in it .a, b."),
    "zip cut off": (zipped(lines())[:-20], "broken compressed file"),
    "no word in common": (b"x 1 2\ny 3 4\n", "has none of the vocabulary's 7 words"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_read_is_told(tmp_path, content, message):
    path = tmp_path / "bad"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_vectors(path, VOCABULARY)


def test_bad_fasttext_files_are_told(tmp_path):
    path = tmp_path / "bad"
    whole = bin_file(path)
    read_vectors(path, VOCABULARY)
    size = 4 + 13 * 4 + 8  # where the number of words is told
    many = whole[:size] + b"\xff\xff\xff\x7f" + whole[size + 4 :]
    for content in (whole[:-1], whole[:60], whole[:120], whole[:8], many):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is cut off or damaged"):
            read_vectors(path, VOCABULARY)
    path.write_bytes(gzip.compress(whole))
    with pytest.raises(UserError, match="decompress it first"):
        read_vectors(path, VOCABULARY)
    bin_file(path, quantized=True)
    with pytest.raises(UserError, match="is quantized"):
        read_vectors(path, VOCABULARY)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_vectors(tmp_path / "none", VOCABULARY)
    with pytest.raises(UserError, match="is a folder; give a file"):
        read_vectors(tmp_path, VOCABULARY)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.vec")
    for reader in (lambda path: read_vectors(path, VOCABULARY), fingerprint):
        with pytest.raises(UserError, match="a pipe or a device; save what comes from it into a"):
            reader(tmp_path / "a.vec")
        with pytest.raises(UserError, match=r"is a folder; give a file$"):
            reader(tmp_path)
