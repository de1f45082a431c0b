/* test_make.c - what stands between a user and the programs: the Makefile's variables, dev/setup.sh, commands that are
 * printed to be pasted, other folders for runs and builds.
 *
 * make runs here with programs of a line of shell in the place of the built ones (-o keeps it from building them).
 */
#define _GNU_SOURCE
#include "shell.h"

#define ROOT "build/test/test_make"
#define TRAINER "${TRAINER:-./train_gpt}"
#define SHARDS ROOT "/it costs $5"              // a folder of data that needs quotes
// A training of a second, by options: some are repeated by a test, and the last counts.
#define TINY "configs/gpt2.json --model.layers=1 --model.heads=2 --model.width=32 --model.context=16 --train.batch=2 " \
             "--train.steps=3 --train.eval_every=0 --train.eval_tokens=64 --train.final_eval_tokens=64 --schedule.kind=constant --schedule.warmup=0 "

TEST(words_are_quoted_where_a_shell_needs_it) {
    static const char *const words[] = {"runs/default", "", "my run", "it's", "$HOME", "a\\b", "~", "*", "a;b", "#", "\"", "x\ny",
                                        "runs/\xc3\xa9t\xc3\xa9", "'", "''"};
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        char *quoted = shell_quoted(words[i]), *command = format("printf '%%s' %s > " ROOT "/word", quoted);
        CHECK(run(command) == 0);
        CHECK_MSG(same_file(ROOT "/word", words[i], strlen(words[i])), "%s", quoted);
        free(quoted);
        free(command);
    }
    char *plain = shell_quoted("./train_gpt"), *key = shell_quoted("--run.dir=runs/a-b_2.json,x");
    CHECK(strcmp(plain, "./train_gpt") == 0 && strcmp(key, "--run.dir=runs/a-b_2.json,x") == 0);
    free(plain);
    free(key);
}

TEST(a_printed_command_can_be_pasted) {
    CHECK(run(TRAINER " " TINY "'--data.dir=" SHARDS "' '--run.dir=" ROOT "/it costs $5, really' > " ROOT "/out") == 0);
    CHECK(run("grep -F \"make sample RUN='" ROOT "/it costs \\$5, really'\" " ROOT "/out") == 0);
    // Interrupted, it names the command that goes on.
    CHECK(run("rm " ROOT "/out; " TRAINER " " TINY "--train.steps=1000000 '--data.dir=" SHARDS "' '--run.dir=" ROOT "/my run' > " ROOT "/out & p=$!; "
              "while ! grep -qs '^step ' " ROOT "/out && kill -0 $p; do sleep 0.05; done; kill $p; wait $p; [ $? = 130 ]") == 0);
    CHECK(run("command=$(sed -n 's/.*go on with: //p' " ROOT "/out); eval \"$command --train.steps=1\" 2>&1 | "
              "grep 'train.steps: 1, but the run is already at step'") == 0);
}

TEST(what_prepare_sh_says_can_be_pasted) {
    CHECK_FAILS(shell, "data/prepare.sh '" SHARDS "'", 2, "train on it by --data.dir='" SHARDS "'");
    CHECK(run("cp -r '" SHARDS "' " ROOT "/it\\'s && said=$(data/prepare.sh " ROOT "/it\\'s 2>&1); eval \"test ${said##*by } = "
              "\\\"--data.dir=" ROOT "/it's\\\"\"") == 0);
    CHECK_FAILS(shell, "cp -r '" SHARDS "' " ROOT "/shards; data/prepare.sh " ROOT "/shards", 2, "by --data.dir=" ROOT "/shards\n");
}

TEST(runs_go_where_RUNS_DIR_says) {
    CHECK(run("RUNS_DIR='" ROOT "/my runs' " TRAINER " " TINY "'--data.dir=" SHARDS "' > " ROOT "/out") == 0);
    CHECK(run("test -s '" ROOT "/my runs/'gpt2*/checkpoint.bin") == 0);
    CHECK(run("grep -F \"make sample RUN='" ROOT "/my runs/gpt2\" " ROOT "/out") == 0);
    CHECK_FAILS(shell_as_nobody, "RUNS_DIR=" ROOT "/locked/runs " TRAINER " " TINY "'--data.dir=" SHARDS "'", 1,
                "cannot be made: Permission denied; RUNS_DIR=FOLDER has runs elsewhere");
}

