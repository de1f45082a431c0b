/* bench.c - measures this machine and the project on it.
 *
 *     build/bench [SECTION ...] [-q] [--json]                          `make bench`; no section named: all of them
 *     build/bench --step=6x384-b16 --precision=bf16                    one training step, for scripts: a line of JSON
 *     build/bench --step=4x128 --set=model.arch=llama --profile        of another config; where its time goes
 *     build/bench --product=forward,4096,1152,384 --precision=fp32     one matrix product, likewise
 *
 *     peaks      what the machine can do: multiply-adds, memory
 *     gemm       matrix products, beside OpenBLAS
 *     attention  in tiles, beside the plain loops
 *     train      training steps of nanoGPT's and GPT-2's sizes
 *     passes     where the time of some of them goes
 *     sockets    training steps of every architecture and optimizer
 *     growth     what longer sequences and larger vocabularies cost
 *     threads    one beside all
 *
 * How it measures. A figure is the median of repeats of at least 20 ms of work; peaks are the best of theirs. What is
 * compared takes turns within one loop, so that a machine that slows down (heat, neighbours) slows all of it.
 * Every instruction set's products and every model are measured in a process of their own, which this program starts
 * of itself: OpenBLAS chooses its kernels once, when it is loaded, and resident size is a process's.
 *
 * The tables are Markdown; a row appears as soon as it is measured, and on a terminal stderr says what is under way.
 */
#include "../../tools/gpt.h"
#include <dlfcn.h>
#include "table.h"

static const char *const isas[] = { "amx", "avx512", "avx2", "neon", "portable" };

// A file's name for this machine's results: words of the CPU's name, threads, instruction set: amd-epyc-2t-avx512.
static void print_name(void) {
    char cpu[96], *rest = NULL;
    machine_cpu("", cpu, sizeof cpu);
    cpu[strcspn(cpu, "@")] = '\0';                       // a clock rate
    for (char *word = strtok_r(cpu, " \t/", &rest); word; word = strtok_r(NULL, " \t/", &rest)) {
        if (!strcmp(word, "CPU") || !strcmp(word, "Processor") || strstr(word, "-Core")) continue;
        word[strcspn(word, "(")] = '\0';                 // (R), (TM)
        for (char *c = word; *c; c++) putchar(isalnum((unsigned char)*c) ? tolower((unsigned char)*c) : '-');
        if (*word) putchar('-');
    }
    printf("%dt-%s\n", omp_get_max_threads(), own_isa);
}

// ---------------------------------------------------------------------------------------------------------------------
// Section: peaks

static void bench_peaks(void) {
    int threads = omp_get_max_threads();
    char *title = format("%d threads", threads);
    Column columns[] = { { "what", "peak                               ", NULL }, { "unit", "unit    ", NULL },
                         { "one", "1 thread", "%.1f" }, { "all", title, "%.1f" } };
    say("\n## Peaks\n\n"
        "Chains of multiply-adds in registers (one is two operations), and memory: the sum of an array, and the triad\n"
        "a = b + s c, of which 3 x 4 bytes an element count.\n\n");
    Table table = table_start(columns, threads > 1 ? 4 : 3, "\"kind\": \"peak\"");
    for (size_t i = 0; i < COUNT_OF(peaks); i++) {
        if (!kernels_use(peaks[i].isa, peaks[i].precision)) continue;
        note("peak of %s", peaks[i].what);
        double one = peak_gflops(&peaks[i], 1), all = peak_gflops(&peaks[i], threads);
        table_text(&table, peaks[i].what);
        table_text(&table, "GFLOP/s");
        table_number(&table, one);
        if (threads > 1) table_number(&table, all);
    }
    // Far beyond the last cache, within the machine's memory.
    double l3 = cache_size(3),
           ram = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE),
           bytes = fmin(fmax(4 * l3, 256e6), ram / 16);
    size_t unit = (size_t)threads * 16, n = (size_t)(bytes / sizeof(float)) / unit * unit,
           quarter = (size_t)(l3 / 4 / sizeof(float)) / unit * unit;
    note("memory");
    float *a = memory_floats(n, threads), *b = memory_floats(n, threads), *c = memory_floats(n, threads);
    char *read_what = format("memory, read: %.0f MB", megabytes((double)n * sizeof *a)),
         *triad_what = format("memory, triad: 3 x %.0f MB", megabytes((double)n * sizeof *a)),
         *l3_what = format("L3, read: a quarter, %.0f MB", megabytes((double)quarter * sizeof *a));
    struct { const char *what; double one, all; } rows[] = {
        { read_what, memory_read(b, n, 1, 1), memory_read(b, n, 1, threads) },
        { triad_what, memory_triad(a, b, c, n, 1), memory_triad(a, b, c, n, threads) },
        { l3_what, NAN, NAN },
    };
    if (quarter > 0) {
        int passes = 1 + (int)(n / quarter);
        rows[2].one = memory_read(b, quarter, passes, 1);
        rows[2].all = memory_read(b, quarter, passes, threads);
    }
    for (size_t i = 0; i < (quarter > 0 ? 3 : 2); i++) {
        table_text(&table, rows[i].what);
        table_text(&table, "GB/s");
        table_number(&table, rows[i].one);
        if (threads > 1) table_number(&table, rows[i].all);
    }
    free(a); free(b); free(c);
    free(title); free(read_what); free(triad_what); free(l3_what);
}

// ---------------------------------------------------------------------------------------------------------------------
// OpenBLAS, where it is installed: the product that ours is compared with

static struct {
    void *library;
    void (*sgemm)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                  const float *b, int ldb, float beta, float *c, int ldc);
    void (*set_num_threads)(int n);
    char *(*get_corename)(void), *(*get_config)(void);
} openblas;

// Loads it with the kernels of this core, or NULL: those it picks by itself. Once in a process. False where it isn't.
static bool openblas_load(const char *core) {
    if (core) setenv("OPENBLAS_CORETYPE", core, 1);
    else unsetenv("OPENBLAS_CORETYPE");
    // Its threads wait for work busily, by default long enough to disturb ours after a change of turns: a tenth of a
    // second. 2^20 cycles, less than a millisecond, are still more than lies between two calls.
    setenv("OPENBLAS_THREAD_TIMEOUT", "20", 1);
    openblas.library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (!openblas.library) return false;
    *(void **)&openblas.sgemm = dlsym(openblas.library, "cblas_sgemm");
    *(void **)&openblas.set_num_threads = dlsym(openblas.library, "openblas_set_num_threads");
    *(void **)&openblas.get_corename = dlsym(openblas.library, "openblas_get_corename");
    *(void **)&openblas.get_config = dlsym(openblas.library, "openblas_get_config");
    return openblas.sgemm && openblas.set_num_threads && openblas.get_corename && openblas.get_config;
}

