// test_plot.c - tests of src/plot.h (pixels of the canvas, ticks, PNG), src/runlog.h (reading and cutting a log, the
// picture of training) and of the program tools/plot.c, whose main is called with arguments.
#define _GNU_SOURCE
#define main plot_main
#include "../../tools/plot.c"
#undef main
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wshadow"
#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_PNG
#include <stb/stb_image.h>
#pragma GCC diagnostic pop
#include "test.h"

// ---------------------------------------------------------------------------------------------------------------------
// The canvas

static PlotCanvas new_canvas(int width, int height) {
    PlotCanvas c = { .width = width, .height = height, .dirty = { width, height, 0, 0 } };
    c.rgb = (unsigned char *)xmalloc((size_t)width * (size_t)height * 3);
    c.mask = (float *)xcalloc((size_t)width * (size_t)height, sizeof *c.mask);
    memset(c.rgb, 255, (size_t)width * (size_t)height * 3);
    return c;
}

static void free_canvas(PlotCanvas *c) {
    free(c->rgb);
    free(c->mask);
    free(c->font_file);
}

// How much of white became black at a pixel: 0 ... 1.
static double ink(const PlotCanvas *c, int x, int y) {
    return 1 - c->rgb[((size_t)y * (size_t)c->width + (size_t)x) * 3] / 255.0;
}

static double ink_of(const PlotCanvas *c, PlotRect r) {
    double sum = 0;
    for (int y = r.y0; y < r.y1; y++)
        for (int x = r.x0; x < r.x1; x++) sum += ink(c, x, y);
    return sum;
}

static const PlotColor black = { 0, 0, 0 };

TEST(a_line_paints_its_pixels) {
    PlotCanvas c = new_canvas(60, 40);
    PlotColor blue = plot_color(0);
    plot_segment(&c, plot_everything(&c), 10, 10, 50, 10, 4);           // its edges lie on pixel edges
    plot_paint(&c, blue, 1);
    for (int y = 8; y < 12; y++)
        for (int x = 10; x < 50; x++) {
            const unsigned char *p = c.rgb + (y * 60 + x) * 3;
            CHECK_MSG(p[0] == blue.r && p[1] == blue.g && p[2] == blue.b, "(%d,%d): %d %d %d", x, y, p[0], p[1], p[2]);
        }
    CHECK(ink_of(&c, (PlotRect){ 0, 0, 60, 8 }) == 0);
    CHECK(ink_of(&c, (PlotRect){ 0, 12, 60, 40 }) == 0);
    CHECK(ink_of(&c, (PlotRect){ 53, 0, 60, 40 }) == 0);
    for (int i = 0; i < 60 * 40; i++) CHECK(c.mask[i] == 0);            // painting cleared the mask
    free_canvas(&c);
}

TEST(lines_are_anti_aliased) {
    PlotCanvas c = new_canvas(60, 40);
    plot_segment(&c, plot_everything(&c), 10, 20.5, 50, 20.5, 2);       // one whole row and half of both neighbours
    plot_paint(&c, black, 1);
    CHECK(ink(&c, 30, 20) == 1);
    for (int y = 19; y <= 21; y += 2) CHECK_MSG(fabs(ink(&c, 30, y) - 0.5) < 0.01, "row %d: %g", y, ink(&c, 30, y));
    CHECK(ink(&c, 30, 18) == 0 && ink(&c, 30, 22) == 0);
    free_canvas(&c);

    static const double widths[] = { 0.5, 1, 1.7, 3, 8 };               // slanted: the ink is the area
    for (size_t i = 0; i < COUNT_OF(widths); i++) {
        c = new_canvas(400, 300);
        plot_segment(&c, plot_everything(&c), 20, 20, 320, 245, widths[i]);
        plot_paint(&c, black, 1);
        double area = 375 * widths[i], got = ink_of(&c, plot_everything(&c));
        CHECK_MSG(fabs(got / area - 1) < 0.06, "width %g: ink %g, area %g", widths[i], got, area);
        free_canvas(&c);
    }
}

TEST(a_translucent_line_is_even) {
    PlotCanvas c = new_canvas(60, 60);
    double x[] = { 5, 55, 55, 5, 55 }, y[] = { 30, 30, 10, 55, 55 };    // crosses itself, and meets itself at joints
    plot_polyline(&c, plot_everything(&c), x, y, 5, 4, 0);
    plot_paint(&c, black, 0.25);
    double darkest = 0;
    for (int i = 0; i < 3600; i++) darkest = fmax(darkest, ink(&c, i % 60, i / 60));
    CHECK_MSG(fabs(darkest - 0.25) < 0.01, "%g", darkest);
    free_canvas(&c);
}

TEST(gaps_dashes_and_clipping) {
    PlotCanvas c = new_canvas(120, 40);
    PlotRect all = plot_everything(&c), left_half = { 0, 0, 60, 40 };
    double x[] = { 10, 30, 50, 70, 90 }, y[] = { 10, 10, NAN, 10, 10 };
    plot_polyline(&c, all, x, y, 5, 2, 0);
    plot_paint(&c, black, 1);
    CHECK(ink(&c, 20, 10) == 1 && ink(&c, 80, 10) == 1);
    CHECK(ink_of(&c, (PlotRect){ 33, 0, 67, 40 }) == 0);

    double lone_y[] = { NAN, 20, NAN, NAN, 20 };                        // a point between gaps is a dot
    plot_polyline(&c, all, x, lone_y, 5, 4, 0);
    plot_paint(&c, black, 1);
    CHECK(ink(&c, 30, 20) == 1 && ink(&c, 90, 20) == 1 && ink(&c, 60, 20) == 0);

    double far_x[] = { 0, 120 }, far_y[] = { 30, 30 };
    plot_polyline(&c, left_half, far_x, far_y, 2, 2, 0);
    plot_paint(&c, black, 1);
    CHECK(ink(&c, 59, 30) == 1 && ink(&c, 60, 30) == 0);
    free_canvas(&c);

    c = new_canvas(600, 20);
    double long_x[] = { 0, 150, 600 }, long_y[] = { 10, 10, 10 };
    plot_polyline(&c, plot_everything(&c), long_x, long_y, 3, 2, 12);
    plot_paint(&c, black, 1);
    int dashes = 0;
    for (int i = 1; i < 600; i++) dashes += ink(&c, i, 10) > 0.5 && ink(&c, i - 1, 10) <= 0.5;
    CHECK_MSG(dashes >= 28 && dashes <= 31, "%d dashes of 12 with gaps of 8 on 600 pixels", dashes);
    free_canvas(&c);
}

TEST(a_band_covers_its_area) {
    PlotCanvas c = new_canvas(100, 60);
    double x[] = { 10, 50, 90 }, top[] = { 20.25, 20.25, 20.25 }, bottom[] = { 30.5, 30.5, NAN };
    plot_area(&c, plot_everything(&c), x, top, bottom, 3);
    plot_paint(&c, black, 1);
    CHECK(fabs(ink(&c, 30, 20) - 0.75) < 0.01 && ink(&c, 30, 25) == 1 && fabs(ink(&c, 30, 30) - 0.5) < 0.01);
    double got = ink_of(&c, plot_everything(&c));
    CHECK_MSG(fabs(got - 40 * 10.25) < 1, "ink %g", got);               // nothing where an edge is NaN
    free_canvas(&c);
}

// ---------------------------------------------------------------------------------------------------------------------
// Ticks and limits

static bool is_round(double v) {                                        // 1, 2 or 5 times a power of ten
    double mantissa = v / pow(10, floor(log10(v) + 1e-9));
    return fabs(mantissa - 1) < 1e-6 || fabs(mantissa - 2) < 1e-6 || fabs(mantissa - 5) < 1e-6;
}

