#!/usr/bin/env bash
# Python environments, made from the locks in scripts/env/locks and kept equal to them.
#
#   scripts/env/environment.sh [LOCK…]     makes or completes .venv from these locks (mining if none is named)
#   source scripts/env/environment.sh      gives `environment`, `spark_environment` and `chromium_environment` to another
#
# What is there already is recognised in a fraction of a second. An installation that was interrupted is
# completed by the next call, and two scripts that want the same environment at once take turns.
# SCROLLPAST_PYTHON names the interpreter to build with, where the first fitting one is not the right one.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)

say() { printf '%s\n' "$*" >&2; }

fail() {
    printf '%s: error: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Shows a command as one could type it here, and runs it.
run() {
    _show "$@"
    "$@"
}

# run_briefly LINES COMMAND… — as run, with no more of the output than its last lines.
run_briefly() {
    _show "${@:2}"
    "${@:2}" | tail -n "$1"
}

_show() {
    printf '\n$'
    printf ' %q' "$@"
    printf '\n'
}

# environment FOLDER LOCK… — FOLDER (relative to the repository) becomes an environment with these locks in
# it, and with lib/ (scrollpast) and the repository (scripts) on its import path.
environment() {
    local folder=$1
    shift
    _is_ready "$folder" "$@" && return
    mkdir -p "$root/.envs"
    (
        # Without flock (macOS) two scripts at once are the user's own care.
        if command -v flock >/dev/null && ! flock -n 9; then
            say "waiting for another script that is installing into $folder"
            flock 9
        fi
        _is_ready "$folder" "$@" || _install "$folder" "$@"
    ) 9>"$root/.envs/${folder##*/}.lock"
}

# spark_environment FOLDER — what Spark needs to know, exported: its own folder, the Python of its workers,
# an address that nothing outside this machine reaches, and a Java, installed into FOLDER where none is found.
spark_environment() {
    local folder=$root/$1 python=$root/$1/bin/python
    SPARK_HOME=$(_purelib "$python")/pyspark
    export SPARK_HOME PYSPARK_PYTHON=$python PYSPARK_DRIVER_PYTHON=$python
    export SPARK_LOCAL_IP=${SPARK_LOCAL_IP:-127.0.0.1}
    if ! JAVA_HOME=$("$python" -m scrollpast.java 2>/dev/null); then
        say "no Java 17 or newer on this machine: installing one into $1"
        environment "$1" java
        JAVA_HOME=$("$python" -m scrollpast.java) || exit 1
    fi
    export JAVA_HOME
}

# chromium_environment — a browser for what looks at pages, exported as CHROMIUM: the one that is named there already,
# this machine's own, or Debian's packages unpacked into .envs/chromium, which changes nothing else on the machine.
# Where none of these can be had, CHROMIUM stays empty, and who needs it says so.
chromium_environment() {
    local name folder=$root/.envs/chromium
    if [[ -n ${CHROMIUM:-} ]]; then return; fi
    for name in chromium chromium-browser google-chrome; do
        if CHROMIUM=$(command -v "$name"); then
            export CHROMIUM
            return
        fi
    done
    if [[ ! -x $folder/start ]] && command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
        mkdir -p "$root/.envs"
        (
            if command -v flock >/dev/null; then flock 9; fi
            [[ -x $folder/start ]] || _unpack_chromium "$folder"
        ) 9>"$root/.envs/chromium.lock" || say "Chromium could not be unpacked; $root/.envs/chromium.log says why"
    fi
    if [[ -x $folder/start ]]; then
        export CHROMIUM=$folder/start
    fi
}

# Where an environment's packages are; without its `site` module (-S) Python would name the base's folder.
_purelib() { "$1" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

# What Chromium needs beside what is installed, fonts too, as files in a folder, and a program that starts it from there.
_unpack_chromium() {
    local folder=$1 draft=$1.new log=$1.log package packages
    local wanted=(apt-get install --simulate --no-install-recommends chromium fonts-liberation)
    say "unpacking Chromium into ${folder#"$root"/}"
    rm -rf "$folder" "$draft"
    mkdir -p "$draft/debs"
    # Lists of packages may not be there yet; only root can fetch them.
    "${wanted[@]}" >"$log" 2>&1 || { apt-get update && "${wanted[@]}"; } >"$log" 2>&1 || return 1
    packages=$(awk '/^Inst /{print $2}' "$log")
    # shellcheck disable=SC2086 # one word a package
    (cd "$draft/debs" && apt-get download $packages) >>"$log" 2>&1 || return 1
    for package in "$draft"/debs/*.deb; do
        dpkg-deb --extract "$package" "$draft" >>"$log" 2>&1 || return 1
    done
    rm -rf "$draft/debs"
    cat >"$draft/fonts.conf" <<FONTS
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>$folder/usr/share/fonts</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir>$folder/fonts</cachedir>
  <match target="pattern">
    <edit name="family" mode="append_last"><string>Liberation Sans</string></edit>
  </match>
  <match target="pattern">
    <test name="family"><string>monospace</string></test>
    <edit name="family" mode="prepend" binding="strong"><string>Liberation Mono</string></edit>
  </match>
</fontconfig>
FONTS
    cat >"$draft/start" <<START
#!/bin/sh
for libraries in $folder/usr/lib/*-linux-gnu*; do
    LD_LIBRARY_PATH=\$libraries:\$libraries/pulseaudio\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}
done
export LD_LIBRARY_PATH FONTCONFIG_FILE=$folder/fonts.conf
exec $folder/usr/lib/chromium/chromium "\$@"
START
    chmod +x "$draft/start"
    mv "$draft" "$folder"
}

# The stamp of an installed lock: the interpreter, the place (an environment cannot be moved) and the lock
# itself, so that a change of any of them is seen. The path is that of _install's .pth file.
_stamp() {
    printf '# Python %s in %s, with lib on its path\n' "$1" "$root"
    cat "$root/scripts/env/locks/$2.txt"
}

_is_ready() {
    local folder=$root/$1 lock version
    shift
    version=$("$folder/bin/python" -I -S -c 'import platform; print(platform.python_version())' 2>/dev/null) ||
        return 1
    for lock; do
        _stamp "$version" "$lock" | cmp -s - "$folder/.scrollpast/$lock.lock" || return 1
    done
}

_install() {
    local name=$1 folder=$root/$1 log=$root/.envs/${1##*/}.log lock python site version
    shift
    for lock; do
        [[ -r $root/scripts/env/locks/$lock.txt ]] || fail "scripts/env/locks/$lock.txt: expected a lock, found none"
    done
    : >"$log"
    if ! _is_sound "$folder"; then
        python=$(_find_python) || exit 1
        say "making $name with $("$python" -V)"
        _logged "$log" "$python" -m venv --clear "$folder"
    fi
    python=$folder/bin/python
    version=$("$python" -I -S -c 'import platform; print(platform.python_version())')
    site=$(_purelib "$python")
    [[ $site == "$folder"/* ]] || fail "$site: expected a folder inside $folder; remove $name and start again"
    _forget_half_installed "$site"
    # The project itself, as a path: an edit in lib/ is live, and no build and no network are needed.
    printf '%s\n' "$root/lib" "$root" >"$site/scrollpast.pth"
    mkdir -p "$folder/.scrollpast"
    for lock; do
        _is_ready "$name" "$lock" && continue
        rm -f "$folder/.scrollpast/$lock.lock"
        say "installing scripts/env/locks/$lock.txt into $name (packages: $(grep -c "^[^#].*==" "$root/scripts/env/locks/$lock.txt"))"
        _logged "$log" "$python" -m pip install --no-deps --no-input --disable-pip-version-check \
            --progress-bar off --requirement "$root/scripts/env/locks/$lock.txt"
        _stamp "$version" "$lock" >"$folder/.scrollpast/$lock.lock"
    done
}

# Runs a command with its output in the log; when it fails, the end of that output is the message.
_logged() {
    local log=$1
    shift
    printf '$ %s\n' "$*" >>"$log"
    "$@" >>"$log" 2>&1 </dev/null && return
    tail -n 12 "$log" >&2
    fail "this command failed: $*; its whole output is in $log; the next call goes on where this one stopped"
}

# An environment is kept when its Python starts, fits the locks, has pip, and was made at this place.
_is_sound() {
    "$1/bin/python" -I -c "$_fits; import pip" 2>/dev/null && grep -qF "$1/bin/python" "$1/bin/pip" 2>/dev/null
}

# pip writes a package's METADATA before its files and INSTALLER after them, and believes METADATA. What
# lacks INSTALLER was interrupted, and has to be forgotten to be installed again; so has a renamed leftover.
_forget_half_installed() {
    local info
    for info in "$1"/*.dist-info; do
        [[ -s $info/INSTALLER ]] || rm -rf "$info"
    done
    rm -rf "$1"/~*
}

_fits='import sys; sys.exit("unfit") if not (3, 11) <= sys.version_info[:2] <= (3, 13) else None'

# The first interpreter that fits the locks; 3.11 leads because the locks are tested with it.
_find_python() {
    local candidate lacks_venv=
    for candidate in ${SCROLLPAST_PYTHON:-python3.11 python3.12 python3.13 python3}; do
        "$candidate" -I -c "$_fits" 2>/dev/null || continue
        if "$candidate" -I -c 'import ensurepip, venv' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
        lacks_venv=${lacks_venv:-$candidate}
    done
    [[ -z $lacks_venv ]] ||
        fail "$lacks_venv cannot make environments: expected its modules venv and ensurepip, found them missing;" \
            "install them (Debian and Ubuntu: apt-get install python3-venv)"
    fail "${SCROLLPAST_PYTHON:-python3.11, python3.12, python3.13, python3}: expected a Python from 3.11 to 3.13," \
        "found $(python3 -V 2>/dev/null || echo none);" \
        "install one (Debian and Ubuntu: apt-get install python3 python3-venv)"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    environment .venv "${@:-mining}"
fi
