/* config.h - a strict JSON config driven by one table of fields (the reader of JSON is json.h).
 *
 * defines: Field, FieldType, ConfigList, ConfigMap, ConfigPreset, ConfigSource, config_load, config_load_text, config_try,
 *          config_write, config_text, config_value_text, config_help, config_choice_name, config_copy, config_differences,
 *          config_find, config_name_now, config_free
 *
 * The table says of every key "section.key" (any depth) where in the program's struct it goes, of what type it is, its
 * default, its range and its help. Nothing here knows a key. The sources of a value, weakest first:
 *
 *     the table's default < the preset of a choice < the file < --section.key=value (the last one of a key)
 *
 * All four take one road: text -> JSON and where each value stands (json.h) -> field.
 */
#ifndef CONFIG_H
#define CONFIG_H

#include <ctype.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include "json.h"
#include "markdown.h"
#include "util.h"

typedef enum {
    FIELD_INT,          // int
    FIELD_INT64,        // int64_t, |x| <= 2^53: what every JSON reader keeps exactly
    FIELD_FLOAT,        // double
    FIELD_BOOL,         // bool
    FIELD_STRING,       // char *, malloc'ed, never NULL
    FIELD_CHOICE,       // int, index into choices; the choices true and false are JSON's
    FIELD_LIST,         // ConfigList
    FIELD_MAP           // ConfigMap
} FieldType;

typedef struct { int n; double *v; } ConfigList;
typedef struct { int n; char **keys, **values; } ConfigMap;

typedef struct {
    const char *key;        // "train.steps"; the keys of a section stand together in the table
    FieldType type;
    size_t offset;          // in the program's struct
    const char *initial;    // the default, written as in an override: 3, true, some text, 1,2,3, q=adamw,k=adamw
    double min, max;        // of numbers and of a list's items; both 0: no bound but the type's
    const char *choices;    // "constant|cosine"; of a map "q|k|v:adamw|muon", keys before the colon, values behind,
                            // an empty side means any; else NULL
    const char *help;
} Field;

// Where the choice `field` ends up as `choice`, the default of `key` is `value`. Later rows see what earlier ones did.
typedef struct { const char *field, *choice, *key, *value; } ConfigPreset;

// Where a field's value comes from, weakest first.
typedef enum { CONFIG_DEFAULT, CONFIG_PRESET, CONFIG_FILE, CONFIG_COMMAND } ConfigSource;

static const double CONFIG_MAX_INTEGER = 9007199254740992.0;    // 2^53

// ---------------------------------------------------------------------------------------------------------------------
// The table

static inline const Field *config_find(const Field *fields, int n, const char *key) {
    for (int i = 0; i < n; i++)
        if (strcmp(fields[i].key, key) == 0) return &fields[i];
    return NULL;
}

// Keys that have another name now. The former one is still read, in files, on the command line and in logs.
static inline const char *config_name_now(const char *key) {
    static const char *const former[][2] = { { "model.block", "model.context" } };
    for (size_t i = 0; i < COUNT_OF(former); i++)
        if (strcmp(key, former[i][0]) == 0) return former[i][1];
    return key;
}

// Choices that have another name now, likewise. what: said with the note, where that helps.
static inline const char *config_choice_now(const char *key, const char *choice, const char **what) {
    static const struct { const char *key, *former, *now, *what; } former[] = {
        { "optimizer.muon.coefficients", "quintic", "bjorck", ", (15/8, -10/8, 3/8); what timm and pytorch_optimizer call quintic is youjiacheng" } };
    for (size_t i = 0; i < COUNT_OF(former); i++)
        if (strcmp(key, former[i].key) == 0 && strcmp(choice, former[i].former) == 0) {
            *what = former[i].what;
            return former[i].now;
        }
    return NULL;
}

// The field of a key that a user has written, by its former name too, with a note; NULL where there is none.
static inline const Field *config_find_given(const Field *fields, int n, const char *key) {
    static bool noted;
    const Field *f = config_find(fields, n, key);
    if (f || !(f = config_find(fields, n, config_name_now(key)))) return f;
    if (!noted) fprintf(stderr, "note: %s is called %s now\n", key, f->key);
    noted = true;
    return f;
}

