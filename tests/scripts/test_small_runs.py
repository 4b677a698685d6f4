"""Every program of scripts/ runs once, small, in the suite; a new one without such a run fails here."""

from __future__ import annotations

import ast
import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from tests.jobs.job_runs import ROOT
from tests.scripts.script_runs import SCRIPTS, rows_of, run_script
from tests.scripts.test_bench_mining import needs_peers

pytestmark = pytest.mark.usefixtures("untouched_scripts")

RUNS = {
    "bench/bench_delays.py": "tests/scripts/test_small_runs_on_spark.py",
    "bench/bench_examination.py": "tests/scripts/test_small_runs_on_spark.py",
    "bench/bench_gate.py": "tests/scripts/test_small_runs_on_spark.py",
    "bench/bench_generations.py": "tests/scripts/test_bench_generations.py",
    "bench/bench_gpu.py": "tests/scripts/test_bench_gpu.py",
    "bench/bench_gpu.sh": "tests/scripts/test_small_runs.py",
    "bench/bench_mining.py": "tests/scripts/test_bench_mining.py",
    "bench/bench_negatives.py": "tests/scripts/test_small_runs_on_spark.py",
    "bench/bench_neighbours.py": "tests/scripts/test_bench_neighbours.py",
    "bench/bench_quality.py": "tests/scripts/test_small_runs_on_spark.py",
    "bench/bench_shards.py": "tests/scripts/test_small_runs.py",
    "bench/bench_startup.py": "tests/scripts/test_small_runs.py",
    "bench/bench_training.py": "tests/scripts/test_bench_training.py",
    "robustness/chaos.py": "tests/scripts/test_chaos.py",
    "check.sh": "tests/scripts/test_check.py",
    "compare.sh": "tests/scripts/test_demo_and_comparison.py",
    "demo.sh": "tests/scripts/test_demo_and_comparison.py",
    "env/environment.sh": "tests/scripts/test_environment.py",
    "robustness/fuzz.py": "tests/scripts/test_fuzz.py",
    "env/shrink_fbgemm.py": "tests/scripts/test_small_runs.py",
    "inspect_shard.py": "tests/shards/test_inspect_shard.py",
    "env/package.sh": "tests/scripts/test_package.py",
    "env/write_conf.py": "tests/scripts/test_write_conf.py",
    "bench/screenshot.sh": "tests/scripts/test_small_runs.py",
    "submit.sh": "tests/cluster/test_submit.py",
}
"""Programs by the file whose tests run them."""
STARTED = {
    "bench/peers/duckdb_mining.py": ("bench/bench_mining.py", "duckdb"),
    "bench/peers/polars_mining.py": ("bench/bench_mining.py", "polars"),
    "bench/peers/pyspark_mining.py": ("bench/bench_mining.py", "pyspark"),
    "bench/peers/shard_programs.py": ("bench/bench_shards.py", "bench_shards.py"),
}
"""Programs that only another one starts, and what a test of that one says to have them started."""
EXCEPTIONS = {
    "env/archive_classes.sh": "scripts/test.sh runs it before the tests",
    "env/pack_environment.sh": "downloads packages; submit.sh --environment runs it in tests/cluster/test_submit.py",
    "env/pack_gpu_packages.sh": "downloads half a gigabyte of wheels for a GPU",
    "test.sh": "runs the suite",
}
"""Programs that no test starts, with the reason."""
LIBRARIES = {
    "bench/benchmarking.py": "bench/bench_mining.py",
    "robustness/testbed.py": "robustness/chaos.py",
    "robustness/object_store.py": "robustness/testbed.py",
    "robustness/scenarios.py": "robustness/injections.py",
    "robustness/processes.py": "robustness/chaos.py",
    "robustness/standalone.py": "robustness/testbed.py",
    "robustness/injections.py": "robustness/chaos.py",
    "bench/generations_figures.py": "bench/bench_generations.py",
    "bench/gpu/checks.py": "bench/bench_gpu.py",
    "bench/gpu/large_run.py": "bench/bench_gpu.py",
    "bench/gpu/meter.py": "bench/bench_gpu.py",
    "bench/gpu/parts.py": "bench/bench_gpu.py",
    "bench/gpu/shapes.py": "bench/bench_gpu.py",
    "bench/gpu/waits.py": "bench/bench_gpu.py",
    "bench/gpu/whole.py": "bench/bench_gpu.py",
    "bench/compare_records.py": "bench/bench_mining.py",
    "robustness/mutations.py": "robustness/fuzz.py",
    "bench/peers/mining_rules.py": "bench/bench_mining.py",
    "bench/peers/tfrecord_shards.py": "bench/peers/duckdb_mining.py",
    "bench/synthetic_days.py": "bench/bench_neighbours.py",
    "robustness/protobuf_reference.py": "robustness/fuzz.py",
    "bench/spark_events.py": "bench/bench_mining.py",
    "bench/plain_torch.py": "bench/bench_training.py",
}
"""Files without a command line, by a file that imports them."""
UNDER_WAY = 3
"""Libraries between a library and a program, at most."""