TEST(linear_ticks_are_round_and_in_range) {
    double ticks[PLOT_MAX_TICKS], step;
    int n = plot_ticks(0, 10, false, 6, ticks, &step);
    CHECK(n == 6 && step == 2 && ticks[0] == 0 && ticks[5] == 10);
    n = plot_ticks(1.31, 2.77, false, 8, ticks, &step);
    CHECK(n == 7 && fabs(ticks[0] - 1.4) < 1e-12 && fabs(ticks[6] - 2.6) < 1e-12);
    n = plot_ticks(-1, 1, false, 5, ticks, &step);
    CHECK(n == 5 && ticks[2] == 0 && !signbit(ticks[2]));
    for (uint64_t i = 0; i < 2000; i++) {
        double lo = (uniform_of(hash64(1, i)) - 0.5) * pow(10, (double)(i % 13) - 6);
        double hi = lo + (0.01 + uniform_of(hash64(2, i))) * pow(10, (double)(i % 11) - 5);
        int most = 2 + (int)(i % 12);
        n = plot_ticks(lo, hi, false, most, ticks, &step);
        CHECK_MSG(n <= most && is_round(step) && (most < 5 || n >= 2), "[%g, %g]: %d ticks, step %g", lo, hi, n, step);
        bool reach = n == 0 || (ticks[0] - step < lo + 1e-6 * step && ticks[n - 1] + step > hi - 1e-6 * step);
        CHECK_MSG(reach, "[%g, %g]: ticks from %g to %g, step %g", lo, hi, ticks[0], ticks[n - 1], step);
        for (int k = 0; k < n; k++) {
            double multiple = ticks[k] / step;
            CHECK_MSG(ticks[k] >= lo - 1e-6 * step && ticks[k] <= hi + 1e-6 * step, "%g in [%g, %g]", ticks[k], lo, hi);
            double off = fabs(multiple - round(multiple));
            CHECK_MSG(off < 1e-6 + 4e-16 * fabs(multiple), "%g is no multiple of %g", ticks[k], step);
        }
    }
    CHECK(plot_ticks(1, 1, false, 5, ticks, &step) == 0);
    CHECK(plot_ticks(NAN, 1, false, 5, ticks, &step) == 0);
    CHECK(plot_ticks(0, INFINITY, false, 5, ticks, &step) == 0);
}

TEST(log_ticks_are_sensible) {
    double ticks[PLOT_MAX_TICKS], step;
    int n = plot_ticks(0.9, 120, true, 10, ticks, &step);
    static const double expected[] = { 1, 2, 5, 10, 20, 50, 100 };
    CHECK(n == 7 && step == 0);
    for (int i = 0; i < n && i < 7; i++) CHECK_MSG(fabs(ticks[i] / expected[i] - 1) < 1e-9, "%g", ticks[i]);
    n = plot_ticks(1e-7, 1e5, true, 5, ticks, &step);
    CHECK_MSG(n >= 2 && n <= 5, "%d", n);
    for (int i = 0; i < n; i++) CHECK(fabs(log10(ticks[i]) - round(log10(ticks[i]))) < 1e-9);
    n = plot_ticks(1.4, 4.6, true, 8, ticks, &step);                    // less than a decade: as on a linear axis
    CHECK(n == 7 && fabs(step - 0.5) < 1e-12 && ticks[0] == 1.5);
}

TEST(tick_labels) {
    static const struct { double value, step; const char *expected; } cases[] = {
        { 0, 1, "0" }, { 5, 1, "5" }, { 2, 0.5, "2.0" }, { 0.25, 0.05, "0.25" }, { 0.1 * 3, 0.1, "0.3" },
        { 1500, 500, "1500" }, { -0.4, 0.2, "-0.4" }, { 2000, 1000, "2k" }, { 12500, 500, "12.5k" },
        { 100e3, 0, "100k" }, { 200e3, 200e3, "200k" }, { 1e6, 200e3, "1M" }, { 1.2e6, 200e3, "1.2M" },
        { -3e6, 1e6, "-3M" }, { 2.5e9, 5e8, "2.5G" }, { 1e13, 1e13, "10T" },
        { 3e-4, 0, "3e-4" }, { 0.02, 0, "0.02" }, { 1e-5, 1e-5, "1e-5" },
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char label[32];
        plot_tick_label(label, cases[i].value, cases[i].step);
        CHECK_MSG(strcmp(label, cases[i].expected) == 0, "\"%s\", expected \"%s\"", label, cases[i].expected);
    }
}

TEST(limits_leave_out_outliers_when_robust) {
    enum { N = 200 };
    double x[N], y[N];
    for (int i = 0; i < N; i++) {
        x[i] = i + 1;
        y[i] = 1.5 + 1.0 * (N - i) / N;
    }
    y[0] = 11;                                                          // the first steps' loss
    y[100] = 1e6;                                                       // a spike
    y[101] = NAN;
    y[102] = INFINITY;
    PlotSeries s = { .x = x, .y = y, .n = N };
    PlotPanel p = { .series = &s, .n_series = 1, .robust = true };
    PlotAxis ax = { 0 }, ay = { 0 };
    plot_find_limits(&p, &ax, &ay);
    CHECK_MSG(ay.hi > 2.5 && ay.hi < 2.7 && ay.lo > 1.4 && ay.lo < 1.51, "[%g, %g]", ay.lo, ay.hi);
    CHECK_MSG(ax.lo == 0 && ax.hi > 200 && ax.hi < 210, "[%g, %g]", ax.lo, ax.hi);
    p.robust = false;
    plot_find_limits(&p, &ax, &ay);
    CHECK(ay.hi > 1e6);
    p.ymin = 1, p.ymax = 3, p.xmin = 50, p.xmax = 150;
    plot_find_limits(&p, &ax, &ay);
    CHECK(ay.lo == 1 && ay.hi == 3 && ax.lo == 50 && ax.hi == 150);
}

// ---------------------------------------------------------------------------------------------------------------------
// Text

static void check_text(PlotCanvas *c, const char *font) {
    static const double sizes[] = { 12, 18, 27 };
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        double size = sizes[i], width = plot_text_width(c, size, "validation loss");
        CHECK_MSG(width > 5 * size && width < 14 * size, "%s: %g pixels at %g", font, width, size);
        memset(c->rgb, 255, (size_t)c->width * (size_t)c->height * 3);
        plot_text(c, 200, 200, 0.5, false, size, black, "validation loss");
        double flat = ink_of(c, plot_everything(c));
        PlotRect box = { (int)(200 - width / 2 - 2), (int)(200 - size), (int)(200 + width / 2 + 3), (int)(200 + size) };
        double inside = ink_of(c, box);
        CHECK_MSG(flat > width && flat == inside, "%s at %g: ink %g, within its box %g", font, size, flat, inside);
        memset(c->rgb, 255, (size_t)c->width * (size_t)c->height * 3);
        plot_text(c, 200, 200, 0.5, true, size, black, "validation loss");
        int half = (int)(width / 2 + 3);
        box = (PlotRect){ (int)(200 - size), 200 - half, (int)(200 + size), 200 + half };
        inside = ink_of(c, box);
        CHECK_MSG(fabs(inside - flat) < 1e-6, "%s at %g: turned text has ink %g of %g", font, size, inside, flat);
    }
    char *cut = plot_fit_text(c, 12, "a_run_with_quite_a_long_name_\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", 100);
    CHECK_MSG(plot_text_width(c, 12, cut) <= 100, "%s", cut);
    CHECK_MSG(strlen(cut) > 8 && strcmp(cut + strlen(cut) - 3, "...") == 0, "%s", cut);
    free(cut);
    plot_text(c, 5, 5, 0, false, 12, black, "\xff\xfe \xe2\x82 \xc3\xa9 \x80");      // no valid UTF-8
    plot_text(c, -50, 395, 0, true, 40, black, "beyond the edges");
    plot_text(c, 10, 10, 0.5, false, 12, black, "");
}

TEST(text_in_the_built_in_font) {
    setenv("MUON_FONT", "none", 1);
    PlotCanvas c = new_canvas(400, 400);
    plot_find_font(&c);
    CHECK(c.font_file == NULL);
    check_text(&c, "stb_easy_font");
    free_canvas(&c);
    unsetenv("MUON_FONT");
}

TEST(text_in_an_installed_font) {
    unsetenv("MUON_FONT");
    PlotCanvas c = new_canvas(400, 400);
    plot_find_font(&c);
    if (c.font_file) check_text(&c, "TrueType");
    else printf("    no TrueType font found: text in one is not tested\n");
    free_canvas(&c);
}

static void find_missing_font(void *path) {
    setenv("MUON_FONT", (const char *)path, 1);
    for (int i = 0; i < 2; i++) {                                       // said once, not at every picture
        PlotCanvas c = { 0 };
        plot_find_font(&c);
        if (c.font_file) _exit(3);
    }
}

TEST(a_font_that_is_none_is_named) {
    CHECK_FAILS(find_missing_font, (void *)"/nonexistent.ttf", 0, "MUON_FONT=/nonexistent.ttf");
    CHECK_FAILS(find_missing_font, (void *)"/dev/null", 0, "MUON_FONT=/dev/null");
}

// ---------------------------------------------------------------------------------------------------------------------
// Pictures

