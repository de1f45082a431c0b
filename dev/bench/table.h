/* table.h - what the programs of dev/bench share: the head of a report, its tables, other processes, flags.
 *
 * defines: quick, json, failed, own_isa, precision_names; Column, Table, note, note_clear, say, table_start,
 *          table_text, table_number; cache_size, print_machine, kernels_use, peak_of_trainer, kernels_json;
 *          run_beside, number_in; random_floats; parse_precision
 * Included behind train_gpt.c, whose util.h, gemm.h, peaks.h and cJSON it uses. A program needn't use all of it.
 */
#ifndef TABLE_H
#define TABLE_H

#include <sys/wait.h>
#include "../../src/markdown.h"
#include "../../src/stats.h"

static bool quick, json;     // -q: fewer repeats, no large models. --json: lines of JSON instead of tables.
static bool failed;          // one of the processes did
static const char *own_isa;  // what the trainer would use, as the environment's GEMM_ISA has it

static const char *const precision_names[] = { [GEMM_FP32] = "fp32", [GEMM_BF16] = "bf16" };

// ---------------------------------------------------------------------------------------------------------------------
// Output: rows as Markdown or as JSON, from one description of the columns

typedef struct {
    const char *key;         // in JSON
    const char *title;       // filled up with spaces to the column's width
    const char *format;      // of a number in the table; NULL: the column holds text
} Column;

typedef struct {
    const Column *columns;
    int n, at;               // columns, and the next cell's
    const char *context;     // what each line of JSON begins with, such as "\"kind\": \"gemm\""
} Table;

static bool noted;           // a note stands on the terminal

static void note_clear(void) {
    if (noted) fputs("\r\033[K", stderr);
    noted = false;
}

// On a terminal a line on stderr that the next note or row replaces; elsewhere nothing, the rows themselves tell.
PRINTF_LIKE(1, 2) static void note(const char *fmt, ...) {
    if (!isatty(STDERR_FILENO)) return;
    note_clear();
    va_list args;
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    noted = true;
}

// A line of the report, which JSON leaves out.
PRINTF_LIKE(1, 2) static void say(const char *fmt, ...) {
    if (json) return;
    note_clear();
    va_list args;
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    fflush(stdout);
}

static Table table_start(const Column *columns, int n, const char *context) {
    note_clear();
    for (int line = 0; line < 2 && !json; line++)
        for (int i = 0; i < n; i++) {
            int width = utf8_length(columns[i].title);
            if (line == 0) markdown_field(stdout, columns[i].title, width, false, i == n - 1);
            else markdown_rule(stdout, width, columns[i].format != NULL, i == n - 1);
        }
    return (Table){ columns, n, 0, context };
}

// The next cell of the row; the last one ends it.
static void table_cell(Table *t, const char *text, double x) {
    const Column *c = &t->columns[t->at++];
    char number[48] = "-";
    note_clear();
    if (!json) {
        if (c->format && isfinite(x)) snprintf(number, sizeof number, c->format, x);
        markdown_field(stdout, text ? text : number, utf8_length(c->title), c->format != NULL, t->at == t->n);
    } else {
        if (t->at == 1) printf("{%s", t->context);
        if (text) printf(", \"%s\": \"%s\"", c->key, text);
        else printf(", \"%s\": %s", c->key, number_or_null(number, x));
    }
    if (t->at < t->n) return;
    t->at = 0;
    if (json) puts("}");
    fflush(stdout);
}

static void table_text(Table *t, const char *text) { table_cell(t, text, NAN); }
static void table_number(Table *t, double x) { table_cell(t, NULL, x); }     // NAN: "-", null

// ---------------------------------------------------------------------------------------------------------------------
// The machine

// The first CPU's data cache of this level in bytes, 0 where unknown. As Linux has it: glibc's sysconf tells ten times
// the L3 that is there on some virtual machines with AMD CPUs.
static double cache_size(int level) {
    for (int i = 0; i < 16; i++) {
        static const char *const files[] = { "level", "type", "size" };
        char words[COUNT_OF(files)][32];
        size_t n = 0;
        for (; n < COUNT_OF(files); n++) {
            char *path = format("/sys/devices/system/cpu/cpu0/cache/index%d/%s", i, files[n]);
            FILE *f = fopen(path, "r");
            bool found = f && fscanf(f, "%31s", words[n]) == 1;
            if (f) fclose(f);
            free(path);
            if (!found) break;
        }
        if (n == COUNT_OF(files) && atoi(words[0]) == level && strcmp(words[1], "Instruction") != 0)
            return atof(words[2]) * (strchr(words[2], 'M') ? 1048576 : 1024);
    }
    return 0;
}

// "32 KB", "1 MB", "unknown"; buffer of at least 24 bytes.
static const char *format_size(char *buffer, double bytes) {
    if (bytes <= 0) return strcpy(buffer, "unknown");
    if (bytes < 1048576) snprintf(buffer, 24, "%.0f KB", bytes / 1024);
    else snprintf(buffer, 24, "%.4g MB", bytes / 1048576);
    return buffer;
}

static const char *compiler(void) {
#if defined(__clang__)
    return __VERSION__;
#else
    return "GCC " __VERSION__;
#endif
}

