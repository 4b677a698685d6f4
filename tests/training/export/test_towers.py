"""Equality of exported and trained towers: the same embeddings, without TorchRec, and the same ranking."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from scrollpast.ann_index.index import AdIndex
from scrollpast.errors import ScrollpastError, UserError
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.engine.checkpoint import Checkpoint
from scrollpast.training.export.towers import write_export
from scrollpast.training.model.embedding import embed_ads, read_towers
from scrollpast.training.serving.user_tower import UserTower
from tests.object_store import object_store
from tests.training.data.days import NUM_ADS, vocabulary
from tests.training.export.exports import (
    CPU,
    assert_same_users,
    embedded,
    export,
    queries,
    trained,
)

pytestmark = pytest.mark.filterwarnings("ignore")
ROOT = Path(__file__).parents[2]

EXAMPLE = """\
import torch

from scrollpast.ann_index.index import AdIndex
from scrollpast.training.serving.user_tower import UserTower

tower = UserTower.load("export")
index = AdIndex.load("export/ads.faiss")

# Two users: the ads that they engaged with, oldest first, and their features, as the log has them.
users = tower(
    user_ids=torch.tensor([17, 4]),
    history_ad_ids=[[3, 31, 8], []],
    features={"age": torch.tensor([30, 20])},
)
rows, scores = index.search(users.numpy(), 20)
ads = tower.ad_ids(rows)
for user_ads, user_scores in zip(ads, scores):
    print(*(f"{ad} {score:.3f}" for ad, score in zip(user_ads, user_scores)))
"""


# Embeddings


def test_users_are_embedded_as_by_the_towers_of_the_checkpoint(
    checkpoint: Checkpoint, tower: UserTower
) -> None:
    assert_same_users(checkpoint, tower)
    found = embedded(tower, queries())
    assert found.dtype == torch.float32 and not found.requires_grad
    assert len(np.unique(found.numpy().round(4), axis=0)) == 50, "users differ"


@pytest.mark.parametrize("layers", ["[]", "[8,6]"])
def test_any_number_of_layers_is_exported(layers: str, tmp_path: Path) -> None:
    checkpoint = trained(tmp_path / "trained", f"model.user_layers={layers}", "max_steps=3")
    export(checkpoint, str(tmp_path / "export"))
    assert_same_users(checkpoint, UserTower.load(str(tmp_path / "export")))


def test_ads_are_embedded_as_by_the_towers_of_the_checkpoint(checkpoint: Checkpoint, exported: Path) -> None:
    ads = pq.read_table(exported / "ads.parquet")
    assert ads.schema.field("embedding").type == pa.list_(pa.float32(), 4)
    assert [str(ads.schema.field(name).type) for name in ("row", "ad_id", "raw_id")] == [
        "int64",
        "int64",
        "string",
    ]
    assert ads["row"].to_pylist() == list(range(1, NUM_ADS + 1))
    assert ads["ad_id"].to_pylist() == vocabulary().ad_ids[1:].tolist()
    expected = embed_ads(read_towers(checkpoint, vocabulary()), vocabulary(), CPU)[1:]
    np.testing.assert_allclose(np.array(ads["embedding"].to_pylist()), expected, atol=1e-6)


def test_the_flat_index_ranks_as_the_scores_do(exported: Path, tower: UserTower) -> None:
    ads = pq.read_table(exported / "ads.parquet")
    users = embedded(tower, queries()).numpy()
    scores = users @ np.array(ads["embedding"].to_pylist(), np.float32).T
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :20]
    rows, found = AdIndex.load(str(exported / "ads.faiss")).search(users, 20)
    np.testing.assert_equal(rows, ads["row"].to_numpy()[expected])
    np.testing.assert_allclose(found, np.take_along_axis(scores, expected, axis=1), atol=1e-6)
    np.testing.assert_equal(tower.ad_ids(rows), ads["ad_id"].to_numpy()[expected])


def test_ads_with_ids_of_text_keep_them(tmp_path: Path) -> None:
    known = vocabulary()
    names = pa.array([None, *(f"ad {number}" for number in range(1, NUM_ADS))])
    named = Vocabulary(
        known.ad_ids,
        known.counts,
        known.feature_codes,
        known.values,
        num_user_rows=known.num_user_rows,
        raw_ids=names,
    )
    export(trained(tmp_path / "trained", "max_steps=1"), str(tmp_path / "export"), named)
    assert pq.read_table(tmp_path / "export" / "ads.parquet")["raw_id"].to_pylist() == names.to_pylist()


# Files of the folder


def test_the_export_says_what_it_is(checkpoint: Checkpoint, exported: Path, tower: UserTower) -> None:
    about = json.loads((exported / "export.json").read_text())
    assert about["checkpoint"] == checkpoint.uri and about["step"] == checkpoint.step
    assert about["vocabulary_version"] == vocabulary().version
    assert (about["num_ads"], about["num_user_rows"], about["output_dim"]) == (NUM_ADS, 100, 4)
    assert about["index"] == {"kind": "flat"}
    assert tower.vocabulary_version == vocabulary().version
    names = sorted(path.name for path in exported.iterdir())
    assert names == [
        "ads.faiss",
        "ads.parquet",
        "export.json",
        "user_tower.json",
        "user_tower.safetensors",
    ]


def test_the_files_have_the_rights_that_the_umask_leaves(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "any").touch()
    rights = (tmp_path / "any").stat().st_mode
    assert {
        path.name: path.stat().st_mode for path in exported.iterdir() if path.stat().st_mode != rights
    } == {}


def test_the_temperature_is_the_configured_one_or_the_learned_one(tower: UserTower, tmp_path: Path) -> None:
    assert tower.temperature == pytest.approx(0.07)
    options = ("model.is_temperature_learned=true", "optimizer.dense_learning_rate=0.1")
    learned = trained(tmp_path / "trained", *options, "optimizer.warmup_steps=0", "max_steps=3")
    state: dict[str, Any] = {"model": {"contrast.log_scale": torch.zeros(())}}
    torch.distributed.checkpoint.load(state, checkpoint_id=learned.uri, no_dist=True)
    export(learned, str(tmp_path / "export"))
    found = UserTower.load(str(tmp_path / "export")).temperature
    assert found == pytest.approx(float((-state["model"]["contrast.log_scale"]).exp()))
    assert abs(found - 0.07) > 0.001


def test_serving_imports_neither_torchrec_nor_fbgemm(exported: Path) -> None:
    program = f"""
