#!/bin/sh
# Builds the release binary and, with the argument `tests`, the tests. One configuration serves everything.
set -eu
cd "$(dirname "$0")/.."
command -v swift >/dev/null || { echo "Swift 6.2 or newer is needed; see swift.org/install" >&2; exit 1; }
tests=""
[ "${1:-}" = tests ] && tests="--build-tests"
# For a fast start: types are named to the runtime by calls, not by text, for each of which it would look through all conformances of
# the program (0.1 ms, and a start meets ten); and there is no search path for libraries, as the program has none.
# shellcheck disable=SC2086
swift build -c release --disable-local-rpath -Xswiftc -Xfrontend -Xswiftc -disable-concrete-type-metadata-mangled-name-accessors $tests
