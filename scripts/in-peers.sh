#!/bin/sh
# Runs a program as the account `peer` in a root made by `make peers`, in a mount namespace of its own: a chroot may not
# create user namespaces.
#   scripts/in-peers.sh FOLDER COMMAND...
set -eu
folder=$1
shift
[ "$(id -u)" -eq 0 ] || { echo "needs root" >&2; exit 1; }
exec unshare --mount --propagation slave sh -c '
    folder=$1; shift
    mount --bind "$folder" "$folder"
    for place in proc sys dev; do mount --rbind "/$place" "$folder/$place"; done
    cd "$folder"
    mkdir -p .old
    pivot_root . .old
    umount -l /.old
    cd /
    exec setpriv --reuid 1000 --regid 1000 --clear-groups env -i HOME=/home/peer PATH=/usr/bin:/bin:/usr/sbin:/sbin APPTAINER_TMPDIR=/bench "$@"
' sh "$folder" "$@"
