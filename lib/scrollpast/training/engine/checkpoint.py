"""Checkpoints of a run: written by all ranks, published by one small file, pruned to the latest and the best."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from pyarrow import fs
from torch.distributed._shard.sharded_tensor import Shard, ShardedTensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.optim.keyed import KeyedOptimizer

from scrollpast.config.training_options import Checkpoints as CheckpointOptions
from scrollpast.errors import ScrollpastError, UserError
from scrollpast.shards import filesystem as files
from scrollpast.shards.vocabulary import Vocabulary

SCHEMA_VERSION = 1
FACTS_NAME = "checkpoint.json"
_FOLDER = "checkpoints"


@dataclass(frozen=True)
class Checkpoint:
    """Published checkpoint: its folder, and the content of its ``checkpoint.json``.

    ``facts`` holds ``schema_version``, ``step`` (steps done), ``vocabulary`` {``uri``, ``version``}, ``days``,
    ``data`` (the position in the data), ``config`` (the `Training` section), ``metrics`` (of the last evaluation,
    at this step; else null) and ``progress`` (state from which the loop continues).
    """

    uri: str
    facts: Mapping[str, Any]

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.facts["step"])

    @staticmethod
    def read(uri: str) -> Checkpoint:
        """Read the checkpoint of a folder ``step=…``.

        Raises:
            UserError: the folder has no checkpoint, or an unfinished one.
            ScrollpastError: the checkpoint has another schema version, or is malformed.
        """
        filesystem, folder = files.resolve(uri)
        place = files.join(uri, FACTS_NAME)
        try:
            facts = json.loads(files.read_all(filesystem, files.join(folder, FACTS_NAME)).to_pybytes())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(
                place,
                expected="the file that publishes a checkpoint",
                found="none",
                remedy="name a folder checkpoints/step=… of a run; a checkpoint without this file is unfinished",
            ) from error
        except ValueError as error:
            raise _unreadable(place, "JSON", str(error)) from error
        if not isinstance(facts, dict) or facts.get("schema_version") != SCHEMA_VERSION:
            found = facts.get("schema_version") if isinstance(facts, dict) else facts
            raise _unreadable(f"{place}, schema_version", str(SCHEMA_VERSION), str(found))
        return Checkpoint(uri, facts)


def published_checkpoints(run_uri: str) -> list[Checkpoint]:
    """Published checkpoints of a run, by step."""
    filesystem, folder = files.resolve(files.join(run_uri, _FOLDER))
    if filesystem.get_file_info(folder).type != fs.FileType.Directory:
        return []
    found = []
    for info in filesystem.get_file_info(fs.FileSelector(folder)):
        name = info.base_name
        if name.startswith("step=") and files.exists(filesystem, files.join(info.path, FACTS_NAME)):
            found.append(Checkpoint.read(files.join(run_uri, _FOLDER, name)))
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def best_checkpoint(checkpoints: list[Checkpoint], metric: str) -> Checkpoint | None:
    """Checkpoint with the highest value of a metric, the earliest of equals; None if no checkpoint was evaluated."""
    evaluated = [item for item in checkpoints if (item.facts.get("metrics") or {}).get(metric) is not None]
    return max(evaluated, key=lambda item: (item.facts["metrics"][metric], -item.step), default=None)


def chosen_checkpoint(uri: str, metric: str) -> Checkpoint:
    """Checkpoint of a folder; for a run's folder the best, or the last if no checkpoint was evaluated.

    Raises:
        UserError: the folder holds no checkpoint.
    """
    found = published_checkpoints(uri)
    if found:
        return best_checkpoint(found, metric) or found[-1]
    return Checkpoint.read(uri)


def vocabulary_of(checkpoint: Checkpoint, uri: str | None) -> Vocabulary:
    """Read the vocabulary that a checkpoint was trained with.

    Args:
        uri: present URI of the vocabulary; None = the URI in the checkpoint.

    Raises:
        UserError: the vocabulary is missing, or has another version.
    """
    expected = checkpoint.facts["vocabulary"]
    try:
        vocabulary = Vocabulary.read(uri or expected["uri"])
    except UserError as error:
        raise UserError(
            error.place,
            expected=f"vocabulary {expected['version']}, with which {checkpoint.uri} was trained",
            found=error.found,
            remedy="pass --vocabulary with its present folder",
        ) from error
    if vocabulary.version != expected["version"]:
        raise UserError(
            f"vocabulary {vocabulary.version}",
            expected=f"{expected['version']}, with which {checkpoint.uri} was trained",
            found=vocabulary.version,
            remedy="pass --vocabulary with the folder of that version",
        )
    return vocabulary


class CheckpointWriter:
    """Writer of a run's checkpoints; all ranks call every method in the same order.

    Args:
        run_uri: the run's folder.
        metric: metric that chooses the best checkpoint.
    """

    def __init__(self, run_uri: str, options: CheckpointOptions, metric: str) -> None:
        self._run_uri, self._options, self._metric = run_uri, options, metric
        # A separate group: messages of a background thread must not mix with those of the steps.
        self._group = dist.new_group(backend="gloo")
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def save(
        self, model: DistributedModelParallel, optimizer: KeyedOptimizer, facts: Mapping[str, Any]
    ) -> str:
        """Save the present state; returns the folder's URI, which may be published slightly later.

        Raises:
            ScrollpastError: the save before this one failed.
        """
        self.wait()
        uri = self.uri_of(facts["step"])
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        if self._options.asynchronous:
            self._thread = threading.Thread(
                target=self._write_in_background, args=(_copied(state), uri, dict(facts)), name="checkpoint"
            )
            self._thread.start()
        else:
            self._write(state, uri, dict(facts))
        return uri

    def uri_of(self, step: int) -> str:
        """Folder of the checkpoint of a step."""
        return files.join(self._run_uri, _FOLDER, f"step={step:08d}")

    def wait(self) -> None:
        """Wait until the last saved checkpoint is published.

        Raises:
            ScrollpastError: the checkpoint could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise ScrollpastError(
                files.join(self._run_uri, _FOLDER),
                expected="to write a checkpoint",
                found=f"{type(failure).__name__}: {failure}",
                remedy="free space or repair the file system; the same command resumes from the last checkpoint",
            ) from failure

    def _write_in_background(self, state: dict[str, Any], uri: str, facts: dict[str, Any]) -> None:
        try:
            self._write(state, uri, facts)
        except BaseException as failure:  # noqa: BLE001 (raised by `wait`, in the main thread)
            self._failure = failure

    def _write(self, state: dict[str, Any], uri: str, facts: dict[str, Any]) -> None:
        is_first = dist.get_rank() == 0
        filesystem, folder = files.resolve(uri)
        if is_first and files.exists(filesystem, files.join(folder, FACTS_NAME)):
            # A run resumed from an earlier checkpoint saves the same step again: unpublish before writing.
            files.delete_file(filesystem, files.join(folder, FACTS_NAME))
        dist.barrier(group=self._group)
        dcp.save(state, storage_writer=_writer(uri), process_group=self._group)
        try:
            if is_first:
                content = json.dumps({"schema_version": SCHEMA_VERSION, **facts}, indent=2, allow_nan=False)
                files.write_atomically(filesystem, files.join(folder, FACTS_NAME), content.encode())
                self._prune()
        finally:
            # No rank continues, and searches for the newest checkpoint, before the first rank has published it.
            dist.barrier(group=self._group)

    def _prune(self) -> None:
        """Remove all checkpoints but the latest and the best; first the files that publish them."""
        checkpoints = published_checkpoints(self._run_uri)
        best = best_checkpoint(checkpoints, self._metric)
        for checkpoint in checkpoints[: -self._options.keep_last]:
            if best is None or checkpoint.uri != best.uri:
                filesystem, folder = files.resolve(checkpoint.uri)
                files.delete_file(filesystem, files.join(folder, FACTS_NAME))
                filesystem.delete_dir(folder)