import sys
sys.modules.update(dict.fromkeys(["torchrec", "fbgemm_gpu", "tensordict", "pydantic", "faiss"]))
from scrollpast.training.serving.user_tower import UserTower
print(tuple(UserTower.load({str(exported)!r})([1, 2], [[3], []], {{"age": [20, 30]}}).shape))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT / "lib"), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(2, 4)\n"


def test_the_example_runs_word_for_word(
    exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(exported.parent)
    exec(compile(EXAMPLE, "example", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(len(line.split()) == 2 * 20 for line in lines)
    assert len(EXAMPLE.splitlines()) <= 20


# Publication


class Unsavable:
    def save(self, path: str) -> None:
        raise OSError("no space left")


def test_an_export_that_was_not_finished_is_none(checkpoint: Checkpoint, tmp_path: Path) -> None:
    export(checkpoint, str(tmp_path))
    with pytest.raises(OSError, match="no space"):
        write_export(checkpoint, vocabulary(), str(tmp_path), lambda _: Unsavable(), index_kind="flat")
    with pytest.raises(UserError, match=r"export\.json: expected the file that publishes an export"):
        UserTower.load(str(tmp_path))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")], "nothing half written"
    export(checkpoint, str(tmp_path))
    UserTower.load(str(tmp_path))


def test_an_export_stays_when_what_was_to_replace_it_cannot_be_read(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    export(checkpoint, str(tmp_path / "export"))
    shutil.copytree(checkpoint.uri, tmp_path / "damaged")
    next((tmp_path / "damaged").glob("*.distcp")).write_bytes(b"")
    with pytest.raises(ScrollpastError, match="expected a checkpoint of this model"):
        export(Checkpoint.read(str(tmp_path / "damaged")), str(tmp_path / "export"))
    assert_same_users(checkpoint, UserTower.load(str(tmp_path / "export")))


@pytest.mark.parametrize("name", ["user_tower.safetensors", "user_tower.json", "ads.parquet"])
@pytest.mark.parametrize("is_missing", [False, True])
def test_a_file_that_is_damaged_is_told(
    checkpoint: Checkpoint, name: str, is_missing: bool, tmp_path: Path
) -> None:
    export(checkpoint, str(tmp_path))
    path = tmp_path / name
    if is_missing:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ScrollpastError, match="export the checkpoint again"):
        UserTower.load(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tables": {"user": 99, "user_age": 3, "history": 41}}, "size mismatch for tables.user"),
        ({"tables": {"user": 100, "user_age": 3, "history": 40}}, "other rows than 1 to 39"),
        ({"vocabulary_version": "0123456789abcdef"}, "of vocabulary 0123456789abcdef"),
    ],
)
def test_files_that_do_not_belong_together_are_told(
    checkpoint: Checkpoint, changes: Mapping[str, Any], message: str, tmp_path: Path
) -> None:
    export(checkpoint, str(tmp_path))
    path = tmp_path / "user_tower.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ScrollpastError, match=message):
        UserTower.load(str(tmp_path))


@pytest.fixture
def bucket() -> Iterator[str]:
    with object_store() as uri:
        yield uri


def test_an_export_may_lie_in_an_object_store(checkpoint: Checkpoint, bucket: str) -> None:
    export(checkpoint, f"{bucket}/export")
    assert_same_users(checkpoint, UserTower.load(f"{bucket}/export"))
