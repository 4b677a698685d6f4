"""The documents name what there is: files, commands, outcomes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from scrollpast.outcomes import Outcome
from tests.jobs.job_runs import ROOT, parser_of

DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(path for name in ("jobs", "conf", "lib", "scripts") for path in (ROOT / name).rglob("*.md")),
    ]
)


def names(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


def commands(path: Path) -> list[list[str]]:
    """Words of every command in the shell blocks of a document, without comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


COMMANDS = [
    pytest.param(words, id=f"{path.relative_to(ROOT)}: {' '.join(words[:3])}")
    for path in DOCUMENTS
    for words in commands(path)
]


@pytest.mark.parametrize("path", DOCUMENTS, ids=names(DOCUMENTS))
def test_every_link_leads_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert "://" in target or (path.parent / target).exists(), target


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_can_be_given(words: list[str]) -> None:
    programs = [word for word in words if re.fullmatch(r"(jobs|scripts)/[\w/]+\.(py|sh)", word)]
    assert programs or words[0] in ("export", "airflow"), words
    for program in programs:
        assert (ROOT / program).is_file(), program
        if program.startswith("jobs/"):
            arguments = words[words.index(program) + 1 :]
            parser_of(Path(program).stem).parse_args(arguments)
    if "scripts/submit.sh" in programs:
        job = next(word for word in words if (ROOT / "jobs" / f"{word}.py").exists())
        parser_of(job).parse_args(words[words.index(job) + 1 :])


def test_the_ledger_of_the_readme_has_all_outcomes_in_their_order() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^(\w+) +[\d,]+ +[\d.]+%  (.+)$", text, re.MULTILINE)
    assert rows[:-1] == [(outcome.label, outcome.meaning) for outcome in Outcome]
    assert rows[-1][0] == "total"


@pytest.mark.parametrize("folder", ["jobs", "scripts"])
def test_every_program_has_its_line(folder: str) -> None:
    text = (ROOT / folder / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]+\.(?:py|sh))`", text))
    programs = {
        path.relative_to(ROOT / folder).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.suffix == ".sh" or (path.suffix == ".py" and _is_program(path))
    }
    assert programs <= named
    assert all((ROOT / folder / name).exists() or (ROOT / name).exists() for name in named)


def _is_program(path: Path) -> bool:
    return "__main__" in path.read_text(encoding="utf-8") or path.parent.name == "dags"