TEST(prepared_data_is_looked_for_in_DATA_ROOT) {
    CHECK(run("DATA_ROOT='" ROOT "' " TRAINER " " TINY "'--data.dir=build/data/it costs $5' --run.dir=" ROOT "/run > " ROOT "/out") == 0);
    CHECK(run("grep -F '\"dir\": \"" SHARDS "\"' " ROOT "/run/config.json") == 0);
    CHECK(run("DATA_ROOT='" ROOT "' " TRAINER " configs/gpt2.json --data.dir=mine --print-config | grep '\"dir\": \"mine\"'") == 0);
    CHECK(run(TRAINER " configs/gpt2.json --print-config | grep '\"dir\": \"build/data/kjv\"'") == 0);
}

// A program that writes its arguments to ROOT/arguments, a line each in brackets.
#define STUB "printf '#!/bin/sh\\nprintf \"[%%s]\\\\n\" \"$@\" > " ROOT "/arguments\\n' > "
#define BIN ROOT "/bin"
#define MAKE "make -s -o all -o data -o " BIN "/generate -o " BIN "/plot -o " BIN "/ab BUILD=" BIN " "

// Whether the program got these arguments.
static bool arguments_are(const char *expected) {
    bool same = same_file(ROOT "/arguments", expected, strlen(expected));
    if (!same) (void)!system("cat " ROOT "/arguments");
    remove(ROOT "/arguments");
    return same;
}

TEST(what_is_typed_on_makes_command_line_arrives) {
    CHECK(run(MAKE "sample RUN='my $HOME run' PROMPT='costs $5 at $HOME, $(CC) $$ `x` \"a\" \\ # it'\\''s' ARGS='--tokens=3 \"--seed=$((1 + 1))\"'") == 0);
    CHECK(arguments_are("[my $HOME run]\n[--prompt=costs $5 at $HOME, $(CC) $$ `x` \"a\" \\ # it's]\n[--tokens=3]\n[--seed=2]\n"));
    CHECK(run("PROMPT='  two $5\nlines' RUN=x " MAKE "sample") == 0);
    CHECK(arguments_are("[x]\n[--prompt=  two $5\nlines]\n"));
    CHECK(run(MAKE "sample RUN=x SEED=7") == 0);
    CHECK(arguments_are("[x]\n[--seed=7]\n"));
    CHECK(run(MAKE "train CONFIG='my $1 config.json' STEPS=10 SEED=3 ARGS='--run.dir=\"a b\"'") == 0);
    CHECK(arguments_are("[my $1 config.json]\n[--train.steps=10]\n[--run.seed=3]\n[--run.dir=a b]\n"));
    CHECK(run("mkdir -p '" ROOT "/a $1 b' && " MAKE "train CONFIG=x.json DATA='" ROOT "/a $1 b'") == 0);
    CHECK(run("grep '^\\[--data.dir=" BIN "/data/a__1_b[^ ]*\\]$' " ROOT "/arguments") == 0);
    CHECK(run(MAKE "train QUICK=1 && grep -- --train.batch=4 " ROOT "/arguments") == 0);
    CHECK(run(MAKE "train QUICK=0 SAN=0 V=0 && ! grep -- --train.batch=4 " ROOT "/arguments && QUICK= " MAKE "train") == 0);
    CHECK(arguments_are("[configs/default.json]\n"));
    CHECK(run(MAKE "sweep CONFIG='a b.json' GRID='a.b=$1,2 c.d=3' SEEDS='1 2' OUT='my $5' RANDOM=3 BUDGET=0.5 STEPS=7 ARGS=--extend") == 0);
    CHECK(arguments_are("[sweep]\n[a b.json]\n[--trainer=" BIN "/train_gpt]\n[--grid=a.b=$1,2 c.d=3]\n[--seeds=1 2]\n[--out=my $5]\n[--random=3]\n"
                        "[--budget=0.5]\n[--train.steps=7]\n[--extend]\n"));
}

