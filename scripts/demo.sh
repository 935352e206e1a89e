#!/bin/sh
# The main job on real input: a Debian image from a registry becomes one file, and programs run in it.
set -eu
cd "$(dirname "$0")/.."
scripts=$PWD/scripts
singularity=$PWD/.build/release/singularity
work=$(mktemp -d "${TMPDIR:-/var/tmp}/singularity-demo.XXXXXX")
trap 'sh "$scripts/registry.sh" stop "$work" || true; rm -rf "$work"' EXIT INT TERM
port=$(( 20000 + $$ % 20000 ))
export SINGULARITY_CACHEDIR="$work/cache"

echo "== making a Debian image with mmdebstrap, and serving it from a registry on loopback"
sh scripts/debian-image.sh "$work" python3-minimal
sh scripts/registry.sh start "$work" "$port"
skopeo copy --quiet --dest-tls-verify=false "oci:$work/layout:latest" "docker://127.0.0.1:$port/debian:demo"

show() { echo; echo "\$ $*" | sed "s|$singularity|singularity|"; "$@"; }
cd "$work"
show "$singularity" build debian.sif "docker://127.0.0.1:$port/debian:demo"
ls -l debian.sif
show "$singularity" sif list debian.sif
show "$singularity" exec debian.sif cat /etc/os-release
show "$singularity" exec debian.sif python3 -c 'import sys; print("Python", sys.version.split()[0], "in the container")'
echo 'echo "hello from $SINGULARITY_NAME"' | show "$singularity" run debian.sif
show "$singularity" test debian.sif
cat > app.def <<'EOF'
Bootstrap: localimage
From: debian.sif

%environment
    export GREETING=hello
%post
    useradd --create-home worker
    echo "made by $(id -un)" > /home/worker/note; chown worker: /home/worker/note
%runscript
    echo "$GREETING, $(cat /home/worker/note)"
EOF
show "$singularity" build app.sif app.def
show "$singularity" run app.sif
echo
echo "== done"