// How many pixels of the picture have about this colour; `rows` takes the first and the last row with one.
static int count_color(const unsigned char *rgb, int width, int height, PlotColor color, int rows[2]) {
    int n = 0;
    for (int i = 0; i < width * height; i++)
        if (abs(rgb[3 * i] - color.r) + abs(rgb[3 * i + 1] - color.g) + abs(rgb[3 * i + 2] - color.b) < 90) {
            if (n++ == 0) rows[0] = i / width;
            rows[1] = i / width;
        }
    return n;
}

TEST(a_series_is_drawn_where_its_values_are) {
    double x[] = { 0, 50, 100 }, middle[] = { 0.5, 0.5, 0.5 }, high[] = { 0.75, 0.75, 0.75 };
    PlotSeries s[] = { { .x = x, .y = middle, .n = 3, .color = 1 }, { .x = x, .y = high, .n = 3, .color = 2 } };
    PlotPanel p = { .ymin = 0, .ymax = 1, .series = s, .n_series = 2 };
    unsigned char *rgb = plot_render(NULL, &p, 1, 800, 480);
    int low_rows[2] = { 0 }, high_rows[2] = { 0 };
    CHECK(rgb && count_color(rgb, 800, 480, plot_color(1), low_rows) > 600);
    CHECK(rgb && count_color(rgb, 800, 480, plot_color(2), high_rows) > 600);
    int bottom = 480 - 30, top = 20, center = (bottom + top) / 2;        // of the axes: no labels, no title, no legend
    CHECK_MSG(abs(low_rows[0] - center) <= 2 && low_rows[1] - low_rows[0] <= 2, "rows %d-%d", low_rows[0], low_rows[1]);
    CHECK_MSG(abs(high_rows[0] - (center + top) / 2) <= 2, "row %d", high_rows[0]);
    free(rgb);
}

TEST(a_heat_map_has_cells_a_frame_and_names) {
    enum { W = 600, H = 400 };
    double values[] = { 1, 2, NAN, 5 };
    const char *texts[] = { NULL, NULL, NULL, NULL }, *sizes[] = { "low", "high" };
    int rows[2] = { 0, 0 };
    PlotHeat heat = { .values = values, .texts = texts, .nx = 2, .ny = 2, .marked = -1 };
    PlotPanel p = { .heat = &heat, .xnames = sizes, .n_xnames = 2, .ynames = sizes, .n_ynames = 2 };
    unsigned char *plain = plot_render(NULL, &p, 1, W, H);
    heat.marked = 0;
    unsigned char *framed = plot_render(NULL, &p, 1, W, H);
    // The lowest value is in the lower row, the highest, at 4 times the median's distance, in the upper one.
    int low = count_color(plain, W, H, plot_color(PLOT_RAMP), rows), low_top = rows[0];
    int high = count_color(plain, W, H, plot_color(PLOT_RAMP - 5), rows), high_bottom = rows[1];
    CHECK_MSG(low > W * H / 8 && abs(low - high) < low / 10, "%d and %d pixels", low, high);
    CHECK_MSG(high_bottom <= low_top && abs(low_top - H / 2) < 20, "rows %d and %d", high_bottom, low_top);
    int frame = count_color(framed, W, H, plot_text_dark, rows) - count_color(plain, W, H, plot_text_dark, rows);
    int inside = count_color(framed, W, H, plot_color(PLOT_RAMP), rows);
    CHECK_MSG(frame > 1000 && inside < low && inside > low / 2, "%d pixels of frame, %d inside", frame, inside);
    free(plain);
    free(framed);
    // Limits of its own: 1 is lightest below them, 5 darkest above.
    heat.marked = -1, heat.min = 1.5, heat.max = 2;
    plain = plot_render(NULL, &p, 1, W, H);
    CHECK(count_color(plain, W, H, plot_color(PLOT_RAMP), rows) == low);
    CHECK(abs(count_color(plain, W, H, plot_color(PLOT_RAMP - 5), rows) - 2 * low) < low / 10);
    free(plain);

    PlotAxis a = { .names = sizes, .n_names = 2 };
    char label[32];
    plot_find_ticks(&a, 500, 50);
    CHECK(a.n_ticks == 2 && strcmp(plot_axis_label(label, &a, 1), "high") == 0);
    plot_find_ticks(&a, 50, 50);
    CHECK(a.n_ticks == 1 && strcmp(plot_axis_label(label, &a, 0), "low") == 0);
}

TEST(crosses_and_rings_mark_points) {
    PlotCanvas c = new_canvas(80, 40);
    double x[] = { 20.5, 60.5 }, y[] = { 20.5, 20.5 };
    PlotSeries cross = { .color = PLOT_BLACK, .style = PLOT_CROSS }, ring = { .color = PLOT_BLACK, .style = PLOT_RING };
    plot_marks(&c, plot_everything(&c), &cross, x, y, NULL, NULL, 1, 2);
    plot_marks(&c, plot_everything(&c), &ring, x + 1, y, NULL, NULL, 1, 2);
    CHECK(ink(&c, 20, 20) == 1 && ink(&c, 24, 24) > 0.9 && ink(&c, 24, 16) > 0.9 && ink(&c, 26, 20) == 0);
    CHECK(ink(&c, 60, 20) == 0 && ink(&c, 60 + 13, 20) > 0.9 && ink(&c, 60, 20 - 13) > 0.9 && ink(&c, 60 + 18, 20) == 0);
    free_canvas(&c);
}

TEST(odd_series_and_sizes_do_no_harm) {
    double x[] = { 1, 2, 3, 4 }, y[] = { NAN, INFINITY, -INFINITY, NAN }, one[] = { 3 }, zeros[4] = { 0 };
    double huge[] = { 1e300, -1e300, 1e308, 0 }, tiny[] = { 5e-324, 5e-324, 5e-324, 1e308 };
    PlotSeries s[] = {
        { .label = "nothing" }, { .label = "not finite", .x = x, .y = y, .n = 4, .style = PLOT_LINE | PLOT_POINTS },
        { .label = "one", .x = one, .y = one, .n = 1, .style = PLOT_DASHED | PLOT_POINTS },
        { .label = "flat", .x = x, .y = zeros, .n = 4, .color = PLOT_GREY },
        { .label = "same x", .x = zeros, .y = x, .n = 4, .style = PLOT_FAINT | PLOT_DASHED, .color = 100 },
        { .label = "band", .x = x, .lo = zeros, .hi = x, .n = 4, .style = PLOT_BAND },
        { .label = "huge", .x = x, .y = huge, .n = 4, .style = PLOT_DASHED },
        { .label = "tiny", .x = tiny, .y = tiny, .n = 4 },
    };
    static const int sizes[][2] = { { 1, 1 }, { 30, 300 }, { 300, 30 }, { 120, 90 }, { 640, 400 } };
    for (int k = 0; k < (int)COUNT_OF(s) + 1; k++)
        for (int mode = 0; mode < 8; mode++)
            for (size_t i = 0; i < COUNT_OF(sizes); i++) {
                bool all = k == (int)COUNT_OF(s);
                PlotPanel p = { .title = "title", .xlabel = "x", .ylabel = "y", .xlog = mode & 1, .ylog = mode & 2,
                                .robust = mode & 4, .series = all ? s : s + k, .n_series = all ? k : 1 };
                unsigned char *rgb = plot_render("t", &p, 1, sizes[i][0], sizes[i][1]);
                CHECK(rgb != NULL);
                free(rgb);
            }
    static const int bad[][2] = { { 0, 10 }, { 10, 0 }, { -1, 10 }, { PLOT_MAX_SIZE + 1, 10 } };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        errno = 0;
        CHECK(plot_render("t", NULL, 0, bad[i][0], bad[i][1]) == NULL && errno == EINVAL);
    }
}

