"""Samplers of masked diffusion, one file per algorithm; `base` has the loop."""
