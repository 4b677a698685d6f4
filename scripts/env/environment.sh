#!/usr/bin/env bash
# Python environments, made from the locks in scripts/env/locks and kept equal to them.
#
#   scripts/env/environment.sh [LOCK…]     makes or completes .venv from these locks (mining if none is named)
#   source scripts/env/environment.sh      defines `environment`, `spark_environment` and `chromium_environment`
#
# A complete environment is recognised in a fraction of a second. The next call completes an interrupted
# installation. Two scripts that install into the same environment take turns.
# SCROLLPAST_PYTHON names the interpreter to build with (default: the first that fits of 3.11, 3.12 and 3.13).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)

say() { printf '%s\n' "$*" >&2; }

fail() {
    printf '%s: error: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Prints a command in a form that can be typed here, and runs the command.
run() {
    _show "$@"
    "$@"
}

# run_briefly LINES COMMAND… — as run, but prints only the last LINES lines of the output.
run_briefly() {
    _show "${@:2}"
    "${@:2}" | tail -n "$1"
}

_show() {
    printf '\n$'
    printf ' %q' "$@"
    printf '\n'
}

# environment FOLDER LOCK… — makes FOLDER (relative to the repository) an environment with these locks, and with
# lib/ (scrollpast) and the repository (scripts) on its import path.
environment() {
    local folder=$1
    shift
    _is_ready "$folder" "$@" && return
    mkdir -p "$root/.envs"
    (
        # Without flock (macOS) nothing keeps two scripts from installing at once.
        if command -v flock >/dev/null && ! flock -n 9; then
            say "waiting for another script that is installing into $folder"
            flock 9
        fi
        _is_ready "$folder" "$@" || _install "$folder" "$@"
    ) 9>"$root/.envs/${folder##*/}.lock"
}

# spark_environment FOLDER — exports Spark's folder, the Python of its workers, an address that only this machine
# reaches, and a Java, installed into FOLDER where the machine has none.
spark_environment() {
    local folder=$root/$1 python=$root/$1/bin/python
    SPARK_HOME=$(_purelib "$python")/pyspark
    export SPARK_HOME PYSPARK_PYTHON=$python PYSPARK_DRIVER_PYTHON=$python
    export SPARK_LOCAL_IP=${SPARK_LOCAL_IP:-127.0.0.1}
    if ! JAVA_HOME=$("$python" -m scrollpast.java 2>/dev/null); then
        say "no Java 17 or newer on this machine: installing Java into $1"
        environment "$1" java
        JAVA_HOME=$("$python" -m scrollpast.java) || exit 1
    fi
    export JAVA_HOME
}

# chromium_environment — exports a browser as CHROMIUM: the value that is set already, this machine's own browser, or
# Debian's packages unpacked into .envs/chromium, which changes nothing else on the machine. CHROMIUM stays empty
# where no browser is available, and the caller reports that.
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
        ) 9>"$root/.envs/chromium.lock" || say "Chromium could not be unpacked; see $root/.envs/chromium.log, or set CHROMIUM"
    fi
    if [[ -x $folder/start ]]; then
        export CHROMIUM=$folder/start
    fi
}

# Folder of an environment's packages. The `site` module stays on: with -S Python would print the base's folder.
_purelib() { "$1" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

# Unpacks Chromium, its missing libraries and fonts into a folder, and writes the program `start` there.
_unpack_chromium() {
    local folder=$1 draft=$1.new log=$1.log package packages
    local wanted=(apt-get install --simulate --no-install-recommends chromium fonts-liberation)
    say "unpacking Chromium into ${folder#"$root"/}"
    rm -rf "$folder" "$draft"
    mkdir -p "$draft/debs"
    # Lists of packages may be missing; only root can fetch them.
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

# The stamp of an installed lock: the interpreter, the place (an environment cannot be moved) and the lock's text.
# A change of any of these installs again. _install's .pth file has the path.
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
    # The project is added as a path: an edit in lib/ takes effect without a build or a network.
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

# Runs a command with its output in the log; on failure prints the end of the output.
_logged() {
    local log=$1
    shift
    printf '$ %s\n' "$*" >>"$log"
    "$@" >>"$log" 2>&1 </dev/null && return
    tail -n 12 "$log" >&2
    fail "this command failed: $*; its whole output is in $log; correct the cause and run the script again to resume"
}

# An environment is kept when its Python starts, fits the locks, has pip, and was made at this place.
_is_sound() {
    "$1/bin/python" -I -c "$_fits; import pip" 2>/dev/null && grep -qF "$1/bin/python" "$1/bin/pip" 2>/dev/null
}

# pip writes a package's METADATA before its files and INSTALLER after them, and reads only METADATA. A package
# without INSTALLER was interrupted: it is removed, to be installed again. Renamed leftovers are removed too.
_forget_half_installed() {
    local info
    for info in "$1"/*.dist-info; do
        [[ -s $info/INSTALLER ]] || rm -rf "$info"
    done
    rm -rf "$1"/~*
}

_fits='import sys; sys.exit("unfit") if not (3, 11) <= sys.version_info[:2] <= (3, 13) else None'

# The first interpreter that fits the locks; 3.11 is first because the locks are tested with Python 3.11.
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
        "install Python (Debian and Ubuntu: apt-get install python3 python3-venv)"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    environment .venv "${@:-mining}"
fi
