#!/usr/bin/env bash
# Runs a job on a cluster: scripts/submit.sh [--environment] [spark-submit's options] JOB [the job's arguments]
#
#   scripts/submit.sh --master yarn --environment mine_negatives --config conf/cluster.yaml --date 2026-11-20 …
#
# JOB is the name of a job in jobs/ that uses Spark. The library travels as a zip; with --environment the Python
# packages of scripts/env/locks/mining.txt travel too (dist/environment.tar.gz, made when it is missing or old), for
# executors that have the same python3.X as this machine and nothing else. Without it PYSPARK_PYTHON says which
# Python the executors have (this repository's .venv, if it is not set: one machine, or a shared file system).
#
# SPARK_HOME names the Spark that belongs to the cluster (pip's, if it is not set); conf/spark/cluster.conf says
# how it is set up. The exit code is the job's own, as the driver runs here (deploy mode client).
caller_spark_home=${SPARK_HOME:-} caller_ip=${SPARK_LOCAL_IP:-} caller_python=${PYSPARK_PYTHON:-}
source "$(dirname "${BASH_SOURCE[0]}")/env/environment.sh"

jobs=$(grep -lE 'scrollpast\.mining' "$root"/jobs/*.py | sed 's#.*/##; s#\.py$##' | tr '\n' ' ')
with_environment='' job='' options=()
while (($#)) && [[ -z $job ]]; do
    name=${1#jobs/} name=${name%.py}
    case $1 in
        -h | --help) sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit ;;
        --environment) with_environment=1 ;;
        --deploy-mode=cluster) fail "$1: expected deploy mode client, which hands on the job's exit code; leave it out" ;;
        *)
            if [[ " $jobs" == *" $name "* ]]; then
                job=$name
            elif [[ -e $root/jobs/$name.py ]]; then
                fail "$1: expected a job that uses Spark (${jobs% }), found one that does not:" \
                    "run .venv/bin/python jobs/$name.py"
            else
                options+=("$1")
            fi
            ;;
    esac
    shift
done
[[ -n $job ]] || fail "${options[*]:-no arguments}: expected a job (${jobs% }), found none; scripts/submit.sh --help"
[[ " ${options[*]-} " != *" --deploy-mode cluster "* ]] ||
    fail "--deploy-mode cluster: expected client, which hands on the job's exit code; leave it out"

environment .venv mining
spark_environment .venv
# On a cluster the driver is spoken to by other machines: the address is Spark's own choice, or the caller's.
unset SPARK_LOCAL_IP
[[ -z $caller_ip ]] || export SPARK_LOCAL_IP=$caller_ip
[[ -z $caller_spark_home ]] || export SPARK_HOME=$caller_spark_home
[[ -x $SPARK_HOME/bin/spark-submit ]] ||
    fail "SPARK_HOME ($SPARK_HOME): expected a Spark with bin/spark-submit, found none; name the cluster's, or unset it"

if [[ -n $with_environment ]]; then
    archive=$root/dist/environment.tar.gz
    "$root/scripts/env/pack_environment.sh" >&2
    options+=(--archives "$archive#environment")
    export PYSPARK_PYTHON=./environment/bin/python
elif [[ -n $caller_python ]]; then
    export PYSPARK_PYTHON=$caller_python
fi
# Spark writes its event log where its history server looks, and nowhere if that folder is not there.
[[ " ${options[*]-} " == *spark.eventLog.* ]] || mkdir -p /tmp/spark-events

library=$("$root/scripts/env/package.sh")
exec "$SPARK_HOME/bin/spark-submit" --properties-file "$root/conf/spark/cluster.conf" \
    --py-files "$library" ${options[@]+"${options[@]}"} "$root/jobs/$job.py" "$@"