// The first key of a section ("train", "optimizer.muon"), or NULL where it is none.
static inline const Field *config_find_section(const Field *fields, int n, const char *section) {
    size_t length = strlen(section);
    for (int i = 0; i < n; i++)
        if (strncmp(fields[i].key, section, length) == 0 && fields[i].key[length] == '.') return &fields[i];
    return NULL;
}

// The index-th name of "a|b|c", which ends at a colon or NUL, with its length; NULL behind the last one.
static inline const char *config_name_at(const char *names, int index, int *length) {
    for (;; index--) {
        *length = (int)strcspn(names, "|:");
        if (index == 0) return names;
        if (names[*length] != '|') return NULL;
        names += *length + 1;
    }
}

// Where name stands in "a|b|c", or -1.
static inline int config_name_index(const char *names, const char *name) {
    int length;
    const char *at;
    for (int i = 0; (at = config_name_at(names, i, &length)); i++)
        if (strlen(name) == (size_t)length && memcmp(at, name, (size_t)length) == 0) return i;
    return -1;
}

// Where a choice that a user has written stands among the field's, by its former name too, with a note; -1: nowhere.
static inline int config_choice_given(const Field *f, const char *choice) {
    static bool noted;
    const char *now, *what;
    int index = config_name_index(f->choices, choice);
    if (index >= 0 || !(now = config_choice_now(f->key, choice, &what))) return index;
    if (!noted) fprintf(stderr, "note: %s: %s is called %s now%s\n", f->key, choice, now, what);
    noted = true;
    return config_name_index(f->choices, now);
}

static inline bool config_names_any(const char *names) { return !names || *names == '\0' || *names == ':'; }

// The names that a map's values may have: what stands behind the colon.
static inline const char *config_map_values(const Field *f) {
    const char *colon = f->choices ? strchr(f->choices, ':') : NULL;
    return colon ? colon + 1 : NULL;
}

// The range that holds for a number: the table's within the type's.
static inline void config_range(const Field *f, double *min, double *max) {
    *max = f->type == FIELD_INT ? INT_MAX : f->type == FIELD_INT64 ? CONFIG_MAX_INTEGER : DBL_MAX;
    *min = f->type == FIELD_INT ? INT_MIN : -*max;
    if (f->min == 0 && f->max == 0) return;
    if (f->min > *min) *min = f->min;
    if (f->max < *max) *max = f->max;
}

// ---------------------------------------------------------------------------------------------------------------------
// Values as text

static inline void config_put_names(FILE *out, const char *names, const char *mark) {
    int length;
    const char *name;
    for (int i = 0; (name = config_name_at(names, i, &length)); i++)
        fprintf(out, "%s%s%.*s%s", i ? ", " : "", mark, length, name, mark);
}

// What a field may be, such as "integer from 1 to 10" or "one of a, b". `mark` stands around names: "`" in Markdown.
static inline void config_put_kind(FILE *out, const Field *f, const char *mark) {
    static const char *const names[] = { "integer", "integer", "number", "true or false", "string", "one of ",
                                         "list of numbers", "names" };
    fputs(names[f->type], out);
    bool integer = f->type == FIELD_INT || f->type == FIELD_INT64;
    if (integer || ((f->type == FIELD_FLOAT || f->type == FIELD_LIST) && (f->min != 0 || f->max != 0))) {
        double min, max;
        char a[32], b[32];
        config_range(f, &min, &max);
        fprintf(out, " from %s to %s", json_number(a, min), json_number(b, max));
    }
    if (f->type == FIELD_CHOICE) config_put_names(out, f->choices, mark);
    if (f->type != FIELD_MAP) return;
    if (!config_names_any(f->choices)) { fputs(" ", out); config_put_names(out, f->choices, mark); }
    fputs(", each with ", out);
    if (config_names_any(config_map_values(f))) fputs("a string", out);
    else { fputs("one of ", out); config_put_names(out, config_map_values(f), mark); }
}

// The same as a string; to be freed.
static inline char *config_kind(const Field *f, const char *mark) {
    char *kind;
    size_t size;
    FILE *out = text_open(&kind, &size);
    config_put_kind(out, f, mark);
    text_close(out, &kind);
    return kind;
}

