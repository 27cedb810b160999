"""Samplers of masked diffusion, one algorithm a file; `base` has the loop."""
