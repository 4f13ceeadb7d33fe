"""What a file is that was given as text but is none, by its first bytes.

A text, too, may begin with the letters ``PAR1``, and hold control characters, for example those
that colour a terminal. So where the mark of a kind consists of letters, more of its structure is
required: a byte after the letters, or the null bytes of a number.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

COMPRESSION = {  # by suffix; no text begins like this
    # Deflate is the only method there is; three flags are always 0.
    ".gz": rb"\x1f\x8b\x08[\x00-\x1f]",
    # "BZh1" alone may begin a text; then a block follows, or the end of an empty file.
    ".bz2": rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)",
    ".xz": rb"\xfd7zXZ\x00",
    ".zst": rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18",  # a frame, or a skippable one
    ".zip": rb"PK(?:\x03\x04|\x05\x06)",  # a member, or the end of an empty archive
}
COMPRESSION_BYTES = 10  # of the longest

_NO_TEXT = {  # all of these have a control character soon after
    rb"PAR1\x15": "a Parquet file: call it .parquet, and do not compress it",
    rb"ARROW1\x00\x00|FEA1\x00|\xff{4}(?s:..)\x00\x00": "an Arrow file: write it as Parquet or CSV",
    # A compressed index of few bytes, or one that is not compressed.
    rb"ORC(?:(?s:..)\x00|\n[^\t\n\r -~][\n\x12])|Obj\x01": "a file of ORC or Avro: write it as "
    "Parquet or CSV",
    rb"SQLite format 3\x00|(?s:.{8})DUCK(?s:.)\x00{7}": "a database: write a table of it as CSV",
    rb"\x80[\x02-\x05]": "a pickle of Python: write its texts and labels as CSV or JSONL",
    rb"\x93NUMPY": "an array of NumPy: write its texts and labels as CSV or JSONL",
    rb"\x89HDF\r\n": "an HDF5 file: write its texts and labels as CSV or JSONL",
    rb"\xd0\xcf\x11\xe0": "an old Office document: save it as text or CSV",
    rb"\x7fELF|[\xce\xcf]\xfa\xed\xfe|\xca\xfe\xba\xbe": "a program, not text",
    # The place of the second header is below 2^16.
    rb"MZ(?s:.{60})\x00\x00": "a program; if it is an archive that unpacks itself, unpack it",
    # The sides of a GIF are below 2^13 and its last field is usually 0; a size in RIFF is below
    # 2^24.
    rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a(?s:.[\x00-\x1f]){2}(?s:..)\x00|BM(?s:.{4})\x00{4}"
    rb"|RIFF(?s:.{4})WEBP(?s:.{7})\x00|II\*\x00|MM\x00\*": "an image, not text",
    rb"RIFF(?s:.{4})(?:WAVE|AVI )(?s:.{7})\x00|\x00\x00\x00(?s:.)ftyp|\x1aE\xdf\xa3"
    rb"|OggS\x00|fLaC\x00|ID3[\x02-\x04]": "an image or a recording, not text",
    # A checksum in octal digits.
    rb"(?s:.{148})[0-7 ]{6}[0-7 \x00]{2}(?s:.{101})ustar[\x00 ]": "a tar archive: unpack it",
    rb"7z\xbc\xaf|Rar!\x1a|\x04\x22\x4d\x18|\x1f\x9d|\x5d\x00\x00\x80\x00": "compressed by a "
    "program that is not supported: decompress it",
    b"|".join(COMPRESSION.values()): "compressed twice: decompress it",
}
_MARKUP = {  # these may consist of letters alone
    rb"%PDF-[12]\.\d[ \t]*[\r\n]": "a PDF: convert it to text",
    rb"\{\\rtf1\b": "a document in RTF: save it as text or CSV",
}
KIND_BYTES = 263  # of the longest
_CONTROL = rb"[\x00-\x08\x0e-\x1f\x7f]"

MARKED = {  # encoding by byte order mark; that of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
    codecs.BOM_UTF8: "utf-8",
}

_ZIPPED = {  # among the names in a zip file, a line each
    r"^xl/workbook\.": "an Excel workbook: save the sheet as CSV",
    r"^word/document\.": "a Word document: save it as text or CSV",
    r"^ppt/presentation\.": "a PowerPoint presentation: save it as text or CSV",
    r"^META-INF/manifest\.xml$": "an OpenDocument file: save it as text or CSV",
    r"^META-INF/container\.xml$": "an e-book: convert it to text",
    r"^META-INF/MANIFEST\.MF$": "a program, not text",
    r"^[^/\n]*/byteorder$": "a file of torch.save: write its texts and labels as CSV or JSONL",
    r"\A(?:.*\.npy(?:\n|\Z))+\Z": "arrays of NumPy: write their texts and labels as CSV or JSONL",
}


def compression_of(start: bytes) -> str | None:
    """The suffix of the way in which a file is compressed, None if it is not."""
    return next((kind for kind, magic in COMPRESSION.items() if re.match(magic, start)), None)


def kind_of(start: bytes) -> str | None:
    """What a file is that is not text, and what to do; None if it may be text.

    Args:
        start: Its first `KIND_BYTES`, or more.
    """
    kinds = _MARKUP
    if re.search(_CONTROL, start[:KIND_BYTES]):
        kinds = _MARKUP | _NO_TEXT
    return next((kind for magic, kind in kinds.items() if re.match(magic, start)), None)


def kind_of_zip(names: Iterable[str]) -> str | None:
    """What a zip file is that is a document of its own; None if it is an archive of files.

    Args:
        names: Those of the files in it.
    """
    lines = "\n".join(names)
    found = (kind for name, kind in _ZIPPED.items() if re.search(name, lines, re.MULTILINE))
    return next(found, None)


def marked_encoding(start: bytes) -> str | None:
    """The encoding that a byte order mark at the start names; None without one."""
    return next((name for mark, name in MARKED.items() if start.startswith(mark)), None)


def wide_encoding(start: bytes) -> str | None:
    """The encoding, if exactly one of UTF-16 and UTF-32 (LE or BE) makes likely text of the bytes.

    Every line end has a null byte in them, also in Chinese text, whose letters have none in UTF-16.
    Most letters of an alphabet have one byte in common in UTF-16, and three in UTF-32.

    Args:
        start: The first bytes of a file, without a byte order mark. Those of many letters should
            hold a line end.
    """
    nulls = start.count(0)
    names = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
    decoded = _decoded(start, "utf-8")
    narrow = None if decoded is None else decoded.replace("\0", "")
    alphabets = []
    # In UTF-16 and UTF-32, letters of these alphabets contain bytes that are control characters in
    # ASCII.
    if re.search(_CONTROL, start) and (narrow is None or _has_odd(narrow)):
        alphabets = [name for name in names if _is_of_an_alphabet(start, name)]
    is_narrow = not nulls or (narrow is not None and not _has_odd(narrow, 0.2))
    if nulls < 0.3 * len(start) and not alphabets and is_narrow:
        return None  # for example lines that end with null characters
    found = alphabets or [name for name in names if _is_plausible(_decoded(start, name) or "")]
    return found[0] if len(found) == 1 else None


def _is_of_an_alphabet(start: bytes, encoding: str) -> bool:
    """Whether the bytes are at least four letters, most of them of one alphabet but not Latin."""
    text = _decoded(start, encoding)
    if text is None or len(text) < 4:
        return False
    alphabet, count = Counter(ord(c) >> 8 for c in text).most_common(1)[0]
    letters = sum(unicodedata.category(c)[0] in "LM" for c in text)
    return (
        alphabet in _ALPHABETS
        and count > 0.6 * len(text)
        and letters > 0.6 * len(text)
        and not _has_odd(text)
    )


_ALPHABETS = range(0x03, 0x11)  # from Greek to Georgian


def _decoded(start: bytes, encoding: str) -> str | None:
    """The text, without a character that is cut off at the end; None if it is not text."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(start)
    except UnicodeDecodeError:
        return None


def _is_plausible(text: str) -> bool:
    """Whether characters were meant as text; where the order of bytes is wrong, no line ends."""
    letters = sum(c.isascii() and c.isalpha() for c in text)
    return ("\n" in text or "\r" in text or 2 * letters > len(text)) and not _has_odd(text)


_USUAL = "\t\n\v\f\r\x1b"  # control characters


def _has_odd(text: str, most: float = 0.01) -> bool:
    """Whether a null or more than this share of the characters are such as texts do not have.

    Terminals are coloured by escape characters, which do not count. Numbers and compressed data
    form characters as well, but some of these are not assigned, or are control characters.
    """
    odd = sum(unicodedata.category(c) in ("Cc", "Cn", "Co") and c not in _USUAL for c in text)
    return "\0" in text or odd > most * len(text)
