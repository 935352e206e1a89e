#!/bin/sh
# Installs the Debian packages that a step needs and that are missing.
#   scripts/packages.sh build|demo|test|bench|peers
set -eu

build="g++ libzstd-dev liblz4-dev liblzma-dev libdeflate-dev liblzo2-dev libarchive-dev libbz2-dev zlib1g-dev libisal-dev libacl1-dev libisal2 libext2fs-dev libseccomp-dev libgcrypt20-dev librnp-dev libsqlite3-dev"
images="mmdebstrap busybox-static umoci skopeo docker-registry"
case "${1:-}" in
    build) wanted="$build" ;;
    demo) wanted="$build $images" ;;
    test) wanted="$build $images squashfs-tools squashfuse squashfs-tools-ng fuse3 fuse-overlayfs attr uidmap procps xz-utils bzip2 e2fsprogs python3 python3-venv slirp4netns passt containernetworking-plugins slurm-wlm munge openmpi-bin libopenmpi-dev openssl gnupg cryptsetup-bin python3-cryptography sshfs openssh-sftp-server runc rpm db-util dnf zypper createrepo-c pacman-package-manager makepkg libarchive-tools libnss-extrausers buildah" ;;
    bench) wanted="$build $images squashfs-tools squashfuse squashfs-tools-ng fuse3 bubblewrap time openssl busybox-static" ;;
    peers) wanted="mmdebstrap" ;;
    *) echo "usage: $0 build|demo|test|bench|peers" >&2; exit 2 ;;
esac

missing=""
for package in $wanted; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "These Debian packages are missing; install them as root and come back:" >&2
    echo "  apt-get install$missing" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# shellcheck disable=SC2086
apt-get -qq install --no-install-recommends -y $missing >/dev/null
