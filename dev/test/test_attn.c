/* test_attn.c - src/attn.h: the tiled attention against its plain reference, for each of gemm.h's kernels that this CPU
 * can run, the reference against finite differences, and the promises: strides, threads, in place, scratch, NaN.
 * Which kernels: rows.h. test_attn_tiles.c includes this file to run the same tests on AMX in software.
 */
#define _GNU_SOURCE
#include "../../src/attn.h"
#include "rows.h"            // defines: FOR_EACH_ROW, use_row; gemm.h, test.h

// ---------------------------------------------------------------------------------------------------------------------
// An attention with all its arrays, each in a block of exactly the size it needs

enum { Q, K, V, OUT, LSE, MAX_LOGIT, DOUT, DQ, DK, DV, ARRAYS };
static const char *const array_names[] = { "q", "k", "v", "out", "lse", "max_logit", "dout", "dq", "dk", "dv" };

typedef struct {
    Attention a;
    float *x[ARRAYS];
} Case;

typedef struct { size_t rows, width, stride; } Shape;

static Shape shape_of(const Attention *a, int array) {
    size_t queries = (size_t)a->B * a->Tq, heads = (size_t)a->B * a->NH;
    size_t keys = (size_t)(a->B - 1) * (a->keys_apart ? a->keys_apart : a->Tk) + a->Tk;
    switch (array) {
    case Q: case DQ: return (Shape){ queries, (size_t)a->NH * a->HS_qk, a->q_stride };
    case K: case DK: return (Shape){ keys, (size_t)a->NKV * a->HS_qk, a->k_stride };
    case V: case DV: return (Shape){ keys, (size_t)a->NKV * a->HS_v, a->v_stride };
    case LSE: return (Shape){ heads, (size_t)a->Tq, (size_t)a->Tq };
    case MAX_LOGIT: return (Shape){ 1, heads, heads };
    default: return (Shape){ queries, (size_t)a->NH * a->HS_v, a->out_stride };
    }
}

static size_t floats_of(const Attention *a, int array) {
    Shape s = shape_of(a, array);
    return (s.rows - 1) * s.stride + s.width;
}

// An attention of these sizes, the rows `gap` and more floats apart.
static Attention attention_of(int B, int Tq, int Tk, int NH, int NKV, int HS_qk, int HS_v, int gap) {
    return (Attention){ .B = B, .Tq = Tq, .Tk = Tk, .NH = NH, .NKV = NKV, .HS_qk = HS_qk, .HS_v = HS_v,
                        .q_stride = (size_t)NH * HS_qk + gap, .k_stride = (size_t)NKV * HS_qk + 2 * gap,
                        .v_stride = (size_t)NKV * HS_v + 3 * gap, .out_stride = (size_t)NH * HS_v + gap,
                        .scale = 1 / sqrtf((float)HS_qk) };
}

// q, k, v and dout uniform in [-size, size), dout in [-1, 1); everything else, and what lies between rows, is NaN.
static Case random_case(Attention a, float size) {
    Case c = { a, { NULL } };
    for (int i = 0; i < ARRAYS; i++) {
        Shape s = shape_of(&a, i);
        size_t n = floats_of(&a, i);
        c.x[i] = (float *)xmalloc(n * sizeof(float));
        bool input = i == Q || i == K || i == V || i == DOUT;
        for (size_t j = 0; j < n; j++)
            c.x[i][j] = input && j % s.stride < s.width
                      ? (i == Q || i == K ? size : 1) * (2 * uniform_of(hash64((uint64_t)i, j)) - 1) : NAN;
    }
    return c;
}

static Case copy_of(Case from) {
    Case c = from;
    for (int i = 0; i < ARRAYS; i++) {
        size_t bytes = floats_of(&c.a, i) * sizeof(float);
        c.x[i] = (float *)memcpy(xmalloc(bytes), from.x[i], bytes);
    }
    return c;
}

