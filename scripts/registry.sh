#!/bin/sh
# Serves images from a registry on loopback, for the demonstration, the tests and the benchmarks.
#   scripts/registry.sh start FOLDER PORT     starts it, waits until it answers, writes FOLDER/registry.pid
#   scripts/registry.sh stop FOLDER
set -eu
folder=$2
case "$1" in
    start)
        mkdir -p "$folder/store"
        cat > "$folder/registry.yml" <<EOF
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $folder/store}}
http: {addr: "127.0.0.1:$3"}
EOF
        setsid docker-registry serve "$folder/registry.yml" </dev/null >"$folder/registry.log" 2>&1 &
        echo $! > "$folder/registry.pid"
        for _ in $(seq 100); do
            if grep -q "^ *[0-9]*: 0100007F:$(printf %04X "$3") 00000000:0000 0A" /proc/net/tcp; then exit 0; fi
            sleep 0.1
        done
        echo "the registry does not start; see $folder/registry.log" >&2
        exit 1
        ;;
    stop) [ -f "$folder/registry.pid" ] && kill "$(cat "$folder/registry.pid")" 2>/dev/null; rm -f "$folder/registry.pid" ;;
esac
