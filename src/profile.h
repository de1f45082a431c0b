/* profile.h - where a training step's time goes, per kind of pass, and how near each is to what the machine can do.
 *
 * defines: profile_start  from here on time counts
 *          profile_lap    all time since profile_start or the last lap was this kind of pass
 *          profile_stop   until the next profile_start nothing counts
 *          profile_row    the figures of one kind of pass, beside profile_peaks
 *          profile_print  the table of all
 * What is done to a piece of a product while it is in cache counts as part of it: biases, residuals, dropout of the
 * branches and activations forward in "linear, forward", the activations' gradients in "linear, dx".
 * It includes peaks.h. Only the thread that starts the parallel loops calls: a lap is the time of all threads together.
 */
#ifndef PROFILE_H
#define PROFILE_H

#include "peaks.h"           // defines: peak_find, peak_gflops, memory_floats, memory_triad

typedef enum {
    PASS_LINEAR_FORWARD, PASS_LINEAR_INPUT, PASS_LINEAR_WEIGHT, PASS_ATTENTION_FORWARD, PASS_ATTENTION_BACKWARD,
    PASS_NORM, PASS_EMBEDDING, PASS_POSITION, PASS_ACTIVATION, PASS_ROUTING, PASS_DROPOUT, PASS_LOSS, PASS_PACK, PASS_GRADIENT,
    PASS_OPTIMIZER, PASS_RANKS, PASS_DATA, PASSES
} Pass;

static const char *const profile_names[PASSES] = {
    "linear, forward", "linear, dx", "linear, dW", "attention, forward", "attention, backward", "norms",
    "embedding", "RoPE, QK-norm", "gated activation", "experts: route, gather", "dropout", "softmax and loss",
    "packing of weights", "gradients: zero, norm", "optimizer", "ranks", "data",
};

static struct { double seconds, flops, bytes; } profile[PASSES];
static double profile_since;             // start of the lap; 0: nothing counts
static int profile_starts;

static void profile_start(void) {
    profile_since = seconds_now();
    profile_starts++;
}

static void profile_stop(void) { profile_since = 0; }

// flops: multiplications and additions of matrix products; bytes: what must come from memory and go there at least
// once.
static void profile_lap(Pass pass, double flops, double bytes) {
    if (profile_since == 0) return;
    double now = seconds_now();
    profile[pass].seconds += now - profile_since;
    profile[pass].flops += flops;
    profile[pass].bytes += bytes;
    profile_since = now;
}

typedef struct { double gflops, gb; } ProfilePeaks;

// What the machine can do with all threads: multiply-adds of the kernels in use, and memory. Takes a second.
static ProfilePeaks profile_peaks(GemmPrecision precision) {
    enum { FLOATS = 1 << 24 };
    int threads = omp_get_max_threads();
    double gflops = peak_gflops(peak_find(gemm_isa(), gemm_emulated() ? GEMM_FP32 : precision), threads);
    float *a = memory_floats(FLOATS, threads), *b = memory_floats(FLOATS, threads), *c = memory_floats(FLOATS, threads);
    double gb = memory_triad(a, b, c, FLOATS, threads);
    free(a); free(b); free(c);
    return (ProfilePeaks){ gflops, gb };
}

typedef struct { double ms, share, gflops, gb, of_peak; } ProfileRow;

// One kind of pass: a step's ms, its share of the step, GFLOP/s and GB/s, and the larger of their shares of the peaks,
// which is how near it is to what bounds it; over 1: its data was still in a cache. ms 0: there was no such pass.
static ProfileRow profile_row(int pass, ProfilePeaks peak) {
    double s = profile[pass].seconds, total = 0.0;
    if (s == 0) return (ProfileRow){ 0 };
    for (int i = 0; i < PASSES; i++) total += profile[i].seconds;
    double gflops = 1e-9 * profile[pass].flops / s, gb = 1e-9 * profile[pass].bytes / s;
    return (ProfileRow){ 1e3 * s / profile_starts, s / total, gflops, gb, fmax(gflops / peak.gflops, gb / peak.gb) };
}

// Measures the peaks, then prints profile_row of every kind that there was.
static void profile_print(GemmPrecision precision) {
    ProfilePeaks peak = profile_peaks(precision);
    double ms = 0.0;
    for (int i = 0; i < PASSES; i++) ms += profile_row(i, peak).ms;
    printf("profile    %d steps of %.2f ms; peaks: %.0f GFLOP/s, %.0f GB/s (triad)\n"
           "           pass                          ms   share   GFLOP/s    GB/s   of peak\n",
           profile_starts, ms, peak.gflops, peak.gb);
    for (int i = 0; i < PASSES; i++) {
        ProfileRow row = profile_row(i, peak);
        if (row.ms == 0) continue;
        printf("           %-22s %9.3f  %5.1f %%  %8.1f  %6.1f  %6.0f %%\n", profile_names[i], row.ms,
               100 * row.share, row.gflops, row.gb, 100 * row.of_peak);
    }
}

#endif // PROFILE_H
