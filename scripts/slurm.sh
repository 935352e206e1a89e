#!/bin/sh
# A Slurm cluster of one node on this machine, for tests: its own munge, controller and node daemon. Needs root.
#   scripts/slurm.sh start FOLDER PORT   afterwards SLURM_CONF=FOLDER/slurm.conf
#   scripts/slurm.sh stop FOLDER
set -eu
folder=$2
case $1 in
    start)
        port=$3
        mkdir -p "$folder/state" "$folder/spool"
        chmod 755 "$folder"
        dd if=/dev/urandom of="$folder/munge.key" bs=1024 count=1 2>/dev/null
        chmod 600 "$folder/munge.key"
        munged --force --key-file "$folder/munge.key" --socket "$folder/munge.socket" --pid-file "$folder/munge.pid" \
            --log-file "$folder/munge.log" --seed-file "$folder/munge.seed"
        host=$(hostname -s)
        cat > "$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
AuthInfo=socket=$folder/munge.socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=pmix
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=128 State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
        slurmctld -f "$folder/slurm.conf"
        slurmd -f "$folder/slurm.conf"
        export SLURM_CONF="$folder/slurm.conf"
        for _ in $(seq 100); do
            sinfo -h -o %T 2>/dev/null | grep -q idle && exit 0
            sleep 0.1
        done
        echo "the node of Slurm did not come up" >&2
        tail -3 "$folder"/*.log >&2
        exit 1
        ;;
    stop)
        for name in slurmd slurmctld munge; do
            [ -f "$folder/$name.pid" ] && kill "$(cat "$folder/$name.pid")" 2>/dev/null || true
        done
        for _ in $(seq 50); do
            pgrep -f "$folder/slurm.conf" >/dev/null || pgrep -f "$folder/munge" >/dev/null || break
            sleep 0.1
        done
        ;;
esac
