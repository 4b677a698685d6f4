"""The sources of a step: which take part, with what weight, and what their totals say."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from scrollpast.config.training_options import SourceOptions, TermOptions
from scrollpast.errors import UserError
from scrollpast.training.data.batch import AnchorBatch
from scrollpast.training.data.sampling import Sampling
from scrollpast.training.data.stream import AnchorStream
from scrollpast.training.engine.distributed import process_group
from scrollpast.training.engine.step_input import Preparation, StepInput
from scrollpast.training.loss.objective import ContrastiveLoss
from scrollpast.training.loss.sampled_softmax import Shared
from scrollpast.training.loss.sources.log_q import softened_log_q
from scrollpast.training.loss.sources.registry import SOURCES
from scrollpast.training.loss.sources.source import NegativeSource, RankStep
from scrollpast.training.loss.terms.registry import TERMS, source_names
from scrollpast.training.loss.terms.term import LossTerm, TermInput, TermLoss
from scrollpast.training.loss.totals import Totals
from tests.training.data.days import vocabulary
from tests.training.runs import small_options

ALL = ("negatives.hard.weight=0.5", "negatives.neighbour.enabled=true", "negatives.random.weight=0.5")


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    with process_group("cpu"):
        yield


def contrast(
    day: str, *overrides: str, step: int = 0, seed: int = 1
) -> tuple[torch.Tensor, Totals, list[torch.Tensor]]:
    """Loss and totals of the first batch with drawn embeddings, and the gradients of users and ads."""
    options, known = small_options(*overrides), vocabulary()
    batch = next(iter(AnchorStream([day], known, options.data, Sampling.of(options))))
    given: StepInput = Preparation(known, options).of(batch, step)
    group = dist.group.WORLD
    assert group is not None
    module = ContrastiveLoss(options, known, device=torch.device("cpu"), group=group)
    generator = torch.Generator().manual_seed(seed)
    users = torch.nn.functional.normalize(torch.randn(64, 4, generator=generator), dim=1).requires_grad_()
    ads = torch.randn(given.ads.stride(), 4, generator=generator)
    ads = torch.nn.functional.normalize(ads, dim=1).requires_grad_()
    loss, totals = module(users, ads, given)
    loss.backward()
    assert users.grad is not None and ads.grad is not None
    return loss.detach(), Totals.of(totals.tolist()), [users.grad, ads.grad]


def test_all_sources_share_the_push(day: str) -> None:
    loss, totals, _ = contrast(day, *ALL)
    shares = totals.gradient_shares
    assert list(shares) == list(source_names())
    assert all(shares[name] > 0 for name in SOURCES.names)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert totals.mean_loss == pytest.approx(float(loss), rel=1e-6)


@pytest.mark.parametrize("source", SOURCES.names)
def test_a_source_that_is_off_has_no_part_and_the_loss_is_smaller(day: str, source: str) -> None:
    whole, _, _ = contrast(day, *ALL)
    less, totals, _ = contrast(day, *ALL, f"negatives.{source}.enabled=false")
    assert totals.gradient_shares[source] == 0.0
    assert less < whole


@pytest.mark.parametrize("source", SOURCES.names)
def test_a_schedule_is_a_factor_of_the_weight(day: str, source: str) -> None:
    ramp = [
        f"negatives.{source}.schedule.{option}" for option in ("initial=0", "start_step=10", "ramp_steps=10")
    ]
    before, totals, _ = contrast(day, *ALL, *ramp, step=10)
    assert totals.gradient_shares[source] == 0.0
    weight = 1.0 if source == "in_batch" else 0.5 if source != "neighbour" else 0.01
    midway, _, _ = contrast(day, *ALL, *ramp, step=15)
    half, _, _ = contrast(day, *ALL, f"negatives.{source}.weight={weight / 2}", step=15)
    assert midway == pytest.approx(float(half), rel=1e-6)
    later, _, _ = contrast(day, *ALL, *ramp, step=20)
    assert later == pytest.approx(float(contrast(day, *ALL, step=20)[0]), rel=1e-6)
    assert before < contrast(day, *ALL, step=10)[0]


def test_a_step_without_any_source_learns_nothing(day: str) -> None:
    off = [f"negatives.{source}.schedule.initial=0" for source in SOURCES.names]
    off += [f"negatives.{source}.schedule.start_step=5" for source in SOURCES.names]
    loss, totals, gradients = contrast(day, *ALL, *off)
    assert (float(loss), totals.mean_loss, totals.gradient_shares["hard"]) == (0.0, 0.0, 0.0)
    assert not any(gradient.any() for gradient in gradients)


def test_every_correction_of_hard_negatives_gives_another_loss(day: str) -> None:
    kinds = ("none", "pool", "uniform", "popularity")
    losses = sorted(
        float(contrast(day, "negatives.hard.weight=1", f"negatives.hard.log_q={kind}")[0]) for kind in kinds
    )
    assert all(larger - smaller > 1e-4 for smaller, larger in pairwise(losses)), losses


def test_a_learned_temperature_gets_a_gradient_and_has_a_floor(day: str) -> None:
    options, known = small_options("model.is_temperature_learned=true"), vocabulary()
    group = dist.group.WORLD
    assert group is not None
    module = ContrastiveLoss(options, known, device=torch.device("cpu"), group=group)
    batch = Preparation(known, options).of(
        next(iter(AnchorStream([day], known, options.data, Sampling.of(options)))), 0
    )
    users, ads = torch.randn(64, 4), torch.randn(batch.ads.stride(), 4)
    loss, _ = module(users, ads, batch)
    loss.backward()
    assert module.log_scale.grad is not None and module.log_scale.grad != 0
    with torch.no_grad():
        module.log_scale.fill_(np.log(1e6))
        hot, _ = module(users, ads, batch)
        module.log_scale.fill_(np.log(100.0))
        floor, _ = module(users, ads, batch)
    assert hot == floor


def test_totals_add_up(tmp_path: Path) -> None:
    first, second = (
        Totals.of([1.0, 2.0, 0.0, 1.0, 1.0, *[0.0] * 5]),
        Totals.of([3.0, 2.0, 1.0, 0.0, 2.0, *[0.0] * 5]),
    )
    both = first + second
    assert (both.mean_loss, both.num_stopping) == (1.0, 1.0)
    rest = dict.fromkeys(source_names(), 0.0)
    assert both.gradient_shares == {**rest, "in_batch": 0.25, "hard": 0.75}
    assert Totals.of(both.numbers) == both


class LastAd(NegativeSource[SourceOptions]):
    """A source of this test: the last ad of the catalogue, for all anchors."""

    name = "last_ad"

    def rows(self, anchors: AnchorBatch, step: int) -> torch.Tensor:
        return torch.tensor([self.vocabulary.num_rows - 1])

    def candidates(
        self, row_M: torch.Tensor, embedding_MD: torch.Tensor, step: RankStep, log_weight: float
    ) -> Shared:
        return Shared(self.name, embedding_MD, Unmasked(log_weight))


@dataclass(frozen=True)
class Unmasked:
    log_weight: float

    def add_offsets(self, logits_NB: torch.Tensor, start: int, stop: int) -> None:
        logits_NB += self.log_weight


def test_a_source_from_outside_takes_part_once_it_is_registered(day: str) -> None:
    option = "negatives.others={last_ad: {weight: 2.0}}"
    expected = (
        r"training.negatives.others.last_ad: expected a registered source of negatives \(in_batch, hard"
    )
    with pytest.raises(UserError, match=expected):
        contrast(day, *ALL, option)
    with SOURCES.registered(LastAd):
        _, totals, gradients = contrast(day, *ALL, option)
        assert gradients[1][-1].any(), "the ad of the source is learned"
        assert totals.gradient_shares["last_ad"] > 0
        assert sum(totals.gradient_shares.values()) == pytest.approx(1.0)
        with pytest.raises(UserError, match=r"others.last_ad\): expected one of enabled, schedule, weight"):
            contrast(day, *ALL, "negatives.others={last_ad: {wait: 2.0}}")
    assert "last_ad" not in source_names()


class PullOptions(TermOptions):
    distance: float = 1.0


class Pull(LossTerm[PullOptions]):
    """A term of this test: squared distance of the positive's score from a constant."""

    name = "pull"
    options_type = PullOptions

    def loss(self, given: TermInput) -> TermLoss:
        score_B = (given.user_BD * given.step.positive_BD).sum(1)
        squared_B = (score_B - self.options.distance).square()
        return TermLoss((squared_B * given.step.anchors.weight).sum(), {})