static void free_case(Case c) {
    for (int i = 0; i < ARRAYS; i++) free(c.x[i]);
}

static bool same_bits(Case a, Case b, int array) {
    return memcmp(a.x[array], b.x[array], floats_of(&a.a, array) * sizeof(float)) == 0;
}

// Scratch for these threads, full of NaN, with guard words behind it that check_guard looks at.
enum { GUARD = 64 };

static float *new_scratch(const Attention *a, int threads) {
    size_t floats = attention_scratch_floats(a) * (size_t)threads;
    void *p;
    if (posix_memalign(&p, 64, (floats + GUARD) * sizeof(float)) != 0) fail("out of memory");
    memset(p, 0xff, (floats + GUARD) * sizeof(float));
    return (float *)p;
}

static void check_guard(const Attention *a, int threads, float *scratch) {
    const unsigned char *guard = (unsigned char *)(scratch + attention_scratch_floats(a) * (size_t)threads);
    int touched = 0;
    for (size_t i = 0; i < GUARD * sizeof(float); i++) touched += guard[i] != 0xff;
    CHECK_MSG(touched == 0, "%s: %d bytes behind the scratch written", gemm_isa(), touched);
    free(scratch);
}

static void forward(Case c, int threads) {
    float *scratch = new_scratch(&c.a, threads);
    omp_set_num_threads(threads);
    attention_forward(c.x[OUT], c.x[LSE], c.x[MAX_LOGIT], c.x[Q], c.x[K], c.x[V], c.a, scratch);
    check_guard(&c.a, threads, scratch);
}

static void backward(Case c, int threads) {
    float *scratch = new_scratch(&c.a, threads);
    omp_set_num_threads(threads);
    attention_backward(c.x[DQ], c.x[DK], c.x[DV], c.x[DOUT], c.x[OUT], c.x[LSE], c.x[Q], c.x[K], c.x[V], c.a, scratch);
    check_guard(&c.a, threads, scratch);
}

static void reference(Case c) {
    attention_reference_forward(c.x[OUT], c.x[LSE], c.x[MAX_LOGIT], c.x[Q], c.x[K], c.x[V], c.a);
    attention_reference_backward(c.x[DQ], c.x[DK], c.x[DV], c.x[DOUT], c.x[OUT], c.x[LSE], c.x[Q], c.x[K], c.x[V], c.a);
}

// ||x - expected|| / ||expected||; 1 more where a float between rows was written.
static double error_of(Case c, Case expected, int array) {
    Shape s = shape_of(&c.a, array);
    double difference = 0, size = 1e-30, touched = 0;
    for (size_t i = 0; i < floats_of(&c.a, array); i++) {
        double x = c.x[array][i], y = expected.x[array][i];
        if (i % s.stride < s.width) difference += (x - y) * (x - y), size += y * y;
        else if (!isnan(x)) touched = 1;
    }
    return sqrt(difference / size) + touched;
}

// ---------------------------------------------------------------------------------------------------------------------
// Tiled against reference

// Relative errors allowed, in bf16 twice what was measured: its operands are off by up to 2^-9. The worst are those of
// two keys, where dp - D cancels, and of a single logit.
static const double tolerance_of[2][ARRAYS] = {
    [GEMM_FP32] = { [OUT] = 2e-6, [LSE] = 2e-6, [MAX_LOGIT] = 2e-6, [DQ] = 5e-6, [DK] = 5e-6, [DV] = 5e-6 },
    [GEMM_BF16] = { [OUT] = 5e-3, [LSE] = 7e-3, [MAX_LOGIT] = 2e-2, [DQ] = 4e-2, [DK] = 4e-2, [DV] = 6e-3 },
};
static double worst[2][ARRAYS];