TEST(lists_may_have_names_with_blanks) {
    CHECK(run(MAKE "plot RUNS='runs/a runs/b'") == 0);
    CHECK(arguments_are("[runs/a]\n[runs/b]\n"));
    CHECK(run(MAKE "plot RUNS=\"'runs/a b' runs/c\\\\ d\"") == 0);
    CHECK(arguments_are("[runs/a b]\n[runs/c d]\n"));
    CHECK_FAILS(shell, MAKE "plot RUNS=\"runs/a 'b\"", 2, "RUNS=runs/a 'b: words as a shell reads them expected, quotes in pairs");
    CHECK_FAILS(shell, MAKE "train ARGS='--run.dir=\"a b'", 2, "ARGS=--run.dir=\"a b: words as a shell reads them expected");
    CHECK(run("RUNS=\"it's\" " MAKE "-n train") == 0);          // not train's
    CHECK(run("mkdir -p \"" ROOT "/bob's run\" && " MAKE "plot RUNS=\"" ROOT "/bob's run\"") == 0);
    CHECK(arguments_are("[" ROOT "/bob's run]\n"));
    CHECK(run(MAKE "plot RUN='a $1 b' OUT='c d.png'") == 0);
    CHECK(arguments_are("[a $1 b]\n[--out=c d.png]\n"));
    CHECK(run(MAKE "ab A='my $1 a.json' B='label=b c.json,--train.batch=3'") == 0);
    CHECK(arguments_are("[my $1 a.json]\n[label=b c.json,--train.batch=3]\n[--trainer=" BIN "/train_gpt]\n[--seeds=1]\n"));
    CHECK(run(MAKE "ab CONFIGS=\"'a b.json' c.json,--train.batch=3\" SEEDS='1 2'") == 0);
    CHECK(arguments_are("[a b.json]\n[c.json,--train.batch=3]\n[--trainer=" BIN "/train_gpt]\n[--seeds=1 2]\n"));
}

TEST(sample_takes_the_last_run) {
    CHECK(run("mkdir -p '" ROOT "/r/a b' " ROOT "/r/c; touch -d yesterday " ROOT "/r/c/checkpoint.bin; touch '" ROOT "/r/a b/checkpoint.bin'") == 0);
    CHECK(run(MAKE "sample RUNS_DIR=" ROOT "/r") == 0);
    CHECK(arguments_are("[" ROOT "/r/a b]\n"));
    CHECK(run(MAKE "plot RUNS_DIR=" ROOT "/r") == 0);
    CHECK(arguments_are("[" ROOT "/r/a b]\n"));
    CHECK(run(MAKE "sample RUNS_DIR=" ROOT "/none 2>&1 | grep '^error: no run in " ROOT "/none yet: .make train. makes one'") == 0);
}

