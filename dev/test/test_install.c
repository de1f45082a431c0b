/* test_install.c - make install, install-libmuon, uninstall and dist: what is put where, with DESTDIR and without; that programs are
 * built with it by pkg-config's flags, in C99 and C++17, by every compiler that is here; that nothing stays; tarballs.
 */
#define _GNU_SOURCE
#include "shell.h"

#define ROOT "build/test/install"
#define BIN "${BUILD:-build}"
// What is built is there: neither the trainer nor the library is made anew. PREFIX is absolute, HERE in a shell command.
#define HERE "\"$PWD/" ROOT "\""
#define MAKE "make -s -o " BIN "/train_gpt -o ./train_gpt -o " BIN "/libmuon.so BUILD=" BIN " "

static const char tree[] =      // below PREFIX
    "bin/train_gpt\n" "include/muon/gemm.h\n" "include/muon/muon.h\n" "lib/libmuon.so\n" "lib/libmuon.so.1\n" "lib/libmuon.so.1.0.0\n"
    "lib/pkgconfig/muon.pc\n" "share/man/man1/train_gpt.1\n" "share/muon/installed.txt\n";

// Whether these are the files below a folder.
static void check_tree(const char *folder, const char *files) {
    put_text(ROOT "/expected", files);
    char *command = format("cd '%s' && find . ! -type d | sed 's,^./,,' | LC_ALL=C sort | diff - ../expected >&2", folder);
    CHECK(run(command) == 0);
    free(command);
}

TEST(installed_and_removed) {
    free(test_folder("install"));
    CHECK(run(MAKE "install PREFIX=" HERE "/usr | grep -q '^installed: libmuon trainer in .*/usr$'") == 0);
    check_tree(ROOT "/usr", tree);
    CHECK(run("cmp muon.h " ROOT "/usr/include/muon/muon.h && cmp src/gemm.h " ROOT "/usr/include/muon/gemm.h") == 0);
    CHECK(run("cd " ROOT "/usr/lib && test $(readlink libmuon.so) = libmuon.so.1 && test $(readlink libmuon.so.1) = libmuon.so.1.0.0 && "
              "readelf -d libmuon.so | grep -q 'SONAME.*\\[libmuon.so.1\\]'") == 0);
    CHECK(run(ROOT "/usr/bin/train_gpt --help | head -n 1 | grep -q '^usage: train_gpt CONFIG.json'") == 0);
    CHECK(run("umask 077 && " MAKE "install PREFIX=" HERE "/usr && test -z \"$(find " ROOT "/usr -type f ! -perm -444)\"") == 0);   // again
    check_tree(ROOT "/usr", tree);
    CHECK(run(MAKE "uninstall PREFIX=" HERE "/usr/ && test ! -e " ROOT "/usr") == 0);
}

// What was there before stays, folders that are empty too; and what others put beside it.
TEST(what_is_not_ours_stays) {
    free(test_folder("install"));
    CHECK(run("mkdir -p " ROOT "/usr/bin " ROOT "/usr/share/man && echo > " ROOT "/usr/share/other") == 0);
    CHECK(run(MAKE "install-libmuon PREFIX=" HERE "/usr && test ! -e " ROOT "/usr/bin/train_gpt && test ! -e " ROOT "/usr/share/man/man1") == 0);
    CHECK(run("echo > " ROOT "/usr/lib/other && " MAKE "uninstall PREFIX=" HERE "/usr") == 0);
    check_tree(ROOT "/usr", "lib/other\nshare/other\n");
    CHECK(run("test -d " ROOT "/usr/bin && test -d " ROOT "/usr/share/man && test ! -e " ROOT "/usr/include") == 0);
}

TEST(destdir_stands_in_front) {
    free(test_folder("install"));
    CHECK(run(MAKE "install DESTDIR=" HERE "'/a package' PREFIX=/opt/muon") == 0);
    CHECK(run("mv " ROOT "'/a package/opt/muon' " ROOT "/muon") == 0);
    check_tree(ROOT "/muon", tree);
    CHECK(run("mv " ROOT "/muon " ROOT "'/a package/opt/muon'") == 0);
    CHECK(run("grep -qx 'prefix=/opt/muon' " ROOT "'/a package/opt/muon/lib/pkgconfig/muon.pc'") == 0);
    CHECK(run("! grep -q package " ROOT "'/a package/opt/muon/share/muon/installed.txt'") == 0);
    CHECK(run("mv " ROOT "'/a package' " ROOT "/moved && " MAKE "uninstall DESTDIR=" HERE "/moved PREFIX=/opt/muon") == 0);
    CHECK(run("test -z \"$(ls -A " ROOT "/moved)\"") == 0);
}