// factor: how much larger the tolerances are, where logits are large.
static void check_against_reference(Attention a, float size, double factor) {
    Case start = random_case(a, size), expected = copy_of(start);
    reference(expected);
    FOR_EACH_ROW(row) {
        Case c = copy_of(start);
        forward(c, 2);
        backward(c, 2);
        for (int i = 0; i < ARRAYS; i++) {
            double tolerance = tolerance_of[row->precision][i] * factor;
            if (tolerance == 0) {
                CHECK_MSG(same_bits(c, start, i), "%s: %s written", gemm_isa(), array_names[i]);
                continue;
            }
            // A query that sees one key has no gradient in q and k but what is rounded.
            if (a.Tk == 1 && (i == DQ || i == DK)) continue;
            double error = error_of(c, expected, i);
            if (factor == 1) worst[row->precision][i] = fmax(worst[row->precision][i], error);
            CHECK_MSG(error <= tolerance, "%s %s B %d Tq %d Tk %d NH %d NKV %d HS %d %d: %s: error %.2g", gemm_isa(),
                      row->precision ? "bf16" : "fp32", a.B, a.Tq, a.Tk, a.NH, a.NKV, a.HS_qk, a.HS_v, array_names[i],
                      error);
        }
        free_case(c);
    }
    free_case(start);
    free_case(expected);
}

TEST(test_sizes) {
    static const int Ts[] = { 1, 2, 95, 96, 97, 150, 300 }, sizes[] = { 5, 16, 24, 64, 80 };
    for (size_t i = 0; i < COUNT_OF(Ts); i++)
        for (size_t j = 0; j < COUNT_OF(sizes); j++)
            check_against_reference(attention_of(1 + (int)(i + j) % 2, Ts[i], Ts[i], 2, 2, sizes[j], sizes[j],
                                                 (int)(i + j) % 3), 1, 1);
    check_against_reference(attention_of(1, 97, 97, 1, 1, 256, 256, 0), 1, 1);
    check_against_reference(attention_of(1, 33, 33, 1, 1, GEMM_KC + 40, 8, 0), 1, 1);
}

TEST(test_groups) {
    check_against_reference(attention_of(2, 100, 100, 6, 1, 16, 16, 3), 1, 1);
    check_against_reference(attention_of(2, 50, 50, 6, 3, 16, 24, 0), 1, 1);
    check_against_reference(attention_of(1, 130, 130, 4, 2, 80, 64, 1), 1, 1);
    check_against_reference(attention_of(1, 70, 70, 2, 1, 5, 40, 1), 1, 1);
}

TEST(test_fewer_queries) {
    static const int sizes[][2] = {
        { 1, 2 }, { 1, 97 }, { 5, 300 }, { 95, 96 }, { 100, 197 }, { 96, 192 }, { 40, 41 },
    };
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        check_against_reference(attention_of(2, sizes[i][0], sizes[i][1], 2, 1, 24, 16, (int)i % 2), 1, 1);
    Attention a = attention_of(3, 1, 70, 6, 2, 20, 33, 1);
    a.softcap = 0.7f;
    check_against_reference(a, 3, 2);
}

// Only room for more keys behind those of a sequence, which nobody reads: what holds it is another sequence's, or NaN.
TEST(test_keys_apart) {
    for (int queries = 1; queries < 4; queries += 2) {
        Attention a = attention_of(3, queries, 40, 4, 2, 24, 16, 1), apart = a;
        apart.keys_apart = 57;
        Case c = random_case(a, 1), far = random_case(apart, 1);
        for (int array = K; array <= V; array++) {
            size_t stride = shape_of(&a, array).stride, width = shape_of(&a, array).width;
            for (size_t i = 0; i < floats_of(&apart, array); i++) far.x[array][i] = NAN;
            for (int b = 0; b < a.B; b++)
                for (int j = 0; j < a.Tk; j++)
                    memcpy(far.x[array] + (size_t)(b * apart.keys_apart + j) * stride,
                           c.x[array] + (size_t)(b * a.Tk + j) * stride, width * sizeof(float));
        }
        forward(c, 2);
        forward(far, 2);
        CHECK(same_bits(c, far, OUT) && same_bits(c, far, LSE) && same_bits(c, far, MAX_LOGIT));
        free_case(c);
        free_case(far);
    }
}

