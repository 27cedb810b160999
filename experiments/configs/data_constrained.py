"""Little text, many epochs: does MDLM overtake AR?

python -m experiments.compare --config=experiments/configs/data_constrained.py \\
    --workdir=runs/data_constrained

One point of experiments.repeated_data, which varies the size of the corpus and keeps
the number of training tokens: here 16 epochs of a sixteenth of storyworld. After
Prabhudesai et al., arXiv:2507.15857, and Ni et al., arXiv:2511.03276, who found that
MDLM overtakes AR; and arXiv:2510.04071, who found that dropout and weight decay give AR
much of the same benefit. The 8,000 windows of a run are one epoch of 16,000 stories: a
window begins with a story and cuts off the next one.

Run with three seeds on two CPU cores, 38 minutes with two processes beside other work:
experiments/results/data_constrained. AR overfits with 16 epochs and more (best step
1,000 of 2,000; with 64 epochs, 400), MDLM never. MDLM's bound is above AR's loss
everywhere; with 64 epochs the difference at the last step is not resolved. Dropout and
weight decay put AR ahead again, and make MDLM worse at 16 epochs.
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

NUM_STORIES = 16_000
EPOCHS = 16


def get_config() -> ConfigDict:
    return Config(
        num_seeds=3,
        data=DataConfig(
            num_stories=NUM_STORIES,
            num_valid_stories=500,
            max_documents=NUM_STORIES // EPOCHS,
        ),
        families={"mdlm": MDLMConfig(schedule="polynomial")},
        model=ModelConfig(
            length=112,
            vocab_size=1024,
            width=64,
            num_layers=6,
            num_heads=4,
            ffn_width=176,
        ),
        optimizer=OptimizerConfig(learning_rate=1.8e-3, warmup_steps=100, b2=0.98),
        train=TrainConfig(
            num_steps=2_000,
            batch_size=4,
            log_every=100,
            eval_every=200,
            eval_windows=64,
            eval_draws=4,
            save_every=1_000,
        ),
        sample=SampleConfig(num_samples=96, batch_size=48),
        evaluate=EvaluateConfig(max_windows=256, num_draws=8),
    ).to_config_dict()