static uint32_t big_endian(const char *p) {
    const unsigned char *b = (const unsigned char *)p;
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static void check_png(const char *path, uint32_t width, uint32_t height) {
    size_t size = 0;
    char *bytes = read_file(path, &size);
    CHECK_MSG(bytes && size > 100, "%s", path);
    if (bytes && size > 100) {
        CHECK(memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0 && memcmp(bytes + 12, "IHDR", 4) == 0);
        CHECK(big_endian(bytes + 16) == width && big_endian(bytes + 20) == height);
        CHECK(bytes[24] == 8 && bytes[25] == 2);                            // 8 bits, RGB
        uLongf all = height * (3 * (uLongf)width + 1), got = all;           // a line is its filter and its pixels
        unsigned char *lines = (unsigned char *)xmalloc(all);
        CHECK(memcmp(bytes + 37, "IDAT", 4) == 0 && uncompress(lines, &got, (unsigned char *)bytes + 41, big_endian(bytes + 33)) == Z_OK && got == all);
        free(lines);
        CHECK(memcmp(bytes + size - 8, "IEND", 4) == 0);
    }
    free(bytes);
    char *temporary = format("%s.tmp", path);
    CHECK(!file_exists(temporary));
    free(temporary);
}

TEST(a_png_is_whole_or_absent) {
    char *folder = test_folder("plot"), *path = format("%s/a.png", folder), *missing = format("%s/no/a.png", folder);
    double x[] = { 0, 1, 2 };
    PlotSeries s = { .label = "x", .x = x, .y = x, .n = 3 };
    PlotPanel p = { .series = &s, .n_series = 1 };
    CHECK(plot_png(path, "title", &p, 1, 321, 123) == 0);
    check_png(path, 321, 123);
    int width, height;
    unsigned char *rgb = plot_render("title", &p, 1, 321, 123), *read = stbi_load(path, &width, &height, NULL, 3);
    CHECK(rgb && read && !memcmp(rgb, read, 3 * 321 * 123));
    free(rgb);
    free(read);
    errno = 0;
    CHECK(plot_png(missing, "title", &p, 1, 321, 123) == -1 && errno == ENOENT && !file_exists(missing));
    errno = 0;
    CHECK(plot_png(folder, "title", &p, 1, 321, 123) == -1 && errno != 0);        // a folder stands there
    char *left = format("%s.tmp", folder);
    CHECK(!file_exists(left));
    free(left);
    free(missing);
    free(path);
    free(folder);
}

TEST(panels_stand_in_rows) {
    double x[] = { 0, 100 }, y[] = { 0.5, 0.5 };
    PlotSeries s[] = { { .x = x, .y = y, .n = 2, .color = PLOT_RAMP - 2 }, { .label = "nothing" } };
    PlotPanel p[] = { { .series = s + 1, .n_series = 1 }, { .series = s + 1, .n_series = 1 },
                      { .series = s, .n_series = 1, .ymin = 0, .ymax = 1 } };
    unsigned char *rgb = plot_render_rows("t", p, 3, 2, 840, 960);
    int rows[2] = { 0 }, n = rgb ? count_color(rgb, 840, 960, plot_color(PLOT_RAMP - 2), rows) : 0;
    CHECK_MSG(n > 300 && n < 3 * 420, "%d pixels", n);                  // in the left half of the second row
    CHECK_MSG(rows[0] > 600 && rows[1] < 800 && rows[1] - rows[0] <= 3, "rows %d-%d", rows[0], rows[1]);
    free(rgb);
    unsigned char *row = plot_render("t", p, 3, 840, 480), *same = plot_render_rows("t", p, 3, 1, 840, 480);
    CHECK(row && same && memcmp(row, same, 840 * 480 * 3) == 0);
    free(row);
    free(same);
    errno = 0;
    CHECK(plot_render_rows("t", p, 3, 0, 840, 480) == NULL && errno == EINVAL);
    for (int k = 0; k <= PLOT_RAMPS; k++) {                             // darker and darker; beyond: grey
        PlotColor a = plot_color(PLOT_RAMP - k), b = plot_color(PLOT_RAMP - k - 1), grey = plot_color(PLOT_GREY);
        if (k + 1 < PLOT_RAMPS) CHECK(a.r + a.g + a.b > b.r + b.g + b.b);
        if (k == PLOT_RAMPS) CHECK(memcmp(&a, &grey, sizeof a) == 0);
    }
}

TEST(a_small_png_shows_the_same) {
    enum { W = 421, H = 333 };
    char *folder = test_folder("plot"), *small = format("%s/small.png", folder), *full = format("%s/full.png", folder);
    double x[50], y[PLOT_COLORS][50];
    PlotSeries s[PLOT_COLORS];
    for (int k = 0; k < PLOT_COLORS; k++) {
        for (int i = 0; i < 50; i++) x[i] = i, y[k][i] = sin(0.1 * (k + 1) * i);
        s[k] = (PlotSeries){ .label = "series", .x = x, .y = y[k], .n = 50, .color = k };
    }
    PlotPanel p = { .title = "title", .xlabel = "x", .ylabel = "y", .series = s, .n_series = PLOT_COLORS };
    CHECK(plot_png_small(small, "title", &p, 1, 1, W, H) == 0 && plot_png(full, "title", &p, 1, W, H) == 0);
    unsigned char *rgb = plot_render("title", &p, 1, W, H), lines[H * (W + 1)];
    size_t size = 0, full_size = 0, at = 8;
    char *bytes = read_file(small, &size), *others = read_file(full, &full_size);
    CHECK_MSG(size > 0 && size * 2 < full_size, "%zu bytes of %zu", size, full_size);
    const unsigned char *palette = NULL;
    uLongf got = 0;
    while (bytes && at + 12 <= size) {
        uint32_t n = big_endian(bytes + at);
        const unsigned char *data = (const unsigned char *)bytes + at + 8;
        CHECK(at + 12 + n <= size && big_endian((const char *)data + n) == crc32(0, data - 4, n + 4));
        if (memcmp(data - 4, "IHDR", 4) == 0) CHECK(n == 13 && big_endian(bytes + at + 8) == W && data[9] == 3);
        if (memcmp(data - 4, "PLTE", 4) == 0) palette = data;
        if (memcmp(data - 4, "IDAT", 4) == 0) { got = sizeof lines; CHECK(uncompress(lines, &got, data, n) == Z_OK); }
        at += 12 + n;
    }
    CHECK(at == size && palette && got == sizeof lines);
    double squares = 0;
    for (size_t i = 0; rgb && palette && i < (size_t)W * H; i++)
        for (size_t c = 0; c < 3; c++) {
            double d = (double)palette[3 * lines[i / W * (W + 1) + 1 + i % W] + c] - rgb[3 * i + c];
            squares += d * d;
            if (rgb[3 * i] + rgb[3 * i + 1] + rgb[3 * i + 2] == 3 * 255) CHECK(d == 0);
        }
    CHECK_MSG(sqrt(squares / (3 * W * H)) < 4, "colours differ by %g", sqrt(squares / (3 * W * H)));
    errno = 0;
    CHECK(plot_png_small(small, "title", &p, 1, 0, W, H) == -1 && errno == EINVAL);
    CHECK(plot_png_small(folder, "title", &p, 1, 1, W, H) == -1 && errno != 0);    // a folder stands there
    free(rgb);
    free(bytes);
    free(others);
    free(small);
    free(full);
    free(folder);
}

// ---------------------------------------------------------------------------------------------------------------------
// Logs

static const char log_text[] =
    "{\"event\":\"start\",\"config\":{\"train\":{\"steps\":4}},\"cpu\":\"x\",\"threads\":2}\n"
    "{\"event\":\"eval\",\"step\":0,\"tokens\":0,\"val_loss\":4.5,\"val_bpb\":6.5,\"train_seconds\":0}\n"
    "{\"event\":\"step\",\"step\":1,\"tokens\":100,\"loss\":4.25,\"lr\":0.001,"
    "\"grad_norm\":2.5,\"ms\":500,\"tok_per_s\":200}\n"
    "{\"event\":\"qk\",\"step\":1,\"max_logit\":[[1.5,-2],[31.5,4]],\"clipped\":3}\n"
    "{\"event\":\"step\",\"step\":2,\"tokens\":200,\"loss\":null,\"lr\":0.001,"
    "\"grad_norm\":2,\"ms\":250,\"tok_per_s\":400}\n"
    "{\"event\":\"eval\",\"step\":2,\"tokens\":200,\"val_loss\":3.5,\"val_bpb\":5.0,\"train_seconds\":0.75}\n"
    "{\"event\":\"something\",\"of\":\"a later version\"}\n"
    "{\"event\":\"step\",\"step\":4,\"tokens\":400,\"loss\":3.0,\"lr\":0.001,"
    "\"grad_norm\":1,\"ms\":250,\"tok_per_s\":400}\n"
    "{\"event\":\"qk\",\"step\":4,\"max_logit\":7,\"clipped\":0}\n"
    "{\"event\":\"eval\",\"step\":4,\"tokens\":400,\"val_loss\":3.625,\"val_bpb\":5.25,\"train_seconds\":1.25}\n"
    "{\"event\":\"end\",\"step\":4,\"val_loss\":3.625,\"train_seconds\":1.25,\"reason\":\"done\"}\n";

// Writes this text as build/test/plot/NAME/log.jsonl; returns that path.
static char *write_log(const char *name, const char *text) {
    char *folder = format("build/test/plot/%s", name), *path = format("%s/log.jsonl", folder);
    if (make_dirs(folder) != 0 || write_file(path, text, strlen(text)) != 0) fail("%s: %s", path, strerror(errno));
    free(folder);
    return path;
}

static int count_lines_with(const char *text, const char *words) {
    int n = 0;
    for (const char *at = text; (at = strstr(at, words)) != NULL; at += strlen(words)) n++;
    return n;
}

// Each event comes back as it was written, NaN too, and a config of many lines makes one.
TEST(what_is_written_is_read) {
    char *path = write_log("written", ""), *text, *changed[] = { "--run.dir=a \"b\"", "--train.steps=9" };
    FILE *f = fopen(path, "w");
    const RunStep step = { .step = 7, .tokens = 700, .loss = 2.25, .bpb = NAN, .lr = 0.5, .grad_norm = 1.5, .ms = 250, .cpu_ms = 500,
                           .tok_per_s = 400, .max_logit = -3, .optimizer_ms = 125 };
    const RunEval eval = { .step = 7, .tokens = 700, .val_loss = 3.5, .val_bpb = NAN, .train_seconds = 0.25, .eval_tokens = 64,
                           .whole = true, .sample_loss = 3.25 };
    const float logits[2][2] = { { 1, -2 }, { 31.5f, 4 } };
    runlog_put_start(f, &(RunStart){ .config = "{\n  \"run\": {\n    \"seed\": 3\n  }\n}\n", .cpu = "x", .isa = "y", .commit = "z",
        .threads = 2, .params = 5, .optimizer_bytes = 6, .data = 0xabc, .epoch_tokens = 900, .resumed_with = changed, .n_resumed = 2 });
    runlog_put_step(f, &step);
    runlog_put_qk(f, 7, logits[0], 2, 2, 3);
    runlog_put_eval(f, &eval, (const double[]){ 1, NAN }, 2);
    runlog_put_end(f, &(RunEnd){ 7, NAN, 0.25, "diverged", 0 });
    CHECK(stream_error(f) == 0 && fclose(f) == 0);
    RunLog log;
    CHECK(runlog_read(path, &log) == 0 && log.n_steps == 1 && log.n_evals == 1 && log.n_qks == 1 && log.ended);
    CHECK(config_value(cJSON_GetObjectItem(log.start, "config"), "run", "seed") == 3 && runlog_number(log.start, "epoch_tokens") == 900);
    const cJSON *resumed = cJSON_GetObjectItem(log.start, "resumed_with");
    CHECK(cJSON_GetArraySize(resumed) == 2 && !strcmp(cJSON_GetArrayItem(resumed, 0)->valuestring, changed[0]));
    const RunStep *s = log.steps;
    CHECK(s->step == 7 && s->tokens == 700 && s->loss == 2.25 && isnan(s->bpb) && s->lr == 0.5 && s->grad_norm == 1.5);
    CHECK(s->ms == 250 && s->cpu_ms == 500 && s->tok_per_s == 400 && s->max_logit == -3 && s->optimizer_ms == 125);
    const RunEval *e = log.evals;
    CHECK(e->step == 7 && e->tokens == 700 && e->val_loss == 3.5 && isnan(e->val_bpb) && e->train_seconds == 0.25);
    CHECK(e->eval_tokens == 64 && e->whole && e->sample_loss == 3.25);
    CHECK(log.qks[0].step == 7 && log.qks[0].max_logit == 31.5 && log.qks[0].clipped == 3);
    CHECK(log.end.step == 7 && isnan(log.end.val_loss) && log.end.train_seconds == 0.25 && !strcmp(log.end.reason, "diverged"));
    text = read_file(path, NULL);
    CHECK(count_lines_with(text, "\n") == 5 && strstr(text, "\"by_frequency\": [1, null]"));
    runlog_free(&log);
    free(text);
    free(path);
}

TEST(a_log_is_read) {
    char *path = write_log("whole", log_text);
    RunLog log;
    CHECK(runlog_read(path, &log) == 0);
    CHECK(log.n_steps == 3 && log.n_evals == 3 && log.n_qks == 2 && log.ended);
    if (log.n_steps == 3 && log.n_evals == 3 && log.n_qks == 2) {
        RunStep *s = log.steps;
        CHECK(s[0].step == 1 && s[0].tokens == 100 && s[0].loss == 4.25 && s[0].lr == 0.001 && s[0].grad_norm == 2.5);
        CHECK(s[0].ms == 500 && s[0].tok_per_s == 200 && isnan(s[1].loss));
        CHECK(s[0].seconds == 0.5 && s[1].seconds == 0.75 && s[2].seconds == 1.25);     // step 3 was not logged
        CHECK(log.evals[2].step == 4 && log.evals[2].val_loss == 3.625 && log.evals[2].val_bpb == 5.25);
        CHECK(log.evals[2].tokens == 400 && log.evals[2].train_seconds == 1.25);
        CHECK(log.qks[0].max_logit == 31.5 && log.qks[0].clipped == 3 && log.qks[1].max_logit == 7);
    }
    CHECK(log.end.step == 4 && log.end.val_loss == 3.625 && strcmp(log.end.reason, "done") == 0);
    CHECK(runlog_val_loss(&log) == 3.625 && runlog_best_val_loss(&log) == 3.5);
    CHECK(runlog_seconds(&log) == 1.25 && runlog_last_step(&log) == 4);
    runlog_free(&log);
    free(path);
}

TEST(half_a_last_line_is_no_error) {
    for (size_t n = 0; n < sizeof log_text; n++) {                      // wherever the writer was killed
        char *text = format("%.*s", (int)n, log_text), *path = write_log("cut", text);
        RunLog log;
        int result = runlog_read(path, &log), whole = count_lines_with(text, "00}\n");     // step events end so
        CHECK_MSG(result == 0 && log.n_steps >= whole && log.n_steps <= whole + 1, "%zu bytes: %d", n, result);
        runlog_free(&log);
        free(path);
        free(text);
    }
}

TEST(a_bad_line_is_named) {
    static const struct { const char *text; int line; } cases[] = {
        { "{\"event\":\"start\"}\n{\"event\":\"step\",\"st\n{\"event\":\"step\",\"step\":2}\n", 2 },
        { "not json\n", 1 },
        { "{\"event\":\"start\"}\n\n{\"event\":\"start\"}\n", 2 },
        { "{\"event\":\"start\"}\n{\"event\":\"start\"}\n[1]\n", 3 },
        { "{\"step\":1}\n", 1 },
        { "{\"event\":\"step\",\"loss\":1}\n", 1 },
        { "{\"event\":\"step\",\"step\":1,\"loss\":nan}\n", 1 },
        { "{\"event\":\"step\",\"step\":1} {\n", 1 },
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char *path = write_log("bad", cases[i].text);
        RunLog log;
        int result = runlog_read(path, &log);
        CHECK_MSG(result == cases[i].line && log.n_steps == 0 && !log.steps, "case %zu: %d", i, result);
        free(path);
    }
    RunLog log;
    errno = 0;
    CHECK(runlog_read("build/test/plot/nowhere/log.jsonl", &log) == -1 && errno == ENOENT);
}

TEST(a_log_is_cut_to_a_step) {
    char *whole = format("%s{\"event\":\"step\",\"st", log_text), *path = write_log("resume", whole);
    long last;
    CHECK(runlog_cut(path, 2, 2, &last) == 0);
    char *left = read_file(path, NULL);
    CHECK(left && count_lines_with(left, "\"start\"") == 1 && count_lines_with(left, "\"eval\"") == 2);
    CHECK(left && count_lines_with(left, "\"event\":\"step\"") == 2 && count_lines_with(left, "\"end\"") == 0);
    CHECK(left && count_lines_with(left, "\"qk\"") == 1 && count_lines_with(left, "something") == 1);
    CHECK(left && strncmp(left, log_text, strlen(left)) == 0);          // what stays is unchanged
    free(left);

    RunLog log;
    CHECK(runlog_read(path, &log) == 0 && !log.ended && log.n_evals == 2 && log.evals[1].step == 2);
    CHECK(runlog_last_step(&log) == 2);
    runlog_free(&log);
    CHECK(runlog_cut(path, 0, 0, &last) == 0);
    CHECK(runlog_read(path, &log) == 0 && log.n_steps == 0 && log.n_evals == 1);
    runlog_free(&log);
    free(path);

    path = write_log("resume", log_text);                               // at the run's own last step only its end goes
    CHECK(runlog_cut(path, 4, 4, &last) == 0);
    left = read_file(path, NULL);
    CHECK(left && strlen(left) == (size_t)(strstr(log_text, "{\"event\":\"end\"") - log_text));
    free(left);
    free(path);

    path = write_log("resume", "{\"event\":\"step\",\"step\":1}");      // whole but for its newline
    CHECK(runlog_cut(path, 1, 1, &last) == 0);
    left = read_file(path, NULL);
    CHECK(left && strcmp(left, "{\"event\":\"step\",\"step\":1}\n") == 0);
    free(left);
    free(path);

    static const char bad[] = "{\"event\":\"step\",\"step\":1}\nbad\n{\"event\":\"step\",\"step\":2}\n";
    path = write_log("resume", bad);
    CHECK(runlog_cut(path, 2, 0, &last) == 2 && runlog_cut(path, 1, 1, &last) == 2);    // step 2, the validation of step 1 are missing
    left = read_file(path, NULL);
    CHECK(left && strcmp(left, bad) == 0);                              // a bad log is left as it was
    free(left);
    CHECK(runlog_cut(path, 1, -1, &last) == 0 && last == 1);            // but for what stands behind all that is asked for
    left = read_file(path, NULL);
    CHECK(left && strcmp(left, "{\"event\":\"step\",\"step\":1}\n") == 0);
    free(left);
    free(path);
    free(whole);
    CHECK(runlog_cut("build/test/plot/nowhere/log.jsonl", 1, 1, &last) == -1 && errno == ENOENT);
}

TEST(a_resumed_run_has_not_ended) {
    char *text = format("%s{\"event\":\"start\"}\n{\"event\":\"step\",\"step\":5,\"ms\":1}\n", log_text);
    char *path = write_log("on", text);
    RunLog log;
    CHECK(runlog_read(path, &log) == 0 && !log.ended && runlog_last_step(&log) == 5);
    runlog_free(&log);
    free(path);
    free(text);
}

TEST(smoothing) {
    double y[] = { 4, 4, NAN, 4, 4 }, out[300];
    runlog_smooth(y, 5, 10, out);
    for (int i = 0; i < 5; i++) CHECK(i == 2 ? isnan(out[i]) : fabs(out[i] - 4) < 1e-12);
    double noisy[300];
    for (int i = 0; i < 300; i++) noisy[i] = i % 2 ? 3 : 1;
    runlog_smooth(noisy, 300, 20, out);
    CHECK(out[0] == 1);
    for (int i = 200; i < 300; i++) CHECK_MSG(fabs(out[i] - 2) < 0.06, "%g", out[i]);
}

TEST(run_names) {
    static const char *const cases[][2] = { { "runs/kjv", "kjv" }, { "a/b//", "b" }, { "kjv", "kjv" }, { "/c", "c" } };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char *name = runlog_name(cases[i][0]);
        CHECK_MSG(strcmp(name, cases[i][1]) == 0, "%s -> %s", cases[i][0], name);
        free(name);
    }
}

