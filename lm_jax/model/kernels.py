"""Custom backward passes; everything else in lm_jax/model is plain formulas.

    function          formula that it equals           gain on recipe tinystories_cpu
    matmul_f32_grad   x @ W.astype(x.dtype)            none in time: sums gradients of W
                                                       in float32, not bfloat16
    attention_xla     softmax(q k^T) v                 with cross_entropy and one split
    cross_entropy     -log softmax(text logits)[x]     of q, k, v: 10% (AR), 15% (MDLM)
                                                       of the processor time of a step
    masked_nll        cross_entropy(h @ table.T, x)    6% of MDLM's, as the head runs at
                      at scored rows, else 0           masked positions only

docs/speed.md has the measurements. Tests compare each function and its gradients with
the plain formula.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lm_jax.types import NUM_NON_TEXT

Nats = Float[Array, " R"]  # R rows: the positions of a batch, one after another
Targets = Int[Array, " R"]


@jax.custom_vjp
def matmul_f32_grad(
    x: Float[Array, "R I"], kernel: Float[Array, "I O"]
) -> Float[Array, "R O"]:
    """x W in the type of x, with the gradient of W in the type of W, float32.

    Autodiff would compute that gradient in the type of x and cast it afterwards, and
    XLA would sum it over microbatches and devices before the cast.
    """
    return _matmul_f32_grad_forward(x, kernel)[0]


def _matmul_f32_grad_forward(x, kernel):
    narrow = kernel.astype(x.dtype)
    return x @ narrow, (x, narrow, jnp.zeros((), kernel.dtype))


def _matmul_f32_grad_backward(saved, grad):
    x, narrow, like = saved
    # Transposed after the product, as autodiff does: a CPU is slower otherwise.
    grad_kernel = jnp.einsum("ro,ri->oi", grad, x, preferred_element_type=like.dtype)
    return jnp.einsum("ro,io->ri", grad, narrow), grad_kernel.T


matmul_f32_grad.defvjp(_matmul_f32_grad_forward, _matmul_f32_grad_backward)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def attention_xla(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L K"],
    causal: bool,
) -> Float[Array, "B H L K"]:
    """softmax(q k^T) v, with a custom backward pass that saves memory traffic.

    It keeps one (L, L) array and reads each as rarely as possible: the sums of the
    softmax act on (L, K), as in Dao et al. 2022, arXiv:2205.14135, appendix B, and the
    arrays that are transposed for XLA's fast products are (L, K) too.
    """
    return _attention_forward(q, k, v, causal)[0]


def _attention_forward(q, k, v, causal):
    scores = jnp.einsum("bhlk,bhmk->bhlm", q, k, preferred_element_type=jnp.float32)
    if causal:
        is_past = jnp.tril(jnp.ones(scores.shape[-2:], bool))
        scores = jnp.where(is_past[None, None], scores, -jnp.inf)
    weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    scale = 1.0 / jnp.sum(weights, axis=-1, keepdims=True)
    weights = weights.astype(v.dtype)
    mixed = scale * jnp.einsum("bhlm,bhmk->bhlk", weights, v)
    mixed = mixed.astype(v.dtype)
    return mixed, (q, k, v, weights, scale, mixed)


def _attention_backward(causal, saved, grad):
    del causal  # the weights of later positions are zero
    q, k, v, weights, scale, mixed = saved
    grad = grad * scale
    mean = jnp.sum(grad * mixed, axis=-1, keepdims=True)
    grad = grad.astype(v.dtype)
    grad_scores = jnp.einsum(
        "bhlk,bhmk->bhlm", grad, v, preferred_element_type=jnp.float32
    )
    grad_scores = (weights * (grad_scores - mean)).astype(q.dtype)
    grad_q = jnp.einsum("bhlm,bhmk->bhlk", grad_scores, k)
    return grad_q, _transposed(grad_scores, q), _transposed(weights, grad)


def _transposed(
    weights: Float[Array, "B H L M"], x: Float[Array, "B H L K"]
) -> Float[Array, "B H M K"]:
    """weights^T x as (x^T weights)^T: only the smaller arrays are transposed."""
    product = jnp.einsum("bhkl,bhlm->bhkm", jnp.swapaxes(x, 2, 3), weights)
    return jnp.swapaxes(product, 2, 3)


attention_xla.defvjp(_attention_forward, _attention_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def cross_entropy(
    logits: Float[Array, "R V"], x: Targets, num_tokens: int
) -> Float[Array, " R"]:
    """-log softmax(logits of text ids)[x]; ids from num_tokens on pad the vocabulary.

    The gradient, softmax - one-hot, is computed from the logits in one pass.
    """
    return _cross_entropy_forward(logits, x, num_tokens)[0]


def _cross_entropy_forward(logits, x, num_tokens):
    ids = jnp.arange(logits.shape[-1])[None, :]
    text = jnp.where(_is_text(ids, num_tokens), logits.astype(jnp.float32), -jnp.inf)
    log_sum = jax.nn.logsumexp(text, axis=-1)
    # A sum, as a gather would need the float32 logits in memory.
    chosen = jnp.sum(jnp.where(ids == x[:, None], text, 0.0), axis=-1)
    return log_sum - chosen, (logits, x, log_sum)


def _cross_entropy_backward(num_tokens, saved, grad):
    logits, x, log_sum = saved
    ids = jnp.arange(logits.shape[-1])[None, :]
    p = jnp.exp(logits.astype(jnp.float32) - log_sum[:, None])
    p = jnp.where(_is_text(ids, num_tokens), p, 0.0)
    grad_logits = grad[:, None] * (p - (ids == x[:, None]))
    return grad_logits.astype(logits.dtype), None


cross_entropy.defvjp(_cross_entropy_forward, _cross_entropy_backward)


def masked_nll(
    h: Float[Array, "R D"],
    table: Float[Array, "V D"],
    x: Targets,
    is_scored: Bool[Array, " R"],
    *,
    num_tokens: int,
    max_scored: int | None = None,
) -> Nats:
    """-log p(x | h) at the scored rows, else 0.

    Args:
      h: hidden states, the input of the head.
      table: weights of the head; cast to the type of h, but their gradient is not.
      x: target ids; any value at rows that are not scored.
      is_scored: whether a row is scored.
      num_tokens: vocabulary size; ids from here on are padding.
      max_scored: number of rows that the head runs on; default: all. If more rows are
        scored, it runs on all rows: the result is the same, only slower.
    """
    x = jnp.where(is_scored, x, NUM_NON_TEXT)
    if max_scored is None or max_scored >= len(x):
        return _all_rows(h, table, x, is_scored, num_tokens)
    return _some_rows(h, table, x, is_scored, num_tokens, max_scored)


def _all_rows(h, table, x, is_scored, num_tokens):
    logits = matmul_f32_grad(h, table.T)
    return jnp.where(is_scored, cross_entropy(logits, x, num_tokens), 0.0)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _some_rows(h, table, x, is_scored, num_tokens, size):
    return _some_rows_forward(h, table, x, is_scored, num_tokens, size)[0]


def _some_rows_forward(h, table, x, is_scored, num_tokens, size):
    # Custom VJP: autodiff of `cond` would save the residuals of both branches.
    def some():
        rows = _rows(is_scored, size)
        logits = matmul_f32_grad(h[rows], table.T)
        nats, (_, _, log_sum) = _cross_entropy_forward(logits, x[rows], num_tokens)
        return _spread(nats, is_scored), logits, log_sum

    def every():
        nats = _all_rows(h, table, x, is_scored, num_tokens)
        nothing = jnp.zeros((size, len(table)), h.dtype), jnp.zeros(size)
        return nats, *nothing

    fits = jnp.sum(is_scored) <= size
    nats, logits, log_sum = jax.lax.cond(fits, some, every)
    return nats, (h, table, x, is_scored, fits, logits, log_sum)


def _some_rows_backward(num_tokens, size, saved, grad):
    h, table, x, is_scored, fits, logits, log_sum = saved

    def some():
        rows = _rows(is_scored, size)
        is_row = jnp.arange(size) < jnp.sum(is_scored)
        kept = logits, x[rows], log_sum
        grad_nats = jnp.where(is_row, grad[rows], 0.0)
        grad_logits, _ = _cross_entropy_backward(num_tokens, kept, grad_nats)
        grad_h = _spread(grad_logits @ table.astype(h.dtype), is_scored)
        # Not rounded to the type of h: see `matmul_f32_grad`.
        return grad_h, jnp.matmul(
            grad_logits.T, h[rows], preferred_element_type=table.dtype
        )

    def every():
        run = partial(_all_rows, x=x, is_scored=is_scored, num_tokens=num_tokens)
        return jax.vjp(run, h, table)[1](grad)

    return *jax.lax.cond(fits, some, every), None, None


_some_rows.defvjp(_some_rows_forward, _some_rows_backward)


def _is_text(ids: Int[Array, "1 V"], num_tokens: int) -> Bool[Array, "1 V"]:
    return (ids >= NUM_NON_TEXT) & (ids < num_tokens)


def _rows(is_scored: Bool[Array, " R"], size: int) -> Int[Array, " S"]:
    """The indices of the scored rows, filled up with row 0, whose result is unused."""
    return jnp.nonzero(is_scored, size=size, fill_value=0)[0]


def _spread(values: Array, is_scored: Bool[Array, " R"]) -> Array:
    """The inverse of x[_rows(is_scored)], zero at other rows.

    It is a gather, which is faster than a scatter.
    """
    place = jnp.clip(jnp.cumsum(is_scored) - 1, 0, len(values) - 1)
    is_scored = is_scored.reshape(-1, *[1] * (values.ndim - 1))
    return jnp.where(is_scored, values[place], 0)