// The core whose kernels use the same instruction set as ours; NULL where OpenBLAS shall choose.
static const char *openblas_core(const char *isa) {
#if defined(__x86_64__)
    char cpu[96];
    if (!strcmp(isa, "avx512") || !strcmp(isa, "amx")) return "SKYLAKEX";
    if (!strcmp(isa, "avx2")) return strstr(machine_cpu("", cpu, sizeof cpu), "AMD") ? "ZEN" : "HASWELL";
    return "PRESCOTT";       // SSE3
#else
    (void)isa;
    return NULL;
#endif
}

// ---------------------------------------------------------------------------------------------------------------------
// Products: whoever computes them, in turns

typedef struct {
    const char *what;
    int width;               // C of the linear layer, or 0
    bool trans_a, trans_b;
    int m, n, k;             // (m x n) = op(A) (m x k) op(B) (k x n)
} Shape;

typedef struct { float *a, *b, *c; } Operands;

typedef void Multiply(const Shape *s, const float *a, const float *b, float *c);

static void product_ours(const Shape *s, const float *a, const float *b, float *c) {
    gemm(s->trans_a, s->trans_b, s->m, s->n, s->k, 1, a, (size_t)(s->trans_a ? s->m : s->k),
         b, (size_t)(s->trans_b ? s->k : s->n), 0, c, (size_t)s->n);
}

static void product_openblas(const Shape *s, const float *a, const float *b, float *c) {
    enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };      // cblas.h
    openblas.sgemm(ROW_MAJOR, s->trans_a ? TRANS : NO_TRANS, s->trans_b ? TRANS : NO_TRANS, s->m, s->n, s->k, 1,
                   a, s->trans_a ? s->m : s->k, b, s->trans_b ? s->k : s->n, 0, c, s->n);
}

// C = A A^T, by half of the products and by all of them.
static void product_symmetric(const Shape *s, const float *a, const float *b, float *c) {
    (void)b;
    gemm_symmetric(false, s->n, s->k, 1, a, (size_t)s->k, a, (size_t)s->k, 0, c, (size_t)s->n);
}
static void product_full(const Shape *s, const float *a, const float *b, float *c) {
    (void)b;
    gemm(false, true, s->n, s->n, s->k, 1, a, (size_t)s->k, a, (size_t)s->k, 0, c, (size_t)s->n);
}

static Operands operands_of(const Shape *s) {
    size_t m = (size_t)s->m, n = (size_t)s->n, k = (size_t)s->k;
    return (Operands){ random_floats(m * k, 1), random_floats(k * n, 2), random_floats(m * n, 3) };
}

static void operands_free(Operands *o) { free(o->a); free(o->b); free(o->c); }

// Seconds of this many calls.
static double block_seconds(Multiply *product, const Shape *s, const Operands *o, int calls) {
    double start = seconds_now();
    for (int i = 0; i < calls; i++) product(s, o->a, o->b, o->c);
    return seconds_now() - start;
}

// Lets n products of one shape take turns, in blocks of at least 20 ms, for so many seconds but at least some rounds;
// gflops[i] is the median of the i-th. Between two blocks the threads of the one before fall asleep, and a first call
// that doesn't count wakes those of the next. Returns the rounds.
static int take_turns(Multiply *const *products, int n, const Shape *s, double seconds, double *gflops) {
    enum { MOST_PRODUCTS = 2, MOST_ROUNDS = 64 };
    static const struct timespec five_ms = { 0, 5000000 };
    double each[MOST_PRODUCTS][MOST_ROUNDS], block = quick ? 0.02 : 0.03, flops = 2.0 * s->m * s->n * s->k;
    int calls[MOST_PRODUCTS], rounds = 0, least = quick ? 3 : 5;
    Operands o = operands_of(s);
    for (int i = 0; i < n; i++) {
        double took = block_seconds(products[i], s, &o, 1);
        for (calls[i] = 1; (took = block_seconds(products[i], s, &o, calls[i])) < block / 4; calls[i] *= 2) {}
        calls[i] = (int)ceil(calls[i] * fmax(1, block / took));
    }
    double start = seconds_now();
    for (; rounds < MOST_ROUNDS && (rounds < least || seconds_now() - start < seconds); rounds++)
        for (int i = 0; i < n; i++) {
            if (n > 1) nanosleep(&five_ms, NULL);
            if (calls[i] > 1) block_seconds(products[i], s, &o, 1);
            double took = block_seconds(products[i], s, &o, calls[i]);
            each[i][rounds] = 1e-9 * flops * calls[i] / took;
        }
    for (int i = 0; i < n; i++) gflops[i] = median_of(each[i], rounds);
    operands_free(&o);
    return rounds;
}

// ---------------------------------------------------------------------------------------------------------------------
// Section: gemm. One table per instruction set and precision, each from a process of its own.

enum { MOST_SHAPES = 64 };

// Squares; the three products of linear layers, N tokens x C times C x OC.
static int shapes_of_gpt(Shape *shapes) {
    static const int squares[] = { 384, 768, 1536 };
    static const struct { int width, out, tokens; } layers[] = {
        { 128,  384,   768 }, { 128,  512,  4096 },
        { 384,  384,  4096 }, { 384, 1152,  4096 }, { 384, 1536,  4096 },
        { 384,  384, 16384 }, { 384, 1152, 16384 }, { 384, 1536, 16384 },
        { 768,  768,  1024 }, { 768, 2304,  1024 }, { 768, 3072,  1024 },
        { 768,  768,  4096 }, { 768, 2304,  4096 }, { 768, 3072,  4096 },
    };
    int n = 0;
    for (size_t i = 0; i < COUNT_OF(squares); i++)
        shapes[n++] = (Shape){ "square", 0, false, false, squares[i], squares[i], squares[i] };
    for (size_t i = 0; i < COUNT_OF(layers); i++) {
        int C = layers[i].width, OC = layers[i].out, N = layers[i].tokens;
        if (quick && (N == 16384 || (C == 768 && N == 4096))) continue;
        shapes[n++] = (Shape){ "forward", C, false, true, N, OC, C };     // x W^T
        shapes[n++] = (Shape){ "dX", C, false, false, N, C, OC };         // dout W
        shapes[n++] = (Shape){ "dW", C, true, false, OC, C, N };          // dout^T x
    }
    return n;
}