// Each head's keys and values by themselves, between them NaN.
TEST(test_heads_apart) {
    for (int queries = 1; queries < 4; queries += 2) {
        Attention a = attention_of(2, queries, 40, 4, 2, 24, 16, 0), apart = a;
        apart.k_stride = 24, apart.v_stride = 16, apart.kv_apart = 57 * 24, apart.keys_apart = 2 * 57 * 24 / 16;
        Case c = random_case(a, 1), far = c;
        far.a = apart;
        for (int array = OUT; array <= MAX_LOGIT; array++) far.x[array] = (float *)xmalloc(floats_of(&a, array) * sizeof(float));
        for (int array = K; array <= V; array++) {
            size_t HS = array == K ? 24 : 16, room = 2 * apart.keys_apart * HS;
            far.x[array] = (float *)xmalloc(room * sizeof(float));
            for (size_t i = 0; i < room; i++) far.x[array][i] = NAN;
            for (int b = 0; b < a.B; b++)
                for (int kv = 0; kv < a.NKV; kv++)
                    for (int j = 0; j < a.Tk; j++)
                        memcpy(far.x[array] + (size_t)(b * apart.keys_apart + j) * HS + kv * apart.kv_apart,
                               c.x[array] + ((size_t)(b * a.Tk + j) * a.NKV + kv) * HS, HS * sizeof(float));
        }
        forward(c, 2);
        forward(far, 2);
        CHECK(same_bits(c, far, OUT) && same_bits(c, far, LSE) && same_bits(c, far, MAX_LOGIT));
        for (int array = K; array <= MAX_LOGIT; array++) free(far.x[array]);
        free_case(c);
    }
}

TEST(test_dropout_and_softcap) {
    for (int way = 1; way < 4; way++)
        for (int T = 50; T <= 200; T += 75) {
            Attention a = attention_of(2, T, T + way, 4, 2, 24, 16, 1);
            if (way & 1) a.dropout = (Dropout){ 0.3f, 12345, 678 };
            if (way & 2) a.softcap = 0.7f;
            check_against_reference(a, 3, 2);
        }
}

// Logits of up to 200: P is off by the rounding of a logit.
TEST(test_large_logits) {
    check_against_reference(attention_of(1, 150, 150, 2, 1, 64, 64, 0), 20, 30);
    Attention a = attention_of(1, 150, 150, 2, 1, 64, 64, 0);
    Case c = random_case(a, 1e4f);
    FOR_EACH_ROW(row) {
        forward(c, 1);
        backward(c, 1);
        int bad = 0;
        for (int i = 0; i < ARRAYS; i++)
            for (size_t j = 0; j < floats_of(&a, i); j++) bad += !isfinite(c.x[i][j]);
        CHECK_MSG(bad == 0, "%s: %d numbers aren't finite", gemm_isa(), bad);
    }
    free_case(c);
}

// ---------------------------------------------------------------------------------------------------------------------
// The reference itself

TEST(test_reference_by_hand) {
    enum { T = 7, HS = 3 };
    Case c = random_case(attention_of(1, T, T, 1, 1, HS, HS, 0), 1);
    memset(c.x[Q], 0, T * HS * sizeof(float));      // equal weights: out is the mean of the values so far
    reference(c);
    double sum[HS] = { 0 };
    for (int i = 0; i < T; i++) {
        CHECK(fabs(c.x[LSE][i] - log(i + 1)) < 1e-6);
        for (int d = 0; d < HS; d++) {
            sum[d] += c.x[V][i * HS + d];
            CHECK(fabs(c.x[OUT][i * HS + d] - sum[d] / (i + 1)) < 1e-6);
        }
    }
    CHECK(c.x[MAX_LOGIT][0] == 0);
    free_case(c);
}

