"""Numbers on the command lines of scripts/: one out of its range is a mistake that argparse names."""

from __future__ import annotations

import argparse
import ast
from functools import cache
from pathlib import Path
from unittest.mock import patch

import pytest
from scripts.bench.peers.mining_rules import num_threads
from tests.scripts.script_runs import SCRIPTS, run_script_here

from scrollpast import cli_runner

PROGRAMS = sorted(
    path.relative_to(SCRIPTS).as_posix()
    for path in SCRIPTS.rglob("*.py")
    if "run_job(parser" in path.read_text()
)
PEERS = sorted(path.name for path in (SCRIPTS / "bench" / "peers").glob("*_mining.py"))
OUT_OF_RANGE = {
    "bench/bench_delays.py": {"--rows": "0", "--days": "0", "--seed": "-1"},
    "bench/bench_examination.py": {"--rows": "0", "--runs": "0", "--small": "0", "--random": "1.5"},
    "bench/bench_gate.py": {"--rows": "0", "--days": "0", "--seed": "-1"},
    "bench/bench_generations.py": {
        "--rows": "0", "--generations": "0", "--seeds": "1,x", "--steps": "0", "--hard-weight": "0",
        "--explored": "1.01",
    },
    "bench/bench_gpu.py": {"--batches": "0", "--dims": "0", "--rows": "1", "--steps": "0", "--anchors": "0"},
    "bench/bench_mining.py": {"--rows": "0", "--runs": "0", "--seed": "-1", "--buckets": "0"},
    "bench/bench_negatives.py": {
        "--last-day": "2022-4-28", "--hold-out": "0", "--seeds": "0", "--hard-weight": "0",
    },
    "bench/bench_neighbours.py": {"--ads": "0", "--users": "9", "--dim": "0", "--buckets": "0"},
    "bench/bench_quality.py": {"--rows": "0", "--days": "0", "--seeds": "1,1", "--wait-days": "-1"},
    "bench/bench_shards.py": {"--records": "0", "--runs": "0"},
    "bench/bench_startup.py": {"--rows": "0", "--runs": "0"},
    "bench/bench_training.py": {
        "--batch": "0", "--steps": "0", "--runs": "0", "--rows": "1", "--users": "0", "--threads": "-1",
    },
    "robustness/chaos.py": {"--seeds": "0", "--first": "-1", "--rows": "0"},
    "robustness/fuzz.py": {"--shards": "-1", "--configurations": "-1", "--seed": "-1", "--processes": "0"},
    "inspect_shard.py": {"--limit": "-1", "--most": "-1"},
}  # fmt: skip
"""Of every option that takes a number or a day, a value just out of its range."""
NO_NUMBERS = ("x", "nan", "")


@cache
def parser_of(program: str) -> argparse.ArgumentParser:
    """The parser that a program builds, without a run of the program."""
    found: list[argparse.ArgumentParser] = []

    def keep(parser: argparse.ArgumentParser, *_: object, **__: object) -> int:
        found.append(parser)
        return 0

    with patch.object(cli_runner, "run_job", keep):
        assert run_script_here(program).exit_code == 0
    return found[0]


@pytest.mark.parametrize(
    ("program", "option", "text"),
    [
        (program, option, text)
        for program, options in OUT_OF_RANGE.items()
        for option, out_of_range in options.items()
        for text in (out_of_range, *NO_NUMBERS)
    ],
)
def test_a_number_out_of_range_is_named_with_what_was_expected(
    program: str, option: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parser_of(program).parse_args([f"{option}={text}"])
    assert ended.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"{parser_of(program).prog}: error: argument {option}: ")
    assert "expected" in error and "found" in error


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_option_with_a_type_is_among_those_above(program: str) -> None:
    typed = {
        action.option_strings[0]
        for action in parser_of(program)._actions
        if action.type not in (None, Path) and action.option_strings
    }
    assert typed == set(OUT_OF_RANGE.get(program, ()))


def test_no_option_takes_any_number() -> None:
    for path in SCRIPTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "type":
                assert ast.unparse(node.value) not in ("int", "float"), f"{path}, line {node.value.lineno}"


@pytest.mark.parametrize("text", ["0", "-1", "1.5", *NO_NUMBERS])
def test_a_peer_takes_one_thread_or_more(text: str) -> None:
    with pytest.raises(
        argparse.ArgumentTypeError, match=f"expected a whole number, 1 or more, found '{text}'"
    ):
        num_threads(text)
    assert num_threads("1") == 1


@pytest.mark.parametrize("peer", PEERS)
def test_every_peer_reads_its_threads_so(peer: str) -> None:
    # Peers import libraries of their own environment: their source is read, and no parser is built.
    assert '"--threads", type=num_threads' in " ".join(
        (SCRIPTS / "bench" / "peers" / peer).read_text().split()
    )
