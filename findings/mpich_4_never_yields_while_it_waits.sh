#!/bin/sh
# The guess: MPIR_CVAR_POLLS_BEFORE_YIELD, which MPICH's library lists among its variables ("a value of 0 disables yielding"), says
# how often a rank that waits looks for messages before it lets another process have the CPU, so that four ranks on two
# cores wait for each other about as well as under Open MPI.
#
# The truth: MPICH 4.3.2 reads the variable and never yields in its waiting: a rank keeps its CPU until the kernel takes it away, whatever
# the variable is. MPICH 5.0.2 yields.
#
# Why it matters: Debian 12 has MPICH 4.0.2, which is the same. With more ranks than cores each message costs slices of the scheduler's time: 300 sums
# of one number by 4 ranks on 2 cores took 3 seconds, and 0.3 where the program itself asks (MPI_Iallreduce, MPI_Test) and
# yields in between; with 5.0.2 they take less than 0.1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/sums.py" <<'PYTHON'
import ctypes
from array import array
from mpi4py import MPI

yields = ctypes.CDLL(None).yields
mine, sum = array("d", [1.0]), array("d", [0.0])
MPI.COMM_WORLD.Barrier()
before = yields()                         # starting up yields, too
for _ in range(300):
    MPI.COMM_WORLD.Allreduce(mine, sum)
all = MPI.COMM_WORLD.reduce(yields() - before)
if MPI.COMM_WORLD.rank == 0:
    print(all)
PYTHON
# In front of the C library's: counts.
cat > "$folder/count.c" <<'C'
#include <sys/syscall.h>
#include <unistd.h>
static long count;
long yields(void) { return count; }
int sched_yield(void) { count++; return (int)syscall(SYS_sched_yield); }
C
cc -shared -fPIC -O1 "$folder/count.c" -o "$folder/count.so"

# sums VERSION POLLS: how often four ranks yield in their sums, in all.
sums() {
    MPIR_CVAR_POLLS_BEFORE_YIELD=$2 LD_PRELOAD="$folder/count.so" "$folder/$1/bin/mpiexec" -n 4 "$folder/$1/bin/python" "$folder/sums.py"
}

for version in 4.3.2 5.0.2; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install -q --disable-pip-version-check "mpich==$version" mpi4py==4.1.2
    grep -qa MPIR_CVAR_POLLS_BEFORE_YIELD "$folder/$version"/lib/libmpi.so.*
done
old=$(sums 4.3.2 1) default=$(sums 4.3.2 1000) new=$(sums 5.0.2 1)
echo "yields in 300 sums by 4 ranks: MPICH 4.3.2 with the variable at 1: $old, at 1000: $default; 5.0.2 at 1: $new"
[ "$old" = 0 ] && [ "$default" = 0 ] && [ "$new" -gt 300 ]