TEST(unknown_variables_are_named) {
    CHECK_FAILS(shell, MAKE "train STEP=10", 2, "STEP: make has no such variable; did you mean STEPS?");
    CHECK_FAILS(shell, MAKE "train steps=10", 2, "steps: make has no such variable; did you mean STEPS?");
    CHECK_FAILS(shell, MAKE "sample PROPMT=x", 2, "PROPMT: make has no such variable; did you mean PROMPT?");
    CHECK_FAILS(shell, MAKE "train LR=0.1", 2, "LR: make has no such variable; a key of the config goes into ARGS=\"--optimizer.muon.lr=...");
    CHECK_FAILS(shell, MAKE "train BATCH=4 STEPS=3", 2, "BATCH: make has no such variable; a key of the config goes into ARGS=\"--train.batch=...\"");
    CHECK_FAILS(shell, MAKE "train RUN='my run'", 2, "RUN: not used by make train, but by attention, eval, export, plot, sample, tensorboard; train names its folder by ARGS=\"--run.dir=FOLDER\"");
    CHECK_FAILS(shell, MAKE "data STEPS=3", 2, "STEPS: not used by make data, but by ab, sweep, train.  Stop.");
    CHECK_FAILS(shell, MAKE "NAME=batch", 2, "NAME: not used by make all, but by study.");
    CHECK_FAILS(shell, MAKE "ab TOKENIZER=bpe", 2, "TOKENIZER: not used by make ab, ");       // each config's own, but for DATA's
    CHECK(run(MAKE "ab DATA=" ROOT " TOKENIZER=bpe VOCAB=300 -n && " MAKE "-n ab C=c DOCUMENTS=lines QUICK=1 OUT=o && STEPS=3 " MAKE "-n data") == 0);
    CHECK(!file_exists(ROOT "/arguments"));
    CHECK_FAILS(shell, MAKE "plot RUN=a RUNS=b", 2, "RUN and RUNS: one of the two expected");
    CHECK_FAILS(shell, MAKE "fuzz RUNS=x", 2, "RUNS=x: the number of inputs expected");
    CHECK_FAILS(shell, MAKE "fuzz RUNS=-1", 2, "RUNS=-1: the number of inputs expected");
    CHECK(run(MAKE "-n -o " BIN "/libfuzzer fuzz RUNS= | grep -e '-runs=1000000 ' && " MAKE "-n -o " BIN "/libfuzzer fuzz RUNS=10 | grep -e '-runs=10 '") == 0);
    CHECK_FAILS(shell, MAKE "help RN=x", 2, "RN: make has no such variable; `make help` lists them");      // two letters are like any other two
    CHECK(run(MAKE "-n train AR=ar LD=ld CXXFLAGS=-O2 RANLIB=ranlib MAKEFLAGS=") == 0);                     // other makes' own
    CHECK(run("RUN=x " MAKE "train && " MAKE "-n train sample RUN=x && MAKELEVEL=1 " MAKE "-n train RUN=x") == 0);
    CHECK_FAILS(shell, MAKE "help BINDIR=/usr", 2, "BINDIR: make has no such variable; `make help` lists them");
    CHECK_FAILS(shell, MAKE "BUILD='a b'", 2, "BUILD=a b: a folder without blanks in its name expected");
    CHECK_FAILS(shell, MAKE "study NAME=batch DRAW=1", 2, "DRAW=1: batch has to be run for its picture; drawn from tables: duality, ");
    CHECK(run(MAKE "-n -o " BIN "/study_duality study NAME=duality DRAW=1 KEEP=1 | grep '" BIN "/study_duality \"$out\" draw'") == 0);
    CHECK(run(MAKE "-n -o " BIN "/study_duality study NAME=duality DRAW=0 KEEP=1 | grep run.sh") == 0);
    CHECK_FAILS(shell, MAKE "study NAME='batch qk-clip'", 2, "NAME=batch qk-clip: no such study");
    CHECK(run("MAKELEVEL=1 " MAKE "-n train BINDIR=/usr") == 0);         // another project's make passes its own on
    CHECK(run(MAKE "-n train OMP_NUM_THREADS=1 MARCH=-march=native CC=cc LDFLAGS= GEMM_ISA=avx2 ASAN_OPTIONS=x V=1") == 0);
}

// A copy of what the Makefile looks at, as a tarball has it; build/ is in this repository, which is not the tarball's.
#define TREE ROOT "/tree"

TEST(commits_are_the_projects_own) {
    CHECK(run("mkdir -p " TREE "/dev && cp -r Makefile muon.h train_gpt.c src data tools " TREE "/ && cp dev/*.* " TREE "/dev/") == 0);
    CHECK(run("make -s -C " TREE " build/commit.h && grep -x '#define MUON_C_COMMIT \"unknown\"' " TREE "/build/commit.h") == 0);
    if (run("git --version > " ROOT "/out") != 0) return;
    CHECK(run("cd " TREE " && git init -q . && git add Makefile train_gpt.c && git -c user.name=a -c user.email=b commit -qm x && "
              "make -s build/commit.h && grep -x \"#define MUON_C_COMMIT \\\"$(git rev-parse --short HEAD)\\\"\" build/commit.h") == 0);
    // by many at once: it is there as a whole or not at all
    CHECK(run("cd " TREE " && for i in 1 2 3 4; do rm build/commit.h; pids=; for j in 1 2 3; do make -s build/commit.h & pids=\"$pids $!\"; done; "
              "for p in $pids; do wait $p || exit 1; done; grep -q MUON_C_COMMIT build/commit.h || exit 1; done; test $(ls build | grep -c commit) = 1") == 0);
    CHECK(run("cd " TREE " && echo >> train_gpt.c && make -s build/commit.h && grep -- '-changed\"$' build/commit.h && "
              "rm -rf .git && make -s build/commit.h && grep '\"unknown\"' build/commit.h") == 0);
}

