"""Compiled loops: numba, cached on disk where the source file allows it.

A cached kernel holds the code of the kernels it calls, and numba only looks at the file of the outer one: after
an edit of ``crc32c.py`` or ``varint.py`` remove ``__pycache__`` (an installation replaces all files at once).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np

_LOCATORS = ("UserProvidedCacheLocator", "InTreeCacheLocator", "UserWideCacheLocator")
"""Numba's, for files that lie in no zip."""
_settings: Any = numba.config

_ZipByContent: Any
try:
    from numba.core.caching import ZipCacheLocator
except ImportError:  # an older numba
    _ZipByContent = None
else:

    class _ZipByContent(ZipCacheLocator):  # type: ignore[no-redef]
        """Names the folder of a kernel's cache by what its zip holds."""

        def get_cache_path(self) -> str:
            inside = os.path.dirname(self._internal_path).replace("/", ".")
            folder = _settings.CACHE_DIR or os.path.dirname(self._cache_path)
            return os.path.join(folder, f"{inside}-{_digest(self._zip_path)}")


@cache
def _digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:32]


Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(function: Kernel) -> Kernel:
    """``function`` as machine code that holds no interpreter lock; compiled on the first call.

    Kernels are called with read-only inputs (see `frozen`) and writable outputs, so that one combination of
    types is compiled. Inside, indices are not checked: every kernel compares lengths before it reads.
    """
    try:
        with _cache_of_zips():
            kernel: Any = numba.njit(cache=True, nogil=True)(function)
        # For a source in a zip (spark-submit --py-files) numba names a folder below HOME without trying it,
        # and would fail at the first call.
        cache_folder = kernel.stats.cache_path
        os.makedirs(cache_folder, exist_ok=True)
        if os.access(cache_folder, os.W_OK):
            return cast(Kernel, kernel)
    except (RuntimeError, OSError, ValueError):
        pass  # no place for a cache: compile in each process
    return cast(Kernel, numba.njit(nogil=True)(function))


@contextmanager
def _cache_of_zips() -> Iterator[None]:
    """Kernels of a zip are found again wherever the same zip lies: Spark puts it elsewhere in every application.

    Numba's own locator goes by the path, so that every application would compile them anew in every executor (14 s
    of a core) and leave them behind. Where the user names locators, or this numba has other ones, nothing changes.
    """
    if _ZipByContent is None or _settings.CACHE_LOCATOR_CLASSES:
        yield
        return
    _settings.CACHE_LOCATOR_CLASSES = ",".join((*_LOCATORS, f"{__name__}.{_ZipByContent.__name__}"))
    try:
        yield
    finally:
        _settings.CACHE_LOCATOR_CLASSES = ""


def inlined(function: Kernel) -> Kernel:
    """Like `compiled`, for a few lines that other kernels run for every byte or value: always inlined there."""
    return cast(Kernel, numba.njit(nogil=True, forceinline=True)(function))


def frozen(array: np.ndarray, dtype: Any) -> np.ndarray:
    """A contiguous read-only view of ``array`` as ``dtype``; copies only if it must."""
    view = np.ascontiguousarray(array, dtype=dtype).view()
    view.flags.writeable = False
    return view


def as_bytes_array(buffer: Any) -> np.ndarray:
    """The bytes of any object with the buffer protocol as a read-only uint8 array, without a copy."""
    view = memoryview(buffer)
    if view.nbytes == 0:
        return frozen(np.empty(0, np.uint8), np.uint8)
    return frozen(np.frombuffer(view.cast("B") if view.contiguous else bytes(view), np.uint8), np.uint8)
