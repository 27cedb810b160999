"""A masked diffusion language model in PyTorch; `lm_jax.convert` wrote its weights.

    model = AutoModel.from_pretrained(directory, trust_remote_code=True)
    logits = model(z_t, t).logits  # (B, L, V) of tokens z_t (B, L) at times t (B,)

RoPE, pre-RMSNorm, SwiGLU, no biases, attention over the whole window; t in [0, 1] is
the diffusion time, 0 without a MASK and 1 all MASK.
"""

import math

import torch
from torch import nn
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput

SCHEDULES = {
    "linear": lambda t: 1.0 - t,
    "cosine": lambda t: 1.0 - torch.cos(0.5 * math.pi * (1.0 - t)),
    "polynomial": lambda t: 1.0 - t * t,
    "log_linear": lambda t: 1.0 - t,
    "cos_squared": lambda t: torch.cos(0.5 * math.pi * t) ** 2,
}


class MdlmConfig(PretrainedConfig):
    """Sizes and options, with the names of lm_jax.config and mdlm_jax.config.

    `num_non_text`: ids below are never text, and have probability zero.
    """

    model_type = "mdlm_jax"

    def __init__(
        self,
        vocab_size=1024,
        length=256,
        width=128,
        num_layers=4,
        num_heads=4,
        ffn_width=352,
        tied_head=True,
        norm_epsilon=1e-6,
        rope_base=10_000.0,
        time_embedding="additive",
        time_scale=1000.0,
        bos_at_start=True,
        schedule="linear",
        num_non_text=4,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.vocab_size = vocab_size
        self.length = length
        self.width = width
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.ffn_width = ffn_width
        self.tied_head = tied_head
        self.norm_epsilon = norm_epsilon
        self.rope_base = rope_base
        self.time_embedding = time_embedding
        self.time_scale = time_scale
        self.bos_at_start = bos_at_start
        self.schedule = schedule
        self.num_non_text = num_non_text


class Mdlm(PreTrainedModel):
    """Tokens and times -> logits of the tokens behind the masks."""

    config_class = MdlmConfig

    def __init__(self, config):
        super().__init__(config)
        width = config.width
        self.embedding = nn.Embedding(config.vocab_size, width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.final_norm = RMSNorm(config)
        if not config.tied_head:
            self.head = nn.Linear(width, config.vocab_size, bias=False)
        sizes = {"none": [], "additive": [width]}
        sizes["adaln"] = [width, config.num_layers * 6 * width]
        self.time_embedding = nn.ModuleList(
            nn.Linear(width, size) for size in sizes[config.time_embedding]
        )
        self.post_init()

    def _init_weights(self, module):
        """Every weight is read from a file."""

    def forward(self, input_ids, t, **kwargs):
        """Logits (B, L, V) of tokens (B, L) at times (B,)."""
        config = self.config
        size = math.sqrt(config.width)
        h = size * self.embedding(input_ids)
        if config.bos_at_start:
            start = size * self.embedding.weight[config.bos_token_id]
            h = torch.cat([h[:, :1] + start, h[:, 1:]], dim=1)
        modulations = [None] * config.num_layers
        if config.time_embedding != "none":
            vector = functional.silu(self.time_embedding[0](self.sinusoids(t)))
            if config.time_embedding == "additive":
                h = h + vector[:, None]
            else:
                vectors = self.time_embedding[1](vector)
                modulations = vectors.view(len(t), config.num_layers, 6, 1, -1)
                modulations = modulations.transpose(0, 1)
        rotation = self.angles(input_ids.shape[1], h.device)
        for block, modulation in zip(self.blocks, modulations):
            h = block(h, rotation, modulation)
        h = self.final_norm(h)
        table = self.embedding if config.tied_head else self.head
        logits = functional.linear(h, table.weight).float()
        logits[..., : config.num_non_text] = -torch.inf
        return MaskedLMOutput(logits=logits)

    def alpha(self, t):
        """The probability that a token is unmasked at time t."""
        return SCHEDULES[self.config.schedule](t)

    def sinusoids(self, t):
        """sin and cos of scale * t * 10000^(-2 i / D)."""
        half = self.config.width // 2
        exponent = torch.arange(half, device=t.device) / half
        frequency = torch.exp(-math.log(10_000.0) * exponent)
        angle = self.config.time_scale * t[:, None] * frequency
        return torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1)

    def angles(self, length, device):
        """cos and sin of position * base^(-2 i / K)."""
        half = self.config.width // self.config.num_heads // 2
        frequency = self.config.rope_base ** (-torch.arange(half, device=device) / half)
        angle = torch.arange(length, device=device)[:, None] * frequency
        return torch.cos(angle), torch.sin(angle)


class Block(nn.Module):
    """h + attention(norm(h)), then h + feed-forward(norm(h))."""

    def __init__(self, config):
        super().__init__()
        width, ffn_width = config.width, config.ffn_width
        self.num_heads = config.num_heads
        self.attention_norm = RMSNorm(config)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.ffn_norm = RMSNorm(config)
        self.gate = nn.Linear(width, ffn_width, bias=False)
        self.up = nn.Linear(width, ffn_width, bias=False)
        self.down = nn.Linear(ffn_width, width, bias=False)

    def forward(self, h, rotation, modulation=None):
        """`modulation`: shift, scale and gate of both branches, (B, 6, 1, D)."""
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (
            [0.0] * 6 if modulation is None else modulation.unbind(1)
        )
        x = self.attention_norm(h) * (1.0 + scale) + shift
        h = h + self.attention(x, rotation) * (1.0 + gate)
        x = self.ffn_norm(h) * (1.0 + ffn_scale) + ffn_shift
        branch = self.down(functional.silu(self.gate(x)) * self.up(x))
        return h + branch * (1.0 + ffn_gate)

    def attention(self, x, rotation):
        """Attention over the whole window."""
        parts = self.qkv(x).chunk(3, dim=-1)
        shape = (*x.shape[:2], self.num_heads, -1)
        q, k, v = (part.view(shape).transpose(1, 2) for part in parts)
        q, k = rotate(q, rotation), rotate(k, rotation)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return self.attention_out(mixed.transpose(1, 2).reshape(x.shape))


class RMSNorm(nn.Module):
    """x / rms(x) * weight."""

    def __init__(self, config):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.width))
        self.epsilon = config.norm_epsilon

    def forward(self, x):
        """In float32, whatever the type of x."""
        y = x.float()
        y = y * torch.rsqrt(y.square().mean(dim=-1, keepdim=True) + self.epsilon)
        return (y * self.weight).to(x.dtype)


def rotate(x, rotation):
    """Rotates the pairs (i, i + K/2) of x (B, H, L, K)."""
    cos, sin = rotation
    first, second = x.float().chunk(2, dim=-1)
    rotated = (first * cos - second * sin, second * cos + first * sin)
    return torch.cat(rotated, dim=-1).to(x.dtype)