// The value that the field has in config, as JSON on one line.
static inline void config_put_value(FILE *out, const void *config, const Field *f) {
    const void *at = (const char *)config + f->offset;
    char buffer[32];
    int length;
    switch (f->type) {
    case FIELD_INT: fprintf(out, "%d", *(const int *)at); break;
    case FIELD_INT64: fprintf(out, "%lld", (long long)*(const int64_t *)at); break;
    case FIELD_FLOAT: fputs(json_number(buffer, *(const double *)at), out); break;
    case FIELD_BOOL: fputs(*(const bool *)at ? "true" : "false", out); break;
    case FIELD_STRING: json_put_string(out, *(char *const *)at, SIZE_MAX); break;
    case FIELD_CHOICE: {
        const char *name = config_name_at(f->choices, *(const int *)at, &length);
        bool boolean = (length == 4 && !strncmp(name, "true", 4)) || (length == 5 && !strncmp(name, "false", 5));
        fprintf(out, boolean ? "%.*s" : "\"%.*s\"", length, name);
        break;
    }
    case FIELD_LIST: {
        const ConfigList *list = (const ConfigList *)at;
        fputc('[', out);
        for (int i = 0; i < list->n; i++) fprintf(out, "%s%s", i ? ", " : "", json_number(buffer, list->v[i]));
        fputc(']', out);
        break;
    }
    case FIELD_MAP: {
        const ConfigMap *map = (const ConfigMap *)at;
        fputc('{', out);
        for (int i = 0; i < map->n; i++) {
            if (i) fputs(", ", out);
            json_put_string(out, map->keys[i], SIZE_MAX);
            fputs(": ", out);
            json_put_string(out, map->values[i], SIZE_MAX);
        }
        fputc('}', out);
    }
    }
}

// One value as JSON; the caller frees it.
static inline char *config_value_text(const void *config, const Field *f) {
    char *text;
    size_t size;
    FILE *out = text_open(&text, &size);
    config_put_value(out, config, f);
    text_close(out, &text);
    return text;
}

// The whole config as nested JSON in the order of the table. Loading it gives the same config again, to the bit.
static inline void config_write(FILE *out, const void *config, const Field *fields, int n) {
    const char *before = "";
    int depth = 1;
    bool first = true;                          // in its object
    fputc('{', out);
    for (int i = 0; i < n; i++) {
        const char *key = fields[i].key, *name = key;
        int shared = 1;                         // the depth at which this key leaves the one before
        for (int j = 0; before[j] && before[j] == key[j]; j++)
            if (key[j] == '.') { name = key + j + 1; shared++; }
        for (; depth > shared; depth--) fprintf(out, "\n%*s}", 2 * (depth - 1), "");
        for (const char *dot; ; name = dot + 1) {
            dot = strchr(name, '.');
            fprintf(out, "%s\n%*s\"%.*s\": ", first ? "" : ",", 2 * depth, "", (int)strcspn(name, "."), name);
            first = dot != NULL;
            if (!dot) break;
            fputc('{', out);
            depth++;
        }
        config_put_value(out, config, &fields[i]);
        before = key;
    }
    for (depth--; depth >= 0; depth--) fprintf(out, "\n%*s}", 2 * depth, "");
    fputc('\n', out);
}

// config_write into a string; the caller frees it.
static inline char *config_text(const void *config, const Field *fields, int n) {
    char *text;
    size_t size;
    FILE *out = text_open(&text, &size);
    config_write(out, config, fields, n);
    text_close(out, &text);
    return text;
}

// ---------------------------------------------------------------------------------------------------------------------
// Memory

static inline void config_clear(void *config, const Field *f) {
    void *at = (char *)config + f->offset;
    if (f->type == FIELD_STRING) {
        free(*(char **)at);
        *(char **)at = NULL;
    } else if (f->type == FIELD_LIST) {
        free(((ConfigList *)at)->v);
        *(ConfigList *)at = (ConfigList){ 0, NULL };
    } else if (f->type == FIELD_MAP) {
        ConfigMap *map = (ConfigMap *)at;
        for (int i = 0; i < map->n; i++) { free(map->keys[i]); free(map->values[i]); }
        free(map->keys);
        free(map->values);
        *map = (ConfigMap){ 0, NULL, NULL };
    }
}

