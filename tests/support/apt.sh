#!/bin/bash
# Make sure that Debian packages are installed; install them if we may, else say how.
#   apt.sh [--if-possible] PACKAGE…
# With --if-possible a package that cannot be had is no error: whoever calls does without.
set -euo pipefail

optional=
if [ "${1:-}" = --if-possible ]; then optional=1; shift; fi

missing=()
for package in "$@"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

how="sudo apt-get update && sudo apt-get install -y ${missing[*]}"
install=(env DEBIAN_FRONTEND=noninteractive apt-get)
if [ "$(id -u)" != 0 ]; then
  if ! sudo -n true 2>/dev/null; then
    echo "missing: ${missing[*]}. Get them: $how" >&2
    if [ -n "$optional" ]; then exit 0; else exit 1; fi
  fi
  install=(sudo "${install[@]}")
fi

echo "installing Debian packages: ${missing[*]}"
if ! { "${install[@]}" update -qq && "${install[@]}" install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null; then
  echo "could not install: ${missing[*]}. Get them: $how" >&2
  if [ -n "$optional" ]; then exit 0; else exit 1; fi
fi
