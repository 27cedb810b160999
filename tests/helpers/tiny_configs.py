"""Runs at toy size, of both families."""

import importlib.util
from pathlib import Path

from ml_collections import ConfigDict

import ar_jax
import mdlm_jax
from lm_jax.config import (
    Config,
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    OptimizerConfig,
    ReportConfig,
    SampleConfig,
    TrainConfig,
)

FAMILIES = {"ar": ar_jax.FAMILY, "mdlm": mdlm_jax.FAMILY}


def toy(cache_dir: Path) -> Config:
    """A comparison in seconds."""
    return Config(
        data=DataConfig(
            num_stories=150, num_valid_stories=24, cache_dir=str(cache_dir)
        ),
        model=ModelConfig(
            length=128,
            vocab_size=1_000,
            width=16,
            num_layers=1,
            num_heads=2,
            ffn_width=32,
        ),
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=2),
        train=TrainConfig(
            num_steps=12,
            batch_size=8,
            log_every=4,
            eval_every=6,
            eval_windows=8,
            eval_draws=2,
            save_every=4,
        ),
        sample=SampleConfig(num_samples=6, batch_size=4, num_steps=4),
        evaluate=EvaluateConfig(
            max_windows=8,
            num_draws=4,
            batch_size=8,
            samplers=("spread@4", "spread@2"),
            sampler_windows=4,
        ),
        report=ReportConfig(num_played=2, infill="Sara had [9] a [3]. The end."),
    )


def flags_of(cfg: Config) -> list[str]:
    """The flags that turn the default config into this one."""
    return [
        f"--config.{section}.{field}={value}"
        for section, fields in cfg.to_dict().items()
        if isinstance(fields, dict)
        for field, value in fields.items()
        if value != ""
    ]


def load_config(path: Path, *arguments: str) -> ConfigDict:
    """What flags do with a config file: run it, and call its get_config()."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(*arguments)
