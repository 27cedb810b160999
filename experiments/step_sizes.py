r"""How many tokens each step should unmask: the best sizes for a number of steps.

python -m experiments.step_sizes --workdir=runs/mdlm --num_steps=14

Let g(v) be the mean -log p of a hidden token when v random tokens are visible: the
information profile of the model. A sampler that unmasks random positions, m_i tokens in
step i, with M_i = m_1 + ... + m_{i-1} tokens visible before it, has the NELBO

    sum_i m_i g(M_i),

a Riemann sum of the profile; see arXiv:2511.04647 and arXiv:2510.25544. Dynamic
programming finds the sizes that minimise it in O(T L^2). The command measures g on half
of the held-out windows, prints the flags of those sizes for `sample` and `evaluate`,
and what they are worth on the other half. The sampler `shuffled` has exactly this
NELBO. Nothing is predicted for samplers that rank positions, as what they make visible
is no random set.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Float
from scipy.interpolate import make_smoothing_spline
from scipy.optimize import isotonic_regression

from lm_jax import command_line, run
from lm_jax.config import SampleConfig, require
from lm_jax.evaluation import calibration
from lm_jax.keys import Stream, stream
from lm_jax.types import PAD
from mdlm_jax.model import FAMILY
from mdlm_jax.samplers.base import grid_warp
from mdlm_jax.schedule import linear

Profile = Float[np.ndarray, " L"]  # g(0), ..., g(L - 1) in nats


def profile(predictions: calibration.Predictions, length: int) -> Profile:
    """g(v) of full windows: the mean over predictions with v visible tokens.

    Where v was not drawn, g is interpolated.
    """
    is_scored = predictions.weight > 0.0
    hidden = np.rint(predictions.hidden_share[is_scored] * length).astype(int)
    visible, nats = length - hidden, predictions.nats[is_scored].astype(np.float64)
    count = np.bincount(visible, minlength=length)
    found = np.flatnonzero(count)
    means = np.bincount(visible, nats, minlength=length)[found] / count[found]
    return np.interp(np.arange(length), found, means)


def smooth(g: Profile) -> Profile:
    """The profile without its noise, whose minima best_sizes would pick.

    A cubic smoothing spline, by generalised cross-validation, then made non-increasing:
    more visible tokens cannot make the true conditional less certain on average.
    """
    if len(g) < 5:  # too few for a spline
        return isotonic_regression(g, increasing=False).x
    at = np.arange(len(g), dtype=float)
    return isotonic_regression(make_smoothing_spline(at, g)(at), increasing=False).x


def predicted(g: Profile, sizes: list[int]) -> float:
    """sum_i m_i g(M_i) / L: nats per token of these sizes at random positions."""
    before = np.cumsum([0, *sizes[:-1]])
    return float(np.dot(sizes, g[before]) / len(g))


def best_sizes(g: Profile, num_steps: int) -> list[int]:
    """The sizes of num_steps steps with the smallest sum_i m_i g(M_i).

    >>> best_sizes(np.array([4.0, 1.0, 0.5, 0.5]), 2)
    [1, 3]
    """
    length = len(g)
    # step[a, b]: cost of the step that goes from a to b visible tokens.
    at = np.arange(length + 1)
    step = np.full((length + 1, length + 1), np.inf)
    sizes = at - at[:length, None]
    step[:length] = np.where(sizes > 0, sizes * g[:, None], np.inf)
    cost, came_from = np.full(length + 1, np.inf), []
    cost[0] = 0.0
    for _ in range(num_steps):
        total = cost[:, None] + step
        came_from.append(np.argmin(total, axis=0))
        cost = np.min(total, axis=0)
    ends = [length]
    for previous in reversed(came_from):
        ends.append(int(previous[ends[-1]]))
    return np.diff(ends[::-1]).tolist()


def sizes_of(cfg: SampleConfig, length: int) -> list[int]:
    """The tokens that each step of cfg.grid unmasks, rounded as ranked samplers do."""
    warp = grid_warp(cfg, linear)
    ends = [1.0 - i / cfg.num_steps for i in range(cfg.num_steps + 1)]
    masked = [round(float(warp(jnp.float32(t))) * length) for t in ends]
    return (-np.diff(masked)).tolist()


def main() -> None:
    """Runs the command."""
    values = flags.FLAGS
    model = run.load(command_line.path("workdir"), FAMILY, values.checkpoint)
    length, cfg = model.run.cfg.model.length, model.run.cfg.evaluate
    steps = values.num_steps
    require(
        1 <= steps <= length,
        f"--num_steps={steps} must lie between 1 and {length}, the window of the run",
    )
    is_full = np.all(model.run.valid != PAD, axis=1)
    windows = model.run.valid[is_full][: values.max_windows]
    require(
        len(windows) > 1,
        f"{len(windows)} of {len(is_full)} held-out windows are full and within "
        f"--max_windows={values.max_windows}: two are needed, as one half is a check",
    )
    # The sizes are found on one half, and the other half says what they are worth.
    g, held_out = (
        profile(
            calibration.predict(
                model.lm,
                model.params,
                half,
                key=jax.random.fold_in(stream(model.run.cfg.seed, Stream.SCORING), i),
                num_draws=values.num_draws,
                batch_size=cfg.batch_size,
            ),
            length,
        )
        for i, half in enumerate((windows[::2], windows[1::2]))
    )
    sizes = best_sizes(smooth(g), steps)
    cosine = sizes_of(SampleConfig(num_steps=steps, grid="cosine"), length)
    grid = ",".join(map(str, sizes))
    found = {
        "num_windows": len(windows),
        "num_draws": values.num_draws,
        "nelbo": predicted(held_out, sizes),
        "nelbo_of_cosine": predicted(held_out, cosine),
        "nelbo_of_one_per_step": float(held_out.mean()),
        "flags": f"--sampler=shuffled --num_steps={steps} --grid={grid}",
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Directory of the run.")
    flags.DEFINE_integer("num_steps", None, "Number of steps of the sampler.")
    flags.DEFINE_integer("max_windows", 64, "Held-out windows to measure on.")
    flags.DEFINE_integer("num_draws", 64, "Masks drawn per window.")
    flags.DEFINE_string("checkpoint", "latest", "latest, best or a step.")
    command_line.run(main, required={"workdir": "DIR", "num_steps": "N"})
