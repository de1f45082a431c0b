/* shell.h - tests of the programs: shell commands as children, other users, a full disk; files to try them on. */
#ifndef SHELL_H
#define SHELL_H

#include "test.h"
#include <grp.h>
#include <sys/resource.h>

#define TOKENIZE "${BUILD:-build}/tokenize"

// Runs a shell command as a program with its stderr caught: CHECK_FAILS(shell, "tokenize ...", code, words).
static inline void shell(void *command) {
    execl("/bin/sh", "sh", "-c", (char *)command, (char *)NULL);
    _exit(127);
}

static inline int run(const char *command) {
    char errors[1024];
    int code = run_child(shell, (void *)(uintptr_t)command, errors, sizeof errors);
    if (code != 0) printf("    %s: exit code %d: %s\n", command, code, errors);
    return code;
}

// A make that a test calls is a user's: it gets nothing of the one that runs the tests, which passes its command line on.
static inline void forget_make(void) {
    static const char *const given[] = {"MAKEFLAGS", "MAKELEVEL", "RUNS_DIR", "RUN", "RUNS", "ARGS", "PROMPT", "DATA", "TOKENIZER", "CONFIG", "A", "B",
                                        "GRID", "OUT", "STEPS", "SEED", "SEEDS", "QUICK", "KEEP", "CC", "CFLAGS", "CPPFLAGS", "LDFLAGS", "LDLIBS",
                                        "VOCAB", "MARCH", "SAN", "V", "DATA_ROOT"};
    for (size_t i = 0; i < COUNT_OF(given); i++) unsetenv(given[i]);
}

// root reads everything: a test of permissions is another user.
static inline void become_nobody(void) {
    if (geteuid() == 0 && (setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0)) _exit(126);
}

static inline void shell_as_nobody(void *command) {
    become_nobody();
    shell(command);
}

// No file may grow beyond 100 kB: what a full disk looks like.
static inline void shell_on_full_disk(void *command) {
    struct rlimit limit = { 100000, 100000 };
    setrlimit(RLIMIT_FSIZE, &limit);
    shell(command);
}

static inline void put(const char *path, const void *bytes, size_t n) {
    if (write_file(path, bytes, n) != 0) fail("%s: %s", path, strerror(errno));
}

static inline void put_text(const char *path, const char *text) {
    put(path, text, strlen(text));
}

static inline bool same_file(const char *path, const void *bytes, size_t n) {
    size_t size = 0;
    char *file = read_file(path, &size);
    bool same = file && size == n && memcmp(file, bytes, n) == 0;
    free(file);
    return same;
}

#endif // SHELL_H