TEST(runs_are_drawn) {
    free(write_log("whole", log_text));
    free(write_log("empty", ""));
    free(write_log("bad", "no\n"));
    const char *folders[] = { "build/test/plot/whole", "build/test/plot/empty", "build/test/plot/bad" };
    const char *labels[] = { "one", "other" };
    CHECK(runlog_plot(folders, NULL, 1, "build/test/plot/whole/loss.png") == 0);
    check_png("build/test/plot/whole/loss.png", 1600, 720);
    CHECK(runlog_plot(folders + 1, NULL, 1, "build/test/plot/empty/loss.png") == 0);
    CHECK(runlog_plot(folders, labels, 2, "build/test/plot/two.png") == 0);
    check_png("build/test/plot/two.png", 1600, 720);
    errno = 0;
    CHECK(runlog_plot(folders, NULL, 3, "build/test/plot/three.png") == -1 && errno == EBADMSG);
    CHECK(!file_exists("build/test/plot/three.png"));

    RunLog log;
    CHECK(runlog_read("build/test/plot/whole/log.jsonl", &log) == 0);
    char *title = runlog_title(&log, "whole");
    CHECK_MSG(strcmp(title, "whole: validation loss 3.6250 (5.250 bits per byte) at step 4") == 0, "%s", title);
    free(title);
    strcpy(log.end.reason, "diverged");
    title = runlog_title(&log, "whole");
    CHECK_MSG(strstr(title, "step 4, diverged") != NULL, "%s", title);
    free(title);
    runlog_free(&log);
}

