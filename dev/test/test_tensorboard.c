// test_tensorboard.c - tests of tools/tfevents.h and of the program tools/tensorboard.c, against the bytes that TensorBoard's own
// package wrote (dev/golden/check_tensorboard.py, which also has that package read ours).
#define _GNU_SOURCE
#include "../../tools/tfevents.h"
#include "shell.h"

#define TENSORBOARD "${BUILD:-build}/tensorboard "
#define ROOT "build/test/tensorboard"
#define EVENTS "/events.out.tfevents.muon"

// RFC 3720, B.4, and the check value of the catalogue of CRCs.
TEST(crcs_are_those_of_the_rfc) {
    unsigned char zeros[32] = { 0 }, ones[32], rising[32];
    for (int i = 0; i < 32; i++) ones[i] = 0xff, rising[i] = (unsigned char)i;
    CHECK(crc32c("123456789", 9) == 0xe3069283u && crc32c("", 0) == 0);
    CHECK(crc32c(zeros, 32) == 0x8a9136aau && crc32c(ones, 32) == 0x62a8ab43u && crc32c(rising, 32) == 0x46dd794eu);
}

TEST(bytes_are_those_of_tensorboard) {
    size_t size = 0;
    char *golden = read_file("dev/golden/tensorboard.golden", &size);
    CHECK(run("mkdir -p " ROOT "/run && cp dev/golden/tensorboard.jsonl " ROOT "/run/log.jsonl && touch -d @1700000000 " ROOT "/run/log.jsonl") == 0);
    CHECK(run(TENSORBOARD ROOT "/run") == 0 && same_file(ROOT "/run" EVENTS, golden, size));
    CHECK(run(TENSORBOARD ROOT "/run --out=" ROOT "/a/new\\ one") == 0 && same_file(ROOT "/a/new one" EVENTS, golden, size));
    CHECK(run(TENSORBOARD ROOT "/run") == 0 && same_file(ROOT "/run" EVENTS, golden, size));        // again, in its place
    free(golden);
}

// A file of nothing but its version is one that TensorBoard reads.
TEST(a_log_without_scalars_is_a_file_without) {
    CHECK(run("mkdir -p " ROOT "/empty && : > " ROOT "/empty/log.jsonl && " TENSORBOARD ROOT "/empty") == 0);
    struct stat st;
    CHECK(stat(ROOT "/empty" EVENTS, &st) == 0 && st.st_size == 12 + 24 + 4);       // of the event, wall time and version
}

TEST(bad_input_is_one_line) {
    CHECK_FAILS(shell, TENSORBOARD, 2, "no run given");
    CHECK_FAILS(shell, TENSORBOARD ROOT "/none", 1, ROOT "/none/log.jsonl: No such file or directory; expected a run's log");
    CHECK_FAILS(shell, TENSORBOARD ROOT "/run " ROOT "/run", 2, "one run expected");
    CHECK_FAILS(shell, TENSORBOARD "--x", 2, "--x: unknown option");
    CHECK(run("mkdir -p " ROOT "/bad && echo nonsense > " ROOT "/bad/log.jsonl") == 0);
    CHECK_FAILS(shell, TENSORBOARD ROOT "/bad", 1, ROOT "/bad/log.jsonl:1: not an event");
    CHECK(run("chmod 755 " ROOT "/run && mkdir -p " ROOT "/closed && chmod 555 " ROOT "/closed") == 0);
    CHECK_FAILS(shell_as_nobody, TENSORBOARD ROOT "/run --out=" ROOT "/closed", 1, ROOT "/closed" EVENTS ": cannot be written: Permission denied");
    CHECK(run("{ cat dev/golden/tensorboard.jsonl; for i in $(seq 1000); do sed -n '3,6p' dev/golden/tensorboard.jsonl; done; } > " ROOT "/run/log.jsonl") == 0);
    CHECK_FAILS(shell_on_full_disk, TENSORBOARD ROOT "/run --out=" ROOT "/full", 1, "cannot be written: File too large");
    CHECK(!file_exists(ROOT "/full" EVENTS) && !file_exists(ROOT "/full" EVENTS ".tmp"));
}

int main(int argc, char **argv) {
    if (argc > 1) tests_only = argv[1];
    free(test_folder("tensorboard"));
    RUN(crcs_are_those_of_the_rfc);
    RUN(bytes_are_those_of_tensorboard);
    RUN(a_log_without_scalars_is_a_file_without);
    RUN(bad_input_is_one_line);
    return tests_end();
}