// Frees the strings, lists and maps of config and leaves them empty.
static inline void config_free(void *config, const Field *fields, int n) {
    for (int i = 0; i < n; i++) config_clear(config, &fields[i]);
}

// ---------------------------------------------------------------------------------------------------------------------
// The reader: what is being filled in, and the text that is being read

typedef struct {
    void *config;
    const Field *fields;
    int n_fields;
    ConfigSource *from;             // of each field; what the file or an override gives no preset may change
    JsonReader json;                // of the text that is being read: the file, an override, a default
} ConfigReader;

// ---------------------------------------------------------------------------------------------------------------------
// From JSON to a field

// "<value> <why>, expected <what the field may be>"; why: NULL says the type that the value has.
static inline bool config_refuse(ConfigReader *r, int position, const Field *f, const cJSON *item, const char *why) {
    static const char *const articles[] = { "an ", "an ", "a ", "", "a ", "", "a ", "an object: " };
    const char *raw = r->json.positions[position].value, *type;
    char *text;
    size_t size;
    FILE *out = text_open(&text, &size);
    if (cJSON_IsString(item)) {
        type = "is a string";
        json_put_string(out, item->valuestring, 60);
    } else if (cJSON_IsNumber(item)) {
        type = "is a number";
        fprintf(out, "%.*s", (int)strspn(raw, "+-.0123456789eE"), raw);
    } else {
        bool list = cJSON_IsArray(item), object = cJSON_IsObject(item), boolean = cJSON_IsBool(item);
        type = list ? "is a list" : object ? "is an object" : boolean ? "is a boolean" : "is no value";
        fputs(list ? "[...]" : object ? "{...}" : !boolean ? "null" : cJSON_IsTrue(item) ? "true" : "false", out);
    }
    fprintf(out, " %s, expected %s", why ? why : type, articles[f->type]);
    config_put_kind(out, f, "");
    text_close(out, &text);
    json_error(&r->json, r->json.positions[position].line, f->key, "%s", text);
    free(text);
    return false;
}

static inline bool config_set_integer(ConfigReader *r, int position, const Field *f, const cJSON *item) {
    double min, max;
    config_range(f, &min, &max);
    if (!cJSON_IsNumber(item)) return config_refuse(r, position, f, item, NULL);
    char *end;
    long long x = strtoll(r->json.positions[position].value, &end, 10);  // saturates; cJSON's double makes 2^53 of 2^53 + 1
    if (*end == '.' || *end == 'e' || *end == 'E')
        return config_refuse(r, position, f, item, "is not written as an integer");
    if (x < (long long)min || x > (long long)max)
        return config_refuse(r, position, f, item, "is out of range");
    void *at = (char *)r->config + f->offset;
    if (f->type == FIELD_INT) *(int *)at = (int)x;
    else *(int64_t *)at = x;
    return true;
}

static inline bool config_set_float(ConfigReader *r, int position, const Field *f, const cJSON *item) {
    double min, max, x = item->valuedouble;
    config_range(f, &min, &max);
    if (!cJSON_IsNumber(item)) return config_refuse(r, position, f, item, NULL);
    if (!(x >= min && x <= max)) return config_refuse(r, position, f, item, "is out of range");
    *(double *)((char *)r->config + f->offset) = x;
    return true;
}

static inline bool config_set_list(ConfigReader *r, int position, const Field *f, const cJSON *item) {
    ConfigList *list = (ConfigList *)((char *)r->config + f->offset);
    const cJSON *x;
    double min, max;
    config_range(f, &min, &max);
    if (!cJSON_IsArray(item)) return config_refuse(r, position, f, item, NULL);
    config_clear(r->config, f);
    list->v = (double *)xcalloc((size_t)cJSON_GetArraySize(item), sizeof *list->v);
    cJSON_ArrayForEach(x, item) {
        char why[64];
        snprintf(why, sizeof why, "has item %d that is not allowed", list->n + 1);
        if (!cJSON_IsNumber(x) || !(x->valuedouble >= min && x->valuedouble <= max))
            return config_refuse(r, position, f, item, why);
        list->v[list->n++] = x->valuedouble;
    }
    return true;
}