// Validations on the way of 64 tokens, the last of all 640; epochs of 150 tokens; logits that QK-Clip met.
TEST(a_picture_says_what_its_validations_are_of) {
    free(write_log("last",
        "{\"event\":\"start\",\"config\":{\"optimizer\":{\"qk_clip\":{\"tau\":100}}},\"epoch_tokens\":150}\n"
        "{\"event\":\"eval\",\"step\":0,\"tokens\":0,\"val_loss\":4,\"val_bpb\":6,\"eval_tokens\":64,\"whole\":false,"
        "\"sample_loss\":4,\"train_seconds\":0}\n"
        "{\"event\":\"step\",\"step\":1,\"tokens\":100,\"loss\":4,\"max_logit\":19.21,\"ms\":1000}\n"
        "{\"event\":\"step\",\"step\":2,\"tokens\":200,\"loss\":4,\"max_logit\":3,\"ms\":2000}\n"
        "{\"event\":\"step\",\"step\":3,\"tokens\":300,\"loss\":3,\"max_logit\":4,\"ms\":1000}\n"
        "{\"event\":\"eval\",\"step\":3,\"tokens\":300,\"val_loss\":3.5,\"val_bpb\":5.5,\"eval_tokens\":640,\"whole\":true,"
        "\"sample_loss\":3,\"train_seconds\":4}\n"
        "{\"event\":\"end\",\"step\":3,\"val_loss\":3.5,\"train_seconds\":4,\"reason\":\"done\"}\n"));
    RunLog log;
    CHECK(runlog_read("build/test/plot/last/log.jsonl", &log) == 0);
    CHECK(runlog_val_loss(&log) == 3.5 && runlog_best_val_loss(&log) == 3);
    char *title = runlog_title(&log, "last"), *label = runlog_val_label(&log, 1), *qk = runlog_qk_text(&log);
    CHECK_MSG(strstr(title, "3.5000 (5.500 bits per byte) of the whole split at step 3"), "%s", title);
    CHECK_MSG(!strcmp(label, "validation loss, 64 tokens"), "%s", label);
    CHECK_MSG(qk && !strcmp(qk, "largest logit 19.2 of tau 100, no head clipped"), "%s", qk ? qk : "nothing");
    free(title);
    free(label);
    free(qk);
    RunCurves c = runlog_curves(&log, 1, false);
    CHECK(c.n_evals == 2 && c.val_loss[1] == 3 && c.n_others == 1 && c.other_loss[0] == 3.5 && c.other_x[0][0] == 300);
    CHECK(c.epochs == 1 && c.n_epochs == 2 && c.epoch_x[0][0] == 150 && c.epoch_x[0][1] == 300);
    CHECK_MSG(fabs(c.epoch_x[1][0] - 2) < 1e-12 && fabs(c.epoch_x[1][1] - 4) < 1e-12, "%g, %g", c.epoch_x[1][0], c.epoch_x[1][1]);
    runlog_free_curves(&c);
    c = runlog_curves(&log, 1, true);
    CHECK(fabs(c.val_loss[1] - 4.5) < 1e-12 && c.other_loss[0] == 5.5);        // 64 tokens have 1.5 bits per byte a nat
    runlog_free_curves(&c);
    cJSON_SetNumberValue(cJSON_GetObjectItem(log.start, "epoch_tokens"), 1.5);
    c = runlog_curves(&log, 1, false);
    CHECK_MSG(c.epochs == 10 && c.n_epochs == 20 && c.epoch_x[0][19] == 300, "every %d, %d", c.epochs, c.n_epochs);
    runlog_free_curves(&c);
    log.qks = (RunQk *)xrealloc(log.qks, 3 * sizeof *log.qks);
    for (int i = 0; i < 3; i++) log.qks[i] = (RunQk){ .step = i + 1, .max_logit = 50.0 * (i + 1), .clipped = i };
    log.n_qks = 3;
    qk = runlog_qk_text(&log);
    CHECK_MSG(qk && !strcmp(qk, "largest logit 150 of tau 100, heads clipped 3 times, in 2 steps up to step 3"), "%s", qk ? qk : "");
    free(qk);
    runlog_free(&log);
    const char *folder = "build/test/plot/last";
    CHECK(runlog_plot(&folder, NULL, 1, "build/test/plot/last/loss.png") == 0);
}

