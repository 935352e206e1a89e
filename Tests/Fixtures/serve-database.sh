#!/bin/sh
# Runs a database server whose files are in /srv/database, as root's servants do where root starts it.
set -eu
folder=/srv/database
as=""
account() { if [ "$(id -u)" -eq 0 ] && chown "$1" "$folder" 2>/dev/null; then as="setpriv --reuid $1 --regid $1 --clear-groups"; fi; }
case $1 in
    postgres)
        bin=$(echo /usr/lib/postgresql/*/bin)
        account postgres
        [ -s "$folder/pg/PG_VERSION" ] || $as "$bin/initdb" -U postgres -D "$folder/pg" >/dev/null
        rm -f "$folder/pg/postmaster.pid"
        exec $as "$bin/postgres" -D "$folder/pg" -k "$folder" -c listen_addresses=
        ;;
    mariadb)
        account mysql
        options="--no-defaults --datadir=$folder/my"
        [ -d "$folder/my/mysql" ] || $as mariadb-install-db $options --auth-root-authentication-method=normal >/dev/null
        exec $as mariadbd $options --socket="$folder/socket" --pid-file="$folder/pid" --skip-networking --innodb-buffer-pool-size=32M
        ;;
esac
