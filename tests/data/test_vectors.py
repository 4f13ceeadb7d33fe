"""Word vectors from files: each format round-trips, and what is no such file is told."""

import gzip

import numpy as np
import pytest

import fasttext_vectors as reference
from dlnotes.data.vectors import character_ngrams, read_vectors
from dlnotes.data.vocabulary import Vocabulary
from dlnotes.errors import UserError

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
    "word2vec binary": binary(),
    "word2vec binary, as gensim writes it": binary(b""),
}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("content", FORMATS.values(), ids=FORMATS)
def test_every_format_gives_the_rows_of_the_vocabulary(tmp_path, content, zipped, monkeypatch):
    path = tmp_path / "any-name"
    path.write_bytes(gzip.compress(content) if zipped else content)
    for block in (7, 64, 1 << 20):  # words and vectors lie across the blocks
        monkeypatch.setattr("dlnotes.data.vectors._BLOCK_BYTES", block)
        read = read_vectors(path, VOCABULARY)
        assert read.ids.tolist() == [2, 4, 5, 6]
        assert read.rows.dtype == np.float32
        np.testing.assert_array_equal(read.rows, ROWS[[4, 2, 6, 3]])


def test_words_with_spaces_and_second_vectors_are_passed_over(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("chip . . 1 2 3\nx 7 7 7\nchip 4 5 6\nchip 8 8 8\na 1 1 1\n")
    with pytest.raises(UserError, match="not a file of word vectors"):
        read_vectors(path, VOCABULARY)  # the first line decides how many numbers there are
    path.write_text("x 7 7 7\nchip . . 1 2 3\nchip 4 5 6\nchip 8 8 8\na 1 1 1\n")
    read = read_vectors(path, VOCABULARY)
    assert read.ids.tolist() == [2, 5]
    assert read.rows.tolist() == [[4, 5, 6], [1, 1, 1]]


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
    "empty": (b"", "is not a file of word vectors"),
    "prose": (b"once upon a time\nthere was\n", "is not a file of word vectors"),
    "image": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" * 9, "is not a file of word vectors"),
    "tabs": (lines().replace(b" ", b"\t"), "is not a file of word vectors"),
    "words alone": (b"the\ngoal\n", "is not a file of word vectors"),
    "too few numbers": (lines() + b"unseen 1 2\n", r"bad:8: 2 numbers, where others have 5"),
    "no number": (lines() + b"unseen 1 2 3 4 five\n", "is not made of numbers"),
    "not finite": (lines() + b"unseen 1 2 3 4 nan\n", "vector of 'unseen' is not finite"),
    "text cut off": (HEADER + lines().split(b",")[0], r"is cut off: it has 5 of 7 words"),
    "binary cut off": (binary()[:-30], r"is cut off.* it has 5 of 7 words"),
    "gzip cut off": (gzip.compress(lines())[:-20], "cannot be read"),
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
    with pytest.raises(UserError, match="unpack it first"):
        read_vectors(path, VOCABULARY)
    bin_file(path, quantized=True)
    with pytest.raises(UserError, match="is quantized"):
        read_vectors(path, VOCABULARY)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_vectors(tmp_path / "none", VOCABULARY)
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_vectors(tmp_path, VOCABULARY)
