"""Baseline by matrix factorisation of users and ads (package ``implicit``).

Weighted alternating least squares for implicit feedback: Hu, Koren and Volinsky, ICDM 2008.
"""

from __future__ import annotations

import numpy as np
import torch

from scrollpast.training.evaluation.baselines.baseline import Baseline
from scrollpast.training.evaluation.baselines.past import Past
from scrollpast.training.evaluation.held_out import HeldOut
from scrollpast.training.evaluation.ranking import Embeddings

NUM_FACTORS = 64
NUM_ITERATIONS = 15
REGULARIZATION = 0.05
"""Weight of the factors' squared norms."""
CONFIDENCE = 10.0
"""Weight of a positive's error; a pair without a positive has 1. A larger value fits the positives more closely."""


def matrix_factorisation(past: Past, held_out: HeldOut) -> Embeddings:
    """Fit factors of all users with a positive and of all ads; a user without one has the score 0 for every ad."""
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    shape = (len(past.user_id), past.num_rows)
    user_UD = np.zeros((len(held_out), NUM_FACTORS), np.float32)
    ad_RD = np.zeros((past.num_rows, NUM_FACTORS), np.float32)
    if not len(past.row):
        return Embeddings(torch.from_numpy(user_UD), torch.from_numpy(ad_RD))
    keys = np.unique(past.user * past.num_rows + past.row)
    ones = np.ones(len(keys), np.float32)
    positives = csr_matrix((ones, (keys // past.num_rows, keys % past.num_rows)), shape)
    model = AlternatingLeastSquares(
        factors=NUM_FACTORS,
        iterations=NUM_ITERATIONS,
        regularization=REGULARIZATION,
        alpha=CONFIDENCE,
        random_state=0,
    )
    model.fit(positives, show_progress=False)
    at = np.searchsorted(past.user_id, held_out.user_id).clip(max=len(past.user_id) - 1)
    has_past = past.user_id[at] == held_out.user_id
    user_UD[has_past] = model.user_factors[at[has_past]]
    return Embeddings(torch.from_numpy(user_UD), torch.from_numpy(np.asarray(model.item_factors)))


MATRIX_FACTORISATION = Baseline(
    "matrix factorisation",
    "inner product of factors of the user and the ad (alternating least squares)",
    matrix_factorisation,
    package="implicit",
)
