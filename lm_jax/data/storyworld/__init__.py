"""Storyworld: short stories from a grammar, each with a known exact probability."""

from lm_jax.data.storyworld.grammar import (
    entropy,
    generate,
    log_prob,
    num_distinct_stories,
    num_words,
    openings,
    prefix_log_prob,
    vocabulary,
)

__all__ = [
    "entropy",
    "generate",
    "log_prob",
    "num_distinct_stories",
    "num_words",
    "openings",
    "prefix_log_prob",
    "vocabulary",
]
