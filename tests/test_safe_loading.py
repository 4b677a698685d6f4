"""Nothing that is read can run code: no pickle, no unsafe YAML, and weights as weights only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for folder in ("lib", "jobs", "scripts") for path in (ROOT / folder).rglob("*.py"))
PICKLES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def _unsafe(source: str) -> Iterator[str]:
    """Imports and calls of a source that could run code from the files that it reads."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in PICKLES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PICKLES:
            yield str(node.module)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            options = {option.arg: ast.unparse(option.value) for option in node.keywords}
            if called in {"eval", "exec"}:
                yield called
            if options.get("allow_pickle") == "True":
                yield f"{called}(allow_pickle=True)"
            if called in {"yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"}:
                yield f"{called}, which is not safe_load"
            if called == "torch.load" and options.get("weights_only") != "True":
                yield "torch.load without weights_only"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_read_can_run_code(path: Path) -> None:
    assert list(_unsafe(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from cloudpickle import loads",
        "np.load(x, allow_pickle=True)",
        "yaml.load(x)",
        "torch.load(x)",
        "eval(x)",
    ],
)
def test_the_check_can_fail(source: str) -> None:
    assert list(_unsafe(source))


def test_a_configuration_cannot_build_objects(tmp_path: Path) -> None:
    from scrollpast.config import load_config
    from scrollpast.errors import UserError

    (tmp_path / "evil.yaml").write_text(
        f"mining: !!python/object/apply:pathlib.Path.touch [{tmp_path}/ran]\n"
    )
    with pytest.raises(UserError):
        load_config(str(tmp_path / "evil.yaml"))
    assert not (tmp_path / "ran").exists()
