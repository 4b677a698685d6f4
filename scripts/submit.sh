#!/usr/bin/env bash
# Runs a job on a cluster: scripts/submit.sh [--environment] [spark-submit's options] JOB [the job's arguments]
#
#   scripts/submit.sh --master yarn --environment mine_negatives --config conf/cluster.yaml --date 2026-11-20 …
#
# JOB is the name of a job in jobs/ that uses Spark. The library is sent as a zip. --environment also sends the Python
# packages of scripts/env/locks/mining.txt (dist/environment.tar.gz, made when missing or old), for executors that
# have the same python3.X as this machine and nothing else. Without --environment PYSPARK_PYTHON names the Python of
# the executors (by default this repository's .venv: for one machine, or a shared file system).
#
# SPARK_HOME names the Spark of the cluster (by default pip's). conf/spark/cluster.conf has Spark's settings.
# The exit code is the job's own, because the driver runs here (deploy mode client).
caller_spark_home=${SPARK_HOME:-} caller_ip=${SPARK_LOCAL_IP:-} caller_python=${PYSPARK_PYTHON:-}
source "$(dirname "${BASH_SOURCE[0]}")/env/environment.sh"

jobs=$(grep -lE 'scrollpast\.mining' "$root"/jobs/*.py | sed 's#.*/##; s#\.py$##' | tr '\n' ' ')
with_environment='' job='' options=()
while (($#)) && [[ -z $job ]]; do
    name=${1#jobs/} name=${name%.py}
    case $1 in
        -h | --help) sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit ;;
        --environment) with_environment=1 ;;
        --deploy-mode=cluster) fail "$1: expected deploy mode client, which returns the job's exit code; omit the option" ;;
        *)
            if [[ " $jobs" == *" $name "* ]]; then
                job=$name
            elif [[ -e $root/jobs/$name.py ]]; then
                fail "$1: expected a job that uses Spark (${jobs% }), found a job that does not:" \
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
    fail "--deploy-mode cluster: expected client, which returns the job's exit code; omit the option"

environment .venv mining
spark_environment .venv
# On a cluster other machines connect to the driver: Spark chooses the address, unless the caller sets SPARK_LOCAL_IP.
unset SPARK_LOCAL_IP
[[ -z $caller_ip ]] || export SPARK_LOCAL_IP=$caller_ip
[[ -z $caller_spark_home ]] || export SPARK_HOME=$caller_spark_home
[[ -x $SPARK_HOME/bin/spark-submit ]] ||
    fail "SPARK_HOME ($SPARK_HOME): expected a Spark with bin/spark-submit, found none; set SPARK_HOME to the cluster's Spark, or unset it"

if [[ -n $with_environment ]]; then
    archive=$root/dist/environment.tar.gz
    "$root/scripts/env/pack_environment.sh" >&2
    options+=(--archives "$archive#environment")
    export PYSPARK_PYTHON=./environment/bin/python
elif [[ -n $caller_python ]]; then
    export PYSPARK_PYTHON=$caller_python
fi
# Spark writes its event log to the history server's folder, and writes no log where the folder does not exist.
[[ " ${options[*]-} " == *spark.eventLog.* ]] || mkdir -p /tmp/spark-events

library=$("$root/scripts/env/package.sh")
exec "$SPARK_HOME/bin/spark-submit" --properties-file "$root/conf/spark/cluster.conf" \
    --py-files "$library" ${options[@]+"${options[@]}"} "$root/jobs/$job.py" "$@"
