"""The claims of the notes, each tested by an experiment: one file for each.

A module is imported only when its claim is needed.
"""

from __future__ import annotations

CHAPTERS: dict[str, tuple[str, ...]] = {
    "Perceptrons and layers": (
        "perceptron_learns_and_or_not_xor",
        "hidden_layer_learns_xor",
        "one_hidden_layer_fits_any_function",
        "depth_needs_fewer_units",
        "trained_depth_beats_width",
    ),
    "Rates and batches": (
        "small_rates_need_many_rounds",
        "large_rates_step_over_the_minimum",
        "networks_diverge_above_two_over_sharpness",
        "full_batch_direction_is_exact",
        "batch_descent_finds_the_global_optimum",
        "sgd_is_not_linearly_convergent",
        "sgd_is_hard_to_parallelise",
        "mini_batch_costs_less_per_example",
        "mini_batch_needs_fewer_steps",
        "larger_batch_needs_fewer_steps",
        "larger_batch_oscillates_less",
        "too_large_batch_needs_more_time",
        "too_large_batch_needs_too_much_memory",
        "large_batch_stops_changing_direction",
    ),
    "Optimizers": (
        "momentum_damps_oscillation",
        "nesterov_corrects_momentum",
        "adagrad_suits_sparse_data",
        "adaptive_rules_suit_texts",
        "adagrad_ends_early",
        "adadelta_keeps_learning",
        "adam_is_rmsprop_with_momentum",
        "adam_converges_faster",
        "adam_converges_faster_on_surfaces",
        "adam_beats_rmsprop_on_sparse_gradients",
        "adaptive_rules_are_alike",
        "adam_is_the_best_on_planted_data",
        "adam_is_the_best",
    ),
    "Activations and depth": (
        "sigmoid_saturates",
        "relu_converges_faster",
        "relu_units_die",
        "no_activation_is_one_linear_map",
        "depth_makes_gradients_vanish_or_explode",
        "clipping_cures_explosion",
    ),
    "Ensembles": ("ensembles_beat_the_best_model",),
    "Errata": (
        "adam_as_printed_is_adam",
        "beta2_is_usually_9999",
        "rmsprop_first_step_is_alpha",
        "momentum_is_torchs",
        "epsilon_may_stand_under_the_root",
        "a_constant_slope_means_linear",
    ),
}
"""The modules of this package that define a ``CLAIM``, in the order of the notes."""

CLAIMS: tuple[str, ...] = tuple(module for modules in CHAPTERS.values() for module in modules)
