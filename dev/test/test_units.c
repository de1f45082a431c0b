/* test_units.c - who owns what among several ranks, and that all of them together step as one does. Without MPI: what the ranks of a
 * training do is done here one after the other.
 */
#define _GNU_SOURCE
#include <math.h>
#include "../../src/util.h"
#include "../../src/vec.h"
#define MUON_STATIC
#define MUON_IMPLEMENTATION
#include "../../muon.h"
#include "../../src/units.h"
#include "test.h"

enum { GROUPS = 8, LAYERS = 5, STEPS = 3, MOST_RANKS = 8 };

typedef struct {
    MuonParam groups[GROUPS];
    UnitPlace places[GROUPS];
    MuonOptions options;
    size_t n;                            // parameters
    float *w, *g;
} Table;

// Matrices of three sizes, some in blocks, under rules with every kind of state; an embedding; vectors; a tensor that nobody trains.
static Table table(void) {
    static const struct { const char *name; int count, rows, cols, rule, first_layer, block; } kinds[GROUPS] = {
        {"embedding", 1, 301, 24, MUON_RULE_ADAMW, -1, 0}, {"q", LAYERS, 24, 24, MUON_RULE_MUON, 0, 8}, {"in", LAYERS, 48, 24, MUON_RULE_NORMUON, 0, 0},
        {"out", LAYERS, 24, 48, MUON_RULE_ADAMS, 0, 0}, {"norm", LAYERS, 1, 24, MUON_RULE_ADAMW, 0, 0}, {"bias", LAYERS - 1, 1, 48, MUON_RULE_SGD, 1, 0},
        {"kept", LAYERS, 3, 5, MUON_RULE_NONE, 0, 0}, {"head", 1, 301, 24, MUON_RULE_ADAM, LAYERS, 0}};
    Table t = {.options = muon_default_options()};
    for (int i = 0; i < GROUPS; i++) {
        size_t each = (size_t)kinds[i].rows * (size_t)kinds[i].cols;
        t.groups[i] = (MuonParam){.name = kinds[i].name, .count = kinds[i].count, .rows = kinds[i].rows, .cols = kinds[i].cols, .stride = each,
                                  .rule = kinds[i].rule, .lr = 0.01, .weight_decay = 0.1, .blocks = {kinds[i].block}};
        t.places[i] = (UnitPlace){kinds[i].first_layer, 1};
        t.n += each * (size_t)kinds[i].count;
    }
    t.w = xmalloc(t.n * sizeof *t.w), t.g = xmalloc(t.n * sizeof *t.g);
    for (size_t i = 0, at = 0; i < GROUPS; i++) {
        t.groups[i].w = t.w + at, t.groups[i].g = t.g + at;
        at += t.groups[i].stride * (size_t)t.groups[i].count;
    }
    for (size_t i = 0; i < t.n; i++) t.w[i] = normal_of(hash64(1, i));
    return t;
}

static void gradients_of_step(Table *t, int step) {
    for (size_t i = 0; i < t->n; i++) t->g[i] = 0.1f * normal_of(hash64((uint64_t)(2 + step), i));
}

TEST(owners_are_the_same_for_all_who_ask_and_every_matrix_has_one) {
    Table t = table();
    for (int ranks = 1; ranks <= MOST_RANKS; ranks++) {
        Units first = units_plan(t.groups, t.places, GROUPS, &t.options, ranks, 0, false);
        int owned = 0;
        size_t weights = 0;
        for (int rank = 0; rank < ranks; rank++) {
            Units u = units_plan(t.groups, t.places, GROUPS, &t.options, ranks, rank, false);
            owned += u.n_owned;
            CHECK(u.n == first.n);
            for (int i = 0; i < u.n; i++) CHECK(u.list[i].owner == first.list[i].owner && u.list[i].owner >= 0 && u.list[i].owner < ranks);
            for (int i = 1; i < u.n; i++) CHECK(u.list[u.turns[i - 1]].layer >= u.list[u.turns[i]].layer);
            units_free(&u);
        }
        for (int i = 0; i < first.n; i++) weights += first.list[i].n;
        CHECK(owned == first.n && weights == t.n - LAYERS * 3 * 5);
        units_free(&first);
    }
    free(t.w), free(t.g);
}

