"""LogQ corrections: log of the sampling probability of each source, and what it adds to a logit.

The loss wants, in its denominator, a sum over candidates that nobody could add up: over the catalogue, or over
the user's pool of served ads. A source draws n of them, and f = exp(score) of each draw, divided by n · Q of
that draw, estimates the sum without bias (importance sampling; Bengio and Senécal, IEEE Transactions on Neural
Networks 19, 2008). So a draw's logit is its score − log(n · Q).

* in_batch: the sum is over the catalogue. A draw is the positive of another user's anchor; Q is the share of its
  ad among all positives of the vocabulary's days (Yi et al., Sampling-bias-corrected neural modeling, RecSys
  2019, with counts in place of their streaming estimate). n counts the anchors of other users and requests: an
  anchor masked for *who* it is was no draw, while one masked for *which ad* it is was, and counts.
* random: over the catalogue; Q is popularity^alpha as the alias table draws it, alpha 0 the uniform 1 / ads, or a
  mixture of both (``tail_floor``); n draws for all anchors together.
* hard and neighbour: over the pool of the anchor's user (`pool_correction`); or over the catalogue, as if what a user
  was served had been drawn from it, uniformly or by popularity (`catalogue_correction`).

The positive is in the denominator with certainty, drawn by nobody, and gets no correction there ("exact"): this
has the gradient of arXiv 2507.09331. "sampled" corrects it as if it were an in-batch draw: RecSys 2019.
"""

from __future__ import annotations

import math

import torch


def draw_correction(log_q_N: torch.Tensor, num_draws: torch.Tensor | int) -> torch.Tensor:
    """−log(n · Q), to add to the logits of draws that were made independently.

    Args:
        log_q_N: float [N], log Q of each draw's ad.
        num_draws: n, or int64 [B, 1] where it depends on the anchor (the result is [B, N] then).
    """
    if isinstance(num_draws, int):
        num_draws = torch.tensor(num_draws, device=log_q_N.device)
    return -log_q_N - num_draws.clamp(min=1).to(log_q_N.dtype).log()


def softened_log_q(log_q_R: torch.Tensor, strength: float) -> torch.Tensor:
    """Logarithm of share^strength · (1 / ads)^(1 − strength), float [R].

    Args:
        log_q_R: float [R]: log of each ad's share of all positives; row 0 is no ad.
        strength: 1 = the share, 0 = the same chance for every ad.
    """
    num_ads = max(1, len(log_q_R) - 1)
    return strength * log_q_R - (1 - strength) * math.log(num_ads)


def pool_correction(log_q_BK: torch.Tensor, is_present_BK: torch.Tensor) -> torch.Tensor:
    """The logarithm of what each of n draws without replacement counts for in the sum over the pool.

    Q of draw k is the chance that it took this negative given the draws before it. The sum is estimated n
    times, by f(1) / Q(1), by f(1) + f(2) / Q(2), …, and the mean taken (Des Raj, Journal of the American
    Statistical Association 51, 1956): draw k counts (1 / Q(k) + n − k) / n. Where the pool is drawn to its last
    one, Q = 1, that is the sum itself for n = 1. It holds for any f, so also where f is 0 for what is masked.

    Args:
        log_q_BK: float [B, K], log Q of draw k = 1 … K.
        is_present_BK: bool [B, K]; the present ones come first.

    Returns:
        float [B, K]; 0 where absent.
    """
    num_BK = is_present_BK.sum(1, keepdim=True)
    later_BK = num_BK - torch.arange(1, log_q_BK.shape[1] + 1, device=log_q_BK.device)
    times_BK = (torch.exp(-log_q_BK) + later_BK) / num_BK.clamp(min=1)
    return torch.where(is_present_BK, times_BK, 1.0).log()


def catalogue_correction(log_q_BK: torch.Tensor, is_present_BK: torch.Tensor) -> torch.Tensor:
    """Correction of a user's served ads as if they were draws from the catalogue: −log(n · Q).

    With Q = 1 / ads, a draw counts ads / n, and the weight of the source means the same beside the other sums
    over the catalogue whatever its size. Ads that are shown much are passed over much, though, and so pushed down
    for being popular; with Q = the ad's share of all positives, an ad is pushed by how often it is passed over
    *for each time it is engaged with*.

    Args:
        log_q_BK: float [B, K]: −log of the number of ads, or log of each ad's share of the positives
            (`Vocabulary.log_q`).
        is_present_BK: bool [B, K]; n is the number of the anchor's draws that are present.

    Returns:
        float [B, K]; 0 where absent.
    """
    correction_BK = draw_correction(log_q_BK, is_present_BK.sum(1, keepdim=True))
    return torch.where(is_present_BK, correction_BK, 0.0)
