#!/usr/bin/env bash
# Did the negatives help? Every arm of jobs/compare_negatives.py on what scripts/demo.sh left in DIR (demo):
#
#   scripts/compare.sh [DIR] [an option of jobs/compare_negatives.py, such as --seeds 0 1 2]
#
# The demo's days are mined once more as served and not engaged with, for the naive arm and, held out, for what
# everything is measured on; towers trained on the demo's negatives give the neighbours. The table lands in
# DIR/comparison and in the report; a call that was stopped goes on where it was.
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

environment .venv mining training report
spark_environment .venv
python=.venv/bin/python

# The days that the demo mined, and the moments whose knowledge they had: of the one held out, which is the later
# one, and of the others.
read -r days date num_days as_of held_out_date held_out_as_of < <(
    $python - "$out"/negatives/ds=*/manifest.json <<'PYTHON'
import json
import sys
from datetime import datetime
from pathlib import Path

before, held_out = (json.loads(Path(path).read_text()) for path in sorted(sys.argv[1:])[-2:])
start, end = (datetime.fromisoformat(before[name]) for name in ("window_start", "window_end"))
day = Path(sorted(sys.argv[1:])[-2]).parent
print(day, before["ds"], (end - start).days, before["as_of"], held_out["ds"], held_out["as_of"])
PYTHON
) || fail "$out/negatives: expected the manifests of two days"

mine() {
    run_briefly 3 $python jobs/mine_negatives.py --config conf/naive.yaml --set mining.num_buckets=16 \
        --impressions "$out/logs/impressions" --engagements "$out/logs/engagements" --ads "$out/logs/ads" \
        --out "$out/naive" "$@"
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