TEST(a_built_tree_may_be_read_only) {
    CHECK(run("rm -rf " TREE " && mkdir -p " TREE "/dev/golden " TREE "/build " ROOT "/open && chmod 777 " ROOT "/open && "
              "cp -r Makefile muon.h train_gpt.c src data tools " TREE "/ && cp dev/*.* " TREE "/dev/ && cp dev/golden/*.c " TREE "/dev/golden/ && "
              "echo '#define MUON_C_COMMIT \"abc\"' > " TREE "/build/commit.h && cd " TREE " && touch build/tokenize build/plot && "
              "printf '#!/bin/sh\\necho \"$@\" $RUNS_DIR' | tee build/model_tools > train_gpt && ln -s model_tools build/generate && "
              "chmod +x build/* train_gpt && chmod -R a-w .") == 0);
    CHECK(run_child(shell_as_nobody, (void *)(uintptr_t)"cd " TREE " && make && make sample RUN=r PROMPT=x | grep -x 'r --prompt=x runs' && "
              "make -o data train RUNS_DIR=" ROOT "/open | grep -x 'configs/default.json " ROOT "/open'", (char[1024]){0}, 1024) == 0);
    CHECK(same_file(TREE "/build/commit.h", "#define MUON_C_COMMIT \"abc\"\n", 28));
    // Nothing is built: what then helps is said, and helps.
    CHECK(run("chmod u+w " TREE " " TREE "/build && rm -rf " TREE "/build && chmod a-w " TREE) == 0);
    CHECK(run_child(shell_as_nobody, (void *)(uintptr_t)"make -C " TREE " build/commit.h 2>&1 | grep '^error: build cannot be written; make BUILD=FOLDER'",
                    (char[1024]){0}, 1024) == 0);
    CHECK(run_child(shell_as_nobody, (void *)(uintptr_t)"make -s -C " TREE " BUILD=../open/b ../open/b/commit.h && test -s " ROOT "/open/b/commit.h",
                    (char[1024]){0}, 1024) == 0);
    CHECK_FAILS(shell, "make -s clean BUILD=" ROOT "/open/b 2>&1 >&2 | grep -v '^make' >&2; exit 1", 1, "not the project's own folder: remove it yourself");
    CHECK(run("test -s " ROOT "/open/b/commit.h && chmod -R u+w " TREE) == 0);
}

// What -ffast-math allows: NaN taken for impossible, sums in another order, no denormals.
static const char *const FAST_C =
    "#include \"src/util.h\"\n"
    "int main(void) {\n"
    "    volatile float nan = NAN, tiny = 1e-40f, big = 1e8f, one = 1;\n"
    "    float sum = big; for (int i = 0; i < 4; i++) sum = (sum + one) - big + big;\n"
    "    return !(nan != nan && isnan(nan) && tiny * 0.5f > 0 && sum == big && 1 / -(one - 1) < 0);\n"
    "}\n";

TEST(make_takes_fast_math_back) {
    static const char *const compilers[] = {"gcc", "clang"};
    static const char *const flags[] = {"CFLAGS='-O3 -ffast-math'", "CFLAGS=-Ofast", "CFLAGS='-O2 -funsafe-math-optimizations -ffinite-math-only'",
                                        "CFLAGS='-O2 -fassociative-math -fno-signed-zeros -fno-trapping-math'", "CFLAGS=-O2 LDFLAGS=-ffast-math",
                                        "CFLAGS=-O2 CPPFLAGS=-Ofast", "CFLAGS=-O2 MARCH=-ffast-math"};
    put_text(ROOT "/fast.c", FAST_C);
    for (size_t c = 0; c < COUNT_OF(compilers); c++) {
        setenv("compiler", compilers[c], 1);
        const char *known = "command -v $compiler > " ROOT "/out";
        for (size_t f = 0; f < (c ? 3 : COUNT_OF(flags)) && system(known) == 0; f++) {
            setenv("flags", flags[f], 1);
            CHECK_MSG(run("eval \"make -s CC=$compiler $flags\" BUILD=" BIN " -B -o setup " BIN "/fast \"--eval='" BIN "/fast: " ROOT "/fast.c ; "
                          "\\$(call compile,-I. $<)'\" > " ROOT "/out 2>&1 && " BIN "/fast || { cat " ROOT "/out >&2; exit 1; }") == 0,
                      "%s %s", compilers[c], flags[f]);
        }
        // By hand it is refused.
        if (system(known) == 0)
            CHECK(run("$compiler -Ofast -I. " ROOT "/fast.c -o " BIN "/fast -lm 2>&1 | grep -q 'error.*NaN must be NaN'") == 0);
    }
}

