"""fastText's .bin file and its word vectors, written down plainly: what the reader is tested on."""

import struct

import numpy as np


def fnv1a(gram):
    """32-bit FNV-1a over UTF-8, bytes taken as signed."""
    h = np.uint32(2166136261)
    with np.errstate(over="ignore"):
        for byte in np.frombuffer(gram.encode(), np.int8):
            h = np.uint32(h ^ np.uint32(np.int64(byte) % 2**32)) * np.uint32(16777619)
    return int(h)


def ngrams(word, minn, maxn):
    """All pieces of <word> of minn to maxn characters, but for its two ends alone."""
    text = f"<{word}>"
    pieces = [
        (i, i + n)
        for i in range(len(text))
        for n in range(max(1, minn), maxn + 1)
        if i + n <= len(text)
    ]
    ends = [(0, 1), (len(text) - 1, len(text))]
    return [text[i:j] for i, j in pieces if (i, j) not in ends]


def word_vector(word, words, matrix, minn, maxn, bucket):
    """Mean of the rows of the word and of its n-grams."""
    rows = [words.index(word)] if word in words else []
    rows += [len(words) + fnv1a(gram) % bucket for gram in ngrams(word, minn, maxn)]
    return matrix[rows].mean(0)


def write_bin(path, words, matrix, *, minn=3, maxn=6, bucket=0, labels=(), quantized=False):
    """A file as fastText 0.9 (version 12) writes it; the output matrix is left out."""
    dim = matrix.shape[1]
    arguments = [dim, 5, 5, 1, 5, 1, 1, 2, bucket, minn, maxn, 100]
    out = struct.pack("<2i", 793712314, 12) + struct.pack("<12i", *arguments)
    out += struct.pack("<d", 1e-4)
    out += struct.pack("<3i2q", len(words) + len(labels), len(words), len(labels), 99, -1)
    for kind, entries in enumerate((words, labels)):
        for entry in entries:
            out += entry.encode() + b"\0" + struct.pack("<qb", 7, kind)
    out += struct.pack("<?2q", quantized, *matrix.shape) + matrix.astype("<f4").tobytes()
    path.write_bytes(out)
