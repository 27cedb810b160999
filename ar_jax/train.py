"""Trains the autoregressive model.

python -m ar_jax.train --config=experiments/configs/tiny.py --workdir=runs/ar
"""

from ar_jax.model import FAMILY
from lm_jax import app

if __name__ == "__main__":
    app.run_training(FAMILY)
