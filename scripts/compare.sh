#!/usr/bin/env bash
# Comparison of negatives: every arm of jobs/compare_negatives.py on the output of scripts/demo.sh in DIR (demo):
#
#   scripts/compare.sh [DIR] [an option of jobs/compare_negatives.py, such as --seeds 0 1 2]
#
# The demo's days are mined again by conf/naive.yaml, for the naive arm and for the held-out day of all arms.
# Towers trained on the demo's negatives give the neighbours. The table is written to DIR/comparison and to the
# report. A call that was stopped resumes.
source "$(dirname "${BASH_SOURCE[0]}")/env/environment.sh"

case ${1-} in
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit ;;
esac
out=demo
if (($#)) && [[ $1 != -* ]]; then
    out=$1 && shift
    [[ $out == /* || $PWD == "$root" ]] || out=$PWD/$out
fi
cd "$root"
[[ -d $out/run/checkpoints ]] || fail "$out: expected what scripts/demo.sh --out $out leaves, found no run/checkpoints"

environment .venv mining training baselines report
spark_environment .venv
python=.venv/bin/python

# The days that the demo mined, each with its --as-of: the held-out day is the last day, the training days are
# those before.
read -r days date num_days as_of held_out_date held_out_as_of history features < <(
    $python - "$out"/negatives/ds=*/manifest.json <<'PYTHON'
import json
import sys
from datetime import datetime
from pathlib import Path

before, held_out = (json.loads(Path(path).read_text()) for path in sorted(sys.argv[1:])[-2:])
start, end = (datetime.fromisoformat(before[name]) for name in ("window_start", "window_end"))
day = Path(sorted(sys.argv[1:])[-2]).parent
print(day, before["ds"], (end - start).days, before["as_of"], held_out["ds"], held_out["as_of"],
      before["config"]["mining"].get("user_history") or "-",
      json.dumps(before["config"]["mining"].get("user_features") or [], separators=(",", ":")))
PYTHON
) || fail "$out/negatives: expected the manifests of two days"

users=()
[[ $history == - ]] || users=(--users "$out/logs/users" --set "mining.user_history=$history")
[[ $features == '[]' ]] || users+=(--set "mining.user_features=$features")
mine() {
    run_briefly 3 $python jobs/mine_negatives.py --config conf/naive.yaml --set mining.num_buckets=16 \
        --impressions "$out/logs/impressions" --engagements "$out/logs/engagements" --ads "$out/logs/ads" \
        "${users[@]}" --out "$out/naive" "$@"
}
mine --date "$date" --days "$num_days" --as-of "$as_of"
mine --date "$held_out_date" --as-of "$held_out_as_of"
[[ -e $out/export/export.json ]] || run $python jobs/export_towers.py "$out/run" --out "$out/export"
run $python jobs/mine_neighbours.py "$days" --towers "$out/export" --out "$out/neighbours" --config conf/local.yaml
run $python jobs/compare_negatives.py --config conf/local.yaml --days "filtered=$days" \
    --days "naive=$out/naive/ds=$date" --days "neighbours=$out/neighbours/ds=$date" \
    --evaluate "$out/naive/ds=$held_out_date" --out "$out/comparison" "$@"

examined=()
[[ ! -e $out/examination/ds=$date ]] || examined=(--examination "$out/examination/ds=$date")
purity=()
[[ ! -e $out/logs/truth ]] || purity=(--purity scripts/bench/results/quality.json)
run $python jobs/write_report.py "$days" --run "$out/run" --comparison "$out/comparison" "${examined[@]}" "${purity[@]}" \
    --out "$out/report.html"
