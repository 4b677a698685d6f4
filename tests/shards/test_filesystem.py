import os
import stat
import threading
from pathlib import Path

import pytest
from pyarrow import fs

from scrollpast.errors import UserError
from scrollpast.shards import filesystem as files


def test_a_plain_path_and_a_file_uri_are_local(tmp_path: Path) -> None:
    for uri in (str(tmp_path), f"file://{tmp_path}", tmp_path, f"{tmp_path}/"):
        filesystem, path = files.resolve(uri)
        assert isinstance(filesystem, fs.LocalFileSystem)
        assert path == str(tmp_path)


def test_s3_goes_to_the_endpoint_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    filesystem, path = files.resolve("s3://ads/shards/")
    assert filesystem.type_name == "s3"
    assert path == "ads/shards"


def test_any_other_scheme_goes_through_fsspec() -> None:
    filesystem, path = files.resolve("memory://ads/day")
    files.write_atomically(filesystem, f"{path}/a", b"content")
    assert files.read_all(filesystem, f"{path}/a").to_pybytes() == b"content"
    assert files.is_object_store(filesystem)


@pytest.mark.parametrize("uri", ["nonsense://x/y", "file://host/x"])
def test_an_unknown_scheme_is_the_users_error(uri: str) -> None:
    with pytest.raises(UserError, match=f"^{uri}: expected .*; use a local path, s3://"):
        files.resolve(uri)


def test_a_malformed_endpoint_is_the_users_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "localhost:9000")
    with pytest.raises(UserError, match="AWS_ENDPOINT_URL is 'localhost:9000', not http"):
        files.resolve("s3://ads")


def test_parents_are_made_and_rights_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        files.write_atomically(fs.LocalFileSystem(), str(tmp_path / "a/b/file"), b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a/b/file").stat().st_mode) == 0o640


def test_a_reader_sees_the_old_or_the_new_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [b"a" * 3_000_000, b"b" * 3_000_000]
    path.write_bytes(contents[0])
    written = threading.Event()

    def write() -> None:
        for turn in range(20):
            files.write_atomically(fs.LocalFileSystem(), str(path), contents[turn % 2])
        written.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not written.is_set():
        seen.add(path.read_bytes())
    writer.join()
    assert seen <= set(contents)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(OSError, match="target"):
        files.write_atomically(fs.LocalFileSystem(), str(tmp_path / "target"), b"x")
    assert [file.name for file in tmp_path.iterdir()] == ["target"]


def test_of_many_writers_of_a_new_file_one_wins(tmp_path: Path) -> None:
    path = str(tmp_path / "day" / "file")
    winners, start = [], threading.Barrier(8)

    def write(number: int) -> None:
        start.wait()
        try:
            files.write_new(fs.LocalFileSystem(), path, str(number).encode())
        except FileExistsError:
            return
        winners.append(number)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(winners) == 1
    assert Path(path).read_text() == str(winners[0])
    assert os.listdir(tmp_path / "day") == ["file"]


def test_a_file_system_that_only_renames_gets_a_temporary_name_first(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    local = fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem("file")))
    assert not files.is_object_store(local)
    for content in (b"old", b"new"):
        files.write_atomically(local, str(tmp_path / "sub/file"), content)
    assert (tmp_path / "sub/file").read_bytes() == b"new"
    assert os.listdir(tmp_path / "sub") == ["file"]
    with pytest.raises(FileExistsError):
        files.write_new(local, str(tmp_path / "sub/file"), b"newer")


def test_files_are_listed_sorted_and_a_missing_folder_has_none(tmp_path: Path) -> None:
    for name in ("b", "a/c"):
        files.write_atomically(fs.LocalFileSystem(), str(tmp_path / name), b"")
    listed = files.list_files(fs.LocalFileSystem(), str(tmp_path))
    assert [info.path[len(str(tmp_path)) :] for info in listed] == ["/a/c", "/b"]
    assert [
        info.base_name for info in files.list_files(fs.LocalFileSystem(), str(tmp_path), recursive=False)
    ] == ["b"]
    assert files.list_files(fs.LocalFileSystem(), str(tmp_path / "none")) == []
    files.delete_file(fs.LocalFileSystem(), str(tmp_path / "none"))


def test_a_plain_path_is_made_absolute_and_a_uri_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert files.absolute("days/ds=2026-11-20") == str(tmp_path / "days" / "ds=2026-11-20")
    assert files.absolute("s3://bucket/days") == "s3://bucket/days"
