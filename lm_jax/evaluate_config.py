"""The evaluation sections of the configuration; `lm_jax.config` exports them."""

import dataclasses
import math

from lm_jax.validation import Validated, require, split_list


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Validated):
    """Evaluation after training.

    Attributes:
      max_windows: validation windows to score; 0 scores all.
      num_draws: masks drawn per window for a bound; even, as two share a stratum.
      batch_size: windows scored at a time.
      num_resamples: bootstrap resamples per interval.
      detail_windows: windows for calibration, loss by position and by hidden share, and
        convergence of a bound; 0 leaves these out.
      order_windows: windows scored by the chain rule in given orders, which costs L
        network calls per window and order; 0 leaves it out.
      judge_steps: training steps of the judge, an AR model that scores the samples; 0
        is no judge.
      judge_files: training files of the judge, which no family may have trained on;
        storyworld needs none.
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
    """Sampler settings of the frontier: quality against variety against seconds.

    Each list varies one setting of the run's sampler and keeps the others. Commas
    separate its entries; an empty list varies nothing.

    Attributes:
      num_samples: samples at each setting; 0 is no frontier.
      temperatures: temperatures, for every family.
      top_ps: values of top_p, for every family.
      num_steps: numbers of steps, for the families that sample in steps.
      samplers: names of samplers, each for the families that have it.
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
            "variety needs several samples",
        )
        for name, least in (("temperatures", 0.0), ("top_ps", 1e-9), ("num_steps", 0)):
            for value in self.numbers(name):
                require(
                    value >= least and math.isfinite(value),
                    f"FrontierConfig.{name} contains {value:g}: give finite "
                    f"numbers of at least {least:g}",
                )
        for value in self.numbers("top_ps"):
            require(value <= 1.0, f"FrontierConfig.top_ps has {value:g}, above 1")
        for value in self.numbers("num_steps"):
            require(
                value == int(value) and value < 2**31,
                f"FrontierConfig.num_steps has {value:g}: give integers below 2^31",
            )

    def numbers(self, name: str) -> list[float]:
        """The entries of the list in this field, as numbers.

        Raises:
          ValueError: an entry is no number; the message names the field.
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
        """The entries of the list in this field."""
        return split_list(getattr(self, name))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig(Validated):
    """Samples whose generation the report shows step by step.

    Attributes:
      num_played: samples of each family to show.
      infill: text with gaps to fill, "Once [12] and then [20]. The end.", for families
        that can infill; "" is none, "auto" is a held-out document without its middle.
    """

    num_played: int = 3
    infill: str = ""

    def validate(self) -> None:
        self.at_least(0, "num_played")