TEST(marks_are_upright_and_move_no_limit) {
    double x[] = { 0, 10 }, y[] = { 0, 1 }, marks[] = { 5, 1000, NAN };
    PlotSeries series = { .x = x, .y = y, .n = 2 };
    PlotPanel plain = { .series = &series, .n_series = 1 }, marked = plain;
    marked.marks = marks, marked.n_marks = COUNT_OF(marks);
    unsigned char *a = plot_render(NULL, &plain, 1, 300, 200), *b = plot_render(NULL, &marked, 1, 300, 200);
    int columns = 0, most = 0;
    for (int i = 0; i < 300; i++) {
        int differ = 0;
        for (int j = 0; j < 200; j++) differ += memcmp(a + 3 * (j * 300 + i), b + 3 * (j * 300 + i), 3) != 0;
        columns += differ > 0;
        most = differ > most ? differ : most;
    }
    CHECK_MSG(columns >= 1 && columns <= 4 && most > 60, "%d columns, %d pixels", columns, most);
    free(a);
    free(b);
}

TEST(other_tokens_are_compared_in_bits_per_byte) {
    RunEval evals[] = { { .val_loss = 1.0, .val_bpb = 1.4427 }, { .val_loss = 2.0, .val_bpb = 2.8854 },
                        { .val_loss = 3.0, .val_bpb = 1.2 }, { .val_loss = 3.0, .val_bpb = NAN } };
    RunLog runs[4] = { 0 };
    for (int i = 0; i < 4; i++) runs[i].evals = &evals[i], runs[i].n_evals = 1;
    CHECK(!runlog_other_tokens(runs, 1) && !runlog_other_tokens(runs, 2));     // the same ratio
    CHECK(runlog_other_tokens(runs, 3) && runlog_other_tokens(runs + 1, 2));
    CHECK(!runlog_other_tokens(runs, 4));                                      // one can't say
}

// ---------------------------------------------------------------------------------------------------------------------
// The program

static void call_plot(void *arguments) {
    char **argv = (char **)arguments;
    int argc = 0;
    while (argv[argc]) argc++;
    int code = plot_main(argc, argv);
    fflush(stdout);
    _exit(code);
}

// What would wait for ever is ended.
static void call_plot_for_seconds(void *arguments) {
    alarm(10);
    call_plot(arguments);
}

TEST(the_program_draws_or_says_why_not) {
    free(write_log("whole", log_text));
    free(write_log("whole2", log_text));
    free(write_log("bad", "{\"event\":\"start\"}\nno\n"));
    const char *one[] = { "plot", "build/test/plot/whole", NULL };
    const char *two[] = { "plot", "build/test/plot/whole/", "build/test/plot/whole2", "--log", NULL };
    const char *help[] = { "plot", "--help", NULL };
    char errors[1024];
    unlink("build/test/plot/whole/loss.png");
    CHECK(run_child(call_plot, one, errors, sizeof errors) == 0 && errors[0] == '\0');
    check_png("build/test/plot/whole/loss.png", 1600, 720);
    CHECK(run_child(call_plot, two, errors, sizeof errors) == 0 && errors[0] == '\0');
    check_png("build/test/plot/compare.png", 1600, 720);
    CHECK(run_child(call_plot, help, errors, sizeof errors) == 0 && errors[0] == '\0');

    const char *none[] = { "plot", NULL }, *option[] = { "plot", "build/test/plot/whole", "--width=3", NULL };
    const char *bad[] = { "plot", "build/test/plot/bad", NULL };
    const char *missing[] = { "plot", "build/test/plot/nowhere", NULL };
    const char *unwritable[] = { "plot", "build/test/plot/whole", "--out=build/test/plot/nowhere/x.png", NULL };
    CHECK_FAILS(call_plot, none, EXIT_USAGE, "no run given");
    CHECK_FAILS(call_plot, option, EXIT_USAGE, "--width=3");
    CHECK_FAILS(call_plot, bad, EXIT_FAILED, "build/test/plot/bad/log.jsonl:2:");
    CHECK_FAILS(call_plot, missing, EXIT_FAILED, "build/test/plot/nowhere/log.jsonl");
    CHECK_FAILS(call_plot, unwritable, EXIT_FAILED, "build/test/plot/nowhere/x.png");
    CHECK(!file_exists("build/test/plot/nowhere"));
    // A file that is there and no picture stays; a picture and an empty file are replaced.
    const char *log[] = { "plot", "build/test/plot/whole", "--out=build/test/plot/whole/log.jsonl", NULL };
    const char *weights[] = { "plot", "build/test/plot/whole", "--out=build/test/plot/checkpoint.bin", NULL };
    if (write_file("build/test/plot/checkpoint.bin", "\x89PN", 3) != 0) fail("build/test/plot: %s", strerror(errno));
    CHECK_FAILS(call_plot, log, EXIT_USAGE, "build/test/plot/whole/log.jsonl: no PNG");
    CHECK_FAILS(call_plot, weights, EXIT_USAGE, "build/test/plot/checkpoint.bin: no PNG");
    // Another picture's ending would promise what a PNG is not; a name without one, or with another, promises nothing.
    const char *other[] = { "plot", "build/test/plot/whole", "--out=build/test/plot/a.png.JPG", NULL };
    const char *dots[] = { "plot", "build/test/plot/whole", "--out=build/test/plot/whole.svg/a", NULL };
    CHECK_FAILS(call_plot, other, EXIT_USAGE, "build/test/plot/a.png.JPG: a picture is a PNG: --out=FILE.png expected");
    CHECK(!file_exists("build/test/plot/a.png.JPG"));
    CHECK(make_dirs("build/test/plot/whole.svg") == 0 && run_child(call_plot, dots, errors, sizeof errors) == 0);
    const char *pipe[] = { "plot", "build/test/plot/whole", "--out=build/test/plot/pipe", NULL };      // it would wait for a reader
    unlink("build/test/plot/pipe");
    CHECK(mkfifo("build/test/plot/pipe", 0666) == 0);
    CHECK_FAILS(call_plot_for_seconds, pipe, EXIT_USAGE, "build/test/plot/pipe: not a regular file");
    size_t size = 0;
    char *kept = read_file("build/test/plot/checkpoint.bin", &size), *lines = read_file("build/test/plot/whole/log.jsonl", NULL);
    CHECK(kept && size == 3 && lines && strcmp(lines, log_text) == 0);
    free(kept);
    free(lines);
    CHECK(run_child(call_plot, one, errors, sizeof errors) == 0);
    CHECK(truncate("build/test/plot/checkpoint.bin", 0) == 0 && run_child(call_plot, weights, errors, sizeof errors) == 0);
    check_png("build/test/plot/checkpoint.bin", 1600, 720);
}

// ---------------------------------------------------------------------------------------------------------------------
// One colour for Muon, one for AdamW; labels that say what a run is

TEST(optimizers_have_their_colours) {
    static const struct { const char *text; int color; } texts[] = {
        { "Muon", PLOT_MUON }, { "MuonClip, lr 0.02", PLOT_MUON }, { "normuon", PLOT_MUON }, { "muon, keller x 5", PLOT_MUON },
        { "AdamW", PLOT_ADAMW }, { "default_adamw", PLOT_ADAMW }, { "adam", PLOT_ADAMW }, { "AdamW against Muon", PLOT_ADAMW },
        { "Muon at AdamW's loss", PLOT_MUON }, { "adams", -1 }, { "SGD", -1 }, { "muons", -1 }, { "", -1 }, { NULL, -1 },
    };
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        CHECK_MSG(plot_optimizer(texts[i].text) == texts[i].color, "%s: %d", texts[i].text, plot_optimizer(texts[i].text));
    const char *const many[] = { "SGD", "AdamW, lr 1", "Muon, lr 1", "AdamW, lr 2", "Muon, lr 2", "lion" };
    const int expected[] = { PLOT_OTHERS, PLOT_ADAMW, PLOT_MUON, PLOT_OTHERS + 1, PLOT_OTHERS + 2, PLOT_OTHERS + 3 };
    int colors[COUNT_OF(many)];
    plot_choose_colors(many, COUNT_OF(many), colors);
    for (size_t i = 0; i < COUNT_OF(many); i++) CHECK_MSG(colors[i] == expected[i], "%s: %d", many[i], colors[i]);
    for (int a = 0; a < PLOT_COLORS; a++)               // and no two are alike
        for (int b = 0; b < a; b++) {
            PlotColor p = plot_color(a), q = plot_color(b);
            CHECK_MSG(abs(p.r - q.r) + abs(p.g - q.g) + abs(p.b - q.b) > 80, "%d and %d", a, b);
        }
}