// The shapes of configs/default.json's model and of GPT-2 124M, by their hidden matrices, embedding, head and norms.
TEST(work_and_state_are_shared_out_evenly) {
    static const struct { int layers, width, mlp, vocabulary; } models[] = {{4, 128, 384, 4096}, {6, 384, 1536, 4096}, {12, 768, 3072, 50257}};
    for (size_t m = 0; m < COUNT_OF(models); m++) {
        int L = models[m].layers, C = models[m].width, F = models[m].mlp, V = models[m].vocabulary;
        MuonParam groups[] = {
            {.name = "wte", .count = 1, .rows = V, .cols = C, .rule = MUON_RULE_ADAMW}, {.name = "wq", .count = L, .rows = C, .cols = C, .rule = MUON_RULE_MUON},
            {.name = "wk", .count = L, .rows = C, .cols = C, .rule = MUON_RULE_MUON}, {.name = "wv", .count = L, .rows = C, .cols = C, .rule = MUON_RULE_MUON},
            {.name = "wo", .count = L, .rows = C, .cols = C, .rule = MUON_RULE_MUON}, {.name = "w_in", .count = L, .rows = F, .cols = C, .rule = MUON_RULE_MUON},
            {.name = "w_out", .count = L, .rows = C, .cols = F, .rule = MUON_RULE_MUON}, {.name = "norm", .count = 2 * L, .rows = 1, .cols = C, .rule = MUON_RULE_ADAMW}};
        enum { N = COUNT_OF(groups) };
        UnitPlace places[N] = {{-1, 1}};
        for (int i = 0; i < N; i++) {
            groups[i].stride = (size_t)groups[i].rows * (size_t)groups[i].cols;
            if (i) places[i] = (UnitPlace){0, 1};
        }
        MuonOptions options = muon_default_options();
        double whole = (double)muon_state_bytes(groups, N, &options), flops = 0.0;
        for (int i = 0; i < N; i++) flops += groups[i].count * muon_param_flops(&groups[i], &options);
        for (int ranks = 2; ranks <= 8; ranks *= 2) {
            double most = 0.0, most_flops = 0.0, all = 0.0;
            for (int rank = 0; rank < ranks; rank++) {
                Units u = units_plan(groups, places, N, &options, ranks, rank, false);
                units_own(&u, groups, N);
                double bytes = (double)muon_state_bytes(u.owned, u.n_owned, &options);
                all += bytes;
                most = fmax(most, bytes), most_flops = fmax(most_flops, u.flops);
                units_free(&u);
            }
            CHECK_MSG(most <= 1.1 * whole / ranks, "model %zu, %d ranks: one keeps %.3f of %.3f", m, ranks, most / whole, 1.0 / ranks);
            CHECK_MSG(most_flops <= 1.3 * flops / ranks, "model %zu, %d ranks: one has %.3f of the work", m, ranks, most_flops / flops);
            CHECK_MSG(fabs(all - whole) < 1e-3 * whole, "all keep %.6f of one rank's state", all / whole);
        }
    }
}

// Three steps by one process, and by so many ranks on weights of their own: weights, state and the gradient's norm.
TEST(ranks_together_step_as_one_does) {
    for (int ranks = 1; ranks <= MOST_RANKS; ranks++) {
        Table one = table(), many = table();
        void *state = xmalloc(muon_state_bytes(one.groups, GROUPS, &one.options)), *scratch = xmalloc(muon_scratch_bytes(one.groups, GROUPS, &one.options));
        Muon m, shares[MOST_RANKS];
        Units all = units_plan(one.groups, one.places, GROUPS, &one.options, 1, 0, false), units[MOST_RANKS];
        void *states[MOST_RANKS];
        units_link(&all, one.groups, GROUPS, one.w, one.n);
        CHECK(muon_init(&m, one.groups, GROUPS, &one.options, state) == MUON_OK);
        for (int rank = 0; rank < ranks; rank++) {
            units[rank] = units_plan(many.groups, many.places, GROUPS, &many.options, ranks, rank, false);
            units_link(&units[rank], many.groups, GROUPS, many.w, many.n);
            states[rank] = xmalloc(muon_state_bytes(units[rank].owned, units[rank].n_owned, &many.options) + 1);
            CHECK(muon_init(&shares[rank], units[rank].owned, units[rank].n_owned, &many.options, states[rank]) == MUON_OK);
        }
        for (int step = 0; step < STEPS; step++) {
            gradients_of_step(&one, step), gradients_of_step(&many, step);
            CHECK(muon_step(&m, 1.0, 1.0, scratch, 1) == MUON_OK);
            for (int rank = 0; rank < ranks; rank++) CHECK(muon_step(&shares[rank], 1.0, 1.0, scratch, 1) == MUON_OK);
        }
        CHECK(!memcmp(one.w, many.w, one.n * sizeof *one.w));
        for (int rank = 0, own; rank < ranks; rank++) {
            own = 0;
            for (int i = 0; i < units[rank].n && ranks > 1; i++) {
                const Unit *u = &units[rank].list[i];
                for (int slot = 0; slot < MUON_SLOT_COUNT && u->owner == rank; slot++) {
                    size_t n, here;
                    float *whole = muon_state(&m, u->group, slot, &n), *mine = muon_state(&shares[rank], own, slot, &here);
                    UnitSlice slice = units_slice(u, &many.groups[u->group], &many.options, slot);
                    CHECK(slice.n == here && slice.at + here <= n && (!here || !memcmp(whole + slice.at, mine, here * sizeof *mine)));
                }
                own += u->owner == rank;
            }
        }
        double norm = units_grad_norm(&all, one.g), plain = muon_grad_norm(&m);
        CHECK_MSG(fabs(norm - plain) <= 1e-14 * plain, "%.17g instead of %.17g", norm, plain);
        for (int rank = 0; rank < ranks; rank++) units_free(&units[rank]), free(states[rank]);
        units_free(&all);
        free(one.w), free(one.g), free(many.w), free(many.g), free(state), free(scratch);
    }
}