// C = A A^T as the Newton-Schulz iteration has it, beside the product that doesn't know of the symmetry.
static void bench_symmetric(const char *context) {
    static const Column columns[] = { { "n", "C = A A': n", "%.0f" }, { "k", "    k", "%.0f" },
                                      { "gflops", "all of C, GFLOP/s", "%.1f" },
                                      { "time_ratio", "one triangle: time", "%.2f x" } };
    static const int sizes[][2] = { { 128, 512 }, { 384, 1536 }, { 768, 768 }, { 768, 3072 } };
    char *line = format("\"kind\": \"symmetric\", %s", context);
    say("\n");
    Table table = table_start(columns, COUNT_OF(columns), line);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        Shape s = { "symmetric", 0, false, true, sizes[i][0], sizes[i][0], sizes[i][1] };
        double gflops[2];
        take_turns((Multiply *[]){ product_full, product_symmetric }, 2, &s, quick ? 0.1 : 0.5, gflops);
        table_number(&table, s.n);
        table_number(&table, s.k);
        table_number(&table, gflops[0]);
        table_number(&table, gflops[0] / gflops[1]);
    }
    free(line);
}

// The table of one instruction set and precision. OpenBLAS of Debian has no bf16: fp32 only is compared.
static void bench_table(const char *isa, GemmPrecision precision) {
    static const Column columns[] = {
        { "shape", "product      ", NULL }, { "m", "    m", "%.0f" }, { "n", "    n", "%.0f" },
        { "k", "    k", "%.0f" }, { "gflops", "GFLOP/s", "%.1f" }, { "peak_percent", "of peak", "%.0f %%" },
        { "openblas", "OpenBLAS", "%.1f" }, { "ratio", "ratio", "%.2f" },
    };
    Shape shapes[MOST_SHAPES];
    double wide_shares[MOST_SHAPES], ratios[MOST_SHAPES];        // of the layers with C >= 384; of all shapes
    int n = shapes_of_gpt(shapes), wide = 0, compared = 0, threads = omp_get_max_threads();
    const char *in = precision_names[precision];
    if (!kernels_use(isa, precision)) fail_usage("--table=%s,%s: this CPU has no such kernels", isa, in);
    double peak = peak_gflops(peak_find(isa, precision), threads);
    say("\n### %s, %s\n\nPeak in registers: %.1f GFLOP/s with %d threads.", isa, in, peak, threads);
    const char *core = openblas_core(isa), *got = NULL;
    bool beside = precision == GEMM_FP32 && openblas_load(core);
    if (beside) {
        got = openblas.get_corename();
        if (core && strcasecmp(core, got)) say(" OpenBLAS has no kernels for %s: it uses those for %s.", core, got);
        else say(" OpenBLAS uses its kernels for %s%s.", got, core ? ", forced" : "");
    }
    say("\n\n");
    char *context = format("\"isa\": \"%s\", \"precision\": \"%s\", \"threads\": %d, \"peak\": %.1f, \"core\": \"%s\"",
                           isa, in, threads, peak, got ? got : ""),
         *line = format("\"kind\": \"gemm\", %s", context);
    Table table = table_start(columns, beside ? 8 : 6, line);
    for (int i = 0; i < n; i++) {
        const Shape *s = &shapes[i];
        double gflops[2];
        note("%s %s: %d of %d", isa, in, i + 1, n);
        if (beside) openblas.set_num_threads(threads);
        take_turns((Multiply *[]){ product_ours, product_openblas }, beside ? 2 : 1, s, quick ? 0.1 : 0.5, gflops);
        if (s->width >= 384) wide_shares[wide++] = 100 * gflops[0] / peak;
        if (beside) ratios[compared++] = gflops[0] / gflops[1];
        char *what = s->width ? format("%s %d", s->what, s->width) : xstrdup(s->what);
        table_text(&table, what);
        table_number(&table, s->m);
        table_number(&table, s->n);
        table_number(&table, s->k);
        table_number(&table, gflops[0]);
        table_number(&table, 100 * gflops[0] / peak);
        if (beside) {
            table_number(&table, gflops[1]);
            table_number(&table, gflops[0] / gflops[1]);
        }
        free(what);
    }
    double share = median_of(wide_shares, wide), ratio = median_of(ratios, compared);      // they sort: [0] is the smallest
    say("\nLayers with C >= 384: median %.0f %%, smallest %.0f %% of the peak.", share, wide_shares[0]);
    if (beside) say(" All: median %.2f x, smallest %.2f x OpenBLAS.", ratio, ratios[0]);
    say("\n");
    if (json) {
        char text[2][32];
        printf("{\"kind\": \"gemm_summary\", %s, \"median_peak_percent\": %.1f, \"smallest_peak_percent\": %.1f, "
               "\"median_ratio\": %s, \"smallest_ratio\": %s}\n", context, share, wide_shares[0],
               number_or_null(text[0], ratio), number_or_null(text[1], beside ? ratios[0] : NAN));
    }
    bench_symmetric(context);
    double after = peak_gflops(peak_find(isa, precision), threads);
    if (fabs(after / peak - 1) > 0.05)
        say("\nThe peak afterwards is %.1f GFLOP/s: something else was running, and the shares are off.\n", after);
    free(context);
    free(line);
    gemm_free();
}

static void bench_gemm(void) {
    char *by_itself = run_beside(NULL, true, (const char *[]){ "--openblas" }, 1);
    say("\n## Matrix products\n\n"
        "Medians. forward: x W', dX: dout W, dW: dout' x of a layer of width C. A ratio over 1 means faster than\n"
        "OpenBLAS, which takes turns with ours.\n");
    char version[32], core[64];
    if (by_itself && sscanf(by_itself, "%31s %63s", version, core) == 2) {
        say("OpenBLAS %s, left to itself, would use its kernels for %s here.\n", version, core);
        if (json)
            printf("{\"kind\": \"openblas\", \"version\": \"%s\", \"by_itself\": \"%s\"}\n", version, core);
    } else {
        say("OpenBLAS isn't installed, so nothing stands beside ours; on Debian: apt install libopenblas0-pthread\n");
    }
    free(by_itself);
    const char *only = getenv("GEMM_ISA");
    for (size_t i = 0; i < COUNT_OF(isas); i++)
        for (GemmPrecision p = GEMM_FP32; p <= GEMM_BF16; p++) {
            if (only && *only && strcmp(only, isas[i])) continue;
            if (!strcmp(isas[i], "amx") && p == GEMM_FP32) continue;     // AVX-512's
            if (quick && !strcmp(isas[i], "portable") && strcmp(own_isa, "portable")) continue;
            if (!kernels_use(isas[i], p)) continue;
            char *table = format("--table=%s,%s", isas[i], precision_names[p]),
                 *threads = format("--threads=%d", omp_get_max_threads());
            const char *arguments[4] = { table, threads };
            int n = 2;
            if (quick) arguments[n++] = "-q";
            if (json) arguments[n++] = "--json";
            char *done = run_beside(NULL, false, arguments, n);
            failed |= !done;
            free(done); free(table); free(threads);
        }
}

// ---------------------------------------------------------------------------------------------------------------------
// Section: attention

typedef enum { TILED_FORWARD, TILED_BACKWARD, PLAIN_FORWARD, PLAIN_BACKWARD, ATTENTION_CALLS } AttentionCall;

