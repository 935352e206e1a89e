# A part of bench.sh: databases and small files in data containers, commits, attaching. Uses its variables and functions.

echo; echo "commit of 1 MB of changes to the 2 GB image"
cp "$work/large-base.sif" "$work/out/commit.sif"
[ -n "$as_user" ] && chown "$user" "$work/out/commit.sif"
$as_user "$singularity" overlay create "$work/out/commit.sif"
$as_user "$singularity" exec --writable --no-home "$work/out/commit.sif" sh -c 'head -c 1000000 /dev/urandom > /opt/change; rm -f /etc/motd'
# Removing the file of the run before takes as long again, and is not what is measured.
for _ in 1 2 3; do
    rm -f "$work/out/committed.sif"; sync
    once "singularity commit" "$work/out/committed.sif" $as_user "$singularity" commit "$work/out/commit.sif" "$work/out/committed.sif"
done | sort -k3n | head -1
rm -f "$work/out/commit.sif" "$work/out/committed.sif"

echo; echo "data containers of an instance that runs, without root"
$as_user "$singularity" data create "$work/out/attached.sif"
$as_user "$singularity" instance start "$image" bench >/dev/null 2>&1
i=0
while [ $i -lt 15 ]; do
    start=$(date +%s%N); $as_user "$singularity" data attach bench "$work/out/attached.sif:/mnt"; end=$(date +%s%N)
    $as_user "$singularity" data detach bench /mnt; gone=$(date +%s%N)
    echo $(( (end - start) / 1000 )) $(( (gone - end) / 1000 ))
    i=$((i + 1))
done | sort -n | awk '{ a[NR] = $1; b[NR] = $2 } END { n = int((NR + 1) / 2); printf "  %-44s attach %.2f ms, detach %.2f ms\n", "singularity", a[n] / 1000, b[n] / 1000 }'
$as_user "$singularity" instance stop bench >/dev/null 2>&1

echo; echo "10,000 files of 1 kB, made and removed; 512 MB written and synchronised; without root"
cat > "$work/small.py" <<'EOF2'
import os, sys, time
folder = sys.argv[1] + "/bench"
os.makedirs(folder)
start = time.time()
for i in range(10000):
    with open(f"{folder}/f{i}", "wb") as file:
        file.write(b"x" * 1000)
made = time.time()
block = b"y" * (1 << 20)
with open(folder + "/large", "wb") as file:
    for _ in range(512):
        file.write(block)
    os.fsync(file.fileno())
written = time.time()
for name in os.listdir(folder):
    os.unlink(folder + "/" + name)
removed = time.time()
print(f"made {10000 / (made - start):.0f}/s   written {512 / (written - made):.0f} MB/s   removed {10000 / (removed - written):.0f}/s")
EOF2
chmod 644 "$work/small.py"
line() { awk -v l="$1" '{ printf "  %-44s %s\n", l, $0 }'; }
$as_user "$singularity" exec --data "$work/out/attached.sif:/mnt" -B "$work/small.py:/opt/small.py" "$image" python3 /opt/small.py /mnt | line "singularity, data container"
printf 'phrase\n' > "$work/phrase"; chmod 644 "$work/phrase"
key="--passphrase-file $work/phrase"
$as_user "$singularity" data create $key "$work/out/encrypted.sif"
$as_user "$singularity" exec $key --data "$work/out/encrypted.sif:/mnt" -B "$work/small.py:/opt/small.py" "$image" python3 /opt/small.py /mnt | line "singularity, encrypted data container"
$as_user "$singularity" overlay create "$work/out/over.img"
$as_user "$singularity" exec --overlay "$work/out/over.img" -B "$work/small.py:/opt/small.py" "$image" python3 /opt/small.py /srv | line "singularity, overlay file"
mkdir -p "$work/out/plain"; [ -n "$as_user" ] && chown "$user" "$work/out/plain"
$as_user "$singularity" exec -B "$work/out/plain:/mnt" -B "$work/small.py:/opt/small.py" "$image" python3 /opt/small.py /mnt | line "a directory of the host"
if [ -n "$apptainer" ]; then
    cp "$work/small.py" "$peers/bench/small.py"; rm -f "$peers/bench/over.img"
    $apptainer overlay create --size 2048 /bench/over.img >/dev/null 2>&1
    $apptainer exec --overlay /bench/over.img -B /bench:/opt /bench/ours.sif python3 /opt/small.py /srv 2>/dev/null | line "Apptainer, overlay file (fuse2fs)"
    rm -f "$peers/bench/over.img"