def files_of_scripts() -> list[str]:
    return sorted(
        path.relative_to(SCRIPTS).as_posix()
        for path in SCRIPTS.rglob("*")
        if path.suffix in (".py", ".sh") and "__pycache__" not in path.parts
    )


def code_of(test: str) -> str:
    """The code of a test file without docstrings, comments and tables such as those above, which run nothing."""
    nodes = [
        node
        for node in ast.parse((ROOT / test).read_text()).body
        if not isinstance(node, ast.Expr) and not isinstance(getattr(node, "value", None), ast.Dict)
    ]
    for node in nodes:
        if ast.get_docstring(node) if isinstance(node, ast.FunctionDef | ast.ClassDef) else None:
            del node.body[0]  # type: ignore[attr-defined]
    return "\n".join(map(ast.unparse, nodes))


def imports_of(path: Path) -> set[str]:
    """Modules that a file imports: `a`, and `a.b` for `from a import b` too, whose `b` may be a module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return found


def test_every_script_is_run_or_says_why_not() -> None:
    listed = [*RUNS, *STARTED, *EXCEPTIONS, *LIBRARIES]
    assert sorted(listed) == files_of_scripts(), "a new script needs a small run here, named in RUNS"
    assert all(EXCEPTIONS.values())


@pytest.mark.parametrize("script", [*RUNS, *STARTED])
def test_the_test_that_is_named_runs_the_script(script: str) -> None:
    starter, words = STARTED.get(script, (script, Path(script).name))
    assert words in code_of(RUNS[starter]), f"{RUNS[starter]} does not run {script}"
    if script in STARTED:
        # Programs of peers are started by their names' first part.
        started = {Path(script).name, f"{{name}}_{script.rpartition('_')[2]}"}
        assert any(name in (SCRIPTS / starter).read_text() for name in started)


@pytest.mark.parametrize("script", LIBRARIES)
def test_a_library_has_no_command_line_and_is_imported_by_a_program(script: str) -> None:
    assert "__main__" not in (SCRIPTS / script).read_text()
    module = "scripts." + script.removesuffix(".py").replace("/", ".")
    importer = LIBRARIES[script]
    assert module in imports_of(SCRIPTS / importer)
    for _ in range(UNDER_WAY):
        importer = LIBRARIES.get(importer, importer)
    assert importer in RUNS or importer in STARTED


def test_every_program_in_python_has_a_command_line() -> None:
    programs = {*RUNS, *STARTED, *EXCEPTIONS}
    for script in sorted(programs):
        if script.endswith(".py"):
            assert '__name__ == "__main__"' in (SCRIPTS / script).read_text(), script


def test_the_archive_of_classes_is_made_before_the_tests() -> None:
    assert "scripts/env/archive_classes.sh\n" in (SCRIPTS / "test.sh").read_text()
    assert "pack_environment.sh" in (SCRIPTS / "submit.sh").read_text()
    assert '"--environment"' in (ROOT / "tests" / "cluster" / "test_submit.py").read_text()


@pytest.mark.slow
def test_startup_measures_every_job(tmp_path: Path) -> None:
    run = run_script(
        "bench/bench_startup.py", "--rows", "2e3", "--runs", 1, "--results", tmp_path, cwd=tmp_path
    )
    assert run.exit_code == 0, run.stderr
    seconds = rows_of(run.stdout, "until ")
    jobs = [f"{path.name} --help" for path in sorted((ROOT / "jobs").glob("*.py"))]
    first_tasks = [
        "first task, bare session", "first task, mine_negatives.py", "first task, over the bare session",
    ]  # fmt: skip
    assert list(seconds) == [*first_tasks, *jobs]
    found = json.loads((tmp_path / "startup.json").read_text())["seconds"]
    assert list(found) == list(seconds) and all(len(runs) == 1 for runs in found.values())
    bare, ours, over = (found[name][0] for name in first_tasks)
    assert bare > 0 and ours > 0 and over == pytest.approx(ours - bare)


@needs_peers
@pytest.mark.slow
def test_shards_are_written_and_read_by_every_peer(tmp_path: Path) -> None:
    run = run_script(
        "bench/bench_shards.py", "--records", 400, "--runs", 1, "--results", tmp_path, cwd=tmp_path
    )
    assert run.exit_code == 0, run.stderr
    tables = {
        "write": ("encode and write, records/s", ["scrollpast", "tfx_bsl", "tensorflow", "tfrecord"]),
        "read": (
            "read and decode, records/s",
            ["scrollpast", "tf.data", "tf.data 2 threads", "tfx_bsl", "tfrecord", "webdataset", "streaming"],
        ),
        "anchors": ("training input, anchors/s", ["scrollpast", "from its cache", "tf.data"]),
    }
    rates = json.loads((tmp_path / "shards.json").read_text())["rates"]
    for task, (heading, programs) in tables.items():
        rows = rows_of(run.stdout, heading)
        assert list(rows) == list(rates[task]) == programs
        assert all(cells[-1] == "×" for name, cells in rows.items() if name != "scrollpast")
        assert all(rate > 0 for runs in rates[task].values() for rate in runs)


@pytest.mark.slow
def test_the_trainer_is_measured_on_the_processor_where_no_gpu_is_seen(tmp_path: Path) -> None:
    if Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        pytest.skip("needs the environment that scripts/test.sh makes in .venv")
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    run = run_script(
        "bench/bench_gpu.sh", "--only", "parts", "--batches", 64, "--dims", 8, "--rows", "1e3", "--steps", 1,
        "--results", tmp_path / "results", cwd=tmp_path, PATH=f"{python.parent}:{os.environ['PATH']}",
        SCROLLPAST_GPU_PYTHON="",
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    assert "no GPU is seen by python3: small sizes on the processor" in run.stderr
    parts = ["tables, lookup and update", "towers", "loss", "data, made ready"]
    assert list(rows_of(run.stdout, "part of a step")) == parts
    (figures,) = (tmp_path / "results").glob("gpu*.json")
    found = json.loads(figures.read_text())["parts"]
    assert [part["name"] for part in found] == parts


def test_a_picture_of_a_report_is_as_large_as_the_window(tmp_path: Path) -> None:
    started = [os.environ.get("CHROMIUM"), str(ROOT / ".envs" / "chromium" / "start")]
    installed = ["chromium", "chromium-browser", "google-chrome"]
    if not any(path and Path(path).exists() for path in started) and not any(map(shutil.which, installed)):
        pytest.skip("no Chromium: scripts/test.sh unpacks one where there is apt-get; CHROMIUM names another")
    (tmp_path / "report.html").write_text("<!doctype html><title>A report</title><h1>A report</h1>")
    run = run_script("bench/screenshot.sh", "report.html", "pictures/report.png", cwd=tmp_path)
    assert run.exit_code == 0, run.stderr
    picture = (tmp_path / "pictures" / "report.png").read_bytes()
    assert run.stdout == f"wrote {tmp_path}/pictures/report.png ({len(picture)} bytes)\n"
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", picture[16:24]) == (1280, 1950)


def entry(code: bytes, architecture: int, *, is_compressed: bool = False) -> bytes:
    """Code for a GPU as CUDA embeds it: a header of 64 bytes, then the code."""
    stored = pa.Codec("zstd").compress(code, asbytes=True) if is_compressed else code
    header = bytearray(64)
    struct.pack_into("<HHIQ", header, 0, 2, 1, len(header), len(stored))
    struct.pack_into("<I", header, 16, len(stored) if is_compressed else 0)
    struct.pack_into("<I", header, 28, architecture)
    struct.pack_into("<Q", header, 40, 0x8000 if is_compressed else 0)
    return bytes(header) + stored


def library(*entries: bytes) -> bytes:
    """A 64-bit ELF of three sections: none, .nv_fatbin with one container, and their names."""
    content = b"".join(entries)
    container = struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(content)) + content
    names = b"\0.nv_fatbin\0.shstrtab\0"
    header = bytearray(64)
    header[:4] = b"\x7fELF"
    table = 64 + len(container) + len(names)
    struct.pack_into("<Q", header, 40, table)
    struct.pack_into("<HHH", header, 58, 64, 3, 2)
    sections = bytearray(3 * 64)
    for number, (name, offset, size) in enumerate(
        ((1, 64, len(container)), (12, 64 + len(container), len(names))), start=1
    ):
        struct.pack_into("<I", sections, 64 * number, name)
        struct.pack_into("<QQ", sections, 64 * number + 24, offset, size)
    return bytes(header) + container + names + bytes(sections)


def test_only_the_code_that_a_trainer_uses_stays_in_a_wheel(tmp_path: Path) -> None:
    pythons = [ROOT / ".envs" / name / "bin" / "python" for name in ("packing", "airflow")]
    python = next((path for path in pythons if path.exists()), None)
    if python is None or shutil.which("xz") is None:
        pytest.skip("needs xz and a Python with zstandard, such as scripts/test.sh makes in .envs/airflow")
    used, unused = b".text.split_rowwise_adagrad_kernel", b".text.split_lion_kernel"
    shared = library(entry(used, 90), entry(unused, 90, is_compressed=True), entry(used, 80))
    with zipfile.ZipFile(tmp_path / "some.whl", "w") as wheel:
        wheel.writestr("fbgemm_gpu/fbgemm_gpu_tbe_training_backward.so", shared)
        wheel.writestr("fbgemm_gpu/fbgemm_gpu_tbe_inference.so", library(entry(used, 90)))
        wheel.writestr("fbgemm_gpu/__init__.py", "")
    done = subprocess.run(
        [python, SCRIPTS / "env" / "shrink_fbgemm.py", "some.whl", "unpacked", "small.tar.xz"],
        capture_output=True, text=True, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    inference, training, size = done.stdout.splitlines()
    assert inference.startswith("fbgemm_gpu_tbe_inference.so: kept 0.0 MiB of code, zeroed")
    assert training.startswith("fbgemm_gpu_tbe_training_backward.so: kept")
    assert size.startswith("small.tar.xz: ")
    with tarfile.open(tmp_path / "small.tar.xz") as archive:
        members = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        files = {name: file.read() for name, file in members.items() if file is not None}
    assert "fbgemm_gpu/__init__.py" in files
    # Nothing moves: the first entry is as it was, the two others are zeros.
    shrunk = files["fbgemm_gpu/fbgemm_gpu_tbe_training_backward.so"]
    assert len(shrunk) == len(shared)
    assert shrunk.count(used) == 1 and shared.count(used) == 2
    assert shrunk.index(used) == shared.index(used)
    assert pa.Codec("zstd").compress(unused, asbytes=True) not in shrunk
    assert used not in files["fbgemm_gpu/fbgemm_gpu_tbe_inference.so"]
