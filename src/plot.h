/* plot.h - line charts and heat maps as PNG files: several panels side by side or in rows, a title and a legend above.
 *
 * defines: PlotSeries, PlotHeat, PlotPanel, PlotStyle, plot_optimizer, plot_choose_colors, plot_png, plot_png_small, plot_render, plot_render_rows,
 *          plot_ticks, plot_tick_label
 * The only file that includes stb (stb_image_write, stb_truetype, stb_easy_font; Debian's libstb-dev).
 * Text is set in an installed font (DejaVu Sans, Liberation Sans, ...), or in stb_easy_font's own where none is found.
 * MUON_FONT in the environment names another TrueType file, or `none` for stb_easy_font.
 *
 *     double x[] = { 0, 1, 2 }, y[] = { 3, 1, 2 };
 *     PlotSeries series = { .label = "loss", .x = x, .y = y, .n = 3, .style = PLOT_LINE | PLOT_POINTS };
 *     PlotPanel panel = { .xlabel = "tokens", .ylabel = "loss", .series = &series, .n_series = 1 };
 *     if (plot_png("loss.png", "A title", &panel, 1, 800, 480) != 0) fail("loss.png: %s", strerror(errno));
 */
#ifndef PLOT_H
#define PLOT_H

#include <arpa/inet.h>
#include <ctype.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <strings.h>
#include "gzip.h"
#include "utf8.h"
#include "util.h"

