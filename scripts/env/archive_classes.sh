#!/usr/bin/env bash
# Makes local Spark start in about half the time from now on: scripts/env/archive_classes.sh (no arguments).
#
# Most of Spark's start is Java loading classes. A Java that has run the job once can leave them in an archive, which
# the job maps into memory when it starts a Spark of its own (scrollpast.mining.spark.session). It takes half a minute,
# and has to be done again only for another Java or Spark; a Java that does not like the archive does without it.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
(($# == 0)) || fail "$1: expected no argument"
cd "$root"

environment .venv mining
spark_environment .venv
archive=.venv/.scrollpast/spark.jsa log=.envs/classes.log
stamp=$("$JAVA_HOME/bin/java" -version 2>&1; grep '^pyspark==' scripts/env/locks/mining.txt; echo "$root")
[[ -e $archive && $(cat $archive.stamp 2>/dev/null) == "$stamp" ]] && exit

say "running a small job once, so that Spark starts in half the time from now on"
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
    say "no archive of Spark's classes ($log says why): Spark will start without one"
    : >"$work/spark.jsa"  # nor is it tried again with this Java
fi
mv -f "$work/spark.jsa" $archive
printf '%s\n' "$stamp" >$archive.stamp
