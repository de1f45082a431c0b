#!/usr/bin/env bash
# Starts a training on several ranks of this machine, and says how it ended: ranks.sh N openmpi|mpich PROGRAM ARGUMENTS...
#
# What it tells the launcher: bind no rank to cores (the program shares them out itself), start more ranks than there are cores
# where that is asked for, root may (a container's user is often root; Open MPI refuses that otherwise). For many machines call the
# launcher yourself (docs/ranks.md).
#
# Ctrl-C reaches the ranks as SIGUSR1, which both launchers only pass on: of an INT or TERM Open MPI makes a TERM and kills a second
# later, in the middle of a step. They end the step, save and end; a second Ctrl-C ends them at once.
#
# A launcher's exit code is not to be trusted: under MPICH a rank that just ends looks like success. Rank 0 leaves a word instead.
set -u
ranks=$1 library=$2
shift 2
case $ranks in
    *[!0-9]* | '' | 0*) echo "error: RANKS=$ranks: the number of ranks, at least 1, is expected" >&2; exit 2 ;;
esac
most=$((8 * $(getconf _NPROCESSORS_ONLN)))      # each takes memory of its own before it knows that it is one too many
if [ ${#ranks} -gt 6 ] || [ "$ranks" -gt $most ]; then
    echo "error: RANKS=$ranks: at most $most are expected on this machine, 8 for each of its cores" >&2
    exit 2
fi
launcher=mpirun.$library
command -v "$launcher" >/dev/null || launcher=mpirun
case $("$launcher" --version 2>/dev/null </dev/null) in *open-mpi.org*) is=openmpi ;; ?*) is=mpich ;; *) is= ;; esac
if [ "$is" != "$library" ]; then
    echo "error: no mpirun of $library here; \`dev/setup.sh $library\` installs it" >&2
    exit 1
fi
switches="-n $ranks"
if [ "$library" = openmpi ]; then
    # one copy more between processes of a machine: containers often forbid the direct one
    switches="-q $switches --bind-to none --oversubscribe --mca btl_vader_single_copy_mechanism none"
    [ "$(id -u)" -ne 0 ] || switches="$switches --allow-run-as-root"
fi
again="make train RANKS=$ranks"
[ "$library" = openmpi ] || again="$again MPI=$library"
[ "${BUILD:-build}" = build ] || again="$again BUILD=$BUILD"
MUON_RANKS_WORD=$(mktemp) || exit 1
export MUON_RANKS_WORD MUON_RANKS_AGAIN="$again"       # how rank 0 says that it ended, and what it says to go on with
trap 'rm -f "$MUON_RANKS_WORD"' EXIT
set -m                                   # a group of its own: what the terminal sends comes here alone
# shellcheck disable=SC2086 # words
"$launcher" $switches "$@" </dev/null &
pid=$!
asked=
end_at_once() {
    if [ "$library" = openmpi ]; then kill -TERM $pid; else kill -KILL -- -$pid; fi        # MPICH would pass a TERM on, which saves
}
ask() { [ -n "$asked" ] || kill -USR1 $pid; asked=1; }
trap 'if [ -n "$asked" ]; then end_at_once; else ask; fi' INT
trap ask TERM HUP                        # of these several come at once: from a terminal that closes and its shell, to a group and its leader
while wait $pid; status=$?; [ $status -gt 128 ] && kill -0 $pid 2>/dev/null; do :; done
code=$(sed -n 's/^ended //p' "$MUON_RANKS_WORD" | head -n 1)
[ -z "$code" ] || exit "$code"
run=$(sed -n 's/^run //p' "$MUON_RANKS_WORD" | head -n 1)
if [ -n "$run" ] && [ -e "$run/checkpoint.bin" ]; then
    case $run in *[!A-Za-z0-9_./-]*) name="'$run'" ;; *) name=$run ;; esac
    saved="saved before: $run/checkpoint.bin; go on with: $again ARGS=\"--run.dir=$name --resume\""
else
    saved="nothing was saved yet"
fi
if [ -n "$asked" ]; then
    echo "error: ended before it could save; $saved" >&2
    exit 130
fi
echo "error: a rank died, and all others with it (exit code $status of $launcher); $saved" >&2
exit 1
