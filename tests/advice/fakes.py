"""Candidates whose figures are planted, and a clock that their trials move."""

import numpy as np

from dlnotes.advice.race import Candidate, Race
from dlnotes.errors import UserError
from dlnotes.training.fit import OutOfTime
from dlnotes.training.trials import TFIDF, Trial


def trial(hits, outcomes=None, seconds=1.0, *, network=True):
    """A trial with these parts of its figure."""
    hits = np.asarray(hits, float)
    outcomes = np.ones(len(hits)) if outcomes is None else np.asarray(outcomes, float)
    return Trial({}, hits, outcomes, seconds, 100.0, [0.5] * network)


class Field:
    """Measures candidates by what is planted.

    Args:
        planted: Name of a model → its accuracy, the seconds of a training, and maybe what a quarter
            of the epochs costs it in accuracy.
        documents: Dev documents.
    """

    def __init__(self, planted, documents=1000):
        self.planted, self.documents = planted, documents
        self.now, self.calls = 0.0, []

    def clock(self):
        return self.now

    def measure(self, candidate, share, seed, time_limit):
        self.calls.append((candidate.name, share, seed))
        accuracy, seconds, *loss = self.planted[candidate.name]
        if isinstance(accuracy, BaseException):
            raise accuracy
        share = 1.0 if candidate.model == TFIDF else share
        took = seconds * share
        if took > time_limit and candidate.model != TFIDF:
            self.now += time_limit
            raise OutOfTime
        self.now += took
        if share < 1 and loss:
            accuracy -= loss[0]
        # The same documents are hard for all; each training has luck of its own with some.
        hard = np.random.default_rng(0).random(self.documents)
        luck = np.random.default_rng([seed, *candidate.name.encode()]).normal(
            0, 0.01, self.documents
        )
        hits = hard + luck * candidate.has_epochs < accuracy
        return trial(hits, seconds=took, network=candidate.has_epochs), share

    def vary(self, candidate):
        return [Candidate(candidate.model, {"lr": 0.1})] * (
            f"{candidate.name}, lr 0.1" in self.planted
        )

    def race(self, seconds=600.0, models=None):
        models = models or [name for name in self.planted if "," not in name]
        return Race(self.measure, models, self.vary, seconds=seconds, clock=self.clock)


DIVERGED = UserError("the loss became nan at step 3")
