/* chart.c - draws what is written on stdin as a PNG of panels, for the lab's scripts.
 *
 *     build/chart OUT.png "Title" [WIDTH HEIGHT ROWS] < text
 *
 * Lines of the text; after the first word of a heading, parts are separated by |, and may be empty:
 *
 *     panel TITLE|X LABEL|Y LABEL|xlog ylog       a new panel, axes logarithmic where it says so
 *     names A|B|C                                 of its x = 0, 1, 2
 *     line LABEL | points LABEL | dashed LABEL    a new series; one label has one colour everywhere, the first that names
 *                                                 Muon or AdamW theirs (plot_choose_colors), grey without a label
 *     X Y [LOW HIGH]                              a point of it, and with a line a band around it; with points an error bar
 */
#define _GNU_SOURCE
#include "../../src/flags.h"
#include "../../src/plot.h"

enum { MOST = 64, WORDS = 16 };

static PlotPanel panels[MOST];
static PlotSeries series[MOST][4 * MOST];
static char *labels[MOST];
static int n_panels, n_labels, line_number;

// The parts of text between |, cut in place; an empty one is NULL.
static int parts_of(char *text, char *parts[WORDS]) {
    int n = 0;
    for (char *part; (part = strsep(&text, "|")); n++) {
        if (n == WORDS) fail("stdin:%d: more than %d parts between |", line_number, WORDS);
        parts[n] = *part ? part : NULL;
    }
    return n;
}

static int color_of(const char *label) {
    int i = 0, colors[MOST];
    if (!label) return PLOT_GREY;
    while (i < n_labels && strcmp(labels[i], label) != 0) i++;
    if (i == MOST) fail("stdin:%d: more than %d labels", line_number, MOST);
    if (i == n_labels) labels[n_labels++] = xstrdup(label);
    plot_choose_colors((const char *const *)labels, n_labels, colors);
    return colors[i];
}

static void add_panel(char *text) {
    char *parts[WORDS] = { NULL };
    if (n_panels == MOST) fail("stdin:%d: more than %d panels", line_number, MOST);
    parts_of(xstrdup(text), parts);
    panels[n_panels] = (PlotPanel){ .title = parts[0], .xlabel = parts[1], .ylabel = parts[2], .series = series[n_panels],
                                    .xlog = parts[3] && strstr(parts[3], "xlog"), .ylog = parts[3] && strstr(parts[3], "ylog") };
    n_panels++;
}

static PlotSeries *add_series(PlotPanel *p, const char *label, int color, unsigned style) {
    PlotSeries *s = &series[p - panels][p->n_series++];
    if (p->n_series > 4 * MOST - 2) fail("stdin:%d: too many series in a panel", line_number);
    *s = (PlotSeries){ .label = label, .color = color, .style = style };
    return s;
}

static double *appended(const double *x, int n, double value) {
    double *y = xrealloc((double *)x, (size_t)(n + 1) * sizeof *y);
    y[n] = value;
    return y;
}

// A point goes to the panel's last series; its band or bar to a series of its own beside it.
static void add_point(PlotPanel *p, const double v[4], int n) {
    PlotSeries *s = p->n_series ? &series[p - panels][p->n_series - 1] : NULL;
    if (!s) fail("stdin:%d: a point before any series", line_number);
    s->x = appended(s->x, s->n, v[0]);
    s->y = appended(s->y, s->n, v[1]);
    s->lo = appended(s->lo, s->n, n == 4 ? v[2] : NAN);
    s->hi = appended(s->hi, s->n, n == 4 ? v[3] : NAN);
    s->n++;
}

// Bands below the lines, and error bars, which are lines of two points each.
static void add_errors(PlotPanel *p) {
    PlotSeries all[4 * MOST], *own = series[p - panels];
    int n = 0;
    for (int i = 0; i < p->n_series; i++) {
        if (own[i].style & PLOT_LINE && !(own[i].style & PLOT_DASHED)) {
            all[n] = own[i];
            all[n].label = NULL;
            all[n++].style = PLOT_BAND;
        } else {
            for (int k = 0; k < own[i].n; k++) {
                if (n == 3 * MOST) fail("more than %d error bars in a panel", 3 * MOST);
                if (!isfinite(own[i].lo[k]) || own[i].style & PLOT_DASHED) continue;
                double *xs = xmalloc(4 * sizeof *xs);
                xs[0] = xs[1] = own[i].x[k], xs[2] = own[i].lo[k], xs[3] = own[i].hi[k];
                all[n++] = (PlotSeries){ .x = xs, .y = xs + 2, .n = 2, .color = own[i].color, .style = PLOT_LINE };
            }
        }
    }
    if (n + p->n_series > 4 * MOST) fail("too many series in a panel");
    memcpy(all + n, own, (size_t)p->n_series * sizeof *own);
    p->n_series += n;
    memcpy(own, all, (size_t)p->n_series * sizeof *own);
}

int main(int argc, char **argv) {
    program_begin();
    int width = 900, height = 460, rows = 1;
    if (argc != 3 && argc != 6) fail_usage("usage: chart OUT.png TITLE [WIDTH HEIGHT ROWS] < text");
    if (argc == 6) {
        width = (int)integer_of("WIDTH", argv[3], 100, 10000);
        height = (int)integer_of("HEIGHT", argv[4], 100, 10000);
        rows = (int)integer_of("ROWS", argv[5], 1, MOST);
    }
    char *line = NULL, *end;
    size_t room = 0;
    while (getline(&line, &room, stdin) >= 0) {
        line_number++;
        line[strcspn(line, "\n")] = '\0';
        char *rest = line + strcspn(line, " "), *word = format("%.*s", (int)(rest - line), line);
        if (*rest) rest++;
        PlotPanel *p = n_panels ? &panels[n_panels - 1] : NULL;
        if (strspn(line, " ") == strlen(line)) ;
        else if (strcmp(word, "panel") == 0) add_panel(rest);
        else if (!p) fail("stdin:%d: '%s' before any panel", line_number, line);
        else if (strcmp(word, "names") == 0) {
            char **names = xcalloc(WORDS, sizeof *names);
            p->n_xnames = parts_of(xstrdup(rest), names);
            p->xnames = (const char *const *)names;
        } else if (isalpha((unsigned char)*line) && strcmp(word, "nan") != 0) {
            unsigned style = strcmp(word, "line") == 0 ? PLOT_LINE | PLOT_POINTS
                             : strcmp(word, "points") == 0 ? PLOT_POINTS
                             : strcmp(word, "dashed") == 0 ? PLOT_LINE | PLOT_DASHED : 0;
            if (!style) fail("stdin:%d: '%s': expected panel, names, line, points, dashed or numbers", line_number, line);
            char *label = *rest ? xstrdup(rest) : NULL;
            add_series(p, label, color_of(label), style);
        } else {
            double v[4];
            int n = 0;
            char *at = line;
            for (; n < 4 && (v[n] = strtod(at, &end), end != at); n++) at = end;
            if ((n != 2 && n != 4) || at[strspn(at, " ")]) fail("stdin:%d: '%s': expected X Y or X Y LOW HIGH", line_number, line);
            add_point(p, v, n);
        }
        free(word);
    }
    if (!n_panels) fail("stdin: no panel");
    for (int i = 0; i < n_panels; i++) add_errors(&panels[i]);
    if (plot_png_small(argv[1], argv[2], panels, n_panels, rows, width, height) != 0) fail("%s: %s", argv[1], strerror(errno));
    free(line);
    return 0;
}
