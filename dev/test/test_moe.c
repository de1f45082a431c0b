/* test_moe.c - the choice of experts, the order of rows and the rules of balance of src/moe.h, against plain restatements. */
#include "../../src/moe.h"
#include "test.h"

static float uniform(uint64_t seed, uint64_t i) { return uniform_of(hash64(seed, i)); }

// Of equal values the lower index, a NaN before every number, in order; against the largest one taken k times.
TEST(top_takes_the_largest_in_order) {
    float x[] = {0.5f, 0.9f, 0.5f, 0.9f, 0.1f, 0.5f};
    int best[6];
    moe_top(best, 5, x, 6);
    CHECK(best[0] == 1 && best[1] == 3 && best[2] == 0 && best[3] == 2 && best[4] == 5);
    x[2] = x[4] = NAN;
    moe_top(best, 3, x, 6);
    CHECK(best[0] == 2 && best[1] == 4 && best[2] == 1);
    for (int round = 0; round < 200; round++) {
        enum { N = 40 };
        float y[N];
        int top[N], k = 1 + round % N;
        bool taken[N] = {false};
        for (int i = 0; i < N; i++) y[i] = (float)(int)(12 * uniform((uint64_t)round, (uint64_t)i));      // many are equal
        moe_top(top, k, y, N);
        for (int j = 0; j < k; j++) {
            int largest = -1;
            for (int i = 0; i < N; i++) if (!taken[i] && (largest < 0 || y[i] > y[largest])) largest = i;
            taken[largest] = true;
            CHECK_MSG(top[j] == largest, "round %d: %d instead of %d", round, top[j], largest);
        }
    }
}

// The bias chooses but doesn't weigh; losing groups count less than any bias; the value behind the chosen ones is said.
TEST(choice_is_by_score_and_bias_and_weights_by_score) {
    const float scores[] = {0.9f, 0.2f, 0.4f, 0.5f, 0.6f, 0.3f}, bias[] = {-3.0f, -3.0f, -3.4f, -3.0f, -3.5f, -2.9f};
    int chosen[3];
    float weights[3];
    Router r = {6, 2, 1, 1, 2.5f};
    float behind = moe_choose(chosen, weights, scores, bias, &r);
    CHECK(chosen[0] == 0 && chosen[1] == 3);             // -2.1 and -2.5
    CHECK(fabsf(weights[0] - 2.5f * 0.9f / 1.4f) < 1e-6f && fabsf(weights[1] - 2.5f * 0.5f / 1.4f) < 1e-6f);
    CHECK(fabsf(behind + 2.6f) < 1e-6f);
    r = (Router){6, 3, 2, 1, 1.0f};                      // groups of 3: -2.1 - 2.8 against -2.5 - 2.6
    moe_choose(chosen, weights, scores, bias, &r);
    CHECK(chosen[0] == 0 && chosen[1] == 1 && chosen[2] == 2);
    r = (Router){6, 2, 6, 2, 1.0f};                      // groups of one
    moe_choose(chosen, weights, scores, bias, &r);
    CHECK(chosen[0] == 0 && chosen[1] == 3);
    r = (Router){6, 6, 1, 1, 1.0f};
    int all[6];
    float of_all[6], sum = 0.0f;
    behind = moe_choose(all, of_all, scores, bias, &r);
    for (int j = 0; j < 6; j++) sum += of_all[j];
    CHECK(fabsf(sum - 1.0f) < 1e-6f && behind == scores[all[5]] + bias[all[5]]);
}

// dscores against differences of the weights.
TEST(gradients_of_the_weights) {
    Router r = {5, 3, 1, 1, 2.0f};
    float scores[] = {0.3f, 0.8f, 0.5f, 0.1f, 0.6f}, bias[5] = {0}, weights[3], dscores[5];
    const float dweights[] = {0.7f, -1.1f, 0.4f};
    int chosen[3];
    moe_choose(chosen, weights, scores, bias, &r);
    moe_choose_backward(dscores, dweights, scores, chosen, &r);
    for (int e = 0; e < 5; e++) {
        double side[2];
        for (int s = 0; s < 2; s++) {
            float moved[5], w[3];
            int same[3];
            memcpy(moved, scores, sizeof moved);
            moved[e] += s ? 1e-3f : -1e-3f;
            moe_choose(same, w, moved, bias, &r);
            CHECK(!memcmp(same, chosen, sizeof same));
            side[s] = (double)w[0] * dweights[0] + (double)w[1] * dweights[1] + (double)w[2] * dweights[2];
        }
        CHECK_MSG(fabs((side[1] - side[0]) / 2e-3 - dscores[e]) < 1e-3, "%d: %g instead of %g", e, dscores[e],
                  (side[1] - side[0]) / 2e-3);
    }
}