TEST(what_cannot_be_installed_is_said_in_one_line) {
    free(test_folder("install"));
    CHECK_FAILS(shell, MAKE "install PREFIX='/tmp/a b' 2>&1 >/dev/null | grep -v '^make' >&2; exit 2", 2, "error: PREFIX=/tmp/a b: a folder whose name has no blanks and no quotes is expected");
    CHECK_FAILS(shell, MAKE "install PREFIX=usr 2>&1 >/dev/null | grep -v '^make' >&2; exit 2", 2, "error: PREFIX=usr: a folder from / on is expected");
    CHECK_FAILS(shell, MAKE "uninstall PREFIX=/nowhere 2>&1 >/dev/null | grep -v '^make' >&2; exit 2", 2, "error: /nowhere: nothing is installed there (no /nowhere/share/muon/installed.txt)");
    // a folder that may not be written to: nothing stays of what was put before that was found
    CHECK(run("mkdir -p " ROOT "/usr && chmod 777 " ROOT "/usr && mkdir -m 755 " ROOT "/usr/lib && chmod 755 . && mkdir -p " ROOT "/b && chmod 777 " ROOT "/b && "
              "cp " BIN "/libmuon.so " ROOT "/b/") == 0);
    CHECK_FAILS(shell_as_nobody, "PREFIX=" HERE "/usr BUILD=" ROOT "/b VERSION=1.0.0 dev/install.sh install libmuon", 1,
                "/usr/lib/libmuon.so.1.0.0: cannot be written: Permission denied; PREFIX=FOLDER names a folder that you may write to");
    check_tree(ROOT "/usr", "");
    CHECK(run("test ! -e " ROOT "/usr/include") == 0);
}

// ---------------------------------------------------------------------------------------------------------------------
// Programs

// The example of muon.h's head, which has the implementation in it; and a program that takes it from the library.
static void write_programs(void) {
    CHECK(run("sed -n '/^--- example.c begins ---$/,/^--- example.c ends ---$/p' muon.h | grep -v '^---' > " ROOT "/inlined.c") == 0);
    CHECK(run("sed 's/#define MUON_IMPLEMENTATION/#include <math.h>/' " ROOT "/inlined.c > " ROOT "/linked.c && "
              "cp " ROOT "/inlined.c " ROOT "/inlined.cc && cp " ROOT "/linked.c " ROOT "/linked.cc") == 0);
}

/* Builds and runs them with the compilers that are here, each at four levels, two at a time; prints how many. Flags are pkg-config's. */
static void check_programs(const char *environment, const char *c_compilers, const char *cxx_compilers, const char *programs) {
    char *command = format("cd " ROOT " && export %s && flags=$(pkg-config --cflags --libs muon) && export flags && "
        "{ for program in %s; do for level in 0 1 2 3; do "
        "    for compiler in %s; do command -v $compiler > found && echo $compiler -std=c99 -O$level $program.c; done; "
        "    for compiler in %s; do command -v $compiler > found && echo $compiler -std=c++17 -O$level $program.cc; done; "
        "done; done; :; } > list && test -s list && "
        "xargs -P 2 -I {} sh -c 'set -- {}; out=${1}_${2}_${3}_$4.out; "
        "    \"$@\" -Wall -Wextra -Werror -pedantic $flags -o ./$out && LD_LIBRARY_PATH=$lib ./$out | tail -n 1 > $out.txt && "
        "    grep -q \"^step 200  loss 0.00000\" $out.txt || { echo \"$@: $(cat $out.txt)\"; exit 255; }' < list >&2 && "
        "echo \"     $(wc -l < list) programs\"", environment, programs, c_compilers, cxx_compilers);
    CHECK(run(command) == 0);
    free(command);
}