static inline bool config_set_map(ConfigReader *r, int position, const Field *f, const cJSON *item) {
    ConfigMap *map = (ConfigMap *)((char *)r->config + f->offset);
    const char *values = config_map_values(f);
    const cJSON *x;
    if (!cJSON_IsObject(item)) return config_refuse(r, position, f, item, NULL);
    config_clear(r->config, f);
    map->keys = (char **)xcalloc((size_t)cJSON_GetArraySize(item), sizeof *map->keys);
    map->values = (char **)xcalloc((size_t)cJSON_GetArraySize(item), sizeof *map->values);
    cJSON_ArrayForEach(x, item) {
        position++;                             // of this entry: a map's values are no objects
        char *key = format("%s.%s", f->key, x->string);
        bool any = config_names_any(values), fine = true;
        Field value = { key, any ? FIELD_STRING : FIELD_CHOICE, 0, NULL, 0, 0, values, NULL };
        for (int i = 0; i < map->n && fine; i++)
            if (strcmp(map->keys[i], x->string) == 0)
                fine = json_error(&r->json, r->json.positions[position].line, key, "%s is given twice", x->string);
        if (fine && !config_names_any(f->choices) && config_name_index(f->choices, x->string) < 0) {
            Field name = { key, FIELD_CHOICE, 0, NULL, 0, 0, f->choices, NULL };
            cJSON *unknown = cJSON_CreateStringReference(x->string);
            fine = config_refuse(r, position, &name, unknown, "is no name known here");
            cJSON_Delete(unknown);
        }
        if (fine && !cJSON_IsString(x)) fine = config_refuse(r, position, &value, x, NULL);
        if (fine && !any && config_name_index(values, x->valuestring) < 0)
            fine = config_refuse(r, position, &value, x, "is unknown");
        if (fine) {
            map->keys[map->n] = xstrdup(x->string);
            map->values[map->n++] = xstrdup(x->valuestring);
        }
        free(key);
        if (!fine) return false;
    }
    return true;
}

// Checks the value and puts it into the config. positions[position] is its place in the text.
static inline bool config_set(ConfigReader *r, int position, const Field *f, const cJSON *item) {
    void *at = (char *)r->config + f->offset;
    switch (f->type) {
    case FIELD_INT: case FIELD_INT64: return config_set_integer(r, position, f, item);
    case FIELD_FLOAT: return config_set_float(r, position, f, item);
    case FIELD_LIST: return config_set_list(r, position, f, item);
    case FIELD_MAP: return config_set_map(r, position, f, item);
    case FIELD_BOOL:
        if (!cJSON_IsBool(item)) return config_refuse(r, position, f, item, NULL);
        *(bool *)at = cJSON_IsTrue(item);
        return true;
    case FIELD_STRING:
        if (!cJSON_IsString(item)) return config_refuse(r, position, f, item, NULL);
        config_clear(r->config, f);
        *(char **)at = xstrdup(item->valuestring);
        return true;
    case FIELD_CHOICE: {
        bool boolean = cJSON_IsBool(item) && config_name_index(f->choices, "true") >= 0;
        if (!cJSON_IsString(item) && !boolean) return config_refuse(r, position, f, item, NULL);
        int index = config_choice_given(f, !boolean ? item->valuestring : cJSON_IsTrue(item) ? "true" : "false");
        if (index < 0) return config_refuse(r, position, f, item, "is unknown");
        *(int *)at = index;
        return true;
    }
    }
    return false;
}

// ---------------------------------------------------------------------------------------------------------------------
// Unknown keys

// Levenshtein's distance of a[0..n) and b[0..m), upper and lower case alike.
static inline int config_distance(const char *a, size_t n, const char *b, size_t m) {
    int row[80];
    if (n >= COUNT_OF(row) || m >= COUNT_OF(row)) return INT_MAX - 8;
    for (size_t j = 0; j <= m; j++) row[j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            int best = diagonal + (tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]));
            diagonal = row[j];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[m];
}

static inline const char *config_last_name(const char *key) {
    const char *dot = strrchr(key, '.');
    return dot ? dot + 1 : key;
}

/* The error of an unknown key, with the nearest known one where one is near. A right last name under the wrong section
 * counts as near too. section: the value is an object, so that it stands for a section. */
