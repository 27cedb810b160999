"""The study repaired: at its own size on one GPU, and at small sizes on CPUs.

python -m experiments.compare --config=experiments/configs/controlled.py \\
    --workdir=runs/controlled
python -m experiments.compare --config=experiments/configs/controlled.py:1m \\
    --workdir=runs/controlled_1m

What the study had (arXiv:2603.22075): 12 layers, width 768, 20,000 steps of 32 x 512
tokens of TinyStories, AdamW at 3e-4. What is repaired: both heads tied, the NELBO in
place of the unweighted loss, windows that begin with a story, a split by document, and
both families writing from nothing, and three seeds in place of none. The vocabulary is
SentencePiece, not GPT-2's. The families differ by the time embedding and by nothing
else. A judge needs text that neither family reads: halve the corpus with
python -m experiments.compare.judge, and see --config.evaluate.judge_files.

`controlled.py:SIZE` is the same protocol on a CPU: `1m`, `3m` and `10m` parameters on
storyworld or, with --config.data.corpus=tinystories, on real text. `storyworld` and
`tinystories` are smaller, with budgets that let experiments.ablation train its 24
runs in about 35 minutes of two cores. Depth, small batches, the polynomial schedule
and the learning rate were found on storyworld at a million parameters, see tiny.py;
at 3m and 10m nothing was searched.

Not yet run at the study's size. `storyworld` and `tinystories` are, with three seeds:
experiments/results/study_storyworld and study_tinystories. There the share of MDLM's
commonest first word cannot be told from AR's; on TinyStories its five-word openings are
more varied than AR's, and farther from the corpus's.
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
    require,
)

# length, vocabulary, width, layers, heads, feed-forward, batch, steps, sampling steps
SIZES = {
    "1m": (128, 1024, 112, 6, 4, 304, 4, 4_000, 128),
    "3m": (256, 2048, 192, 6, 6, 512, 8, 6_000, 128),
    "10m": (256, 4096, 320, 7, 5, 856, 16, 8_000, 128),
    "storyworld": (112, 1024, 64, 6, 4, 176, 4, 2_800, 112),
    "tinystories": (208, 2048, 64, 6, 4, 176, 2, 1_800, 48),
}


def get_config(size: str = "paper") -> ConfigDict:
    require(
        size == "paper" or size in SIZES,
        f"controlled.py:{size} is unknown: choose one of {', '.join(SIZES)}, or none",
    )
    if size == "paper":
        return study().to_config_dict()
    corpus = "tinystories" if size == "tinystories" else "storyworld"
    return small(corpus, *SIZES[size]).to_config_dict()


def study() -> Config:
    """One GPU: the study's size and budget."""
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
    )


def small(
    corpus: str,
    length: int,
    vocab_size: int,
    width: int,
    layers: int,
    heads: int,
    ffn: int,
    batch: int,
    steps: int,
    sampling_steps: int,
) -> Config:
    """Two CPU cores: the same protocol with what a small model needs."""
    return Config(
        num_seeds=3,
        data=DataConfig(corpus=corpus, num_stories=20_000, num_valid_stories=500),
        model=ModelConfig(
            length=length,
            vocab_size=vocab_size,
            width=width,
            num_layers=layers,
            num_heads=heads,
            ffn_width=ffn,
            schedule="polynomial",
        ),
        optimizer=OptimizerConfig(learning_rate=1.8e-3, warmup_steps=100, b2=0.98),
        train=TrainConfig(
            num_steps=steps,
            batch_size=batch,
            log_every=100,
            eval_every=400,
            eval_windows=48,
            eval_draws=4,
            save_every=800,
        ),
        sample=SampleConfig(num_samples=96, batch_size=48, num_steps=sampling_steps),
        evaluate=EvaluateConfig(max_windows=128, num_draws=8, detail_windows=0),
    )
