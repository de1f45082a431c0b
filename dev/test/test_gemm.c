/* test_gemm.c - src/gemm.h: each of its kernels that this CPU can run against the plain triple loop, and its promises.
 * Which rows of the table of kernels are tested: rows.h. test_tiles.c includes this file to run the same tests on AMX in software.
 */
#define _GNU_SOURCE
#include "rows.h"            // defines: FOR_EACH_ROW, use_row, row_name; gemm.h, test.h

#include <math.h>
#include <sys/mman.h>

// ---------------------------------------------------------------------------------------------------------------------
// Matrices in blocks of exactly the size they need, so that AddressSanitizer sees a read or write one float beyond.

typedef struct { float *x; int rows, columns; size_t stride, floats; } Matrix;

static Matrix matrix_of(int rows, int columns, int gap) {
    Matrix m = { NULL, rows, columns, (size_t)columns + gap, 0 };
    m.floats = (size_t)(rows - 1) * m.stride + columns;
    m.x = (float *)xmalloc(m.floats * sizeof *m.x);
    for (size_t i = 0; i < m.floats; i++) m.x[i] = NAN;
    return m;
}

// Uniform in [-1, 1); the gaps between the rows stay NaN, which no product may meet.
static Matrix random_matrix(int rows, int columns, int gap, uint64_t seed) {
    Matrix m = matrix_of(rows, columns, gap);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) m.x[i * m.stride + j] = 2 * uniform_of(hash64(seed, i * m.stride + j)) - 1;
    return m;
}

static Matrix copy_of(Matrix m) {
    Matrix copy = m;
    copy.x = (float *)xmalloc(m.floats * sizeof *m.x);
    memcpy(copy.x, m.x, m.floats * sizeof *m.x);
    return copy;
}

// Whole numbers from -8 to 8: exact in bf16, and exact as sums of some thousand products in fp32.
static void make_whole(Matrix m) {
    for (size_t i = 0; i < m.floats; i++) m.x[i] = rintf(8 * m.x[i]);
}

static bool same_bits(Matrix a, Matrix b) { return memcmp(a.x, b.x, a.floats * sizeof *a.x) == 0; }

static void free_matrices(int count, const Matrix *m) {
    for (int i = 0; i < count; i++) free(m[i].x);
}
#define FREE(...) free_matrices((int)COUNT_OF(((Matrix[]){ __VA_ARGS__ })), (Matrix[]){ __VA_ARGS__ })

// ---------------------------------------------------------------------------------------------------------------------
// One product with its operands

typedef struct { bool trans_a, trans_b; int m, n, k; float alpha, beta; Matrix a, b; } Product;

// form: 0 NN, 1 TN, 2 NT, 3 TT; only its two low bits count.
static Product random_product(int form, int m, int n, int k, float alpha, float beta, int gap) {
    Product p = { form & 1, form >> 1 & 1, m, n, k, alpha, beta, { 0 }, { 0 } };
    p.a = p.trans_a ? random_matrix(k, m, gap, 1) : random_matrix(m, k, gap, 1);
    p.b = p.trans_b ? random_matrix(n, k, 2 * gap, 2) : random_matrix(k, n, 2 * gap, 2);
    return p;
}

static void free_product(Product p) { FREE(p.a, p.b); }

// What the last product left in the scratch memory must not matter: NaN is there instead.
static void poison_scratch(void) {
    if (gemm_scratch) memset(gemm_scratch, 0xff, gemm_scratch_floats * sizeof *gemm_scratch);
}

static void run(Product p, Matrix c) {
    poison_scratch();
    gemm(p.trans_a, p.trans_b, p.m, p.n, p.k, p.alpha, p.a.x, p.a.stride, p.b.x, p.b.stride, p.beta, c.x, c.stride);
}

// B isn't given where it comes packed.
static void run_with(GemmExtras extras, Product p, Matrix c) {
    poison_scratch();
    gemm_with(extras, p.trans_a, p.trans_b, p.m, p.n, p.k, p.alpha, p.a.x, p.a.stride,
              extras.packed_b ? NULL : p.b.x, extras.packed_b ? 0 : p.b.stride, p.beta, c.x, c.stride);
}

// A copy of a matrix as the row's precision has it.
static Matrix rounded(Matrix m) {
    Matrix copy = copy_of(m);
    for (size_t i = 0; gemm_current()->precision == GEMM_BF16 && i < m.floats; i++) copy.x[i] = gemm_round_bf16(m.x[i]);
    return copy;
}

static void run_reference(Product p, Matrix c) {
    Matrix a = rounded(p.a), b = rounded(p.b);
    gemm_reference(p.trans_a, p.trans_b, p.m, p.n, p.k, p.alpha, a.x, a.stride, b.x, b.stride, p.beta, c.x, c.stride);
    FREE(a, b);
}

// Euclidean norms of the rows of op(A) (count m) or the columns of op(B) (count n).
static double *norms_of(Matrix x, bool lane_is_row, int count, int k) {
    double *norms = (double *)xcalloc((size_t)count, sizeof *norms);
    for (int i = 0; i < count; i++) {
        for (int p = 0; p < k; p++) {
            double v = lane_is_row ? x.x[i * x.stride + p] : x.x[p * x.stride + i];
            norms[i] += v * v;
        }
        norms[i] = sqrt(norms[i]);
    }
    return norms;
}

/* How many elements of C differ from those expected by more than
 *   factor * (8 + sqrt(k)) * 2^-24 * (|alpha| |row of A| |column of B| + |beta C|),
 * 2^-24 the rounding of one fp32 operation, whose errors add up like a random walk. Of operands rounded to bf16 the
 * products are exact in fp32: the bound holds for both precisions. start: C before, where beta isn't 0. */
static int count_wrong(Product p, Matrix c, Matrix expected, Matrix start, double factor) {
    double *na = norms_of(p.a, !p.trans_a, p.m, p.k), *nb = norms_of(p.b, p.trans_b, p.n, p.k);
    double unit = factor * (8 + sqrt(p.k)) * 0x1p-24;
    int wrong = 0;
    for (int i = 0; i < p.m; i++) {
        for (int j = 0; j < p.n; j++) {
            size_t at = i * c.stride + j;
            double size = fabs(p.alpha * na[i] * nb[j]) + (p.beta == 0 ? 0 : fabs((double)p.beta * start.x[at]));
            wrong += !(fabs((double)c.x[at] - expected.x[at]) <= unit * size);
        }
    }
    free(na);
    free(nb);
    return wrong;
}