static inline bool config_unknown(ConfigReader *r, int line, const char *key, bool section) {
    const char *last = config_last_name(key), *nearest = NULL;
    size_t length = strlen(key), nearest_length = 0;
    int least = length / 3 > 2 ? (int)(length / 3) + 1 : 3;         // nothing as far as this is near
    for (int i = 0; i < r->n_fields; i++) {
        const char *known = r->fields[i].key;
        for (size_t end = strcspn(known, "."); ; end += 1 + strcspn(known + end + 1, ".")) {
            bool whole = known[end] == '\0';
            if (whole != section || (whole && r->fields[i].type == FIELD_MAP)) {
                int distance = config_distance(key, length, known, end);
                if (whole && !section) {
                    const char *name = config_last_name(known);
                    int by_last = 2 + config_distance(last, strlen(last), name, strlen(name));
                    if (by_last < distance) distance = by_last;
                }
                if (distance < least) { least = distance; nearest = known; nearest_length = end; }
            }
            if (whole) break;
        }
    }
    const char *dashes = r->json.has_lines ? "" : "--";
    if (!nearest) return json_error(&r->json, line, key, "unknown key; --help lists all keys");
    return json_error(&r->json, line, key, "unknown key, did you mean %s%.*s?", dashes, (int)nearest_length, nearest);
}

// ---------------------------------------------------------------------------------------------------------------------
// The sources

static inline bool config_take_object(ConfigReader *r, const cJSON *object, const char *section, int *position);

// One key of an object. *position is its own; behind it that of the last key within its value.
static inline bool config_take_key(ConfigReader *r, const cJSON *object, const cJSON *item, const char *key,
                                   int *position) {
    int line = r->json.positions[*position].line;
    for (const cJSON *earlier = object->child; earlier != item; earlier = earlier->next)
        if (strcmp(earlier->string, item->string) == 0) return json_error(&r->json, line, key, "the key is given twice");
    if (strchr(item->string, '.'))
        return json_error(&r->json, line, key, "a key has no dot, expected sections as objects, {\"a\": {\"b\": ...}}");
    const Field *f = config_find_given(r->fields, r->n_fields, key);
    const Field *first = config_find_section(r->fields, r->n_fields, key);
    if (f) {
        if (r->from[f - r->fields] == CONFIG_FILE)
            return json_error(&r->json, line, key, "is given by its other name, too");
        if (!config_set(r, *position, f, item)) return false;
        r->from[f - r->fields] = CONFIG_FILE;
        if (f->type == FIELD_MAP) *position += cJSON_GetArraySize(item);
        return true;
    }
    if (!first) return config_unknown(r, line, key, cJSON_IsObject(item));
    if (!cJSON_IsObject(item))
        return json_error(&r->json, line, key, "is a section, expected an object {...} with keys such as %s", first->key);
    return config_take_object(r, item, key, position);
}

// Every key of an object, in the order in which the scan has noted their positions.
static inline bool config_take_object(ConfigReader *r, const cJSON *object, const char *section, int *position) {
    const cJSON *item;
    cJSON_ArrayForEach(item, object) {
        ++*position;
        char *key = *section ? format("%s.%s", section, item->string) : xstrdup(item->string);
        bool fine = config_take_key(r, object, item, key, position);
        free(key);
        if (!fine) return false;
    }
    return true;
}

// "a=b,c=d" as the JSON object {"a": "b", "c": "d"}; a part without '=' makes it a JSON string, which no map takes.
static inline void config_put_pairs(FILE *out, const char *text) {
    char *copy = xstrdup(text), *rest = copy, *part;
    fputc('{', out);
    for (int i = 0; *text && (part = strsep(&rest, ",")); i++) {
        char *value = strchr(part, '=');
        if (value) *value++ = '\0';
        if (i) fputc(',', out);
        json_put_string(out, part, SIZE_MAX);
        if (!value) continue;                   // and the scan refuses {"part"}
        fputc(':', out);
        json_put_string(out, value, SIZE_MAX);
    }
    fputc('}', out);
    free(copy);
}

