"""Index of ads by their embeddings: exact, by inverted lists, or by lists and product quantisation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from pyarrow import fs

from scrollpast.ann_index.kinds import EXPORTED_KIND, EXPORTED_SEED, Kind
from scrollpast.errors import ScrollpastError
from scrollpast.shards import filesystem as files

_POINTS_PER_LIST = 39
"""Smallest number of training points of a centroid: FAISS warns below this number."""
_TRAINING_POINTS_PER_LIST = 64
_MOST_BITS = 8


class AdIndex:
    """Index of ads for search by inner product; row r of the embeddings has the id r, and row 0 is not indexed."""

    def __init__(self, index: Any) -> None:
        self._index = index

    @staticmethod
    def build(
        ad_RD: NDArray[np.float32],
        kind: Kind = EXPORTED_KIND,
        *,
        seed: int = EXPORTED_SEED,
        num_lists: int | None = None,
        num_probes: int | None = None,
    ) -> AdIndex:
        """Index the rows 1 … of embeddings of length 1.

        In a small catalogue the index has fewer lists, and codes of fewer bits: down to one list, and to exact vectors
        for fewer than 2 · 39 ads, which are too few to train a quantiser.

        Args:
            ad_RD: float32 [R, D].
            kind: ``flat`` searches all ads; ``ivf_flat`` the ads of the nearest lists; ``ivf_pq`` the ads of the
                nearest lists as codes of 8 bits for every 4 dimensions (both Jégou et al., TPAMI 2011).
            num_lists: None = 4 · √R, or fewer so that each list has 39 ads.
            num_probes: lists that a query probes; None = 1/16 of the lists, at least 8.
        """
        vectors = np.ascontiguousarray(ad_RD[1:], np.float32)
        count, dim = vectors.shape
        most_lists = max(1, count // _POINTS_PER_LIST)
        if num_lists is None:
            num_lists = max(1, min(most_lists, int(4 * math.sqrt(count))))
        num_bits = min(_MOST_BITS, int(math.log2(max(1, count // _POINTS_PER_LIST))))
        index: Any
        if kind == "flat" or count < 2 * _POINTS_PER_LIST:
            index = faiss.IndexFlatIP(dim)
        else:
            quantiser: Any = faiss.IndexFlatIP(dim)
            metric = faiss.METRIC_INNER_PRODUCT
            if kind == "ivf_flat":
                index = faiss.IndexIVFFlat(quantiser, dim, num_lists, metric)
            else:
                index = faiss.IndexIVFPQ(quantiser, dim, num_lists, _num_codes(dim), num_bits, metric)
                index.pq.cp.seed = 1 + seed % (2**31 - 1)
            # Python owns the quantiser and would free it: the index takes over the ownership.
            quantiser.this.disown()
            index.own_fields = True
            index.cp.seed = 1 + seed % (2**31 - 1)
            index.train(_some(vectors, max(num_lists, 2**num_bits) * _TRAINING_POINTS_PER_LIST, seed))
            index.nprobe = min(num_lists, num_probes or max(8, num_lists // 16))
        with_ids: Any = faiss.IndexIDMap2(index)
        index.this.disown()
        with_ids.own_fields = True
        with_ids.add_with_ids(vectors, np.arange(1, count + 1))
        return AdIndex(with_ids)

    @property
    def num_lists(self) -> int:
        """Inverted lists; 0 for an exact index."""
        lists = self._lists()
        return 0 if lists is None else int(lists.nlist)

    def _lists(self) -> Any:
        """Part of the index with inverted lists; None for an exact index."""
        return faiss.try_extract_index_ivf(self._index)

    def search(
        self, user_UD: NDArray[np.float32], k: int, *, num_probes: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows and scores of the k best ads: int64 and float32 [U, k], best first; row −1 where fewer than k are found.

        Args:
            num_probes: lists that a query probes, in this and later calls; None = unchanged.
        """
        if num_probes is not None and (lists := self._lists()) is not None:
            lists.nprobe = min(num_probes, lists.nlist)
        scores, rows = self._index.search(np.ascontiguousarray(user_UD, np.float32), k)
        return rows, scores

    def save(self, path: str) -> None:
        """Write the index as a file in FAISS's format, which `faiss.read_index` reads too."""
        faiss.write_index(self._index, path)

    @staticmethod
    def load(uri: str) -> AdIndex:
        """Read a file of `save`, from any place.

        Raises:
            ScrollpastError: the file holds no index.
        """
        filesystem, path = files.resolve(uri)
        if not files.exists(filesystem, path):
            raise _no_index(uri, "no file")
        try:
            if isinstance(filesystem, fs.LocalFileSystem):
                return AdIndex(faiss.read_index(path))
            return AdIndex(faiss.deserialize_index(np.frombuffer(files.read_all(filesystem, path), np.uint8)))
        except RuntimeError as error:
            raise _no_index(uri, str(error).splitlines()[0]) from error


def search_in(
    index: AdIndex, ad_RD: NDArray[np.float32]
) -> Callable[[NDArray[np.float32], int, int | None], NDArray[np.int64]]:
    """Search function for the rows of the k best ads in a number of lists of an index, or exact.

    The function takes users float32 [U, D], k, and the number of lists; None searches all ads. A user whose lists hold
    fewer than k ads gets an exact search. The result of a user does not depend on the other users of the call.

    Args:
        ad_RD: float32 [R, D], the embeddings that the index was built from.
    """

    def exact(user_UD: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        users, ads = (np.ascontiguousarray(vectors, np.float32) for vectors in (user_UD, ad_RD[1:]))
        _, found = faiss.knn(users, ads, k, metric=faiss.METRIC_INNER_PRODUCT)
        return np.where(found < 0, -1, found.astype(np.int64) + 1)

    def search(user_UD: NDArray[np.float32], k: int, num_probes: int | None) -> NDArray[np.int64]:
        with _one_by_one():
            if num_probes is None:
                return exact(user_UD, k)
            rows = index.search(user_UD, k, num_probes=num_probes)[0]
            (short,) = np.nonzero(rows[:, min(k, len(ad_RD) - 1) - 1] <= 0)
            if len(short):
                rows[short] = exact(user_UD[short], k)
            return rows

    return search


@contextmanager
def _one_by_one() -> Iterator[None]:
    """Make FAISS compute every query separately: in a matrix product the last bits depend on the other queries."""
    before = faiss.cvar.distance_compute_blas_threshold
    faiss.cvar.distance_compute_blas_threshold = 1 << 30
    try:
        yield
    finally:
        faiss.cvar.distance_compute_blas_threshold = before


def _no_index(uri: str, found: str) -> ScrollpastError:
    return ScrollpastError(uri, expected="a FAISS index", found=found, remedy="export the towers again")


def _num_codes(dim: int) -> int:
    """Number of equal parts of a vector: of four dimensions each, or of the fewest dimensions that divide evenly."""
    return next(dim // width for width in (4, 3, 2, 1) if dim % width == 0)


def _some(vectors: NDArray[np.float32], most: int, seed: int) -> NDArray[np.float32]:
    if len(vectors) <= most:
        return vectors
    chosen = np.random.Generator(np.random.Philox(key=seed % 2**128)).choice(
        len(vectors), most, replace=False
    )
    return vectors[np.sort(chosen)]
