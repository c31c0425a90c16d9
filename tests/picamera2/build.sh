#!/bin/bash
# Builds what the picamera2 stage runs on, once: libcamera with its virtual pipeline, the shim that stands in
# for /dev/udmabuf and /dev/dma_heap, and a virtual environment with the real picamera2.
#
# Why from source: Raspberry Pi's packages need Raspberry Pi's archive, Debian 12 has no libcamera Python
# binding, and no release before 0.7 fills in the virtual pipeline's time stamps.
#
# Everything goes below ${DOORWARD_CACHE:-<checkout>/var/cache}; only apt packages land outside it. Each part
# has a stamp that names the recipe it was made by, so a changed recipe is built anew.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${DOORWARD_CACHE:-$root/var/cache}

version=0.7.2
tarball=libcamera_$version.orig.tar.gz
tarball_sha256=e27f5670fe9443eebc8e2f24235cd20b533324ef481a3684d34c78f1c3a12afb
suites="forky sid"          # Debian suites that hold this version's source package
python=/usr/bin/python3     # the Python whose headers apt installs: the binding is built for this one

prefix=$cache/libcamera-$version
venv=$cache/picamera2-venv

say() { echo "test-picamera2: $*"; }
die() {
    echo "test-picamera2: error: $1" >&2
    shift
    for hint in "$@"; do echo "hint: $hint" >&2; done
    exit 1
}

# Debian's tools look for `python3` in PATH; another Python there would lack jinja2 and the headers.
export PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8

need_apt_packages() {
    local missing=() package
    while read -r package; do
        dpkg-query -W -f='${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
    done < <(grep -v '^#' "$here/apt-packages.txt")
    ((${#missing[@]})) || return 0
    if ((EUID)); then
        die "missing apt packages: ${missing[*]}" "sudo apt-get install -y ${missing[*]}"
    fi
    say "installing apt packages: ${missing[*]}"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } \
        >"$cache/apt.log" 2>&1 || { tail -n 5 "$cache/apt.log" >&2; die "apt-get cannot install: ${missing[*]}" "whole log: $cache/apt.log"; }
}

# The first mirror and keyring that this machine's own apt uses, as "URI<tab>KEYRING".
apt_mirror() {
    local file
    for file in /etc/apt/sources.list.d/*.sources; do
        [[ -e $file ]] || continue
        awk -v OFS='\t' '/^URIs:/ {uri = $2} /^Signed-By: *\// {key = $2} /^$/ {if (uri) exit} END {if (uri) print uri, key; else exit 1}' "$file" && return
    done
    awk -v OFS='\t' '$1 == "deb" {for (i = 2; i <= NF; i++) if ($i ~ /^https?:/) {print $i, ""; found = 1; exit}} END {exit !found}' \
        /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null
}

# Fetches the source with apt's own lists and cache kept apart: the machine's apt set-up is not touched.
fetch_source() {
    local work=$1 suite mirror uri key
    if [[ -f $cache/$tarball ]] && sha256sum --status -c <<<"$tarball_sha256  $cache/$tarball"; then return; fi
    mirror=$(apt_mirror) || die "no Debian mirror in this machine's apt sources" "put $tarball (SHA-256 $tarball_sha256) into $cache"
    IFS=$'\t' read -r uri key <<<"$mirror"
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/download"
    for suite in $suites; do
        {
            echo "Types: deb-src"
            echo "URIs: $uri"
            echo "Suites: $suite"
            echo "Components: main"
            # A mirror kept as a snapshot carries Release files past their date; the tarball is pinned by its hash.
            echo "Check-Valid-Until: no"
            echo "Signed-By: ${key:-/usr/share/keyrings/debian-archive-keyring.gpg}"
        } >"$work/doorward.sources"
        local options=(-qq -o "Dir::Etc::sourcelist=$work/doorward.sources" -o Dir::Etc::sourceparts=-
            -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
        if apt-get "${options[@]}" update && (cd "$work/download" &&
            apt-get "${options[@]}" source --download-only "libcamera=$version-1"); then
            sha256sum --status -c <<<"$tarball_sha256  $work/download/$tarball" || die \
                "libcamera $version: wrong checksum (got $(sha256sum <"$work/download/$tarball" | cut -c1-64), expected $tarball_sha256)"
            mv "$work/download/$tarball" "$cache/$tarball"
            return
        fi >>"$cache/fetch.log" 2>&1
    done
    tail -n 5 "$cache/fetch.log" >&2
    die "libcamera $version: no source package in $suites" "put $tarball (SHA-256 $tarball_sha256) into $cache"
}

build_libcamera() {
    local recipe work log=$cache/libcamera.log options=(
        -Dpipelines=virtual -Dipas= -Dpycamera=enabled -Dcam=disabled -Dgstreamer=disabled -Dv4l2=disabled
        -Dqcam=disabled -Ddocumentation=disabled -Dtest=false -Dlc-compliance=disabled -Dtracing=disabled
        -Dbuildtype=release -Dwerror=false)
    recipe="$tarball_sha256 $prefix ${options[*]} $("$python" --version)"
    if [[ -f $prefix/stamp && $(<"$prefix/stamp") == "$recipe" ]]; then
        say "libcamera $version: already built"
        return
    fi
    work=$cache/libcamera-work
    rm -rf "$prefix" "$work"
    mkdir -p "$work/source"
    say "libcamera $version: fetching the source"
    : >"$cache/fetch.log"
    fetch_source "$work"
    tar -xf "$cache/$tarball" -C "$work/source" --strip-components=1
    say "libcamera $version: building (about 6 CPU minutes, log: $log)"
    {
        meson setup "$work/build" "$work/source" --prefix="$prefix" --libdir=lib "${options[@]}" &&
            nice ninja -C "$work/build" install
    } >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "libcamera $version does not build" "whole log: $log"; }
    rm -rf "$work"
    echo "$recipe" >"$prefix/stamp"
}

build_shim() {
    gcc -O2 -Wall -Wextra -shared -fPIC -o "$cache/dmashim.so" "$here/dmashim.c" -ldl || die "dmashim.c does not compile"
}

build_venv() {
    local recipe log=$cache/picamera2-venv.log
    recipe="$("$python" --version) $(sha256sum <"$here/requirements.txt")"
    if [[ -f $venv/stamp && $(<"$venv/stamp") == "$recipe" ]]; then
        say "picamera2: already installed"
        return
    fi
    rm -rf "$venv"
    say "picamera2: installing into $venv (log: $log)"
    {
        "$python" -m venv "$venv" &&
            # Source distributions are built with the hashed build tools: isolation would fetch unhashed ones.
            "$venv/bin/pip" install --require-hashes --no-deps -r "$here/requirements-build.txt" &&
            "$venv/bin/pip" install --require-hashes --no-deps --no-build-isolation -r "$here/requirements.txt"
    } >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "picamera2 does not install" "whole log: $log"; }
    echo "$recipe" >"$venv/stamp"
}

mkdir -p "$cache"
[[ -x /usr/bin/apt-get ]] || die "this stage builds from Debian packages and found no apt-get" "run it on Debian 12 or later"
need_apt_packages
build_libcamera
build_shim
build_venv
