/* test_lab.c - tests of what the lab's studies share: singular values, the search of a learning rate, tables, pictures. */
#include "../exp/lab.h"
#include "test.h"

// x <- (I - 2 u u^T / |u|^2) x, u drawn from `seed`: an orthogonal matrix, exact but for rounding.
static void reflect_rows(double *x, int rows, int cols, uint64_t seed) {
    double u[64], squares = 0;
    for (int i = 0; i < rows; i++) u[i] = normal_of(hash64(seed, (uint64_t)i)), squares += u[i] * u[i];
    for (int j = 0; j < cols; j++) {
        double along = 0;
        for (int i = 0; i < rows; i++) along += u[i] * x[i * cols + j];
        for (int i = 0; i < rows; i++) x[i * cols + j] -= 2 * along / squares * u[i];
    }
}

static void transpose(double *y, const double *x, int rows, int cols) {
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++) y[j * rows + i] = x[i * cols + j];
}

// A matrix with these singular values, n = min(rows, cols) of them.
static void matrix_with(float *w, const double *sigma, int rows, int cols) {
    double x[64 * 64] = { 0 }, y[64 * 64];
    for (int i = 0; i < rows && i < cols; i++) x[i * cols + i] = sigma[i];
    for (uint64_t k = 0; k < 3; k++) {
        reflect_rows(x, rows, cols, 10 + k);
        transpose(y, x, rows, cols);
        reflect_rows(y, cols, rows, 20 + k);
        transpose(x, y, cols, rows);
    }
    for (int i = 0; i < rows * cols; i++) w[i] = (float)x[i];
}

TEST(singular_values_are_those_the_matrix_was_made_of) {
    const int shapes[][2] = { { 24, 24 }, { 16, 40 }, { 40, 16 }, { 1, 5 } };
    for (size_t s = 0; s < COUNT_OF(shapes); s++) {
        int rows = shapes[s][0], cols = shapes[s][1], n = rows < cols ? rows : cols;
        double sigma[64], squares[64];
        float w[64 * 64];
        for (int i = 0; i < n; i++) sigma[i] = i < n - 2 || n == 1 ? 5.0 / (1 + i / 2) : 0;     // pairs, and two zeros
        matrix_with(w, sigma, rows, cols);
        lab_singular_values(squares, w, rows, cols);
        for (int i = 0; i < n; i++) {
            double expected = sigma[n - 1 - i];
            CHECK_MSG(fabs(sqrt(squares[i]) - expected) < (expected > 0 ? 2e-6 : 1e-5), "%d x %d, %d: %.8f, expected %.8f", rows, cols, i,
                      sqrt(squares[i]), expected);
        }
        CHECK_MSG(fabs(lab_spectral_norm(w, rows, cols) - 5) < 1e-3, "%g", lab_spectral_norm(w, rows, cols));
    }
    float zero[12] = { 0 };
    double squares[3];
    lab_singular_values(squares, zero, 3, 4);
    CHECK(squares[2] == 0 && lab_spectral_norm(zero, 3, 4) == 0);
}

static int asked;

static double bowl(void *best, double rate) {
    asked++;
    double x = log2(rate) - *(double *)best;
    return x > 2.4 ? INFINITY : x * x;                  // too large a rate diverges
}

TEST(the_best_rate_has_a_worse_one_on_either_side) {
    for (double best = -3; best <= 3; best += 0.3) {
        asked = 0;
        double rate = lab_best_rate(1, bowl, &best);
        CHECK_MSG(fabs(log2(rate) - best) <= 0.5 + 1e-9 && rate == exp2(round(log2(rate))), "%g for %g", rate, exp2(best));
        CHECK_MSG(asked >= 3 && asked <= 3 + fabs(best) + 1, "%d losses for %g", asked, best);
    }
}

TEST(a_table_comes_whole_into_its_folder) {
    char *folder = test_folder("lab"), *path = format("%s/x.csv", folder);
    lab_folder = folder;
    LabCsv *csv = lab_csv("x.csv", "a,b");
    fprintf(csv->to, "%d,%d\n", 1, 2);
    CHECK(!file_exists(path));
    lab_csv_save(csv);
    char *text = read_file(path, NULL);
    CHECK_MSG(text && strcmp(text, "a,b\n1,2\n") == 0, "%s", text);
    free(text), free(path), free(folder);
}

static void missed(void *unused) {
    (void)unused;
    lab_must(false, "the claim");
}

TEST(a_missed_claim_ends_the_program) {
    char errors[512];
    CHECK(run_child(missed, NULL, errors, sizeof errors) != 0);
    CHECK_MSG(strstr(errors, "the claim"), "%s", errors);
}

static int chart(const char *text, const char *folder) {
    char *command = format("printf '%s' | %s/chart %s/x.png Title > %s/chart.txt 2>&1", text, getenv("BUILD") ? getenv("BUILD") : "build",
                           folder, folder);
    int status = system(command);
    free(command);
    return WEXITSTATUS(status);
}

TEST(charts) {
    char *folder = test_folder("chart"), *path = format("%s/x.png", folder), *said = format("%s/chart.txt", folder);
    CHECK(chart("panel A|x|y|xlog\\nline a\\n1 2 1.5 2.5\\n10 3 2 4\\ndashed\\n1 2\\n10 2\\npanel B\\nnames p|q\\npoints a\\n0 1 0 2\\n1 nan\\n",
                folder) == 0);
    char *png = read_file(path, NULL);
    CHECK(png && memcmp(png, "\x89PNG", 4) == 0);
    free(png);
    const struct { const char *text, *words; } bad[] = {
        { "", "no panel" }, { "line a\\n", "stdin:1: " }, { "panel A\\n1 2\\n", "stdin:2: a point before any series" },
        { "panel A\\nline a\\n1 2 3\\n", "stdin:3: " }, { "panel A\\nlnie a\\n", "stdin:2: " }, { "panel A\\nline a\\n1 x\\n", "stdin:3: " },
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        CHECK_MSG(chart(bad[i].text, folder) != 0, "%s", bad[i].text);
        char *text = read_file(said, NULL);
        CHECK_MSG(text && strstr(text, bad[i].words) && strchr(text, '\n') == text + strlen(text) - 1, "%s: %s", bad[i].text, text);
        free(text);
    }
    free(folder), free(path), free(said);
}

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    RUN(singular_values_are_those_the_matrix_was_made_of);
    RUN(the_best_rate_has_a_worse_one_on_either_side);
    RUN(a_table_comes_whole_into_its_folder);
    RUN(a_missed_claim_ends_the_program);
    RUN(charts);
    return tests_end();
}