// Equal weights and V the identity: out is the weights themselves. Their dropout is that of (b, h, position, key),
// whatever part of the queries is computed.
TEST(test_dropout_bits) {
    enum { B = 2, TQ = 4, TK = 9, NH = 2 };
    Attention a = attention_of(B, TQ, TK, NH, 1, 4, TK, 0);
    a.dropout = (Dropout){ 0.5f, 31, 77 };
    Case c = random_case(a, 0);
    for (int i = 0; i < B * TK * TK; i++) c.x[V][i] = i / TK % TK == i % TK;
    reference(c);
    int wrong = 0;
    for (int b = 0; b < B; b++)
        for (int h = 0; h < NH; h++)
            for (int i = TK - TQ; i < TK; i++)
                for (int j = 0; j < TK; j++) {
                    uint64_t key = hash64(hash64(31, 77 + (uint64_t)b), (uint64_t)(h * TK + i));
                    double p = j <= i ? dropout_factor(key, (uint32_t)j, 1u << 31, 2) / (i + 1) : 0;
                    wrong += fabs(c.x[OUT][((b * TQ + i - (TK - TQ)) * NH + h) * TK + j] - p) > 1e-6;
                }
    CHECK_MSG(wrong == 0, "%d weights wrong", wrong);
    free_case(c);
}

// The loss sum dout . out, in double.
static double loss_of(Case c) {
    attention_reference_forward(c.x[OUT], c.x[LSE], c.x[MAX_LOGIT], c.x[Q], c.x[K], c.x[V], c.a);
    double loss = 0;
    for (size_t i = 0; i < floats_of(&c.a, OUT); i++)
        if (i % c.a.out_stride < shape_of(&c.a, OUT).width) loss += (double)c.x[OUT][i] * c.x[DOUT][i];
    return loss;
}

