#!/bin/sh
# Builds the release binary and, with the argument `tests`, the tests. One configuration serves everything.
set -eu
cd "$(dirname "$0")/.."
command -v swift >/dev/null || { echo "Swift 6.2 or newer is needed; see swift.org/install" >&2; exit 1; }
tests=""
[ "${1:-}" = tests ] && tests="--build-tests"
# Without a search path for libraries, of which the program has none: at each start the loader would look there first.
# shellcheck disable=SC2086
swift build -c release --disable-local-rpath $tests
