"""Masked diffusion language models: corrupt by masking, learn to restore."""

from mdlm_jax.model import FAMILY, language_model

__all__ = ["FAMILY", "language_model"]
