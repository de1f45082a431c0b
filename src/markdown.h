/* markdown.h - tables in Markdown.
 *
 * defines: markdown_field, markdown_rule; MarkdownTable, markdown_start, markdown_cell, markdown_end
 * The first two write a table as its rows come, the others one whose columns' widths are known at its end. A table whose number of
 * columns is computed begins as { .columns = n }.
 */
#ifndef MARKDOWN_H
#define MARKDOWN_H

#include "utf8.h"
#include "util.h"

// The next field of a row, its text to the left or right in `width` characters; `last` ends the row.
static inline void markdown_field(FILE *out, const char *text, int width, bool right, bool last) {
    int fill = width - utf8_length(text), left = right && fill > 0 ? fill : 0, behind = right || fill < 0 ? 0 : fill;
    fprintf(out, "| %*s%s%*s%s%s", left, "", text, behind, "", *text || width ? " " : "", last ? "|\n" : "");
}

// A field of the line below a table's head, likewise.
static inline void markdown_rule(FILE *out, int width, bool right, bool last) {
    fputc('|', out);
    for (int i = 0; i < width + !right; i++) fputc('-', out);
    fprintf(out, "%s%s", right ? "-:" : "-", last ? "|\n" : "");
}

typedef struct { int columns, n; char **cells; } MarkdownTable;

// The next cells, one or several between tabs; row by row, the first row is the head. A | of the text becomes \|.
PRINTF_LIKE(2, 3) static inline void markdown_cell(MarkdownTable *t, const char *fmt, ...) {
    va_list args;
    char *text, *cell;
    size_t size;
    FILE *out = text_open(&text, &size);
    va_start(args, fmt);
    vfprintf(out, fmt, args);
    va_end(args);
    text_close(out, &text);
    for (char *rest = text; (cell = strsep(&rest, "\t")); ) {
        if (t->n % 16 == 0) t->cells = (char **)xrealloc(t->cells, (size_t)(t->n + 16) * sizeof *t->cells);
        char *to = t->cells[t->n++] = (char *)xmalloc(2 * strlen(cell) + 1);
        for (; *cell; *to++ = *cell++)
            if (*cell == '|') *to++ = '\\';
        *to = '\0';
    }
    free(text);
}

// A table with these columns: "arm\tloss".
static inline MarkdownTable markdown_start(const char *heads) {
    MarkdownTable t = { 0 };
    markdown_cell(&t, "%s", heads);
    t.columns = t.n;
    return t;
}

// Writes the table and frees it. aligned: its columns stand below each other, names to the left and numbers, which all
// columns but the first have, to the right; else no wider than its texts.
static inline void markdown_end(FILE *out, MarkdownTable *t, bool aligned) {
    int *widths = (int *)xcalloc((size_t)t->columns, sizeof *widths);
    for (int i = 0; i < t->columns && aligned; i++) widths[i] = 3;
    for (int i = 0; i < t->n && aligned; i++) {
        int width = utf8_length(t->cells[i]), *most = &widths[i % t->columns];
        if (width > *most) *most = width;
    }
    for (int i = 0; i < t->n; i++) {
        int column = i % t->columns;
        bool last = column == t->columns - 1;
        markdown_field(out, t->cells[i], widths[column], aligned && column > 0, last);
        for (int k = 0; k < t->columns && i == t->columns - 1; k++)
            markdown_rule(out, aligned ? widths[k] : 1, aligned && k > 0, k == t->columns - 1);
        free(t->cells[i]);
    }
    free(t->cells);
    free(widths);
    memset(t, 0, sizeof *t);
}

#endif // MARKDOWN_H
