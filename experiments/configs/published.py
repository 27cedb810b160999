"""The protocol of the code of arXiv:2603.22075: one GPU, and not a fair comparison.

python -m experiments.compare --config=experiments/configs/published.py \\
    --config.data.tokenizer_files=vocab.json,merges.txt --workdir=runs/published

Needs `pip install -e '.[gpt2]'` and the vocab.json and merges.txt of GPT-2. Without
them, --config.data.tokenizer=sentencepiece --config.model.vocab_size=8192 is closest.

As in the paper: the first edition of TinyStories (TinyStories-train.txt); an untied
head for MDLM only; the cross-entropy averaged over all masks, which is not a
likelihood; the schedule 1 - cos^2(pi t / 2), with independent times for each row; t in
[0, 1] as input of the sinusoids; no BOS at the start of a window; one stream without
EOS, cut every 512 tokens; a random 5% of the chunks for validation, which leaks; about
50M tokens; AdamW at 3e-4 with decay 0.01 on all parameters, 500 steps of warm-up,
cosine to 5%, clipping at 1; no dropout; float32; 1,000 samples of 128 tokens with the
paper's two samplers, and the prompt "Once" for AR only. One seed.

Remaining differences: the initialisation; AR reads BOS and is also scored on its first
token; both matrices have rows for PAD, BOS, UNK, MASK and EOS and are padded (counted
as in the paper, there are 123,551,232 and 162,739,968 parameters); t is never 0; a
bound is evaluated in addition to the loss. `family_overrides` has the fields that only
one family gets; the samplers named "vicentino2026" have their own prompt. There are no
other special cases.

Not yet run: no result is quoted.
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
from mdlm_jax.config import MDLMConfig


def get_config() -> ConfigDict:
    return Config(
        family_overrides={"mdlm": {"tied_head": False}},
        families={
            "mdlm": MDLMConfig(
                schedule="cos_squared",
                times="independent",
                objective="token_mean",
                time_embedding="additive",
                time_scale=1.0,
                bos_at_start=False,
                head="all",  # the paper computes logits at every position
            )
        },
        data=DataConfig(
            corpus="tinystories",
            edition="first",
            max_documents=250_000,  # about 50M tokens
            windows="stream",
            split="chunk",
            valid_share=0.05,
            tokenizer="gpt2",
        ),
        model=ModelConfig(
            length=512,
            vocab_size=50_262,  # GPT-2's 50,257, and five special tokens
            width=768,
            num_layers=12,
            num_heads=12,
            ffn_width=2048,
            tied_head=True,
        ),
        optimizer=OptimizerConfig(
            learning_rate=3e-4,
            warmup_steps=500,
            final_share=0.05,
            weight_decay=0.01,
            b1=0.9,
            b2=0.999,
            clip_norm=1.0,
        ),
        train=TrainConfig(
            num_steps=20_000,
            batch_size=32,
            log_every=100,
            eval_every=2_000,
            eval_windows=1_600,
            eval_draws=2,
            save_every=1_000,
        ),
        sample=SampleConfig(
            num_samples=1_000, batch_size=250, length=128, sampler="vicentino2026"
        ),
        evaluate=EvaluateConfig(max_windows=1_600, num_draws=32, detail_windows=256),
    ).to_config_dict()
