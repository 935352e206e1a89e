#!/bin/sh
# Makes an OCI layout with a small Debian in one layer.
#   scripts/debian-image.sh FOLDER [PACKAGES]     FOLDER/rootfs.tar, FOLDER/layout:latest
set -eu
folder=$1
mkdir -p "$folder"
suite=$(. /etc/os-release; echo "${VERSION_CODENAME:-stable}")
if [ ! -f "$folder/rootfs.tar" ]; then
    mode=""
    [ "$(id -u)" -eq 0 ] || mode="--mode=unshare"
    # shellcheck disable=SC2086
    mmdebstrap --quiet $mode --format=tar --variant=minbase ${2:+--include=$2} "$suite" "$folder/rootfs.tar.part"
    mv "$folder/rootfs.tar.part" "$folder/rootfs.tar"
fi
if [ ! -d "$folder/layout" ]; then
    umoci init --layout "$folder/layout.part"
    umoci new --image "$folder/layout.part:latest"
    umoci raw add-layer --image "$folder/layout.part:latest" "$folder/rootfs.tar"
    umoci config --image "$folder/layout.part:latest" --config.cmd bash --config.env "LC_ALL=C.UTF-8" --config.label "org.example.made=debian-image"
    umoci gc --layout "$folder/layout.part"
    mv "$folder/layout.part" "$folder/layout"
fi
