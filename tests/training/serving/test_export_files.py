"""Description of an export, and its ad embeddings, read without PyTorch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scripts.bench.synthetic_days import Plan, plant_towers

from scrollpast.errors import ScrollpastError, UserError
from scrollpast.training.serving.export_files import read_ad_embeddings, read_export
from tests.object_store import object_store

ROOT = Path(__file__).parents[3]
PLAN = Plan(num_ads=70, num_users=10, dim=6, ads_per_cluster=20)


def test_an_export_says_what_it_needs_and_holds(tmp_path: Path) -> None:
    plant_towers(PLAN, tmp_path)
    export = read_export(str(tmp_path))
    assert (export.uri, export.num_ads, export.user_features) == (str(tmp_path), 70, ["age"])
    fingerprint = export.fingerprint
    about = (tmp_path / "export.json").read_text()
    (tmp_path / "export.json").write_text(about.replace('"step": 0', '"step": 1'))
    assert read_export(str(tmp_path)).fingerprint != fingerprint


def test_embeddings_are_read_by_row(tmp_path: Path) -> None:
    ad_RD = plant_towers(PLAN, tmp_path)
    found = read_ad_embeddings(str(tmp_path))
    assert found.dtype == np.float32
    assert (found[0] == 0).all()
    assert found[1:].tolist() == ad_RD[1:].tolist()


def test_embeddings_may_lie_in_an_object_store(tmp_path: Path) -> None:
    from scrollpast.shards import filesystem as files

    ad_RD = plant_towers(PLAN, tmp_path / "export")
    with object_store() as bucket:
        for path in (tmp_path / "export").iterdir():
            filesystem, target = files.resolve(f"{bucket}/export/{path.name}")
            files.write_atomically(filesystem, target, path.read_bytes())
        assert read_export(f"{bucket}/export").num_ads == 70
        assert read_ad_embeddings(f"{bucket}/export")[1:].tolist() == ad_RD[1:].tolist()


def test_a_folder_without_the_file_that_publishes_is_no_export(tmp_path: Path) -> None:
    plant_towers(PLAN, tmp_path)
    (tmp_path / "export.json").unlink()
    with pytest.raises(UserError, match="expected the file that publishes an export, found none"):
        read_export(str(tmp_path))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema_version": 2}'])
def test_what_an_export_says_may_be_damaged(content: str, tmp_path: Path) -> None:
    plant_towers(PLAN, tmp_path)
    (tmp_path / "export.json").write_text(content)
    with pytest.raises(ScrollpastError, match="expected an export of schema_version 1, found "):
        read_export(str(tmp_path))


def test_embeddings_may_be_damaged(tmp_path: Path) -> None:
    plant_towers(PLAN, tmp_path)
    path = tmp_path / "ads.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ScrollpastError, match="export the checkpoint again"):
        read_ad_embeddings(str(tmp_path))


def test_no_pytorch_is_needed() -> None:
    program = "import sys, scrollpast.training.serving.export_files; print('torch' in sys.modules)"
    environment = {"PYTHONPATH": str(ROOT / "lib")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.stdout == "False\n", done.stderr