typedef struct {
    Attention tiled, plain;  // all heads of all sequences; one of each, since the plain one takes its time
    float *qkv, *dqkv, *out, *dout, *lse, *max_logit, *scratch;      // qkv, dqkv: rows of queries, keys and values
} AttentionCase;

enum { ATTENTION_TOKENS = MICRO_TOKENS, ATTENTION_WIDTH = 384 };     // as a micro-batch of a training step has them

static AttentionCase attention_case(int T, int HS) {
    enum { N = ATTENTION_TOKENS, C = ATTENTION_WIDTH };
    Attention a = { .B = N / T, .Tq = T, .Tk = T, .NH = C / HS, .NKV = C / HS, .HS_qk = HS, .HS_v = HS,
                    .q_stride = 3 * C, .k_stride = 3 * C, .v_stride = 3 * C, .out_stride = C,
                    .scale = 1 / sqrtf((float)HS) };
    AttentionCase c = { .tiled = a, .plain = a, .qkv = random_floats(3 * N * C, 1), .dqkv = random_floats(3 * N * C, 2),
                        .out = random_floats(N * C, 3), .dout = random_floats(N * C, 4),
                        .lse = random_floats((size_t)N * a.NH, 5), .max_logit = random_floats((size_t)a.B * a.NH, 6),
                        .scratch = random_floats(attention_scratch_floats(&a) * (size_t)omp_get_max_threads(), 7) };
    c.plain.B = c.plain.NH = c.plain.NKV = 1;
    return c;
}

static void attention_case_free(AttentionCase *c) {
    free(c->qkv); free(c->dqkv); free(c->out); free(c->dout); free(c->lse); free(c->max_logit); free(c->scratch);
}

static void attention_call(const AttentionCase *c, AttentionCall call) {
    enum { C = ATTENTION_WIDTH };
    const float *q = c->qkv, *k = q + C, *v = k + C;
    float *dq = c->dqkv, *dk = dq + C, *dv = dk + C;
    switch (call) {
    case TILED_FORWARD: attention_forward(c->out, c->lse, c->max_logit, q, k, v, c->tiled, c->scratch); break;
    case TILED_BACKWARD: attention_backward(dq, dk, dv, c->dout, c->out, c->lse, q, k, v, c->tiled, c->scratch); break;
    case PLAIN_FORWARD: attention_reference_forward(c->out, c->lse, c->max_logit, q, k, v, c->plain); break;
    default: attention_reference_backward(dq, dk, dv, c->dout, c->out, c->lse, q, k, v, c->plain); break;
    }
}

static double attention_seconds(const AttentionCase *c, AttentionCall call, int calls) {
    double start = seconds_now();
    for (int i = 0; i < calls; i++) attention_call(c, call);
    return (seconds_now() - start) / calls;
}

// Seconds a head of one sequence takes: the median of blocks of at least 20 ms, in which the first `kinds` take turns.
static void attention_measure(const AttentionCase *c, int kinds, double *seconds) {
    enum { MOST_ROUNDS = 9 };
    double each[ATTENTION_CALLS][MOST_ROUNDS];
    int rounds = quick ? 3 : kinds > PLAIN_FORWARD ? 5 : MOST_ROUNDS, calls[ATTENTION_CALLS];
    for (int i = 0; i < kinds; i++) {        // the tiled forward call comes first: out and lse are what backward needs
        attention_seconds(c, (AttentionCall)i, 1);
        calls[i] = (int)ceil(0.02 / attention_seconds(c, (AttentionCall)i, 1));
    }
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < kinds; i++) each[i][round] = attention_seconds(c, (AttentionCall)i, calls[i]);
    for (int i = 0; i < kinds; i++) {
        const Attention *a = i < PLAIN_FORWARD ? &c->tiled : &c->plain;
        seconds[i] = median_of(each[i], rounds) / (a->B * a->NH);
    }
}

static void bench_attention(void) {
    static const int shapes[][2] = { { 64, 32 }, { 256, 64 }, { 1024, 64 }, { 1024, 128 }, { 4096, 64 } };   // T, HS
    static const Column columns[] = {
        { "t", "    T", "%.0f" }, { "hs", "   HS", "%.0f" }, { "precision", "precision", NULL },
        { "forward_gflops", "forward, GFLOP/s", "%.1f" }, { "forward_percent", "of peak", "%.0f %%" },
        { "backward_gflops", "backward, GFLOP/s", "%.1f" }, { "backward_percent", "of peak", "%.0f %%" },
        { "forward_ratio", "plain forward: time", "%.0f x" }, { "backward_ratio", "plain backward: time", "%.0f x" },
    };
    int threads = omp_get_max_threads();
    char *context = format("\"kind\": \"attention\", \"isa\": \"%s\", \"threads\": %d", own_isa, threads);
    say("\n## Attention\n\n"
        "Causal, %d tokens in sequences of T, %d / HS heads, in tiles by all threads. Operations: 4 HS for each query\n"
        "and each key that it sees forward, 10 HS backward. Of peak: of the kernels in use. Plain: the same as plain\n"
        "loops in double, by one thread, for as many heads and sequences.\n\n", ATTENTION_TOKENS, ATTENTION_WIDTH);
    double peak[] = { [GEMM_FP32] = peak_gflops(peak_of_trainer(GEMM_FP32), threads),
                      [GEMM_BF16] = peak_gflops(peak_of_trainer(GEMM_BF16), threads) };
    Table table = table_start(columns, COUNT_OF(columns), context);
    for (size_t i = 0; i < COUNT_OF(shapes); i++)
        for (GemmPrecision p = GEMM_FP32; p <= GEMM_BF16; p++) {
            int T = shapes[i][0], HS = shapes[i][1];
            if (!kernels_use(own_isa, p)) continue;      // bf16 emulated
            note("attention of T %d, HS %d in %s", T, HS, precision_names[p]);
            double flops = 2e-9 * T * (T + 1.0) * HS, seconds[ATTENTION_CALLS] = { NAN, NAN, NAN, NAN };
            AttentionCase c = attention_case(T, HS);
            attention_measure(&c, T <= (quick ? 256 : 1024) ? ATTENTION_CALLS : PLAIN_FORWARD, seconds);
            attention_case_free(&c);
            double forward = flops / seconds[TILED_FORWARD], backward = 2.5 * flops / seconds[TILED_BACKWARD];
            table_number(&table, T);
            table_number(&table, HS);
            table_text(&table, precision_names[p]);
            table_number(&table, forward);
            table_number(&table, 100 * forward / peak[p]);
            table_number(&table, backward);
            table_number(&table, 100 * backward / peak[p]);
            table_number(&table, seconds[PLAIN_FORWARD] / seconds[TILED_FORWARD]);
            table_number(&table, seconds[PLAIN_BACKWARD] / seconds[TILED_BACKWARD]);
        }
    free(context);
}

