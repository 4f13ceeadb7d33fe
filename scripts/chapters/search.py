"""The search of the pages in Chinese.

Sphinx cuts the pages into words with a dictionary, but does not cut what a reader types. Terms that
are not in the dictionary, such as 学习率, are therefore never found. Here both are cut into pairs
of neighbouring characters, and a page must have all pairs of a query.
"""

from __future__ import annotations

import re

from sphinx.search.zh import SearchChinese

_HAN = r"[\u3400-\u9fff]+"


class ChineseSearch(SearchChinese):
    """Pairs of Chinese characters, single ones, and words in Latin letters."""

    # Sphinx 9.0 names a stemmer after the language, and there is none for Chinese. Latin words are
    # stemmed as English: https://github.com/sphinx-doc/sphinx/issues/14229
    language_name = "English"
    js_splitter_code = """
splitQuery = (query) => {
  const pairs = (run) =>
    run.length < 2 ? run : [...run.slice(1)].map((last, i) => run[i] + last).join(" ");
  return query
    .replace(/HAN/g, (run) => ` ${pairs(run)} `)
    .split(/[^\\p{Letter}\\p{Number}_]+/u)
    .filter((term) => term);
};
""".replace("HAN", _HAN)

    def __init__(self, options: dict[str, str]) -> None:
        super().__init__({**options, "dict": ""})  # it is not needed, and takes a second to load

    def split(self, input: str) -> list[str]:
        """What is found on a page: see `ChineseSearch`."""
        latin = self.latin1_letters.findall(input)
        self.latin_terms.update(latin)
        runs = re.findall(_HAN, input)
        pairs = [run[i : i + 2] for run in runs for i in range(len(run) - 1)]
        return [*pairs, *"".join(runs), *latin]

    def word_filter(self, stemmed_word: str) -> bool:
        """Whether it is worth finding: a single Latin letter or digit is not."""
        return len(stemmed_word) > 1 or bool(re.match(_HAN, stemmed_word))
