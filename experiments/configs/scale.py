"""Larger models under the repaired protocol: several GPUs.

python -m experiments.compare --config=experiments/configs/scale.py:350m \\
    --workdir=runs/scale_350m
python -m experiments.compare --config=experiments/configs/scale.py:1b \\
    --workdir=runs/scale_1b

350M and 1.3B parameters, at 20 tokens per parameter. All of TinyStories is too small
for that, at many epochs: pass another corpus with --config.data.corpus=text. The batch
is split over all devices. Four or eight devices share one copy of the parameters and of
AdamW's moments, 21 GB at 1.3B parameters; with --config.train.fsdp_devices=1 each
device has a copy. Learning rates follow GPT-3's for these sizes, arXiv:2005.14165,
table 2.1.

Not yet run. Compiled ahead of time for eight H200s, a device holds 17 GB at 350m (copy
shared by four) and 61 GB at 1b (shared by eight); experiments/results/speed has
scaling_350m.json and scaling_1b.json.
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
    require,
)

# width, layers, heads, feed-forward, learning rate, batch, tokens, fsdp_devices
SIZES = {
    "350m": (1024, 24, 16, 2816, 3e-4, 512, 7_000_000_000, 4),
    "1b": (2048, 24, 16, 5632, 2e-4, 1024, 26_000_000_000, 8),
}


def get_config(size: str = "350m") -> ConfigDict:
    require(
        size in SIZES, f"scale.py:{size} is unknown: choose one of {', '.join(SIZES)}"
    )
    width, layers, heads, ffn, learning_rate, batch, tokens, fsdp = SIZES[size]
    length = 1024
    return Config(
        data=DataConfig(corpus="tinystories"),
        model=ModelConfig(
            length=length,
            vocab_size=32_768,
            width=width,
            num_layers=layers,
            num_heads=heads,
            ffn_width=ffn,
            dtype="bfloat16",
        ),
        optimizer=OptimizerConfig(
            learning_rate=learning_rate, warmup_steps=700, weight_decay=0.1, b2=0.95
        ),
        train=TrainConfig(
            num_steps=tokens // (batch * length),
            batch_size=batch,
            accumulation=4,
            fsdp_devices=fsdp,
            log_every=50,
            eval_every=1_000,
            eval_windows=512,
            eval_draws=8,
            save_every=1_000,
        ),
        sample=SampleConfig(num_samples=1_000, batch_size=128, num_steps=256),
        evaluate=EvaluateConfig(max_windows=2_000, num_draws=32, detail_windows=256),
    ).to_config_dict()
