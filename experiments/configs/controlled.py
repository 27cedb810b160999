"""The study at its size and budget, repaired: one GPU.

python -m experiments.compare --config=experiments/configs/controlled.py \\
    --workdir=runs/controlled

What the study had (arXiv:2603.22075): 12 layers, width 768, 20,000 steps of 32 x 512
tokens of TinyStories, AdamW at 3e-4. What is repaired: both heads tied, the NELBO in
place of the unweighted loss, windows that begin with a story, a split by document, and
both families writing from nothing, and three seeds in place of none. The vocabulary is
SentencePiece, not GPT-2's. A judge needs text that neither family reads: halve the
corpus with python -m experiments.judge, and see --config.evaluate.judge_files.

Not yet run: no result is quoted.
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


def get_config() -> ConfigDict:
    return Config(
        num_seeds=3,
        data=DataConfig(corpus="tinystories"),
        model=ModelConfig(
            length=512,
            vocab_size=8192,
            width=768,
            num_layers=12,
            num_heads=12,
            ffn_width=2048,
            dtype="bfloat16",
        ),
        optimizer=OptimizerConfig(learning_rate=3e-4, warmup_steps=500),
        train=TrainConfig(
            num_steps=20_000,
            batch_size=32,
            log_every=100,
            eval_every=2_000,
            eval_windows=512,
            eval_draws=8,
            save_every=1_000,
        ),
        sample=SampleConfig(num_samples=1_000, batch_size=250, num_steps=256),
        evaluate=EvaluateConfig(
            max_windows=2_000, num_draws=32, detail_windows=256, order_windows=64
        ),
        frontier=FrontierConfig(num_samples=250),
        report=ReportConfig(
            infill="Once upon a time, there was a little dog named Max. [24] Max was "
            "sad. [24] Max was happy and went home. The end."
        ),
    ).to_config_dict()
