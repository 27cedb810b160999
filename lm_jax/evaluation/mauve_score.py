"""MAUVE (optional): similarity of documents to human text in the features of a model.

Pillutla et al. 2021, arXiv:2102.01454. It needs `pip install -e '.[mauve]'`, downloads
GPT-2 on first use, and depends on the featurizer, the number of documents and their
length: compare it only within one table.
"""

import importlib
from collections.abc import Sequence

from lm_jax.config import require


def mauve(documents: Sequence[str], reference: Sequence[str], seed: int = 0) -> float:
    """The area under the divergence frontier of two sets of texts, in (0, 1].

    1 if the two distributions are equal. Both sets are cut to the size of the smaller.

    Raises:
      ValueError: the package is not installed, or a set is empty.
    """
    count = min(len(documents), len(reference))
    require(count > 0, "MAUVE of 0 documents: pass documents and a reference")
    try:
        package = importlib.import_module("mauve")
    except ImportError as error:
        raise ValueError(
            f"MAUVE cannot be computed ({error}): pip install -e '.[mauve]', or leave "
            "--mauve out"
        ) from None
    found = package.compute_mauve(
        p_text=list(documents[:count]),
        q_text=list(reference[:count]),
        seed=seed,
        verbose=False,
    )
    return float(found.mauve)
