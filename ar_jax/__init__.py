"""Autoregressive language models: the chain rule from left to right."""

from ar_jax.model import FAMILY, language_model

__all__ = ["FAMILY", "language_model"]
