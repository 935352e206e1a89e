#!/bin/sh
# Runs all tests, then fails when a mount, a loop device, a process or a temporary file is left behind.
set -eu
cd "$(dirname "$0")/.."
SINGULARITY_TEST_FOLDER=$(mktemp -d /var/tmp/singularity-test.XXXXXX)
export SINGULARITY_TEST_FOLDER
chmod 755 "$SINGULARITY_TEST_FOLDER"
cleanup() {
    sh scripts/registry.sh stop "$SINGULARITY_TEST_FOLDER/registry" 2>/dev/null || true
    sh scripts/slurm.sh stop "$SINGULARITY_TEST_FOLDER/slurm" 2>/dev/null || true
    if [ "$(id -u)" -eq 0 ]; then
        userdel -r "$SINGULARITY_TEST_USER" >/dev/null 2>&1 || true
        [ -n "${fuse_mode:-}" ] && chmod "$fuse_mode" /dev/fuse
        [ -n "${tun_mode:-}" ] && chmod "$tun_mode" /dev/net/tun
    fi
    rm -rf "$SINGULARITY_TEST_FOLDER"
}
trap cleanup EXIT INT TERM

# As root, an ordinary account does what ordinary users do, with /dev/fuse and /dev/net/tun as udev makes them on ordinary
# hosts.
SINGULARITY_TEST_USER=singtest$$
export SINGULARITY_TEST_USER
if [ "$(id -u)" -eq 0 ]; then
    useradd -m -s /bin/sh "$SINGULARITY_TEST_USER"
    [ -e /dev/fuse ] || mknod /dev/fuse c 10 229 2>/dev/null || true
    if [ -e /dev/fuse ]; then
        fuse_mode=$(stat -c %a /dev/fuse)
        chmod 0666 /dev/fuse
    fi
    if [ -e /dev/net/tun ]; then
        tun_mode=$(stat -c %a /dev/net/tun)
        chmod 0666 /dev/net/tun
    fi
else
    echo "SKIPPED: tests that need root (kernel mounts, other accounts)" >&2
fi
[ -w /dev/fuse ] && SINGULARITY_TEST_FUSE=1 || { SINGULARITY_TEST_FUSE=0; echo "SKIPPED: tests that need /dev/fuse" >&2; }
export SINGULARITY_TEST_FUSE
[ -w /dev/net/tun ] || echo "SKIPPED: tests of connected networks, which need /dev/net/tun" >&2

mounts() { awk '{print $2, $3}' /proc/self/mounts | sort; }
loops() { cat /sys/block/loop*/loop/backing_file 2>/dev/null | sort || true; }
files() { ls -A /tmp /var/tmp 2>/dev/null | grep -v "^singularity-test\." | sort; }
# Zombies that a lazy process 1 has not collected yet do nothing any more.
processes() { ps -eo stat=,args= | awk '$1 !~ /^Z/' | grep -E "singularity-fs|singularity-own|Singularity instance:|sinit|singularity-net|singularity-log|singularity-run|slirp4netns|slurmd |slurmctld |munged |slurmstepd|\.build/release/singularity |docker-registry serve" | grep -v grep || true; }

before=$(mounts; loops; files)
eval "export $(sh scripts/fixtures.sh "$SINGULARITY_TEST_FOLDER")"
SINGULARITY_TEST_SLURM=""
[ "$(id -u)" -eq 0 ] || echo "SKIPPED: tests of jobs of Slurm, which need root to start it" >&2
if [ "$(id -u)" -eq 0 ] && command -v slurmctld >/dev/null && command -v mpicc >/dev/null; then
    if sh scripts/slurm.sh start "$SINGULARITY_TEST_FOLDER/slurm" $(( 21000 + $$ % 8000 )); then
        SINGULARITY_TEST_SLURM=$SINGULARITY_TEST_FOLDER/slurm/slurm.conf
    else
        echo "SKIPPED: tests that need Slurm, which did not start" >&2
    fi
fi
export SINGULARITY_TEST_SLURM
SINGULARITY_TEST_CLIENTS=$SINGULARITY_TEST_FOLDER/clients
if ! sh scripts/clients.sh "$SINGULARITY_TEST_CLIENTS" >"$SINGULARITY_TEST_FOLDER/clients.log" 2>&1; then
    echo "SKIPPED: tests with workflow engines, which could not be installed: $(tail -1 "$SINGULARITY_TEST_FOLDER/clients.log")" >&2
    SINGULARITY_TEST_CLIENTS=""
fi
export SINGULARITY_TEST_CLIENTS
status=0
TMPDIR=$SINGULARITY_TEST_FOLDER swift test -c release --skip-build > "$SINGULARITY_TEST_FOLDER/log" 2>&1 || status=$?
grep -vE "^(◇|↳)|(Test|Suite) .* (passed|started)" "$SINGULARITY_TEST_FOLDER/log" || true
sh scripts/registry.sh stop "$SINGULARITY_TEST_FOLDER/registry"
sh scripts/slurm.sh stop "$SINGULARITY_TEST_FOLDER/slurm"
# A server ends a moment after its container.
for _ in $(seq 80); do [ -z "$(processes)" ] && break; sleep 0.1; done
after=$(mounts; loops; files)
if [ "$before" != "$after" ]; then
    echo "LEFT BEHIND (mounts, loop devices, files in /tmp or /var/tmp):" >&2
    printf '%s\n' "$before" > "$SINGULARITY_TEST_FOLDER/before"
    printf '%s\n' "$after" > "$SINGULARITY_TEST_FOLDER/after"
    diff "$SINGULARITY_TEST_FOLDER/before" "$SINGULARITY_TEST_FOLDER/after" >&2 || true
    status=1
fi
if [ -n "$(processes)" ]; then
    echo "LEFT BEHIND (processes):" >&2
    processes >&2
    status=1
fi
grep -E "Test run with .* (passed|failed)" "$SINGULARITY_TEST_FOLDER/log" | tail -1
exit $status
