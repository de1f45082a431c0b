// test_watch.c - tests of tools/watch_run.h and tools/serve.h, of runlog_follow, and of the program tools/watch.c. What a browser makes
// of the page is tried by dev/watch/check.sh.
#define _GNU_SOURCE
#include "../../tools/serve.h"
#include "../../tools/watch_run.h"
#include "shell.h"
#include <sys/prctl.h>

#define WATCH "${BUILD:-build}/watch --chart=README.md "       // any file: Chart.js needn't be there to write it into the page
#define ROOT "build/test/watch"

static const char start[] = "{\"event\": \"start\", \"step\": 0, \"config\": {\"run\": {\"seed\": 3}, \"optimizer\": {\"name\": \"adamw\"}}}\n";

static void put_log(const char *folder, const char *text) {
    char *path = format("%s/log.jsonl", folder);
    if (make_dirs(folder) != 0) fail("%s: %s", folder, strerror(errno));
    put_text(path, text);
    free(path);
}

// Lines of steps first ... last, as a log has them; every tenth with logits of 2 x 3 heads and loads. To be freed.
static char *steps_text(long first, long last) {
    char *text;
    size_t size;
    FILE *f = text_open(&text, &size);
    for (long i = first; i <= last; i++) {
        const float logits[] = { 1, 2, 3, (float)i, 5, 6 };
        const int loads[] = { 0, 8, 4, 4 };
        runlog_put_step(f, &(RunStep){ .step = i, .tokens = 100.0 * (double)i, .loss = 2 + 1.0 / (double)i, .bpb = 3, .lr = 0.5,
                                       .grad_norm = i == 777 ? 99 : 1, .ms = 10, .cpu_ms = 20, .tok_per_s = 400, .max_logit = (double)i, .optimizer_ms = 1 });
        if (i % 10 == 0) runlog_put_qk(f, i, logits, 2, 3, 0);
        if (i % 10 == 0) runlog_put_moe(f, i, loads, 1, 4);
    }
    text_close(f, &text);
    return text;
}

// What a file of the page tells: the argument of its one call. To be deleted.
static cJSON *told(const char *path, const char *call) {
    size_t size = 0;
    char *text = read_file(path, &size);
    cJSON *json = NULL;
    if (text && strncmp(text, call, strlen(call)) == 0 && size > 3 && strcmp(text + size - 3, ");\n") == 0) {
        text[size - 3] = '\0';
        json = cJSON_ParseWithOpts(text + strlen(call), NULL, true);
    }
    CHECK_MSG(json, "%s: no %s...)", path, call);
    free(text);
    return json;
}

// runs.js of a page, and the file of run i of its list.
static cJSON *told_list(const char *page) {
    char *path = format("%s/runs.js", page);
    cJSON *list = told(path, "watch.list(");
    free(path);
    return list;
}

static cJSON *listed(const cJSON *list, int i) { return cJSON_GetArrayItem(cJSON_GetObjectItem(list, "runs"), i); }

static cJSON *told_run(const char *page, const cJSON *list, int i) {
    const char *id = cJSON_GetStringValue(cJSON_GetObjectItem(listed(list, i), "id"));
    char *path = format("%s/run-%s.js", page, id ? id : "");
    cJSON *run_of = told(path, "watch.run(");
    free(path);
    return run_of;
}

static const char *text_of(const cJSON *object, const char *key) {
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(object, key));
    return text ? text : "";
}

