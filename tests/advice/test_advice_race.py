"""A race: who is tried and stopped, and the time that it takes."""

import signal

import pytest
from fakes import DIVERGED, Field

from dlnotes.advice.race import MAX_SEEDS, NO_TIME, SHARE
from dlnotes.training.fit import Interrupted, OutOfTime

PLANTED = {
    "tfidf": (0.80, 2),
    "quick": (0.84, 4),
    "good": (0.90, 20, 0.05),
    "slow": (0.86, 40, 0.02),
    "bad": (0.60, 10),
    "worse": (0.50, 10),
}


def by_name(race):
    return {entry.name: entry for entry in race.entries}


def test_all_are_tried_for_a_quarter_and_the_better_ones_to_the_end():
    field = Field(PLANTED)
    race = field.race(100)
    race.run()
    found = by_name(race)
    assert field.calls[:6] == [("tfidf", 1.0, 0), *((name, SHARE, 0) for name in [*PLANTED][1:])]
    assert race.finished()[0].name == "good"
    assert not found["worse"].runs
    assert found["worse"].left_out.startswith("stopped: 3")
    assert found["worse"].left_out.endswith("points behind good")
    assert not race.complete


def test_with_much_time_what_was_stopped_goes_on_and_seeds_are_repeated():
    field = Field(PLANTED)
    race = field.race(10_000)
    race.run()
    found = by_name(race)
    assert len(found["good"].runs) == MAX_SEEDS
    assert [call for call in field.calls if call[:2] == ("good", 1.0)] == [
        ("good", 1.0, seed) for seed in range(MAX_SEEDS)
    ]
    assert len(found["bad"].runs) == 1  # clearly behind: one seed is enough
    assert race.complete
    assert field.now < 1_000


@pytest.mark.parametrize("seconds", [5, 20, 60, 120, 300])
def test_the_time_is_kept(seconds):
    field = Field(PLANTED)
    field.race(seconds).run()
    assert field.now <= seconds


def test_what_would_not_be_done_in_time_is_not_begun():
    field = Field({"tfidf": (0.8, 1), "quick": (0.84, 4), "slow": (0.9, 45), "slower": (0.89, 48)})
    race = field.race(100)
    race.run()
    assert by_name(race)["slow"].runs
    assert by_name(race)["slower"].first
    assert ("slower", 1.0, 0) not in field.calls
    assert not race.complete


def test_time_before_the_race_counts():
    field = Field(PLANTED)
    field.now = 40.0
    field.race(60).run()
    assert 50 < field.now <= 60


def test_what_is_too_slow_is_left_out_with_the_reason():
    field = Field({"tfidf": (0.8, 1), "quick": (0.84, 4), "endless": (0.99, 1e6)})
    race = field.race(120)
    race.run()
    assert by_name(race)["endless"].left_out == "the first trial takes over 15 s"
    assert not by_name(race)["endless"].trials


@pytest.mark.parametrize("now", [10.0, 9.95])
def test_without_time_only_the_baseline_is_begun(now):
    field = Field({"tfidf": (0.8, 1), "quick": (0.84, 4), "next": (0.84, 4)})
    field.now = now
    race = field.race(10)
    race.run()
    assert field.calls == [("tfidf", 1.0, 0)]
    assert [entry.left_out for entry in race.entries] == ["", NO_TIME, NO_TIME]
    assert not race.complete


def test_little_time_that_is_left_is_no_property_of_a_candidate():
    field = Field({"tfidf": (0.8, 0.1), "quick": (0.84, 0.2), "slow": (0.84, 9)})
    field.now = 8.0
    race = field.race(12)
    race.run()
    assert by_name(race)["quick"].runs
    assert by_name(race)["slow"].left_out == "only 0.5 s were left for a first trial"
    at_once = Field(field.planted).race(12)
    at_once.run()
    assert by_name(at_once)["slow"].left_out == "the first trial takes over 1.5 s"
    no_baseline = Field({"tfidf": (OutOfTime(), 1)})
    no_baseline.now = 10.0
    race = no_baseline.race(10)
    race.run()
    assert race.entries[0].left_out == NO_TIME


