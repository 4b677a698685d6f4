"""The loss with all its sources, masks and corrections equals loops in float64, and so do its gradients."""

from __future__ import annotations

import itertools
import math
import weakref
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from scrollpast.training.loss.sampled_softmax import Blocks, Own, Shared, sampled_softmax
from scrollpast.training.loss.sources.catalogue import RandomColumns
from scrollpast.training.loss.sources.hard import draw_offsets
from scrollpast.training.loss.sources.in_batch import InBatchColumns
from scrollpast.training.loss.sources.log_q import catalogue_correction, pool_correction
from tests.training.loss import plain

DIMENSION, NUM_ROWS = 3, 9


def _unit(generator: torch.Generator, *shape: int) -> torch.Tensor:
    drawn = torch.randn(*shape, DIMENSION, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(drawn, dim=-1).requires_grad_()


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    num_anchors=st.integers(1, 9),
    num_hard=st.integers(0, 3),
    num_random=st.integers(0, 5),
    corrected=st.booleans(),
    weighted=st.booleans(),
    sampled=st.booleans(),
    hard_correction=st.sampled_from(["none", "pool", "uniform", "popularity"]),
    rule=st.fixed_dictionaries(
        {name: st.booleans() for name in ("same_user", "same_request", "known", "hard_request")}
    ),
    cells=st.sampled_from([1, 40, 10**6]),
    slices=st.integers(1, 4),
)
def test_loss_and_gradients_are_those_of_plain_loops(
    seed: int, num_anchors: int, num_hard: int, num_random: int, corrected: bool, weighted: bool, sampled: bool,
    hard_correction: str, rule: dict[str, bool], cells: int, slices: int,
) -> None:  # fmt: skip
    sampled = sampled and corrected
    batch = plain.random_batch(seed, num_anchors, num_hard, NUM_ROWS)
    generator = torch.Generator().manual_seed(seed)
    users, positives = _unit(generator, num_anchors), _unit(generator, num_anchors)
    hard_ads, random_ads = _unit(generator, num_anchors, num_hard), _unit(generator, num_random)
    scale = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)
    leaves = [users, positives, hard_ads, random_ads, scale]
    drawn = torch.randint(1, NUM_ROWS, (num_random,), generator=generator)
    log_q = torch.log_softmax(torch.randn(NUM_ROWS, generator=generator, dtype=torch.float64), 0)
    weights = {"in_batch": 0.7, "random": 1.3, "hard": 2.0}
    q_of_rows = log_q.tolist() if corrected else None

    expected = torch.zeros((), dtype=torch.float64)
    shares = dict.fromkeys(weights, 0.0)
    for anchor in range(num_anchors):
        others = sum(plain.is_draw(batch, anchor, other, rule) for other in range(num_anchors))
        offset = (
            -log_q[batch.rows[anchor]].item() - torch.tensor(max(others, 1)).log().item() if sampled else 0.0
        )
        candidates = [
            *plain.in_batch(batch, anchor, positives, q_of_rows, weights["in_batch"], rule),
            *plain.random_ads(batch, anchor, drawn.tolist(), random_ads, q_of_rows, weights["random"], rule),
            *plain.hard(
                batch,
                anchor,
                hard_ads[anchor],
                weights["hard"],
                rule,
                hard_correction,
                weighted,
                log_q.tolist(),
            ),
        ]
        found, parts = plain.loss_of(users[anchor], positives[anchor], scale, offset, candidates)
        expected = expected + batch.weights[anchor] * found
        for name, part in parts.items():
            shares[name] += batch.weights[anchor] * part
    expected_gradients = torch.autograd.grad(expected, leaves, allow_unused=True)

    known_rows, known_lengths = batch.known_tensors()
    user, row, request = (batch.tensor(name) for name in ("users", "rows", "requests"))
    columns = InBatchColumns(
        row, known_rows, known_lengths, user, row, request, log_q[row] if corrected else None, 0,
        torch.tensor(weights["in_batch"], dtype=torch.float64).log().item(),
        rule["same_user"], rule["same_request"], rule["known"],
    )  # fmt: skip
    randoms = RandomColumns(
        row, known_rows, known_lengths, drawn, log_q[drawn] if corrected else None,
        torch.tensor(weights["random"], dtype=torch.float64).log().item(), rule["known"],
    )  # fmt: skip
    is_present_BK = batch.tensor("hard_weights", torch.float64).view(num_anchors, num_hard) > 0
    correction_BK = {
        "none": None,
        "pool": pool_correction(
            batch.tensor("hard_log_q", torch.float64).view(num_anchors, num_hard), is_present_BK
        ),
        "uniform": catalogue_correction(
            torch.full_like(is_present_BK, -math.log(NUM_ROWS - 1), dtype=torch.float64), is_present_BK
        ),
        "popularity": catalogue_correction(
            log_q[batch.tensor("hard_rows").view(num_anchors, num_hard)], is_present_BK
        ),
    }[hard_correction]
    offsets = draw_offsets(
        row, request, known_rows, known_lengths,
        batch.tensor("hard_rows").view(num_anchors, num_hard),
        batch.tensor("hard_weights", torch.float64).view(num_anchors, num_hard),
        batch.tensor("hard_requests").view(num_anchors, num_hard),
        num_rows=NUM_ROWS, log_weight=torch.tensor(weights["hard"], dtype=torch.float64).log().item(),
        correction_BK=correction_BK, is_weighted=weighted, is_same_request_masked=rule["hard_request"],
        mask_known_positives=rule["known"],
    )  # fmt: skip
    loss, mass = sampled_softmax(
        users, positives, scale, batch.tensor("weights", torch.float64),
        [
            Own("hard", hard_ads, offsets),
            Shared("in_batch", positives, columns),
            Shared("random", random_ads, randoms),
        ],
        columns.positive_correction() if sampled else None,
        blocks=Blocks(cells, slices),
    )  # fmt: skip
    gradients = torch.autograd.grad(loss, leaves)
    # float32 where a source without a correction makes its offsets from nothing but its weight.
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-7)
    assert mass.tolist() == pytest.approx([shares[name] for name in ("hard", "in_batch", "random")], abs=1e-6)
    for found, wanted, leaf in zip(gradients, expected_gradients, leaves, strict=True):
        wanted = torch.zeros_like(leaf) if wanted is None else wanted
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def test_an_anchor_whose_candidates_are_all_masked_has_no_loss_and_no_gradient() -> None:
    user, positive, hard = (torch.randn(*shape, 4, requires_grad=True) for shape in ((2,), (2,), (2, 3)))
    offsets = torch.full((2, 3), -torch.inf)
    loss, mass = sampled_softmax(
        user, positive, torch.tensor(20.0), torch.ones(2), [Own("hard", hard, offsets)]
    )
    loss.backward()
    assert loss.item() == 0.0 and mass.tolist() == [0.0]
    assert all(tensor.grad is not None and not tensor.grad.any() for tensor in (user, positive, hard))


