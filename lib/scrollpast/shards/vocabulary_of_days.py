"""Vocabulary of published days: manifests name the vocabulary, and the trainer reads its URI from them."""

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
"""Attempts to name a vocabulary in a manifest that other jobs replace meanwhile."""


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
    """URI of the vocabulary that the manifest of a day names by ``reference``."""
    if "://" in reference or reference.startswith("/"):
        return reference
    folder = day_folder(day_uri)
    scheme, separator, path = folder.rpartition("://")
    # Object stores do not resolve "..".
    return (
        scheme
        + separator
        + posixpath.normpath(posixpath.join(path if scheme else os.path.abspath(path), reference))
    )


def name_vocabulary(day_uri: str, counted: Manifest, vocabulary_uri: str) -> bool:
    """Name a vocabulary in the manifest of a day that it was built from; all other fields stay.

    Args:
        counted: the day's manifest when the vocabulary was built.

    Returns:
        True if the manifest was written; False if it already names the vocabulary.

    Raises:
        UserError: the day was mined again since it was counted, or its manifest cannot be written.
        DayChangedError: other jobs replaced the manifest in every attempt.
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
            found="other shards: the day was mined again meanwhile",
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
            remedy=f"grant write access and run again, or set training.vocabulary to {vocabulary_uri}",
        ) from error
    return True


def resolve_vocabulary(manifests: Sequence[str], uri: str | None) -> tuple[Vocabulary, str]:
    """Vocabulary for training on these days, and its URI: the one at ``uri``, else the one that manifests name.

    Of several named vocabularies, the result extends all others; of equivalent vocabularies, the newest is chosen. A
    vocabulary at ``uri`` also has to extend all vocabularies that the days name. Days without a vocabulary fit any
    vocabulary. At most two vocabularies are in memory at once.

    Args:
        manifests: URIs of days' folders or of their manifests.

    Raises:
        UserError: a day is not published; no vocabulary is named or given; the vocabulary does not exist; or the
            result does not extend a day's vocabulary.
        CorruptShardError: a manifest or a vocabulary is corrupt.
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
    """Command that builds a vocabulary from days and writes it beside them; DAY without a known day."""
    days = [day_folder(uri) for uri in manifests] or ["DAY"]
    out = posixpath.dirname(days[0].rstrip("/")) or "."
    return job_command("build_vocabulary", *days, *options, "--out", out)


@dataclass(frozen=True)
class _Named:
    """A vocabulary, and the manifest of the first day that names it."""

    uri: str
    manifest: str

    def read(self) -> Vocabulary:
        remedy = f"restore it, or build the vocabulary of this day again: {build_command([self.manifest])}"
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
    """The only vocabulary that can extend all others, its URI, and the vocabularies not yet compared with it."""
    best, best_named, unproven = named[0].read(), named[0], []
    for other_named in named[1:]:
        other = other_named.read()
        smaller, smaller_named = other, other_named
        if _rank(other) > _rank(best):
            smaller, smaller_named, best, best_named = best, best_named, other, other_named
        # Extension is transitive: the larger vocabulary extends all that the smaller extends.
        if not best.extends(smaller):
            unproven.append(smaller_named)
    return best, best_named.uri, unproven


def _rank(vocabulary: Vocabulary) -> tuple[int, int, str, str]:
    """Sort key: greater for a vocabulary that extends another; among equivalent ones for the newest."""
    num_codes = sum(vocabulary.features.values())
    return vocabulary.num_rows, num_codes, vocabulary.created_at, vocabulary.version


def _check_extended(chosen: Vocabulary, named: _Named, manifests: Sequence[str]) -> None:
    if posixpath.basename(named.uri.rstrip("/")) == f"v={chosen.version}":
        return  # the same version has the same content, also at another place
    other = named.read()
    if not chosen.extends(other):
        raise UserError(
            f"{named.manifest}, ads",
            expected=f"vocabulary {chosen.version}, or a vocabulary that it extends",
            found=f"vocabulary {other.version} ({named.uri}), which it does not extend",
            remedy="build a vocabulary from all of these days, with this vocabulary as its parent to keep its rows: "
            + build_command(manifests, "--parent", named.uri),
        )


def _is_same(left: str, right: str) -> bool:
    return files.resolve(left) == files.resolve(right)


def _manifest_of(day_uri: str) -> str:
    return files.join(day_folder(day_uri), MANIFEST_NAME)
