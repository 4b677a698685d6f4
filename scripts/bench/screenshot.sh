#!/usr/bin/env bash
# Screenshot of a report in a browser: scripts/bench/screenshot.sh [REPORT.html [PICTURE.png]]
# Defaults: the demo's report, and scripts/bench/results/report.png, which README.md shows.
source "$(dirname "${BASH_SOURCE[0]}")/../env/environment.sh"

report=${1:-$root/demo/report.html}
picture=${2:-$root/scripts/bench/results/report.png}
[[ $report == /* ]] || report=$PWD/$report
[[ $picture == /* ]] || picture=$PWD/$picture
[[ -r $report ]] || fail "$report: expected a report, found none; run scripts/demo.sh to make one"

chromium_environment
[[ -n ${CHROMIUM:-} ]] ||
    fail "Chromium: expected a browser on the PATH, or apt-get to unpack one, found neither; set CHROMIUM to a browser"

profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
log=$profile/log
mkdir -p "$(dirname "$picture")"
# A window 1,280 pixels wide, high enough for the funnel and the curves of examination.
"$CHROMIUM" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
    --disable-component-update --disable-sync --hide-scrollbars --user-data-dir="$profile/chromium" \
    --window-size=1280,1950 --screenshot="$picture" "file://$report" >"$log" 2>&1 </dev/null ||
    { cat "$log" >&2 && fail "$report: expected a picture of it, found the error above"; }
printf 'wrote %s (%s bytes)\n' "$picture" "$(wc -c <"$picture")"
