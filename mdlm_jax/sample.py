"""Samples text from a trained masked diffusion model.

python -m mdlm_jax.sample --workdir=runs/mdlm --num_samples=16 --prompt="One day"
python -m mdlm_jax.sample --workdir=runs/mdlm --infill="Tom had a [8]. The end."
"""

from lm_jax import app
from mdlm_jax.model import FAMILY

if __name__ == "__main__":
    app.run_sampling(FAMILY)
