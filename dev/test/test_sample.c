/* test_sample.c - what the rules of src/sample.h leave of a distribution, against transformers' logits processors
 * (dev/golden/make_sampling.py). */
#include "../../src/checkpoint.h"
#include "../../src/sample.h"
#include "test.h"

enum { MOST = 1000 };

// A rule's distribution as its draws have it: draws as dense as `DRAWS` say how often each token comes, to 1 / DRAWS.
static void frequencies(double *p, const float *z, int V, const SampleRule *rule, const uint8_t *seen) {
    enum { DRAWS = 100000 };
    SampleRoom room = sample_room(V);
    float copy[MOST];
    for (int v = 0; v < V; v++) p[v] = 0;
    for (int i = 0; i < DRAWS; i++) {
        memcpy(copy, z, (size_t)V * sizeof *z);
        p[sample_token(copy, V, rule, seen, (i + 0.5) / DRAWS, room)] += 1.0 / DRAWS;
    }
    sample_room_free(room);
}

TEST(rules_leave_what_transformers_leave) {
    Checkpoint file;
    char error[ERROR_ROOM], name[32];
    if (checkpoint_open(&file, "dev/golden/sampling.golden", error, sizeof error) != 0) fail("%s", error);
    int cases = 0;
    for (const CkptTensor *r; snprintf(name, sizeof name, "rule.%d", cases), (r = checkpoint_find(&file, name)); cases++) {
        const CkptTensor *t[3];
        const char *names[] = {"z", "seen", "p"};
        for (int i = 0; i < 3; i++) {
            snprintf(name, sizeof name, "%s.%d", names[i], cases);
            t[i] = checkpoint_find(&file, name);
        }
        const double *x = r->data, *expected = t[2]->data;
        SampleRule rule = {x[0], (int)x[1], x[2], x[3], x[4]};
        int V = (int)t[0]->shape[0];
        double p[MOST];
        frequencies(p, t[0]->data, V, &rule, t[1]->data);
        for (int v = 0; v < V; v++) {
            CHECK_MSG(fabs(p[v] - expected[v]) < 2e-5, "rule %d, token %d: %g instead of %g", cases, v, p[v], expected[v]);
            CHECK_MSG((p[v] > 0) <= (expected[v] > 0), "rule %d: token %d was to be left out", cases, v);
        }
    }
    CHECK(cases == 15);
    checkpoint_close(&file);
}

// Of equal logits the lower token is the likelier one, for every rule.
TEST(ties_go_to_the_lower_token) {
    float z[] = {1, 3, 2, 3, 3, 2};
    double p[6];
    SampleRule two = sample_plainly(1), nucleus = sample_plainly(1);
    two.top_k = 2;
    frequencies(p, z, 6, &two, NULL);
    CHECK(fabs(p[1] - 0.5) < 2e-5 && fabs(p[3] - 0.5) < 2e-5);
    nucleus.top_p = 0.4;                   // each of the three has 0.27
    frequencies(p, z, 6, &nucleus, NULL);
    CHECK(fabs(p[1] - 0.5) < 2e-5 && fabs(p[3] - 0.5) < 2e-5);
    SampleRule likeliest = sample_plainly(0);
    SampleRoom room = sample_room(6);
    CHECK(sample_token(z, 6, &likeliest, NULL, 0.9, room) == 1);
    sample_room_free(room);
}

// Any rule leaves a token that has a probability, at the ends of what draws and rules may be.
TEST(some_token_is_left) {
    float z[MOST];
    for (int v = 0; v < MOST; v++) z[v] = 20 * (uniform_of(hash64(3, (uint64_t)v)) - 0.5f);
    z[17] = 90, z[18] = -90;
    uint8_t seen[MOST] = {0};
    SampleRoom room = sample_room(MOST);
    static const double temperatures[] = {0, 1e-6, 1, 100}, shares[] = {0, 1e-9, 0.5, 1}, draws[] = {0, 0.5, 1 - 1e-8};
    for (int i = 0; i < 4 * 4 * 4 * 3 * 3; i++) {
        SampleRule rule = {temperatures[i % 4], i / 4 % 3 * 400, shares[i / 4 % 4], shares[i / 16 % 4], 1 + i / 64 % 3};
        float copy[MOST];
        memcpy(copy, z, sizeof z);
        int token = sample_token(copy, MOST, &rule, seen, draws[i % 3], room);
        CHECK(token >= 0 && token < MOST);
        if (rule.temperature < 1) CHECK(token == 17);
    }
    sample_room_free(room);
}

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    RUN(rules_leave_what_transformers_leave);
    RUN(ties_go_to_the_lower_token);
    RUN(some_token_is_left);
    return tests_end();
}