TEST(test_reference_gradients) {
    Attention a = attention_of(2, 5, 7, 4, 2, 3, 4, 1);
    for (int way = 0; way < 4; way++) {
        a.dropout = (Dropout){ way & 1 ? 0.4f : 0, 99, 7 };
        a.softcap = way & 2 ? 0.9f : 0;
        Case c = random_case(a, 1.5f), at = copy_of(c);
        reference(c);
        for (int i = Q; i <= V; i++) {
            Shape s = shape_of(&a, i);
            double difference = 0, size = 0;
            for (size_t j = 0; j < floats_of(&a, i); j++) {
                if (j % s.stride >= s.width) continue;
                const float h = 0x1p-6f;
                float x = at.x[i][j];
                at.x[i][j] = x + h;
                double up = loss_of(at), step = at.x[i][j];
                at.x[i][j] = x - h;
                step -= at.x[i][j];
                double expected = (up - loss_of(at)) / step, got = c.x[DQ + i][j];
                at.x[i][j] = x;
                difference += (got - expected) * (got - expected);
                size += expected * expected;
            }
            double error = sqrt(difference / size);
            CHECK_MSG(error < 5e-4, "%s: error %.2g", array_names[DQ + i], error);
        }
        free_case(c);
        free_case(at);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Promises

TEST(test_threads_and_in_place_same_bits) {
    Attention a = attention_of(2, 130, 140, 4, 2, 24, 16, 1);
    a.dropout = (Dropout){ 0.1f, 5, 6 };
    Case start = random_case(a, 1);
    FOR_EACH_ROW(row) {
        Case one = copy_of(start);
        forward(one, 1);
        backward(one, 1);
        for (int threads = 2; threads <= 9; threads += threads == 3 ? 6 : 1) {  // from 3 on: forward by heads
            Case c = copy_of(start);
            forward(c, threads);
            backward(c, threads);
            for (int i = 0; i < ARRAYS; i++)
                CHECK_MSG(same_bits(c, one, i), "%s: %s with %d threads", gemm_isa(), array_names[i], threads);
            free_case(c);
        }
        Case in_place = copy_of(one);
        for (int i = Q; i <= V; i++) {
            free(in_place.x[DQ + i]);
            in_place.x[DQ + i] = in_place.x[i];
        }
        backward(in_place, 2);
        for (int i = DQ; i <= DV; i++)
            CHECK_MSG(same_bits(in_place, one, i), "%s: %s in place", gemm_isa(), array_names[i]);
        for (int i = DQ; i <= DV; i++) in_place.x[i] = NULL;
        free_case(in_place);
        free_case(one);
    }
    free_case(start);
    omp_set_num_threads(2);
}

// NaN in any place of q or k: max_logit of the heads that read it, lse and out of the queries that see it. In v: out.
TEST(test_nan) {
    enum { T = 110, HS = 16 };
    static const int places[] = { 0, 1, 50, 95, 96, 109 };
    for (int softcap = 0; softcap < 2; softcap++)
        for (int array = Q; array <= V; array++)
            for (size_t p = 0; p < COUNT_OF(places); p++) {
                Attention a = attention_of(1, T, T, 1, 1, HS, HS, 0);
                a.softcap = (float)softcap;
                Case start = random_case(a, 1);
                start.x[array][places[p] * HS + 3] = NAN;
                FOR_EACH_ROW(row) {
                    Case c = copy_of(start);
                    forward(c, 1);
                    int missing = 0, spread = 0;
                    for (int i = 0; i < T; i++) {
                        bool sees = array == Q ? i == places[p] : i >= places[p];
                        if (array != V) {
                            missing += sees && !(isnan(c.x[LSE][i]) && isnan(c.x[OUT][i * HS]));
                            spread += !sees && (isnan(c.x[LSE][i]) || isnan(c.x[OUT][i * HS]));
                        } else {
                            missing += sees && !isnan(c.x[OUT][i * HS + 3]);
                        }
                    }
                    CHECK_MSG(missing == 0 && spread == 0, "%s: %s[%d]: %d hidden, %d spread", gemm_isa(),
                              array_names[array], places[p], missing, spread);
                    CHECK_MSG(isnan(c.x[MAX_LOGIT][0]) == (array != V), "%s: %s[%d]: max_logit %g", gemm_isa(),
                              array_names[array], places[p], c.x[MAX_LOGIT][0]);
                    backward(c, 1);
                    int shown = 0;
                    for (int i = 0; i < T * HS; i++) shown += isnan(c.x[DQ][i]);
                    CHECK_MSG(shown > 0, "%s: %s[%d]: not in dq", gemm_isa(), array_names[array], places[p]);
                    free_case(c);
                }
                free_case(start);
            }
}

TEST(test_scratch_is_linear) {
    Attention a = attention_of(1, 960, 960, 1, 1, 64, 64, 0), b = attention_of(1, 1920, 1920, 1, 1, 64, 64, 0);
    CHECK(attention_scratch_floats(&a) % 16 == 0);
    CHECK(attention_scratch_floats(&b) <= 2 * attention_scratch_floats(&a));
}

static void run_tests(void) {
    RUN(test_reference_by_hand);
    RUN(test_dropout_bits);
    RUN(test_reference_gradients);
    RUN(test_sizes);
    RUN(test_groups);
    RUN(test_fewer_queries);
    RUN(test_keys_apart);
    RUN(test_heads_apart);
    RUN(test_dropout_and_softcap);
    RUN(test_large_logits);
    RUN(test_threads_and_in_place_same_bits);
    RUN(test_nan);
    RUN(test_scratch_is_linear);
    for (int p = 0; p < 2; p++)
        if (worst[p][OUT] > 0)
            printf("largest errors in %s: out %.1e lse %.1e max_logit %.1e dq %.1e dk %.1e dv %.1e\n",
                   p ? "bf16" : "fp32", worst[p][OUT], worst[p][LSE], worst[p][MAX_LOGIT], worst[p][DQ], worst[p][DK],
                   worst[p][DV]);
}

#ifndef TEST_ATTN_NO_MAIN
int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    rows_of_this_cpu();
    run_tests();
    return tests_end();
}
#endif