// ---------------------------------------------------------------------------------------------------------------------
// Training steps

typedef struct {
    const char *name;
    int layers, heads, width, block, vocab, batch;
    bool large;              // -q leaves it out
} Size;

static const Size sizes_of_models[] = {      // the first three are nanoGPT's character models, the others GPT-2's 124M
    { "4x128",         4,  4, 128,   64,    65, 12, false },
    { "6x384-b16",     6,  6, 384,  256,    65, 16, false },
    { "6x384-b64",     6,  6, 384,  256,    65, 64, true },
    { "12x768-t64",   12, 12, 768,   64, 50304,  4, true },
    { "12x768-t256",  12, 12, 768,  256, 50304,  4, true },
    { "12x768-t1024", 12, 12, 768, 1024, 50304,  1, true },
};

static const Size *size_find(const char *name) {
    for (size_t i = 0; i < COUNT_OF(sizes_of_models); i++)
        if (!strcmp(sizes_of_models[i].name, name)) return &sizes_of_models[i];
    char names[256] = "";
    for (size_t i = 0; i < COUNT_OF(sizes_of_models); i++)
        snprintf(names + strlen(names), sizeof names - strlen(names), " %s", sizes_of_models[i].name);
    fail_usage("--step=%s: unknown model; expected one of:%s", name, names);
}

// What --step shall measure, and on the way back what it says.
typedef struct {
    const char *model;
    GemmPrecision precision;
    int threads;
    double seconds;
    bool profile;
    const char *sets[6];     // section.key=value, up to the first NULL
} StepTask;

typedef struct { double tok_per_s, ms, flops_per_token, resident_mb, activations_mb; bool emulated; cJSON *json; } Step;

// gpt2 with AdamW and gradient clipping where the overrides don't say otherwise, and random tokens.
static void step_open(Trainer *t, const Size *size, GemmPrecision precision, char **overrides, int n_overrides) {
    char *text = format("{\"model\": {\"arch\": \"gpt2\", \"layers\": %d, \"heads\": %d, \"width\": %d, \"context\": %d, "
                        "\"vocab\": %d}, \"train\": {\"batch\": %d, \"precision\": \"%s\", \"grad_clip\": 1}, "
                        "\"schedule\": {\"kind\": \"constant\"}, "
                        "\"optimizer\": {\"name\": \"adamw\", \"adamw\": {\"lr\": 1e-4}}}",
                        size->layers, size->heads, size->width, size->block, size->vocab, size->batch,
                        precision_names[precision]);
    config_load_text(&t->config, config_fields, N_FIELDS, config_presets, COUNT_OF(config_presets),
                     text, strlen(text), size->name, n_overrides, overrides);
    free(text);
    config_resolve(&t->config, size->name);
    if (t->config.model.vocab == 0) fail_usage("%s: model.vocab: 0, but there is no tokenizer to ask", size->name);
    choose_precision(&t->config);
    trainer_plan(t);
    trainer_allocate(t);
    tensors_init(t->model.params, t->model.table, 1);
    for (int n = 0; n < t->config.train.batch * t->model.T; n++) {
        t->inputs[n] = (int)(hash64(1, (uint64_t)n) % (uint64_t)t->model.V);
        t->targets[n] = (int)(hash64(2, (uint64_t)n) % (uint64_t)t->model.V);
    }
}

// Takes steps for so many seconds but at least 3, after one to warm up. Returns the median of their seconds, and the
// first step's loss.
static double step_measure(Trainer *t, const char *name, double seconds, int *steps, double *first_loss) {
    enum { MEASURED = 4096 };
    double took[MEASURED], end = 0;
    for (*steps = 0; t->step <= MEASURED && (*steps < 3 || seconds_now() < end); t->step++) {
        StepResult result = { 0 };
        double start = seconds_now();
        if (t->step > 0) profile_start();
        if (!train_on_batch(t, &result)) fail("%s: step %d: %s", name, t->step + 1, result.trouble);
        if (t->step > 0) {
            took[(*steps)++] = seconds_now() - start;
        } else {
            *first_loss = result.loss;
            end = seconds_now() + seconds;
        }
    }
    profile_stop();
    return median_of(took, *steps);
}

// The profile as a part of a line of JSON.
static void print_passes(GemmPrecision precision) {
    ProfilePeaks peak = profile_peaks(precision);
    printf(", \"peak_gflops\": %.1f, \"peak_gb_s\": %.1f, \"passes\": [", peak.gflops, peak.gb);
    const char *comma = "";
    for (int i = 0; i < PASSES; i++) {
        ProfileRow row = profile_row(i, peak);
        if (row.ms == 0) continue;
        printf("%s{\"pass\": \"%s\", \"ms\": %.4f, \"share_percent\": %.2f, \"gflops\": %.1f, \"gb_s\": %.2f, "
               "\"peak_percent\": %.1f}", comma, profile_names[i], row.ms, 100 * row.share, row.gflops, row.gb,
               100 * row.of_peak);
        comma = ", ";
    }
    printf("]");
}

// --step: prints its median as a line of JSON. The profile is a table in front of it or, with --json, a part of it.
static void measure_step(const StepTask *task, char **overrides, int n_overrides) {
    Trainer t = { 0 };
    const Size *size = size_find(task->model);
    char kernels[128];
    int steps;
    double first_loss = NAN;
    step_open(&t, size, task->precision, overrides, n_overrides);
    GemmPrecision precision = t.config.train.precision == PRECISION_BF16 ? GEMM_BF16 : GEMM_FP32;
    double seconds = step_measure(&t, size->name, task->seconds > 0 ? task->seconds : 6, &steps, &first_loss),
           resident = machine_resident();                  // before a profile measures the memory's peak
    if (task->profile && !json) profile_print(precision);
    printf("{\"kind\": \"step\", \"model\": \"%s\", \"set\": [", size->name);
    for (int i = 0; i < n_overrides; i++) {
        if (i) printf(", ");
        json_put_string(stdout, overrides[i] + 2, SIZE_MAX);
    }
    printf("], \"batch\": %d, \"block\": %d, %s, \"tok_per_s\": %.1f, \"ms\": %.3f, \"steps\": %d, "
           "\"flops_per_token\": %.0f, \"resident_mb\": %.1f, \"activations_mb\": %.1f, \"loss\": %.6f",
           t.config.train.batch, t.model.T, kernels_json(kernels, sizeof kernels, precision),
           t.config.train.batch * t.model.T / seconds, 1e3 * seconds, steps, flops_per_token(&t.model),
           megabytes(resident), megabytes(4.0 * t.model.n_acts), first_loss);
    if (task->profile && json) print_passes(precision);
    printf("}\n");
    trainer_free(&t);
    gemm_free();
}

