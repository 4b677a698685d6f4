#!/usr/bin/env bash
# Halves the start time of local Spark by an archive of its classes: scripts/env/archive_classes.sh (no arguments).
#
# Java spends most of Spark's start loading classes. One run of the job writes the loaded classes to an archive. Later
# jobs map the archive into memory when they start local Spark (scrollpast.mining.spark.session). The run takes half a
# minute, and is repeated only for another Java or Spark. A Java that refuses the archive starts without it.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
(($# == 0)) || fail "$1: expected no argument"
cd "$root"

environment .venv mining
spark_environment .venv
archive=.venv/.scrollpast/spark.jsa log=.envs/classes.log
stamp=$("$JAVA_HOME/bin/java" -version 2>&1; grep '^pyspark==' scripts/env/locks/mining.txt; echo "$root")
[[ -e $archive && $(cat $archive.stamp 2>/dev/null) == "$stamp" ]] && exit

say "running a small job once, to archive Spark's classes: later starts take half the time"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! {
    .venv/bin/python jobs/simulate_logs.py "$work/log" --rows 2e3 --days 1 --last-day 2026-11-20 &&
        "$SPARK_HOME/bin/spark-submit" --master 'local[2]' \
            --driver-java-options "-XX:ArchiveClassesAtExit=$work/spark.jsa -Xlog:disable" \
            jobs/mine_negatives.py --date 2026-11-20 --as-of 2026-11-24T00:00:00Z \
            --impressions "$work/log/impressions" --engagements "$work/log/engagements" --out "$work/negatives" &&
        [[ -s $work/spark.jsa ]]
} >"$log" 2>&1 </dev/null; then
    say "no archive of Spark's classes (cause: $log): Spark will start without the archive"
    : >"$work/spark.jsa"  # an empty archive: no further attempt with this Java
fi
mv -f "$work/spark.jsa" $archive
printf '%s\n' "$stamp" >$archive.stamp
