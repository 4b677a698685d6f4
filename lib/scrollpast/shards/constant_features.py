"""Features of a vocabulary with no value or a single value: they carry no information for a model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scrollpast.record_schema import USER_FEATURE_PREFIX
from scrollpast.shards.vocabulary import Vocabulary


def constant_feature_notes(vocabulary: Vocabulary, ads_place: str) -> Iterator[str]:
    """One note for every feature that is null throughout, or the same for all ads or users with a value.

    Args:
        ads_place: the table of ads that the features were read from, or the vocabulary that holds them.
    """
    for name, values in vocabulary.values.items():
        codes = np.zeros(0, np.int64)
        if name in vocabulary.feature_codes:
            codes = np.unique(vocabulary.feature_codes[name][1:])
            num_values, owners = int(np.count_nonzero(codes)), "ad"
            if num_values == 1 and len(codes) > 1:
                continue  # ads with the value differ from ads without
            place, column = f"ads ({ads_place})", name
            remedy = "fill the column or name another column with --feature, and build the vocabulary again"
        else:
            num_values, owners = len(values), "user"
            place, column = "impressions or users", name.removeprefix(USER_FEATURE_PREFIX)
            remedy = "fill the column or leave it out of mining.user_features, and mine the days again"
        if num_values == 0:
            yield f"note: {owners} feature {column} of {place} is null throughout; {remedy}"
        elif num_values == 1:
            used = values[int(codes[-1]) - 1] if owners == "ad" else values[0]
            yield f"note: {owners} feature {column} of {place} has one value only, {used!r}; {remedy}"