def test_a_term_from_outside_is_added_to_the_loss_once_it_is_registered(day: str) -> None:
    option = "loss.others={pull: {weight: 0.5, distance: 3.0}}"
    with pytest.raises(UserError, match=r"training.loss.others.pull: expected a registered term of the loss"):
        contrast(day, option)
    of_softmax, _, gradients = contrast(day)
    with TERMS.registered(Pull):
        both, totals, gradients_of_both = contrast(day, option)
        alone, of_pull, _ = contrast(
            day, "loss.others={pull: {weight: 1.0, distance: 3.0}}", "loss.softmax.weight=0"
        )
    assert alone > 1
    assert both == pytest.approx(float(of_softmax + 0.5 * alone), rel=1e-6)
    assert totals.mean_loss == pytest.approx(float(both), rel=1e-6)
    assert not torch.equal(gradients[0], gradients_of_both[0])
    assert not any(of_pull.masses), "without the softmax no source pushes"


@pytest.mark.parametrize("weight", [0.25, 3.0])
def test_the_weight_of_a_term_is_a_factor_of_loss_and_gradient(day: str, weight: float) -> None:
    of_one, totals, gradients = contrast(day, *ALL)
    weighted, weighted_totals, weighted_gradients = contrast(day, *ALL, f"loss.softmax.weight={weight}")
    assert weighted == pytest.approx(weight * float(of_one), rel=1e-6)
    torch.testing.assert_close(weighted_gradients[1], weight * gradients[1])
    assert weighted_totals.gradient_shares == pytest.approx(totals.gradient_shares)


