"""Commands that messages print: complete for the job's own parser, quoted, and run as they stand."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrollpast.errors import ScrollpastError
from scrollpast.job_commands import job_command, mine_command
from scrollpast.report.page import compose
from scrollpast.report.sections import Missing
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.shards.vocabulary_of_days import build_command, resolve_vocabulary
from scrollpast.training.serving.export_files import read_export
from tests.jobs.job_runs import ROOT, TIMEOUT_S, parser_of, run_job
from tests.report.published import make_output
from tests.training.data.days import write_day

PATHS = st.text(st.characters(codec="utf-8", exclude_characters="\0\n…"), min_size=1).filter(
    lambda text: not text.startswith("-")
)


def parsed(command: str) -> dict[str, object]:
    """The arguments of a printed command, as its job reads them."""
    assert "…" not in command
    interpreter, program, *arguments = shlex.split(command)
    assert Path(interpreter).resolve() == Path(sys.executable).resolve()
    assert (ROOT / program).is_file()
    if program.startswith("scripts/"):
        return {}
    return vars(parser_of(Path(program).stem).parse_args(arguments))


def command_in(error: ScrollpastError) -> str:
    """The command at the end of a message's remedy."""
    return error.remedy[error.remedy.index(shlex.split(job_command("x"))[0]) :]


def strings_of(tree: ast.AST) -> Iterator[str]:
    """Text constants of a module, docstrings left out."""
    if isinstance(tree, ast.Expr) and isinstance(tree.value, ast.Constant):
        return
    if isinstance(tree, ast.Constant) and isinstance(tree.value, str):
        yield tree.value
    for child in ast.iter_child_nodes(tree):
        yield from strings_of(child)


def test_no_message_writes_the_command_of_a_job_itself() -> None:
    for path in (ROOT / "lib" / "scrollpast").rglob("*.py"):
        if path.name != "job_commands.py":
            for text in strings_of(ast.parse(path.read_text())):
                assert not re.search(r"\bjobs/\w+\.py", text), f"{path}: {text}"


@given(path=PATHS, out=PATHS)
def test_paths_of_any_characters_reach_the_job(path: str, out: str) -> None:
    config = {"input": {"impressions": {"path": path}, "engagements": {"table": "log.engagements"}}}
    found = parsed(mine_command("2026-11-20", 3, out, config, "--overwrite"))
    assert (found["impressions"], found["out"], found["days"]) == (path, out, 3)
    assert (found["set"], found["engagements"], found["ads"]) == (
        ["input.engagements.table=log.engagements"],
        None,
        None,
    )
    built = parsed(build_command([f"{out}/ds=2026-11-20"], "--parent", path))
    assert (built["days"], built["parent"], built["out"]) == (
        [f"{out}/ds=2026-11-20"],
        path,
        out.rstrip("/") or "/",
    )


def test_every_command_of_a_report_without_data_is_complete(tmp_path: Path) -> None:
    output = make_output(tmp_path / "a log's days")
    output.change(
        config={}, health=None, exposure_file=None, revocation_file=None, num_revoked=0, ledger={"bot": 0}
    )
    page = compose(output.inputs(runs=[], comparison=None, examination=None, purity=None))
    commands = [
        block.command for each in page.sections for block in each.blocks if isinstance(block, Missing)
    ]
    assert len(commands) >= 9
    for command in commands:
        parsed(command)


def test_remedies_of_vocabulary_and_export_are_complete(tmp_path: Path) -> None:
    day = write_day(tmp_path / "a log's days", [])
    for ask in (
        lambda: resolve_vocabulary([day], None),
        lambda: Vocabulary.read(str(tmp_path)),
        lambda: read_export(str(tmp_path / "an export")),
    ):
        with pytest.raises(ScrollpastError) as caught:
            ask()
        parsed(command_in(caught.value))


@pytest.mark.slow
def test_the_next_command_of_an_import_mines_the_log_as_it_is_printed(tmp_path: Path) -> None:
    source, out = tmp_path / "the user's log", tmp_path / "an import"
    source.mkdir()
    (source / "behaviors.tsv").write_text("1\tU1\t11/15/2019 10:22:32 AM\t\tN1-0 N2-1\n")
    (source / "news.tsv").write_text(
        "N1\tnews\tworld\tTitle\t\t\t[]\t[]\nN2\tnews\tworld\tTitle\t\t\t[]\t[]\n"
    )
    done = run_job("import_public_log", "mind", source, out)
    assert done.exit_code == 0, done.stderr
    command = done.stdout.splitlines()[-1].strip()
    assert parsed(command)["impressions"] == str(out / "impressions")
    mined = subprocess.run(
        command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert mined.returncode == 0, mined.stderr
    assert f"published {out}/mined/ds=2019-11-15/manifest.json" in mined.stdout
