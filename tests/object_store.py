"""A real S3-compatible server (moto) on loopback, for tests of paths that begin with s3://."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from scripts.robustness import object_store as stores


@contextmanager
def object_store() -> Iterator[str]:
    """The URI of an empty bucket; while this holds, the environment leads to the server."""
    with stores.object_store() as store, pytest.MonkeyPatch.context() as environment:
        for name, value in store.environment.items():
            environment.setenv(name, value)
        yield f"s3://{stores.BUCKET}"