TEST(programs_are_built_with_pkg_config) {
    free(test_folder("install"));
    if (run("pkg-config --version > " ROOT "/out") != 0) {
        puts("    skipped: no pkg-config");
        return;
    }
    write_programs();
    CHECK(run(MAKE "install-libmuon PREFIX=" HERE "/usr && " MAKE "install-libmuon DESTDIR=" HERE "/package PREFIX=/opt/muon") == 0);
    CHECK(run("test \"$(PKG_CONFIG_PATH=" ROOT "/usr/lib/pkgconfig pkg-config --modversion muon)\" = 1.0.0") == 0);
    if (run("! nm -D " BIN "/libmuon.so | grep -q __asan > " ROOT "/out") == 0) {
        check_programs("PKG_CONFIG_PATH=$PWD/usr/lib/pkgconfig lib=$PWD/usr/lib", "gcc clang", "g++ clang++", "linked");
        check_programs("PKG_CONFIG_PATH=$PWD/package/opt/muon/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$PWD/package "
                       "lib=$PWD/package/opt/muon/lib", "gcc", "g++", "inlined");
    } else {
        puts("    programs linked with a library under the sanitizers: skipped");
    }
    // the library for musl, which has no OpenMP
    CHECK(run("command -v musl-gcc > " ROOT "/out || exit 0; make -s libmuon CC=musl-gcc CFLAGS=-O1 BUILD=" ROOT "/musl && "
              "PREFIX=" HERE "/usr_musl BUILD=" ROOT "/musl VERSION=1.0.0 dev/install.sh install libmuon") == 0);
    if (file_exists(ROOT "/usr_musl"))
        check_programs("PKG_CONFIG_PATH=$PWD/usr_musl/lib/pkgconfig lib=$PWD/usr_musl/lib", "musl-gcc", "", "linked inlined");
}

// What man makes of it, without a warning; every key and flag is there.
TEST(the_manual_page_has_every_key) {
    free(test_folder("install"));
    CHECK(run(MAKE BIN "/train_gpt.1 && cp " BIN "/train_gpt.1 " ROOT "/train_gpt.1 && grep -qx '.SH EXIT STATUS' " ROOT "/train_gpt.1") == 0);
    CHECK(run("${TRAINER:-./train_gpt} --help | sed -n 's/^  \\(--[a-z][^ ]*\\) .*/\\1/p' > " ROOT "/keys && test $(wc -l < " ROOT "/keys) -gt 80 && "
              "sed -n 's/^\\.B //p' " ROOT "/train_gpt.1 | sed 's/\\\\-/-/g; s/\\\\e/\\\\/g' | grep -e '^--' | diff - " ROOT "/keys >&2") == 0);
    // keys stand in their sections, and a hyphen is one that can be copied
    CHECK(run("${TRAINER:-./train_gpt} --help | sed -n 's/^  --\\([a-z_]*\\)[.].*/\\1/p' | uniq > " ROOT "/sections && test $(wc -l < " ROOT "/sections) -gt 4 && "
              "sed -n 's/^[.]SS //p' " ROOT "/train_gpt.1 | diff - " ROOT "/sections >&2 && ! grep '^[.]B .*[^\\\\]-' " ROOT "/train_gpt.1 >&2") == 0);
    CHECK(run("command -v groff > " ROOT "/out || exit 0; groff -man -ww -Tascii " ROOT "/train_gpt.1 2>&1 > " ROOT "/out | sed 1q | grep . >&2; test $? = 1") == 0);
}

// ---------------------------------------------------------------------------------------------------------------------
// Tarballs

TEST(a_tarball_is_of_the_commit) {
    free(test_folder("install"));
    CHECK(run("mkdir -p " ROOT "/tree/dev && cp Makefile muon.h " ROOT "/tree/ && cp dev/*.sh " ROOT "/tree/dev/") == 0);
    CHECK_FAILS(shell, "make -s -C " ROOT "/tree dist 2>&1 >/dev/null | grep -v '^make' >&2; exit 1", 1, "error: make dist: the commit that becomes a tarball is expected here");
    if (run("git --version > " ROOT "/out") != 0) return;
    CHECK(run("cd " ROOT "/tree && git init -q . && git add . && git -c user.name=a -c user.email=b commit -qm x && "
              "make -s dist > out && test \"$(cat out)\" = build/muon.c-1.0.0.tar.gz && mv $(cat out) first && touch dev/*.sh && umask 077 && make -s dist > out && "
              "cmp first $(cat out)") == 0);
    CHECK(run("cd " ROOT "/tree && echo >> muon.h && make -s dist 2>&1 > out | grep -q '^warning: changes that are not committed' && cmp first $(cat out)") == 0);
    CHECK(run("cd " ROOT " && tar xzf tree/first && test \"$(cd muon.c-1.0.0 && ls -A)\" = \"$(cd tree && git ls-files | sed 's,/.*,,' | uniq)\" && "
              "test -x muon.c-1.0.0/dev/install.sh") == 0);
}

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    forget_make();
    RUN(installed_and_removed);
    RUN(what_is_not_ours_stays);
    RUN(destdir_stands_in_front);
    RUN(what_cannot_be_installed_is_said_in_one_line);
    RUN(programs_are_built_with_pkg_config);
    RUN(the_manual_page_has_every_key);
    RUN(a_tarball_is_of_the_commit);
    return tests_end();
}
