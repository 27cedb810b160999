"""The order in which a text was written, beside the order in which it is read."""

import numpy as np
from jaxtyping import Int


def kendall_tau(step_of: Int[np.ndarray, " L"]) -> float:
    """Kendall's tau-b between steps and positions: 1 is left to right, -1 the reverse.

    (concordant - discordant) / sqrt(pairs of unequal step * all pairs), over the
    positions that were written; Kendall 1945, Biometrika 33. NaN where all that was
    written was written at once, or fewer than two tokens were.

    Args:
      step_of: when each token was written, -1 where it was given (`Written.step_of`).

    >>> kendall_tau(np.array([0, 1, 2, 3])), kendall_tau(np.array([-1, 2, 1, 0]))
    (1.0, -1.0)
    """
    steps = step_of[step_of >= 0]
    left, right = np.triu_indices(len(steps), k=1)
    signs = np.sign(steps[right] - steps[left])
    num_unequal = np.count_nonzero(signs)
    if num_unequal == 0:
        return float("nan")
    return float(signs.sum() / np.sqrt(num_unequal * signs.size))