SERVED = "loss.served.weight=2"


def test_the_served_term_is_a_softmax_over_the_users_own_negatives(day: str) -> None:
    """Against a plain computation, with the weights of the negatives and a temperature of its own."""
    options, known = (
        small_options("negatives.hard.enabled=false", SERVED, "loss.served.count=3"),
        vocabulary(),
    )
    batch = next(iter(AnchorStream([day], known, options.data, Sampling.of(options))))
    given = Preparation(known, options).of(batch, 0)
    assert given.rows["hard"].numel() == 0
    group = dist.group.WORLD
    assert group is not None
    off = small_options("negatives.hard.enabled=false", "loss.served.count=3")
    modules = [
        ContrastiveLoss(each, known, device=torch.device("cpu"), group=group) for each in (options, off)
    ]
    generator = torch.Generator().manual_seed(3)
    users = torch.nn.functional.normalize(torch.randn(64, 4, generator=generator), dim=1)
    ads = torch.nn.functional.normalize(torch.randn(given.ads.stride(), 4, generator=generator), dim=1)
    without = dataclasses.replace(given, rows={**given.rows})
    del without.rows["served"]
    num_served = len(given.rows["served"])
    both, totals = modules[0](users, ads, given)
    softmax, _ = modules[1](users, ads[:-num_served], without)
    draws = batch.hard.first(3)
    served_BKD = ads[-num_served:].view(64, 3, 4)
    positive = torch.einsum("bd,bd->b", users, ads[:64]) / 0.3
    negative = torch.einsum("bd,bkd->bk", users, served_BKD) / 0.3 + draws.weight.log()
    is_known = (draws.row[:, :, None] == batch.ad_row[:, None, None]).any(2)
    known_of = batch.known_rows.split(batch.known_lengths.tolist())
    for b, rows in enumerate(known_of):
        is_known[b] |= torch.isin(draws.row[b], rows) & (draws.row[b] > 0)
    negative = negative.masked_fill(is_known, -torch.inf)
    each = torch.logsumexp(torch.cat([positive[:, None], negative], dim=1), dim=1) - positive
    expected = softmax + 2 * (each * batch.weight).sum() / batch.weight.sum()
    assert both == pytest.approx(float(expected), rel=1e-5)
    assert Totals.of(totals.tolist()).gradient_shares["served"] > 0


def test_the_served_term_changes_nothing_where_its_weight_is_0(day: str) -> None:
    plain, _, gradients = contrast(day, *ALL)
    off, totals, again = contrast(day, *ALL, "loss.served.weight=0", "loss.served.count=7")
    assert plain == off
    assert torch.equal(gradients[0], again[0])
    assert totals.gradient_shares["served"] == 0


def test_two_terms_share_the_first_draws_of_an_anchor(day: str) -> None:
    few, totals, _ = contrast(day, *ALL, SERVED, "negatives.hard.count=1", "loss.served.count=5")
    assert totals.gradient_shares["hard"] > 0 and totals.gradient_shares["served"] > 0
    alone, _, _ = contrast(day, *ALL, "negatives.hard.count=1")
    assert few > alone


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_the_strength_of_the_correction_lies_between_an_ads_share_and_the_same_chance_for_all(
    day: str, strength: float
) -> None:
    known = vocabulary()
    log_q = torch.from_numpy(known.log_q(1.0))
    found = softened_log_q(log_q, strength)
    torch.testing.assert_close(found, strength * log_q + (1 - strength) * math.log(1 / 40))
    loss, _, _ = contrast(day, f"negatives.in_batch.log_q_strength={strength}")
    assert (loss == contrast(day)[0]) == (strength == 1.0)


def unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=1)


def alone_in_the_loss(
    day: str, *overrides: str
) -> tuple[StepInput, torch.Tensor, torch.Tensor, torch.Tensor, Totals]:
    """A step whose only term is that of the options: input, users, ads (drawn embeddings), loss, totals."""
    options = small_options("negatives.hard.enabled=false", "loss.softmax.weight=0", *overrides)
    known, group = vocabulary(), dist.group.WORLD
    assert group is not None
    batch = next(iter(AnchorStream([day], known, options.data, Sampling.of(options))))
    given = Preparation(known, options).of(batch, 0)
    module = ContrastiveLoss(options, known, device=torch.device("cpu"), group=group)
    generator = torch.Generator().manual_seed(5)
    users = unit(torch.randn(64, 4, generator=generator))
    ads = unit(torch.randn(given.ads.stride(), 4, generator=generator))
    loss, totals = module(users, ads, given)
    return given, users, ads, loss, Totals.of(totals.tolist())


def known_of(given: StepInput) -> list[set[int]]:
    anchors = given.anchors
    return [set(part.tolist()) for part in anchors.known_rows.split(anchors.known_lengths.tolist())]


def test_the_exposure_term_is_a_softmax_over_what_all_users_of_the_batch_were_served(day: str) -> None:
    given, users, ads, loss, totals = alone_in_the_loss(
        day, "loss.exposure.weight=1", "loss.exposure.count=3"
    )
    draws, known = given.anchors.hard.first(3), known_of(given)
    rows, weights = draws.row.reshape(-1), draws.weight.reshape(-1)
    candidates = ads[-len(rows) :]
    total = 0.0
    for b in range(64):
        positive = float(users[b] @ ads[b]) / 0.3
        candidate_of = [
            n
            for n in range(len(rows))
            if weights[n] > 0 and int(rows[n]) not in {int(given.anchors.ad_row[b]), *known[b]}
        ]
        logits = [positive]
        logits += [float(users[b] @ candidates[n]) / 0.3 + math.log(weights[n]) for n in candidate_of]
        total += float(given.anchors.weight[b]) * (np.logaddexp.reduce(logits) - positive)
    assert loss == pytest.approx(total / float(given.anchors.weight.sum()), rel=1e-4)
    assert totals.gradient_shares["exposure"] == pytest.approx(1.0)


def test_the_history_term_asks_for_hidden_ads_among_those_of_other_users(day: str) -> None:
    options = ("data.merge_repeats=true", "data.history_dropout=0.5", "loss.history.weight=1")
    given, users, ads, loss, totals = alone_in_the_loss(
        day, *options, "loss.history.count=2", "loss.history.temperature=0.5", "loss.history.log_q_strength=0"
    )
    targets, user_id = given.anchors.targets, given.anchors.user_id
    assert targets is not None and targets.weight.sum() > 20
    hidden = ads[-128:].view(64, 2, 4)
    known, total = known_of(given), 0.0
    for b in range(64):
        present = [t for t in range(2) if targets.weight[b, t] > 0]
        for t in present:
            positive = float(users[b] @ hidden[b, t]) / 0.5
            others = [
                (int(targets.row[c, s]), float(users[b] @ hidden[c, s]) / 0.5)
                for c in range(64)
                for s in range(2)
                if user_id[c] != user_id[b] and targets.weight[c, s] > 0
            ]
            # Each candidate counts ads / draws: a draw of an absent target is counted, and has no mass.
            num_draws = sum(2 for c in range(64) if user_id[c] != user_id[b])
            shift = math.log(40) - math.log(num_draws)
            logits = [positive] + [
                logit + shift
                for row, logit in others
                if row != int(targets.row[b, t]) and row not in known[b]
            ]
            share = float(given.anchors.weight[b]) / len(present)
            total += share * (np.logaddexp.reduce(logits) - positive)
    assert loss == pytest.approx(total / float(given.anchors.weight.sum()), rel=1e-4)
    assert totals.gradient_shares["history"] == pytest.approx(1.0)