// measure_step in a process of its own. What fails is NAN. step_free frees what it returns.
static Step step_of(StepTask task) {
    char *arguments[COUNT_OF(task.sets) + 6];
    int n = 0, sets = 0;
    if (quick) task.seconds = fmin(task.seconds, 2);
    arguments[n++] = format("--step=%s", task.model);
    arguments[n++] = format("--precision=%s", precision_names[task.precision]);
    arguments[n++] = format("--threads=%d", task.threads);
    arguments[n++] = format("--seconds=%g", task.seconds);
    arguments[n++] = xstrdup("--json");
    if (task.profile) arguments[n++] = xstrdup("--profile");
    while (sets < (int)COUNT_OF(task.sets) && task.sets[sets])
        arguments[n++] = format("--set=%s", task.sets[sets++]);
    note("training %s%s%s in %s, threads: %d", task.model, sets ? " with " : "", sets ? task.sets[0] : "",
         precision_names[task.precision], task.threads);
    char *line = run_beside(NULL, true, (const char *const *)arguments, n);
    cJSON *root = line ? cJSON_Parse(line) : NULL;
    failed |= !root;
    Step s = { .tok_per_s = number_in(root, "tok_per_s"), .ms = number_in(root, "ms"),
               .flops_per_token = number_in(root, "flops_per_token"), .resident_mb = number_in(root, "resident_mb"),
               .activations_mb = number_in(root, "activations_mb"),
               .emulated = cJSON_IsTrue(cJSON_GetObjectItem(root, "emulated")), .json = root };
    free(line);
    for (int i = 0; i < n; i++) free(arguments[i]);
    return s;
}

static void step_free(Step *s) { cJSON_Delete(s->json); }

// Section: train
static void bench_train(void) {
    static const Column columns[] = {
        { "model", "model       ", NULL }, { "precision", "precision      ", NULL },
        { "tok_per_s", "tokens/s", "%.0f" }, { "ms", "ms a step", "%.1f" }, { "gflops", "GFLOP/s", "%.1f" },
        { "mfu_percent", "  MFU", "%.0f %%" }, { "resident_mb", "resident MB", "%.0f" },
    };
    int threads = omp_get_max_threads();
    char *context = format("\"kind\": \"train\", \"isa\": \"%s\", \"threads\": %d", own_isa, threads);
    say("\n## Training step\n\n"
        "Gradients to zero, forward, backward, AdamW; random tokens. b: sequences a step, t: tokens of each. MFU\n"
        "(model FLOPs utilization): the model's own operations per second, as a share of the peak of the kernels in\n"
        "use. Resident: the most the process has held.\n\n");
    Table table = table_start(columns, COUNT_OF(columns), context);
    for (size_t i = 0; i < COUNT_OF(sizes_of_models); i++)
        for (GemmPrecision p = GEMM_FP32; p <= GEMM_BF16; p++) {
            const Size *size = &sizes_of_models[i];
            if (quick && size->large) continue;
            double peak = peak_gflops(peak_of_trainer(p), threads);
            Step step = step_of((StepTask){ .model = size->name, .precision = p, .threads = threads, .seconds = 6 });
            double gflops = 1e-9 * step.flops_per_token * step.tok_per_s;
            table_text(&table, size->name);
            table_text(&table, step.emulated ? "bf16 (emulated)" : precision_names[p]);
            table_number(&table, step.tok_per_s);
            table_number(&table, step.ms);
            table_number(&table, gflops);
            table_number(&table, 100 * gflops / peak);
            table_number(&table, step.resident_mb);
            step_free(&step);
        }
    free(context);
}

// Section: passes. The figures of profile.h, each model and precision from a process of its own.
static void bench_passes(void) {
    static const char *const models[] = { "4x128", "6x384-b16", "12x768-t256" };
    static const Column columns[] = {
        { "precision", "precision", NULL }, { "pass", "pass                  ", NULL }, { "ms", "ms a step", "%.3f" },
        { "share_percent", "  share", "%.1f %%" }, { "gflops", "GFLOP/s", "%.1f" }, { "gb_s", " GB/s", "%.1f" },
        { "peak_percent", "of peak", "%.0f %%" },
    };
    int threads = omp_get_max_threads();
    say("\n## Passes\n\n"
        "Where the time of a training step goes. GFLOP/s: of the matrix products; GB/s: what must come from memory\n"
        "and go there at least once. Of peak: the larger of the shares of both peaks (memory's is the triad), how\n"
        "near a pass is to what bounds it; over 100 %%: its data was still in a cache.\n");
    for (size_t i = 0; i < (quick ? 2 : COUNT_OF(models)); i++) {
        say("\n### %s\n\n", models[i]);
        char *context = format("\"kind\": \"pass\", \"model\": \"%s\", \"isa\": \"%s\", \"threads\": %d", models[i],
                               own_isa, threads);
        Table table = table_start(columns, COUNT_OF(columns), context);
        for (GemmPrecision p = GEMM_FP32; p <= GEMM_BF16; p++) {
            if (!kernels_use(own_isa, p)) continue;      // bf16 emulated
            Step step = step_of((StepTask){ models[i], p, threads, 2, true, { NULL } });
            const cJSON *pass;
            cJSON_ArrayForEach(pass, cJSON_GetObjectItem(step.json, "passes")) {
                table_text(&table, precision_names[p]);
                table_text(&table, cJSON_GetStringValue(cJSON_GetObjectItem(pass, "pass")));
                for (size_t c = 2; c < COUNT_OF(columns); c++) table_number(&table, number_in(pass, columns[c].key));
            }
            step_free(&step);
        }
        free(context);
    }
}

// Section: sockets
static void bench_sockets(void) {
    static const char *const models[] = { "4x128", "6x384-b16" }, *const archs[] = { "gpt2", "speedrun", "llama" },
                      *const optimizers[] = { "adamw", "muon", "muonclip" };
    static const Column columns[] = {
        { "model", "model    ", NULL }, { "arch", "arch    ", NULL }, { "optimizer", "optimizer", NULL },
        { "tok_per_s", "tokens/s", "%.0f" }, { "ms", "ms a step", "%.1f" }, { "mfu_percent", "  MFU", "%.0f %%" },
        { "resident_mb", "resident MB", "%.0f" },
    };
    int threads = omp_get_max_threads();
    double peak = peak_gflops(peak_of_trainer(GEMM_FP32), threads);
    char *context = format("\"kind\": \"socket\", \"precision\": \"fp32\", \"isa\": \"%s\", \"threads\": %d", own_isa,
                           threads);
    say("\n## Architectures and optimizers\n\n"
        "Training steps in fp32 by model.arch and optimizer.name. MuonClip isn't for speedrun, whose QK-norm already\n"
        "bounds what QK-Clip would. The operations of Newton-Schulz don't count in MFU.\n\n");
    Table table = table_start(columns, COUNT_OF(columns), context);
    for (size_t i = 0; i < (quick ? 1 : COUNT_OF(models)); i++)
        for (size_t j = 0; j < COUNT_OF(archs) * COUNT_OF(optimizers); j++) {
            const char *arch = archs[j / COUNT_OF(optimizers)], *optimizer = optimizers[j % COUNT_OF(optimizers)];
            if (!strcmp(arch, "speedrun") && !strcmp(optimizer, "muonclip")) continue;
            char *set_arch = format("model.arch=%s", arch), *set_optimizer = format("optimizer.name=%s", optimizer);
            Step step = step_of((StepTask){ models[i], GEMM_FP32, threads, 1, false, { set_arch, set_optimizer } });
            table_text(&table, models[i]);
            table_text(&table, arch);
            table_text(&table, optimizer);
            table_number(&table, step.tok_per_s);
            table_number(&table, step.ms);
            table_number(&table, 100e-9 * step.flops_per_token * step.tok_per_s / peak);
            table_number(&table, step.resident_mb);
            step_free(&step);
            free(set_arch);
            free(set_optimizer);
        }
    free(context);
}

