"""Every claim of the notes, tested by an experiment: one file for each.

A module is imported when its claim is asked for.
"""

from __future__ import annotations

CLAIMS: tuple[str, ...] = (
    "adam_is_the_best",
    "momentum_damps_oscillation",
    "adagrad_suits_sparse_data",
    "adagrad_ends_early",
    "adadelta_keeps_learning",
    "adam_converges_faster",
    "adam_beats_rmsprop_on_sparse_gradients",
    "adaptive_rules_are_alike",
    "planted_data_defeat_adaptive_rules",
    "mini_batch_costs_less_per_example",
    "mini_batch_needs_fewer_steps",
    "larger_batch_needs_fewer_steps",
    "too_large_batch_needs_more_time",
    "large_batch_stops_changing_direction",
    "sigmoid_saturates",
    "relu_converges_faster",
    "relu_units_die",
    "ensembles_beat_the_best_model",
)
"""The modules of this package that define a ``CLAIM``."""
