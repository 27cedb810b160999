"""Trains the masked diffusion model.

python -m mdlm_jax.train --config=experiments/configs/tiny.py --workdir=runs/mdlm
"""

from lm_jax import app
from mdlm_jax.model import FAMILY

if __name__ == "__main__":
    app.run_training(FAMILY)