// Runs the product on a C of its own, on NaN where beta is 0, and checks every element against the reference (equal
// where all numbers are whole), and the floats between the rows bit for bit.
static void check_product(Product p, int gap, bool whole) {
    Matrix start = p.beta == 0 ? matrix_of(p.m, p.n, gap) : random_matrix(p.m, p.n, gap, 3);
    if (whole) make_whole(p.a), make_whole(p.b), make_whole(start);
    Matrix c = copy_of(start), expected = copy_of(start);
    run(p, c);
    run_reference(p, expected);
    int wrong = count_wrong(p, c, expected, start, whole ? 0 : 1), touched = 0;
    for (size_t i = 0; i < c.floats; i++)
        touched += i % c.stride >= (size_t)p.n && memcmp(&c.x[i], &start.x[i], sizeof(float)) != 0;
    CHECK_MSG(wrong == 0, "%s %c%c m %d n %d k %d alpha %g beta %g: %d elements wrong", row_name(),
              p.trans_a ? 'T' : 'N', p.trans_b ? 'T' : 'N', p.m, p.n, p.k, p.alpha, p.beta, wrong);
    CHECK_MSG(touched == 0, "%s m %d n %d k %d: %d floats outside of C written", row_name(), p.m, p.n, p.k, touched);
    FREE(start, c, expected);
}

// op(B) packed, in a block of exactly the size it needs.
static float *packed_b_of(Product p) {
    void *packed;
    size_t bytes = gemm_packed_floats(p.n, p.k) * sizeof(float);
    if (posix_memalign(&packed, 64, bytes) != 0) fail("out of memory: %zu bytes asked for", bytes);
    memset(packed, 0xff, bytes);
    gemm_pack_b((float *)packed, p.trans_b, p.n, p.k, p.b.x, p.b.stride);
    return (float *)packed;
}

// More columns than a slab of B has, and for them more steps of k than one.
enum { WIDE = GEMM_NC + 37 };
static int deep(const GemmIsa *row) {
    GemmJob job = { .isa = row, .n = WIDE };
    gemm_plan_slabs(&job);
    return job.slab_depth + GEMM_KC / 2 + 3;
}

// ---------------------------------------------------------------------------------------------------------------------
// Rounding to bf16

static float float_of(uint32_t bits) {
    union { uint32_t bits; float f; } v = { bits };
    return v.f;
}

static uint32_t bits_of(float f) {
    union { float f; uint32_t bits; } v = { f };
    return v.bits;
}

TEST(test_rounding_table) {
    static const struct { const char *what; uint32_t x, rounded; } cases[] = {
        { "0",                                          0x00000000, 0x00000000 },
        { "-0",                                         0x80000000, 0x80000000 },
        { "1",                                          0x3f800000, 0x3f800000 },
        { "just below a tie",                           0x3f807fff, 0x3f800000 },
        { "a tie, down to even",                        0x3f808000, 0x3f800000 },
        { "just above a tie",                           0x3f808001, 0x3f810000 },
        { "a tie, up to even",                          0x3f818000, 0x3f820000 },
        { "a tie of a negative number, down to even",   0xbf808000, 0xbf800000 },
        { "a tie of a negative number, up to even",     0xbf818000, 0xbf820000 },
        { "a tie that carries into the exponent",       0x3fff8000, 0x40000000 },
        { "the largest that doesn't overflow",          0x7f7f7fff, 0x7f7f0000 },
        { "the smallest that overflows",                0x7f7f8000, 0x7f800000 },
        { "the largest float",                          0x7f7fffff, 0x7f800000 },
        { "the most negative float",                    0xff7fffff, 0xff800000 },
        { "infinity",                                   0x7f800000, 0x7f800000 },
        { "-infinity",                                  0xff800000, 0xff800000 },
        { "quiet NaN",                                  0x7fc00000, 0x7fc00000 },
        { "NaN whose payload is in the lower half",     0x7f800001, 0x7fc00000 },
        { "negative NaN, payload in the lower half",    0xff807fff, 0xffc00000 },
        { "NaN that would round up",                    0x7fc0ffff, 0x7fc00000 },
        { "NaN that would carry into the sign",         0x7fffffff, 0x7fff0000 },
        { "signalling NaN keeps its upper payload",     0x7fa10000, 0x7fe10000 },
        { "the smallest subnormal",                     0x00000001, 0x00000000 },
        { "a negative subnormal",                       0x80400000, 0x80000000 },
        { "the largest subnormal, near the smallest normal", 0x007fffff, 0x00000000 },
        { "the smallest normal",                        0x00800000, 0x00800000 },
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uint32_t got = bits_of(gemm_round_bf16(float_of(cases[i].x)));
        CHECK_MSG(got == cases[i].rounded, "%s: %08x becomes %08x, not %08x", cases[i].what, (unsigned)cases[i].x,
                  (unsigned)got, (unsigned)cases[i].rounded);
    }
}

// Every upper half with these lower ones: all bf16, and what is around the ties between them.
enum { ROUNDING_CASES = 6 << 16 };
static float rounding_case(int i) {
    static const uint32_t low[] = { 0, 1, 0x7fff, 0x8000, 0x8001, 0xffff };
    return float_of((uint32_t)i / 6 << 16 | low[i % 6]);
}

// The nearest bf16, the even one of two: by arithmetic in double on the two neighbours.
TEST(test_rounding_is_nearest) {
    int wrong = 0;
    for (int i = 0; i < ROUNDING_CASES; i++) {
        float x = rounding_case(i), got = gemm_round_bf16(x);
        uint32_t down = bits_of(x) & 0xffff0000u, up = down + 0x10000u, sign = bits_of(x) & 0x80000000u;
        if (isnan(x)) {
            wrong += !isnan(got);
        } else if (!isnormal(x)) {
            wrong += bits_of(got) != (isinf(x) ? bits_of(x) : sign);
        } else {
            double above = isinf(float_of(up)) ? 0x1p128 : fabs((double)float_of(up));
            double to_down = fabs((double)x) - fabs((double)float_of(down)), to_up = above - fabs((double)x);
            bool even_is_up = down >> 16 & 1;
            wrong += bits_of(got) != (to_up < to_down || (to_up == to_down && even_is_up) ? up : down);
        }
    }
    CHECK_MSG(wrong == 0, "%d of %d wrong", wrong, ROUNDING_CASES);
}

// The packing to bf16 of this CPU's own instructions gives the bits of gemm_round_bf16, from rows and from columns.
TEST(test_rounding_is_packing) {
    enum { LANES = GEMM_NR_MAX, DEPTH = GEMM_KC, CHUNK = LANES * DEPTH };
    const GemmIsa *row = gemm_isas, *end = gemm_isas + COUNT_OF(gemm_isas);
    while (row < end && (strcmp(row->name, "amx") == 0 || row->per_word != 2 || !row->supported())) row++;
    if (row == end) {
        puts("    skipped: this CPU has no instructions for bf16");
        return;
    }
    int per_lane = row->step / 2;           // words of a lane that lie side by side
    float *x = (float *)xmalloc(CHUNK * sizeof *x), *words = (float *)xmalloc(CHUNK / 2 * sizeof *words);
    for (int lane_is_row = 0; lane_is_row < 2; lane_is_row++) {
        GemmOperand operand = { x, lane_is_row ? DEPTH : LANES, lane_is_row };
        int wrong = 0;
        for (int start = 0; start < ROUNDING_CASES; start += CHUNK) {
            for (int i = 0; i < CHUNK; i++) x[i] = rounding_case(start + i);
            for (int first = 0; first < LANES; first += row->nr) {
                row->pack_b(words, &operand, first, row->nr, 0, DEPTH);
                for (int p = 0; p < DEPTH; p++) {
                    for (int lane = 0; lane < row->nr; lane++) {
                        float from = lane_is_row ? x[(first + lane) * DEPTH + p] : x[p * LANES + first + lane];
                        int at = (p / row->step * row->nr + lane) * per_lane + p % row->step / 2;
                        uint32_t word = bits_of(words[at]), half = p % 2 ? word >> 16 : word & 0xffff;
                        wrong += half != bits_of(gemm_round_bf16(from)) >> 16;
                    }
                }
            }
        }
        CHECK_MSG(wrong == 0, "%s, from %s: %d of %d differ", row->name, lane_is_row ? "rows" : "columns", wrong,
                  ROUNDING_CASES);
    }
    free(x);
    free(words);
}

