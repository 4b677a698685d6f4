"""The pointer to the model in use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scrollpast.errors import ScrollpastError
from scrollpast.training.publication.current import CurrentModel

MODEL = CurrentModel(
    checkpoint="s3://models/run/checkpoints/step=00000010",
    trained_on=("s3://negatives/ds=2026-11-19",),
    trained_until="2026-11-20T00:00:00Z",
    vocabulary={"uri": "s3://vocabulary/v=1", "version": "1"},
    evaluated_on=("s3://negatives/ds=2026-11-20",),
    metrics={"recall@100": {"value": 0.25, "difference": None}},
    replaced=None,
    published_at="2026-11-22T02:00:00+00:00",
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert CurrentModel.read(str(tmp_path / "models")) is None
    assert MODEL.write(str(tmp_path / "models")) == f"{tmp_path}/models/current.json"
    assert CurrentModel.read(str(tmp_path / "models")) == MODEL
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["current.json"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "expected JSON"),
        ("[]", "schema_version: expected 1, found None"),
        (json.dumps({"schema_version": 2}), "schema_version: expected 1, found 2"),
        (
            json.dumps({"schema_version": 1, "checkpoint": "here"}),
            "expected the fields checkpoint, evaluated_on",
        ),
    ],
)
def test_another_file_is_refused_by_name(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "current.json").write_text(content)
    with pytest.raises(ScrollpastError, match=r"current\.json") as caught:
        CurrentModel.read(str(tmp_path))
    assert expected in str(caught.value)
