"""Few tokens, many epochs: does MDLM overtake AR where text is scarce?

python -m experiments.compare --config=experiments/configs/data_constrained.py \\
    --workdir=runs/data_constrained

One point of experiments.repeated_data, which varies the corpus and leaves the tokens
trained on as they are: here 16 epochs of a sixteenth of storyworld. After Prabhudesai
et al., arXiv:2507.15857, and Ni et al., arXiv:2511.03276, who found that MDLM overtakes
AR; and arXiv:2510.04071, who found that dropout and weight decay give AR much of the
same. The 8,000 windows of a run are one pass over 16,000 stories, as every window
begins with a story and cuts off the next.

Run with three seeds on two CPU cores, 38 minutes by two processes beside other work:
experiments/results/data_constrained. AR overfits from 16 epochs on (best at step 1,000
of 2,000, after 64 epochs at 400), MDLM never. MDLM's bound lies above AR's loss
everywhere; after 64 epochs the two cannot be told apart at the last step. Dropout and
weight decay put AR ahead again, and MDLM does worse with them at 16 epochs.
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
        model=ModelConfig(
            length=112,
            vocab_size=1024,
            width=64,
            num_layers=6,
            num_heads=4,
            ffn_width=176,
            schedule="polynomial",
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