// Every row is some token's, those of an expert in the order of tokens.
TEST(rows_are_sorted_by_expert) {
    enum { N = 500, K = 3, E = 7 };
    Router r = {E, K, 1, 1, 1.0f};
    int chosen[N * K], place[N * K], first[E + 1], token_at[N * K];
    for (int n = 0; n < N; n++)
        for (int j = 0; j < K; j++) chosen[n * K + j] = (n * n + j * 2) % 5 + (n % 3 == 0);      // the last one has none
    moe_sort(place, first, chosen, N, &r);
    CHECK(first[0] == 0 && first[E] == N * K && first[E - 1] == N * K);
    for (int i = 0; i < N * K; i++) token_at[i] = -1;
    for (int i = 0; i < N * K; i++) {
        CHECK(place[i] >= first[chosen[i]] && place[i] < first[chosen[i] + 1] && token_at[place[i]] == -1);
        token_at[place[i]] = i;
    }
    for (int e = 0; e < E; e++)
        for (int row = first[e] + 1; row < first[e + 1]; row++) CHECK(token_at[row] > token_at[row - 1]);
}

TEST(biases_move_towards_the_mean_load) {
    const int loads[] = {10, 20, 30, 20};
    float bias[] = {0.5f, 0.5f, 0.5f, 0.5f};
    moe_move_bias(bias, loads, 4, 0.01f);
    CHECK(bias[0] == 0.51f && bias[1] == 0.5f && bias[2] == 0.49f && bias[3] == 0.5f);
    MoeLoad load = moe_load((int[]){0, 30, 10, 0}, 4);
    CHECK(load.dead == 0.5 && load.largest == 3.0);
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

// Scores of which some experts' are far larger: the biases are those of the exact quantiles within a bin, and after a few
// rounds every load is near the mean.
TEST(quantiles_make_loads_even) {
    enum { N = 4000, E = 12, K = 3 };
    static float scores[N * E], behind[N], gaps[N];
    static int bins[E * MOE_BINS];
    Router r = {E, K, 1, 1, 1.0f};
    float bias[E] = {0};
    int chosen[K], loads[E];
    float weights[K];
    for (int n = 0; n < N; n++)
        for (int e = 0; e < E; e++)
            scores[n * E + e] = 1.0f / (1.0f + expf(-1.5f * normal_of(hash64(5, (uint64_t)(n * E + e))) - 0.4f * (float)(e - E / 2)));
    for (int round = 0; round < 12; round++) {
        memset(bins, 0, sizeof bins);
        memset(loads, 0, sizeof loads);
        for (int n = 0; n < N; n++) {
            behind[n] = moe_choose(chosen, weights, scores + n * E, bias, &r);
            for (int j = 0; j < K; j++) loads[chosen[j]]++;
        }
        double exact[E], mean = 0.0;
        for (int e = 0; e < E; e++) {
            moe_count_gaps(bins + e * MOE_BINS, scores + e, E, behind, N);
            for (int n = 0; n < N; n++) gaps[n] = scores[n * E + e] - behind[n];
            qsort(gaps, N, sizeof *gaps, by_value);
            exact[e] = -gaps[N * (E - K) / E];
            mean += exact[e] / E;
        }
        MoeLoad load = moe_load(loads, E);
        if (round == 0) CHECK_MSG(load.largest > 2.0, "%g", load.largest);
        if (round == 11) CHECK_MSG(load.largest < 1.05 && load.dead == 0, "%g", load.largest);
        moe_quantile_bias(bias, bins, &r);
        for (int e = 0; e < E; e++)
            CHECK_MSG(fabs(bias[e] - (exact[e] - mean)) < 2.0 / MOE_BINS, "round %d, expert %d: %g instead of %g", round, e, bias[e],
                      exact[e] - mean);
    }
    float nowhere[] = {NAN, -5.0f, 5.0f}, zero[] = {0, 0, 0};
    memset(bins, 0, sizeof bins);
    moe_count_gaps(bins, nowhere, 1, zero, 3);
    CHECK(bins[0] == 2 && bins[MOE_BINS - 1] == 1);
}

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    RUN(top_takes_the_largest_in_order);
    RUN(choice_is_by_score_and_bias_and_weights_by_score);
    RUN(gradients_of_the_weights);
    RUN(rows_are_sorted_by_expert);
    RUN(biases_move_towards_the_mean_load);
    RUN(quantiles_make_loads_even);
    return tests_end();
}