static cJSON *config_of(const char *optimizer, double lr, int seed, const char *more) {
    char *text = format("{\"run\": {\"dir\": \"runs/x%d\", \"seed\": %d}, \"data\": {\"dir\": \"build/data/kjv\"}, %s"
                        "\"optimizer\": {\"name\": \"%s\", \"muon\": {\"lr\": %g}, \"adamw\": {\"lr\": %g, \"beta2\": 0.95}}}",
                        seed, seed, more, optimizer, strncmp(optimizer, "adam", 4) ? lr : 0.02, strncmp(optimizer, "adam", 4) ? 0.01 : lr);
    cJSON *config = cJSON_Parse(text);
    if (!config) fail("%s", text);
    free(text);
    return config;
}

TEST(labels_say_what_a_run_is) {
    static const char *const called[] = { "a", "b", "c", "d" };
    const struct { const char *what, *optimizers[4], *more[4]; double lr[4]; int seeds[4], n; const char *labels[4]; } cases[] = {
        { "two optimizers", { "muonclip", "adamw" }, { "", "" }, { 0.02, 0.005 }, { 1, 1 }, 2,
          { "MuonClip, lr 0.02", "AdamW, lr 0.005" } },
        { "one run", { "normuon" }, { "" }, { 0.01 }, { 7 }, 1, { "NorMuon, lr 0.01" } },
        { "seeds and rates", { "muon", "muon", "muon" }, { "", "", "" }, { 0.02, 0.02, 0.01 }, { 1, 2, 1 }, 3,
          { "Muon, lr 0.02, seed 1", "Muon, lr 0.02, seed 2", "Muon, lr 0.01, seed 1" } },
        { "another key", { "muon", "adamw" }, { "\"train\": {\"batch\": 12}, ", "\"train\": {\"batch\": 24}, " },
          { 0.02, 0.005 }, { 1, 1 }, 2, { "Muon, lr 0.02, batch=12", "AdamW, lr 0.005, batch=24" } },
        { "alike", { "muon", "muon" }, { "", "" }, { 0.02, 0.02 }, { 1, 1 }, 2, { "Muon, lr 0.02 (a)", "Muon, lr 0.02 (b)" } },
        { "no config", { NULL, "muon" }, { "", "" }, { 0, 0.02 }, { 1, 1 }, 2, { "a", "Muon, lr 0.02" } },
    };
    for (size_t k = 0; k < COUNT_OF(cases); k++) {
        cJSON *configs[4] = { NULL };
        char *labels[4];
        for (int i = 0; i < cases[k].n; i++)
            if (cases[k].optimizers[i])
                configs[i] = config_of(cases[k].optimizers[i], cases[k].lr[i], cases[k].seeds[i], cases[k].more[i]);
        run_labels((const cJSON *const *)configs, called, cases[k].n, labels);
        for (int i = 0; i < cases[k].n; i++) {
            CHECK_MSG(strncmp(labels[i], cases[k].labels[i], strlen(cases[k].labels[i])) == 0, "%s: \"%s\", not \"%s\"",
                      cases[k].what, labels[i], cases[k].labels[i]);
            free(labels[i]);
            cJSON_Delete(configs[i]);
        }
    }
}

// Runs' curves in a picture: whatever their order and their folders, Muon's and AdamW's pixels are theirs.
TEST(a_picture_of_two_optimizers_is_titled_by_what_it_shows) {
    double tokens[] = { 0, 100, 200, 300 }, fast[] = { 5, 3, 2, 1 }, slow[] = { 5, 4, 3, 2.5 };
    RunCurves curves[2] = { { .eval_x = { tokens }, .val_loss = slow, .n_evals = 4 }, { .eval_x = { tokens }, .val_loss = fast, .n_evals = 4 } };
    const char *optimizers[] = { "AdamW", "MuonClip" }, *same[] = { "AdamW", "AdamW" };
    char *message = runlog_message(curves, optimizers);              // 2.5 lies halfway between 100 and 200
    CHECK_MSG(message && !strcmp(message, "MuonClip comes to AdamW's last loss in 50 % of its tokens"), "%s", message ? message : "none");
    free(message);
    CHECK(!runlog_message(curves, same));
    curves[0].n_evals = 0;
    CHECK(!runlog_message(curves, optimizers));
    curves[0].n_evals = 4;
    curves[0].val_loss = fast;
    CHECK(!runlog_message(curves, optimizers));                      // alike
    slow[3] = NAN;
    curves[0].val_loss = slow;
    CHECK(!runlog_message(curves, optimizers));
}

TEST(curves_have_the_optimizers_colours) {
    static const char *const optimizers[] = { "adamw", "muonclip" };
    const char *folders[2] = { "build/test/plot/colour0", "build/test/plot/colour1" };
    for (int i = 0; i < 2; i++) {
        if (make_dirs(folders[i]) != 0) fail("%s: %s", folders[i], strerror(errno));
        cJSON *config = config_of(optimizers[i], 0.02, 1, "");
        char *json = cJSON_PrintUnformatted(config), *path = format("%s/log.jsonl", folders[i]), *text;
        size_t size;
        FILE *f = text_open(&text, &size);
        fprintf(f, "{\"event\": \"start\", \"step\": 0, \"config\": %s}\n", json);
        for (int s = 1; s <= 50; s++)
            fprintf(f, "{\"event\": \"step\", \"step\": %d, \"tokens\": %d, \"loss\": %g, \"ms\": 1}\n", s, s, 5 - 0.04 * s - i);
        text_close(f, &text);
        if (write_file(path, text, strlen(text)) != 0) fail("%s: %s", path, strerror(errno));
        free(text), free(path), free(json);
        cJSON_Delete(config);
    }
    for (int turn = 0; turn < 4; turn++) {              // both orders of two runs, then each alone
        const char *shown[2] = { folders[turn % 2], folders[1 - turn % 2] };
        const char *picture = "build/test/plot/colours.png";
        CHECK(runlog_plot(shown, NULL, turn < 2 ? 2 : 1, picture) == 0);
        int w, h;
        unsigned char *rgb = stbi_load(picture, &w, &h, NULL, 3);
        int rows[2] = { 0 }, muon = rgb ? count_color(rgb, w, h, plot_color(PLOT_MUON), rows) : 0;
        int adamw = rgb ? count_color(rgb, w, h, plot_color(PLOT_ADAMW), rows) : 0;
        if (turn < 2) CHECK_MSG(muon > 200 && adamw > 200, "%d and %d pixels", muon, adamw);
        else CHECK_MSG(turn == 2 ? adamw > 200 && muon == 0 : muon > 200 && adamw == 0, "%d and %d pixels", muon, adamw);
        free(rgb);
    }
}

int main(int argc, char **argv) {
    if (argc > 1) tests_only = argv[1];
    free(test_folder("plot"));
    RUN(a_line_paints_its_pixels);
    RUN(lines_are_anti_aliased);
    RUN(a_translucent_line_is_even);
    RUN(gaps_dashes_and_clipping);
    RUN(a_band_covers_its_area);
    RUN(linear_ticks_are_round_and_in_range);
    RUN(log_ticks_are_sensible);
    RUN(tick_labels);
    RUN(limits_leave_out_outliers_when_robust);
    RUN(text_in_the_built_in_font);
    RUN(text_in_an_installed_font);
    RUN(a_font_that_is_none_is_named);
    RUN(a_series_is_drawn_where_its_values_are);
    RUN(a_heat_map_has_cells_a_frame_and_names);
    RUN(crosses_and_rings_mark_points);
    RUN(odd_series_and_sizes_do_no_harm);
    RUN(a_png_is_whole_or_absent);
    RUN(panels_stand_in_rows);
    RUN(a_small_png_shows_the_same);
    RUN(what_is_written_is_read);
    RUN(a_log_is_read);
    RUN(half_a_last_line_is_no_error);
    RUN(a_bad_line_is_named);
    RUN(a_log_is_cut_to_a_step);
    RUN(a_resumed_run_has_not_ended);
    RUN(smoothing);
    RUN(run_names);
    RUN(runs_are_drawn);
    RUN(a_picture_says_what_its_validations_are_of);
    RUN(marks_are_upright_and_move_no_limit);
    RUN(other_tokens_are_compared_in_bits_per_byte);
    RUN(the_program_draws_or_says_why_not);
    RUN(optimizers_have_their_colours);
    RUN(labels_say_what_a_run_is);
    RUN(a_picture_of_two_optimizers_is_titled_by_what_it_shows);
    RUN(curves_have_the_optimizers_colours);
    return tests_end();
}