// Where the compiler has no OpenMP, make builds with -fopenmp-simd, and without a warning.
TEST(programs_compile_without_openmp) {
    static const char *const compilers[] = {"gcc", "clang"};
    for (size_t c = 0; c < COUNT_OF(compilers); c++) {
        setenv("compiler", compilers[c], 1);
        if (system("command -v $compiler > " ROOT "/out") != 0) continue;
        CHECK_MSG(run("$compiler -std=gnu11 -Wall -Wextra -Wshadow -Werror -fopenmp-simd -fsyntax-only train_gpt.c tools/ab.c data/tokenize.c") == 0,
                  "%s", compilers[c]);
    }
}

/* dev/setup.sh, as a user who can install nothing: it must find by itself what is there. A compiler of several words that has its own
 * broken cJSON.h, which only the user's flags lead around, stands for a library in a folder of the user's. */
TEST(setup_looks_where_the_flags_say) {
    put_text(ROOT "/find.c", "#include <cjson/cJSON.h>\n");
    CHECK(run("mkdir -p " ROOT "/broken/cjson " ROOT "/good && echo '#error missing' > " ROOT "/broken/cjson/cJSON.h && "
              "ln -s \"$(dirname \"$(${CC:-cc} -M " ROOT "/find.c | grep -o '[^ ]*/cJSON.h')\")\" " ROOT "/good/cjson") == 0);
#define BROKEN "CC=\"env LC_ALL=C ${CC:-cc} -isystem " ROOT "/broken\" "
    char errors[1024];
    CHECK(run_child(shell_as_nobody, (void *)(uintptr_t)(BROKEN "dev/setup.sh build"), errors, sizeof errors) == 1);
    CHECK_MSG(strstr(errors, "libcjson-dev") && !strstr(errors, "zlib"), "%s", errors);
    CHECK(run_child(shell_as_nobody, (void *)(uintptr_t)(BROKEN "CPPFLAGS=-I" ROOT "/good dev/setup.sh build"), errors, sizeof errors) == 0);
    CHECK(run_child(shell_as_nobody, (void *)(uintptr_t)(BROKEN "CFLAGS='-O2 -I" ROOT "/good' dev/setup.sh build"), errors, sizeof errors) == 0);
    CHECK_FAILS(shell_as_nobody, "CC='no such compiler' dev/setup.sh build", 1, "CC=no such compiler: not a C compiler that works here");
    CHECK_FAILS(shell_as_nobody, "CFLAGS=-fno-such-flag dev/setup.sh build", 1, "-fno-such-flag: ");
}

