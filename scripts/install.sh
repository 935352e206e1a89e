#!/bin/sh
# Installs the program, its completions and its manual pages.
#   scripts/install.sh PREFIX
set -eu
cd "$(dirname "$0")/.."
prefix=${DESTDIR:-}$1
binary=.build/release/singularity
install -d "$prefix/bin" "$prefix/share/man/man1" "$prefix/share/bash-completion/completions" \
    "$prefix/share/zsh/site-functions" "$prefix/share/fish/vendor_completions.d"
strip -o "$prefix/bin/singularity.new" "$binary"
chmod 755 "$prefix/bin/singularity.new"
mv "$prefix/bin/singularity.new" "$prefix/bin/singularity"
install -D -m 644 packaging/apparmor/singularity "$prefix/share/singularity/apparmor-profile"
# The name that the first line of every SIF file asks for.
ln -sf singularity "$prefix/bin/run-singularity"
"$binary" man "$prefix/share/man/man1"
"$binary" completion bash > "$prefix/share/bash-completion/completions/singularity"
"$binary" completion zsh > "$prefix/share/zsh/site-functions/_singularity"
"$binary" completion fish > "$prefix/share/fish/vendor_completions.d/singularity.fish"
echo "installed in $prefix"
