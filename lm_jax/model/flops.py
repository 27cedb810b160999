"""Training FLOPs per token."""

from lm_jax.config import ModelConfig


def training_flops_per_token(cfg: ModelConfig, *, causal: bool) -> float:
    """6 N + 12 L D T (full attention) or 6 N + 6 L D T (causal, which needs half).

    N is the number of parameters in matrix products: those of the head count, those of
    the embedding lookup do not. L layers, width D, T tokens; Chowdhery et al. 2022,
    arXiv:2204.02311, appendix B.
    """
    ffn_matrices = 3 if cfg.architecture == "llama" else 2  # SwiGLU has a gate
    per_layer = 4 * cfg.width**2 + ffn_matrices * cfg.width * cfg.ffn_width
    matmul_params = cfg.num_layers * per_layer + cfg.vocab_size * cfg.width
    attention = (6 if causal else 12) * cfg.num_layers * cfg.width * cfg.length
    return float(6 * matmul_params + attention)
