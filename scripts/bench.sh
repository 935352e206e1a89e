#!/bin/sh
# Measures this program beside the peers that are installed, in one run: wall and CPU seconds, peak memory, size.
# As root it measures as an ordinary account where the figure is about users without root.
#   BENCH_PEERS=folder   a root made by `make peers` (default .build/peers, used where it is there)
set -eu
cd "$(dirname "$0")/.."
repository=$PWD
singularity=$repository/.build/release/singularity
peers=$(readlink -f "${BENCH_PEERS:-$repository/.build/peers}" || true)
work=$(mktemp -d /var/tmp/singularity-bench.XXXXXX)
chmod 755 "$work"
port=$(( 20000 + $$ % 20000 ))
user=singbench$$
fuse_mode=""

cleanup() {
    sh "$repository/scripts/registry.sh" stop "$work/registry" 2>/dev/null || true
    umount "$work/ll" 2>/dev/null || true
    if [ "$(id -u)" -eq 0 ]; then
        # The keeper of a shared mount stays for some seconds.
        pkill -KILL -u "$user" 2>/dev/null || true
        for _ in 1 2 3 4 5; do userdel -r "$user" >/dev/null 2>&1 && break; sleep 0.2; done
    fi
    [ -n "$fuse_mode" ] && chmod "$fuse_mode" /dev/fuse
    rm -rf "$work"
}
trap cleanup EXIT INT TERM

as_user=""
if [ "$(id -u)" -eq 0 ]; then
    useradd -m "$user"
    as_user="setpriv --reuid $user --regid $user --init-groups env HOME=/home/$user"
    if [ -e /dev/fuse ]; then fuse_mode=$(stat -c %a /dev/fuse); chmod 0666 /dev/fuse; fi
fi
install -m 755 "$singularity" "$work/singularity"
singularity=$work/singularity

# once LABEL FILE COMMAND...: one line; FILE's size is printed where there is one.
once() {
    label=$1; file=$2; shift 2
    if /usr/bin/time -o "$work/time" -f '%e %U %S %M' "$@" >"$work/log" 2>&1; then
        size=""
        [ -n "$file" ] && [ -f "$file" ] && size=$(stat -c %s "$file")
        tail -1 "$work/time" | awk -v l="$label" -v s="$size" '{ printf "  %-44s %7.2f s wall %7.2f s CPU %7.0f MB peak", l, $1, $2 + $3, $4 / 1024; if (s) printf " %8.1f MB", s / 1e6; printf "\n" }'
    else
        printf '  %-44s failed: %s\n' "$label" "$(tail -1 "$work/log")"
    fi
}
# best LABEL FILE COMMAND...: the fastest of three.
best() {
    label=$1; file=$2; shift 2
    for _ in 1 2 3; do once "$label" "$file" "$@"; done | sort -k1,1 -k2n | awk '{ for (i = 1; i <= NF; i++) if ($i == "s") { if (!best || $(i - 1) < best) { best = $(i - 1); line = $0 }; break } if (/failed/ && !line) line = $0 } END { print line }'
}
# median LABEL RUNS COMMAND...: milliseconds.
median() {
    label=$1; runs=$2; shift 2
    i=0
    while [ $i -lt "$runs" ]; do
        start=$(date +%s%N); "$@" >/dev/null 2>&1; end=$(date +%s%N)
        echo $(( (end - start) / 1000 ))
        i=$((i + 1))
    done | sort -n | awk -v l="$label" '{ a[NR] = $1 } END { printf "  %-44s %7.2f ms median %7.2f ms least\n", l, a[int((NR + 1) / 2)] / 1000, a[1] / 1000 }'
}

