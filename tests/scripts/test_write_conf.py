"""scripts/env/write_conf.py: conf/base.yaml, the schema and the tables of options are up to date."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from tests.jobs.job_runs import ROOT
from tests.scripts.script_runs import SCRIPTS

CONF = ROOT / "conf"
SCRIPT = SCRIPTS / "env" / "write_conf.py"
SCHEMA = json.loads((CONF / "schema.json").read_text(encoding="utf-8"))


def test_what_is_written_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stale_file_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from scripts.env import write_conf

    (tmp_path / "README.md").write_text("# Configuration\n", encoding="utf-8")
    for name, path in {
        "ROOT": tmp_path,
        "BASE": tmp_path / "base.yaml",
        "SCHEMA": tmp_path / "schema.json",
        "README": tmp_path / "README.md",
    }.items():
        monkeypatch.setattr(write_conf, name, path)
    monkeypatch.setattr(sys, "argv", ["write_conf.py", "--check"])
    assert write_conf.main() == 1
    assert capsys.readouterr().err.splitlines() == [
        f"{name}: not what the options say; run scripts/env/write_conf.py"
        for name in ("base.yaml", "schema.json", "README.md")
    ]
    monkeypatch.setattr(sys, "argv", ["write_conf.py"])
    assert write_conf.main() == 0
    for name in ("base.yaml", "schema.json"):
        assert (tmp_path / name).read_bytes() == (CONF / name).read_bytes()


def test_a_value_is_written_so_that_yaml_reads_it_back() -> None:
    from scripts.env.write_conf import in_yaml

    for value in (1e-05, 24.0, "", "null", "1e5", [""], {"a": None, "b": [1, True]}, "recall@100", "ä"):
        assert yaml.safe_load(in_yaml(value)) == value


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.name)
def test_every_configuration_fits_the_schema_and_names_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    jsonschema.validate(yaml.safe_load(text), SCHEMA)


@pytest.mark.parametrize(
    "options",
    [
        {"mining": {"num_bucket": 3}},
        {"mining": {"num_buckets": "3"}},
        {"mining": {"negatives_per_user": 0}},
        {"gate": 5},
    ],
)
def test_a_mistake_does_not_fit_the_schema(options: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(options, SCHEMA)


def test_every_option_has_its_text() -> None:
    lacking = [
        f"{name}.{option}"
        for name, definition in SCHEMA["$defs"].items()
        for option, about in definition.get("properties", {}).items()
        if "description" not in about
        and "$ref" not in about
        and "$ref" not in str(about.get("default", about))
    ]
    assert lacking == []
