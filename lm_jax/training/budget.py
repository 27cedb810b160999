"""The number of training steps within a budget of steps, tokens or FLOPs."""

from lm_jax.config import TrainConfig


def num_steps(cfg: TrainConfig, length: int, flops_per_token: float) -> int:
    """Largest number of steps within all budgets: steps, tokens and FLOPs.

    Args:
      cfg: configuration with the budgets; 0 is no limit.
      length: tokens per window.
      flops_per_token: FLOPs of a training step, forward and backward, per token.

    Raises:
      ValueError: a budget is smaller than the cost of one step.
    """
    tokens_per_step = cfg.batch_size * length
    costs = {
        "max_tokens": (cfg.max_tokens, tokens_per_step),
        "max_flops": (cfg.max_flops, tokens_per_step * flops_per_token),
    }
    steps = cfg.num_steps
    for name, (budget, cost) in costs.items():
        if budget:
            if budget < cost:
                raise ValueError(
                    f"train.{name}={budget:g} does not pay for one step of {cost:g}: "
                    "raise it, or lower batch_size or length"
                )
            steps = min(steps, int(budget // cost))
    return steps