// Number i of an array, NaN where there is none.
static double value_at(const cJSON *array, int i) {
    const cJSON *item = cJSON_GetArrayItem(array, i);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

static const char *text_at(const cJSON *array, int i) {
    const char *text = cJSON_GetStringValue(cJSON_GetArrayItem(array, i));
    return text ? text : "";
}

static const cJSON *column(const cJSON *told_of, const char *table, const char *name) {
    return cJSON_GetObjectItem(cJSON_GetObjectItem(told_of, table), name);
}

// ---------------------------------------------------------------------------------------------------------------------
// Thinning

TEST(thinning_keeps_what_sticks_out) {
    enum { N = 100000, BUCKETS = 800 };
    double *a = xmalloc(N * sizeof *a), *b = xmalloc(N * sizeof *b);
    int *kept = xmalloc(N * sizeof *kept);
    for (int i = 0; i < N; i++) a[i] = sin(i * 0.37), b[i] = uniform_of(mix64((uint64_t)i));
    a[12345] = 50, a[54321] = NAN, b[99] = -7, b[100] = INFINITY;
    const double *curves[] = { a, b };
    int n = watch_thin(curves, 2, N, BUCKETS, kept);
    CHECK_MSG(n > BUCKETS && n <= 4 * BUCKETS + 4, "%d", n);
    CHECK(kept[0] == 0 && kept[n - 1] == N - 1);
    int found = 0;
    for (int i = 0; i < n; i++) {
        found += kept[i] == 12345 || kept[i] == 54321 || kept[i] == 99 || kept[i] == 100;
        CHECK(i == 0 || kept[i] > kept[i - 1]);
    }
    CHECK_MSG(found == 4, "%d of the four", found);
    for (int k = 0; k < BUCKETS; k++) {                     // of each bucket the lowest and the highest of both
        for (int c = 0, at = 0; c < 2; c++, at = 0) {
            double low = INFINITY, high = -INFINITY, drawn_low = INFINITY, drawn_high = -INFINITY;
            for (int i = k * 125; i < (k + 1) * 125; i++) {
                double y = curves[c][i];
                while (at < n && kept[at] < i) at++;
                if (!isfinite(y)) continue;
                low = fmin(low, y), high = fmax(high, y);
                if (at < n && kept[at] == i) drawn_low = fmin(drawn_low, y), drawn_high = fmax(drawn_high, y);
            }
            CHECK(low == drawn_low && high == drawn_high);
        }
    }
    CHECK(watch_thin(curves, 2, 1600, BUCKETS, kept) == 1600 && kept[1599] == 1599);        // few are all kept
    CHECK(watch_thin(curves, 2, 0, BUCKETS, kept) == 0);
    free(a), free(b), free(kept);
}

// ---------------------------------------------------------------------------------------------------------------------
// A log that grows

TEST(a_log_is_followed) {
    RunLog log = { 0 };
    RunFollow f = { 0 };
    const char *folder = ROOT "/grows", *path = ROOT "/grows/log.jsonl";
    char *ten = steps_text(1, 10), *more = steps_text(11, 12), *other = steps_text(1, 10), *at;
    CHECK(runlog_follow(path, &log, &f) == -1 && errno == ENOENT);
    put_log(folder, start);
    CHECK(runlog_follow(path, &log, &f) == 1 && log.n_steps == 0 && log.start);
    CHECK(runlog_follow(path, &log, &f) == 0);
    FILE *out = fopen(path, "a");
    for (size_t i = 0; ten[i]; i++) {                       // a byte at a time, as slow as a writer can be
        fputc(ten[i], out);
        fflush(out);
        if (i % 97 == 0 || ten[i] == '\n') CHECK(runlog_follow(path, &log, &f) == (ten[i] == '\n'));
    }
    CHECK(log.n_steps == 10 && log.n_qks == 1 && log.steps[9].step == 10 && log.steps[9].seconds > 0.0999 && f.lines == 13);
    CHECK(log.n_qks == 1 && log.qks[0].layers == 2 && log.qks[0].heads == 3 && log.qks[0].of_heads && log.qks[0].of_heads[3] == 10);
    fputs(more, out);
    fclose(out);
    CHECK(runlog_follow(path, &log, &f) == 1 && log.n_steps == 12);

    long last;                                              // a run that goes on from a checkpoint of step 5
    CHECK(runlog_cut(path, 5, 0, &last) == 0 && last == 5);
    CHECK(runlog_follow(path, &log, &f) == 1 && log.n_steps == 5 && log.steps[4].step == 5);
    at = strstr(other, "\"loss\": ");                       // another run, in the same file, with as many bytes
    at[8] = '9';
    out = fopen(path, "w");
    fprintf(out, "%s%s", start, ten);
    fclose(out);
    CHECK(runlog_follow(path, &log, &f) == 1 && log.n_steps == 10 && log.steps[0].loss == 3);
    char *end = strrchr(other, ':');                        // differs in the last line, too
    end[3] = '8';
    out = fopen(path, "w");
    fprintf(out, "%s%s", start, other);
    fclose(out);
    CHECK(runlog_follow(path, &log, &f) == 1 && log.n_steps == 10 && log.steps[0].loss == 9);

    out = fopen(path, "a");
    fputs("nonsense\n{\"event\": \"step\", \"step\": 11}\n", out);
    fclose(out);
    CHECK(runlog_follow(path, &log, &f) == -2 && f.lines == 13 && log.n_steps == 10);
    CHECK(runlog_follow(path, &log, &f) == -2 && log.n_steps == 10);
    put_log(folder, start);
    CHECK(runlog_follow(path, &log, &f) == 1 && log.n_steps == 0);
    unlink(path);
    CHECK(runlog_follow(path, &log, &f) == -1 && log.n_steps == 0 && !log.start);
    runlog_free(&log);
    free(ten), free(more), free(other);
}

TEST(odd_logits_are_no_heads) {
    static const char *const odd[] = { "[[1, 2], [3]]", "[[], []]", "[1, 2]", "7", "null", "{\"a\": [1]}", "[[1, [2]]]", "[]" };
    for (size_t i = 0; i < COUNT_OF(odd); i++) {
        char *text = format("{\"event\": \"qk\", \"step\": 1, \"max_logit\": %s}\n", odd[i]);
        RunLog log;
        put_log(ROOT "/odd", text);
        CHECK(runlog_read(ROOT "/odd/log.jsonl", &log) == 0 && log.n_qks == 1);
        const RunQk *q = log.qks;
        bool has = i == 5 || i == 6;                        // an object's members are its items; what is no number is NaN
        CHECK_MSG(!q->of_heads == !has && (!has || q->layers * q->heads <= 2), "%s: %d x %d", odd[i], q->layers, q->heads);
        runlog_free(&log);
        free(text);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The page

TEST(a_page_tells_what_the_log_says) {
    char *text = steps_text(1, 20), *all = format("%s%s", start, text);
    put_log(ROOT "/tells/a", all);
    FILE *f = fopen(ROOT "/tells/a/log.jsonl", "a");
    runlog_put_eval(f, &(RunEval){ .step = 0, .val_loss = 4, .val_bpb = 2, .eval_tokens = 5, .sample_loss = 4 }, NULL, 0);
    runlog_put_eval(f, &(RunEval){ .step = 20, .tokens = 2000, .val_loss = NAN, .val_bpb = NAN, .eval_tokens = 5, .sample_loss = NAN }, NULL, 0);
    fclose(f);
    put_text(ROOT "/tells/a/sample.txt", "--- step 20 ---\nIn the \"beginning\"</script>\n");
    CHECK(run(WATCH ROOT "/tells --once") == 0);
    CHECK(run("cmp tools/watch/watch.js " ROOT "/tells/watch/watch.js && cmp tools/watch/index.html " ROOT "/tells/watch/index.html && "
              "cmp tools/watch/watch.css " ROOT "/tells/watch/watch.css && cmp README.md " ROOT "/tells/watch/chart.js") == 0);
    cJSON *list = told_list(ROOT "/tells/watch"), *r = told_run(ROOT "/tells/watch", list, 0);
    CHECK(cJSON_GetArraySize(cJSON_GetObjectItem(list, "runs")) == 1 && !strcmp(text_of(listed(list, 0), "name"), "a"));
    CHECK(!strcmp(text_of(listed(list, 0), "optimizer"), "AdamW") && runlog_number(listed(list, 0), "color") == PLOT_ADAMW);
    CHECK(!strcmp(text_of(listed(list, 0), "state"), "running") && runlog_number(listed(list, 0), "step") == 20);
    CHECK(!strcmp(text_at(cJSON_GetObjectItem(list, "palette"), PLOT_ADAMW), "#d55e00"));       // as plot.h has it
    CHECK(!strcmp(text_of(r, "version"), text_of(listed(list, 0), "version")));
    static const char *const names[] = { "step", "tokens", "seconds", "nats", "smooth_nats", "bits", "smooth_bits", "lr",
                                         "grad_norm", "max_logit", "tok_per_s" };
    for (size_t i = 0; i < COUNT_OF(names); i++) CHECK_MSG(cJSON_GetArraySize(column(r, "steps", names[i])) == 20, "%s", names[i]);
    CHECK(value_at(column(r, "steps", "tokens"), 19) == 2000 && value_at(column(r, "steps", "nats"), 1) == 2.5);
    CHECK(value_at(column(r, "evals", "nats"), 0) == 4 && cJSON_IsNull(cJSON_GetArrayItem(column(r, "evals", "nats"), 1)));
    const cJSON *heads = column(r, "heads", "of");
    CHECK(cJSON_GetArraySize(heads) == 6 && value_at(cJSON_GetArrayItem(heads, 3), 1) == 20);
    CHECK(value_at(column(r, "heads", "tokens"), 1) == 2000 && value_at(column(r, "experts", "dead"), 0) == 0.25);
    CHECK(!strcmp(text_of(r, "samples"), "--- step 20 ---\nIn the \"beginning\"</script>\n"));
    const cJSON *pair = cJSON_GetArrayItem(cJSON_GetObjectItem(r, "config"), 0);
    CHECK(!strcmp(text_at(pair, 0), "run.seed") && !strcmp(text_at(pair, 1), "3"));
    cJSON_Delete(list), cJSON_Delete(r);
    free(text), free(all);
}

TEST(names_can_be_anything) {
    static const char *const names[] = { "</script><b>", "a \"quoted\" \\ one", "it's $HOME `x`",
                                         "Wort \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "two\nlines", "bad \xff bytes", "__proto__" };
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char *folder = test_folder("watch/named"), *path = format("%s/sub", folder), *log;
        CHECK(mkdir(path, 0777) == 0);                      // a name can't have a slash, but a path
        char *inner = format("%s/%s", path, strchr(names[i], '/') ? "x" : names[i]), *shown;
        cJSON *object = cJSON_CreateObject(), *config = cJSON_AddObjectToObject(object, "config");
        cJSON_AddStringToObject(object, "event", "start");
        cJSON_AddNumberToObject(object, "step", 0);
        cJSON_AddStringToObject(cJSON_AddObjectToObject(config, "data"), names[i], names[i]);
        log = cJSON_PrintUnformatted(object);
        if (strchr(names[i], '/')) shown = format("%s/%s", inner, names[i]);
        else shown = xstrdup(inner);
        char *line = format("%s\n", log);
        put_log(shown, line);
        CHECK(run(WATCH ROOT "/named --once") == 0);
        cJSON *list = told_list(ROOT "/named/watch"), *r = told_run(ROOT "/named/watch", list, 0);
        CHECK_MSG(!strcmp(text_of(listed(list, 0), "name"), shown + strlen(folder) + 1), "%s", text_of(listed(list, 0), "name"));
        const cJSON *pair = cJSON_GetArrayItem(cJSON_GetObjectItem(r, "config"), 0);
        CHECK_MSG(!strcmp(text_at(pair, 1), names[i]), "%s", text_at(pair, 1));
        CHECK(!strncmp(text_at(pair, 0), "data.", 5) && !strcmp(text_at(pair, 0) + 5, names[i]));
        cJSON_Delete(list), cJSON_Delete(r), cJSON_Delete(object);
        cJSON_free(log);
        free(folder), free(path), free(inner), free(shown), free(line);
    }
}

TEST(folders_without_much_in_them) {
    CHECK(run("mkdir -p " ROOT "/few/empty && " WATCH ROOT "/few --once") == 0);
    cJSON *list = told_list(ROOT "/few/watch");
    CHECK(list && cJSON_GetArraySize(cJSON_GetObjectItem(list, "runs")) == 0);
    cJSON_Delete(list);
    put_log(ROOT "/few/begun", "");                         // nothing yet; a start; half a first line; no event
    put_log(ROOT "/few/started", start);
    put_log(ROOT "/few/half", "{\"event\": \"sta");
    put_log(ROOT "/few/wrong", "{\"event\": \"start\"}\nnonsense\n");
    put_log(ROOT "/few/ended", "{\"event\": \"end\", \"step\": 3, \"val_loss\": null, \"train_seconds\": 1, \"reason\": \"diverged\"}\n");
    CHECK(run(WATCH ROOT "/few --once && touch -d yesterday " ROOT "/few/started/log.jsonl && " WATCH ROOT "/few --once") == 0);
    list = told_list(ROOT "/few/watch");
    static const char *const states[] = { "running", "diverged", "running", "no end", "log.jsonl:2: not an event" };
    for (int i = 0; i < 5; i++) {
        cJSON *r = told_run(ROOT "/few/watch", list, i);
        const char *name = text_of(listed(list, i), "name"), *state = text_of(listed(list, i), "state");
        CHECK_MSG(!strcmp(state, states[i]), "%s: %s", name, state);
        CHECK(cJSON_GetArraySize(column(r, "steps", "step")) == 0);
        cJSON_Delete(r);
    }
    cJSON_Delete(list);
    CHECK(run(WATCH ROOT "/few/started " ROOT "/few/ended --out=" ROOT "/chosen --once") == 0);    // by their names
    list = told_list(ROOT "/chosen");
    CHECK(cJSON_GetArraySize(cJSON_GetObjectItem(list, "runs")) == 2 && !strcmp(text_of(listed(list, 1), "name"), "started"));
    cJSON_Delete(list);
    CHECK(run(WATCH ROOT "/few/started/ --once && test -e " ROOT "/few/watch/runs.js && test ! -e " ROOT "/few/started/watch") == 0);
    CHECK(run("test $(ls " ROOT "/few/watch/run-* | wc -l) = 1") == 0);       // files of runs that aren't shown are gone
}

TEST(the_newest_hundred_are_shown) {
    for (int i = 0; i < 103; i++) {
        char *folder = format(ROOT "/many/runs/r%03d", i);
        char *touch = format("touch -d '2026-01-01 00:00:%02d' %s/log.jsonl", 1 + i / 2, folder);
        put_log(folder, start);
        CHECK(run(touch) == 0);
        free(folder), free(touch);
    }
    CHECK(run(WATCH ROOT "/many --once && test $(ls " ROOT "/many/watch/run-* | wc -l) = 100") == 0);
    cJSON *list = told_list(ROOT "/many/watch");
    CHECK(runlog_number(list, "found") == 103 && !strcmp(text_of(listed(list, 0), "name"), "runs/r002"));
    cJSON_Delete(list);
}

TEST(a_long_log_is_a_small_page) {
    char *text = steps_text(1, 100000), *all = format("%s%s", start, text);
    put_log(ROOT "/long/a", all);
    double begin = seconds_now();
    CHECK(run(WATCH ROOT "/long --once") == 0);
    printf("    100,000 steps: %.2f s\n", seconds_now() - begin);
    cJSON *list = told_list(ROOT "/long/watch"), *r = told_run(ROOT "/long/watch", list, 0);
    const cJSON *step;
    bool spike = false;
    int i = 0, n = cJSON_GetArraySize(column(r, "steps", "step"));
    cJSON_ArrayForEach(step, column(r, "steps", "step"))
        spike = spike || (step->valueint == 777 && value_at(column(r, "steps", "grad_norm"), i) == 99), i++;
    CHECK_MSG(spike && n > 1600 && n < 8000, "%d points", n);
    CHECK(cJSON_GetArraySize(column(r, "experts", "dead")) <= 3202 && cJSON_GetArraySize(column(r, "heads", "step")) == 200);
    CHECK(value_at(cJSON_GetArrayItem(column(r, "heads", "of"), 3), 0) == 500);      // of 50 events the largest
    char *path = format(ROOT "/long/watch/run-%s.js", text_of(listed(list, 0), "id"));
    struct stat st;
    CHECK_MSG(stat(path, &st) == 0 && st.st_size < 1000000, "%lld bytes", (long long)st.st_size);
    cJSON_Delete(list), cJSON_Delete(r);
    free(path), free(text), free(all);
}

// ---------------------------------------------------------------------------------------------------------------------
// The server

static int connect_to(int port) {
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
    struct timeval patience = { 20, 0 };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&at, sizeof at) != 0) fail("127.0.0.1:%d: %s", port, strerror(errno));
    return fd;
}

// All that a connection answers; closes it. To be freed.
static char *rest_of(int fd) {
    char *text = xcalloc(1 << 20, 1);
    for (ssize_t got, n = 0; (got = recv(fd, text + n, (1 << 20) - 1 - (size_t)n, 0)) > 0; ) n += got;
    close(fd);
    return text;
}

static char *answer_to(int port, const char *request) {
    int fd = connect_to(port);
    (void)!send(fd, request, strlen(request), MSG_NOSIGNAL);
    return rest_of(fd);
}

#define HOST "Host: 127.0.0.1:1234\r\n\r\n"
#define CHECK_ANSWER(request, status, words)                                                            \
    do {                                                                                                \
        char *answer_ = answer_to(port, request);                                                       \
        CHECK_MSG(!strncmp(answer_, "HTTP/1.1 " status, 12), "%s: %.60s", request, answer_);            \
        CHECK_MSG(strstr(answer_, words), "no \"%s\" in %s", words, answer_);                           \
        free(answer_);                                                                                  \
    } while (0)

TEST(only_the_pages_files_are_served_and_only_here) {
    CHECK(run("mkdir -p " ROOT "/served/sub && cd " ROOT "/served && echo page > index.html && echo code > a-1.js && echo none > secret.txt && "
              "echo none > .hidden.js && echo none > sub/x.js && ln -s secret.txt link.js && mkdir d.js && mkfifo p.js") == 0);
    int port = 0, fd = serve_open(&port), same = port;
    CHECK(fd >= 0 && port > 0 && serve_open(&same) == -1 && errno == EADDRINUSE);
    struct sockaddr_in at;
    socklen_t size = sizeof at;
    CHECK(getsockname(fd, (struct sockaddr *)&at, &size) == 0 && at.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) serve_next(fd, ROOT "/served", 1);
    }
    close(fd);
    int slow = connect_to(port);                            // says nothing, and keeps nobody waiting
    CHECK_ANSWER("GET / HTTP/1.1\r\n" HOST, "200", "Content-Type: text/html; charset=utf-8\r\nContent-Length: 5\r\n");
    CHECK_ANSWER("GET /index.html?123 HTTP/1.1\r\n" HOST, "200", "\r\n\r\npage\n");
    CHECK_ANSWER("GET /a-1.js HTTP/1.1\r\nhost:localhost\r\n\r\n", "200", "Cross-Origin-Resource-Policy: same-origin\r\n\r\ncode\n");
    CHECK_ANSWER("GET /a-1.js HTTP/1.1\r\n" HOST, "200", "text/javascript");
    CHECK_ANSWER("HEAD / HTTP/1.1\r\n" HOST, "200", "Content-Length: 5\r\n");
    char *head = answer_to(port, "HEAD / HTTP/1.1\r\n" HOST);
    CHECK(!strstr(head, "page"));
    free(head);
    static const char *const absent[] = { "secret.txt", ".hidden.js", "sub/x.js", "link.js", "d.js", "p.js", "none.js",
                                          "../watch/index.html", "%2e%2e/a-1.js", "..", "", "/a-1.js", "a-1.js/", "a-1.js%00.html" };
    for (size_t i = 0; i < COUNT_OF(absent); i++) {
        char *request = format("GET /%s%s HTTP/1.1\r\n" HOST, absent[i], *absent[i] ? "" : "sub");
        CHECK_ANSWER(request, "404", "Content-Length: 0\r\n");
        free(request);
    }
    CHECK_ANSWER("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "403", "Content-Length: 0\r\n");
    CHECK_ANSWER("GET / HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n", "403", "\r\n\r\n");
    CHECK_ANSWER("GET / HTTP/1.1\r\nHost: localhost.evil\r\nX-Host: localhost\r\n\r\n", "403", "\r\n\r\n");
    CHECK_ANSWER("GET / HTTP/1.1\r\n\r\n", "403", "\r\n\r\n");
    CHECK_ANSWER("POST / HTTP/1.1\r\n" HOST, "405", "\r\n\r\n");
    CHECK_ANSWER("GET http://127.0.0.1/ HTTP/1.1\r\n" HOST, "405", "\r\n\r\n");
    char *long_one = xcalloc(20001, 1), *none;
    memset(long_one, 'x', 20000);
    none = answer_to(port, long_one);                       // no end of it: no answer
    CHECK(!*none);
    free(long_one), free(none);
    CHECK(send(slow, "GET / HTTP/1.1\r\n", 16, 0) == 16 && send(slow, HOST, strlen(HOST), 0) == (ssize_t)strlen(HOST));
    none = rest_of(slow);
    CHECK(strstr(none, "page"));
    free(none);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

TEST(a_page_follows_its_runs_until_ctrl_c) {
    char *first = steps_text(1, 5), *more = steps_text(6, 9);
    put_log(ROOT "/live/a", first);
    CHECK(run("rm -f " ROOT "/live.txt; " WATCH ROOT "/live --port=0 > " ROOT "/live.txt 2>&1 & echo $! > " ROOT "/live.pid; "
              "for i in $(seq 200); do grep -q watching: " ROOT "/live.txt && exit 0; sleep 0.1; done; exit 1") == 0);
    char *said = read_file(ROOT "/live.txt", NULL), *pid = read_file(ROOT "/live.pid", NULL), *at = said ? strstr(said, "127.0.0.1:") : NULL;
    int port = at ? atoi(at + 10) : 0, steps = 0;
    CHECK(said && strstr(said, "1 run in /") && port > 0);
    FILE *f = fopen(ROOT "/live/a/log.jsonl", "a");
    fputs(more, f);
    fclose(f);
    put_log(ROOT "/live/b", start);
    for (int i = 0; i < 200 && port && steps < 9; i++) {
        char *answer = answer_to(port, "GET /runs.js?1 HTTP/1.1\r\n" HOST);
        char *b = strstr(answer, "\"name\": \"b\""), *step = strstr(answer, "\"step\": ");
        if (b && step) steps = atoi(step + 8);
        free(answer);
        usleep(100000);
    }
    CHECK_MSG(steps == 9, "%d steps", steps);
    cJSON *list = told_list(ROOT "/live/watch"), *r = told_run(ROOT "/live/watch", list, 0);
    CHECK(cJSON_GetArraySize(column(r, "steps", "step")) == 9 && !strcmp(text_of(r, "version"), text_of(listed(list, 0), "version")));
    cJSON_Delete(list), cJSON_Delete(r);
    if (pid && atoi(pid) > 1) kill(atoi(pid), SIGTERM);
    CHECK(run("for i in $(seq 100); do kill -0 $(cat " ROOT "/live.pid) 2> /dev/null || exit 0; sleep 0.1; done; exit 1") == 0);
    free(first), free(more), free(said), free(pid);
}

// ---------------------------------------------------------------------------------------------------------------------
// Bad input

TEST(bad_input_is_one_line) {
    put_log(ROOT "/bad/a", start);
    CHECK_FAILS(shell, WATCH, 2, "no folder given; expected one such as runs");
    CHECK_FAILS(shell, WATCH ROOT "/none --once", 1, ROOT "/none: No such file or directory; expected a run's folder, or one with runs in it");
    CHECK_FAILS(shell, WATCH ROOT "/bad/a/log.jsonl --once", 1, "Not a directory; expected a run's folder");
    CHECK_FAILS(shell, WATCH ROOT "/bad --x", 2, "--x: unknown option");
    CHECK_FAILS(shell, WATCH ROOT "/bad --port=x", 2, "--port=x: an integer from 0 to 65535 expected");
    CHECK_FAILS(shell, WATCH ROOT "/bad --once --out=" ROOT "/bad/a", 2, ROOT "/bad/a: a run's folder; --out=FOLDER, the page's own, expected");
    CHECK_FAILS(shell, "${BUILD:-build}/watch " ROOT "/bad --once --chart=none.js", 1, "none.js: No such file or directory");
    CHECK(run("mkdir -p " ROOT "/site && echo mine > " ROOT "/site/index.html") == 0);
    CHECK_FAILS(shell, WATCH ROOT "/bad --once --out=" ROOT "/site", 2, ROOT "/site: has other files than such a page; another --out=FOLDER expected");
    CHECK(same_file(ROOT "/site/index.html", "mine\n", 5));
    CHECK(run("mv " ROOT "/site/index.html " ROOT "/site/chart.js") == 0);
    CHECK_FAILS(shell, WATCH ROOT "/bad --once --out=" ROOT "/site", 2, ROOT "/site: has other files than such a page");
    CHECK(same_file(ROOT "/site/chart.js", "mine\n", 5) && !file_exists(ROOT "/site/index.html"));
    int port = 0, fd = serve_open(&port);
    char *command = format(WATCH ROOT "/bad --port=%d", port), *words = format("127.0.0.1:%d: Address already in use; --port=N expected", port);
    CHECK_FAILS(shell, command, 1, words);
    close(fd);
    free(command), free(words);
    CHECK(run("mkdir -p " ROOT "/closed && chmod 555 " ROOT "/closed && chmod -R a+rX " ROOT "/bad") == 0);
    CHECK_FAILS(shell_as_nobody, WATCH ROOT "/bad --once --out=" ROOT "/closed/page", 1, ROOT "/closed/page: cannot be made: Permission denied");
    CHECK_FAILS(shell_as_nobody, WATCH ROOT "/bad --once --out=" ROOT "/closed", 1, ROOT "/closed/index.html: cannot be written: Permission denied");
    CHECK_FAILS(shell_on_full_disk, "${BUILD:-build}/watch " ROOT "/bad --once --chart=test_gpt.c --out=" ROOT "/full", 1,
                ROOT "/full/chart.js: cannot be written: File too large");
    CHECK(!file_exists(ROOT "/full/chart.js") && !file_exists(ROOT "/full/chart.js.tmp"));
}

int main(int argc, char **argv) {
    if (argc > 1) tests_only = argv[1];
    free(test_folder("watch"));
    RUN(thinning_keeps_what_sticks_out);
    RUN(a_log_is_followed);
    RUN(odd_logits_are_no_heads);
    RUN(a_page_tells_what_the_log_says);
    RUN(names_can_be_anything);
    RUN(folders_without_much_in_them);
    RUN(the_newest_hundred_are_shown);
    RUN(a_long_log_is_a_small_page);
    RUN(only_the_pages_files_are_served_and_only_here);
    RUN(a_page_follows_its_runs_until_ctrl_c);
    RUN(bad_input_is_one_line);
    return tests_end();
}
