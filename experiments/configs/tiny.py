"""A comparison in minutes on two CPU cores, on the embedded corpus.

python -m experiments.compare
"""

from ml_collections import ConfigDict

from lm_jax.config import (
    Config,
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    OptimizerConfig,
    SampleConfig,
    TrainConfig,
)


def get_config() -> ConfigDict:
    return Config(
        data=DataConfig(corpus="storyworld", num_stories=20_000, num_valid_stories=500),
        model=ModelConfig(
            length=112,
            vocab_size=1024,
            width=96,
            num_layers=6,
            num_heads=4,
            ffn_width=256,
            schedule="polynomial",
        ),
        optimizer=OptimizerConfig(learning_rate=1.8e-3, warmup_steps=100, b2=0.98),
        train=TrainConfig(
            num_steps=4_200,
            batch_size=4,
            log_every=100,
            eval_every=700,
            eval_windows=64,
            eval_draws=8,
            save_every=1_400,
        ),
        sample=SampleConfig(num_samples=96, batch_size=48),
        evaluate=EvaluateConfig(max_windows=256, num_draws=8),
    ).to_config_dict()
