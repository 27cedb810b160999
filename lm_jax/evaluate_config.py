"""The part of the configuration that evaluation reads; `lm_jax.config` exports it."""

import dataclasses
import math

from lm_jax.validation import Validated, require, split_list


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Validated):
    """How closely to look after training.

    Attributes:
      max_windows: validation windows that are scored; 0 scores all.
      num_draws: masks drawn per window for a bound; even, as two share a stratum.
      batch_size: windows at a time.
      num_resamples: resamples of the bootstrap behind every interval.
      detail_windows: windows behind the calibration, the loss by position and by hidden
        share, and the convergence of a bound; 0 leaves them out.
      order_windows: windows behind the chain rule in given orders, which costs L
        network calls a window and order; 0 leaves it out.
      judge_steps: training steps of a judge of the documents; 0 is no judge.
      judge_files: what the judge reads, which no family has trained on; storyworld
        needs none.
    """

    max_windows: int = 0
    num_draws: int = 16
    batch_size: int = 32
    num_resamples: int = 1_000
    detail_windows: int = 64
    order_windows: int = 0
    judge_steps: int = 0
    judge_files: str = ""

    def validate(self) -> None:
        self.at_least(0, "max_windows", "detail_windows", "order_windows")
        self.at_least(0, "judge_steps")
        self.at_least(2, "num_draws", "num_resamples")
        self.at_least(1, "batch_size")
        require(
            self.num_draws % 2 == 0,
            f"EvaluateConfig.num_draws={self.num_draws} must be even: "
            "the standard error compares two draws of a stratum",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrontierConfig(Validated):
    """Other settings of the sampler, for quality against variety against seconds.

    Each list varies one setting of the run's own sampler and leaves the others. A list
    is written with commas; an empty one varies nothing.

    Attributes:
      num_samples: documents at each setting; 0 is no frontier.
      temperatures, top_ps: for every family.
      num_steps: of the families that write in steps.
      samplers: names, each for the families that know it.
    """

    num_samples: int = 0
    temperatures: str = "0.5,0.7,0.85,1,1.2"
    top_ps: str = "0.8,0.95"
    num_steps: str = "8,32,128"
    samplers: str = "low_temperature"

    def validate(self) -> None:
        require(
            self.num_samples == 0 or self.num_samples >= 2,
            f"FrontierConfig.num_samples={self.num_samples} must be 0 or at least 2: "
            "variety is a property of several",
        )
        for name, least in (("temperatures", 0.0), ("top_ps", 1e-9), ("num_steps", 0)):
            for value in self.numbers(name):
                require(
                    value >= least and math.isfinite(value),
                    f"FrontierConfig.{name} holds {value:g}, which is out of range",
                )
        for value in self.numbers("top_ps"):
            require(value <= 1.0, f"FrontierConfig.top_ps holds {value:g}, above 1")
        for value in self.numbers("num_steps"):
            require(
                value == int(value) and value < 2**31,
                f"FrontierConfig.num_steps holds {value:g}, no number of steps",
            )

    def numbers(self, name: str) -> list[float]:
        """The numbers of a list.

        Raises:
          ValueError: names the field and what stands there.
        """
        text = getattr(self, name)
        try:
            return [float(part) for part in self.names(name)]
        except ValueError:
            raise ValueError(
                f"FrontierConfig.{name}={text!r} is no list of numbers: "
                "write them with commas, as in 0.7,1"
            ) from None

    def names(self, name: str) -> list[str]:
        """The entries of a list."""
        return split_list(getattr(self, name))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig(Validated):
    """Which single documents the report shows being written.

    Attributes:
      num_played: documents of each family, step by step.
      infill: given text with gaps, "Once [12] and then [20]. The end.", that families
        which can look ahead fill; "" is none, and "auto" a held-out text without its
        middle.
    """

    num_played: int = 3
    infill: str = ""

    def validate(self) -> None:
        self.at_least(0, "num_played")