def restore(checkpoint: Checkpoint, model: DistributedModelParallel, optimizer: KeyedOptimizer) -> None:
    """Load weights and optimizer states, on any number of ranks.

    Raises:
        ScrollpastError: a file is missing or does not fit the model.
    """
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    load(checkpoint, state, DefaultLoadPlanner())
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])


def restore_weights(checkpoint: Checkpoint, model: torch.nn.Module) -> None:
    """Load weights into a model of a single process, without a process group.

    Args:
        model: with the parameter names of the sharded model, such as `StepModel`'s.
    """
    state = {"model": model.state_dict()}
    load(checkpoint, state, DefaultLoadPlanner(), is_alone=True)
    model.load_state_dict(state["model"])


def load(
    checkpoint: Checkpoint, state: dict[str, Any], planner: DefaultLoadPlanner, *, is_alone: bool = False
) -> None:
    """Read a checkpoint into the tensors of ``state``, in place.

    Args:
        planner: maps the tensors of the checkpoint to those of ``state``.
        is_alone: True without a process group.

    Raises:
        ScrollpastError: a file is missing or does not fit.
    """
    try:
        dcp.load(state, storage_reader=_reader(checkpoint.uri), planner=planner, no_dist=is_alone)
    except (Exception, CheckpointException) as error:
        reason = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "")
        raise ScrollpastError(
            checkpoint.uri,
            expected="a checkpoint of this model",
            found=reason or type(error).__name__,
            remedy="use the training.model options of its checkpoint.json, or start a new run in another --out",
        ) from error


def _writer(uri: str) -> dcp.StorageWriter:
    if "://" in uri:
        from torch.distributed.checkpoint._fsspec_filesystem import FsspecWriter

        return FsspecWriter(uri)
    return dcp.FileSystemWriter(uri)


def _reader(uri: str) -> dcp.StorageReader:
    if "://" in uri:
        from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader

        return FsspecReader(uri)
    return dcp.FileSystemReader(uri)


def _copied(value: Any) -> Any:
    """Copy of the present state: training continues while the copy is written."""
    if isinstance(value, ShardedTensor):
        shards = [
            Shard(shard.tensor.detach().cpu().clone(), shard.metadata) for shard in value.local_shards()
        ]
        # PyTorch has no public constructor of a sharded tensor from existing parts.
        return ShardedTensor._init_from_local_shards_and_global_metadata(  # noqa: SLF001
            shards,
            sharded_tensor_metadata=value.metadata(),
            process_group=value._process_group,  # noqa: SLF001
        )
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, Mapping):
        return {name: _copied(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(part) for part in value)
    return value


def _unreadable(place: str, expected: str, found: str) -> ScrollpastError:
    return ScrollpastError(
        place,
        expected=expected,
        found=found,
        remedy="use the version of scrollpast that wrote it, or start a new run in another --out",
    )