def test_logits_are_computed_in_float32_whatever_the_towers_use() -> None:
    generator = torch.Generator().manual_seed(1)
    exact = [torch.randn(*shape, 8, generator=generator).bfloat16() for shape in ((4,), (4,), (4, 2))]
    losses = [
        sampled_softmax(
            user, positive, torch.tensor(20.0), torch.ones(4), [Own("hard", hard, torch.zeros(4, 2))]
        )[0]
        for user, positive, hard in (exact, [tensor.float() for tensor in exact])
    ]
    assert losses[0].dtype == torch.float32
    assert torch.equal(losses[0], losses[1])


def test_the_gradient_of_the_loss_passes_the_check_by_differences() -> None:
    generator = torch.Generator().manual_seed(2)
    tensors = [_unit(generator, 5), _unit(generator, 5), _unit(generator, 5, 2)]
    offsets = torch.tensor([[0.0, -torch.inf]] * 5, dtype=torch.float64)
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)

    def loss(
        user: torch.Tensor, positive: torch.Tensor, hard: torch.Tensor, scale: torch.Tensor
    ) -> torch.Tensor:
        weight = torch.arange(5, dtype=torch.float64)
        return sampled_softmax(user, positive, scale, weight, [Own("hard", hard, offsets)])[0]

    assert torch.autograd.gradcheck(loss, (*tensors, scale))


