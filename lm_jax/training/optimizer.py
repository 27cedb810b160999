"""AdamW with linear warm-up, cosine decay and clipping by global norm."""

import optax

from lm_jax.config import OptimizerConfig


def make_optimizer(
    cfg: OptimizerConfig, num_steps: int
) -> optax.GradientTransformation:
    """AdamW; Loshchilov and Hutter 2017, arXiv:1711.05101. Every parameter decays.

    Raises:
      ValueError: the warm-up does not end within the run.
    """
    return optax.chain(
        optax.clip_by_global_norm(cfg.clip_norm),
        optax.adamw(
            make_schedule(cfg, num_steps),
            b1=cfg.b1,
            b2=cfg.b2,
            weight_decay=cfg.weight_decay,
        ),
    )


def make_schedule(cfg: OptimizerConfig, num_steps: int) -> optax.Schedule:
    """Learning rate: linear from 0 to the peak, half cosine to final_share of it.

    The cosine ends at num_steps.

    Raises:
      ValueError: the warm-up does not end within the run.
    """
    if cfg.warmup_steps >= num_steps:
        raise ValueError(
            f"OptimizerConfig.warmup_steps={cfg.warmup_steps} must be less than the "
            f"run of {num_steps} steps: lower it, or train for longer"
        )
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=cfg.learning_rate,
        warmup_steps=cfg.warmup_steps,
        decay_steps=num_steps,
        end_value=cfg.final_share * cfg.learning_rate,
    )