echo "$(date +%F), $(nproc) processors, $(uname -r), $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2)"
sh scripts/debian-image.sh "$work/debian" python3-minimal,perl
sh scripts/registry.sh start "$work/registry" "$port"
skopeo copy --quiet --dest-tls-verify=false "oci:$work/debian/layout:latest" "docker://127.0.0.1:$port/debian:latest"
layer=$(stat -c '%s %n' "$work"/debian/layout/blobs/sha256/* | sort -n | tail -1 | cut -d' ' -f1)
echo "image: $(stat -c %s "$work/debian/rootfs.tar") bytes of tar, $layer bytes of gzip layer"

apptainer=""
if [ -x "$peers/usr/bin/apptainer" ] && [ "$(id -u)" -eq 0 ]; then
    mkdir -p "$peers/bench"; chmod 777 "$peers/bench"
    apptainer="sh $repository/scripts/in-peers.sh $peers apptainer"
fi

echo; echo "registry image to SIF, empty cache"
mkdir -p "$work/out"; chmod 777 "$work/out"
cat > "$work/ours.sh" <<EOF
rm -rf $work/out/cache $work/out/ours.sif
SINGULARITY_CACHEDIR=$work/out/cache $singularity build $work/out/ours.sif docker://127.0.0.1:$port/debian:latest
EOF
best "singularity (zstd)" "$work/out/ours.sif" $as_user sh "$work/ours.sh"
sed 's/ build / build --compression gzip /' "$work/ours.sh" > "$work/ours-gzip.sh"
best "singularity (gzip)" "$work/out/ours.sif" $as_user sh "$work/ours-gzip.sh"
$as_user sh "$work/ours.sh" >/dev/null 2>&1
if [ "$(id -u)" -eq 0 ]; then
    cat > "$work/tools.sh" <<EOF
rm -rf $work/tools; mkdir $work/tools
skopeo copy --quiet --src-tls-verify=false docker://127.0.0.1:$port/debian:latest oci:$work/tools/l:latest
umoci raw unpack --image $work/tools/l:latest $work/tools/r
mksquashfs $work/tools/r $work/tools/i.sqfs -comp gzip -quiet -no-progress
EOF
    once "skopeo + umoci + mksquashfs (gzip)" "$work/tools/i.sqfs" sh "$work/tools.sh"
    rm -rf "$work/tools"
fi
if [ -n "$apptainer" ]; then
    rm -rf "$peers/home/peer/.apptainer" "$peers/bench/a.sif"
    once "Apptainer (gzip)" "$peers/bench/a.sif" $apptainer build --no-https /bench/a.sif "docker://127.0.0.1:$port/debian:latest"
fi
echo "rebuild with a full cache"
cat > "$work/again.sh" <<EOF
SINGULARITY_CACHEDIR=$work/out/cache $singularity build -F $work/out/again.sif docker://127.0.0.1:$port/debian:latest
EOF
best "singularity (zstd)" "$work/out/again.sif" $as_user sh "$work/again.sh"
if [ -n "$apptainer" ]; then once "Apptainer (gzip)" "$peers/bench/a.sif" $apptainer build -F --no-https /bench/a.sif "docker://127.0.0.1:$port/debian:latest"; fi

echo; echo "memory: one layer, and ten times as much"
mkdir "$work/big"
(
    cd "$work/big"
    mkdir one; tar -C one --exclude='./dev/*' -xf ../debian/rootfs.tar 2>/dev/null || true
    for n in 1 10; do
        mkdir "l$n"
        i=0; while [ $i -lt $n ]; do tar -C one --transform "s|^\.|./copy$i|" -rf "l$n/layer.tar" .; i=$((i + 1)); done
        echo '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}' > "l$n/c.json"
        echo '[{"Config":"c.json","RepoTags":["big:latest"],"Layers":["layer.tar"]}]' > "l$n/manifest.json"
        tar -C "l$n" -cf "big$n.tar" manifest.json c.json layer.tar; rm -rf "l$n"
    done
)
for n in 1 10; do
    once "singularity, $(( $(stat -c %s "$work/big/big$n.tar") / 1000000 )) MB of tar" "$work/big/out.sif" "$singularity" build -F "$work/big/out.sif" "docker-archive:$work/big/big$n.tar"
done
tree=$work/big/one

echo; echo "SquashFS writing, the same tree and options"
for pair in "zstd 6" "gzip 6" "gzip 9" "lz4 1"; do
    set -- $pair
    best "singularity $1 $2" "$work/o.sqfs" "$singularity" build -F --compression "$1" --level "$2" "$work/o.sqfs" "$tree"
    level="-Xcompression-level $2"; [ "$1" = lz4 ] && level=""
    best "mksquashfs $1 $2" "$work/m.sqfs" sh -c "rm -f $work/m.sqfs; mksquashfs $tree $work/m.sqfs -comp $1 $level -quiet -no-progress"
done
if command -v tar2sqfs >/dev/null; then best "tar2sqfs zstd 6" "$work/t.sqfs" sh -c "tar2sqfs -f -q -c zstd -X level=6 $work/t.sqfs < $work/debian/rootfs.tar"; fi
rm -rf "$work/big"

echo; echo "definition file: From a local image, a one-line %post; nothing cached"
base=$work/out/ours.sif
chmod 644 "$base"
printf 'Bootstrap: localimage\nFrom: %s\n%%post\n    echo hello > /hello\n' "$base" > "$work/one.def"
cat > "$work/one.sh" <<EOF
rm -rf $work/out/cache-def; export SINGULARITY_CACHEDIR=$work/out/cache-def TMPDIR=$work/out
exec $singularity build -F --ignore-subuid $work/out/one.sif $work/one.def
EOF
best "singularity" "$work/out/one.sif" $as_user sh "$work/one.sh"
cat > "$work/one-again.sh" <<EOF
export SINGULARITY_CACHEDIR=$work/out/cache-def TMPDIR=$work/out
exec $singularity build -F --ignore-subuid $work/out/one.sif $work/one.def
EOF
best "singularity, unchanged" "$work/out/one.sif" $as_user sh "$work/one-again.sh"
if [ -n "$apptainer" ]; then
    cp "$base" "$peers/bench/base.sif"; chmod 644 "$peers/bench/base.sif"
    printf 'Bootstrap: localimage\nFrom: /bench/base.sif\n%%post\n    echo hello > /hello\n' > "$peers/bench/one.def"
    once "Apptainer (gzip)" "$peers/bench/one.sif" $apptainer build -F /bench/one.sif /bench/one.def
fi
"$singularity" build --sandbox "$work/large" "$base" >/dev/null 2>&1
for n in $(seq 18); do head -c 75000000 /dev/urandom | base64 -w 0 > "$work/large/opt/$n"; done
"$singularity" build --compression zstd --level 1 "$work/out/large.sqfs" "$work/large" >/dev/null 2>&1
rm -rf "$work/large"
sed "s|^From: .*|From: $work/out/large.sqfs|" "$work/one.def" > "$work/large.def"
sed "s|one.def|large.def|; s|one.sif|large.sif|" "$work/one.sh" > "$work/large.sh"
best "singularity, 2 GB" "$work/out/large.sif" $as_user sh "$work/large.sh"
rm -f "$work/out/large.sqfs"
mv "$work/out/large.sif" "$work/large-base.sif"

echo; echo "SIF to sandbox, and back (zstd where nothing else is said)"
n=0
for _ in 1 2 3; do
    # What was removed a moment ago makes ext4 slow to create: nothing is removed here.
    n=$((n + 1))
    once "singularity, to a sandbox" "" "$singularity" build --sandbox "$work/box$n" "$base"
    if command -v unsquashfs >/dev/null; then
        offset=$("$singularity" sif list "$base" | awk -F'|' '/Squashfs/ { split($4, a, "-"); gsub(/ /, "", a[1]); print a[1] }')
        once "unsquashfs" "" unsquashfs -q -n -d "$work/un$n" -o "$offset" "$base"
    fi
done
if [ -n "$apptainer" ]; then once "Apptainer, to a sandbox" "" $apptainer build -F --sandbox /bench/box /bench/base.sif; fi
best "singularity, the sandbox to SIF again" "$work/back.sif" "$singularity" build -F "$work/back.sif" "$work/box1"
cp -a "$work/box1" "$work/box"
best "singularity, another directory to SIF" "$work/back.sif" "$singularity" build -F "$work/back.sif" "$work/box"
best "mksquashfs zstd 6" "$work/m.sqfs" sh -c "rm -f $work/m.sqfs; mksquashfs $work/box1 $work/m.sqfs -comp zstd -Xcompression-level 6 -quiet -no-progress"
once "mksquashfs zstd, its default level 15" "$work/m.sqfs" sh -c "rm -f $work/m.sqfs; mksquashfs $work/box1 $work/m.sqfs -comp zstd -quiet -no-progress"
best "singularity, gzip 9" "$work/back.sif" "$singularity" build -F --compression gzip --level 9 "$work/back.sif" "$work/box1"
best "mksquashfs gzip 9" "$work/m.sqfs" sh -c "rm -f $work/m.sqfs; mksquashfs $work/box1 $work/m.sqfs -comp gzip -Xcompression-level 9 -quiet -no-progress"
if [ -n "$apptainer" ]; then once "Apptainer, sandbox to SIF (gzip)" "$peers/bench/back.sif" $apptainer build -F /bench/back.sif /bench/box; fi

echo; echo "exec image true, without root"
image=$work/out/ours.sif
chmod 644 "$image"
median "nothing but the account change" 50 $as_user true
median "singularity" 200 $as_user "$singularity" exec "$image" true
if command -v bwrap >/dev/null; then median "bwrap --bind / /" 50 $as_user bwrap --bind / / true; fi
if [ -n "$apptainer" ]; then
    cp "$image" "$peers/bench/ours.sif"; chmod 644 "$peers/bench/ours.sif"
    median "nothing but entering Apptainer's root" 15 sh scripts/in-peers.sh "$peers" true
    median "Apptainer, its own image" 15 $apptainer exec /bench/a.sif true
    median "Apptainer, this program's image" 15 $apptainer exec /bench/ours.sif true
fi

echo; echo "64 times exec image true at once, without root"
cat > "$work/atonce.sh" <<EOF
i=0; while [ \$i -lt \${COUNT:-64} ]; do "\$@" >/dev/null 2>&1 & i=\$((i + 1)); done; wait
EOF
chmod 644 "$work/atonce.sh"
for _ in 1 2 3; do
    start=$(date +%s%N); $as_user sh "$work/atonce.sh" "$singularity" exec "$image" true; end=$(date +%s%N)
    echo $(( (end - start) / 1000 ))
done | sort -n | head -1 | awk '{ printf "  %-44s %7.2f ms each\n", "singularity", $1 / 64000 }'
start=$(date +%s%N); $as_user sh "$work/atonce.sh" "$singularity" exec --private-mount "$image" true; end=$(date +%s%N)
echo $(( (end - start) / 1000 )) | awk '{ printf "  %-44s %7.2f ms each\n", "singularity --private-mount", $1 / 64000 }'
start=$(date +%s%N); COUNT=1000 $as_user sh "$work/atonce.sh" "$singularity" exec "$image" true; end=$(date +%s%N)
echo $(( (end - start) / 1000 )) | awk '{ printf "  %-44s %7.2f ms each\n", "singularity, 1000 at once", $1 / 1000000 }'
if [ -n "$apptainer" ]; then
    cp "$work/atonce.sh" "$peers/bench/atonce.sh"
    start=$(date +%s%N); sh scripts/in-peers.sh "$peers" sh /bench/atonce.sh apptainer exec /bench/a.sif true; end=$(date +%s%N)
    echo $(( (end - start) / 1000 )) | awk '{ printf "  %-44s %7.2f ms each\n", "Apptainer", $1 / 64000 }'
fi

echo; echo "instances, without root"
i=0
while [ $i -lt 30 ]; do
    start=$(date +%s%N); $as_user "$singularity" instance start "$image" bench >/dev/null 2>&1; ready=$(date +%s%N)
    $as_user "$singularity" exec instance://bench true; joined=$(date +%s%N)
    $as_user "$singularity" instance stop bench >/dev/null 2>&1; stopped=$(date +%s%N)
    echo $(( (ready - start) / 1000 )) $(( (joined - ready) / 1000 )) $(( (stopped - joined) / 1000 ))
    i=$((i + 1))
done | sort -n | awk '{ a[NR] = $1; b[NR] = $2; c[NR] = $3 } END { n = int((NR + 1) / 2); printf "  %-44s start %.2f ms, exec in it %.2f ms, stop %.2f ms (medians of the start)\n", "singularity", a[n] / 1000, b[n] / 1000, c[n] / 1000 }'

echo; echo "reading through the rootless mount, cold; seconds: find, every file once, once more"
cat > "$work/read.sh" <<'EOF'
t() { date +%s%N; }
a=$(t); find "$1" -xdev -type f -print0 > "$2" 2>/dev/null; b=$(t)
xargs -0 cat < "$2" > /dev/null 2>&1; c=$(t)
xargs -0 cat < "$2" > /dev/null 2>&1; d=$(t)
echo "$a $b $c $d"
EOF
chmod 644 "$work/read.sh"
report() { sort -k1n | awk -v l="$1" '{ f[NR] = ($2 - $1) / 1e9; r[NR] = ($3 - $2) / 1e9; w[NR] = ($4 - $3) / 1e9 } END { n = NR; for (i = 1; i <= n; i++) { if (!mf || f[i] < mf) mf = f[i]; if (!mr || r[i] < mr) mr = r[i]; if (!mw || w[i] < mw) mw = w[i]; sf += f[i]; sr += r[i] } printf "  %-44s find %.3f (mean %.3f)   read %.3f (mean %.3f)   again %.3f\n", l, mf, sf / n, mr, sr / n, mw }'; }
list=$work/out/list
for _ in 1 2 3 4 5; do
    $as_user "$singularity" exec --private-mount --contain --no-home -B "$work/read.sh:/opt/read.sh,$work/out:/opt/out" "$image" sh /opt/read.sh / /opt/out/list 2>/dev/null
done | report "singularity"
if command -v squashfuse_ll >/dev/null; then
    offset=$("$singularity" sif list "$image" | awk -F'|' '/\*System/ { split($4, a, "-"); print a[1] }')
    mkdir -p "$work/ll"; [ -n "$as_user" ] && chown "$user" "$work/ll"
    for _ in 1 2 3 4 5; do
        $as_user squashfuse_ll -o offset="$offset" "$image" "$work/ll" >/dev/null 2>&1
        for _ in $(seq 100); do grep -q " $work/ll " /proc/mounts && break; sleep 0.02; done
        $as_user sh "$work/read.sh" "$work/ll" "$list"
        umount "$work/ll" 2>/dev/null || $as_user fusermount3 -u "$work/ll"
    done | report "squashfuse_ll"
fi
if [ -n "$apptainer" ]; then
    for _ in 1 2 3; do $apptainer exec -c --no-home -B "/bench:/opt" /bench/ours.sif true >/dev/null 2>&1; cp "$work/read.sh" "$peers/bench/read.sh"; $apptainer exec -c --no-home -B /bench:/opt /bench/ours.sif sh /opt/read.sh / /opt/list 2>/dev/null; done | report "Apptainer, this program's image"
fi

if [ "$(id -u)" -eq 0 ]; then
    echo; echo "python3 -c 'import numpy', nothing in the page cache"
    printf 'Bootstrap: localimage\nFrom: %s\n%%post\n    apt-get -qq update\n    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends python3-numpy >/dev/null\n' "$image" > "$work/numpy.def"
    if SINGULARITY_CACHEDIR=$work/out/cache-def "$singularity" build -F "$work/numpy.sif" "$work/numpy.def" >"$work/log" 2>&1; then
        chmod 644 "$work/numpy.sif"
        "$singularity" build --sandbox "$work/numpy" "$work/numpy.sif" >/dev/null 2>&1
        chmod -R a+rX "$work/numpy"
        for what in numpy numpy.sif; do
            i=0
            while [ $i -lt 7 ]; do
                # The image's server of the run before has left.
                sleep 3.5; sync; echo 3 > /proc/sys/vm/drop_caches
                "$singularity" version >/dev/null; $as_user true
                start=$(date +%s%N); $as_user "$singularity" exec "$work/$what" python3 -c 'import numpy'; end=$(date +%s%N)
                echo $(( (end - start) / 1000 ))
                i=$((i + 1))
            done | sort -n | awk -v l="singularity, $what" '{ a[NR] = $1 } END { printf "  %-44s %7.1f ms median %7.1f ms least\n", l, a[int((NR + 1) / 2)] / 1000, a[1] / 1000 }'
        done
    else
        echo "  failed: $(tail -1 "$work/log")"
    fi
fi

. scripts/bench-data.sh
. scripts/bench-trust.sh
