"""Samples text from a trained autoregressive model.

python -m ar_jax.sample --workdir=runs/ar --num_samples=16 --prompt="One day"
"""

from ar_jax.model import FAMILY
from lm_jax import app

if __name__ == "__main__":
    app.run_sampling(FAMILY)
