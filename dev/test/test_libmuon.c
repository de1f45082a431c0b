// test_libmuon.c - the shared library that `make libmuon` makes: this program is linked with it, and steps as one that has
// muon.h inlined (inlined.c) does, to the bit; it exports what muon.h declares and nothing else.
#ifdef INLINED
#include "../../src/gemm.h"
#define MUON_STATIC
#define MUON_GEMM gemm
#define MUON_GEMM_SYMMETRIC gemm_symmetric
#define MUON_IMPLEMENTATION
#define STEPS steps_inlined
#else
#include "test.h"
#define STEPS steps_linked
#endif
#include "../../muon.h"
#include <math.h>
#include <stdlib.h>

enum { FLOATS = 400000 };
int steps_inlined(float *w, float *g, float *state, int threads);

// Three steps of a table with every kind of work: matrices side by side and one that all threads share, heads, vectors.
// w, g: FLOATS each, g written; state: 3 * FLOATS. Returns the code of muon.h.
int STEPS(float *w, float *g, float *state, int threads) {
    MuonOptions options = muon_default_options(), even = options;
    even.axis = MUON_AXIS_LONGER;
    even.coefficients = muon_coefficients(MUON_COEFF_POLAR_EXPRESS);
    even.cautious = 1;
    const MuonParam params[] = {
        { "hidden", w, g, 3, 48, 40, 2000, MUON_RULE_MUON, 0.02, 0.1, NULL, { 0 } },
        { "shared", w + 6000, g + 6000, 1, 300, 400, 0, MUON_RULE_MUON, 0.02, 0.1, NULL, { 0 } },
        { "even", w + 126000, g + 126000, 1, 24, 64, 0, MUON_RULE_NORMUON, 0.01, 0.1, &even, { 0 } },
        { "heads", w + 128000, g + 128000, 1, 64, 32, 0, MUON_RULE_MUON, 0.02, 0.0, NULL, { 16 } },
        { "exact", w + 131000, g + 131000, 1, 12, 20, 0, MUON_RULE_SVD, 0.02, 0.0, NULL, { 0 } },
        { "half", w + 132000, g + 132000, 1, 20, 32, 0, MUON_RULE_MSGDS, 0.02, 0.0, NULL, { 0 } },
        { "table", w + 133000, g + 133000, 1, 700, 300, 0, MUON_RULE_ADAMW, 0.01, 0.1, NULL, { 0 } },
        { "bias", w + 399000, g + 399000, 1, 1, 999, 0, MUON_RULE_ADAM, 0.01, 0.1, NULL, { 0 } },
    };
    const int n = (int)(sizeof params / sizeof params[0]);
    Muon m;
    if (muon_state_bytes(params, n, &options) > 3 * FLOATS * sizeof *state) return -1;
    int code = muon_init(&m, params, n, &options, state);
    void *scratch = malloc((size_t)threads * muon_scratch_bytes(params, n, &options));
    for (int step = 0; step < 3 && code == MUON_OK; step++) {
        for (int i = 0; i < FLOATS; i++) g[i] = sinf((float)(i % 977) * 0.37f + (float)(i % 31 + step));
        code = muon_step(&m, 1.0 - 0.2 * step, 0.9, scratch, threads);
    }
    free(scratch);
    return code;
}

#ifndef INLINED
#ifdef _OPENMP
#include <omp.h>
#endif

TEST(linked_and_inlined_give_the_same_bits) {
    size_t all = 5 * FLOATS * sizeof(float);
    float *inlined = xmalloc(all), *linked = xmalloc(all);
    int most = 1;
#ifdef _OPENMP
    most = 3;
#endif
    memset(inlined, 0, all);
    CHECK(steps_inlined(inlined, inlined + FLOATS, inlined + 2 * FLOATS, 1) == MUON_OK);
    CHECK(inlined[0] != 0 && inlined[6000] != 0 && inlined[133000] != 0);
    for (int threads = 1; threads <= most; threads += 2) {
#ifdef _OPENMP
        omp_set_num_threads(threads);
#endif
        memset(linked, 0, all);
        CHECK(steps_linked(linked, linked + FLOATS, linked + 2 * FLOATS, threads) == MUON_OK);
        CHECK_MSG(memcmp(inlined, linked, all) == 0, "%d threads", threads);
    }
    free(inlined);
    free(linked);
}

// A shell command with $build, where the library is. Its output is what was found wrong: nothing is expected.
static void check_silent(const char *command) {
    char *line = format("build=${BUILD:-build}; exec 2>&1; %s", command), said[512];
    FILE *pipe = popen(line, "r");
    if (!pipe) fail("popen: %s", strerror(errno));
    size_t n = fread(said, 1, sizeof said - 1, pipe);
    said[n] = '\0';
    int status = pclose(pipe);
    CHECK_MSG(status == 0 && n == 0, "%s: exit code %d: %s", command, status, said);
    free(line);
}

TEST(exports_what_muon_h_declares_and_nothing_else) {
    free(test_folder("libmuon"));
    check_silent("sed -n 's/^MUONDEF [^(]*[ *]\\(muon_[a-z_0-9]*\\)(.*/\\1/p' muon.h | sort -u "
                 "> build/test/libmuon/declared.txt; "
                 "nm -D --defined-only $build/libmuon.so | sed 's/.* //' | sort > build/test/libmuon/exported.txt; "
                 "test $(wc -l < build/test/libmuon/declared.txt) -gt 30 || echo too few declarations were found; "
                 "diff build/test/libmuon/declared.txt build/test/libmuon/exported.txt");
}

TEST(is_named_by_its_version) {
    CHECK_MSG(!strcmp(muon_version(), MUON_VERSION), "%s", muon_version());
    char *name = format("libmuon.so.%d", atoi(MUON_VERSION)), *command;
    command = format("objdump -p $build/libmuon.so | grep -q 'SONAME *%s$' || echo the SONAME is not %s; "
                     "test $build/%s -ef $build/libmuon.so || echo $build/%s is not the library",
                     name, name, name, name);
    check_silent(command);
    free(command);
    free(name);
}

int main(int argc, char **argv) {
    if (argc > 1) tests_only = argv[1];
    RUN(linked_and_inlined_give_the_same_bits);
    RUN(exports_what_muon_h_declares_and_nothing_else);
    RUN(is_named_by_its_version);
    return tests_end();
}
#endif
