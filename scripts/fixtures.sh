#!/bin/sh
# Prepares what the integration tests use, and prints the variables that tell them.
#   scripts/fixtures.sh FOLDER
set -eu
cd "$(dirname "$0")/.."
folder=$1
port=$(( 20000 + $$ % 20000 ))
if [ "$(id -u)" -eq 0 ] || grep -q "^$(id -un):" /etc/subuid 2>/dev/null; then
    sh scripts/debian-image.sh "$folder/debian" python3-minimal >&2
else
    echo "SKIPPED: no Debian image: mmdebstrap needs root or a range in /etc/subuid for $(id -un)" >&2
fi
sh scripts/registry.sh start "$folder/registry" "$port" >&2
echo "SINGULARITY_TEST_REGISTRY=127.0.0.1:$port"
if [ -d "$folder/debian/layout" ]; then
    skopeo copy --quiet --dest-tls-verify=false "oci:$folder/debian/layout:latest" "docker://127.0.0.1:$port/debian:latest" >&2
fi
