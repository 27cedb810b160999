"""The study as its code ran it, arXiv:2603.22075: one GPU, and not a fair comparison.

python -m experiments.compare --config=experiments/configs/published.py \\
    --config.data.tokenizer_files=vocab.json,merges.txt --workdir=runs/published

Needs `pip install -e '.[gpt2]'` and GPT-2's own vocab.json and merges.txt. Without them
--config.data.tokenizer=sentencepiece --config.model.vocab_size=8192 is the nearest.

As there: the first edition of TinyStories (TinyStories-train.txt); an untied head for
MDLM alone; the cross-entropy averaged over all masks, which is no likelihood; the
schedule 1 - cos^2(pi t / 2), and times drawn for each row
by itself; t in [0, 1] before the sinusoids; no mark where a window begins; one stream
without ends of stories, cut every 512 tokens; a random 5% of the chunks to validate,
which leaks; about 50M tokens; AdamW at 3e-4 with decay 0.01 on every parameter, 500
steps of warm-up, cosine to 5%, clipping at 1; no dropout; float32; 1,000 samples of 128
tokens by its own two samplers, and "Once" for AR alone. One seed.

What still differs: how parameters begin; AR reads BOS and is scored on its first token,
too; both matrices have rows for PAD, BOS, UNK, MASK and EOS and are padded (counted as
the study counts, there are 123,551,232 and 162,739,968 parameters); t is never 0; a
bound is evaluated beside the loss. `unequal` says what one family alone gets; the
samplers named "vicentino2026" bring their own prompt. Nothing else is a special case.

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


def get_config() -> ConfigDict:
    return Config(
        unequal="mdlm.model.tied_head=False",
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
            vocab_size=50_262,  # GPT-2's 50,257, and five that are never text
            width=768,
            num_layers=12,
            num_heads=12,
            ffn_width=2048,
            tied_head=True,
            head="all",  # the study's runs at every position
            bos_at_start=False,
            time_embedding="additive",
            time_scale=1.0,
            schedule="cos_squared",
            times="independent",
            objective="token_mean",
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
