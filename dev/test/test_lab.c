/* test_lab.c - tests of what the lab's studies share: singular values, the search of a learning rate, trainings
 * at once and without data, paired differences, tables, pictures. */
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
        singular_values(squares, w, rows, cols);
        for (int i = 0; i < n; i++) {
            double expected = sigma[n - 1 - i];
            CHECK_MSG(fabs(sqrt(squares[i]) - expected) < (expected > 0 ? 2e-6 : 1e-5), "%d x %d, %d: %.8f, expected %.8f", rows, cols, i,
                      sqrt(squares[i]), expected);
        }
        CHECK_MSG(fabs(lab_spectral_norm(w, rows, cols) - 5) < 1e-3, "%g", lab_spectral_norm(w, rows, cols));
    }
    float zero[12] = { 0 };
    double squares[3];
    singular_values(squares, zero, 3, 4);
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

static double *shared;

static void square(int i) { shared[i] = (double)i * i; }

static void square_to_four(int i) {
    if (i == 4) fail("job 4");
    square(i);
}

static void all_but_four(void *unused) {
    (void)unused;
    lab_each(7, square_to_four);
}

static void killed(int i) { raise(i == 2 ? SIGKILL : 0); }

static void one_killed(void *unused) {
    (void)unused;
    lab_each(3, killed);
}

TEST(jobs_leave_their_results_and_a_failed_one_ends_the_program) {
    shared = lab_shared(7 * sizeof *shared);
    int threads = omp_get_max_threads();
    for (int most = 1; most <= 3; most++) {             // at a time
        memset(shared, 0, 7 * sizeof *shared);
        omp_set_num_threads(most);
        lab_each(7, square);
        for (int i = 0; i < 7; i++) CHECK(shared[i] == i * i);
    }
    omp_set_num_threads(2);
    CHECK_FAILS(all_but_four, NULL, EXIT_FAILED, "job 4");
    CHECK_FAILS(one_killed, NULL, EXIT_FAILED, "signal 9");
    omp_set_num_threads(threads);
}

// Token v is followed by v + 1. Leaves the losses before and after 30 steps.
static void train_bare(int i) {
    char *keys[] = { "--model.layers=1", "--model.heads=1", "--model.width=16", "--model.context=3", "--model.vocab=5",
                     "--train.batch=4", "--train.steps=30", "--optimizer.name=adam", "--optimizer.adamw.lr=0.02" };
    Trainer t = {0};
    lab_open_bare(&t, "configs/gpt2.json", COUNT_OF(keys), keys, i + 1);
    for (int n = 0; n < 12; n++) t.inputs[n] = (i + n) % 5, t.targets[n] = (i + n + 1) % 5;
    shared[2 * i] = lab_step_on(&t);
    while (t.step < 30) shared[2 * i + 1] = lab_step_on(&t);
    t.model.params[0] = NAN;
    if (lab_step_on(&t) != INFINITY || t.step != 30) fail("a step with NaN counts");
    trainer_close(&t);
    if (fcntl(STDIN_FILENO, F_GETFD) < 0) fail("trainer_close closed the input");
}

TEST(a_trainer_without_data_learns_what_it_is_given) {
    shared = lab_shared(4 * sizeof *shared);
    lab_each(2, train_bare);
    for (int i = 0; i < 2; i++) CHECK_MSG(shared[2 * i] > 1 && shared[2 * i + 1] < 0.2, "%g to %g", shared[2 * i], shared[2 * i + 1]);
    CHECK(shared[0] != shared[2]);
}

