"""Vocabulary of published days: manifests name it, and trainers find it there."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from pyarrow import fs

from scrollpast.errors import CorruptShardError, UserError
from scrollpast.job_commands import job_command
from scrollpast.shards import filesystem as files
from scrollpast.shards.manifest import (
    MANIFEST_NAME,
    DayChangedError,
    Manifest,
    day_folder,
    publish_manifest,
    read_manifest,
)
from scrollpast.shards.vocabulary import Vocabulary

_ATTEMPTS = 5
"""Attempts to name a vocabulary in a day that other jobs replace meanwhile."""


def vocabulary_reference(day_uri: str, vocabulary_uri: str) -> str:
    """Reference to a vocabulary in a day's manifest.

    Relative to the day's folder (``../vocabulary/v=…``) where the vocabulary lies below the folder that holds the
    day, so that both can move together; else the absolute path or URI.
    """
    day_system, day = files.resolve(day_folder(day_uri))
    system, folder = files.resolve(vocabulary_uri)
    root = posixpath.dirname(day.rstrip("/")).rstrip("/") + "/"
    if system == day_system and folder.startswith(root):
        return posixpath.relpath(folder, day)
    return folder if isinstance(system, fs.LocalFileSystem) else vocabulary_uri.rstrip("/")


def referenced_vocabulary(day_uri: str, reference: str) -> str:
    """The URI of the vocabulary that the manifest of a day names by ``reference``."""
    if "://" in reference or reference.startswith("/"):
        return reference
    folder = day_folder(day_uri)
    scheme, separator, path = folder.rpartition("://")
    # Object stores know no "..": it is resolved here.
    return (
        scheme
        + separator
        + posixpath.normpath(posixpath.join(path if scheme else os.path.abspath(path), reference))
    )


def name_vocabulary(day_uri: str, counted: Manifest, vocabulary_uri: str) -> bool:
    """Name a vocabulary in the manifest of a day that it was built from; all else in the manifest stays.

    Args:
        counted: the day's manifest as it was when the vocabulary was built.

    Returns:
        Whether the manifest was written: one that names the vocabulary already is left alone.

    Raises:
        UserError: the day is another than the one that was counted, or its manifest cannot be written.
        DayChangedError: other jobs replaced the manifest again and again.
    """
    for _ in range(_ATTEMPTS - 1):
        with suppress(DayChangedError):
            return _name_once(day_uri, counted, vocabulary_uri)
    return _name_once(day_uri, counted, vocabulary_uri)


def _name_once(day_uri: str, counted: Manifest, vocabulary_uri: str) -> bool:
    place = _manifest_of(day_uri)
    current = read_manifest(day_uri)
    if current.shards != counted.shards:
        raise UserError(
            place,
            expected=f"the shards that the vocabulary {vocabulary_uri} was built from",
            found="others: the day was mined again meanwhile",
            remedy="build the vocabulary again",
        )
    if current.ads is not None and _is_same(referenced_vocabulary(day_uri, current.ads), vocabulary_uri):
        return False
    named = replace(current, ads=vocabulary_reference(day_uri, vocabulary_uri))
    try:
        publish_manifest(day_folder(day_uri), named, replacing=current)
    except OSError as error:
        raise UserError(
            place,
            expected="a manifest that can be replaced, to name the vocabulary in it",
            found=f"{type(error).__name__}: {error.strerror or str(error).splitlines()[0]}",
            remedy=f"give the right to write there and run again, or set training.vocabulary to {vocabulary_uri}",
        ) from error
    return True


def resolve_vocabulary(manifests: Sequence[str], uri: str | None) -> tuple[Vocabulary, str]:
    """The vocabulary to train on these days with, and its URI: that at ``uri``, else the one that manifests name.

    Where the days name several, it is the one that extends all others; of several that mean the same, the
    newest. One that is given has to extend all that the days name just as well. Days that name none fit any.
    At most two vocabularies are in memory at once.

    Args:
        manifests: URIs of days' folders or of their manifests.

    Raises:
        UserError: a day is not published; nothing is named or given; what is named or given is not there; or a
            day's vocabulary is not one that the result extends.
        CorruptShardError: a manifest or a vocabulary is not what was written.
    """
    named: dict[str, _Named] = {}
    for day_uri in manifests:
        reference = read_manifest(day_uri).ads
        if reference is not None:
            found = _Named(referenced_vocabulary(day_uri, reference), _manifest_of(day_uri))
            named.setdefault(found.uri, found)
    if uri is not None:
        chosen, chosen_uri, unproven = Vocabulary.read(uri), uri, list(named.values())
    elif named:
        chosen, chosen_uri, unproven = _largest(list(named.values()))
    else:
        raise UserError(
            ", ".join(manifests) or "days",
            expected="a vocabulary that the manifest of a day names",
            found="none",
            remedy=f"set training.vocabulary, or build one from these days: {build_command(manifests)}",
        )
    for other in unproven:
        _check_extended(chosen, other, manifests)
    return chosen, chosen_uri


def build_command(manifests: Sequence[str], *options: str) -> str:
    """The command that builds a vocabulary from days and puts it beside them; DAY where none is known."""
    days = [day_folder(uri) for uri in manifests] or ["DAY"]
    out = posixpath.dirname(days[0].rstrip("/")) or "."
    return job_command("build_vocabulary", *days, *options, "--out", out)


@dataclass(frozen=True)
class _Named:
    """A vocabulary, and the manifest of the first day that names it."""

    uri: str
    manifest: str

    def read(self) -> Vocabulary:
        remedy = f"put it back, or build one from this day again: {build_command([self.manifest])}"
        place, expected = f"{self.manifest}, ads", f"the vocabulary {self.uri}, which the day names"
        try:
            return Vocabulary.read(self.uri)
        except CorruptShardError as error:
            found = f"{error.found} instead of {error.expected} ({error.place})"
            raise CorruptShardError(place, expected=expected, found=found, remedy=remedy) from error
        except UserError as error:
            raise UserError(place, expected=expected, found=error.found, remedy=remedy) from error
        except OSError as error:
            found = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(place, expected=expected, found=found, remedy=remedy) from error


def _largest(named: Sequence[_Named]) -> tuple[Vocabulary, str, list[_Named]]:
    """The only one that can extend all others, its URI, and those of which that has not turned out on the way."""
    best, best_named, unproven = named[0].read(), named[0], []
    for other_named in named[1:]:
        other = other_named.read()
        smaller, smaller_named = other, other_named
        if _rank(other) > _rank(best):
            smaller, smaller_named, best, best_named = best, best_named, other, other_named
        # What the smaller one extends, the larger one extends by it.
        if not best.extends(smaller):
            unproven.append(smaller_named)
    return best, best_named.uri, unproven


def _rank(vocabulary: Vocabulary) -> tuple[int, int, str, str]:
    """Greater for a vocabulary that extends another; among equals the newest, for counts of later days."""
    num_codes = sum(vocabulary.features.values())
    return vocabulary.num_rows, num_codes, vocabulary.created_at, vocabulary.version


def _check_extended(chosen: Vocabulary, named: _Named, manifests: Sequence[str]) -> None:
    if posixpath.basename(named.uri.rstrip("/")) == f"v={chosen.version}":
        return  # the same content, by its name; it may have moved since
    other = named.read()
    if not chosen.extends(other):
        raise UserError(
            f"{named.manifest}, ads",
            expected=f"vocabulary {chosen.version}, or one that it extends",
            found=f"vocabulary {other.version} ({named.uri}), which it does not",
            remedy="build one from all of these days, with this one for its parent to keep its rows: "
            + build_command(manifests, "--parent", named.uri),
        )


def _is_same(left: str, right: str) -> bool:
    return files.resolve(left) == files.resolve(right)


def _manifest_of(day_uri: str) -> str:
    return files.join(day_folder(day_uri), MANIFEST_NAME)