// ---------------------------------------------------------------------------------------------------------------------
// Against the reference

// Sizes around a tile, a block of k and a tile's words, and primes. Of all combinations a Latin square: each m with
// each k in each form, each n likewise, each m with each n. Alpha, beta and the gaps change along.
TEST(test_sizes) {
    static const float alphas[] = { 1, -0.5f, 2, 1 }, betas[] = { 0, 1, -1.5f };
    static const int ks[] = { 1, 2, 3, 31, 32, 33, GEMM_KC - 1, GEMM_KC, GEMM_KC + 1, 2 * GEMM_KC + 5 };
    FOR_EACH_ROW(row) {
        enum { SIZES = 5 };
        const int ms[SIZES] = { 1, row->mr - 1, row->mr, row->mr + 1, 41 };
        const int ns[SIZES] = { 1, row->nr - 1, row->nr, row->nr + 1, 71 };
        unsigned count = 0;
        for (int i = 0; i < SIZES; i++) {
            for (int l = 0; l < (int)COUNT_OF(ks); l++) {
                for (int form = 0; form < 4; form++, count++) {
                    int gap = count % 5 == 0 ? 0 : (int)(count % 5) + 2;
                    Product p = random_product(form, ms[i], ns[(i + l + form) % SIZES], ks[l], alphas[count / 3 % 4],
                                               betas[count % 3], gap);
                    check_product(p, gap, false);
                    free_product(p);
                }
            }
        }
    }
}

TEST(test_alpha_beta) {
    static const float factors[] = { 0, 1, -1, 0.3f };
    FOR_EACH_ROW(row) {
        for (size_t i = 0; i < COUNT_OF(factors); i++) {
            for (size_t j = 0; j < COUNT_OF(factors); j++) {
                Product p = random_product((int)(i + j), 2 * row->mr + 1, row->nr + 3, GEMM_KC + 1, factors[i],
                                           factors[j], 3);
                check_product(p, 5, false);
                free_product(p);
            }
        }
    }
}

// Whole numbers: one product forgotten, doubled or in the wrong place can't hide in a tolerance.
TEST(test_whole_numbers) {
    FOR_EACH_ROW(row) {
        for (int form = 0; form < 4; form++) {
            Product p = random_product(form, 2 * row->mr + 1, 2 * row->nr + 1, 2 * GEMM_KC + 7, form < 2 ? 1 : 0.5f,
                                       form % 3 == 0 ? 1 : -2, 1);
            check_product(p, 1, true);
            free_product(p);
        }
    }
}

// Large enough for several slabs of B in both directions, several blocks of rows and threads. The scratch memory stays
// as small as promised.
TEST(test_slabs) {
    FOR_EACH_ROW(row) {
        gemm_free();
        const int sizes[][3] = { { 3, WIDE, deep(row) }, { 67, 5, 3001 }, { 331, 35, 77 } };
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            Product p = random_product((int)i + 1, sizes[i][0], sizes[i][1], sizes[i][2], 1, (float)(i % 2), 1);
            check_product(p, 4, i == 0);
            free_product(p);
        }
        CHECK_MSG(gemm_scratch_floats * sizeof(float) <= (6 << 20) + 2 * (600 << 10), "%s: %zu floats", row_name(),
                  gemm_scratch_floats);
    }
}

// Nothing to compute: empty matrices, k = 0 and alpha = 0 never read A or B.
TEST(test_empty) {
    FOR_EACH_ROW(row) {
        float c[6] = { 1, 2, 3, 4, 5, 6 }, packed[1];
        gemm(false, false, 0, 3, 3, 1, NULL, 3, NULL, 3, 0, NULL, 3);
        gemm(false, false, 3, 0, 3, 1, NULL, 3, NULL, 3, 0, NULL, 3);
        gemm(false, false, 2, 2, 0, 1, NULL, 3, NULL, 3, 2, c, 3);
        CHECK(c[0] == 2 && c[1] == 4 && c[2] == 3 && c[3] == 8 && c[4] == 10 && c[5] == 6);
        gemm(true, true, 2, 2, 9, 0, NULL, 3, NULL, 3, 1, c, 3);
        CHECK(c[0] == 2 && c[1] == 4 && c[2] == 3 && c[3] == 8 && c[4] == 10 && c[5] == 6);
        gemm_symmetric(false, 0, 4, 1, NULL, 4, NULL, 4, 0, NULL, 3);
        c[0] = NAN;
        gemm_symmetric(false, 2, 0, 1, NULL, 4, NULL, 4, 0, c, 3);
        CHECK(c[0] == 0 && c[1] == 0 && c[2] == 3 && c[3] == 0 && c[4] == 0 && c[5] == 6);
        c[0] = NAN;
        gemm(false, false, 2, 2, 9, 0, NULL, 3, NULL, 3, 0, c, 3);
        CHECK(c[0] == 0 && c[1] == 0 && c[2] == 3 && c[3] == 0 && c[4] == 0 && c[5] == 6);
        CHECK(gemm_packed_floats(0, 9) == 0 && gemm_packed_floats(9, 0) == 0);
        gemm_pack_b(packed, false, 0, 9, NULL, 9);
        gemm_pack_b(packed, false, 9, 0, NULL, 9);
    }
}

// A NaN or infinity in one row of A or column of B, in the last, odd step of k, reaches that row or column of C and no
// other element.
TEST(test_nan_stays_in_its_row) {
    FOR_EACH_ROW(row) {
        for (int form = 0; form < 4; form++) {
            enum { K = 9 };
            int m = row->mr + 2, n = row->nr + 2, at = m - 1, column = n - 1;
            Product p = random_product(form, m, n, K, 1, 0, 0);
            p.a.x[p.trans_a ? (K - 1) * p.a.stride + at : at * p.a.stride + K - 1] = NAN;
            p.b.x[p.trans_b ? column * p.b.stride + K - 1 : (K - 1) * p.b.stride + column] = INFINITY;
            Matrix c = matrix_of(m, n, 0);
            run(p, c);
            int wrong = 0;
            for (int i = 0; i < m; i++)
                for (int j = 0; j < n; j++) wrong += (i == at || j == column) == (isfinite(c.x[i * c.stride + j]) != 0);
            CHECK_MSG(wrong == 0, "%s form %d: %d elements", row_name(), form, wrong);
            FREE(c);
            free_product(p);
        }
    }
}

