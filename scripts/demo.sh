#!/usr/bin/env bash
# From ad logs to an evaluated retriever and a report, in one command:
#
#   scripts/demo.sh [--rows N] [--out DIR]            simulated logs (2 million impressions of 3 days);
#                   [--world NAME]                    a preset of jobs/simulate_logs.py (tastes)
#   scripts/demo.sh --log KIND PATH [--out DIR]       a public log: kuairand, ebnerd, openbandit or mind
#
# The last day of the log is held out for evaluation; the days before are mined and trained on.
# All output is written to DIR (demo, or demo/KIND). A second call reuses existing output.
source "$(dirname "${BASH_SOURCE[0]}")/env/environment.sh"

rows=2e6 world=tastes kind='' source='' out=''
while (($#)); do
    case $1 in
        --rows)
            (($# >= 2)) || fail "--rows: expected a number of impressions after it, such as 2e6"
            rows=$2 && shift 2
            ;;
        --world)
            (($# >= 2)) || fail "--world: expected a preset of jobs/simulate_logs.py after it, such as plain"
            world=$2 && shift 2
            ;;
        --out)
            (($# >= 2)) || fail "--out: expected a folder after it"
            out=$2 && shift 2
            ;;
        --log)
            (($# >= 3)) || fail "--log: expected kuairand, ebnerd, openbandit or mind after it, and a path"
            kind=$2 source=$3 && shift 3
            ;;
        -h | --help) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit ;;
        *) fail "$1: expected --log KIND PATH, --rows N, --world NAME or --out DIR (scripts/demo.sh --help)" ;;
    esac
done
case $kind in
    '' | kuairand | ebnerd | openbandit | mind) ;;
    *) fail "--log $kind: expected kuairand, ebnerd, openbandit or mind" ;;
esac
[[ -z $kind || -e $source ]] || fail "--log $kind $source: expected a file or folder, found none"
# Paths are relative to the caller's folder; the commands below are shown and run in the repository.
if [[ $PWD != "$root" ]]; then
    [[ -z $source || $source == /* ]] || source=$PWD/$source
    [[ -z $out || $out == /* ]] || out=$PWD/$out
    cd "$root"
fi
out=${out:-demo${kind:+/$kind}}

environment .venv mining training baselines report
spark_environment .venv
python=.venv/bin/python

# DIR/.demo holds the command that made the logs, and `done` below the command once it has finished. A folder of
# another origin is never changed. A half-made folder of this script is made again.
make_logs() {
    local mark=$out/.demo
    if [[ ! -e $mark && (-e $out/logs || -e $out/negatives) ]]; then
        fail "$out: expected a new folder or one that this script made, found another; name one with --out"
    fi
    if [[ -e $mark && $(<"$mark") == "$*"$'\ndone' ]]; then
        printf '\n%s/logs is there, made by: %s\n' "$out" "$*"
        return
    fi
    # Output of scripts/compare.sh from the old logs is removed with the logs.
    local name
    for name in logs negatives vocabulary run examination report.html naive export neighbours comparison; do
        rm -rf "${out:?}/$name"
    done
    mkdir -p "$out"
    printf '%s\n' "$*" >"$mark"
    run "$@"
    echo 'done' >>"$mark"
}

if [[ -z $kind ]]; then
    make_logs $python jobs/simulate_logs.py "$out/logs" --rows "$rows" --days 3 --seed 7 --world "$world"
else
    make_logs $python jobs/import_public_log.py "$kind" "$source" "$out/logs"
fi

# The last day is held out. The days before are mined as of the start of the held-out day, as a nightly job does,
# so that training data holds nothing of that day. The held-out day is mined as of three days later, so that late
# clicks count. Fixed values of --as-of, not the current time, give the same shards from the same logs.
read -r last_day day_before num_days as_of < <(
    $python - "$out/logs/impressions" <<'PYTHON'
import sys
from datetime import timedelta

import pyarrow.compute as pc
import pyarrow.dataset as ds

served = pc.min_max(ds.dataset(sys.argv[1]).to_table(["served_at"])["served_at"]).as_py()
first, last = served["min"].date(), served["max"].date()
print(last, last - timedelta(days=1), (last - first).days, last + timedelta(days=4))
PYTHON
) || fail "$out/logs/impressions: no impressions with a served_at"
((num_days >= 1)) || fail "$out/logs/impressions: expected two days or more, one to hold out, found only $last_day"

tables=(--impressions "$out/logs/impressions" --engagements "$out/logs/engagements" --ads "$out/logs/ads")
# Users with a history from before the log; some public logs have none.
users=()
if [[ -d $out/logs/users ]]; then
    declare -A history=([simulated]=watched [kuairand]=watch_seq [ebnerd]=read_articles)
    users=(--users "$out/logs/users" --set "mining.user_history=${history[${kind:-simulated}]}")
    [[ -n $kind ]] || users+=(--set "mining.user_features=[country,device,age_band,interest]")
fi
run $python jobs/mine_negatives.py --config conf/local.yaml --date "$day_before" --days "$num_days" \
    --as-of "$last_day" "${tables[@]}" "${users[@]}" --out "$out/negatives"

day=$out/negatives/ds=$day_before
shards=("$day"/bucket=*/*.tfrecord)
[[ -e ${shards[0]} ]] || fail "$day: expected shards, found none"
run $python scripts/inspect_shard.py "${shards[0]}" --limit 1

held_out=$out/negatives/ds=$last_day
run_briefly 2 $python jobs/mine_negatives.py --config conf/local.yaml --date "$last_day" --as-of "$as_of" \
    "${tables[@]}" "${users[@]}" --out "$out/negatives"

# Users of small logs have few positives each: they share one row, and are told apart by lists and features.
run $python jobs/build_vocabulary.py "$day" --ads "$out/logs/ads" --feature advertiser_id \
    --feature category_id --num-user-rows 2 --out "$out"
run $python jobs/train_two_tower.py "$day" --config conf/local.yaml --out "$out/run"
# The true preferences are known on simulated logs only.
truth=()
[[ -n $kind ]] || truth=(--truth "$out/logs")
run $python jobs/evaluate_two_tower.py "$out/run" "$held_out" "${truth[@]}"

# Some public logs lack the position of an engaged ad; the report then names the missing part.
examined=() score=()
[[ -n $kind ]] || score=(--set mining.score_column=ranker_score)
examination=$out/examination/ds=$day_before
if [[ -e $examination/examination.json ]]; then
    printf '\n%s is there\n' "$examination"
    examined=(--examination "$examination")
elif run $python jobs/estimate_examination.py --config conf/local.yaml --date "$day_before" --days "$num_days" \
    --as-of "$as_of" "${tables[@]:0:4}" "${score[@]}" --out "$out"; then
    examined=(--examination "$examination")
fi
# Purity of the negatives is known on simulated logs only.
purity=()
[[ -n $kind ]] || purity=(--purity scripts/bench/results/quality.json)
run $python jobs/write_report.py "$day" --run "$out/run" "${examined[@]}" "${purity[@]}" --out "$out/report.html"

cat <<EOF

Output
  $out/logs             impressions, engagements, ads and users as Parquet
  $day
                        ${#shards[@]} TFRecord shards, manifest.json, the ledger and the quarantine
  $held_out
                        the day held out
  $out/vocabulary       rows of ads, codes of their features
  $out/examination      probability that a position is examined
  $out/run              checkpoints, the loss curve, TensorBoard's scalars; metrics.json with the checkpoint
Next steps
  $python scripts/inspect_shard.py $day --limit 3
  $python jobs/train_two_tower.py $day --config conf/local.yaml --out $out/easy \\
      --set training.loss.exposure.weight=0
  $python jobs/evaluate_two_tower.py $out/easy $held_out
  scripts/demo.sh --rows 1e7 --out demo/large
  scripts/demo.sh --log kuairand PATH_OF_KUAIRAND

Open $out/report.html
EOF