// What stb_image_write packs by: zlib, which takes a fraction of the time of its own packing.
static inline unsigned char *plot_deflated(unsigned char *bytes, int n, int *size, int level) {
    size_t packed;
    unsigned char *out = deflated(bytes, (size_t)n, level, &packed);
    *size = (int)packed;
    return out;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBIW_ZLIB_COMPRESS plot_deflated
#include <stb/stb_image_write.h>
#define STB_TRUETYPE_IMPLEMENTATION
#define STBTT_STATIC
#include <stb/stb_truetype.h>
#include <stb/stb_easy_font.h>
#pragma GCC diagnostic pop

// ---------------------------------------------------------------------------------------------------------------------
// What is drawn

// How a series is drawn; flags that combine. None at all means PLOT_LINE.
typedef enum {
    PLOT_LINE = 1,
    PLOT_POINTS = 2,        // a dot at each point (fewer where they would touch)
    PLOT_DASHED = 4,        // a line of dashes
    PLOT_BAND = 8,          // the area between lo and hi, translucent
    PLOT_FAINT = 16,        // the line thin and translucent: for noise that another line smooths
    PLOT_CROSS = 32,        // an x at each point
    PLOT_RING = 64,         // a ring around each point
} PlotStyle;
enum { PLOT_DOTS = PLOT_POINTS | PLOT_CROSS | PLOT_RING };

// Colours. Muon and its kin have one in all pictures, AdamW another, and nothing else has these; PLOT_OTHERS and the
// following are for everything else, PLOT_BLACK the last of them. PLOT_RAMP - k, k = 0 ... PLOT_RAMPS - 1: from light to dark,
// for series that have an order.
enum { PLOT_GREY = -1, PLOT_RAMP = -2, PLOT_RAMPS = 6, PLOT_MUON = 0, PLOT_ADAMW = 1, PLOT_OTHERS = 2, PLOT_COLORS = 9,
       PLOT_BLACK = PLOT_COLORS - 1, PLOT_MAX_TICKS = 32, PLOT_MAX_SIZE = 16384 };

typedef struct {
    const char *label;              // in the legend, once per text; NULL keeps the series out of it
    const double *x, *y;            // n points, x ascending. A NaN, an infinity or, on a log axis, x or y <= 0 is a gap
    const double *lo, *hi;          // PLOT_BAND: the n lower and upper edges
    int n;                          // may be 0: the label alone
    int color;                      // number in the palette of PLOT_COLORS, repeating; or PLOT_GREY, PLOT_RAMP - k
    unsigned style;                 // PlotStyle flags
} PlotSeries;

// Cells around the points (0, 0) ... (nx - 1, ny - 1), each in a colour of its value (low light, high dark), with a
// text in it. Without limits colours begin at the lowest value and reach up to 4 times the median's distance from it: beyond, all
// are darkest.
typedef struct {
    const double *values;           // values[y * nx + x]; NaN: no cell
    const char *const *texts;       // texts[y * nx + x]; NULL: none
    int nx, ny;
    int marked;                     // the cell with a frame, -1: none
    double min, max;                // the lightest and the darkest value; min == max: automatic
} PlotHeat;

typedef struct {
    const char *title, *xlabel, *ylabel;    // each may be NULL
    const char *const *xnames, *const *ynames;  // an axis of names: name k at k, for k = 0 ... n_xnames - 1
    int n_xnames, n_ynames;
    const PlotHeat *heat;                   // drawn below the series; NULL: none
    bool xlog, ylog;
    bool robust;                            // automatic y limits leave out far outliers: see plot_series_range
    double xmin, xmax, ymin, ymax;          // min == max: automatic
    const PlotSeries *series;               // drawn in this order, the last on top
    int n_series;
    const double *marks;                    // x of upright dashed lines behind the series; they move no limit
    int n_marks;
} PlotPanel;

// ---------------------------------------------------------------------------------------------------------------------
// The canvas: 8-bit RGB, and a mask of coverage in which a whole line is collected before it is blended once. Without
// the mask a translucent line would darken wherever its segments meet or cross.

typedef struct { unsigned char r, g, b; } PlotColor;
typedef struct { int x0, y0, x1, y1; } PlotRect;                        // pixels x0 <= x < x1, y0 <= y < y1

typedef struct {
    int width, height;
    unsigned char *rgb;             // height x width x 3
    float *mask;                    // height x width, coverage in [0, 1]; zero outside of `dirty`
    PlotRect dirty;
    char *font_file;                // the TrueType file that `font` points into; NULL: stb_easy_font
    stbtt_fontinfo font;
} PlotCanvas;

static const PlotColor plot_white = { 255, 255, 255 }, plot_grid = { 230, 232, 235 }, plot_axis = { 140, 145, 150 },
                       plot_text_dark = { 35, 40, 45 }, plot_text_soft = { 85, 90, 96 };

// The palette of Okabe and Ito ("Color Universal Design", 2008), which readers with any colour vision tell apart, their
// yellow, invisible on white, left out; then a violet and a brown for pictures of many series.
static inline PlotColor plot_color(int index) {
    static const PlotColor palette[PLOT_COLORS] = {
        [PLOT_MUON] = { 0, 114, 178 }, [PLOT_ADAMW] = { 213, 94, 0 },
        { 0, 158, 115 }, { 204, 121, 167 }, { 86, 180, 233 }, { 230, 159, 0 }, { 120, 94, 240 }, { 125, 80, 45 },
        [PLOT_BLACK] = { 0, 0, 0 },
    };
    static const PlotColor ramp[PLOT_RAMPS] = {
        { 250, 185, 60 }, { 240, 125, 50 }, { 215, 65, 85 }, { 160, 45, 130 }, { 95, 35, 140 }, { 25, 15, 60 },
    };
    if (index >= 0) return palette[index % PLOT_COLORS];
    int shade = PLOT_RAMP - index;
    return shade >= 0 && shade < PLOT_RAMPS ? ramp[shade] : (PlotColor){ 125, 130, 135 };
}

/* The colour of the optimizer that a text names, such as a label, or -1: PLOT_MUON for muon, muonclip and normuon,
 * PLOT_ADAMW for adamw and adam, in capitals or not, as words of their own; the first word counts that is one of these. */
static inline int plot_optimizer(const char *text) {
    static const struct { const char *word; int color; } words[] = {
        { "muon", PLOT_MUON }, { "muonclip", PLOT_MUON }, { "normuon", PLOT_MUON }, { "adamw", PLOT_ADAMW }, { "adam", PLOT_ADAMW },
    };
    for (size_t length; text && *text; text += length ? length : 1) {
        for (length = 0; isalnum((unsigned char)text[length]); length++) {}
        for (size_t i = 0; i < COUNT_OF(words) && length; i++)
            if (strlen(words[i].word) == length && strncasecmp(text, words[i].word, length) == 0) return words[i].color;
    }
    return -1;
}

/* The colours of a picture's n series by the optimizers that their texts name. Of several under one optimizer the first has
 * its colour; the others, and those under none, take the next of the other colours. */
static inline void plot_choose_colors(const char *const *texts, int n, int *colors) {
    bool taken[PLOT_OTHERS] = { false };
    for (int i = 0, others = 0; i < n; i++) {
        int color = plot_optimizer(texts[i]);
        bool free_one = color >= 0 && !taken[color];
        colors[i] = free_one ? color : PLOT_OTHERS + others++ % (PLOT_COLORS - PLOT_OTHERS);
        if (free_one) taken[color] = true;
    }
}

static inline PlotRect plot_intersect(PlotRect a, PlotRect b) {
    return (PlotRect){ a.x0 > b.x0 ? a.x0 : b.x0, a.y0 > b.y0 ? a.y0 : b.y0,
                       a.x1 < b.x1 ? a.x1 : b.x1, a.y1 < b.y1 ? a.y1 : b.y1 };
}

static inline PlotRect plot_everything(const PlotCanvas *c) {
    return (PlotRect){ 0, 0, c->width, c->height };
}

// pixel = (1 - alpha) pixel + alpha color. Outside of the canvas nothing happens.
static inline void plot_blend(PlotCanvas *c, int x, int y, PlotColor color, double alpha) {
    if (x < 0 || y < 0 || x >= c->width || y >= c->height) return;
    unsigned char *p = c->rgb + ((size_t)y * (size_t)c->width + (size_t)x) * 3;
    p[0] = (unsigned char)(p[0] + (color.r - p[0]) * alpha + 0.5);
    p[1] = (unsigned char)(p[1] + (color.g - p[1]) * alpha + 0.5);
    p[2] = (unsigned char)(p[2] + (color.b - p[2]) * alpha + 0.5);
}

static inline void plot_fill(PlotCanvas *c, PlotRect area, PlotColor color) {
    area = plot_intersect(area, plot_everything(c));
    for (int y = area.y0; y < area.y1; y++)
        for (int x = area.x0; x < area.x1; x++) plot_blend(c, x, y, color, 1);
}

// The mask takes the larger of the coverages that meet in a pixel.
static inline void plot_cover(PlotCanvas *c, int x, int y, double coverage) {
    float *m = c->mask + (size_t)y * (size_t)c->width + (size_t)x;
    if (coverage <= *m) return;
    *m = (float)coverage;
    if (x < c->dirty.x0) c->dirty.x0 = x;
    if (y < c->dirty.y0) c->dirty.y0 = y;
    if (x >= c->dirty.x1) c->dirty.x1 = x + 1;
    if (y >= c->dirty.y1) c->dirty.y1 = y + 1;
}

// Blends what the mask has collected, and clears it.
static inline void plot_paint(PlotCanvas *c, PlotColor color, double alpha) {
    for (int y = c->dirty.y0; y < c->dirty.y1; y++)
        for (int x = c->dirty.x0; x < c->dirty.x1; x++) {
            float *m = c->mask + (size_t)y * (size_t)c->width + (size_t)x;
            if (*m > 0) plot_blend(c, x, y, color, alpha * *m);
            *m = 0;
        }
    c->dirty = (PlotRect){ c->width, c->height, 0, 0 };
}

/* A segment with round ends, `width` pixels thick; both ends equal make a disc. Pixel (i, j) has its centre at
 * (i + 1/2, j + 1/2) and is covered by width/2 + 1/2 - distance to the segment, within [0, 1]: exact for an edge along
 * an axis, and within a few percent for a slanted one. A line thinner than a pixel is a fainter one of one pixel. */
static inline void plot_segment(PlotCanvas *c, PlotRect clip, double x0, double y0, double x1, double y1,
                                double width) {
    double strength = fmin(width, 1), reach = fmax(width, 1) / 2 + 0.5;
    double dx = x1 - x0, dy = y1 - y0, length2 = dx * dx + dy * dy;
    PlotRect box = { (int)floor(fmin(x0, x1) - reach), (int)floor(fmin(y0, y1) - reach),
                     (int)ceil(fmax(x0, x1) + reach), (int)ceil(fmax(y0, y1) + reach) };
    box = plot_intersect(box, plot_intersect(clip, plot_everything(c)));
    for (int j = box.y0; j < box.y1; j++)
        for (int i = box.x0; i < box.x1; i++) {
            double px = i + 0.5 - x0, py = j + 0.5 - y0;
            double t = length2 > 0 ? (px * dx + py * dy) / length2 : 0;     // its nearest point: 0 start, 1 end
            t = t < 0 ? 0 : t > 1 ? 1 : t;
            double ex = px - t * dx, ey = py - t * dy, d2 = ex * ex + ey * ey;
            if (d2 < reach * reach) plot_cover(c, i, j, strength * fmin(1, reach - sqrt(d2)));
        }
}

static inline void plot_disc(PlotCanvas *c, PlotRect clip, double x, double y, double radius) {
    plot_segment(c, clip, x, y, x, y, 2 * radius);
}

// The dashes of a segment that begins `walked` pixels after its line did: `dash` pixels of line, two thirds of it gap.
static inline void plot_dashes(PlotCanvas *c, PlotRect clip, double x0, double y0, double x1, double y1, double width,
                               double dash, double walked) {
    double length = hypot(x1 - x0, y1 - y0), period = dash * 5 / 3;
    for (double at = 0, end; at < length; at = end) {
        double phase = fmod(walked + at, period), s = at / length;
        end = fmin(length, at + fmax(1e-3, (phase < dash ? dash : period) - phase));
        double e = end / length;
        if (phase >= dash) continue;
        plot_segment(c, clip, x0 + s * (x1 - x0), y0 + s * (y1 - y0), x0 + e * (x1 - x0), y0 + e * (y1 - y0), width);
    }
}

// A line through n points in pixels, broken where one is NaN (a point alone is a dot). dash > 0: dashes of that length.
static inline void plot_polyline(PlotCanvas *c, PlotRect clip, const double *x, const double *y, int n, double width,
                                 double dash) {
    double walked = 0;
    for (int i = 0; i < n; i++) {
        if (isnan(x[i] + y[i])) continue;
        bool joined = i > 0 && !isnan(x[i - 1] + y[i - 1]), goes_on = i + 1 < n && !isnan(x[i + 1] + y[i + 1]);
        if (!joined && !goes_on) plot_disc(c, clip, x[i], y[i], 1.2 * width);
        if (!joined) { walked = 0; continue; }
        if (dash > 0) plot_dashes(c, clip, x[i - 1], y[i - 1], x[i], y[i], width, dash, walked);
        else plot_segment(c, clip, x[i - 1], y[i - 1], x[i], y[i], width);
        walked += hypot(x[i] - x[i - 1], y[i] - y[i - 1]);
    }
}

// The area between two lines over the same x, column by column: exact coverage along y.
static inline void plot_area(PlotCanvas *c, PlotRect clip, const double *x, const double *top, const double *bottom,
                             int n) {
    clip = plot_intersect(clip, plot_everything(c));
    for (int i = 1; i < n; i++) {
        if (isnan(x[i - 1] + top[i - 1] + bottom[i - 1] + x[i] + top[i] + bottom[i]) || x[i] <= x[i - 1]) continue;
        int first = (int)fmax(clip.x0, ceil(x[i - 1] - 0.5)), end = (int)fmin(clip.x1, ceil(x[i] - 0.5));
        for (int column = first; column < end; column++) {
            double t = (column + 0.5 - x[i - 1]) / (x[i] - x[i - 1]);
            double a = top[i - 1] + t * (top[i] - top[i - 1]), b = bottom[i - 1] + t * (bottom[i] - bottom[i - 1]);
            double from = fmin(a, b), to = fmax(a, b);
            for (int row = (int)fmax(clip.y0, floor(from)); row < (int)fmin(clip.y1, ceil(to)); row++)
                plot_cover(c, column, row, fmin(to, row + 1) - fmax(from, row));
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Text

// Loads the TrueType file into the canvas. False where it can't be read or is no font.
static inline bool plot_load_font(PlotCanvas *c, const char *path) {
    size_t size = 0;
    char *file = read_file(path, &size);
    if (!file) return false;
    const unsigned char *bytes = (const unsigned char *)file;
    int offset = size > 1024 ? stbtt_GetFontOffsetForIndex(bytes, 0) : -1;
    if (offset < 0 || !stbtt_InitFont(&c->font, bytes, offset)) {
        free(file);
        return false;
    }
    c->font_file = file;
    return true;
}

static inline void plot_find_font(PlotCanvas *c) {
    static const char *const usual[] = {
        "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",                      // Debian, Ubuntu
        "/usr/share/fonts/TTF/DejaVuSans.ttf",                                  // Arch
        "/usr/share/fonts/dejavu-sans-fonts/DejaVuSans.ttf",                    // Fedora
        "/usr/share/fonts/dejavu/DejaVuSans.ttf",                               // Alpine, older Fedora
        "/usr/share/fonts/truetype/liberation/LiberationSans-Regular.ttf",
        "/usr/share/fonts/truetype/liberation2/LiberationSans-Regular.ttf",
        "/usr/share/fonts/truetype/noto/NotoSans-Regular.ttf",
        "/System/Library/Fonts/Supplemental/Arial.ttf",                         // macOS
    };
    const char *wanted = getenv("MUON_FONT");
    if (wanted && *wanted) {
        static bool said;               // a trainer draws often, and one word about its font is enough
        if (strcmp(wanted, "none") != 0 && !plot_load_font(c, wanted) && !said) {
            fprintf(stderr, "warning: MUON_FONT=%s: not a readable TrueType font; using stb_easy_font\n", wanted);
            said = true;
        }
        return;
    }
    for (size_t i = 0; i < COUNT_OF(usual); i++)
        if (plot_load_font(c, usual[i])) return;
}

// The next code point of a UTF-8 string, which is advanced; U+FFFD for a byte that belongs to none.
static inline int plot_next_char(const char **text) {
    uint32_t code = 0xfffd;
    int length = utf8_decode(*text, strnlen(*text, 4), &code);
    *text += length ? length : 1;
    return (int)code;
}

// stb_easy_font stays sharp in whole multiples of its pixels. Its capitals are 7 of them high, a usual font's 0.73 em.
static inline int plot_easy_scale(double size) {
    int scale = (int)(size * 0.73 / 7 + 0.5);
    return scale < 1 ? 1 : scale;
}

// stb_easy_font knows printable ASCII only: any other character becomes a question mark. The caller frees the copy.
static inline char *plot_easy_text(const char *text) {
    char *ascii = (char *)xmalloc(strlen(text) + 1), *p = ascii;
    while (*text) {
        int code = plot_next_char(&text);
        *p++ = code >= 32 && code < 127 ? (char)code : '?';
    }
    *p = '\0';
    return ascii;
}

// Width in pixels of one line of text; size is the em in pixels.
static inline double plot_text_width(const PlotCanvas *c, double size, const char *text) {
    if (!c->font_file) {
        char *ascii = plot_easy_text(text);
        int width = stb_easy_font_width(ascii) * plot_easy_scale(size);
        free(ascii);
        return width;
    }
    double scale = stbtt_ScaleForMappingEmToPixels(&c->font, (float)size), width = 0;
    for (int glyph = 0, next; *text; glyph = next) {
        int advance, bearing;
        next = stbtt_FindGlyphIndex(&c->font, plot_next_char(&text));
        stbtt_GetGlyphHMetrics(&c->font, next, &advance, &bearing);
        width += scale * (advance + (glyph ? stbtt_GetGlyphKernAdvance(&c->font, glyph, next) : 0));
    }
    return width;
}

// Where a line of text stands: its origin on the canvas, and whether it runs to the right or upwards.
typedef struct { int x, y; bool up; PlotColor color; } PlotPen;

// One pixel of a text: `along` it, and `below` its origin.
static inline void plot_ink(PlotCanvas *c, const PlotPen *pen, int along, int below, double alpha) {
    if (pen->up) plot_blend(c, pen->x + below, pen->y - along, pen->color, alpha);
    else plot_blend(c, pen->x + along, pen->y + below, pen->color, alpha);
}

static inline void plot_text_truetype(PlotCanvas *c, const PlotPen *pen, double size, const char *text) {
    float scale = stbtt_ScaleForMappingEmToPixels(&c->font, (float)size);
    double at = 0;
    for (int glyph = 0, next; *text; glyph = next) {
        int advance, bearing, width, height, left, top;
        next = stbtt_FindGlyphIndex(&c->font, plot_next_char(&text));
        if (glyph) at += scale * stbtt_GetGlyphKernAdvance(&c->font, glyph, next);
        int whole = (int)floor(at);
        unsigned char *bitmap = stbtt_GetGlyphBitmapSubpixel(&c->font, scale, scale, (float)(at - whole), 0, next,
                                                             &width, &height, &left, &top);
        for (int j = 0; bitmap && j < height; j++)
            for (int i = 0; i < width; i++) plot_ink(c, pen, whole + left + i, top + j, bitmap[j * width + i] / 255.0);
        stbtt_FreeBitmap(bitmap, NULL);
        stbtt_GetGlyphHMetrics(&c->font, next, &advance, &bearing);
        at += scale * advance;
    }
}

static inline void plot_text_easy(PlotCanvas *c, const PlotPen *pen, double size, const char *text) {
    typedef struct { float x, y, z; unsigned char color[4]; } Corner;       // stb_easy_font's vertex
    typedef struct { Corner corners[4]; } Quad;
    enum { QUADS_PER_CHAR = 16 };                                           // its densest characters have fewer
    char *ascii = plot_easy_text(text);
    size_t room = (strlen(ascii) + 1) * QUADS_PER_CHAR * sizeof(Quad);
    Quad *quads = (Quad *)xmalloc(room);
    int n = stb_easy_font_print(0, 0, ascii, NULL, quads, (int)room), scale = plot_easy_scale(size);
    for (int q = 0; q < n; q++) {
        const Corner *from = &quads[q].corners[0], *to = &quads[q].corners[2];
        for (int j = (int)from->y * scale; j < (int)to->y * scale; j++)
            for (int i = (int)from->x * scale; i < (int)to->x * scale; i++) plot_ink(c, pen, i, j - 7 * scale, 1);
    }
    free(quads);
    free(ascii);
}

/* One line of text. (x, y) is a point at half the height of its capitals: its start (anchor 0), its middle (0.5) or its
 * end (1). up: the text runs upwards, turned to the left. size: the em in pixels. */
static inline void plot_text(PlotCanvas *c, double x, double y, double anchor, bool up, double size, PlotColor color,
                             const char *text) {
    double back = anchor * plot_text_width(c, size, text), capital = 7 * plot_easy_scale(size);
    if (c->font_file) {
        int x0, y0, x1, y1;
        stbtt_GetCodepointBox(&c->font, 'H', &x0, &y0, &x1, &y1);
        capital = y1 * stbtt_ScaleForMappingEmToPixels(&c->font, (float)size);
    }
    int left = (int)lround(up ? x + capital / 2 : x - back), base = (int)lround(up ? y + back : y + capital / 2);
    PlotPen pen = { left, base, up, color };
    if (c->font_file) plot_text_truetype(c, &pen, size, text);
    else plot_text_easy(c, &pen, size, text);
}

// The text, or as much of its beginning as fits `room` pixels, with "..." behind it. The caller frees it.
static inline char *plot_fit_text(const PlotCanvas *c, double size, const char *text, double room) {
    if (plot_text_width(c, size, text) <= room) return xstrdup(text);
    char *cut = NULL;
    for (size_t n = strlen(text); n > 0; ) {
        do n--; while (n > 0 && ((unsigned char)text[n] >> 6) == 2);       // never inside of a UTF-8 sequence
        free(cut);
        cut = format("%.*s...", (int)n, text);
        if (plot_text_width(c, size, cut) <= room) break;
    }
    return cut ? cut : xstrdup("");
}

// ---------------------------------------------------------------------------------------------------------------------
// Axes

typedef struct {
    double lo, hi;                  // limits, in units of the data
    bool log;
    double from, to;                // the pixels of lo and hi
    int n_ticks;
    double ticks[PLOT_MAX_TICKS], step;     // step 0: unequal, each tick is labelled for itself
    const char *const *names;               // of the values 0, 1, ...; NULL: numbers
    int n_names;
} PlotAxis;

/* Round numbers within [lo, hi]: multiples of 1, 2 or 5 times a power of ten, as fine as at most `most` of them allow
 * (2 ... PLOT_MAX_TICKS). On a log axis powers of ten, with 2 and 5 between them where there is room; one of less than
 * a decade has the ticks of a linear axis. Returns how many; *step is their distance, 0 where they are unequal. */
static inline int plot_ticks(double lo, double hi, bool log, int most, double *ticks, double *step) {
    int n = 0;
    *step = 0;
    if (!(hi > lo) || !isfinite(hi - lo)) return 0;
    most = most < 2 ? 2 : most > PLOT_MAX_TICKS ? PLOT_MAX_TICKS : most;
    double decades = log && lo > 0 ? log10(hi) - log10(lo) : 0;
    if (decades >= 1) {
        bool dense = 3 * decades + 1 <= most;
        int stride = dense ? 1 : (int)ceil(decades / (most - 1));
        for (int power = (int)floor(log10(lo)); power <= log10(hi) + 1e-9; power++) {
            if (power % stride != 0) continue;
            for (int k = 0; k < (dense ? 3 : 1); k++) {
                double tick = pow(10, power) * (k == 0 ? 1 : k == 1 ? 2 : 5);
                if (tick >= lo * (1 - 1e-9) && tick <= hi * (1 + 1e-9) && n < most) ticks[n++] = tick;
            }
        }
        return n;
    }
    static const double round_numbers[] = { 1, 2, 5, 10, 20, 50 };
    double unit = pow(10, floor(log10((hi - lo) / most))), first = 0, last = 0;
    for (size_t k = 0; k < COUNT_OF(round_numbers); k++) {
        *step = unit * round_numbers[k];
        first = ceil(lo / *step - 1e-9), last = floor(hi / *step + 1e-9);   // the ticks as multiples of the step
        if (last - first < most) break;
    }
    for (double i = first; i <= last && n < most; i++) ticks[n++] = i * *step + 0.0;     // + 0.0 makes a zero of -0
    return n;
}

/* A tick's label with as many decimals as its distance to the next tick needs (step 0: as the value itself needs), and
 * large numbers in SI: 0.25, 1500, 200k, 1.5M, 2G, 3e-4. Into buffer (at least 32 bytes), which is returned. */
static inline const char *plot_tick_label(char *buffer, double value, double step) {
    static const char *const si[] = { "", "k", "M", "G", "T" };
    double size = fabs(value);
    bool alone = step <= 0, tiny = alone ? size < 1e-3 : step < 1e-4;
    if (size == 0) return strcpy(buffer, "0");
    if (alone) step = size;
    if (tiny || size >= 1e15) {
        int power = (int)floor(log10(size) + 1e-9);
        snprintf(buffer, 32, "%.6ge%d", value / pow(10, power), power);
        return buffer;
    }
    int thousands = 0;
    double unit = 1;
    if (size >= 1e4 || step >= 1e3)
        for (; thousands < 4 && size >= 1e3 * unit * (1 - 1e-9); thousands++) unit *= 1e3;
    int decimals = (int)fmin(12, fmax(0, ceil(-log10(step / unit) - 1e-9)));
    int n = snprintf(buffer, 32, "%.*f", decimals, value / unit);
    if (unit > 1 && decimals > 0) {                                         // 1M between 0.8M and 1.2M
        while (buffer[n - 1] == '0') n--;
        if (buffer[n - 1] == '.') n--;
    }
    snprintf(buffer + n, (size_t)(32 - n), "%s", si[thousands]);
    return buffer;
}

// The ticks of an axis, `room` pixels long, of which each needs `each`.
static inline void plot_find_ticks(PlotAxis *a, double room, double each) {
    int most = (int)(room / each);
    if (!a->names) {
        a->n_ticks = plot_ticks(a->lo, a->hi, a->log, most, a->ticks, &a->step);
        return;
    }
    most = most < 1 ? 1 : most > PLOT_MAX_TICKS ? PLOT_MAX_TICKS : most;
    int stride = (a->n_names + most - 1) / most;
    for (a->n_ticks = 0; a->n_ticks * stride < a->n_names; a->n_ticks++) a->ticks[a->n_ticks] = a->n_ticks * stride;
}

static inline const char *plot_axis_label(char *buffer, const PlotAxis *a, int tick) {
    return a->names ? a->names[(int)a->ticks[tick]] : plot_tick_label(buffer, a->ticks[tick], a->step);
}

static inline bool plot_usable(double v, bool log) {
    return isfinite(v) && (!log || v > 0);
}

// The pixel of a value, NaN where it has none. Kept near the canvas, so that a huge one can't overflow an int.
static inline double plot_pixel(const PlotAxis *a, double v) {
    if (!plot_usable(v, a->log)) return NAN;
    double t = a->log ? log(v / a->lo) / log(a->hi / a->lo) : (v - a->lo) / (a->hi - a->lo);
    return fmax(-1e6, fmin(1e6, a->from + t * (a->to - a->from)));
}

/* Widens [*lo, *hi] to the values of one series that its panel shows. robust: only to those between Tukey's outer
 * fences, q1 - 3 (q3 - q1) and q3 + 3 (q3 - q1) (Exploratory Data Analysis, 1977): a run's first losses and its spikes
 * leave the picture through its upper edge instead of pressing the rest flat. */
static inline void plot_series_range(const PlotSeries *s, const PlotAxis *x, bool log, bool robust,
                                     double *lo, double *hi) {
    bool band = (s->style & PLOT_BAND) && s->lo && s->hi;
    double *values = (double *)xmalloc((size_t)s->n * 3 * sizeof *values);
    int n = 0;
    for (int i = 0; i < s->n; i++) {
        if (!plot_usable(s->x[i], x->log) || s->x[i] < x->lo || s->x[i] > x->hi) continue;
        if (s->y && plot_usable(s->y[i], log)) values[n++] = s->y[i];
        if (band && plot_usable(s->lo[i], log)) values[n++] = s->lo[i];
        if (band && plot_usable(s->hi[i], log)) values[n++] = s->hi[i];
    }
    qsort(values, (size_t)n, sizeof *values, compare_doubles);
    double q1 = n ? values[(n - 1) / 4] : 0, q3 = n ? values[(n - 1) * 3 / 4] : 0, fence = 3 * (q3 - q1);
    if (!robust || !(fence > 0)) fence = INFINITY;
    for (int i = 0; i < n; i++)
        if (values[i] >= q1 - fence && values[i] <= q3 + fence) {
            *lo = fmin(*lo, values[i]);
            *hi = fmax(*hi, values[i]);
        }
    free(values);
}

// Limits that can be drawn: given ones as they are; else the data's with `below` and `above` of their span around them.
static inline void plot_set_limits(PlotAxis *a, double given_lo, double given_hi, double lo, double hi,
                                   double below, double above) {
    if (given_lo < given_hi && plot_usable(given_lo, a->log) && plot_usable(given_hi, a->log)) {
        a->lo = given_lo;
        a->hi = given_hi;
        return;
    }
    if (!(lo <= hi)) { lo = a->log ? 1 : 0; hi = a->log ? 10 : 1; }         // no data
    if (a->log) {
        double span = hi > lo * (1 + 1e-9) ? log10(hi) - log10(lo) : 1;
        a->lo = fmax(DBL_MIN, lo * pow(10, -span * below));
        a->hi = fmin(DBL_MAX, hi * pow(10, span * above));
    } else {
        double span = hi - lo > 1e-9 * fmax(fabs(lo), fabs(hi)) ? hi - lo : hi != 0 ? fabs(hi) : 1;
        a->lo = fmax(-DBL_MAX / 4, lo - span * below);
        a->hi = fmin(DBL_MAX / 4, hi + span * above);
    }
}

static inline void plot_find_limits(const PlotPanel *p, PlotAxis *x, PlotAxis *y) {
    double lo = INFINITY, hi = -INFINITY;
    x->names = p->xnames, x->n_names = p->n_xnames, y->names = p->ynames, y->n_names = p->n_ynames;
    for (int k = 0; k < p->n_series; k++)
        for (int i = 0; i < p->series[k].n; i++) {
            double v = p->series[k].x[i];
            if (plot_usable(v, x->log)) { lo = fmin(lo, v); hi = fmax(hi, v); }
        }
    if (!x->log && lo > 0 && lo < 0.2 * hi) lo = 0;                         // what nearly starts at zero starts at zero
    double before = x->log || lo != 0 || hi == 0 ? 0.02 : 0;
    if (x->names) plot_set_limits(x, -0.5, x->n_names - 0.5, 0, 0, 0, 0);
    else plot_set_limits(x, p->xmin, p->xmax, lo, hi, before, 0.02);

    lo = INFINITY, hi = -INFINITY;
    for (int k = 0; k < p->n_series; k++) plot_series_range(&p->series[k], x, y->log, p->robust, &lo, &hi);
    if (y->names) plot_set_limits(y, -0.5, y->n_names - 0.5, 0, 0, 0, 0);
    else plot_set_limits(y, p->ymin, p->ymax, lo, hi, 0.05, 0.05);
}

// ---------------------------------------------------------------------------------------------------------------------
// The parts of a picture. Sizes are multiples of a unit u that grows with it: a larger picture is the same, sharper.

enum { PLOT_TITLE_SIZE = 17, PLOT_LABEL_SIZE = 13, PLOT_TICK_SIZE = 12, PLOT_MARGIN = 16, PLOT_ROW = 22 };

// One series over points that are already pixels; `clip` is the inside of the axes.
static inline void plot_marks(PlotCanvas *c, PlotRect clip, const PlotSeries *s, const double *x, const double *y,
                              const double *lo, const double *hi, int n, double u) {
    PlotColor color = plot_color(s->color);
    unsigned style = s->style ? s->style : PLOT_LINE;
    double radius = 3.2 * u, last_x = -INFINITY, last_y = -INFINITY;
    if ((style & PLOT_BAND) && lo && hi) {
        plot_area(c, clip, x, hi, lo, n);
        plot_paint(c, color, 0.2);
    }
    if (!y) return;
    if (style & PLOT_FAINT) {
        plot_polyline(c, clip, x, y, n, 1.0 * u, style & PLOT_DASHED ? 6 * u : 0);
        plot_paint(c, color, 0.28);
    } else if (style & (PLOT_LINE | PLOT_DASHED)) {
        plot_polyline(c, clip, x, y, n, 1.8 * u, style & PLOT_DASHED ? 6 * u : 0);
        plot_paint(c, color, 1);
    }
    for (int i = n - 1; i >= 0 && (style & PLOT_DOTS); i--) {  // backwards: of dots left out the last one stays
        bool inside = x[i] >= clip.x0 && x[i] <= clip.x1 && y[i] >= clip.y0 && y[i] <= clip.y1;
        if (!inside || hypot(x[i] - last_x, y[i] - last_y) < 2.5 * radius) continue;
        PlotRect all = plot_everything(c);          // a dot at the edge of the axes stays whole
        last_x = x[i];
        last_y = y[i];
        if (style & PLOT_RING) {
            plot_disc(c, all, x[i], y[i], 2.4 * radius);
            plot_paint(c, color, 1);
            plot_disc(c, all, x[i], y[i], 1.8 * radius);
            plot_paint(c, plot_white, 1);
        }
        if (style & PLOT_CROSS) {
            for (int turn = -1; turn <= 1; turn += 2)
                plot_segment(c, all, x[i] - radius, y[i] - turn * radius, x[i] + radius, y[i] + turn * radius, 2 * u);
            plot_paint(c, color, 1);
        }
        if (!(style & PLOT_POINTS)) continue;
        plot_disc(c, all, x[i], y[i], radius + 0.8 * u);
        plot_paint(c, plot_white, 1);
        plot_disc(c, all, x[i], y[i], radius);
        plot_paint(c, color, 1);
    }
}

static inline double *plot_pixels(const PlotAxis *a, const double *values, int n) {
    if (!values) return NULL;
    double *pixels = (double *)xmalloc((size_t)n * sizeof *pixels);
    for (int i = 0; i < n; i++) pixels[i] = plot_pixel(a, values[i]);
    return pixels;
}

static inline void plot_series(PlotCanvas *c, PlotRect area, const PlotAxis *xa, const PlotAxis *ya,
                               const PlotSeries *s, double u) {
    double *x = plot_pixels(xa, s->x, s->n), *y = plot_pixels(ya, s->y, s->n);
    double *lo = plot_pixels(ya, s->lo, s->n), *hi = plot_pixels(ya, s->hi, s->n);
    if (x) plot_marks(c, area, s, x, y, lo, hi, s->n, u);
    free(x);
    free(y);
    free(lo);
    free(hi);
}

static inline void plot_heat(PlotCanvas *c, PlotRect area, const PlotAxis *xa, const PlotAxis *ya, const PlotHeat *h,
                             double u) {
    int cells = h->nx * h->ny, n = 0, gap = (int)fmax(1, u);
    double *sorted = (double *)xmalloc((size_t)cells * sizeof *sorted);
    for (int i = 0; i < cells; i++)
        if (isfinite(h->values[i])) sorted[n++] = h->values[i];
    qsort(sorted, (size_t)n, sizeof *sorted, compare_doubles);
    double lo = n ? sorted[0] : 0, hi = n ? fmin(sorted[n - 1], lo + 4 * (sorted[n / 2] - lo)) : 0;
    if (h->min != h->max) lo = h->min, hi = h->max;
    free(sorted);
    for (int i = 0; i < cells; i++) {
        int x = i % h->nx, y = i / h->nx;
        PlotRect cell = { (int)lround(plot_pixel(xa, x - 0.5)), (int)lround(plot_pixel(ya, y + 0.5)),
                          (int)lround(plot_pixel(xa, x + 0.5)), (int)lround(plot_pixel(ya, y - 0.5)) };
        PlotRect inner = { cell.x0 + gap, cell.y0 + gap, cell.x1 - gap, cell.y1 - gap };
        if (i == h->marked) {
            plot_fill(c, plot_intersect(cell, area), plot_text_dark);
            inner = (PlotRect){ cell.x0 + 4 * gap, cell.y0 + 4 * gap, cell.x1 - 4 * gap, cell.y1 - 4 * gap };
        }
        double t = hi > lo ? fmin(1, fmax(0, (h->values[i] - lo) / (hi - lo))) * (PLOT_RAMPS - 1) : 0;
        PlotColor fill = plot_grid;
        if (isfinite(h->values[i])) {
            int shade = t < PLOT_RAMPS - 1 ? (int)t : PLOT_RAMPS - 2;
            PlotColor a = plot_color(PLOT_RAMP - shade), b = plot_color(PLOT_RAMP - shade - 1);
            double part = t - shade;
            fill = (PlotColor){ (unsigned char)(a.r + part * (b.r - a.r)), (unsigned char)(a.g + part * (b.g - a.g)),
                                (unsigned char)(a.b + part * (b.b - a.b)) };
        }
        plot_fill(c, plot_intersect(inner, area), fill);
        if (!h->texts || !h->texts[i]) continue;
        bool dark = 0.3 * fill.r + 0.59 * fill.g + 0.11 * fill.b < 140;
        char *fits = plot_fit_text(c, PLOT_TICK_SIZE * u, h->texts[i], inner.x1 - inner.x0);
        plot_text(c, (inner.x0 + inner.x1) / 2.0, (inner.y0 + inner.y1) / 2.0, 0.5, false, PLOT_TICK_SIZE * u,
                  dark ? plot_white : plot_text_dark, fits);
        free(fits);
    }
}

// Grid, axes, ticks, labels and series of one panel within `box`.
static inline void plot_panel(PlotCanvas *c, PlotRect box, const PlotPanel *p, double u) {
    char label[32];
    PlotAxis x = { .log = p->xlog }, y = { .log = p->ylog };
    plot_find_limits(p, &x, &y);

    // The height of the axes is known at once; their left edge depends on how wide the labels of the y ticks are.
    PlotRect area = { box.x0, box.y0 + (int)(p->title ? PLOT_ROW * u : 0), box.x1 - (int)(PLOT_MARGIN * u),
                      box.y1 - (int)((p->xlabel ? 50 : 30) * u) };
    plot_find_ticks(&y, area.y1 - area.y0, 34 * u);
    double widest = 0;
    for (int i = 0; i < y.n_ticks; i++)
        widest = fmax(widest, plot_text_width(c, PLOT_TICK_SIZE * u, plot_axis_label(label, &y, i)));
    area.x0 += (int)((p->ylabel ? PLOT_MARGIN + PLOT_ROW : PLOT_MARGIN) * u + widest + 7 * u);
    if (area.x1 <= area.x0 || area.y1 <= area.y0) return;                   // a picture too small for this panel
    widest = 0;
    for (int i = 0; i < x.n_names; i++) widest = fmax(widest, plot_text_width(c, PLOT_TICK_SIZE * u, x.names[i]));
    plot_find_ticks(&x, area.x1 - area.x0, fmax(50 * u, widest + 8 * u));
    x.from = area.x0, x.to = area.x1, y.from = area.y1, y.to = area.y0;

    int thin = (int)fmax(1, u + 0.25), tick = (int)(4 * u);
    for (int i = 0; i < y.n_ticks; i++) {
        int at = (int)lround(plot_pixel(&y, y.ticks[i])) - thin / 2;
        plot_fill(c, (PlotRect){ area.x0, at, area.x1, at + thin }, plot_grid);
        plot_fill(c, (PlotRect){ area.x0 - tick, at, area.x0, at + thin }, plot_axis);
        plot_text(c, area.x0 - 7 * u, at + thin / 2.0, 1, false, PLOT_TICK_SIZE * u, plot_text_soft,
                  plot_axis_label(label, &y, i));
    }
    for (int i = 0; i < x.n_ticks; i++) {
        int at = (int)lround(plot_pixel(&x, x.ticks[i])) - thin / 2;
        plot_fill(c, (PlotRect){ at, area.y0, at + thin, area.y1 }, plot_grid);
        plot_fill(c, (PlotRect){ at, area.y1, at + thin, area.y1 + tick }, plot_axis);
        plot_text(c, at + thin / 2.0, area.y1 + 14 * u, 0.5, false, PLOT_TICK_SIZE * u, plot_text_soft,
                  plot_axis_label(label, &x, i));
    }
    plot_fill(c, (PlotRect){ area.x0 - thin, area.y0, area.x0, area.y1 + thin }, plot_axis);
    plot_fill(c, (PlotRect){ area.x0 - thin, area.y1, area.x1, area.y1 + thin }, plot_axis);

    for (int i = 0; i < p->n_marks; i++) {
        double at = plot_pixel(&x, p->marks[i]);
        if (!isnan(at)) plot_dashes(c, area, at, area.y0, at, area.y1, 1.2 * u, 6 * u, 0);
    }
    plot_paint(c, plot_color(PLOT_GREY), 1);

    bool any = p->heat != NULL;
    if (p->heat) plot_heat(c, area, &x, &y, p->heat, u);
    for (int k = 0; k < p->n_series; k++) {
        plot_series(c, area, &x, &y, &p->series[k], u);
        any = any || p->series[k].n > 0;
    }
    double centre = (area.x0 + area.x1) / 2.0, middle = (area.y0 + area.y1) / 2.0, size = PLOT_LABEL_SIZE * u;
    if (!any) plot_text(c, centre, middle, 0.5, false, size, plot_text_soft, "no data yet");
    const struct { const char *text; double x, y, anchor, room; bool up; } labels[] = {
        { p->title, area.x0, box.y0 + 8 * u, 0, area.x1 - area.x0, false },
        { p->xlabel, centre, area.y1 + 36 * u, 0.5, area.x1 - area.x0, false },
        { p->ylabel, box.x0 + PLOT_MARGIN * u + 5 * u, middle, 0.5, area.y1 - area.y0, true },
    };
    for (size_t i = 0; i < COUNT_OF(labels); i++) {
        if (!labels[i].text) continue;
        char *fits = plot_fit_text(c, size, labels[i].text, labels[i].room);
        plot_text(c, labels[i].x, labels[i].y, labels[i].anchor, labels[i].up, size, plot_text_dark, fits);
        free(fits);
    }
}

// True where an earlier series of the picture has this label already: the legend of all panels names each once.
static inline bool plot_label_seen(const PlotPanel *panels, int panel, int series) {
    const char *label = panels[panel].series[series].label;
    for (int p = 0; p <= panel; p++)
        for (int k = 0; k < (p < panel ? panels[p].n_series : series); k++)
            if (panels[p].series[k].label && strcmp(panels[p].series[k].label, label) == 0) return true;
    return false;
}

// What the legend shows of a series: a short piece of it, `width` pixels long, that begins at (x, y).
static inline void plot_sample(PlotCanvas *c, const PlotSeries *s, double x, double y, double width, double u) {
    double xs[] = { x, x + width }, ys[] = { y, y }, lo[] = { y + 6 * u, y + 6 * u }, hi[] = { y - 6 * u, y - 6 * u };
    double centre = x + width / 2;
    PlotSeries line = *s, point = *s;
    line.style &= ~(unsigned)PLOT_DOTS;
    point.style &= PLOT_DOTS;
    PlotRect all = plot_everything(c);
    double visible = s->style & PLOT_FAINT ? 3 * u : u;
    if (line.style || !s->style) plot_marks(c, all, &line, xs, s->style == PLOT_BAND ? NULL : ys, lo, hi, 2, visible);
    if (point.style) plot_marks(c, all, &point, &centre, &y, NULL, NULL, 1, u);
}

// The legend of all panels, from y downwards in as many rows as it needs. Returns its height.
static inline double plot_legend(PlotCanvas *c, const PlotPanel *panels, int n_panels, double y, double u) {
    double left = PLOT_MARGIN * u, right = c->width - left, sample = 28 * u, gap = 7 * u, size = PLOT_LABEL_SIZE * u;
    double x = left, middle = y + PLOT_ROW * u / 2;
    for (int p = 0; p < n_panels; p++)
        for (int k = 0; k < panels[p].n_series; k++) {
            const PlotSeries *s = &panels[p].series[k];
            if (!s->label || plot_label_seen(panels, p, k)) continue;
            char *text = plot_fit_text(c, size, s->label, right - left - sample - gap);
            double width = sample + gap + plot_text_width(c, size, text);
            if (x > left && x + width > right) { x = left; middle += PLOT_ROW * u; }
            plot_sample(c, s, x, middle, sample, u);
            plot_text(c, x + sample + gap, middle, 0, false, size, plot_text_dark, text);
            x += width + PLOT_ROW * u;
            free(text);
        }
    return x > left ? middle + PLOT_ROW * u / 2 - y : 0;
}

// ---------------------------------------------------------------------------------------------------------------------
// Pictures

/* The picture as width x height x 3 bytes of RGB, rows from the top; the caller frees it. Arguments are those of
 * plot_png_small. NULL with errno EINVAL where a size isn't in 1 ... PLOT_MAX_SIZE or rows < 1. */
static inline unsigned char *plot_render_rows(const char *title, const PlotPanel *panels, int n_panels, int rows,
                                              int width, int height) {
    if (width < 1 || height < 1 || width > PLOT_MAX_SIZE || height > PLOT_MAX_SIZE || n_panels < 0 || rows < 1) {
        errno = EINVAL;
        return NULL;
    }
    size_t pixels = (size_t)width * (size_t)height;
    PlotCanvas c = { .width = width, .height = height, .dirty = { width, height, 0, 0 } };
    c.rgb = (unsigned char *)xmalloc(pixels * 3);
    c.mask = (float *)xcalloc(pixels, sizeof *c.mask);
    memset(c.rgb, 255, pixels * 3);
    plot_find_font(&c);

    int columns = n_panels > 0 ? (n_panels - 1) / rows + 1 : 1;
    double u = fmax(1, fmin(height / (480.0 * rows), width / (420.0 * columns))), y = 10 * u;
    if (title) {
        char *fits = plot_fit_text(&c, PLOT_TITLE_SIZE * u, title, width - 2 * PLOT_MARGIN * u);
        plot_text(&c, PLOT_MARGIN * u, y + 14 * u, 0, false, PLOT_TITLE_SIZE * u, plot_text_dark, fits);
        free(fits);
        y += 32 * u;
    }
    y += plot_legend(&c, panels, n_panels, y, u) + 10 * u;
    for (int p = 0; p < n_panels; p++) {
        long row = p / columns, column = p % columns;
        double row_height = (height - y) / rows;
        PlotRect box = { (int)(width * column / columns), (int)(y + row_height * (double)row),
                         (int)(width * (column + 1) / columns), (int)(height - row_height * (double)(rows - 1 - row)) };
        plot_panel(&c, box, &panels[p], u);
    }
    free(c.mask);
    free(c.font_file);
    return c.rgb;
}

// The panels side by side.
static inline unsigned char *plot_render(const char *title, const PlotPanel *panels, int n_panels,
                                         int width, int height) {
    return plot_render_rows(title, panels, n_panels, 1, width, height);
}

/* Draws the panels side by side, a title above them (NULL: none) and one legend for all, into a PNG of width x height
 * pixels that replaces path as a whole or not at all. Text and lines grow with the picture; 800 x 480 for each panel is
 * a good size, twice that prints well. Returns 0, or -1 with errno set: EINVAL where a size isn't in
 * 1 ... PLOT_MAX_SIZE, else what writing the file met. */
static inline int plot_png(const char *path, const char *title, const PlotPanel *panels, int n_panels,
                           int width, int height) {
    unsigned char *rgb = plot_render(title, panels, n_panels, width, height);
    if (!rgb) return -1;
    int size = 0;
    stbi_write_force_png_filter = 0;                    // none: even areas pack best as they are
    stbi_write_png_compression_level = 6;
    unsigned char *png = stbi_write_png_to_mem(rgb, 3 * width, width, height, 3, &size);
    free(rgb);
    if (!png) { errno = ENOMEM; return -1; }
    int result = write_file(path, png, (size_t)size), error = errno;
    free(png);
    errno = error;
    return result;
}

enum { PLOT_BUCKETS = 1 << 15, PLOT_PALETTE = 256 };

static inline int plot_bucket(const unsigned char *p) {
    return p[0] >> 3 << 10 | p[1] >> 3 << 5 | p[2] >> 3;
}

// The middle of a bucket's colours, but black and white as they are.
static inline PlotColor plot_bucket_color(int bucket) {
    int r = bucket >> 10, g = bucket >> 5 & 31, b = bucket & 31;
    return (PlotColor){ (unsigned char)(r * 255 / 31), (unsigned char)(g * 255 / 31), (unsigned char)(b * 255 / 31) };
}

/* The picture in at most 256 colours, and for each pixel its number: of the colours in 5 bits per channel (the buckets)
 * the most frequent ones, and for every other the nearest of those. Returns how many there are. */
static inline int plot_quantize(const unsigned char *rgb, size_t pixels, PlotColor *palette, unsigned char *index) {
    int *counts = (int *)xcalloc(PLOT_BUCKETS, sizeof *counts), n = 0;
    unsigned char *number = (unsigned char *)xcalloc(PLOT_BUCKETS, 1);
    for (size_t i = 0; i < pixels; i++) counts[plot_bucket(rgb + 3 * i)]++;
    for (; n < PLOT_PALETTE; n++) {
        int most = 0;
        for (int k = 1; k < PLOT_BUCKETS; k++)
            if (counts[k] > counts[most]) most = k;
        if (counts[most] <= 0) break;
        palette[n] = plot_bucket_color(most);
        number[most] = (unsigned char)n;
        counts[most] = -1;                                                  // has its own colour
    }
    for (int k = 0; k < PLOT_BUCKETS; k++) {
        PlotColor c = plot_bucket_color(k);
        for (int i = 0, nearest = INT_MAX; counts[k] > 0 && i < n; i++) {
            int r = c.r - palette[i].r, g = c.g - palette[i].g, b = c.b - palette[i].b, d = r * r + g * g + b * b;
            if (d < nearest) { nearest = d; number[k] = (unsigned char)i; }
        }
    }
    for (size_t i = 0; i < pixels; i++) index[i] = number[plot_bucket(rgb + 3 * i)];
    free(counts);
    free(number);
    return n;
}

// Appends a chunk to a PNG (RFC 2083): length, type, data, CRC of type and data.
static inline unsigned char *plot_chunk(unsigned char *out, const char *type, const void *data, uint32_t size) {
    uint32_t length = htonl(size), crc;
    memcpy(out, &length, 4);
    memcpy(out + 4, type, 4);
    if (size > 0) memcpy(out + 8, data, size);
    crc = htonl(crc_of(0, out + 4, size + 4));
    memcpy(out + 8 + size, &crc, 4);
    return out + 12 + size;
}

/* As plot_png, but the panels in rows and the file with a palette of 256 colours: a third of the size, for pictures
 * that are kept with the project. errno is EINVAL also where rows < 1. */
static inline int plot_png_small(const char *path, const char *title, const PlotPanel *panels, int n_panels, int rows,
                                 int width, int height) {
    unsigned char *rgb = plot_render_rows(title, panels, n_panels, rows, width, height);
    if (!rgb) return -1;
    size_t line = (size_t)width + 1, pixels = (size_t)width * (size_t)height;
    unsigned char *index = (unsigned char *)xmalloc(pixels), *lines = (unsigned char *)xcalloc((size_t)height, line);
    PlotColor palette[PLOT_PALETTE];
    int colors = plot_quantize(rgb, pixels, palette, index);
    for (size_t y = 0; y < (size_t)height; y++)                             // each line after a zero: filter "none"
        memcpy(lines + y * line + 1, index + y * (size_t)width, (size_t)width);
    size_t packed;
    unsigned char *data = deflated(lines, line * (size_t)height, 9, &packed);
    unsigned char *png = (unsigned char *)xmalloc(packed + 1024), *end;
    uint32_t size[] = { htonl((uint32_t)width), htonl((uint32_t)height) };
    unsigned char header[13] = { [8] = 8, [9] = 3 };                        // 8 bits, a palette
    memcpy(header, size, sizeof size);
    end = (unsigned char *)memcpy(png, "\x89PNG\r\n\x1a\n", 8) + 8;
    end = plot_chunk(end, "IHDR", header, sizeof header);
    end = plot_chunk(end, "PLTE", palette, (uint32_t)(3 * colors));
    end = plot_chunk(end, "IDAT", data, (uint32_t)packed);
    end = plot_chunk(end, "IEND", NULL, 0);
    int result = write_file(path, png, (size_t)(end - png)), error = errno;
    free(rgb);
    free(index);
    free(lines);
    free(data);
    free(png);
    errno = error;
    return result;
}

#endif // PLOT_H
