"""Scores text with a trained masked diffusion model.

python -m mdlm_jax.evaluate --workdir=runs/mdlm --text_file=valid.txt --out=scores.json
"""

from lm_jax import app
from mdlm_jax.model import FAMILY

if __name__ == "__main__":
    app.run_evaluation(FAMILY)
