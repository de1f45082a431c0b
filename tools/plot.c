/* plot.c - draws training runs, each a folder with a log.jsonl, into one picture: loss over tokens and over time.
 *
 *     build/plot runs/kjv                                   -> runs/kjv/loss.png
 *     build/plot runs/muon runs/adamw --out=compare.png
 */
#define _GNU_SOURCE
#include "../src/flags.h"
#include "../src/runlog.h"

static void print_help(void) {
    puts("usage: plot RUN [RUN ...] [--out=FILE.png] [--log]\n"
         "Draws the losses of runs (folders that hold a log.jsonl) into one picture, and prints what they reached.\n"
         "  --out=FILE.png  where to (default: RUN/loss.png for one run, compare.png beside the first of several)\n"
         "  --log           logarithmic axes, on which a power law is a straight line\n"
         "MUON_FONT=FILE.ttf in the environment chooses the font, MUON_FONT=none the built-in one.");
}

// Held here rather than in main, so that nothing is out of reach where fail ends the program.
static RunLog *logs;                // of each run
static char **names, **paths;       // of each run: what the picture calls it, and its log.jsonl
static char *png;                   // where the picture goes

// The output if nobody names one: in the one run's folder, or beside the first of several.
static char *default_output(char **runs, int n) {
    if (n == 1) return format("%s/loss.png", runs[0]);
    size_t end = strlen(runs[0]);
    while (end > 1 && runs[0][end - 1] == '/') end--;
    while (end > 0 && runs[0][end - 1] != '/') end--;
    return format("%.*scompare.png", (int)end, runs[0]);
}

// The last parts of the runs' paths where these differ, else the paths as they were given.
static void name_runs(char **runs, int n) {
    bool same = false;
    for (int i = 0; i < n; i++) {
        names[i] = runlog_name(runs[i]);
        for (int j = 0; j < i; j++) same = same || strcmp(names[i], names[j]) == 0;
    }
    for (int i = 0; i < n && same; i++) {
        free(names[i]);
        names[i] = xstrdup(runs[i]);
    }
}

static void read_runs(char **runs, int n) {
    for (int i = 0; i < n; i++) {
        paths[i] = format("%s/log.jsonl", runs[i]);
        int bad = runlog_read(paths[i], &logs[i]);
        if (bad < 0) fail("%s: %s; expected a run's log", paths[i], strerror(errno));
        if (bad > 0) fail("%s:%d: not an event; expected a JSON object with \"event\" and \"step\"", paths[i], bad);
    }
}

static void print_table(int n) {
    int width = 3;
    for (int i = 0; i < n; i++)
        if ((int)strlen(names[i]) > width) width = (int)strlen(names[i]);
    printf("%-*s  %8s  %14s  %13s  %13s  %9s\n", width, "run", "steps", "final val loss", "bits per byte", "best val loss",
           "seconds");
    for (int i = 0; i < n; i++)
        printf("%-*s  %8ld  %14.4f  %13.4f  %13.4f  %9.1f  %s\n", width, names[i], runlog_last_step(&logs[i]),
               runlog_val_loss(&logs[i]), logs[i].n_evals ? logs[i].evals[logs[i].n_evals - 1].val_bpb : NAN,
               runlog_best_val_loss(&logs[i]), runlog_seconds(&logs[i]),
               logs[i].ended ? logs[i].end.reason : "no end");
}

// Ends the program where the name promises another picture, or where a picture must not take the place of what is there: a
// device or a pipe, which would keep it waiting; a file that is not empty and no PNG.
static void check_output(const char *path) {
    static const char signature[] = "\x89PNG\r\n\x1a\n";
    static const char *const others[] = { ".jpg", ".jpeg", ".gif", ".svg", ".pdf", ".eps", ".ps", ".bmp", ".tif", ".tiff", ".webp",
                                          ".ppm", ".avif" };
    const char *ending = strrchr(path, '.');
    for (size_t i = 0; i < COUNT_OF(others) && ending; i++)
        if (strcasecmp(ending, others[i]) == 0) fail_usage("%s: a picture is a PNG: --out=FILE.png expected", path);
    char start[sizeof signature - 1];
    struct stat st;
    if (stat(path, &st) != 0 || S_ISDIR(st.st_mode)) return;        // writing will say what is wrong
    if (!S_ISREG(st.st_mode)) fail_usage("%s: not a regular file: --out=FILE.png expected", path);
    if (st.st_size == 0) return;
    FILE *f = fopen(path, "rb");
    bool is_png = f && fread(start, 1, sizeof start, f) == sizeof start && memcmp(start, signature, sizeof start) == 0;
    if (f) fclose(f);
    if (!is_png) fail_usage("%s: no PNG, but would be replaced by one: another --out=FILE.png expected", path);
}

int main(int argc, char **argv) {
    program_begin();
    char **runs = argv + 1;                         // the arguments that are no options move to the front
    const char *out = NULL, *value;
    int n = 0;
    bool log_axes = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help();
            return 0;
        }
        if (strcmp(argv[i], "--log") == 0) log_axes = true;
        else if ((value = flag_value(argv[i], "--out")) && *value) out = value;
        else if (argv[i][0] == '-') fail_usage("%s: unknown option; expected --out=FILE.png, --log or --help", argv[i]);
        else if (argv[i][0]) runs[n++] = argv[i];
    }
    if (n == 0) fail_usage("no run given; expected a folder such as runs/kjv (--help says more)");

    logs = xcalloc((size_t)n, sizeof *logs);
    names = xcalloc((size_t)n, sizeof *names);
    paths = xcalloc((size_t)n, sizeof *paths);
    png = out ? xstrdup(out) : default_output(runs, n);
    check_output(png);
    name_runs(runs, n);
    read_runs(runs, n);
    if (runlog_draw(logs, (const char *const *)names, n, log_axes, png) != 0) fail("%s: %s", png, strerror(errno));
    print_table(n);
    printf("wrote %s\n", png);

    for (int i = 0; i < n; i++) {
        runlog_free(&logs[i]);
        free(names[i]);
        free(paths[i]);
    }
    free(logs);
    free(names);
    free(paths);
    free(png);
    return 0;
}