// Kernels in bf16 agree with each other within rounding, twice the bound of count_wrong: native, tiles and emulated.
TEST(test_bf16_kernels_agree) {
    for (int form = 0; form < 4; form++) {
        Product p = random_product(form, 53, 67, 3 * GEMM_KC + 7, form < 2 ? 1 : 0.3f, form % 2, 1);
        Matrix start = random_matrix(p.m, p.n, 0, 3), first = { 0 };
        for (const GemmIsa *row = rows_begin; row < gemm_isas + COUNT_OF(gemm_isas); row++) {
            if (row->precision != GEMM_BF16 || !use_row(row)) continue;
            Matrix c = copy_of(start);
            run(p, c);
            if (first.x) {
                int wrong = count_wrong(p, c, first, start, 2);
                CHECK_MSG(wrong == 0, "%s, form %d: %d elements differ", row_name(), form, wrong);
                FREE(c);
            } else {
                first = c;
            }
        }
        FREE(start, first);
        free_product(p);
    }
}

// A packed panel holds each number once, and zeros for the lanes and steps that don't exist; nothing is written behind.
TEST(test_packing_fills_up_with_zeros) {
    enum { DEPTH = 37, BEHIND = 16, LARGEST = 64 * GEMM_NR_MAX + BEHIND };
    static const int lives[] = { 1, 5, 1 << 10 };
    uint32_t *panel = (uint32_t *)xmalloc(LARGEST * sizeof *panel);
    FOR_EACH_ROW(row) {
        for (int way = 0; way < 4 * (int)COUNT_OF(lives); way++) {
            bool b = way & 1, lane_is_row = way >> 1 & 1;
            GemmPack *pack = b ? row->pack_b : row->pack_a;
            int width = b ? row->nr : row->mr, live = gemm_min(lives[way / 4], width), found = 0, behind = 0;
            Matrix x = lane_is_row ? random_matrix(live, DEPTH, 2, 1) : random_matrix(DEPTH, live, 2, 1);
            memset(panel, 0xff, LARGEST * sizeof *panel);
            pack((float *)panel, &(GemmOperand){ x.x, x.stride, lane_is_row }, 0, live, 0, DEPTH);
            size_t words = gemm_words(row, DEPTH) * (size_t)width;
            for (size_t i = 0; i < words; i++)
                found += row->per_word == 1 ? panel[i] != 0 : ((panel[i] & 0xffff) != 0) + (panel[i] >> 16 != 0);
            for (size_t i = 0; i < BEHIND; i++) behind += panel[words + i] != 0xffffffffu;
            CHECK_MSG(found == live * DEPTH, "%s %c from %s, %d lanes: %d of %d numbers", row_name(), b ? 'B' : 'A',
                      lane_is_row ? "rows" : "columns", live, found, live * DEPTH);
            CHECK_MSG(behind == 0, "%s: %d words behind the panel written", row_name(), behind);
            FREE(x);
        }
    }
    free(panel);
}

// ---------------------------------------------------------------------------------------------------------------------
// Nothing beyond: AddressSanitizer doesn't see what masked or tile instructions touch, a page without access does.

typedef struct { void *pages; size_t bytes; } Fence;

// Room for so many floats, aligned to `align` bytes and as near as that allows to a page that can't be touched.
static float *floats_before_fence(Fence *fence, size_t floats, size_t align) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = floats * sizeof(float);
    size_t open = (bytes + align + page - 1) / page * page;
    fence->bytes = open + page;
    fence->pages = mmap(NULL, fence->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fence->pages == MAP_FAILED || mprotect((char *)fence->pages + open, page, PROT_NONE) != 0)
        fail("mmap: %s", strerror(errno));
    return (float *)((char *)fence->pages + (open - bytes) / align * align);
}

static void products_before_fences(void *form) {
    const GemmIsa *row = gemm_current();
    const int ms[] = { 1, row->mr + 3, 2 * row->mr }, ns[] = { 1, row->nr + 5, 2 * row->nr };
    const int ks[] = { 1, 15, 31, GEMM_KC + 1 };
    omp_set_num_threads(1);                     // of a forked process this one alone is left
    for (size_t i = 0; i < COUNT_OF(ms) * COUNT_OF(ks); i++) {
        Product p = random_product(*(int *)form, ms[i % 3], ns[i % 3], ks[i / 3], 1, 1, 0), fenced = p;
        Matrix c = random_matrix(p.m, p.n, 0, 3), fenced_c = c;
        Fence fences[4];
        fenced.a.x = floats_before_fence(&fences[0], p.a.floats, sizeof(float));
        fenced.b.x = floats_before_fence(&fences[1], p.b.floats, sizeof(float));
        fenced_c.x = floats_before_fence(&fences[2], c.floats, sizeof(float));
        memcpy(fenced.a.x, p.a.x, p.a.floats * sizeof(float));
        memcpy(fenced.b.x, p.b.x, p.b.floats * sizeof(float));
        memcpy(fenced_c.x, c.x, c.floats * sizeof(float));
        run(p, c);
        run(fenced, fenced_c);
        if (!same_bits(c, fenced_c)) fail("m %d n %d k %d: other bits", p.m, p.n, p.k);
        float *packed = floats_before_fence(&fences[3], gemm_packed_floats(p.n, p.k), 64);
        gemm_pack_b(packed, p.trans_b, p.n, p.k, fenced.b.x, p.b.stride);
        run_with((GemmExtras){ .packed_b = packed }, fenced, fenced_c);
        for (size_t f = 0; f < COUNT_OF(fences); f++) munmap(fences[f].pages, fences[f].bytes);
        FREE(c);
        free_product(p);
    }
}

