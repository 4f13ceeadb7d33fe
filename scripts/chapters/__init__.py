"""What the pages of the book are made of: figures, rows of the records, directives, notebooks.

A new chapter is a page ``docs/en/NAME.md`` with the sections of ``words.HEADINGS``, the same page
in ``docs/zh``, both listed in their ``index.md``, and its figures in a module of ``figures``. Pages
in folders of ``docs/en`` (models, how-to) exist only in English. These directives write the rest:

- ``picture FIGURE``: a figure with ``:alt:`` and a caption; ``flow_MODEL`` are drawn from `flows`;
- ``ravine FIGURE`` and the other ``INTERACTIVE`` of ``pictures``: a figure to play with, which
  ``docs/_static/NAME.js`` draws; FIGURE stands in for it without JavaScript;
- ``literalinclude FILE`` with ``:pyobject:``: code from the source;
- ``code-cell python``: code that is run, with what it prints; ``notebook``: a link to the notebook;
- ``proof``: names as ``dlnotes verify`` prints them, a line each;
- ``speed``: an optimizer or activations of ``results/benchmarks``, a line each;
- ``model-speed``: how fast the models learn, beside torch's own layers;
- ``corpora``: for each corpus the best model, the best published figure and the baseline;
- ``verdicts``: claims of ``results/claims/record.json``, a line each;
- ``figures-of`` and ``time-of``: the records of a model; ``figures-on``: those of a corpus;
- ``exercise``, and in it ``answer``, whose Python code asserts what the answer says.

``docs/zh/translations.yaml`` has the Chinese of the English texts in the records; the build and the
tests report what is missing. ``docs/en/rephrasings.yaml`` has the English that a reader sees, where
it differs from that of the records.
"""
