#!/usr/bin/env bash
# Format, lint, types, import contracts and generated files: scripts/check.sh [--fix]. Every check runs, also after a
# failure. The exit code is 1 when any check fails.
source "$(dirname "${BASH_SOURCE[0]}")/env/environment.sh"
cd "$root"

case ${1-} in
    "" | --fix) ;;
    *) fail "$1: expected no argument or --fix" ;;
esac
environment .venv mining report development

bin=.venv/bin
failed=()

check() {
    local name=$1
    shift
    printf '== %s\n' "$name"
    "$@" || failed+=("$name")
}

if [[ ${1-} == --fix ]]; then
    $bin/ruff check --quiet --fix-only . || true
    $bin/ruff format --quiet . || true
fi
check format $bin/ruff format --check --quiet --diff .
check lint $bin/ruff check --quiet .
# Files are listed one by one: mypy refuses a folder without Python files, and scripts/ may be one.
# The peers of the benchmarks have packages of their own, in another environment.
mapfile -t programs < <(find jobs scripts -path scripts/bench/peers -prune -o -name '*.py' -print 2>/dev/null | sort)
check types env MYPYPATH=. $bin/mypy lib setup.py "${programs[@]}"
check imports $bin/lint-imports --no-logo
check options $bin/python scripts/env/write_conf.py --check

# Modules of the library: their number, and the median and the largest number of lines.
find lib -name '*.py' ! -empty -exec wc -l {} + | awk '$2 != "total" {print $1, $2}' | sort -n |
    awk '{lines[NR] = $1; name = $2} END {
        printf "%d modules, median %d lines, largest %d (%s)\n", NR, lines[int((NR + 1) / 2)], lines[NR], name
    }'

if ((${#failed[@]})); then
    say "check.sh: failed: ${failed[*]}; scripts/check.sh --fix corrects format and simple lint findings"
    exit 1
fi
echo "all checks passed"
