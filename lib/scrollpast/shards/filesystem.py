"""File systems by URI, and atomic writes: a reader sees the whole file or no file."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from scrollpast.errors import UserError

# Stores that make an object visible only after its last byte: no temporary name, no rename.
_OBJECT_STORES = frozenset({"s3", "s3a", "s3n", "gs", "gcs", "abfs", "abfss", "az", "oss", "memory"})
_TEMPORARY_SUFFIX = ".tmp"
_LOCK_NAME = ".lock"
# Error codes of mounts without locks, or without locks of folders.
_NO_LOCK = frozenset({errno.EBADF, errno.EINVAL, errno.EISDIR, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP})


def resolve(uri: str | os.PathLike[str]) -> tuple[fs.FileSystem, str]:
    """File system of ``uri`` and the path inside it.

    A plain path and ``file://`` are local. pyarrow serves ``s3://``, ``gs://`` and ``hdfs://``; fsspec serves every
    other scheme. S3's endpoint is ``AWS_ENDPOINT_URL_S3``, else ``AWS_ENDPOINT_URL``, else AWS.

    Raises:
        UserError: the scheme is unknown, or the package or library that serves it is missing.
    """
    text = os.fspath(uri)
    if "://" not in text:
        return fs.LocalFileSystem(), os.path.abspath(text)
    scheme, _, rest = text.partition("://")
    if scheme == "file":
        if not rest.startswith("/"):
            raise _cannot_open(text, "file:/// and an absolute path", f"host {rest.split('/')[0]!r}")
        return fs.LocalFileSystem(), os.path.abspath(rest)
    try:
        if scheme in ("s3", "s3a", "s3n"):
            return _s3(), rest.strip("/")
        if scheme in ("gs", "gcs", "hdfs", "viewfs"):
            filesystem, path = fs.FileSystem.from_uri(text.replace("gcs://", "gs://", 1))
            return filesystem, path.rstrip("/")
        return _fsspec(text)
    except (ImportError, ValueError, OSError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _cannot_open(text, f"a file system for {scheme}://", reason) from error


def join(folder: str, *parts: str) -> str:
    """``folder`` (URI or path) with ``parts`` below it, separated by single slashes."""
    return "/".join([folder.rstrip("/"), *(part.strip("/") for part in parts)])


def absolute(uri: str) -> str:
    """URI that is independent of the working folder: a plain path is made absolute."""
    return uri if "://" in uri else os.path.abspath(uri)


def write_atomically(filesystem: fs.FileSystem, path: str, data: Any) -> None:
    """Write ``data`` (bytes-like) to ``path``: a reader sees the old file or the whole new file, never a part.

    Local: a hidden temporary file in the folder, fsync, rename; rights follow the umask. HDFS and unknown file systems:
    temporary file and rename; an existing target is removed just before the rename. Object stores: one put. Parent
    folders are created.
    """
    if isinstance(filesystem, fs.LocalFileSystem):
        temporary = _write_temporary(path, data)
        try:
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        _sync_folder(path)
        return
    if is_object_store(filesystem):
        _write_whole(filesystem, path, data)
        return
    filesystem.create_dir(_parent(path), recursive=True)
    temporary = temporary_name(path)
    try:
        _write_whole(filesystem, temporary, data)
        if exists(filesystem, path):
            filesystem.delete_file(path)
        filesystem.move(temporary, path)
    except BaseException:
        if exists(filesystem, temporary):
            filesystem.delete_file(temporary)
        raise


def write_named(content: pa.Buffer | bytes, folder: str, suffix: str, day_uri: str) -> str:
    """Write a small file, named by its content, below ``folder`` of a day; returns the path within the day."""
    path = f"{folder}/part-{hashlib.sha256(content).hexdigest()[:16]}.{suffix}"
    filesystem, root = resolve(day_uri)
    write_atomically(filesystem, join(root, path), content)
    return path


def write_new(filesystem: fs.FileSystem, path: str, data: Any) -> None:
    """Write ``data`` to ``path`` like `write_atomically`, unless the file exists.

    Of two concurrent writers exactly one wins on a local file system (hard link), on S3 with s3fs installed
    (conditional put) and on HDFS (a rename overwrites nothing). Elsewhere the check is just before the write and not
    atomic.

    Raises:
        FileExistsError: the file exists.
    """
    if exists(filesystem, path):
        raise FileExistsError(path)
    if isinstance(filesystem, fs.LocalFileSystem):
        temporary = _write_temporary(path, data)
        try:
            os.link(temporary, path)
        finally:
            os.unlink(temporary)
        _sync_folder(path)
    elif filesystem.type_name == "hdfs":
        filesystem.create_dir(_parent(path), recursive=True)
        temporary = temporary_name(path)
        _write_whole(filesystem, temporary, data)
        try:
            filesystem.move(temporary, path)
        except OSError as error:
            filesystem.delete_file(temporary)
            if exists(filesystem, path):
                raise FileExistsError(path) from error
            raise
    elif filesystem.type_name == "s3" and (conditional := _conditional_s3()) is not None:
        conditional.pipe_file(path, bytes(data), mode="create")
    else:
        write_atomically(filesystem, path, data)


def write_over(
    filesystem: fs.FileSystem, path: str, data: Any, is_expected: Callable[[pa.Buffer], bool]
) -> bool:
    """Replace a file like `write_atomically` if its content is unchanged since the caller's read; True if replaced.

    Of concurrent writers that read the same content, exactly one wins on a local file system (a lock on the folder,
    which this function and `delete_unchanged` take) and on S3 with s3fs installed (a put with ``If-Match``). Elsewhere
    the check is just before the write and not atomic.

    Args:
        is_expected: returns True for the content that the caller read; not called for a missing file.
    """
    if filesystem.type_name == "s3" and (conditional := _conditional_s3()) is not None:
        return _put_if_match(conditional, path, bytes(data), is_expected)
    with _locked_folder(filesystem, path):
        if not _holds(filesystem, path, is_expected):
            return False
        write_atomically(filesystem, path, data)
    return True


def delete_unchanged(filesystem: fs.FileSystem, path: str, is_expected: Callable[[pa.Buffer], bool]) -> bool:
    """Remove a file if its content is unchanged since the caller's read; returns True if it was removed.

    On a local file system the lock of `write_over` is held from the check to the removal. Elsewhere, on S3 too, the
    check is just before the removal and not atomic.
    """
    with _locked_folder(filesystem, path):
        if not _holds(filesystem, path, is_expected):
            return False
        delete_file(filesystem, path)
    return True


def _holds(filesystem: fs.FileSystem, path: str, is_expected: Callable[[pa.Buffer], bool]) -> bool:
    try:
        return is_expected(read_all(filesystem, path))
    except FileNotFoundError:
        return False


def _put_if_match(conditional: Any, path: str, data: bytes, is_expected: Callable[[pa.Buffer], bool]) -> bool:
    bucket, _, key = path.partition("/")
    try:
        # The tag is read first: with newer content the put fails.
        tag = conditional.call_s3("head_object", Bucket=bucket, Key=key)["ETag"]
        if not is_expected(pa.py_buffer(conditional.cat_file(path))):
            return False
    except FileNotFoundError:
        return False
    try:
        conditional.call_s3("put_object", Bucket=bucket, Key=key, Body=data, IfMatch=tag)
    except OSError:
        try:
            is_ours_to_replace = conditional.call_s3("head_object", Bucket=bucket, Key=key)["ETag"] == tag
        except FileNotFoundError:
            is_ours_to_replace = False
        if is_ours_to_replace:
            raise
        return False
    return True


@contextlib.contextmanager
def _locked_folder(filesystem: fs.FileSystem, path: str) -> Iterator[None]:
    """Hold the lock of a local file's folder, which ends with the process; no lock on other file systems.

    NFS locks only files opened for writing, not folders: there a hidden file in the folder is locked, and stays. On a
    mount without locks, no lock is taken.
    """
    folder = _parent(path)
    if not isinstance(filesystem, fs.LocalFileSystem) or not os.path.isdir(folder):
        yield
        return
    with contextlib.ExitStack() as opened:
        places = ((folder, os.O_RDONLY), (join(folder, _LOCK_NAME), os.O_RDWR | os.O_CREAT))
        for place, mode in places:
            descriptor = os.open(place, mode, 0o666)
            opened.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in _NO_LOCK:
                    raise
            else:
                break
        yield


def copy_file(filesystem: fs.FileSystem, source: str, path: str) -> None:
    """Copy a file within its file system; as with `write_atomically`, a reader never sees a partial copy.

    Raises:
        FileNotFoundError: the source does not exist.
    """
    if is_object_store(filesystem):
        filesystem.copy_file(source, path)  # copied by the store, without a download
    else:
        write_atomically(filesystem, path, read_all(filesystem, source))


def temporary_name(path: str) -> str:
    """Unique hidden name in the folder of ``path``."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.{uuid.uuid4().hex}{_TEMPORARY_SUFFIX}"


