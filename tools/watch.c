/* watch.c - the runs' folder as one page that a browser shows while training runs.
 *
 *     build/watch runs                          -> runs/watch/index.html, and http://127.0.0.1:8765/ until Ctrl-C
 *     build/watch runs/muon runs/adamw --out=page --once
 *
 * The page is index.html, watch.css and watch.js of tools/watch, and Chart.js. What it shows comes in scripts that it reads again
 * and again: runs.js, the list of runs, and of each run run-ID.js (watch_run.h), whose version in the list says when it is new.
 * They are written when a log has grown; log.jsonl and sample.txt of a run are only read.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include "../src/flags.h"
#include "../src/signals.h"
#include "serve.h"
#include "watch_run.h"

enum { MOST_RUNS = 100, DEEPEST = 4, PORT = 8765, RUNNING_SECONDS = 60 };
#define EVERY 2.0                       // seconds between two looks at the logs
#define CHART "/usr/share/javascript/chart.js/chart.min.js"
#define PAGE "tools/watch"

static void print_help(void) {
    printf("usage: watch FOLDER [FOLDER ...] [--out=FOLDER] [--port=N] [--once] [--chart=FILE]\n"
           "Shows runs in a browser while they train. FOLDER: a run's, with a log.jsonl, or one with runs in it, %d deep.\n"
           "  --out=FOLDER   where the page is written (default: watch in the first FOLDER, or beside that run)\n"
           "  --port=N       of http://127.0.0.1:N/ (default %d; 0: one that is free)\n"
           "  --once         writes the page as the runs are now, without a server\n"
           "  --chart=FILE   Chart.js 3 or later (default %s)\n", DEEPEST, PORT, CHART);
}

typedef struct {
    char *folder, *name;                // its path, and what the page calls it
    char id[17], version[17];           // of the folder; of what the page is told, which changes with it
    RunLog log;
    RunFollow follow;
    struct timespec changed;            // when log.jsonl was written
    char *error;                        // why there is no more of the log to be seen, NULL: there is
    bool listed;                        // it is still there
} Watched;

static struct {
    char **roots, *out;                 // folders to look in; the page's
    int n_roots;
    Watched *runs;
    int n_runs, found;                  // of all that were found the newest
    char *list;                         // runs.js as it was written last
} page;

static double seconds_of(struct timespec t) { return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec; }

// ---------------------------------------------------------------------------------------------------------------------
// The page's files. Nothing is synced: after a power cut all of it can be written again.

static void write_page_file(const char *name, const char *bytes, size_t size) {
    char *path = format("%s/%s", page.out, name), *temporary = format("%s.tmp", path);
    FILE *f = fopen(temporary, "wb");
    bool written = f && fwrite(bytes, 1, size, f) == size;
    if ((f && fclose(f) != 0) || !written || rename(temporary, path) != 0) {
        int error = errno;
        if (f) unlink(temporary);
        fail("%s: cannot be written: %s", path, strerror(error));
    }
    free(path), free(temporary);
}

static void copy_page_file(const char *from, const char *name) {
    size_t size;
    char *bytes = read_file(from, &size);
    if (!bytes) fail("%s: %s; expected a file of the page (--help says more)", from, strerror(errno));
    write_page_file(name, bytes, size);
    free(bytes);
}

// The name of a run's file. to: at least 32 bytes.
static const char *run_file(const char *id, char *to) {
    snprintf(to, 32, "run-%s.js", id);
    return to;
}

// The page's folder if nobody names one: in a folder of runs, or beside a run.
static char *default_folder(const char *root) {
    char *path = xstrdup(root), *log = format("%s/log.jsonl", root), *above;
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; ) path[--n] = '\0';
    above = file_exists(log) ? folder_of(path) : xstrdup(path);
    char *folder = format("%s/watch", above);
    free(path), free(log), free(above);
    return folder;
}

// A folder that the page may have: a new one, an empty one, or one that has such a page. Files of runs that were shown before go.
static void take_page_folder(void) {
    char *index = format("%s/index.html", page.out), *log = format("%s/log.jsonl", page.out), *text;
    if (make_dirs(page.out) != 0) fail("%s: cannot be made: %s", page.out, strerror(errno));
    if (file_exists(log)) fail_usage("%s: a run's folder; --out=FOLDER, the page's own, expected", page.out);
    text = read_file(index, NULL);
    bool ours = text && strstr(text, "src=\"watch.js\"");
    DIR *folder = opendir(page.out);
    for (struct dirent *entry; folder && (entry = readdir(folder)); ) {
        size_t n = strlen(entry->d_name);
        if (!ours && strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            fail_usage("%s: has other files than such a page; another --out=FOLDER expected", page.out);
        if (n != 23 || strncmp(entry->d_name, "run-", 4) || strcmp(entry->d_name + 20, ".js")) continue;
        char *path = format("%s/%s", page.out, entry->d_name);
        unlink(path);
        free(path);
    }
    if (folder) closedir(folder);
    free(index), free(log), free(text);
}

// ---------------------------------------------------------------------------------------------------------------------
// Which runs there are

typedef struct { char *folder; const char *root; struct timespec changed; } Found;
typedef struct { Found *all; int n; } FoundRuns;

// Adds the runs in a folder, or the folder where it is one.
static void find_runs(FoundRuns *found, const char *root, const char *folder, int depth) {
    char *log = format("%s/log.jsonl", folder);
    struct stat st;
    bool is_run = stat(log, &st) == 0 && S_ISREG(st.st_mode);
    free(log);
    if (is_run) {
        found->all = runlog_grow(found->all, found->n, sizeof *found->all);
        found->all[found->n++] = (Found){ xstrdup(folder), root, st.st_mtim };
        return;
    }
    DIR *in = depth < DEEPEST ? opendir(folder) : NULL;
    for (struct dirent *entry; in && (entry = readdir(in)); ) {
        bool may_be_folder = entry->d_type == DT_DIR || entry->d_type == DT_LNK || entry->d_type == DT_UNKNOWN;
        if (entry->d_name[0] == '.' || !may_be_folder) continue;
        char *path = format("%s%s%s", folder, folder[strlen(folder) - 1] == '/' ? "" : "/", entry->d_name);
        find_runs(found, root, path, depth + 1);
        free(path);
    }
    if (in) closedir(in);
}

static int newest_first(const void *a, const void *b) {
    const Found *x = a, *y = b;
    double later = seconds_of(y->changed) - seconds_of(x->changed);
    return later > 0 ? 1 : later < 0 ? -1 : strcmp(x->folder, y->folder);
}

static void forget_run(Watched *w) {
    runlog_free(&w->log);
    free(w->folder), free(w->name), free(w->error);
}

// Of a run that isn't there any more, or not among the newest.
static void drop_run(Watched *w) {
    char name[32], *path = format("%s/%s", page.out, run_file(w->id, name));
    unlink(path);
    free(path);
    forget_run(w);
}

static int by_name(const void *a, const void *b) { return strcmp(((const Watched *)a)->name, ((const Watched *)b)->name); }

// Brings page.runs to what there is, at most MOST_RUNS, by name.
static void look_for_runs(void) {
    FoundRuns found = { NULL, 0 };
    for (int i = 0; i < page.n_roots; i++) find_runs(&found, page.roots[i], page.roots[i], 0);
    if (found.n) qsort(found.all, (size_t)found.n, sizeof *found.all, newest_first);
    for (int i = 0; i < page.n_runs; i++) page.runs[i].listed = false;
    page.runs = xrealloc(page.runs, (size_t)(page.n_runs + MOST_RUNS) * sizeof *page.runs);
    int known = page.n_runs, n = 0;
    for (int i = 0; i < found.n; i++) {
        const Found *f = &found.all[i];
        Watched *w = page.runs;
        while (w < page.runs + page.n_runs && strcmp(w->folder, f->folder) != 0) w++;
        if (i < MOST_RUNS && w == page.runs + page.n_runs) {
            size_t inside = strlen(f->root);
            while (f->folder[inside] == '/') inside++;
            char *name = f->folder[inside] ? xstrdup(f->folder + inside) : runlog_name(f->folder);
            *w = (Watched){ .folder = xstrdup(f->folder), .name = name };
            snprintf(w->id, sizeof w->id, "%016llx", (unsigned long long)hash_string(w->folder));
            page.n_runs++;
        }
        if (i < MOST_RUNS) w->listed = true, w->changed = f->changed;
        free(f->folder);
    }
    for (int i = 0; i < page.n_runs; i++) {
        if (page.runs[i].listed) page.runs[n++] = page.runs[i];
        else drop_run(&page.runs[i]);
    }
    if (n != known || page.n_runs != known) qsort(page.runs, (size_t)n, sizeof *page.runs, by_name);
    page.n_runs = n;
    page.found = found.n;
    free(found.all);
}

// ---------------------------------------------------------------------------------------------------------------------
// What the page is told

static uint64_t hash_time(struct timespec t) { return hash64((uint64_t)t.tv_sec, (uint64_t)t.tv_nsec); }

// Reads on in a run's log, and writes the run's file where the log or the samples have changed: its version tells that.
static void update_run(Watched *w) {
    char *path = format("%s/log.jsonl", w->folder), *samples = format("%s/sample.txt", w->folder), version[17], name[32], *text;
    int read = runlog_follow(path, &w->log, &w->follow);
    free(w->error);
    w->error = read == -1 ? xstrdup(strerror(errno)) : NULL;
    if (read == -2) w->error = format("log.jsonl:%d: not an event", w->follow.lines + 1);
    struct stat st;
    if (stat(samples, &st) != 0) st.st_mtim = (struct timespec){ 0 };
    uint64_t now = hash64(hash64((uint64_t)w->follow.inode, (uint64_t)w->follow.at), hash_time(w->changed));
    snprintf(version, sizeof version, "%016llx", (unsigned long long)hash64(now, hash_time(st.st_mtim)));
    if (strcmp(version, w->version) != 0) {
        size_t size;
        strcpy(w->version, version);
        FILE *f = text_open(&text, &size);
        watch_put_run(f, w->folder, &w->log, w->id, w->version);
        text_close(f, &text);
        write_page_file(run_file(w->id, name), text, size);
        free(text);
    }
    free(path), free(samples);
}

// What a run is at: its end's reason, or whether its log has grown of late.
static const char *state_of(const Watched *w) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (w->error) return w->error;
    if (w->log.ended) return w->log.end.reason;
    return seconds_of(now) - seconds_of(w->changed) < RUNNING_SECONDS ? "running" : "no end";
}

static void put_field(FILE *f, const char *name, double x, int digits) {
    if (isfinite(x)) fprintf(f, ", \"%s\": %.*g", name, digits, x);
}

static void put_listed(FILE *f, const Watched *w) {
    const RunLog *log = &w->log;
    const cJSON *config = cJSON_GetObjectItemCaseSensitive(log->start, "config");
    const RunEval *last = log->n_evals ? &log->evals[log->n_evals - 1] : NULL;
    const char *optimizer = run_optimizer(config);
    fprintf(f, "{\"id\": \"%s\", \"version\": \"%s\", \"name\": ", w->id, w->version);
    watch_put_text(f, w->name);
    fputs(", \"optimizer\": ", f);
    watch_put_text(f, optimizer ? optimizer : "");
    fputs(", \"state\": ", f);
    watch_put_text(f, state_of(w));
    fprintf(f, ", \"color\": %d, \"step\": %ld", optimizer ? plot_optimizer(optimizer) : -1, runlog_last_step(log));
    put_field(f, "changed", floor(seconds_of(w->changed)), 12);
    put_field(f, "lr", run_lr(config), 6);
    put_field(f, "steps", runlog_all_steps(log), 12);
    put_field(f, "val_loss", runlog_val_loss(log), 6);
    put_field(f, "val_bpb", last ? last->val_bpb : NAN, 6);
    put_field(f, "seconds", runlog_seconds(log), 9);
    put_field(f, "tok_per_s", log->n_steps ? log->steps[log->n_steps - 1].tok_per_s : NAN, 6);
    fputc('}', f);
}

// Writes the list of the runs where it has changed. With it go the colours, which are those of the pictures (plot.h).
static void update_list(void) {
    char *text;
    size_t size;
    FILE *f = text_open(&text, &size);
    RunLog *logs = xcalloc((size_t)page.n_runs, sizeof *logs);
    for (int i = 0; i < page.n_runs; i++) logs[i] = page.runs[i].log;
    fprintf(f, "watch.list({\"folder\": ");
    watch_put_text(f, page.roots[0]);
    const char *bits = runlog_other_tokens(logs, page.n_runs) ? "true" : "false";
    fprintf(f, ", \"found\": %d, \"bits\": %s, \"palette\": [", page.found, bits);
    for (int i = 0; i < PLOT_COLORS + PLOT_RAMPS; i++) {
        PlotColor c = plot_color(i < PLOT_COLORS ? i : PLOT_RAMP - (i - PLOT_COLORS));
        fprintf(f, "%s\"#%02x%02x%02x\"", i == PLOT_COLORS ? "], \"ramp\": [" : i ? "," : "", c.r, c.g, c.b);
    }
    fprintf(f, "], \"others\": %d, \"runs\": [", PLOT_OTHERS);
    for (int i = 0; i < page.n_runs; i++) {
        fputs(i ? ",\n" : "\n", f);
        put_listed(f, &page.runs[i]);
    }
    fputs("]});\n", f);
    text_close(f, &text);
    free(logs);
    if (!page.list || strcmp(text, page.list) != 0) write_page_file("runs.js", text, size);
    free(page.list);
    page.list = text;
}

static void update_page(void) {
    look_for_runs();
    for (int i = 0; i < page.n_runs; i++) update_run(&page.runs[i]);
    update_list();
}

int main(int argc, char **argv) {
    program_begin();
    page.roots = argv + 1;                          // the arguments that are no options move to the front
    const char *value, *chart = CHART;
    int port = PORT, server = -1;
    bool once = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help();
            return 0;
        }
        if (strcmp(argv[i], "--once") == 0) once = true;
        else if ((value = flag_value(argv[i], "--out")) && *value) page.out = xstrdup(value);
        else if ((value = flag_value(argv[i], "--chart")) && *value) chart = value;
        else if ((value = flag_value(argv[i], "--port"))) port = (int)integer_of("--port", value, 0, 65535);
        else if (argv[i][0] == '-') fail_usage("%s: unknown option; expected --out, --port, --once, --chart or --help", argv[i]);
        else if (argv[i][0]) page.roots[page.n_roots++] = argv[i];
    }
    if (page.n_roots == 0) fail_usage("no folder given; expected one such as runs (--help says more)");
    for (int i = 0; i < page.n_roots; i++) {
        struct stat st;
        int error = stat(page.roots[i], &st) != 0 ? errno : S_ISDIR(st.st_mode) ? 0 : ENOTDIR;
        if (error) fail("%s: %s; expected a run's folder, or one with runs in it", page.roots[i], strerror(error));
    }
    if (!page.out) page.out = default_folder(page.roots[0]);
    if (!once && (server = serve_open(&port)) < 0)
        fail("127.0.0.1:%d: %s; --port=N expected, 0 for any that is free", port, strerror(errno));
    take_page_folder();
    static const char *const files[] = { "index.html", "watch.css", "watch.js" };       // the first says whose folder it is
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        char *from = format("%s/%s", PAGE, files[i]);
        copy_page_file(from, files[i]);
        free(from);
    }
    copy_page_file(chart, "chart.js");
    update_page();
    char *absolute = realpath(page.out, NULL);
    printf("%d run%s in %s/index.html, which a browser opens as it is\n", page.n_runs, page.n_runs == 1 ? "" : "s",
           absolute ? absolute : page.out);
    free(absolute);
    if (!once) printf("watching: http://127.0.0.1:%d/ until Ctrl-C\n", port);
    fflush(stdout);

    take_signals();
    for (double next = seconds_now() + EVERY; !once && !interrupted; ) {
        serve_next(server, page.out, next - seconds_now());
        if (seconds_now() < next) continue;
        update_page();
        next = seconds_now() + EVERY;
    }
    for (int i = 0; i < page.n_runs; i++) forget_run(&page.runs[i]);
    free(page.runs), free(page.list), free(page.out);
    return 0;
}