TEST(test_nothing_beyond_is_touched) {
    FOR_EACH_ROW(row) {
        for (int form = 0; form < 4; form++) {
            char errors[256];
            int code = run_child(products_before_fences, &form, errors, sizeof errors);
            CHECK_MSG(code == 0, "%s, form %d: exit code %d %s", row_name(), form, code, errors);
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The same bits

// One thread, two, three and many give the same bits: forward, dX and dW shapes, more and fewer tasks than threads.
TEST(test_threads_same_bits) {
    static const int sizes[][3] = {
        { 400, 96, 70 }, { 97, 131, 1500 }, { 1, 700, 900 }, { 900, 3, 400 }, { 9, WIDE, GEMM_KC + 88 },
    };
    FOR_EACH_ROW(row) {
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            Product p = random_product((int)i % 4, sizes[i][0], sizes[i][1], sizes[i][2], 1, 0.5f, 1);
            Matrix start = random_matrix(p.m, p.n, 0, 3), one = copy_of(start);
            omp_set_num_threads(1);
            run(p, one);
            static const int counts[] = { 2, 3, 7 };
            for (size_t t = 0; t < COUNT_OF(counts); t++) {
                Matrix c = copy_of(start);
                omp_set_num_threads(counts[t]);
                run(p, c);
                CHECK_MSG(same_bits(one, c), "%s m %d n %d k %d, %d threads", row_name(), p.m, p.n, p.k, counts[t]);
                FREE(c);
            }
            FREE(start, one);
            free_product(p);
        }
    }
    omp_set_num_threads(2);
}

// A block of C computed alone has the bits it has inside the whole, and so has the product of transposed copies. Some
// kernels have a way of their own for alpha 1 and beta 1.
TEST(test_block_same_bits) {
    enum { M = 75, N = 107, K = 700, ROW = 5, COLUMN = 9, ROWS = 31, COLUMNS = 50 };
    static const float factors[][2] = { { 0.7f, 0 }, { 1, 1 } };
    FOR_EACH_ROW(row) {
        for (size_t f = 0; f < COUNT_OF(factors); f++) {
            float alpha = factors[f][0], beta = factors[f][1];
            Product p = random_product(0, M, N, K, alpha, beta, 2);
            Matrix whole = random_matrix(M, N, 0, 3), part = matrix_of(ROWS, COLUMNS, 0), again = copy_of(whole);
            for (size_t i = 0; i < ROWS; i++)
                memcpy(part.x + i * COLUMNS, whole.x + (ROW + i) * N + COLUMN, COLUMNS * sizeof(float));
            run(p, whole);
            gemm(false, false, ROWS, COLUMNS, K, alpha, p.a.x + ROW * p.a.stride, p.a.stride, p.b.x + COLUMN,
                 p.b.stride, beta, part.x, part.stride);
            int different = 0;
            for (size_t i = 0; i < ROWS; i++) {
                const float *inside = whole.x + (ROW + i) * N + COLUMN;
                different += memcmp(part.x + i * COLUMNS, inside, COLUMNS * sizeof(float)) != 0;
            }
            CHECK_MSG(different == 0, "%s: %d rows differ", row_name(), different);

            Matrix at = matrix_of(K, M, 1), bt = matrix_of(N, K, 3);
            for (size_t l = 0; l < K; l++) {
                for (size_t i = 0; i < M; i++) at.x[l * at.stride + i] = p.a.x[i * p.a.stride + l];
                for (size_t j = 0; j < N; j++) bt.x[j * bt.stride + l] = p.b.x[l * p.b.stride + j];
            }
            gemm(true, true, M, N, K, alpha, at.x, at.stride, bt.x, bt.stride, beta, again.x, again.stride);
            CHECK_MSG(same_bits(whole, again), "%s: transposed copies", row_name());
            FREE(whole, part, again, at, bt);
            free_product(p);
        }
    }
}

// Inside a caller's parallel region each thread computes its own products, small and large, undisturbed by the others.
TEST(test_inside_parallel_region) {
    enum { THREADS = 3, ROUNDS = 6 };
    static const int sizes[ROUNDS][3] = {
        { 64, 64, 16 }, { 64, 48, 64 }, { 64, 300, 100 }, { 150, 130, 300 }, { 1, 1, 1 }, { 13, 33, 600 },
    };
    FOR_EACH_ROW(row) {
        Product products[ROUNDS];
        Matrix expected[ROUNDS];
        for (int i = 0; i < ROUNDS; i++) {
            products[i] = random_product(i % 4, sizes[i][0], sizes[i][1], sizes[i][2], 1, 0, 0);
            expected[i] = matrix_of(sizes[i][0], sizes[i][1], 0);
            run(products[i], expected[i]);
        }
        int different = 0;
        #pragma omp parallel for schedule(static, 1) num_threads(THREADS) reduction(+ : different)
        for (int t = 0; t < THREADS; t++) {
            different += gemm_threads(1000, 1000, 1000) != 1;
            for (int r = 0; r < ROUNDS + t; r++) {      // unequal numbers of calls: a barrier inside would hang
                int i = (r + t) % ROUNDS;
                Matrix c = matrix_of(sizes[i][0], sizes[i][1], 0);
                run(products[i], c);
                different += !same_bits(c, expected[i]);
                FREE(c);
            }
        }
        CHECK_MSG(different == 0, "%s: %d products differ or start threads", row_name(), different);
        for (int i = 0; i < ROUNDS; i++) {
            FREE(expected[i]);
            free_product(products[i]);
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The symmetric product

// The bits of gemm on and above the diagonal, those mirrored below; the floats between the rows aren't touched. Of two
// different matrices, too, whose product isn't symmetric: what is above the diagonal then shows that both are read.
static void check_symmetric(bool trans, bool same, int n, int k, float alpha, float beta, int gap) {
    Matrix a = trans ? random_matrix(k, n, gap, 1) : random_matrix(n, k, gap, 1);
    Matrix b = same ? copy_of(a) : trans ? random_matrix(k, n, gap, 2) : random_matrix(n, k, gap, 2);
    Matrix full = beta == 0 ? matrix_of(n, n, gap) : random_matrix(n, n, gap, 3);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++) full.x[i * full.stride + j] = full.x[j * full.stride + i];
    Matrix c = copy_of(full);
    poison_scratch();
    gemm(trans, !trans, n, n, k, alpha, a.x, a.stride, b.x, b.stride, beta, full.x, full.stride);
    for (int i = 0; i < n && !same; i++)
        for (int j = 0; j < i; j++) full.x[i * full.stride + j] = full.x[j * full.stride + i];
    poison_scratch();
    gemm_symmetric(trans, n, k, alpha, a.x, a.stride, b.x, b.stride, beta, c.x, c.stride);
    int asymmetric = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++)
            asymmetric += bits_of(c.x[i * c.stride + j]) != bits_of(c.x[j * c.stride + i]);
    CHECK_MSG(asymmetric == 0, "%s trans %d n %d k %d: %d pairs differ", row_name(), trans, n, k, asymmetric);
    CHECK_MSG(same_bits(c, full), "%s trans %d n %d k %d alpha %g beta %g: not the bits of gemm", row_name(), trans, n,
              k, alpha, beta);
    FREE(a, b, full, c);
}

TEST(test_symmetric) {
    static const float alphas[] = { 1, -0.3f }, betas[] = { 0, 1, -0.7f };
    FOR_EACH_ROW(row) {
        const int ns[] = { 1, row->mr - 1, row->mr, row->mr + 1, row->nr - 1, row->nr, row->nr + 1, 97, 193 };
        const int ks[] = { 1, 40, GEMM_KC + 3 };
        unsigned count = 0;
        for (size_t i = 0; i < COUNT_OF(ns); i++)
            for (size_t j = 0; j < COUNT_OF(ks); j++, count++)
                for (int trans = 0; trans < 2; trans++) {
                    omp_set_num_threads((int)count % 4 + 1);
                    check_symmetric(trans, count % 4 < 3, ns[i], ks[j], alphas[count % 2], betas[count % 3], (int)count % 5);
                }
        omp_set_num_threads(2);
        if (!row->rounds) check_symmetric(false, true, WIDE, 3, 0.5f, 0, 1);
    }
}

// A precision of its own for one product, whatever the one in use, which stays.
TEST(test_precision_of_one_product) {
    enum { N = 70, K = 90 };
    Matrix a = random_matrix(N, K, 0, 1), b = random_matrix(N, K, 0, 2), c[2][2];
    CHECK(gemm_use(NULL));
    for (int used = 0; used < 2; used++)
        for (int own = 0; own < 2; own++) {
            c[used][own] = matrix_of(N, N, 0);
            gemm_use_precision(used ? GEMM_BF16 : GEMM_FP32);
            gemm_in(own ? GEMM_BF16 : GEMM_FP32, false, true, N, N, K, 1, a.x, a.stride, b.x, b.stride, 0,
                    c[used][own].x, N);
            CHECK(gemm_current()->precision == (used ? GEMM_BF16 : GEMM_FP32));
        }
    CHECK(same_bits(c[0][0], c[1][0]) && same_bits(c[0][1], c[1][1]) && !same_bits(c[0][0], c[0][1]));
    for (int own = 0; own < 2; own++) {
        gemm_symmetric_in(own ? GEMM_BF16 : GEMM_FP32, false, N, K, 1, a.x, a.stride, b.x, b.stride, 0, c[1][own].x, N);
        CHECK(bits_of(c[1][own].x[1]) == bits_of(c[0][own].x[1]));
    }
    gemm_use_precision(GEMM_FP32);
    FREE(a, b, c[0][0], c[0][1], c[1][0], c[1][1]);
}

static const GemmIsa *counted_row;
static int kernel_calls;

static void count_kernel(int words, const float *a, const float *b, float alpha, float beta, float *c, size_t ldc) {
    __atomic_fetch_add(&kernel_calls, 1, __ATOMIC_RELAXED);
    counted_row->kernel(words, a, b, alpha, beta, c, ldc);
}

// "About half the cost": counted in tiles.
TEST(test_symmetric_is_cheaper) {
    FOR_EACH_ROW(row) {
        enum { N = 640, K = 2 };
        GemmIsa counting = *row;
        counting.kernel = count_kernel;
        counting.kernel_in_place = NULL;
        counted_row = row;
        use_row(&counting);
        Matrix a = random_matrix(N, K, 0, 1), c = matrix_of(N, N, 0);
        kernel_calls = 0;
        gemm(false, true, N, N, K, 1, a.x, a.stride, a.x, a.stride, 0, c.x, c.stride);
        int full = kernel_calls;
        kernel_calls = 0;
        gemm_symmetric(false, N, K, 1, a.x, a.stride, a.x, a.stride, 0, c.x, c.stride);
        CHECK_MSG(kernel_calls > 0 && kernel_calls <= 0.56 * full, "%s: %d tiles of %d", row_name(), kernel_calls, full);
        FREE(a, c);
        use_row(row);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// A read in place

static void count_in_place(int words, const float *a, size_t lda, const float *b, float alpha, float beta, float *c,
                           size_t ldc) {
    __atomic_fetch_add(&kernel_calls, 1, __ATOMIC_RELAXED);
    counted_row->kernel_in_place(words, a, lda, b, alpha, beta, c, ldc);
}

// The product as this row computes it, with A packed and with A in place, each by `threads` threads.
static void check_in_place(const GemmIsa *row, Product p, bool symmetric, bool taken, int threads) {
    GemmIsa packing = *row, counting = *row;
    packing.kernel_in_place = NULL;
    counting.kernel_in_place = count_in_place;
    counted_row = row;
    Matrix start = random_matrix(p.m, p.n, 3, 3), c[2];
    omp_set_num_threads(threads);
    kernel_calls = 0;
    for (int in_place = 0; in_place < 2; in_place++) {
        use_row(in_place ? &counting : &packing);
        c[in_place] = copy_of(start);
        if (symmetric)
            gemm_symmetric(p.trans_a, p.n, p.k, p.alpha, p.a.x, p.a.stride, p.b.x, p.b.stride, p.beta, c[in_place].x,
                           start.stride);
        else
            run(p, c[in_place]);
    }
    use_row(row);
    CHECK_MSG((kernel_calls > 0) == taken, "%s m %d stride %zu: %d tiles in place", row_name(), p.m, p.a.stride,
              kernel_calls);
    CHECK_MSG(same_bits(c[0], c[1]), "%s form %d%d m %d n %d k %d stride %zu: other bits than packed", row_name(),
              p.trans_a, p.trans_b, p.m, p.n, p.k, p.a.stride);
    FREE(start, c[0], c[1]);
}

// In place gives the bits of packing, whatever the sizes, the strides and the threads; and it is done where A's rows lie
// along k, unless as many as a tile has would fall on one set of L1.
TEST(test_in_place_same_bits) {
    enum { PAGE = 1024 };       // floats
    FOR_EACH_ROW(row) {
        if (!row->kernel_in_place) continue;
        const int sizes[][3] = { { row->mr, row->nr, 1 }, { 5 * row->mr + 1, 3 * row->nr + 2, GEMM_KC + 3 },
                                 { 397, 300, 70 }, { 61, WIDE, 2 * GEMM_KC + 9 }, { row->mr - 1, 40, 50 } };
        for (int i = 0; i < (int)COUNT_OF(sizes); i++)
            for (int form = 0; form < 4; form++) {
                Product p = random_product(form, sizes[i][0], sizes[i][1], sizes[i][2], i % 2 ? 1 : 0.3f,
                                           (float)(form % 3) / 2, 2 * i + 1);
                check_in_place(row, p, false, !p.trans_a && p.m >= row->mr, i % 3 + 1);
                free_product(p);
            }
        for (int stride = 2 * PAGE - 4; stride <= 2 * PAGE + 4; stride += 4) {
            Product p = random_product(2, 3 * row->mr + 1, 60, 90, 1, 1, stride - 90);
            check_in_place(row, p, false, stride % PAGE != 0 || row->mr <= 8, 2);
            free_product(p);
        }
        Product p = random_product(2, 151, 151, 77, 1, 0.5f, 1);
        check_in_place(row, p, true, true, 2);
        free_product(p);
    }
    omp_set_num_threads(2);
}

// Few rows that read B in place give the bits of packing it, the last columns and steps that fill no vector too.
static void count_rows(int rows, int depth, const float *a, size_t lda, const float *b, size_t ldb, float alpha, float beta,
                       float *c, size_t ldc) {
    __atomic_fetch_add(&kernel_calls, 1, __ATOMIC_RELAXED);
    counted_row->kernel_rows(rows, depth, a, lda, b, ldb, alpha, beta, c, ldc);
}

TEST(test_few_rows_same_bits) {
    FOR_EACH_ROW(row) {
        if (!row->kernel_rows) continue;
        GemmIsa packing = *row, counting = *row;
        packing.kernel_rows = NULL;
        counting.kernel_rows = count_rows;
        counted_row = row;
        const int sizes[][2] = { { row->nr, 1 }, { 3 * row->nr + 2, GEMM_KC + 3 }, { 700, 2 * GEMM_KC + 6 }, { row->nr - 1, 40 } };
        for (int i = 0; i < (int)COUNT_OF(sizes); i++)
            for (int m = 1; m <= GEMM_FEW_ROWS + 1; m++)
                for (int form = 0; form < 4; form++) {
                    Product p = random_product(form, m, sizes[i][0], sizes[i][1], i % 2 ? 1 : 0.3f, (float)(m % 3) / 2, i + 1);
                    Matrix start = random_matrix(p.m, p.n, 3, 3), packed = copy_of(start), read = copy_of(start);
                    omp_set_num_threads(i % 3 + 1);
                    use_row(&packing);
                    run(p, packed);
                    use_row(&counting);
                    kernel_calls = 0;
                    run(p, read);
                    bool taken = p.m <= GEMM_FEW_ROWS && !p.trans_a && p.trans_b && p.n >= row->nr;
                    CHECK_MSG((kernel_calls > 0) == taken, "%s form %d m %d n %d: %d calls", row_name(), form, m, p.n, kernel_calls);
                    CHECK_MSG(same_bits(packed, read), "%s form %d m %d n %d k %d: other bits than packed", row_name(), form, m,
                              p.n, p.k);
                    use_row(row);
                    FREE(start, packed, read);
                    free_product(p);
                }
    }
    omp_set_num_threads(2);
}

// ---------------------------------------------------------------------------------------------------------------------
// B packed before, work on finished pieces

TEST(test_packed_same_bits) {
    FOR_EACH_ROW(row) {
        const int sizes[][3] = {
            { row->mr + 1, WIDE, deep(row) }, { 3, 2 * GEMM_NC + 1, 9 }, { 40, 65, 700 },
            { 7, row->nr, 1 }, { 1, row->nr - 1, GEMM_KC + 1 }, { 2, 1, 33 },
        };
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            for (int threads = 1; threads <= 3; threads++) {
                omp_set_num_threads(threads);
                int form = (int)i + threads;
                Product p = random_product(form, sizes[i][0], sizes[i][1], sizes[i][2], 0.7f, 0.5f, threads);
                Matrix c = random_matrix(p.m, p.n, 1, 3), with = copy_of(c);
                float *packed = packed_b_of(p);
                run(p, c);
                run_with((GemmExtras){ .packed_b = packed }, p, with);
                CHECK_MSG(same_bits(c, with), "%s m %d n %d k %d, %d threads", row_name(), p.m, p.n, p.k, threads);
                free(packed);
                FREE(c, with);
                free_product(p);
            }
        }
    }
    omp_set_num_threads(2);
}

enum { FINISHED = 12345 };      // what the callback leaves in C: nothing may come after it

typedef struct {
    Matrix c, seen;
    unsigned char *times;       // how often each element was handed over
    int outside;                // pieces that aren't inside of C, or not where they claim to be
} Pieces;

static void take_piece(void *arg, int row, int column, int rows, int columns, float *c, size_t ldc) {
    Pieces *p = (Pieces *)arg;
    if (row < 0 || rows <= 0 || row + rows > p->c.rows || column < 0 || columns <= 0 || column + columns > p->c.columns
        || ldc != p->c.stride || c != p->c.x + row * p->c.stride + column) {
        __atomic_fetch_add(&p->outside, 1, __ATOMIC_RELAXED);
        return;
    }
    for (size_t i = 0; i < (size_t)rows; i++) {
        for (size_t j = 0; j < (size_t)columns; j++) {
            size_t at = (row + i) * ldc + column + j;
            __atomic_fetch_add(&p->times[at], 1, __ATOMIC_RELAXED);
            p->seen.x[at] = c[i * ldc + j];
            c[i * ldc + j] = FINISHED;
        }
    }
}

static void check_pieces(Product p, bool with_packed, const char *what) {
    Matrix start = random_matrix(p.m, p.n, 3, 3), expected = copy_of(start);
    run(p, expected);
    Pieces pieces = { copy_of(start), copy_of(start), (unsigned char *)xcalloc(start.floats, 1), 0 };
    float *packed = with_packed ? packed_b_of(p) : NULL;
    run_with((GemmExtras){ .packed_b = packed, .finish = take_piece, .arg = &pieces }, p, pieces.c);
    int not_once = 0, after = 0;
    for (size_t i = 0; i < start.floats; i++) {
        bool inside = i % start.stride < (size_t)p.n;
        not_once += pieces.times[i] != inside;
        after += inside && pieces.c.x[i] != FINISHED;
    }
    CHECK_MSG(pieces.outside == 0, "%s %s: %d pieces outside of C", row_name(), what, pieces.outside);
    CHECK_MSG(not_once == 0, "%s %s: %d elements not once", row_name(), what, not_once);
    CHECK_MSG(same_bits(pieces.seen, expected), "%s %s: not the bits of gemm", row_name(), what);
    CHECK_MSG(after == 0, "%s %s: %d elements written after they were finished", row_name(), what, after);
    free(packed);
    free(pieces.times);
    FREE(start, expected, pieces.c, pieces.seen);
}

TEST(test_finish) {
    FOR_EACH_ROW(row) {
        const int sizes[][3] = { { 2 * row->mr + 1, WIDE, deep(row) }, { 331, 35, 77 }, { 1, 1, 1 } };
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            for (int threads = 1; threads <= 3; threads++) {
                Product p = random_product(threads, sizes[i][0], sizes[i][1], sizes[i][2], 1, 0.5f, 0);
                char what[64];
                snprintf(what, sizeof what, "m %d n %d k %d, %d threads", p.m, p.n, p.k, threads);
                omp_set_num_threads(threads);
                check_pieces(p, threads % 2, what);
                free_product(p);
            }
        }
        Product p = random_product(0, 30, 40, 5, 1, 0.5f, 0);
        p.k = 0;
        check_pieces(p, false, "k 0");
        p.k = 5, p.alpha = 0;
        check_pieces(p, false, "alpha 0");
        p.beta = 1;
        check_pieces(p, false, "alpha 0, beta 1");
        free_product(p);
    }
    omp_set_num_threads(2);
}

// ---------------------------------------------------------------------------------------------------------------------
// Scratch memory and the choice of the instruction set

static void *multiply_in_thread(void *result) {
    Product p = random_product(0, 50, 60, 70, 1, 0, 0);
    run(p, *(Matrix *)result);
    free_product(p);
    return NULL;
}

// The scratch of a thread that ends is freed with it, and gemm_free may be called at any time. LeakSanitizer sees both.
TEST(test_scratch) {
    FOR_EACH_ROW(row) {
        Matrix here = matrix_of(50, 60, 0), there = matrix_of(50, 60, 0);
        for (int i = 0; i < 2; i++) {
            pthread_t thread;
            CHECK(pthread_create(&thread, NULL, multiply_in_thread, &there) == 0);
            pthread_join(thread, NULL);
            multiply_in_thread(&here);
            CHECK(same_bits(here, there));
            CHECK(gemm_scratch != NULL && (size_t)gemm_scratch % GEMM_ALIGN == 0);
            gemm_free();
            gemm_free();
            CHECK(gemm_scratch == NULL);
        }
        FREE(here, there);
    }
}

static void forget_kernels(void) { gemm_kernels[GEMM_FP32] = gemm_kernels[GEMM_BF16] = NULL; }

static void ask_environment(void *isa) {
    forget_kernels();
    setenv("GEMM_ISA", (const char *)isa, 1);
    if (strcmp(gemm_isa(), (const char *)isa) != 0) fail("%s instead", gemm_isa());
}

#if defined(GEMM_X86)
static void ask_for_lacking_amx(void *isa) {
    gemm_amx_known = 0;
    ask_environment(isa);
}
#endif

// The first words of a process in bf16.
static void ask_precision_first(void *isa) {
    forget_kernels();
    gemm_first = NULL;
    setenv("GEMM_ISA", (const char *)isa, 1);
    gemm_use_precision(GEMM_BF16);
    if (strcmp(gemm_isa(), (const char *)isa) != 0) fail("%s instead", gemm_isa());
    if (gemm_current()->precision != GEMM_BF16) fail("fp32 instead");
}

// An empty GEMM_ISA is none.
static void ask_nothing(void *unused) {
    (void)unused;
    forget_kernels();
    setenv("GEMM_ISA", "", 1);
    if (gemm_find(NULL)->name != gemm_isa()) fail("%s instead", gemm_isa());
}

// How many of the words after the colon of "expected one of:" are this name.
static int times_listed(const char *error, const char *name) {
    const char *list = strstr(error, "expected one of:");
    int times = 0;
    for (const char *at = list ? strchr(list, ':') + 1 : ""; *at; at += strcspn(at, " \n")) {
        at += strspn(at, " \n");
        times += strcspn(at, " \n") == strlen(name) && strncmp(at, name, strlen(name)) == 0;
    }
    return times;
}

TEST(test_choice_by_environment) {
    char errors[512], unknown[] = "sse9";
    for (size_t i = 0; i < COUNT_OF(gemm_isas); i++) {
        char *name = xstrdup(gemm_isas[i].name);
        bool supported = gemm_find(name) != NULL;
        if (supported) {
            CHECK_MSG(run_child(ask_environment, name, errors, sizeof errors) == 0, "%s: %s", name, errors);
            CHECK_MSG(run_child(ask_precision_first, name, errors, sizeof errors) == 0, "%s: %s", name, errors);
        } else {
            CHECK_FAILS(ask_environment, name, 2, "this CPU lacks it");
        }
        run_child(ask_environment, unknown, errors, sizeof errors);
        int times = times_listed(errors, name);
        CHECK_MSG(times == supported, "%s: %d times in: %s", name, times, errors);
        free(name);
    }
    CHECK_FAILS(ask_environment, unknown, 2, "GEMM_ISA=sse9: unknown; expected one of:");
    CHECK_MSG(run_child(ask_nothing, NULL, errors, sizeof errors) == 0, "%s", errors);
#if defined(GEMM_X86)
    char amx[] = "amx";
    CHECK_FAILS(ask_for_lacking_amx, amx, 2, "GEMM_ISA=amx: this CPU lacks it; expected one of:");
#endif
}

// gemm_use keeps the precision, gemm_use_precision the instruction set; what can't be had changes nothing.
TEST(test_choice) {
    CHECK(gemm_use("portable"));
    gemm_use_precision(GEMM_FP32);
    for (size_t i = 0; i < COUNT_OF(gemm_isas); i++) {
        const char *name = gemm_isas[i].name;
        if (!gemm_find(name)) {
            CHECK(gemm_use("portable") && !gemm_use(name) && strcmp(gemm_isa(), "portable") == 0);
            continue;
        }
        bool native = strcmp(name, "amx") == 0;
#if defined(GEMM_X86)
        native |= strcmp(name, "avx512") == 0 && gemm_cpu_has_avx512_bf16();
#elif defined(GEMM_ARM_BF16)
        native |= strcmp(name, "neon") == 0 && gemm_cpu_has_neon_bf16();
#endif
        for (int precision = GEMM_FP32; precision <= GEMM_BF16; precision++) {
            CHECK(gemm_use("portable"));
            gemm_use_precision((GemmPrecision)precision);
            CHECK(strcmp(gemm_isa(), "portable") == 0 && (int)gemm_current()->precision == precision);
            CHECK(gemm_use(name));
            CHECK(strcmp(gemm_isa(), name) == 0 && (int)gemm_current()->precision == precision);
            CHECK_MSG(gemm_emulated() == (precision == GEMM_BF16 && !native), "%s", row_name());
            CHECK(!gemm_use("sse9"));
            CHECK(strcmp(gemm_isa(), name) == 0 && (int)gemm_current()->precision == precision);
            gemm_use_precision((GemmPrecision)!precision);
            CHECK(strcmp(gemm_isa(), name) == 0 && (int)gemm_current()->precision == !precision);
            CHECK(gemm_current()->supported());
        }
    }
    CHECK(gemm_use(NULL) && gemm_find(NULL)->name == gemm_isa());
}

// ---------------------------------------------------------------------------------------------------------------------

static void run_tests(void) {
    RUN(test_choice_by_environment);    // first, since it forks: in a child LeakSanitizer doesn't see what threads hold
    omp_set_num_threads(2);
    RUN(test_choice);
    RUN(test_rounding_table);
    RUN(test_rounding_is_nearest);
    RUN(test_rounding_is_packing);
    RUN(test_nothing_beyond_is_touched);
    RUN(test_sizes);
    RUN(test_alpha_beta);
    RUN(test_whole_numbers);
    RUN(test_slabs);
    RUN(test_empty);
    RUN(test_nan_stays_in_its_row);
    RUN(test_bf16_kernels_agree);
    RUN(test_packing_fills_up_with_zeros);
    RUN(test_threads_same_bits);
    RUN(test_block_same_bits);
    RUN(test_inside_parallel_region);
    RUN(test_symmetric);
    RUN(test_precision_of_one_product);
    RUN(test_symmetric_is_cheaper);
    RUN(test_in_place_same_bits);
    RUN(test_few_rows_same_bits);
    RUN(test_packed_same_bits);
    RUN(test_finish);
    RUN(test_scratch);
    gemm_free();
}

#if !defined(TEST_GEMM_NO_MAIN)
int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    rows_of_this_cpu();
    run_tests();
    return tests_end();
}
#endif