// A value as it is written on the command line: the JSON that it stands for or, where it is none, a JSON string.
static inline bool config_take_text(ConfigReader *r, const Field *f, const char *value) {
    bool name = f->type == FIELD_STRING || f->type == FIELD_CHOICE, fine = false;
    for (int attempt = name; attempt < 2 && !fine; attempt++) {
        char *json;
        size_t size;
        FILE *out = text_open(&json, &size);
        if (attempt == 1) json_put_string(out, value, SIZE_MAX);
        else if (f->type == FIELD_LIST && *value != '[') fprintf(out, "[%s]", value);
        else if (f->type == FIELD_MAP && *value != '{') config_put_pairs(out, value);
        else fputs(value, out);
        text_close(out, &json);
        fine = json_parse(&r->json, json, size);
        bool set = fine && config_set(r, 0, f, r->json.root);
        free(json);
        if (fine) return set;
    }
    return false;
}

// --section.key=value
static inline bool config_take_override(ConfigReader *r, const char *text) {
    r->json.name = text;
    r->json.has_lines = false;
    const char *equals = strchr(text, '=');
    if (strncmp(text, "--", 2) != 0) return json_error(&r->json, 0, NULL, "expected --section.key=value");
    char *key = format("%.*s", equals ? (int)(equals - text - 2) : (int)strlen(text + 2), text + 2);
    const Field *f = config_find_given(r->fields, r->n_fields, key);
    const Field *first = config_find_section(r->fields, r->n_fields, key);
    bool fine = false;
    if (f && equals) {
        fine = config_take_text(r, f, equals + 1);
        r->from[f - r->fields] = CONFIG_COMMAND;
    } else if (f) {
        char *kind = config_kind(f, "");
        json_error(&r->json, 0, NULL, "expected --%s=VALUE, where VALUE is: %s", key, kind);
        free(kind);
    } else if (first)
        json_error(&r->json, 0, NULL, "%s is a section, expected one of its keys, such as --%s", key, first->key);
    else config_unknown(r, 0, key, false);
    free(key);
    return fine;
}

static inline bool config_take_preset(ConfigReader *r, const ConfigPreset *preset) {
    const Field *chooser = config_find(r->fields, r->n_fields, preset->field);
    const Field *f = config_find(r->fields, r->n_fields, preset->key);
    r->json.name = preset->key;
    r->json.has_lines = false;
    int choice = chooser && chooser->type == FIELD_CHOICE ? config_name_index(chooser->choices, preset->choice) : -1;
    if (!f || choice < 0)
        return json_error(&r->json, 0, NULL, "preset %s=%s names no field or choice", preset->field, preset->choice);
    if (*(const int *)((const char *)r->config + chooser->offset) != choice || r->from[f - r->fields] >= CONFIG_FILE) return true;
    r->from[f - r->fields] = CONFIG_PRESET;
    return config_take_text(r, f, preset->value);
}

/* config_load_text that returns: true, or false with one line in error[room] and nothing of the config to free.
 * text: size bytes of JSON, or NULL for none; name: what messages call it. from: the source of each of the n_fields, or
 * NULL where that is of no interest. */
static inline bool config_try(void *config, const Field *fields, int n_fields, const ConfigPreset *presets,
                              int n_presets, const char *text, size_t size, const char *name, int n_overrides,
                              char **overrides, ConfigSource *from, char *error, size_t room) {
    ConfigReader r = { config, fields, n_fields, NULL, { .error = error, .room = room } };
    r.from = (ConfigSource *)xcalloc((size_t)n_fields, sizeof *r.from);
    bool fine = true;
    for (int i = 0; i < n_fields; i++) {        // config_clear must find no garbage
        void *at = (char *)config + fields[i].offset;
        if (fields[i].type == FIELD_STRING) *(char **)at = NULL;
        if (fields[i].type == FIELD_LIST) *(ConfigList *)at = (ConfigList){ 0, NULL };
        if (fields[i].type == FIELD_MAP) *(ConfigMap *)at = (ConfigMap){ 0, NULL, NULL };
    }
    for (int i = 0; i < n_fields && fine; i++) {
        r.json.name = fields[i].key;
        fine = config_take_text(&r, &fields[i], fields[i].initial);
    }
    if (fine && text) {
        r.json.name = name;
        r.json.has_lines = true;
        int position = 0;
        fine = json_parse_object(&r.json, text, size) && config_take_object(&r, r.json.root, "", &position);
    }
    for (int i = 0; i < n_overrides && fine; i++) fine = config_take_override(&r, overrides[i]);
    for (int i = 0; i < n_presets && fine; i++) fine = config_take_preset(&r, &presets[i]);
    json_free(&r.json);
    if (from) memcpy(from, r.from, (size_t)n_fields * sizeof *from);
    free(r.from);
    if (!fine) config_free(config, fields, n_fields);
    return fine;
}