// ---------------------------------------------------------------------------------------------------------------------
// Section: growth. 4 layers of width 256 with 4 heads, 4096 tokens a step.

enum { GROWTH_TOKENS = 4096 };

typedef struct {
    double ms, mflop;                            // a token; mflop: the model's own
    double attention_ms, attention_mflop;        // likewise, of the attention's passes, as they were carried out
    double resident_mb, activations_mb;
} Growth;

static Growth growth_of(int T, int V, const char *recompute) {
    char *block = format("model.context=%d", T), *batch = format("train.batch=%d", GROWTH_TOKENS / T),
         *vocab = format("model.vocab=%d", V), *again = format("train.recompute=%s", recompute);
    StepTask task = { "4x128", GEMM_FP32, omp_get_max_threads(), 1, true,
                      { block, batch, vocab, again, "model.width=256" } };
    Step step = step_of(task);
    Growth g = { .ms = step.ms / GROWTH_TOKENS, .mflop = 1e-6 * step.flops_per_token,
                 .resident_mb = step.resident_mb, .activations_mb = step.activations_mb };
    const cJSON *pass;
    cJSON_ArrayForEach(pass, cJSON_GetObjectItem(step.json, "passes")) {
        if (strncmp(cJSON_GetStringValue(cJSON_GetObjectItem(pass, "pass")), "attention", 9)) continue;
        double ms = number_in(pass, "ms") / GROWTH_TOKENS;
        g.attention_ms += ms;
        g.attention_mflop += ms * number_in(pass, "gflops");     // 10^-3 s x 10^9
    }
    step_free(&step);
    free(block); free(batch); free(vocab); free(again);
    return g;
}

// The cells that both tables have, behind those that say what grows.
static void growth_cells(Table *t, const Growth *g, const Growth *first) {
    table_number(t, g->ms);
    table_number(t, g->mflop);
    table_number(t, g->ms / first->ms);
    table_number(t, g->mflop / first->mflop);
    table_number(t, 100 * g->attention_ms / g->ms);
    table_number(t, g->resident_mb);
    table_number(t, g->activations_mb);
}

#define GROWTH_COLUMNS \
    { "ms_per_token", "ms a token", "%.4f" }, { "mflop_per_token", "MFLOP a token", "%.1f" }, \
    { "time_ratio", "  time", "%.2f x" }, { "flops_ratio", " FLOPs", "%.2f x" }, \
    { "attention_percent", "attention", "%.0f %%" }, { "resident_mb", "resident MB", "%.0f" }, \
    { "activations_mb", "activations MB", "%.0f" }

static void bench_growth_of_block(void) {
    static const Column columns[] = { { "t", "    T", "%.0f" }, { "recompute", "recompute", NULL }, GROWTH_COLUMNS,
                                      { "predicted_ms", "predicted ms", "%.4f" },
                                      { "measured_ratio", "measured / predicted", "%.2f" } };
    static const char *const recomputes[] = { "none", "block" };
    char *context = format("\"kind\": \"growth_t\", \"isa\": \"%s\", \"threads\": %d", own_isa, omp_get_max_threads());
    Table table = table_start(columns, COUNT_OF(columns), context);
    Growth first = { 0 };
    for (size_t i = 0; i < COUNT_OF(recomputes); i++) {
        Growth at_256 = { 0 };
        for (int T = 256; T <= (quick ? 1024 : 4096); T *= quick ? 4 : 2) {
            Growth g = growth_of(T, 65, recomputes[i]);
            if (T == 256) at_256 = g;
            if (T == 256 && i == 0) first = g;
            double ms_per_mflop = at_256.attention_ms / at_256.attention_mflop,
                   predicted = at_256.ms + (g.attention_mflop - at_256.attention_mflop) * ms_per_mflop;
            table_number(&table, T);
            table_text(&table, recomputes[i]);
            growth_cells(&table, &g, &first);
            table_number(&table, predicted);
            table_number(&table, g.ms / predicted);
        }
    }
    free(context);
}

static void bench_growth_of_vocabulary(void) {
    static const Column columns[] = { { "v", "    V", "%.0f" }, GROWTH_COLUMNS };
    static const int vocabularies[] = { 65, 1024, 8192, 50257 };
    char *context = format("\"kind\": \"growth_v\", \"isa\": \"%s\", \"threads\": %d", own_isa, omp_get_max_threads());
    Table table = table_start(columns, COUNT_OF(columns), context);
    Growth first = { 0 };
    for (size_t i = 0; i < (quick ? 2 : COUNT_OF(vocabularies)); i++) {
        Growth g = growth_of(256, vocabularies[i], "none");
        if (i == 0) first = g;
        table_number(&table, vocabularies[i]);
        growth_cells(&table, &g, &first);
    }
    free(context);
}

static void bench_growth(void) {
    say("\n## Growth\n\n"
        "4 layers of width 256, 4 heads, %d tokens a step, fp32, AdamW; what grows is T, the tokens of a sequence,\n"
        "and V, the vocabulary. MFLOP a token: the model's own; what train.recompute=block computes again doesn't\n"
        "count. Time and FLOPs are relative to the first row. Attention: its share of the time. Activations: planned.\n"
        "Predicted: the time of T = 256 with the same recompute, and the additional operations of the attention at\n"
        "the speed that it has there. A ratio up to 1: the attention's operations explain all of the growth.\n\n",
        GROWTH_TOKENS);
    bench_growth_of_block();
    say("\n");
    bench_growth_of_vocabulary();
}

