"""Hyperparameters of masked diffusion, the section `mdlm` of the configuration."""

import dataclasses

from lm_jax.config import SECTIONS, Validated


@dataclasses.dataclass(frozen=True, kw_only=True)
class MDLMConfig(Validated):
    """What only masked diffusion has; the backbone is `model`, as for every family.

    Attributes:
      schedule: masking schedule: "linear", "cosine", "polynomial", "log_linear" or
        "cos_squared"; see mdlm_jax/schedule.py.
      times: diffusion times in training: "stratified" over the batch, or
        "independent", as in the paper.
      objective: diffusion loss: "nelbo", or "token_mean" (the paper's loss, which is
        not a likelihood).
      time_embedding: how the diffusion model reads t: "none", "additive" or "adaln";
        "sigma" for a published network that is conditioned on -log alpha_t.
      time_scale: factor on t before the sinusoids; the paper has 1.
      bos_at_start: whether the diffusion model adds the BOS embedding at the first
        position; AR always begins with BOS. Without it all positions of an all-MASK
        window look alike, as in the paper.
      head: positions at which the diffusion head runs in training: "masked" (the same
        loss for less work), "all", or "auto" ("masked" on one device, else "all", as
        the masked positions are gathered from the whole batch).
    """

    schedule: str = "linear"
    times: str = "stratified"
    objective: str = "nelbo"
    time_embedding: str = "additive"
    time_scale: float = 1000.0
    bos_at_start: bool = True
    head: str = "auto"

    def resolve_auto(self, num_devices: int) -> "MDLMConfig":
        """Chooses "masked" on one device; several would gather their whole batch."""
        if self.head != "auto":
            return self
        head = "masked" if num_devices == 1 else "all"
        return dataclasses.replace(self, head=head)

    def validate(self) -> None:
        self.one_of("head", "auto", "masked", "all")


SECTIONS["mdlm"] = MDLMConfig
