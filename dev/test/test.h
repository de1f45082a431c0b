/* test.h - the few macros every test program uses.
 *
 * A test is `TEST(name) { ... CHECK(x == 3); CHECK_MSG(e < 1e-5, "error %g", e); }`, run from main by RUN(name);
 * main ends with `return tests_end();`, whose last line is "N passed, N failed". A test fails with its first failed
 * check but goes on, so that one run shows everything that is wrong.
 * `./test_x WORD` runs only the tests whose name contains WORD, `./test_x 'WORD|WORD'` those with one of these words.
 */
#ifndef TEST_H
#define TEST_H

#include "../../src/util.h"
#include <sys/wait.h>

static int tests_passed, tests_failed, checks_failed;
static const char *tests_only;

#define TEST(name) static void name(void)

#define CHECK_MSG(condition, ...)                                                          \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            checks_failed++;                                                               \
            printf("    %s:%d: failed: %s: ", __FILE__, __LINE__, #condition);             \
            printf(__VA_ARGS__);                                                           \
            putchar('\n');                                                                 \
        }                                                                                  \
    } while (0)
#define CHECK(condition) CHECK_MSG(condition, "expected to hold")

#define RUN(name) run_test(#name, name)

// Whether one of the words of tests_only is in the name.
static inline bool test_is_meant(const char *name) {
    for (const char *word = tests_only; word; word = strchr(word, '|') ? strchr(word, '|') + 1 : NULL) {
        char only[128];
        snprintf(only, sizeof only, "%.*s", (int)strcspn(word, "|"), word);
        if (strstr(name, only)) return true;
    }
    return !tests_only;
}

static inline void run_test(const char *name, void (*test)(void)) {
    if (!test_is_meant(name)) return;
    double start = seconds_now();
    checks_failed = 0;
    test();
    printf("%s %s (%.2f s)\n", checks_failed ? "FAIL" : "ok  ", name, seconds_now() - start);
    fflush(stdout);
    if (checks_failed) tests_failed++;
    else tests_passed++;
}

static inline int tests_end(void) {
    printf("%d passed, %d failed\n", tests_passed, tests_failed);
    return tests_failed ? EXIT_FAILED : 0;
}

// For a program whose tests can't run here.
static inline int tests_skipped(const char *why) {
    printf("skipped: %s\n", why);
    tests_passed++;
    return tests_end();
}

// Runs fn(arg) in a child. Returns its exit code (128 + signal where one killed it); what it wrote to stderr goes to
// `errors`, so that a test can say which words the one line must have.
static inline int run_child(void (*fn)(void *), void *arg, char *errors, size_t room) {
    int ends[2];
    if (pipe(ends) != 0) fail("pipe: %s", strerror(errno));
    fflush(stdout);
    fflush(stderr);
    pid_t pid = fork();
    if (pid < 0) fail("fork: %s", strerror(errno));
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        int null = open("/dev/null", O_WRONLY);
        dup2(null, STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        fn(arg);
        fflush(NULL);
        _exit(0);
    }
    close(ends[1]);
    size_t n = 0;
    char chunk[512];
    for (ssize_t got; (got = read(ends[0], chunk, sizeof chunk)) > 0; )
        for (ssize_t i = 0; i < got; i++)
            if (n + 1 < room) errors[n++] = chunk[i];
    if (room) errors[n] = '\0';
    close(ends[0]);
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// One line on stderr, with these words in it, and this exit code: what bad input must get.
#define CHECK_FAILS(fn, arg, code, words)                                                                   \
    do {                                                                                                    \
        char errors_[1024];                                                                                 \
        int code_ = run_child(fn, arg, errors_, sizeof errors_);                                            \
        char *newline_ = strchr(errors_, '\n');                                                             \
        CHECK_MSG(code_ == (code), "exit code %d, stderr: %s", code_, errors_);                             \
        CHECK_MSG(strstr(errors_, words) != NULL, "no \"%s\" in: %s", words, errors_);                      \
        CHECK_MSG(newline_ && newline_[1] == '\0', "not one line: %s", errors_);                            \
    } while (0)

// Under the sanitizers a test of many numbers passes each path once and leaves the rest to the plain run, which takes seconds for it.
#ifdef __SANITIZE_ADDRESS__
enum { SANITIZED = true };
#else
enum { SANITIZED = false };
#endif

// Where a program's tests write: several programs run at a time, and those with the same files one after the other.
#ifndef TEST_ROOT
#define TEST_ROOT "build/test"
#endif

// A fresh folder under TEST_ROOT, emptied.
static inline char *test_folder(const char *name) {
    char *path = format(TEST_ROOT "/%s", name);
    char *command = format("rm -rf '%s'", path);
    if (system(command) != 0 || make_dirs(path) != 0) fail("%s: cannot be made: %s", path, strerror(errno));
    free(command);
    return path;
}

#endif // TEST_H