def is_temporary(path: str) -> bool:
    """True if the file's name has the form of `temporary_name`."""
    name = PurePosixPath(path).name
    return name.startswith(".") and name.endswith(_TEMPORARY_SUFFIX)


def is_object_store(filesystem: fs.FileSystem) -> bool:
    """True for stores where a file becomes visible as a whole when its writer closes it."""
    if isinstance(filesystem, fs.PyFileSystem):
        protocol = getattr(getattr(filesystem.handler, "fs", None), "protocol", ())
        return not _OBJECT_STORES.isdisjoint({protocol} if isinstance(protocol, str) else set(protocol))
    return filesystem.type_name in _OBJECT_STORES


def read_all(filesystem: fs.FileSystem, path: str) -> pa.Buffer:
    """Read the whole content of a file.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    with filesystem.open_input_file(path) as file:
        return file.read_buffer(file.size())


def exists(filesystem: fs.FileSystem, path: str) -> bool:
    """True if ``path`` is a file."""
    return bool(filesystem.get_file_info(path).type == fs.FileType.File)


def list_files(filesystem: fs.FileSystem, folder: str, *, recursive: bool = True) -> list[fs.FileInfo]:
    """List the files below ``folder``, sorted by path; empty if the folder does not exist."""
    selector = fs.FileSelector(folder, recursive=recursive, allow_not_found=True)
    files = [info for info in filesystem.get_file_info(selector) if info.type == fs.FileType.File]
    return sorted(files, key=lambda info: info.path)


def delete_file(filesystem: fs.FileSystem, path: str) -> None:
    """Remove a file; a missing file is no error."""
    with contextlib.suppress(FileNotFoundError):
        filesystem.delete_file(path)


def remove_empty_folders(filesystem: fs.FileSystem, root: str, relative: Iterable[str]) -> None:
    """Remove empty folders, and then ``root`` if it is empty. Object stores have no folders.

    Args:
        relative: folders below ``root``, each removed with its empty parents, up to ``root``.
    """
    if is_object_store(filesystem):
        return
    folders = {""}
    for folder in relative:
        parts = folder.split("/")
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    for folder in sorted(folders, reverse=True):
        path = join(root, folder) if folder else root
        selector = fs.FileSelector(path, allow_not_found=True)
        if filesystem.get_file_info(path).type == fs.FileType.Directory and not filesystem.get_file_info(
            selector
        ):
            filesystem.delete_dir(path)


def _write_temporary(path: str, data: Any) -> str:
    """Write and fsync a local hidden file beside ``path``, unique to this attempt; returns its name."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = temporary_name(path)
    # The umask restricts 0o666 as for any file; tempfile's 0o600 would exclude the trainer's user.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(temporary)
        raise
    return temporary


