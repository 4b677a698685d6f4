"""Equality of exported and trained towers: the same embeddings, without TorchRec, and the same ranking."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
from scrollpast.training.engine.checkpoint import Checkpoint, published_checkpoints
from scrollpast.training.engine.distributed import process_group
from scrollpast.training.export.towers import write_export
from scrollpast.training.model.embedding import embed_ads, embed_users, read_towers
from scrollpast.training.serving.user_tower import UserTower
from tests.object_store import object_store
from tests.training.data.days import NUM_ADS, vocabulary
from tests.training.runs import small_day, small_run

pytestmark = pytest.mark.filterwarnings("ignore")
ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")

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


def flat(ad_RD: Any) -> AdIndex:
    return AdIndex.build(ad_RD, "flat")


def trained(out: Path, *overrides: str) -> Checkpoint:
    """The last checkpoint of a short run; rates are high, so that the weights differ from the first ones."""
    out.mkdir()
    with process_group("cpu"):
        small_run(small_day(out), out / "run", "optimizer.table_learning_rate=0.5", *overrides).train()
    return published_checkpoints(str(out / "run"))[-1]


def export(checkpoint: Checkpoint, out: str, known: Vocabulary | None = None) -> Mapping[str, Any]:
    return write_export(checkpoint, known or vocabulary(), out, flat, index_kind="flat")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return trained(tmp_path_factory.mktemp("trained") / "once", "epochs=2")


@pytest.fixture(scope="module")
def exported(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "export"
    export(checkpoint, str(folder))
    return folder


@pytest.fixture(scope="module")
def tower(exported: Path) -> UserTower:
    return UserTower.load(str(exported))


@dataclass(frozen=True)
class Queries:
    """Users as the log has them, and as the trainer's towers want them."""

    user_ids: Any
    history: list[list[int]]
    ages: Any

    @property
    def user_row(self) -> Any:
        return vocabulary().user_rows(self.user_ids)

    @property
    def user_features(self) -> dict[str, Any]:
        return {"age": vocabulary().user_codes("age", self.ages)}

    @property
    def lists(self) -> dict[str, tuple[Any, Any]]:
        return {"history": _rows(self.history), "passed": _rows(self.passed)}

    @property
    def passed(self) -> list[list[int]]:
        """Other ads, fewer of them."""
        return [[ad + 1 for ad in ads[::2]] for ads in self.history]

    @property
    def history_offsets(self) -> Any:
        return np.cumsum([0, *map(len, self.history)])


def _rows(lists: list[list[int]]) -> tuple[Any, Any]:
    ads = np.array([ad for ads in lists for ad in ads], np.int64)
    return vocabulary().ad_rows(ads), np.cumsum([0, *map(len, lists)])


def queries(count: int = 50) -> Queries:
    """Histories of 0 to 9 ads; some ads, some ages and many users were never seen in training."""
    random = np.random.Generator(np.random.Philox(3))
    return Queries(
        random.integers(0, 2**62, count),
        [random.integers(0, NUM_ADS + 5, random.integers(0, 10)).tolist() for _ in range(count)],
        random.choice([20, 30, 99, -1], count),
    )


def embedded(tower: UserTower, asked: Queries) -> torch.Tensor:
    passed = asked.passed if tower.max_passed else None
    found: torch.Tensor = tower(asked.user_ids, asked.history, {"age": asked.ages}, passed)
    return found


def assert_same_users(checkpoint: Checkpoint, tower: UserTower) -> None:
    asked = queries()
    expected = embed_users(read_towers(checkpoint, vocabulary()), asked, vocabulary(), CPU)
    torch.testing.assert_close(embedded(tower, asked), expected, rtol=0, atol=1e-6)


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


# Calls of the tower


