#!/bin/sh
# Makes a throw-away Debian sid root with the real Apptainer in it, to compare with.
#   scripts/peers.sh [FOLDER]     default: .build/peers
set -eu
cd "$(dirname "$0")/.."
folder=${1:-$PWD/.build/peers}
[ "$(id -u)" -eq 0 ] || { echo "make peers needs root: it uses the root file system with chroot" >&2; exit 1; }
if [ ! -x "$folder/usr/bin/apptainer" ]; then
    rm -rf "$folder"
    mmdebstrap --quiet --variant=minbase --include=apptainer,ca-certificates,squashfuse,fuse-overlayfs,fuse2fs,e2fsprogs,gocryptfs,uidmap,procps \
        --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Check-Valid-Until "false"' unstable "$folder"
    chroot "$folder" useradd -m -u 1000 peer
    echo "127.0.0.1 localhost" > "$folder/etc/hosts"
    ln -sf /usr/share/zoneinfo/UTC "$folder/etc/localtime"
    mkdir -p "$folder/bench"
    chmod 1777 "$folder/bench"
fi
echo "Apptainer: $(chroot "$folder" apptainer --version), in $folder"
echo "Use it: sh scripts/in-peers.sh $folder apptainer ... (files for it: $folder/bench, which it sees as /bench)"