fi

echo; echo "pgbench, 4 clients; transactions a second, the best of three"
printf 'Bootstrap: localimage\nFrom: %s\n%%post\n    apt-get -qq update\n    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends postgresql >/dev/null\n' "$image" > "$work/pg.def"
cat > "$work/pg.sh" <<'EOF2'
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
as=""
if [ "$(id -u)" -eq 0 ]; then chown postgres "$1"; as="setpriv --reuid postgres --regid postgres --clear-groups"; fi
[ -d "$1/pg" ] || $as initdb -U postgres -D "$1/pg" >/dev/null 2>&1
$as pg_ctl -D "$1/pg" -o "-k $1 -c listen_addresses=''" -l "$1/log" -w start >/dev/null
pgbench -U postgres -h "$1" -i -q -s 5 postgres >/dev/null 2>&1
pgbench -U postgres -h "$1" -c 4 -T 6 -n postgres 2>/dev/null | awk '/^tps/ { print $3 }'
$as pg_ctl -D "$1/pg" -m fast stop >/dev/null
rm -rf "$1/pg" "$1/log"
EOF2
chmod 644 "$work/pg.sh"
if SINGULARITY_CACHEDIR=$work/out/cache-def "$singularity" build -F "$work/pg.sif" "$work/pg.def" >"$work/log" 2>&1; then
    chmod 644 "$work/pg.sif"
    tps() { label=$1; shift; for _ in 1 2 3; do "$@" 2>/dev/null; done | sort -n | tail -1 | awk -v l="$label" '{ printf "  %-44s %7.0f\n", l, $1 }'; }
    run="-B $work/pg.sh:/opt/pg.sh"
    if [ "$(id -u)" -eq 0 ]; then
        mkdir -p "$work/rootdir"
        "$singularity" data create "$work/root.sif"
        tps "root, directory of the host" "$singularity" exec -B "$work/rootdir:/mnt" $run "$work/pg.sif" sh /opt/pg.sh /mnt
        tps "root, data container" "$singularity" exec --data "$work/root.sif:/mnt" $run "$work/pg.sif" sh /opt/pg.sh /mnt
    fi
    tps "without root, directory of the host" $as_user "$singularity" exec -B "$work/out/plain:/mnt" $run "$work/pg.sif" sh /opt/pg.sh /mnt
    tps "without root, data container" $as_user "$singularity" exec --data "$work/out/attached.sif:/mnt" $run "$work/pg.sif" sh /opt/pg.sh /mnt
    tps "without root, encrypted data container" $as_user "$singularity" exec $key --data "$work/out/encrypted.sif:/mnt" $run "$work/pg.sif" sh /opt/pg.sh /mnt
    tps "without root, overlay file" $as_user "$singularity" exec --overlay "$work/out/over.img" $run "$work/pg.sif" sh /opt/pg.sh /srv
    if [ -n "$apptainer" ]; then
        cp "$work/pg.sif" "$work/pg.sh" "$peers/bench/"
        $apptainer overlay create --size 2048 /bench/over.img >/dev/null 2>&1
        tps "Apptainer, overlay file (fuse2fs)" $apptainer exec --overlay /bench/over.img -B /bench:/opt /bench/pg.sif sh /opt/pg.sh /srv
        rm -f "$peers/bench/over.img" "$peers/bench/pg.sif"
    fi
else
    echo "  failed: $(tail -1 "$work/log")"
fi