// a + b of two neighbours, of four, ..., what is left over at the end.
static float tree(const float *x, int n) {
    if (n == 1) return x[0];
    int half = 1;
    while (2 * half < n) half *= 2;
    return tree(x, half) + tree(x + half, n - half);
}

TEST(blocks_of_ranks_are_added_in_a_tree) {
    enum { N = 10001 };
    static float mine[N], theirs[MOST_RANKS * N];
    for (int ranks = 2; ranks <= MOST_RANKS; ranks++)
        for (int rank = 0; rank < ranks; rank++) {
            Units u = {.rank = rank, .ranks = ranks};
            int wrong = 0;
            #define VALUE(r, i) (normal_of(hash64((uint64_t)(r), (uint64_t)(i))) * expf(8 * normal_of(hash64(99, (uint64_t)(r)))))
            for (int i = 0; i < N; i++)
                for (int r = 0; r < ranks; r++) *(r == rank ? &mine[i] : &theirs[(r - (r > rank)) * N + i]) = VALUE(r, i);
            units_add_up(&u, mine, theirs, N);
            for (int i = 0; i < N; i++) {
                float x[MOST_RANKS];
                for (int r = 0; r < ranks; r++) x[r] = VALUE(r, i);
                wrong += tree(x, ranks) != mine[i];
            }
            CHECK_MSG(wrong == 0, "%d of %d wrong, rank %d of %d", wrong, N, rank, ranks);
        }
}

// bf16 and back, in the memory of the float's own block; what is lost comes back the next time.
TEST(numbers_that_travel_as_bf16_lose_nothing_for_good) {
    enum { N = 1000, TIMES = 50 };
    static float block[N], x[N], rest[N], sum[N];
    static uint16_t half[N];
    double worst = 0.0;
    for (int i = 0; i < N; i++) x[i] = normal_of(hash64(5, (uint64_t)i));
    for (int k = 0; k < TIMES; k++) {
        units_halve(half, x, rest, N);
        memcpy(units_landing(block, N, sizeof *half), half, sizeof half);
        units_widen(block, units_landing(block, N, sizeof *half), N);
        for (int i = 0; i < N; i++) {
            sum[i] += block[i];
            CHECK(fabsf(block[i] - x[i]) <= fabsf(x[i]) / 128);
        }
    }
    for (int i = 0; i < N; i++) worst = fmax(worst, fabs(sum[i] - (double)TIMES * x[i]) / fabs(TIMES * x[i]));
    CHECK_MSG(worst < 1.0 / 256 / TIMES * 2 + 1e-5, "%g", worst);
}

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    RUN(owners_are_the_same_for_all_who_ask_and_every_matrix_has_one);
    RUN(work_and_state_are_shared_out_evenly);
    RUN(ranks_together_step_as_one_does);
    RUN(blocks_of_ranks_are_added_in_a_tree);
    RUN(numbers_that_travel_as_bf16_lose_nothing_for_good);
    return tests_end();
}