// Of MPI's two libraries the common names, mpicc and mpirun, are one's: dev/setup.sh installs the other, and dev/ranks.sh starts nothing
// by it. Wrappers by both libraries' own names, which build nothing, hide those of this machine.
TEST(the_common_names_of_mpi_are_one_library) {
    static const struct { const char *is, *isnt, *header, *says; } cases[] = {
        {"openmpi", "mpich", "#define OPEN_MPI 1", "mpirun (OpenRTE) 4.1.4\nReport bugs to http://www.open-mpi.org/community/help/"},
        {"mpich", "openmpi", "#define MPICH 1", "HYDRA build details:"}};
#define WITH_MPI "PATH=" ROOT "/mpi:$PATH "
    char errors[1024];
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        setenv("header", cases[i].header, 1), setenv("says", cases[i].says, 1), setenv("is", cases[i].is, 1), setenv("isnt", cases[i].isnt, 1);
        CHECK(run("rm -rf " ROOT "/mpi && mkdir " ROOT "/mpi && cd " ROOT "/mpi && printf '#define MPI_VERSION 3\\n%s\\n' \"$header\" > mpi.h && "
                  "printf '#!/bin/sh\\nexec %s -I%s \"$@\"\\n' \"${CC:-cc}\" \"$PWD\" > mpicc && printf '#!/bin/sh\\necho \"%s\"\\n' \"$says\" > mpirun && "
                  "echo exit 1 | tee mpicc.openmpi mpicc.mpich mpirun.openmpi mpirun.mpich > /dev/null && chmod +x *") == 0);
        CHECK_MSG(run_child(shell_as_nobody, WITH_MPI "dev/setup.sh $is", errors, sizeof errors) == 0, "%s", errors);
        CHECK_FAILS(shell_as_nobody, WITH_MPI "dev/setup.sh $isnt", 1, cases[i].isnt);
        CHECK(run(WITH_MPI "; rm " ROOT "/mpi/mpirun.*; export PATH; command -v mpirun.$isnt > " ROOT "/out || dev/ranks.sh 2 $isnt ./train_gpt 2>&1 | "
                  "grep -x \"error: no mpirun of $isnt here; .dev/setup.sh $isnt. installs it\"") == 0);
    }
}

// Without the font of pictures, and with an apt-get that reaches nothing: a warning, once, from root; from others nothing.
TEST(a_missing_font_is_no_error) {
    CHECK(run("mkdir -p " ROOT "/apt " ROOT "/empty && printf '#!/bin/sh\\necho no network >&2\\nexit 100\\n' > " ROOT "/apt/apt-get && chmod +x " ROOT "/apt/apt-get") == 0);
    if (geteuid() != 0 || system("unshare -m true 2> " ROOT "/errors") != 0) return;
#define NO_FONT "unshare -m sh -c 'mount --bind " ROOT "/empty /usr/share/fonts && PATH=" ROOT "/apt:$PATH BUILD=" ROOT "/b "
    if (system("test -d /usr/share/fonts") != 0) return;
    CHECK(run(NO_FONT "dev/setup.sh build' 2>&1 | grep '^warning: apt-get could not install fonts-dejavu-core: pictures have the built-in font$'") == 0);
    CHECK(run("test -z \"$(" NO_FONT "dev/setup.sh build' 2>&1)\" && rm -r " ROOT "/b") == 0);
    CHECK(run(NO_FONT "dev/setup.sh build' > " ROOT "/out && rm -r " ROOT "/b") == 0);
    CHECK(run("test -z \"$(" NO_FONT "setpriv --reuid=65534 --clear-groups dev/setup.sh build 2>&1 || echo failed' 2>&1)\"") == 0);
}

TEST(studies_say_their_cost_and_leave_what_is_kept) {
    CHECK(run("make -s study > " ROOT "/out && test $(grep -c . " ROOT "/out) = $(ls dev/exp/*/run.sh | wc -l)") == 0);
    CHECK(run("test $(grep -cE '^  [a-z0-9-]+ +[0-9]+ min  .+' " ROOT "/out) = $(ls dev/exp/*/run.sh | wc -l)") == 0);
    CHECK(run("for s in $(cd dev/exp && grep -lE 'TRAINER|lab.sh' */run.sh); do make -n study NAME=${s%/*} BUILD=" ROOT "/fresh | "       // what trains
              "grep '^mkdir.*CC " ROOT "/fresh/train_gpt\"' || { echo ${s%/*}; exit 1; }; done") == 0);                             // needs the trainer
    CHECK(run("make -n study NAME=tail-memory MINUTES=3 2>&1 | grep 'MINUTES: not used by make study'") == 0);
#define STUDY "make -s -o setup --eval='study: override STUDY_NEEDS :=' BUILD=" BIN " study NAME=tail-memory -o " BIN "/study_tail-memory "
    CHECK(run(STUDY "| grep '^tail-memory: about 4 minutes; QUICK=1: one at most; results: " BIN "/study/tail-memory$'") == 0);
    CHECK(arguments_are("[" BIN "/study/tail-memory]\n"));
    CHECK(run(STUDY "QUICK=1 KEEP=1 > " ROOT "/out") == 0);
    CHECK(arguments_are("[" BIN "/study/tail-memory]\n[quick]\n"));
    CHECK(run(STUDY "KEEP=1 > " ROOT "/out") == 0);
    CHECK(arguments_are("[dev/exp/tail-memory]\n"));
    CHECK(run(STUDY "QUICK=0 KEEP=0 > " ROOT "/out") == 0);
    CHECK(arguments_are("[" BIN "/study/tail-memory]\n"));
    CHECK(run(STUDY "OUT='" ROOT "/my study' > " ROOT "/out") == 0);
    CHECK(arguments_are("[" ROOT "/my study]\n"));
}