def test_draws_without_replacement_estimate_the_sum_over_the_pool_without_bias() -> None:
    from scrollpast.training.loss.sources.log_q import pool_correction

    values, weights = [3.0, 0.5, 7.0, 1.0], [0.4, 0.1, 0.2, 0.9]
    for num_draws in (1, 2, 3, 4):
        mean = 0.0
        for order in itertools.permutations(range(4), num_draws):
            left, chance, log_q = sum(weights), 1.0, []
            for drawn in order:
                log_q.append(torch.tensor(weights[drawn] / left).log())
                chance *= weights[drawn] / left
                left -= weights[drawn]
            times = pool_correction(
                torch.stack(log_q)[None], torch.ones(1, num_draws, dtype=torch.bool)
            ).exp()[0]
            mean += chance * sum(float(t) * values[d] for t, d in zip(times, order, strict=True))
        assert mean == pytest.approx(sum(values), rel=1e-5)


def test_in_batch_draws_with_their_correction_estimate_the_sum_over_the_catalogue() -> None:
    generator = torch.Generator().manual_seed(3)
    q = torch.tensor([0.0, 0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    value = torch.tensor([0.0, 1.0, 2.0, 5.0, 9.0], dtype=torch.float64)
    num = 4000
    row = torch.multinomial(q, num, replacement=True, generator=generator)
    row[0] = 2  # the anchor's own ad: not a draw, and left out of the sum
    user = torch.arange(num)
    columns = InBatchColumns(row[:1], row[:1], torch.tensor([1]), user, row, user * 0, q.log()[row], 0, 0.0)
    offsets = torch.zeros(num, 1, dtype=torch.float64)
    columns.add_offsets(offsets, 0, 1)
    estimate = (offsets[:, 0].exp() * value[row]).sum()
    assert float(estimate) == pytest.approx(float(value.sum() - value[2]), rel=0.1)


def test_the_exact_positive_has_the_gradient_of_the_corrected_logq_loss() -> None:
    """arXiv 2507.09331: −(1 − P) · ∇[f(positive) − log Σ exp(f(j) − log Q(j)) / n], P held fixed."""
    generator = torch.Generator().manual_seed(4)
    user, positive, drawn = _unit(generator, 1), _unit(generator, 1), _unit(generator, 6)
    log_q = torch.log(torch.rand(6, generator=generator, dtype=torch.float64))
    scale = torch.tensor(4.0, dtype=torch.float64)
    nothing = torch.empty(0, dtype=torch.int64)
    columns = RandomColumns(
        torch.tensor([0]),
        nothing,
        torch.tensor([0]),
        torch.arange(1, 7),
        log_q,
        0.0,
        mask_known_positives=True,
    )
    weight = torch.ones(1, dtype=torch.float64)
    loss, _ = sampled_softmax(user, positive, scale, weight, [Shared("random", drawn, columns)])
    gradients = torch.autograd.grad(loss, [user, positive, drawn])
    score = scale * (user * positive).sum()
    estimate = torch.logsumexp(scale * (drawn @ user[0]) - log_q, 0) - torch.log(torch.tensor(6.0))
    uncertainty = 1 - torch.exp(score - torch.logaddexp(score, estimate)).detach()
    expected = torch.autograd.grad(-uncertainty * (score - estimate), [user, positive, drawn])
    for found, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def shared_candidates(
    num_anchors: int, num_random: int, dimension: int = 16, device: str = "cpu"
) -> tuple[list[torch.Tensor], list[Shared | Own]]:
    """Embeddings of users, positives, random ads and two own negatives each; and sources with every mask on them."""
    generator = torch.Generator().manual_seed(7)
    shapes = [(num_anchors,), (num_anchors,), (num_random,), (num_anchors, 2)]
    drawn = [torch.randn(*shape, dimension, generator=generator).to(device) for shape in shapes]
    users, positives, randoms, hard = (
        torch.nn.functional.normalize(values, dim=-1).requires_grad_() for values in drawn
    )

    def rows(count: int, of: int) -> torch.Tensor:
        return torch.randint(1, of, (count,), generator=generator).to(device)

    def log_q(count: int) -> torch.Tensor:
        return torch.randn(count, generator=generator).to(device)

    lengths = torch.full((num_anchors,), 3, device=device)
    row, known = rows(num_anchors, 500), rows(3 * num_anchors, 500)
    columns = InBatchColumns(
        row, known, lengths, rows(num_anchors, 99), row, rows(num_anchors, 99), log_q(num_anchors), 0, 0.0
    )
    catalogue = RandomColumns(row, known, lengths, rows(num_random, 500), log_q(num_random), 0.0)
    sources = [
        Shared("in_batch", positives, columns),
        Shared("random", randoms, catalogue),
        Own("hard", hard, torch.zeros(num_anchors, 2, device=device)),
    ]
    return [users, positives, randoms, hard], sources


def test_factors_in_bfloat16_change_loss_and_gradients_by_their_rounding_alone() -> None:
    leaves, sources = shared_candidates(300, 200)
    found = {}
    for products in (None, torch.bfloat16):
        scale = torch.tensor(14.0, requires_grad=True)
        loss, mass = sampled_softmax(
            leaves[0], leaves[1], scale, torch.ones(300), sources, products=products, blocks=Blocks(4000, 3)
        )
        found[products] = loss, mass, torch.autograd.grad(loss, [*leaves, scale])
    exact, rounded = found[None], found[torch.bfloat16]
    assert rounded[0].item() != exact[0].item()
    torch.testing.assert_close(rounded[0], exact[0], rtol=1e-3, atol=0)
    torch.testing.assert_close(rounded[1], exact[1], rtol=1e-2, atol=0)
    for mine, plain_one in zip(rounded[2], exact[2], strict=True):
        error = (mine - plain_one).norm() / plain_one.norm()
        assert error < 0.02, error


class LiveBytes(TorchDispatchMode):
    """The most memory that tensors made while it is on held at once."""

    def __init__(self) -> None:
        super().__init__()
        self._live: dict[int, int] = {}
        self.most = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in self._live and storage.nbytes():
                    self._live[storage.data_ptr()] = storage.nbytes()
                    weakref.finalize(storage, self._live.pop, storage.data_ptr(), None)
        self.most = max(self.most, sum(self._live.values()))
        return made


@pytest.mark.parametrize("products", [None, torch.bfloat16])
def test_the_loss_takes_memory_for_one_and_a_half_blocks_of_logits(
    products: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if products is not None:
        # On a processor, factors in bfloat16 are made float32 to be multiplied; a GPU takes them as they are.
        monkeypatch.setattr("scrollpast.training.loss.sampled_softmax._product", lambda a, b: (a @ b).float())
    num_anchors, num_random = 2048, 512
    leaves, sources = shared_candidates(num_anchors, num_random)
    block = Blocks((num_anchors + num_random) * 1024, 8)
    with LiveBytes() as memory:
        sampled_softmax(
            leaves[0], leaves[1], torch.tensor(14.0), torch.ones(num_anchors), sources,
            products=products, blocks=block,
        )  # fmt: skip
    gradients = sum(leaf.numel() for leaf in leaves) * 4
    assert memory.most - 5 * gradients < 1.5 * 4 * block.cells, memory.most
