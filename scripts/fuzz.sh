#!/bin/sh
# Feeds the parsers what libFuzzer invents, each for a while, with the fixtures as a start.
#   scripts/fuzz.sh [SECONDS] [TARGET...]
# Inputs that bring something new are kept in .build/fuzz/TARGET, and finds in .build/fuzz/TARGET-crash-*.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- sif squashfs ext layer definition packages
SINGULARITY_FUZZING=1 swift build -c release --sanitize fuzzer --product fuzz --scratch-path .build/fuzzing
program=.build/fuzzing/release/fuzz

# Valid input for a parser.
seeds() {
    case "$1" in
        sif) cp Tests/Fixtures/*.sif "$2" ;;
        squashfs) cp Tests/Fixtures/*.sqfs "$2" ;;
        ext) truncate -s 256k "$2/empty" && mke2fs -q -t ext4 -d Sources/SIF "$2/empty" 256k ;;
        layer) (cd Sources && tar -cf "$OLDPWD/$2/pax" --format=pax SIF && tar -cf "$OLDPWD/$2/gnu" --format=gnu Messages) ;;
        definition) find Tests/Fixtures/recipes -type f -exec cp {} "$2" \; ;;
        packages) for first in 3 4; do { printf "\\00$first"; printf 'Package: a\nStatus: install ok installed\nVersion: 1\n\nP:b\nV:2\n'; } > "$2/$first"; done ;;
    esac
}

status=0
for target in "$@"; do
    folder=.build/fuzz/$target
    [ -d "$folder" ] || { mkdir -p "$folder" && seeds "$target" "$folder"; }
    echo "== $target, $seconds s"
    SINGULARITY_FUZZ=$target "$program" "$folder" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=300000 \
        -artifact_prefix=".build/fuzz/$target-crash-" -print_final_stats=1 2> "$folder.log" || status=1
    grep -E "stat::number_of_executed_units|stat::new_units_added|SUMMARY" "$folder.log" || true
done
exit $status
