#!/bin/bash
# Runs the camera contract over the real picamera2 on libcamera's virtual pipeline: `make test-picamera2`.
# Builds what it needs first (build.sh). Arguments go to pytest. Exits non-zero on any failure.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${DOORWARD_CACHE:-$root/var/cache}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
prefix=$cache/libcamera-0.7.2
python=$cache/picamera2-venv/bin/python

DOORWARD_CACHE=$cache "$here/build.sh"

cd "$root"
"$python" -m tests.picamera2.write_scene "$cache/scene" "$prefix/share/libcamera/pipeline/virtual/virtual.yaml"

# picamera2 0.3.38 still calls Thread.setDaemon; every other warning stays an error.
exec env \
    PYTHONPATH="$prefix/lib/python3/dist-packages:$here/stubs" \
    LD_LIBRARY_PATH="$prefix/lib" \
    LD_PRELOAD="$cache/dmashim.so" \
    LIBCAMERA_LOG_LEVELS="${LIBCAMERA_LOG_LEVELS:-*:WARN}" \
    DOORWARD_TEST_PICAMERA2=1 \
    "$python" -m pytest -p no:cacheprovider -W "ignore:setDaemon:DeprecationWarning" \
    -m picamera2 tests/hal tests/picamera2 "$@"
