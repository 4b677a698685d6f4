"""Breaks the mining job's tasks from outside: put this folder on PYTHONPATH and name a fault in FAULT.

Python imports this module when it starts, in the driver and in every worker. It wraps functions of the job as
their module is imported; a wrapped function misbehaves in a task of Spark's only, never in the driver.

FAULT:
    kill         the first worker that comes to each function of _STAGES dies of SIGKILL, half way through
    lose a row   the first bucket that is decided loses its last row
    fail         every scan of impressions raises an error
FAULT_MARKS names a folder: an empty file in it, named by the function, is the mark that the fault struck.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_STAGES = {
    "scrollpast.mining.scan": ("scan_engagements", "scan_impressions"),
    "scrollpast.mining.bucket_tasks": ("decide_bucket", "count_suspects", "seal_bucket"),
}


def _is_in_a_task() -> bool:
    context = sys.modules.get("pyspark.taskcontext")
    return context is not None and context.TaskContext.get() is not None


def _strikes(name: str) -> bool:
    """True once for every name, in one process of all."""
    if not _is_in_a_task():
        return False
    try:
        os.close(os.open(os.path.join(os.environ["FAULT_MARKS"], name), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _dying(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, but its first caller is dead before it has all of the answer."""

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @functools.wraps(function)
    def answer(*arguments: Any, **named: Any) -> Any:
        result = function(*arguments, **named)  # with all that it writes
        if _strikes(function.__name__):
            die()
        return result

    @functools.wraps(function)
    def items(*arguments: Any, **named: Any) -> Any:
        for item in function(*arguments, **named):
            yield item
            if _strikes(function.__name__):
                die()

    return items if inspect.isgeneratorfunction(function) else answer


def _forgetful(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def decide(*arguments: Any, **named: Any) -> Any:
        decided = function(*arguments, **named)
        if not _strikes("decide"):
            return decided
        return replace(decided, rows={name: column[:-1] for name, column in decided.rows.items()})

    return decide


def _failing(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def scan_impressions(*arguments: Any, **named: Any) -> Any:
        _strikes("scan_impressions")
        if _is_in_a_task():
            raise RuntimeError("the scan was broken on purpose")
        return function(*arguments, **named)

    return scan_impressions


_FAULTS: dict[str, dict[str, tuple[tuple[str, ...], Callable[[Callable[..., Any]], Callable[..., Any]]]]] = {
    "kill": {module: (names, _dying) for module, names in _STAGES.items()},
    "lose a row": {"scrollpast.mining.rules.decide": (("decide",), _forgetful)},
    "fail": {"scrollpast.mining.scan": (("scan_impressions",), _failing)},
}


class _Breaker(MetaPathFinder, Loader):
    """Imports a module as always, and wraps the functions that a fault names."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if name not in _FAULTS.get(os.environ.get("FAULT", ""), {}):
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        assert spec is not None and spec.loader is not None
        self._loader = spec.loader
        spec.loader = self
        return spec

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        names, broken = _FAULTS[os.environ["FAULT"]][module.__name__]
        for name in names:
            setattr(module, name, broken(getattr(module, name)))


sys.meta_path.insert(0, _Breaker())
