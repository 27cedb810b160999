"""What storyworld says of stories: which word is wrong, and how far a model is."""

import math

import numpy as np
import pytest

from lm_jax.data import storyworld
from lm_jax.data.storyworld.agreement import KINDS, agreement_errors
from lm_jax.evaluation.grammar import (
    backward_kl,
    error_shares,
    forward_kl,
    source_nats,
)

RACE = (
    "Once upon a time, there was a kind girl named Mia. Mia loved to sing every day. "
    "One day, Mia and her friend Joe went to the park. The park was quiet. "
    "Mia and Joe ran a race around the park. The prize was a red doll. Mia was first, "
    "but Joe fell over a root. Mia stopped and helped him up. They walked on together "
    "and both won the doll. Mia thanked Joe with a smile."
)


def test_stories_of_the_language_have_no_errors():
    """Empty if and only if the grammar accepts the text."""
    assert storyworld.log_prob(RACE) > -math.inf
    for story in [RACE, *storyworld.generate(3, 60)]:
        assert not agreement_errors(story)


@pytest.mark.parametrize(
    "right, wrong, errors",
    [
        ("won the doll", "won the boat", {"toy": 1}),
        ("The park was", "The farm was", {"place": 1}),
        ("Mia stopped", "Lily stopped", {"hero": 1}),
        ("but Joe fell", "but Sue fell", {"friend": 1}),
        ("helped him up", "helped her up", {"pronoun": 1}),
        ("and her friend", "and his friend", {"pronoun": 1}),
        ("Mia thanked Joe", "Ben thanked Luke", {"hero": 1, "friend": 1}),
        ("with a smile.", "with a", {"unfinished": 1}),
        ("Mia stopped", "Zog stopped", {"other": 1}),
        ("a kind girl", "a kind", {"other": 1}),
        (RACE, "", {"unfinished": 1}),
    ],
)
def test_each_disagreement_has_its_kind(right, wrong, errors):
    """One changed word, one error of the kind that it is of."""
    text = RACE.replace(right, wrong)
    assert text != RACE
    assert agreement_errors(text) == errors
    assert set(errors) <= set(KINDS)
    assert storyworld.log_prob(text) == -math.inf


def test_shares_count_stories_and_not_errors():
    """Two wrong heroes in one of three stories are one story of three."""
    broken = RACE.replace("Mia was first", "Sara was first").replace(
        "Mia stopped", "Sara stopped"
    )
    assert agreement_errors(broken) == {"hero": 2}
    table = error_shares([RACE, broken, RACE], agreement_errors, KINDS)
    assert {name: estimate.value for name, estimate in table.items()} == {"hero": 1 / 3}


def test_the_source_itself_recovers_the_truth():
    """Of 400 stories of the grammar the mean of -log p is its entropy, in the interval,
    and a model that equals the source is at 0 in both directions."""
    log_p = np.array([storyworld.log_prob(s) for s in storyworld.generate(8, 400)])
    found = source_nats(log_p)
    assert found is not None and found.low < storyworld.entropy() < found.high
    assert forward_kl(-log_p, -log_p, np.full(400, 90)) == (0.0, 0.0, 0.0)
    backward = backward_kl(log_p, log_p)
    assert backward is not None
    np.testing.assert_allclose(backward, 0.0, atol=1e-12)


def test_backward_kl_by_hand():
    """q = (1/2, 1/4, 1/4) and p = (1/4, 3/4, 0), on the model's four stories.

    Accepted share a = 3/4; q / a = (2/3, 1/3); KL = 2/3 log(8/3) + 1/3 log(4/9)."""
    model = np.log([1 / 2, 1 / 2, 1 / 4, 1 / 4])  # its stories: one, one, two, three
    source = np.array([np.log(1 / 4), np.log(1 / 4), np.log(3 / 4), -np.inf])
    found = backward_kl(model, source)
    expected = 2 / 3 * np.log(8 / 3) + 1 / 3 * np.log(4 / 9)
    assert found is not None
    np.testing.assert_allclose(found.value, expected)
    assert backward_kl(model, np.full(4, -np.inf)) is None
    assert source_nats(np.full(4, -np.inf)) is None


def test_forward_kl_by_hand():
    """Nats are summed and divided once: (3 + 1 - 2) / (4 + 6) tokens."""
    found = forward_kl(np.array([3.0, 1.0]), np.array([1.0, 1.0]), np.array([4, 6]), 10)
    np.testing.assert_allclose(found.value, 0.2)
