/* law.h - what loss a model of some size reaches on some text: a law fitted to runs of this project (configs/law.json).
 *
 * defines: LawOf, Law, law_read, law_deflate_bits, law_known, law_knows, law_hardness, law_effective_bytes, law_raw_bytes, law_bits,
 *          law_best_bytes, law_best_weights
 *
 * Bits per byte of validation, for N weights and D bytes of training text that count:
 *
 *     s (E + ((A / N^a)^(1/b) + (B / D^b)^(1/b))^b) (1 + k log2(V / best)^2)
 *
 * The form of Kaplan et al. (arXiv 2001.08361, eq. 1.5) with a floor E: where text is scarce more weights hardly help, and the
 * reverse; the plain sum of both terms (Hoffmann et al., arXiv 2203.15556, eq. 2) fits these runs worse. N are the weights that
 * multiply each token (all matrices of the blocks, and the head; neither embedding nor norms). D_raw bytes of a text of U bytes
 * count as D = D_raw up to U, then as U +
 * U R (1 - exp(-(D_raw / U - 1) / R)) (Muennighoff et al., arXiv 2305.16264, eq. 5): of repetitions R at most. V is the
 * vocabulary. s is how hard the text is, 1 for the King James text: of a text that the law was fitted to as fitted, of another the bits
 * a byte that deflate takes, over those of the King James text.
 */
#ifndef LAW_H
#define LAW_H

#include "../src/gzip.h"
#include "../src/json.h"
#include "../src/util.h"

typedef struct { double E, A, a, B, b, repeat, sd; } LawOf;      // sd: of the loss that was measured around the law, as a share of it

typedef struct {
    LawOf muon, adamw;
    double best_vocab, vocab_k, kjv_deflate;
    struct { double deflate, hardness; } texts[8];       // that it was fitted to; zeros behind them
    double params[2], bytes[2];          // that it was fitted to
} Law;

static inline double law_number(const cJSON *item, const char *path, const char *key, double least) {
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= least) || !isfinite(item->valuedouble))
        fail_usage("%s: %s: %s; a number of at least %g is expected", path, key, item ? "no such number" : "missing", least);
    return item->valuedouble;
}

static inline const cJSON *law_item(const cJSON *object, const char *key) { return cJSON_GetObjectItemCaseSensitive(object, key); }

static inline LawOf law_of(const cJSON *root, const char *path, const char *optimizer) {
    static const char *const keys[] = {"E", "A", "a", "B", "b", "repeat", "sd"};
    double v[COUNT_OF(keys)];
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        char *name = format("%s.%s", optimizer, keys[i]);
        v[i] = law_number(law_item(law_item(root, optimizer), keys[i]), path, name, i == 0 || i == 6 ? 0 : 1e-6);
        free(name);
    }
    return (LawOf){v[0], v[1], v[2], v[3], v[4], v[5], v[6]};
}

// The law in a file; a line that names the file and the key ends the program where it is none.
static inline Law law_read(const char *path) {
    size_t size;
    char *text = read_file(path, &size), error[ERROR_ROOM];
    if (!text) fail_usage("%s: cannot be read: %s", path, strerror(errno));
    JsonReader r = {.name = path, .has_lines = true, .error = error, .room = sizeof error};
    if (!json_parse_object(&r, text, size)) fail_usage("%s", error);
    const cJSON *vocab = law_item(r.root, "vocab"), *range = law_item(r.root, "range"), *kjv = law_item(law_item(r.root, "texts"), "kjv");
    Law law = {.muon = law_of(r.root, path, "muon"), .adamw = law_of(r.root, path, "adamw"),
               .best_vocab = law_number(law_item(vocab, "best"), path, "vocab.best", 1),
               .vocab_k = law_number(law_item(vocab, "k"), path, "vocab.k", 0),
               .kjv_deflate = law_number(law_item(kjv, "deflate"), path, "texts.kjv.deflate", 1e-6)};
    int texts = 0;
    for (const cJSON *one = law_item(r.root, "texts")->child; one && texts < (int)COUNT_OF(law.texts); one = one->next, texts++) {
        law.texts[texts].deflate = law_number(law_item(one, "deflate"), path, "texts.*.deflate", 1e-6);
        law.texts[texts].hardness = law_number(law_item(one, "hardness"), path, "texts.*.hardness", 1e-6);
    }
    for (int i = 0; i < 2; i++) {
        law.params[i] = law_number(cJSON_GetArrayItem(law_item(range, "params"), i), path, "range.params", 1);
        law.bytes[i] = law_number(cJSON_GetArrayItem(law_item(range, "bytes"), i), path, "range.bytes", 1);
    }
    json_free(&r);
    free(text);
    return law;
}

// How hard a text is to deflate: bits a byte of its first MiB, level 9, its documents without anything between them. The fit and the
// planner must mean the same by it.
static inline double law_deflate_bits(const void *text, size_t n) {
    size_t size;
    n = n < 1 << 20 ? n : 1 << 20;
    free(deflated(text, n, 9, &size));
    return 8.0 * (double)size / (double)n;
}

// Which of the texts that it was fitted to this is, by the bits a byte that deflate makes of it; -1: none.
static inline int law_known(const Law *law, double deflate) {
    for (size_t i = 0; i < COUNT_OF(law->texts); i++)
        if (fabs(law->texts[i].deflate / deflate - 1) < 1e-3) return (int)i;
    return -1;
}

// Of other texts its error isn't known.
static inline bool law_knows(const Law *law, double deflate) { return law_known(law, deflate) >= 0; }

// s of a text, by the bits a byte that deflate takes.
static inline double law_hardness(const Law *law, double deflate) {
    int known = law_known(law, deflate);
    return known >= 0 ? law->texts[known].hardness : deflate / law->kjv_deflate;
}

// D of `raw` bytes read from a text of U.
static inline double law_effective_bytes(const LawOf *l, double raw, double U) {
    return raw <= U ? raw : U + U * l->repeat * (1 - exp(-(raw / U - 1) / l->repeat));
}

// The bytes to read for D that count: its inverse. INFINITY: the text has not so many, however often it is read.
static inline double law_raw_bytes(const LawOf *l, double D, double U) {
    double rest = 1 - (D - U) / (U * l->repeat);
    return D <= U ? D : rest <= 0 ? INFINITY : U - U * l->repeat * log(rest);
}

// Bits per byte. N: weights; raw: bytes read in training, of a text of U bytes; V: tokens of the vocabulary; s: how
// hard the text is.
static inline double law_bits(const Law *law, const LawOf *l, double N, double raw, double U, double V, double s) {
    double octaves = log2(V / law->best_vocab);
    double lack = pow(l->A, 1 / l->b) / pow(N, l->a / l->b) + pow(l->B, 1 / l->b) / law_effective_bytes(l, raw, U);
    return s * (l->E + pow(lack, l->b)) * (1 + law->vocab_k * octaves * octaves);
}

// The compute-optimal D for N weights and N for D bytes: where along N D = constant the loss is least,
// (a / b) (A / N^a)^(1/b) = (B / D^b)^(1/b).
static inline double law_best_bytes(const LawOf *l, double N) { return l->b / l->a * pow(l->B / l->A * pow(N, l->a), 1 / l->b); }

static inline double law_best_weights(const LawOf *l, double D) {
    return pow(l->A / l->B * pow(l->a / l->b * D, l->b), 1 / l->a);
}

#endif // LAW_H
