"""Every family keeps the contract of lm_jax/language_model.py."""

import pytest
from family_contract import check_family

from experiments.families import FAMILIES

pytestmark = pytest.mark.usefixtures("fast_compilation")


@pytest.mark.parametrize("label", sorted(FAMILIES))
def test_a_family_keeps_the_contract(label):
    """Gradients, rows, padding, likelihood over all texts, and every sampler."""
    check_family(FAMILIES[label])
