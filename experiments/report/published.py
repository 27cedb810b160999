"""Numbers published in arXiv:2603.22075v1: tables 3 and 4, and the text.

They come from other model sizes, another data split and other samplers. Reports show
them beside a run's own numbers for orientation, never in one column with them.
"""

CITATION = "arXiv:2603.22075v1"
URL = "https://arxiv.org/abs/2603.22075v1"
WARNING = (
    "published in the paper (other model size, other data split; not a comparable run)"
)
LABELS = ("AR", "MDLM")

# Table 3: exact cross-entropy for AR; for MDLM an unweighted masked cross-entropy.
LOSS_STEPS = tuple(range(2_000, 20_001, 2_000))
LOSS = {
    "AR": (2.660, 2.047, 1.837, 1.726, 1.665, 1.633, 1.589, 1.603, 1.627, 1.622),
    "MDLM": (3.952, 3.841, 3.585, 3.528, 3.509, 3.527, 3.491, 3.455, 3.419, 3.412),
}

# Table 4: 1,000 samples of 128 tokens each.
DIVERSITY = {
    "distinct_1": (0.053, 0.058),
    "distinct_2": (0.275, 0.297),
    "distinct_3": (0.531, 0.542),
    "distinct_4": (0.701, 0.690),
    "self_bleu": (0.341, 0.334),
    "vocabulary": (5_360, 5_754),
    "unique_first_words": (0.002, 0.361),
    "unique_openings": (0.033, 0.934),
    "words_per_document": (101.2, 99.2),
}

# From the text: one H100 with 80 GB; the time includes validation and saving.
PARAMETERS = (123.6e6, 162.7e6)
TOKENS_PER_SECOND = (50_620, 48_343)
