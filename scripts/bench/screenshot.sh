#!/usr/bin/env bash
# A picture of a report, as a browser shows it: scripts/bench/screenshot.sh [REPORT.html [PICTURE.png]]
# Without arguments: of the demo's report, into scripts/bench/results, from where the README shows it.
source "$(dirname "${BASH_SOURCE[0]}")/../env/environment.sh"

report=${1:-$root/demo/report.html}
picture=${2:-$root/scripts/bench/results/report.png}
[[ $report == /* ]] || report=$PWD/$report
[[ $picture == /* ]] || picture=$PWD/$picture
[[ -r $report ]] || fail "$report: expected a report, found none; scripts/demo.sh makes one"

chromium_environment
[[ -n ${CHROMIUM:-} ]] ||
    fail "Chromium: expected one on the PATH or apt-get to unpack one with, found neither; name one in CHROMIUM"

profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
log=$profile/log
mkdir -p "$(dirname "$picture")"
# As wide as a desk's window, and as high as the funnel and the curves of examination reach.
"$CHROMIUM" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
    --disable-component-update --disable-sync --hide-scrollbars --user-data-dir="$profile/chromium" \
    --window-size=1280,1950 --screenshot="$picture" "file://$report" >"$log" 2>&1 </dev/null ||
    { cat "$log" >&2 && fail "$report: expected a picture of it, found the error above"; }
printf 'wrote %s (%s bytes)\n' "$picture" "$(wc -c <"$picture")"
