#!/bin/sh
# Feeds the parsers what libFuzzer invents, each for a while, with the fixtures as a start.
#   scripts/fuzz.sh [SECONDS] [TARGET...]
# Inputs that bring something new are kept in .build/fuzz/TARGET, and finds in .build/fuzz/TARGET-crash-*.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- sif squashfs ext layer definition packages trust encryption
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
        # What the parsers get from an image, behind the number of the parser.
        trust)
            for file in Tests/Fixtures/*-pub.pem; do { printf '\004'; cat "$file"; } > "$2/$(basename "$file")"; done
            for file in Tests/Fixtures/*-key.pem; do { printf '\005'; cat "$file"; } > "$2/$(basename "$file")"; done
            { printf '\003'; cat Tests/Fixtures/pgp-public.bin; } > "$2/packets"
            { printf '\006'; printf 'images /opt signed by any of 9C3C1B1B23E755F72A55254249523201BBE9E817\nimages * refused\n'; } > "$2/policy"
            { printf '\000'; printf -- '-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{"version":1}\n-----BEGIN PGP SIGNATURE-----\n\nwsBz\n-----END PGP SIGNATURE-----\n'; } > "$2/clear"
            { printf '\001'; printf '{"payloadType":"application/vnd.sylabs.sif-metadata+json","payload":"e30=","signatures":[{"keyid":"SHA256:a","sig":"YQ=="}]}'; } > "$2/envelope"
            { printf '\002'; printf '{"version":1,"header":{"digest":"sha256:00"},"objects":[{"relativeId":0,"descriptorDigest":"sha256:00","objectDigest":"sha256:00"}]}'; } > "$2/metadata" ;;
        encryption)
            { printf '\000'; printf '{"Creator":"gocryptfs","EncryptedKey":"AAAA","ScryptObject":{"Salt":"AAAA","N":1024,"R":8,"P":1,"KeyLen":32},"Version":2,"FeatureFlags":["GCMIV128","HKDF"]}'; } > "$2/gocryptfs"
            truncate -s 16M "$2.luks" && printf 'phrase' | cryptsetup luksFormat --type luks2 --batch-mode --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --luks2-metadata-size 16k --luks2-keyslots-size 256k "$2.luks" -
            { printf '\001'; head -c 32768 "$2.luks"; } > "$2/luks"; rm -f "$2.luks"
            { printf '\002'; printf -- '-----BEGIN MESSAGE-----\nBAMBAgM=\n-----END MESSAGE-----\n'; } > "$2/message" ;;
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
