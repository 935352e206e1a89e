# The part of bench.sh on signatures and encryption; it is sourced there.
echo; echo "signatures of an image of 2 GB, all in the page cache"
openssl ecparam -name prime256v1 -genkey -noout -out "$work/sign.pem" 2>/dev/null
openssl ec -in "$work/sign.pem" -pubout -out "$work/verify.pem" 2>/dev/null
openssl genrsa -traditional -out "$work/decrypt.pem" 2048 2>/dev/null
openssl rsa -in "$work/decrypt.pem" -RSAPublicKey_out -out "$work/encrypt.pem" 2>/dev/null
chmod 644 "$work"/*.pem
head -c 2000000000 /dev/urandom > "$work/payload"
"$singularity" sif new "$work/large.sif"
"$singularity" sif add --datatype 4 --parttype 2 --partfs 1 --partarch 2 --groupid 1 "$work/large.sif" "$work/payload"
rm "$work/payload"
cat "$work/large.sif" > /dev/null
best "openssl dgst -sha256 (one pass)" "" openssl dgst -sha256 "$work/large.sif"
best "sha256sum" "" sha256sum "$work/large.sif"
best "singularity sign --key" "" "$singularity" sign --key "$work/sign.pem" "$work/large.sif"
best "singularity verify --key" "" "$singularity" verify --key "$work/verify.pem" "$work/large.sif"
if [ -n "$apptainer" ]; then
    cp "$work/large.sif" "$work/sign.pem" "$work/verify.pem" "$peers/bench/"; chmod 666 "$peers/bench/large.sif"
    best "Apptainer verify --key" "" $apptainer verify --key /bench/verify.pem /bench/large.sif
    rm -f "$peers/bench/large.sif"
fi
rm "$work/large.sif"

echo; echo "exec --verify of a small image, milliseconds"
cp "$image" "$work/small.sif"; "$singularity" sign --key "$work/sign.pem" "$work/small.sif" 2>/dev/null
printf 'MZ\n' > "$work/true.txt"
mkdir -p "$work/tiny/bin" "$work/tiny/proc" "$work/tiny/sys" "$work/tiny/dev" "$work/tiny/tmp" "$work/tiny/etc" "$work/tiny/root" "$work/tiny/home" "$work/tiny/var/tmp"
cp /bin/busybox "$work/tiny/bin/busybox"; for name in sh true cat; do ln -sf busybox "$work/tiny/bin/$name"; done
"$singularity" build -F "$work/tiny.sif" "$work/tiny" >/dev/null 2>&1; chmod 755 "$work/tiny.sif"
"$singularity" sign --key "$work/sign.pem" "$work/tiny.sif" 2>/dev/null
keys=$work/keys; "$singularity" key newpair --keysdir "$keys" --name B --email b@example.org --bit-length 4096 --password "" >/dev/null 2>&1
cp "$work/tiny.sif" "$work/pgp.sif"; "$singularity" sif del "$("$singularity" sif list "$work/pgp.sif" | awk '/Signature/ { print $1 }')" "$work/pgp.sif"
"$singularity" sign --keysdir "$keys" "$work/pgp.sif" 2>/dev/null
[ -n "$as_user" ] && chown -R "$user" "$keys"
median "exec (1.1 MB)" 60 $as_user "$singularity" exec "$work/tiny.sif" true
median "exec --verify=KEY.pem" 60 $as_user "$singularity" exec --verify="$work/verify.pem" "$work/tiny.sif" true
median "exec --verify, OpenPGP, RSA 4096" 60 $as_user env SINGULARITY_KEYSDIR="$keys" "$singularity" exec --verify "$work/pgp.sif" true

echo; echo "encrypted image: making it, and reading every file through the mount; seconds"
best "singularity build, plain" "$work/plain.sif" "$singularity" build -F "$work/plain.sif" "$image"
best "singularity build --pem-path" "$work/secret.sif" "$singularity" build -F --pem-path "$work/encrypt.pem" "$work/secret.sif" "$image"
chmod 644 "$work/plain.sif" "$work/secret.sif"
for what in plain secret; do
    for _ in 1 2 3 4 5; do
        $as_user "$singularity" exec --private-mount --pem-path "$work/decrypt.pem" --contain --no-home -B "$work/read.sh:/opt/read.sh,$work/out:/opt/out" "$work/$what.sif" sh /opt/read.sh / /opt/out/list 2>/dev/null
    done | report "singularity, $what"
done
if [ -n "$apptainer" ]; then
    cp "$work/read.sh" "$work/secret.sif" "$work/decrypt.pem" "$work/encrypt.pem" "$work/plain.sif" "$peers/bench/"; chmod 644 "$peers"/bench/*.pem "$peers"/bench/*.sif
    best "Apptainer build --encrypt" "" $apptainer build -F --encrypt --pem-path /bench/encrypt.pem /bench/theirs.sif /bench/plain.sif
    for what in plain secret; do
        for _ in 1 2 3; do $apptainer exec -c --no-home --pem-path /bench/decrypt.pem -B /bench:/opt "/bench/$what.sif" sh /opt/read.sh / /opt/list 2>/dev/null; done | report "Apptainer, $what"
    done
fi