// ---------------------------------------------------------------------------------------------------------------------
// Section: threads
static void bench_threads(void) {
    int threads = omp_get_max_threads();
    char *title = format("%d threads", threads);
    const Column columns[] = { { "what", "what                     ", NULL }, { "one", "1 thread", "%.0f" },
                               { "all", title, "%.0f" }, { "ratio", "ratio", "%.2f" } };
    say("\n## Threads\n\n");
    if (threads == 1) { say("There is only one.\n"); free(title); return; }
    char *context = format("\"kind\": \"threads\", \"isa\": \"%s\", \"threads\": %d", own_isa, threads);
    Table table = table_start(columns, COUNT_OF(columns), context);
    for (GemmPrecision p = GEMM_FP32; p <= GEMM_BF16; p++) {
        const Peak *peak = peak_of_trainer(p);
        if (peak->precision != p) continue;              // emulated
        double one = peak_gflops(peak, 1), all = peak_gflops(peak, threads);
        char *what = format("peak %s, GFLOP/s", precision_names[p]);
        table_text(&table, what);
        table_number(&table, one);
        table_number(&table, all);
        table_number(&table, all / one);
        free(what);
        for (int i = 0; i < (quick ? 1 : 2); i++) {
            StepTask task = { .model = sizes_of_models[i].name, .precision = p, .threads = 1, .seconds = 6 };
            Step by_one = step_of(task);
            task.threads = threads;
            Step by_all = step_of(task);
            one = by_one.tok_per_s, all = by_all.tok_per_s;
            step_free(&by_one);
            step_free(&by_all);
            what = format("%s %s, tokens/s", task.model, precision_names[p]);
            table_text(&table, what);
            table_number(&table, one);
            table_number(&table, all);
            table_number(&table, all / one);
            free(what);
        }
    }
    free(context);
    free(title);
}

// ---------------------------------------------------------------------------------------------------------------------
// One product, for scripts

// FORM,M,N,K: forward x W^T, dx dout W or dw dout^T x, as (M x N) = (M x K) (K x N).
static void measure_product(const char *text, GemmPrecision precision, double seconds) {
    static const Shape forms[] = { { "forward", 0, false, true, 0, 0, 0 },
                                   { "dx", 0, false, false, 0, 0, 0 },
                                   { "dw", 0, true, false, 0, 0, 0 } };
    char form[16];
    int m, n, k, end = 0;
    Shape s = { 0 };
    if (sscanf(text, "%15[a-z],%d,%d,%d%n", form, &m, &n, &k, &end) == 4 && !text[end] && m > 0 && n > 0 && k > 0)
        for (size_t i = 0; i < COUNT_OF(forms); i++)
            if (!strcmp(forms[i].what, form)) s = forms[i];
    if (!s.what) fail_usage("--product=%s: FORM,M,N,K is expected: forward, dx or dw, and three sizes", text);
    s.m = m, s.n = n, s.k = k;
    gemm_use_precision(precision);
    double gflops;
    int rounds = take_turns((Multiply *[]){ product_ours }, 1, &s, seconds, &gflops);
    char kernels[128];
    printf("{\"kind\": \"gemm\", \"form\": \"%s\", \"m\": %d, \"n\": %d, \"k\": %d, %s, \"gflops\": %.2f, "
           "\"repeats\": %d}\n", s.what, m, n, k, kernels_json(kernels, sizeof kernels, precision), gflops, rounds);
    gemm_free();
}

// ---------------------------------------------------------------------------------------------------------------------
// The command line

static const struct { const char *name; void (*run)(void); } sections[] = {
    { "peaks", bench_peaks }, { "gemm", bench_gemm }, { "attention", bench_attention }, { "train", bench_train },
    { "passes", bench_passes }, { "sockets", bench_sockets }, { "growth", bench_growth }, { "threads", bench_threads },
};

int main(int argc, char **argv) {
    program_begin();
    wait_politely(argv);
    choose_threads();
    own_isa = gemm_isa();
    bool wanted[COUNT_OF(sections)] = { false }, any = false, name = false, openblas_only = false;
    const char *product = NULL, *table = NULL, *value;
    StepTask step = { 0 };                               // its sets stay empty: they become overrides
    char **overrides = xcalloc((size_t)argc, sizeof *overrides);
    int n_overrides = 0;
    for (int i = 1; i < argc; i++) {
        bool known = true;
        if (!strcmp(argv[i], "-q")) quick = true;
        else if (!strcmp(argv[i], "--json")) json = true;
        else if (!strcmp(argv[i], "--profile")) step.profile = true;
        else if (!strcmp(argv[i], "--name")) name = true;
        else if ((value = flag_value(argv[i], "--step"))) step.model = value;
        else if ((value = flag_value(argv[i], "--set"))) overrides[n_overrides++] = format("--%s", value);
        else if ((value = flag_value(argv[i], "--product"))) product = value;
        else if ((value = flag_value(argv[i], "--precision"))) step.precision = parse_precision(value);
        else if ((value = flag_value(argv[i], "--seconds"))) step.seconds = number_of("--seconds", value, 0.001, 3600);
        else if ((value = flag_value(argv[i], "--threads"))) omp_set_num_threads((int)integer_of("--threads", value, 1, 4096));
        else if ((value = flag_value(argv[i], "--table"))) table = value;          // this and the next are what it
        else if (!strcmp(argv[i], "--openblas")) openblas_only = true;           // starts itself with
        else known = false;
        for (size_t s = 0; s < COUNT_OF(sections); s++)
            if (!strcmp(argv[i], sections[s].name)) known = any = wanted[s] = true;
        if (!known)
            fail_usage("%s: unknown; expected peaks, gemm, attention, train, passes, sockets, growth, threads, -q, "
                       "--json, --name, --step=MODEL, --set=SECTION.KEY=VALUE, --profile, --product=FORM,M,N,K, "
                       "--precision=fp32|bf16, --seconds=S or --threads=N", argv[i]);
    }
    if ((n_overrides || step.profile) && !step.model) fail_usage("--set and --profile are for a --step=MODEL");
    if (step.model) measure_step(&step, overrides, n_overrides);
    else if (product) measure_product(product, step.precision, step.seconds > 0 ? step.seconds : 1);
    else if (name) print_name();
    else if (openblas_only) {
        if (openblas_load(NULL)) {       // its get_config begins with "OpenBLAS 0.3.21 "
            const char *version = openblas.get_config() + strcspn(openblas.get_config(), "0123456789");
            printf("%.*s %s\n", (int)strcspn(version, " "), version, openblas.get_corename());
        }
    } else if (table) {
        int comma = (int)strcspn(table, ",");
        char *isa = format("%.*s", comma, table);
        bench_table(isa, parse_precision(table + comma + (table[comma] == ',')));
        free(isa);
    } else {
        print_machine("Benchmark");
        for (size_t s = 0; s < COUNT_OF(sections); s++)
            if (wanted[s] || !any) sections[s].run();
        note_clear();
    }
    for (int i = 0; i < n_overrides; i++) free(overrides[i]);
    free(overrides);
    return failed ? EXIT_FAILED : 0;
}
