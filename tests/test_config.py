"""The configuration: defaults, files over them, overrides over files, and what a mistake is told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scrollpast.config import (
    DEFAULT_KINDS,
    FIGURES,
    Bounds,
    Config,
    GateOptions,
    Kind,
    OwnArm,
    Thresholds,
    load_config,
)
from scrollpast.config.base_model import Section
from scrollpast.errors import UserError
from scrollpast.mining.rules.strategies import STRATEGIES

CONF = Path(__file__).parents[1] / "conf"
BASE = (CONF / "base.yaml").read_text(encoding="utf-8")
SECTIONS_OF_MINING = (
    "clock_skew_s, confidence, examined, exposure, guard, kinds, maturity_h, max_ad_share, "
    "max_impressions_per_user_day, negatives_per_user, num_buckets, require_engagements, score_column, seed, "
    "strategy, stratify_by, user_features, user_history, user_history_length, users_without_positive"
)


def write(folder: Path, text: str) -> Path:
    path = folder / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def message_of(*overrides: str, path: Path | None = None) -> str:
    with pytest.raises(UserError) as caught:
        load_config(path, overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


# conf/base.yaml


def options_and_sections(section: type[Section], prefix: str = "") -> Iterator[str]:
    """Dotted names of all options and sections; those of a section named by the user (a kind) are left out."""
    for name, field in section.model_fields.items():
        yield prefix + name
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from options_and_sections(kind, f"{prefix}{name}.")


def commented_keys(text: str) -> Iterator[tuple[str, bool]]:
    """Every key of a YAML text by its dotted name, and whether a comment stands right above it."""
    open_keys: list[tuple[int, str]] = []
    is_below_comment = False
    for line in text.splitlines():
        if key := re.match(r"( *)(\w+):", line):
            indent = len(key[1])
            open_keys = [(depth, name) for depth, name in open_keys if depth < indent]
            open_keys.append((indent, key[2]))
            yield ".".join(name for _, name in open_keys), is_below_comment
        is_below_comment = line.strip().startswith("#")


def test_base_yaml_loads_to_exactly_the_defaults() -> None:
    assert load_config(CONF / "base.yaml") == Config()
    # Not only equal once it is loaded: what it lists is all there is.
    assert yaml.safe_load(BASE) == Config().model_dump(mode="json")


def test_base_yaml_names_every_option_once_below_a_comment() -> None:
    options = list(options_and_sections(Config))
    named = [key for key in commented_keys(BASE) if key[0] in options]
    assert named == [(name, True) for name in options]


def test_base_yaml_explains_the_options_of_kinds_surfaces_and_arms() -> None:
    options = [*Kind.model_fields, *Thresholds.model_fields, *OwnArm.model_fields, *Bounds.model_fields]
    assert [name for name in options if not re.search(rf"^ +#   {name}: ", BASE, re.MULTILINE)] == []


def test_base_yaml_has_short_lines() -> None:
    assert [line for line in BASE.splitlines() if len(line) > 110] == []


def test_base_yaml_gives_ranges_and_allowed_names() -> None:
    assert "a bot.\n" in BASE  # a number with one bound only
    assert "besides. Range: 1 to 1024.\n" in BASE
    assert "of this kind. Range: above 0 to 1.\n" in BASE
    assert "in the log. Allowed: ms, s.\n" in BASE


def test_base_yaml_names_every_strategy() -> None:
    text = next(line for line in BASE.split("\n\n") if "\n  strategy: " in line)
    assert [name for name in STRATEGIES.names if name not in text] == []


@pytest.mark.parametrize("name", ["local.yaml", "cluster.yaml", "naive.yaml"])
def test_the_other_files_hold_only_what_differs(name: str) -> None:
    config, defaults = load_config(CONF / name).model_dump(), Config().model_dump()

    def compare(written: Any, options: Any, default: Any, dotted: str) -> None:
        if isinstance(written, dict) and default != {}:
            for option, value in written.items():
                compare(value, options[option], default[option], f"{dotted}.{option}")
        elif written is not None:
            assert options == written
            assert default != written, f"{dotted} is the default"

    compare(yaml.safe_load((CONF / name).read_text(encoding="utf-8")), config, defaults, name)


def test_every_default_passes_its_own_bounds() -> None:
    assert Config.model_validate(Config().model_dump()) == Config()


def test_no_option_can_be_changed_after_loading() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_config(None).mining.seed = 1  # type: ignore[misc]


# Files and overrides


def test_a_file_names_only_what_differs(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "mining:\n  num_buckets: 7\n"))
    assert config.mining.num_buckets == 7
    assert config.model_copy(update={"mining": Config().mining}) == Config()


@pytest.mark.parametrize(
    "text", ["", "# nothing yet\n", "mining:\n  # num_buckets: 7\n", "mining:\n  guard:\n"]
)
def test_an_empty_file_or_section_is_the_defaults(tmp_path: Path, text: str) -> None:
    assert load_config(write(tmp_path, text)) == Config()


def test_an_override_wins_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "mining:\n  num_buckets: 7\n  guard: {before_h: 1, after_h: 2}\n")
    config = load_config(path, ["mining.num_buckets=8", "mining.guard.after_h=3"])
    assert (config.mining.num_buckets, config.mining.guard.before_h, config.mining.guard.after_h) == (8, 1, 3)


@pytest.mark.parametrize(
    ("override", "option", "value"),
    [
        ("mining.max_ad_share=1e-2", "max_ad_share", 0.01),
        ("mining.user_features=[country, age]", "user_features", ["country", "age"]),
        ("mining.maturity_h=", "maturity_h", None),
        ("mining.stratify_by='2'", "stratify_by", "2"),
        (" mining.seed =0x10", "seed", 16),
        ("mining.require_engagements=no", "require_engagements", False),
    ],
)
def test_the_value_of_an_override_is_yaml(override: str, option: str, value: Any) -> None:
    assert getattr(load_config(None, [override]).mining, option) == value


def test_a_setting_of_spark_keeps_the_dots_of_its_name(tmp_path: Path) -> None:
    path = write(tmp_path, "spark:\n  conf: {spark.driver.memory: 8g, spark.speculation: true}\n")
    config = load_config(path, ["spark.conf.spark.sql.shuffle.partitions=4", "input.ads.options.header=true"])
    assert config.spark.conf == {
        "spark.driver.memory": "8g",
        "spark.speculation": "true",
        "spark.sql.shuffle.partitions": "4",
    }
    assert config.input.ads.options == {"header": "true"}


# Kinds


def test_a_named_kind_changes_what_it_says_of_the_default(tmp_path: Path) -> None:
    path = write(tmp_path, "mining:\n  kinds:\n    click: {weight: 0.1}\n    hide: null\n")
    kinds = load_config(path, ["mining.kinds.like={code: 7, role: positive, attribution_h: 1}"]).mining.kinds
    assert kinds["click"] == DEFAULT_KINDS["click"].model_copy(update={"weight": 0.1})
    assert "hide" not in kinds
    assert kinds["like"].code == 7
    assert kinds["save"] == DEFAULT_KINDS["save"]


def test_one_number_of_one_kind_can_be_overridden() -> None:
    assert load_config(None, ["mining.kinds.click.attribution_h=2"]).mining.kinds["click"].attribution_h == 2


@pytest.mark.parametrize(
    ("override", "fragment"),
    [
        (
            "mining.kinds.save.code=1",
            "found 1 for click and save; choose another code, or remove a kind that the log does not have",
        ),
        ("mining.kinds.like.weight=1", "mining.kinds.like.code (--set): expected a value: it has no default"),
        ("mining.kinds.click.role=neutral", "expected 'positive' or 'explicit_negative', found 'neutral'"),
        ("mining.kinds.click.attribution_h=0", "expected a value in (0, 2160], found 0"),
        (
            "mining.kinds={click: null, long_click: null, save: null, conversion: null}",
            "role 'positive', found none",
        ),
        ("mining.kinds=[click]", "mining.kinds (--set): expected a section of options, found ['click']"),
    ],
)
def test_kinds_that_cannot_be(override: str, fragment: str) -> None:
    assert fragment in message_of(override)


# Bounds of the gate


def test_a_named_figure_changes_what_it_says_of_the_default_bounds() -> None:
    overrides = ["engagement_rate.high=0.2", "bot_share=null", "hardness.low=0.3"]
    bounds = load_config(None, [f"gate.bounds.{override}" for override in overrides]).gate.bounds
    assert bounds["engagement_rate"] == Bounds(low=0.00001, high=0.2)
    assert bounds["hardness"] == Bounds(low=0.3)
    assert "bot_share" not in bounds
    assert bounds["invalid_share"] == GateOptions().bounds["invalid_share"]


def test_base_yaml_names_every_figure_of_the_gate() -> None:
    assert [name for name in FIGURES if name not in BASE] == []


# Mistakes


def test_an_unknown_option_names_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, "mining:\n  negative_per_user: 3\n")
    assert message_of(path=path) == (
        f"mining.negative_per_user ({path}): expected one of {SECTIONS_OF_MINING}, "
        "found unknown option 'negative_per_user'; did you mean negatives_per_user?"
    )


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("minig.seed=1", "mining"),
        ("mining.guard.befor_h=1", "before_h"),
        ("mining.kinds.click.wieght=1", "weight"),
        ("mining.examined.surfaces.feed.min_dwell=1", "min_dwell_ms"),
        ("input.impressions.pth=x", "path"),
    ],
)
def test_an_unknown_option_names_the_nearest_wherever_it_stands(override: str, nearest: str) -> None:
    assert message_of(override).endswith(f"; did you mean {nearest}?")


def test_a_value_out_of_bounds_is_told_the_bounds(tmp_path: Path) -> None:
    path = write(tmp_path, "mining:\n  negatives_per_user: 0\n")
    assert message_of(path=path) == (
        f"mining.negatives_per_user ({path}): expected a value in [1, 1024], found 0; "
        "see conf/base.yaml for every option"
    )


@pytest.mark.parametrize(
    ("override", "fragment"),
    [
        ("mining.seed=-1", "expected a value in [0, 9223372036854775808), found -1"),
        ("mining.max_ad_share=0", "expected a value in (0, 1], found 0"),
        ("mining.examined.surfaces.feed.min_dwell_ms=-1", "expected a value in [0, inf), found -1"),
        ("output.orphan_grace_h=.inf", "expected a finite number, found inf"),
        ("mining.max_ad_share=.nan", "found nan"),
        ("spark.num_partitions=0", "expected a value in [1, 1000000], found 0"),
        ("mining.num_buckets=many", "expected a whole number, found 'many'"),
        ("mining.num_buckets=1.5", "expected a whole number, found 1.5"),
        ("mining.num_buckets=true", "expected something other than true or false, found True"),
        ("mining.num_buckets=", "expected a whole number, found None"),
        ("mining.num_buckets.of=3", "expected a whole number, found a section of options"),
        ("mining.require_engagements=maybe", "expected true or false, found 'maybe'"),
        ("mining.user_features=country", "expected a list, such as [country], found 'country'"),
        ("mining.user_features=[1]", "mining.user_features.0 (--set): expected a text, found 1"),
        ("mining=5", "mining (--set): expected a section of options, found 5"),
        ("spark.conf={spark.jars: [a]}", "expected a text, found ['a']"),
    ],
)
def test_a_value_of_another_kind_is_told_what_fits(override: str, fragment: str) -> None:
    assert fragment in message_of(override)


@pytest.mark.parametrize(
    ("overrides", "fragment"),
    [
        (
            ["mining.strategy=stratified"],
            "(a column of ads) for the strategy 'stratified', found null",
        ),
        (
            ["mining.examined.min_dwell_ms=5000"],
            "min_dwell_ms <= max_dwell_ms in examined, found 5000 and 4000",
        ),
        (["mining.examined.surfaces.feed.min_dwell_ms=5000"], "<= max_dwell_ms in feed, found 5000 and 4000"),
        (["mining.confidence.full_from_ms=5000"], "full_from_ms <= full_to_ms, found 5000 and 2500"),
        (["input.ads={path: a, table: b}"], "name a path or a table, found both"),
        (["gate.bounds.bot_share={low: 0.5, high: 0.1}"], "low <= high, found 0.5 and 0.1"),
        (["gate.bounds.click_rate.low=0.1"], "seen_before_share), found click_rate"),
        (["gate.least_deviations.hardnes=0.1"], "seen_before_share), found hardnes"),
        (
            ["neighbours.first_rank=501"],
            "neighbours (--set): expected it to have first_rank <= last_rank, found 501",
        ),
    ],
)
def test_options_that_contradict_each_other(overrides: list[str], fragment: str) -> None:
    assert fragment in message_of(*overrides)


def test_a_mistake_names_the_file_or_the_command_line_it_came_from(tmp_path: Path) -> None:
    path = write(tmp_path, "mining:\n  num_buckets: 0\n")
    assert message_of("mining.seed=1", path=path).startswith(f"mining.num_buckets ({path}): ")
    assert message_of("mining.num_buckets=0", path=path).startswith("mining.num_buckets (--set): ")


def test_malformed_yaml_names_the_line(tmp_path: Path) -> None:
    path = write(tmp_path, "mining:\n  seed: [1\nspark: {}\n")
    text = message_of(path=path)
    assert text == (
        f"{path}: expected YAML, found expected ',' or ']', but got ':' in line 3, column 6; mend the file there"
    )


def test_a_file_of_other_bytes_is_no_yaml(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_bytes(b"\xff\xfe\x00m")
    assert message_of(path=path).startswith(f"{path}: expected YAML, found ")


def test_a_list_is_no_configuration(tmp_path: Path) -> None:
    path = write(tmp_path, "- mining\n")
    assert message_of(path=path) == (
        f"{path}: expected sections such as 'mining:', found a list; start from conf/local.yaml"
    )


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "absent.yaml"
    assert message_of(path=path) == (
        f"{path}: expected a readable YAML file, found No such file or directory; "
        "pass --config with the path of an existing file, such as conf/local.yaml"
    )


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert "expected a readable YAML file, found Is a directory" in message_of(path=tmp_path)


@pytest.mark.parametrize("override", ["mining.seed", "=3", "", "mining.seed:3"])
def test_an_override_without_an_equals_sign_shows_the_form(override: str) -> None:
    assert message_of(override) == (
        f"--set {override}: expected section.option=value, found {override!r}; "
        "write for example --set mining.negatives_per_user=32"
    )


def test_an_override_that_is_no_yaml() -> None:
    text = message_of("mining.user_features=[a")
    assert text.startswith("--set mining.user_features=[a: expected a value in YAML, found ")
    assert "\n" not in text


@pytest.mark.parametrize(
    "value", ["9" * 5_000, "2026-13-01", "[" * 5_000], ids=["digits", "month 13", "nested"]
)
def test_yaml_that_python_cannot_hold_is_one_clear_error(value: str, tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text(f"mining:\n  seed: {value}\n")
    with pytest.raises(UserError, match=r"odd\.yaml: expected YAML, found "):
        load_config(str(tmp_path / "odd.yaml"))
    with pytest.raises(UserError, match=r"--set mining\.seed=.*expected a value in YAML"):
        load_config(None, [f"mining.seed={value}"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mining.unanchored=keep", "users_without_positive"),
        ("mining.examined.lingering_rules_out=impression", "long_dwell_excludes"),
        ("watching.path=metrics", "metrics"),
        ("training.optimisers.warmup_steps=3", "optimizer"),
        ("training.data.is_shuffled=false", "shuffle"),
        ("training.model.is_compiled=true", "compile"),
        ("training.checkpoints.is_asynchronous=false", "asynchronous"),
        ("training.negatives.hard.is_known_masked=false", "mask_known_positives"),
        ("training.negatives.hard.is_drawn_by_weight=false", "sample_by_weight"),
    ],
)
def test_an_option_by_its_old_name_is_told_its_new_one(old: str, new: str) -> None:
    assert message_of(old).endswith(f"; it is called {new} now")