def test_who_had_a_larger_share_of_the_epochs_stops_no_one():
    field = Field({"few": (0.95, 9), "a": (0.80, 9), "b": (0.79, 9), "c": (0.60, 9)})
    real = field.measure

    def measure(candidate, share, seed, time_limit):
        found, had = real(candidate, share, seed, time_limit)
        return found, 0.5 if candidate.name == "few" and had < 1 else had

    field.measure = measure
    race = field.race(600)
    race.run()
    found = by_name(race)
    assert found["few"].share == 0.5
    assert found["c"].left_out.startswith("stopped: ")
    assert found["c"].left_out.endswith("points behind a")


def test_what_had_no_time_at_first_and_is_tried_in_the_end_leaves_nothing_to_try():
    """First trials that take long, because the computer is busy, and then no more."""
    field = Field(dict.fromkeys("abcde", (0.8, 0.4)))
    real = field.measure

    def measure(candidate, share, seed, time_limit):
        busy = share < 1 and candidate.name != "e"
        field.now += 9.5 * busy
        return real(candidate, share, seed, time_limit)

    field.measure = measure
    race = field.race(100)
    race.run()
    first = [name for name, _, _ in field.calls]
    assert first.index("e") > 5
    assert by_name(race)["e"].runs
    assert race.complete


def test_variations_of_the_best_are_tried_and_those_ahead_trained_to_the_end():
    ahead = Field({**PLANTED, "good, lr 0.1": (0.95, 20, 0.05)})
    race = ahead.race(600)
    race.run()
    assert race.finished()[0].name == "good, lr 0.1"
    behind = Field({**PLANTED, "good, lr 0.1": (0.70, 20, 0.05)})
    race = behind.race(600)
    race.run()
    found = by_name(race)["good, lr 0.1"]
    assert not found.runs
    assert found.left_out.startswith("stopped: ")
    assert found.left_out.endswith(" points behind good")


def test_the_best_of_the_first_trials_gets_its_training_before_variations():
    """Even where it takes most of what is left."""
    field = Field(
        {"tfidf": (0.8, 1), "quick": (0.84, 4), "quick, lr 0.1": (0.85, 4), "good": (0.9, 50)}
    )
    race = field.race(110)
    race.run()
    full = [name for name, share, _ in field.calls if share == 1.0]
    assert full[:2] == ["tfidf", "good"]
    assert field.now <= 110


def test_a_training_that_diverges_is_left_out():
    field = Field({"tfidf": (0.8, 1), "quick": (0.84, 4), "wild": (DIVERGED, 4)})
    race = field.race(60)
    race.run()
    assert by_name(race)["wild"].left_out == "the loss became nan at step 3"
    assert race.finished()[0].name == "quick"


def test_a_seed_that_diverges_ends_neither_the_race_nor_the_candidate():
    field = Field({"tfidf": (0.8, 1), "quick": (0.84, 4), "good": (0.9, 4)})
    real = field.measure

    def measure(candidate, share, seed, time_limit):
        if candidate.name == "good" and seed == 1:
            raise DIVERGED
        return real(candidate, share, seed, time_limit)

    field.measure = measure
    race = field.race(600)
    race.run()
    assert len(by_name(race)["good"].runs) == 1
    assert by_name(race)["good"].failed == 1


@pytest.mark.parametrize(
    ("stop", "number"),
    [(KeyboardInterrupt(), signal.SIGINT), (Interrupted(signal.SIGTERM), signal.SIGTERM)],
)
def test_a_signal_ends_it_and_what_is_there_counts(stop, number):
    field = Field({"tfidf": (0.8, 1), "quick": (0.84, 4), "next": (stop, 4)})
    race = field.race(60)
    race.run()
    assert race.interrupted == number
    assert [entry.name for entry in race.entries if entry.trials] == ["tfidf", "quick"]
    assert not race.complete
