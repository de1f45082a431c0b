/* fuzz_report.h - part of fuzz.c: the report of a study, of tools/ab.c. study.json, then logs of its runs, with a NUL between
 * them; an empty log is none, and runs beyond the last log begin with the first one again.
 *
 * What is written is what was read: report.json has every arm and every run, runs.csv a row for each run, curves.csv one for each
 * validation, all as wide as their heads, and so are the tables of report.md.
 */
enum { MOST_RUNS = 24 };

// Rows of a CSV file (RFC 4180), which all have as many fields as the first one.
static int csv_rows(const char *name) {
    char *path = format("%s/%s", folder, name), *text = read_file(path, NULL);
    int rows = 0, fields = 1, wanted = 0;
    bool quoted = false;
    REQUIRE(text, "%s", path);
    for (const char *c = text; *c; c++) {
        if (*c == '"' && quoted && c[1] == '"') c++;
        else if (*c == '"') {
            char beside = quoted ? c[1] : c > text ? c[-1] : '\n';
            REQUIRE(beside == ',' || beside == '\n', "%s: row %d: a quote within a field", name, rows);
            quoted = !quoted;
        } else if (*c == ',' && !quoted) fields++;
        else if (*c == '\n' && !quoted) {
            wanted = rows++ ? wanted : fields;
            REQUIRE(fields == wanted, "%s: row %d: %d fields instead of %d", name, rows, fields, wanted);
            fields = 1;
        }
    }
    REQUIRE(!quoted && fields == 1, "%s: half a row", name);
    free(text), free(path);
    return rows;
}

// A table's rows, lines that begin with |, have as many cells as the ones above them.
static void check_tables(void) {
    char *path = format("%s/report.md", folder), *text = read_file(path, NULL);
    int wanted = 0;
    REQUIRE(text, "%s", path);
    for (char *line, *rest = text; (line = strsep(&rest, "\n")); ) {
        int cells = 0;
        for (const char *c = line; *line == '|' && *c; c++) cells += *c == '|' && (c == line || c[-1] != '\\');
        REQUIRE(!cells || !wanted || cells == wanted, "%d cells instead of %d: %.200s", cells, wanted, line);
        wanted = cells;
    }
    free(text), free(path);
}

static void check_report(void) {
    const RunList *l = &study.list;
    char *path = format("%s/report.json", folder), *text = read_file(path, NULL);
    cJSON *json = cJSON_Parse(text);
    const cJSON *runs = cJSON_GetObjectItemCaseSensitive(json, "runs"), *arms = cJSON_GetObjectItemCaseSensitive(json, "arms");
    REQUIRE(cJSON_GetArraySize(runs) == l->n_runs && cJSON_GetArraySize(arms) == l->n_arms, "%.300s", text);
    int evals = 0, i = 0;
    for (const cJSON *run = runs->child; run; run = run->next, evals += l->runs[i++].log.n_evals) {
        double loss = l->runs[i].m.of[LOSS], said = runlog_number(run, "loss");
        REQUIRE(isfinite(loss) ? said == loss : isnan(said), "%s: loss %g instead of %g", l->runs[i].name, said, loss);
        REQUIRE(l->runs[i].m.state == RUN_DONE || isnan(said), "%s: a loss of a run that is not done", l->runs[i].name);
    }
    REQUIRE(csv_rows("runs.csv") == 1 + l->n_runs, "%d runs", l->n_runs);
    REQUIRE(csv_rows("curves.csv") == 1 + evals, "%d validations", evals);
    check_tables();
}

static bool study_is_taken(void) {
    return COMES_TO_ITS_END(load_study(folder)) && study.list.n_runs <= MOST_RUNS && study.list.n_arms <= MOST_RUNS;
}

static bool report_is_written(void) { return COMES_TO_ITS_END(write_report()); }

static void try_report(const char *input, size_t n) {
    const char *logs[MOST_RUNS];
    size_t sizes[MOST_RUNS], length = strnlen(input, n);
    int n_logs = 0;
    for (const char *at = input + length; at < input + n && n_logs < MOST_RUNS; at += sizes[n_logs++]) {
        logs[n_logs] = ++at;
        sizes[n_logs] = strnlen(at, (size_t)(input + n - at));
    }
    put("study.json", input, length);
    note_memory(true);
    int made = study_is_taken() ? study.list.n_runs : 0;
    for (int i = 0; i < made; i++) {
        char *name = format("runs/%s/log.jsonl", study.list.runs[i].name);
        mkdir(study.list.runs[i].folder, 0777);         // a name may be too long
        if (n_logs && sizes[i % n_logs] && file_exists(study.list.runs[i].folder)) put(name, logs[i % n_logs], sizes[i % n_logs]);
        free(name);
    }
    if (made && report_is_written()) check_report();
    for (int i = 0; i < made; i++) {
        char *path = format("%s/log.jsonl", study.list.runs[i].folder);
        unlink(path);
        rmdir(study.list.runs[i].folder);
        free(path);
    }
    memset(&study, 0, sizeof study);
    kept_numbers = NULL, n_kept = 0;                    // none but where an input failed
    note_memory(false);
}
