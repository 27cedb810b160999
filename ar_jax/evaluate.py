"""Scores text with a trained autoregressive model.

python -m ar_jax.evaluate --workdir=runs/ar --text_file=valid.txt --out=scores.json
"""

from ar_jax.model import FAMILY
from lm_jax import app

if __name__ == "__main__":
    app.run_evaluation(FAMILY)