def _sync_folder(path: str) -> None:
    """Sync the folder of ``path``, so that a local rename survives a power failure."""
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_whole(filesystem: fs.FileSystem, path: str, data: Any) -> None:
    # One write of everything, and no `with`: an exception inside a `with` closes the stream, and closing is
    # what publishes an object, a partial one too.
    stream = filesystem.open_output_stream(path)
    stream.write(pa.py_buffer(data))
    stream.close()


def _s3() -> fs.FileSystem:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        return fs.S3FileSystem()
    address = urlsplit(endpoint)
    if address.scheme not in ("http", "https") or not address.netloc:
        raise ValueError(f"AWS_ENDPOINT_URL is {endpoint!r}, not http(s)://host:port")
    return fs.S3FileSystem(
        endpoint_override=address.netloc,
        scheme=address.scheme,
        # A named region avoids the look-up of the bucket's region, which private stores often do not answer.
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
    )


def _conditional_s3() -> Any:
    """S3 through s3fs, which can send ``If-None-Match: *``; pyarrow cannot. None without s3fs."""
    try:
        import s3fs
    except ImportError:
        return None
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return s3fs.S3FileSystem(endpoint_url=endpoint, skip_instance_cache=True)


def _fsspec(uri: str) -> tuple[fs.FileSystem, str]:
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(uri)
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path.rstrip("/")


def _parent(path: str) -> str:
    return str(PurePosixPath(path).parent)


def _cannot_open(uri: str, expected: str, found: str) -> UserError:
    return UserError(
        uri,
        expected=expected,
        found=found,
        remedy="use a local path, s3://, gs:// or hdfs://, or install the fsspec package that serves the scheme",
    )
