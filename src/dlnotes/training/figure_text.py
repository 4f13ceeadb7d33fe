"""Text in figures: drawn literally, in installed fonts that have its characters."""

from __future__ import annotations

import functools
import unicodedata
import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from dlnotes.display import printable

# These families are searched first, since their characters go well together; the others follow in
# alphabetical order.
_PREFERRED = (
    "Noto Sans CJK",
    "Noto Sans SC",
    "Source Han Sans",
    "WenQuanYi",
    "PingFang",
    "Microsoft YaHei",
    "SimHei",
    "Noto Sans",
)
_USUAL = "DejaVu Sans"
_INSTEAD = "□"
_told = False


def prepare_text(texts: Iterable[str], most: int = 30) -> tuple[list[str], dict[str, Any]]:
    """Prepare texts for a figure: what to draw, and the keywords for matplotlib.

    A dollar sign does not start a formula, control characters are escaped, and each character is
    drawn in an installed font that has it. A character that no font has becomes □, and a single
    warning says which font to install.

    Args:
        texts: Labels or words, which may contain any characters.
        most: Longer texts are cut to this many characters.

    Returns:
        The texts, and keywords for ``Axes.text``, ``Axes.set_xticks`` and the like.
    """
    shown = [printable(text, most) for text in texts]
    families: dict[str, None] = {}
    missing = ""
    for character in sorted(set("".join(shown))):
        family = _family_with(character)
        if family is None:
            missing += character
        else:
            families[family] = None
    if missing:
        _tell(missing[0])
        shown = [text.translate(dict.fromkeys(map(ord, missing), _INSTEAD)) for text in shown]
    # The usual font comes first, so that only characters that it lacks look different.
    ordered = [_USUAL, *(family for family in families if family != _USUAL)]
    return shown, {"fontfamily": ordered, "parse_math": False}


@functools.cache
def _family_with(character: str) -> str | None:
    """The first installed family that has a character."""
    from matplotlib.font_manager import findfont

    if ord(character) in _characters(findfont(_USUAL)):  # it comes with matplotlib
        return _USUAL
    having = (family for family, file in _fonts().items() if ord(character) in _characters(file))
    return next(having, None)


@functools.cache
def _characters(file: str) -> frozenset[int]:
    """Code points of the characters in a font file."""
    from matplotlib.font_manager import get_font

    try:
        return frozenset(get_font(file).get_charmap())
    except (OSError, RuntimeError):  # FreeType cannot read it
        return frozenset()


@functools.cache
def _fonts() -> dict[str, str]:
    """File of each installed font family, in the order in which families are searched."""
    from matplotlib.font_manager import findSystemFonts, fontManager, weight_dict

    # Matplotlib caches the list of fonts from its first use and misses those installed later.
    for file in set(findSystemFonts()) - {font.fname for font in fontManager.ttflist}:
        try:
            fontManager.addfont(file)
        except Exception:  # broken or bitmap fonts, for which matplotlib raises various errors
            continue

    def rank(family: str) -> tuple[int, str]:
        places = (i for i, name in enumerate(_PREFERRED) if family.startswith(name))
        return next(places, len(_PREFERRED)), family

    files: dict[str, str] = {}
    for font in sorted(fontManager.ttflist, key=_distance):
        # The Last Resort font has a placeholder for every character.
        if font.name not in files and not font.name.startswith("Last Resort"):
            files[font.name] = font.fname
            if _distance(font)[1]:  # otherwise matplotlib warns that there is no regular weight
                fontManager.ttflist.append(replace(font, weight=weight_dict["normal"]))
    return {family: files[family] for family in sorted(files, key=rank)}


def _distance(font: Any) -> tuple[bool, int]:
    """How much a font differs from the regular one of its family."""
    from matplotlib.font_manager import weight_dict

    weight = weight_dict.get(font.weight, font.weight)
    return font.style != "normal", abs(weight - weight_dict["normal"])


def _tell(character: str) -> None:
    """Warn of the first character that cannot be drawn, and only of this one."""
    global _told
    if _told:
        return
    _told = True
    wide = unicodedata.east_asian_width(character) in "WF" and character.isalpha()
    wanted = (
        "Noto Sans CJK (on Debian and Ubuntu: apt install fonts-noto-cjk)"
        if wide
        else "the Noto font of its script (https://fonts.google.com/noto)"
    )
    warnings.warn(
        f"no installed font has {character!r}: figures show {_INSTEAD} instead; install {wanted}",
        stacklevel=3,
    )
