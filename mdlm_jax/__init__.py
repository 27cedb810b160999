"""Masked diffusion language models: the reverse of a process that masks tokens."""

from mdlm_jax.model import FAMILY, language_model

__all__ = ["FAMILY", "language_model"]