TEST(a_paired_difference_counts_beyond_three_errors) {
    const double a[] = { 1, 2, 3.1, NAN }, b[] = { 0, 1, 2, 5 }, c[] = { 0.9, 2.2, 3, 1 };
    Sample d = lab_paired(a, b, 4);
    CHECK(d.n == 3 && fabs(d.mean - 3.1 / 3) < 1e-12 && fabs(d.se - 0.1 / 3) < 1e-12);
    CHECK(!strcmp(lab_verdict(d), "higher") && !strcmp(lab_verdict(lab_paired(b, a, 4)), "lower"));
    CHECK(!strcmp(lab_verdict(lab_paired(a, c, 4)), "inconclusive"));
    CHECK(!strcmp(lab_verdict(lab_paired(a, b, 2)), "inconclusive"));       // too few
    CHECK(!strcmp(lab_verdict(lab_paired(a, a, 3)), "inconclusive"));
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

// text NULL: no file.
static void bad_table(void *text) {
    char *path = lab_path("x.csv");
    if (text ? write_file(path, text, strlen((const char *)text)) != 0 : unlink(path) != 0) fail("%s: %s", path, strerror(errno));
    LabTable t = lab_table("x.csv");
    static const char *const names[] = { "one", "two" };
    lab_number(&t, 1, "b");
    lab_which(&t, 1, "a", names, 2);
    lab_cell(&t, 1, "c");
}

TEST(a_table_is_read_back) {
    char *folder = test_folder("lab");
    lab_folder = folder;
    LabCsv *csv = lab_csv("x.csv", "a,b,c");
    fprintf(csv->to, "two,%g,\none,%g,x y\n", 0.25, NAN);
    lab_csv_save(csv);
    static const char *const names[] = { "one", "two" };
    LabTable t = lab_table("x.csv");
    CHECK(t.rows == 3 && t.columns == 3);
    CHECK(lab_which(&t, 1, "a", names, 2) == 1 && lab_which(&t, 2, "a", names, 2) == 0);
    CHECK(lab_number(&t, 1, "b") == 0.25 && isnan(lab_number(&t, 2, "b")));
    CHECK(!strcmp(lab_cell(&t, 1, "c"), "") && !strcmp(lab_cell(&t, 2, "c"), "x y"));
    lab_table_free(&t);
    const struct { const char *text, *words; } bad[] = {
        { "a,b,c\none,1,2\none,1\n", "build/test/lab/x.csv:3: 2 cells; expected 3, as in the head" },
        { "a,b,c\none,1x,2\n", "build/test/lab/x.csv:2: b: '1x'; expected a number" },
        { "a,b,c\nthree,1,2\n", "build/test/lab/x.csv:2: a: 'three'; expected one of the study's, such as one" },
        { "a,b\none,1\n", "build/test/lab/x.csv: no column c" },
        { NULL, "build/test/lab/x.csv: No such file or directory; expected a table of the study's results" },
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) CHECK_FAILS(bad_table, (void *)(uintptr_t)bad[i].text, EXIT_FAILED, bad[i].words);
    free(folder);
}

static int drawn;

static void draw_nothing(void) { drawn++; }

TEST(a_study_is_asked_for_its_picture_alone) {
    char *no[] = { (char *)"study", (char *)"build/test/lab", (char *)"config", NULL };
    char *yes[] = { (char *)"study", (char *)"build/test/lab", (char *)"draw", NULL };
    CHECK(!lab_draws_again(3, no, draw_nothing) && !lab_draws_again(2, yes, draw_nothing) && drawn == 0);
    CHECK(lab_draws_again(3, yes, draw_nothing) && drawn == 1);
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
    const char *build = getenv("BUILD") ? getenv("BUILD") : "build";
    char *size = format("%s/chart %s 'A title' 900x 460 1 < /dev/null 2>&1 | grep -qx 'error: WIDTH=900x: an integer from 100 to 10000 expected'", build, path);
    CHECK(system(size) == 0);
    free(size);
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        CHECK_MSG(chart(bad[i].text, folder) != 0, "%s", bad[i].text);
        char *text = read_file(said, NULL);
        CHECK_MSG(text && strstr(text, bad[i].words) && strchr(text, '\n') == text + strlen(text) - 1, "%s: %s", bad[i].text, text);
        free(text);
    }
    free(folder), free(path), free(said);
}

int main(int argc, char **argv) {
    wait_politely(argv);                 // now, not in the middle, where a test begins as a study does: it starts the program anew
    tests_only = argc > 1 ? argv[1] : NULL;
    RUN(singular_values_are_those_the_matrix_was_made_of);
    RUN(the_best_rate_has_a_worse_one_on_either_side);
    RUN(jobs_leave_their_results_and_a_failed_one_ends_the_program);
    RUN(a_trainer_without_data_learns_what_it_is_given);
    RUN(a_paired_difference_counts_beyond_three_errors);
    RUN(a_table_comes_whole_into_its_folder);
    RUN(a_table_is_read_back);
    RUN(a_study_is_asked_for_its_picture_alone);
    RUN(a_missed_claim_ends_the_program);
    RUN(charts);
    return tests_end();
}
