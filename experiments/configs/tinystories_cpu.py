"""TinyStories on two CPU cores: both families in less than an hour.

python -m experiments.compare --config=experiments/configs/tinystories_cpu.py \\
    --config.data.train_files=train.txt --config.data.valid_files=valid.txt \\
    --workdir=runs/tinystories_cpu

Result: experiments/results/tinystories_cpu/, with its machine, versions and commit.
"""

from ml_collections import ConfigDict

from lm_jax.config import (
    Config,
    DataConfig,
    EvaluateConfig,
    FrontierConfig,
    ModelConfig,
    OptimizerConfig,
    ReportConfig,
    SampleConfig,
    TrainConfig,
)
from mdlm_jax.config import MDLMConfig


def get_config() -> ConfigDict:
    return Config(
        data=DataConfig(corpus="tinystories"),
        families={"mdlm": MDLMConfig(schedule="polynomial")},
        model=ModelConfig(
            length=256,
            vocab_size=2048,
            width=128,
            num_layers=6,
            num_heads=4,
            ffn_width=352,
        ),
        optimizer=OptimizerConfig(learning_rate=1.8e-3, warmup_steps=100, b2=0.98),
        train=TrainConfig(
            num_steps=5_000,
            batch_size=4,
            log_every=100,
            eval_every=500,
            eval_windows=64,
            eval_draws=8,
            save_every=500,
        ),
        sample=SampleConfig(num_samples=128, batch_size=64, num_steps=64),
        evaluate=EvaluateConfig(
            max_windows=192,
            num_draws=16,
            samplers=("confidence@0", "margin@0", "spread@64"),
        ),
        frontier=FrontierConfig(
            num_samples=32, temperatures=(0.7,), top_ps=(0.9,), num_steps=(16,)
        ),
        report=ReportConfig(
            infill="Once upon a time, there was a little dog named Max. [24] Max was "
            "sad. [24] Max was happy and went home. The end."
        ),
    ).to_config_dict()
