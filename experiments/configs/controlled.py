"""The repaired protocol: at the paper's size on one GPU, and at small sizes on CPUs.

python -m experiments.compare --config=experiments/configs/controlled.py \\
    --workdir=runs/controlled
python -m experiments.compare --config=experiments/configs/controlled.py:1m \\
    --workdir=runs/controlled_1m

As in the paper (arXiv:2603.22075): 12 layers, width 768, 20,000 steps of 32 x 512
tokens of TinyStories, AdamW at 3e-4. Repaired: both output layers are tied, the loss is
the NELBO and not the unweighted one, windows begin with a document, the split is by
document, both families generate without a prompt, and there are three seeds. The
vocabulary is SentencePiece, not GPT-2's. The only difference between the families is
the time embedding. A judge needs text on which neither family was trained: halve the
corpus with python -m experiments.compare.judge, and see --config.evaluate.judge_files.

`controlled.py:SIZE` is the same protocol on a CPU: `1m`, `3m` and `10m` parameters on
storyworld or, with --config.data.corpus=tinystories, on real text. `storyworld` and
`tinystories` are smaller, so that experiments.ablation trains its 24 runs in about 35
minutes on two cores. Depth, small batches, the polynomial schedule and the learning
rate were tuned on storyworld at a million parameters, see tiny.py; nothing was tuned at
3m and 10m.

Not yet run at the paper's size. `storyworld` and `tinystories` were run with three
seeds: experiments/results/study_storyworld and study_tinystories. There the
difference of MDLM and AR in the share of the most frequent first word is not resolved.
On TinyStories, MDLM's five-word openings are more varied than AR's, and farther from
the corpus.
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
from mdlm_jax.config import MDLMConfig

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
    """One GPU: the size and the budget of the paper."""
    return Config(
        num_seeds=3,
        data=DataConfig(corpus="tinystories"),
        families={"mdlm": MDLMConfig(schedule="polynomial")},
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
        evaluate=EvaluateConfig(max_windows=2_000, num_draws=32, detail_windows=256),
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
    """Two CPU cores: the same protocol, with hyperparameters for small models."""
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
