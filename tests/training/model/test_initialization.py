"""The first weights of the tables do not depend on how the tables are cut."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from scrollpast.training.model.initialization import _fill, fill_tables

NAME = "towers.ad_tables.embedding_bags.{}.weight"


def table(name: str = "ad", *, rows: int = 50, columns: int = 8, seed: int = 3) -> torch.Tensor:
    filled = torch.full((rows, columns), torch.nan)
    fill_tables({NAME.format(name): filled}, seed=seed, bound=0.05)
    return filled


@given(st.integers(1, 49), st.integers(1, 7), st.integers(-(2**63), 2**63 - 1))
def test_a_part_of_a_table_has_the_values_of_the_whole(row: int, column: int, key: int) -> None:
    whole = torch.empty(50, 8)
    _fill(whole, key, 0.05, 0, 0, 8)
    part = torch.empty(50 - row, 8 - column)
    _fill(part, key, 0.05, row, column, 8)
    assert torch.equal(part, whole[row:, column:])


def test_a_table_that_is_filled_in_several_goes_has_the_same_values() -> None:
    large = table(rows=300_000, columns=8)
    assert torch.equal(large[:50], table())
    assert torch.equal(large[299_999], table(rows=300_000, columns=8)[-1])


def test_values_are_spread_evenly_within_the_bound() -> None:
    values = table(rows=20_000)
    assert -0.05 <= values.min() < -0.0499
    assert 0.0499 < values.max() < 0.05
    assert abs(float(values.mean())) < 5e-4
    # The variance of a uniform distribution of this width.
    assert abs(float(values.var()) / (0.1**2 / 12) - 1) < 0.01
    assert abs(float(torch.corrcoef(values.T).fill_diagonal_(0).abs().max())) < 0.03


def test_tables_and_seeds_differ() -> None:
    assert not torch.equal(table("ad"), table("user"))
    assert not torch.equal(table(seed=1), table(seed=2))


def test_what_is_no_table_is_left_alone() -> None:
    layer = torch.ones(3, 3)
    fill_tables({"towers.user_tower.layers.0.weight": layer}, seed=0, bound=0.05)
    assert torch.equal(layer, torch.ones(3, 3))