// ---------------------------------------------------------------------------------------------------------------------
// What programs call

/* Fills in config from the defaults, the presets, the JSON text[0..size) (NULL: none) and the overrides. What config
 * held before is not freed. Anything wrong ends the program by fail_usage with one line such as
 * "NAME:12: train.stepz: unknown key, did you mean train.steps?". The caller frees by config_free. */
static inline void config_load_text(void *config, const Field *fields, int n_fields, const ConfigPreset *presets,
                                    int n_presets, const char *text, size_t size, const char *name, int n_overrides,
                                    char **overrides) {
    char error[2048];
    if (!config_try(config, fields, n_fields, presets, n_presets, text, size, name, n_overrides, overrides,
                    NULL, error, sizeof error))
        fail_usage("%s", error);
}

// config_load_text of a file; path: NULL for none. from: as config_try has it.
static inline void config_load(void *config, const Field *fields, int n_fields, const ConfigPreset *presets,
                               int n_presets, const char *path, int n_overrides, char **overrides,
                               ConfigSource *from) {
    char error[2048], *text = NULL;
    size_t size = 0;
    if (path && !(text = read_file(path, &size))) fail_usage("%s: cannot be read: %s", path, strerror(errno));
    bool fine = config_try(config, fields, n_fields, presets, n_presets, text, size, path, n_overrides, overrides,
                           from, error, sizeof error);
    free(text);
    if (!fine) fail_usage("%s", error);
}

// The name of the index-th choice of a FIELD_CHOICE, in a buffer that lives until the next call.
static inline const char *config_choice_name(const Field *fields, int n, const char *key, int index) {
    static char name[64];
    const Field *f = config_find(fields, n, key);
    int length = 0;
    const char *at = f && f->type == FIELD_CHOICE && index >= 0 ? config_name_at(f->choices, index, &length) : NULL;
    snprintf(name, sizeof name, "%.*s", at ? length : 1, at ? at : "?");
    return name;
}

// Makes a number or a choice of one config that of another one, which has the same table.
static inline void config_copy(void *to, const void *from, const Field *f) {
    static const size_t sizes[] = { [FIELD_INT] = sizeof(int), [FIELD_INT64] = sizeof(int64_t), [FIELD_FLOAT] = sizeof(double),
                                    [FIELD_BOOL] = sizeof(bool), [FIELD_CHOICE] = sizeof(int), [FIELD_MAP] = 0 };
    memcpy((char *)to + f->offset, (const char *)from + f->offset, sizes[f->type]);
}

// Calls report(key, value in a, value in b, context) for every field that differs. Returns how many do.
static inline int config_differences(const void *a, const void *b, const Field *fields, int n,
                                     void (*report)(const char *key, const char *va, const char *vb, void *context),
                                     void *context) {
    int differ = 0;
    for (int i = 0; i < n; i++) {
        char *va = config_value_text(a, &fields[i]), *vb = config_value_text(b, &fields[i]);
        if (strcmp(va, vb) != 0) {
            differ++;
            if (report) report(fields[i].key, va, vb, context);
        }
        free(va);
        free(vb);
    }
    return differ;
}

/* All keys with what they may be, the default and the help: two lines each for a terminal, or a Markdown table. An
 * empty default shows as "". */
static inline void config_help(FILE *out, const Field *fields, int n, bool markdown) {
    MarkdownTable table = { 0 };
    if (markdown) table = markdown_start("key\tvalue\tdefault\tmeaning");
    for (int i = 0; i < n; i++) {
        const Field *f = &fields[i];
        const char *initial = *f->initial ? f->initial : "\"\"";
        char *kind = config_kind(f, markdown ? "`" : "");
        if (markdown) markdown_cell(&table, "`%s`\t%s\t`%s`\t%s", f->key, kind, initial, f->help);
        else fprintf(out, "  --%s=%s  (%s)\n        %s\n", f->key, initial, kind, f->help);
        free(kind);
    }
    if (markdown) markdown_end(out, &table, false);
}

#endif // CONFIG_H