// Every link of a page to a file of the project finds it, and so does every room of the README's tree.
TEST(pages_lead_somewhere) {
    static const char links[] =
        "for page in $(find . \\( -name build -o -name runs -o -name .git \\) -prune -o -name '*.md' -print); do "
        "grep -o '](\\([^)]*\\))' $page | sed 's/^](//; s/)$//; s/#.*//; /^$/d; /^http/d' | while read -r file; do "
        "test -e \"$(dirname $page)/$file\" || echo \"$page: $file\"; done; done > " ROOT "/lost";
    CHECK(run(links) == 0);
    CHECK(run("test ! -s " ROOT "/lost || { cat " ROOT "/lost; exit 1; }") == 0);
    CHECK(run("sed -n '/^## Read it/,/^## Use/p' README.md | grep -oE '^[a-z_]+(/[a-z_]+)*[./][a-z]*|; dev/[a-z]+/' | sed 's/^; //' > " ROOT "/rooms "
              "&& test $(grep -c . " ROOT "/rooms) -ge 12 && ls -d $(cat " ROOT "/rooms) > " ROOT "/out") == 0);
}

// docs/promises.md names tests that are there, and its every line one.
TEST(promises_are_held_by_tests) {
    CHECK(run("for t in $(grep '^|' docs/promises.md | sed 's/.*| \\(.*\\) |$/\\1/' | grep -oE '[a-z0-9]+(_[a-z0-9]+){2,}'); do "
              "grep -q \"^TEST($t)\" dev/test/*.c || { echo \"    $t\"; exit 1; }; done") == 0);
    CHECK(run("! grep '^| [A-Z]' docs/promises.md | grep -vE '(test_[a-z]+ [a-z]|faults.sh [a-z]|fuzz.c|the same).* \\|$'") == 0);
    CHECK(run("for p in kill ranks study data disk memory; do grep -q \"^test_$p()\" dev/test/faults.sh || exit 1; done") == 0);
}

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    forget_make();
    free(test_folder("test_make"));
    if (system(TOKENIZE " shards --out='" SHARDS "' data/README.md > /dev/null && mkdir -m 555 " ROOT "/locked") != 0)
        fail(TOKENIZE ": failed");
    if (system("mkdir -p " BIN " && " STUB BIN "/generate && chmod +x " BIN "/generate && for p in plot ab train_gpt study_tail-memory; do "
               "cp " BIN "/generate " BIN "/$p; done") != 0) fail(BIN ": cannot be made");
    RUN(words_are_quoted_where_a_shell_needs_it);
    RUN(a_printed_command_can_be_pasted);
    RUN(what_prepare_sh_says_can_be_pasted);
    RUN(runs_go_where_RUNS_DIR_says);
    RUN(prepared_data_is_looked_for_in_DATA_ROOT);
    RUN(what_is_typed_on_makes_command_line_arrives);
    RUN(lists_may_have_names_with_blanks);
    RUN(sample_takes_the_last_run);
    RUN(unknown_variables_are_named);
    RUN(commits_are_the_projects_own);
    RUN(a_built_tree_may_be_read_only);
    RUN(make_takes_fast_math_back);
    RUN(programs_compile_without_openmp);
    RUN(setup_looks_where_the_flags_say);
    RUN(the_common_names_of_mpi_are_one_library);
    RUN(a_missing_font_is_no_error);
    RUN(studies_say_their_cost_and_leave_what_is_kept);
    RUN(pages_lead_somewhere);
    RUN(promises_are_held_by_tests);
    return tests_end();
}
