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
#define TINY "configs/gpt2.json --model.layers=1 --model.heads=2 --model.width=32 --model.block=16 --train.batch=2 " \
             "--train.steps=3 --train.eval_every=0 --train.eval_tokens=64 --schedule.kind=constant --schedule.warmup=0 "

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

TEST(runs_go_where_RUNS_DIR_says) {
    CHECK(run("RUNS_DIR='" ROOT "/my runs' " TRAINER " " TINY "'--data.dir=" SHARDS "' > " ROOT "/out") == 0);
    CHECK(run("test -s '" ROOT "/my runs/'gpt2*/checkpoint.bin") == 0);
    CHECK(run("grep -F \"make sample RUN='" ROOT "/my runs/gpt2\" " ROOT "/out") == 0);
    CHECK_FAILS(shell_as_nobody, "RUNS_DIR=" ROOT "/locked " TRAINER " " TINY "'--data.dir=" SHARDS "'", 1,
                "cannot be made: Permission denied; RUNS_DIR=FOLDER has runs elsewhere");
}

TEST(prepared_data_is_looked_for_in_DATA_ROOT) {
    CHECK(run("DATA_ROOT='" ROOT "' " TRAINER " " TINY "'--data.dir=build/data/it costs $5' --run.dir=" ROOT "/run > " ROOT "/out") == 0);
    CHECK(run("grep -F '\"dir\": \"" SHARDS "\"' " ROOT "/run/config.json") == 0);
    CHECK(run("DATA_ROOT='" ROOT "' " TRAINER " configs/gpt2.json --data.dir=mine --print-config | grep '\"dir\": \"mine\"'") == 0);
    CHECK(run(TRAINER " configs/gpt2.json --print-config | grep '\"dir\": \"build/data/kjv\"'") == 0);
}

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    unsetenv("MAKEFLAGS");                      // of the make that runs the tests
    unsetenv("MAKELEVEL");
    unsetenv("RUNS_DIR");
    unsetenv("DATA_ROOT");
    free(test_folder("test_make"));
    if (system(TOKENIZE " shards --out='" SHARDS "' data/README.md > /dev/null && mkdir -m 755 " ROOT "/locked") != 0)
        fail(TOKENIZE ": failed");
    RUN(words_are_quoted_where_a_shell_needs_it);
    RUN(a_printed_command_can_be_pasted);
    RUN(runs_go_where_RUNS_DIR_says);
    RUN(prepared_data_is_looked_for_in_DATA_ROOT);
    return tests_end();
}