def test_a_history_may_be_ids_and_offsets(tower: UserTower) -> None:
    asked = queries()
    ads = torch.tensor([ad for history in asked.history for ad in history])
    found = tower(
        torch.from_numpy(asked.user_ids),
        (ads, torch.from_numpy(asked.history_offsets)),
        {"age": torch.from_numpy(asked.ages)},
    )
    assert torch.equal(found, embedded(tower, asked))


def test_only_the_latest_of_a_history_count(tmp_path: Path) -> None:
    checkpoint = trained(tmp_path / "trained", "max_steps=2", "data.max_history=3")
    export(checkpoint, str(tmp_path / "export"))
    tower = UserTower.load(str(tmp_path / "export"))
    users, ages = [1, 2], {"age": [20, 20]}
    long, short = tower(users, [[9, 8, 1, 2, 3], [5]], ages), tower(users, [[1, 2, 3], [5]], ages)
    assert torch.equal(long, short)
    assert not torch.equal(tower(users, [[2, 3], [5]], ages)[0], short[0])


def test_a_tower_that_reads_passed_ads_gives_the_same_embeddings_without_torchrec(tmp_path: Path) -> None:
    checkpoint = trained(tmp_path / "trained", "max_steps=2", "data.max_passed=5", "data.merge_repeats=true")
    export(checkpoint, str(tmp_path / "export"))
    tower = UserTower.load(str(tmp_path / "export"))
    assert tower.max_passed == 5
    assert_same_users(checkpoint, tower)
    users, ages = [1], {"age": [20]}
    assert not torch.equal(tower(users, [[1]], ages, [[2, 3]]), tower(users, [[1]], ages, [[4]]))
    long = tower(users, [[1]], ages, [[9, 1, 2, 3, 4, 5]])
    assert torch.equal(long, tower(users, [[1]], ages, [[1, 2, 3, 4, 5]]))
    with pytest.raises(ValueError, match="passed_ad_ids must be given for this tower"):
        tower(users, [[1]], ages)


def test_a_tower_that_reads_the_features_of_its_lists_gives_the_same_embeddings(tmp_path: Path) -> None:
    options = [
        "data.max_passed=5",
        "model.read_list_features=true",
        "model.min_ad_positives=3",
        "model.residual=true",
        "model.output_dim=8",
        "model.embedding_dim=8",
    ]
    checkpoint = trained(tmp_path / "trained", "max_steps=2", *options)
    export(checkpoint, str(tmp_path / "export"))
    tower = UserTower.load(str(tmp_path / "export"))
    assert {"history_advertiser", "passed_advertiser"} < set(tower.tables)
    assert_same_users(checkpoint, tower)


def test_no_users_are_no_embeddings(tower: UserTower) -> None:
    assert tower([], [], {"age": []}).shape == (0, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], [[]], {"age": [1, 2]}), "history_ad_ids must be of 2 users, got 1"),
        (([1], [[]], {"age": [1, 2]}), "must be of 1 users, got 2"),
        (([1], [[]], {"age": [1]}, [[]]), "passed_ad_ids must be left out for this tower"),
        (([1], [[]], None), r"features must be \['age'\], got \[\]"),
        (([1], [[]], {"age": [1], "sex": [1]}), "got .*sex"),
        (([1.5], [[]], {"age": [1]}), "user_ids must be a list of integers"),
        ((["x"], [[]], {"age": [1]}), "user_ids must be a list of integers"),
        (([1], ([4, 5], [0, 1]), {"age": [1]}), "must rise from 0 to 2"),
        (([1, 2], ([4, 5], [0, 3, 2]), {"age": [1, 1]}), "must rise from 0 to 2"),
    ],
)
def test_a_call_that_does_not_fit_is_told_why(tower: UserTower, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tower(*arguments)


def test_a_row_that_an_index_left_empty_is_no_ad(tower: UserTower) -> None:
    first = int(vocabulary().ad_ids[1])
    assert tower.ad_ids(np.array([[1, -1], [-1, -1]])).tolist() == [[first, -1], [-1, -1]]


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