// The first lines of a report, or one of JSON.
static void print_machine(const char *title) {
    char cpu[96], l1[24], l2[24], l3[24], date[32];
    time_t now = time(NULL);
    double load[1] = { NAN };
    machine_cpu("", cpu, sizeof cpu);
    format_size(l1, cache_size(1));
    format_size(l2, cache_size(2));
    format_size(l3, cache_size(3));
    strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", gmtime(&now));
    if (getloadavg(load, 1) != 1) load[0] = NAN;
    int cpus = (int)sysconf(_SC_NPROCESSORS_ONLN), threads = omp_get_max_threads();
    if (json) {
        printf("{\"kind\": \"machine\", \"cpu\": \"%s\", \"cpus\": %d, \"threads\": %d, \"isa\": \"%s\", "
               "\"l1d\": \"%s\", \"l2\": \"%s\", \"l3\": \"%s\", \"compiler\": \"%s\", "
               "\"commit\": \"%s\", \"date\": \"%s\"}\n",
               cpu, cpus, threads, own_isa, l1, l2, l3, compiler(), MUON_C_COMMIT, date);
        return;
    }
    say("# %s\n\n", title);
    say("- machine: %s, %d CPUs, load before the run %.1f\n", cpu, cpus, load[0]);
    say("- caches: L1d %s, L2 %s, L3 %s\n", l1, l2, l3);
    say("- threads: %d; kernels: %s\n", threads, own_isa);
    say("- compiler: %s; commit: %s; date: %s\n", compiler(), MUON_C_COMMIT, date);
}

// ---------------------------------------------------------------------------------------------------------------------
// Kernels: what gemm.h has on this CPU

// Makes gemm use these kernels. False where the CPU has none for this precision of its own.
static bool kernels_use(const char *isa, GemmPrecision precision) {
    if (!gemm_use(isa)) return false;
    gemm_use_precision(precision);
    return precision == GEMM_FP32 || !gemm_emulated();
}

// The peak of the kernels that the trainer uses in this precision.
static const Peak *peak_of_trainer(GemmPrecision precision) {
    return peak_find(own_isa, kernels_use(own_isa, precision) ? precision : GEMM_FP32);
}

// The kernels in use, as a part of a line of JSON.
static const char *kernels_json(char *text, size_t room, GemmPrecision precision) {
    bool emulated = precision == GEMM_BF16 && gemm_emulated();
    snprintf(text, room, "\"precision\": \"%s\", \"emulated\": %s, \"isa\": \"%s\", \"threads\": %d",
             precision_names[precision], emulated ? "true" : "false", gemm_isa(), omp_get_max_threads());
    return text;
}

// ---------------------------------------------------------------------------------------------------------------------
// Other processes

// Runs a program of this one's folder, or with name NULL this one, with these arguments. Returns what it wrote to
// stdout, to be freed, or with `captured` false an empty string and it writes to ours; NULL where it failed, which it
// has said on stderr.
static char *run_beside(const char *name, bool captured, const char *const *arguments, int n) {
    char *self = realpath("/proc/self/exe", NULL), **argv = xcalloc((size_t)n + 2, sizeof *argv);
    int ends[2];
    if (!self || (captured && pipe(ends) != 0)) fail("cannot start a process: %s", strerror(errno));
    char *program = name ? format("%.*s/%s", (int)(strrchr(self, '/') - self), self, name) : xstrdup(self);
    argv[0] = program;
    for (int i = 0; i < n; i++) argv[i + 1] = (char *)arguments[i];
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) fail("cannot start a process: %s", strerror(errno));
    if (pid == 0) {
        if (captured) { dup2(ends[1], STDOUT_FILENO); close(ends[0]); close(ends[1]); }
        execv(program, argv);
        fail("%s: cannot be started: %s", program, strerror(errno));
    }
    char *text = xcalloc(1, 1);
    if (captured) {
        size_t size = 0;
        char some[512];
        close(ends[1]);
        for (ssize_t got; (got = read(ends[0], some, sizeof some)) > 0; size += (size_t)got) {
            text = xrealloc(text, size + (size_t)got + 1);
            memcpy(text + size, some, (size_t)got);
            text[size + (size_t)got] = '\0';
        }
        close(ends[0]);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    free(self);
    free(program);
    free(argv);
    if (status == 0) return text;
    free(text);
    return NULL;
}

// ---------------------------------------------------------------------------------------------------------------------
// Figures

// Of what isn't there, cJSON gives NULL, and of NULL NAN.
static double number_in(const cJSON *object, const char *key) {
    return cJSON_GetNumberValue(cJSON_GetObjectItem(object, key));
}

static float *random_floats(size_t n, uint64_t seed) {
    float *x = (float *)aligned_alloc(64, (n * sizeof *x + 63) / 64 * 64);
    if (!x) fail("out of memory: %zu floats asked for", n);
    #pragma omp parallel for
    for (size_t i = 0; i < n; i++) x[i] = uniform_of(hash64(seed, i)) - 0.5f;
    return x;
}

// ---------------------------------------------------------------------------------------------------------------------
// Flags

static GemmPrecision parse_precision(const char *name) {
    for (GemmPrecision p = GEMM_FP32; p <= GEMM_BF16; p++)
        if (!strcmp(precision_names[p], name)) return p;
    fail_usage("precision %s: fp32 or bf16 is expected", name);
}

#endif // TABLE_H
