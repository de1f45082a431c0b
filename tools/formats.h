/* formats.h - what the programs that export and import have in common beside lists of tensors: what a format can say, and
 * folders that appear as a whole.
 *
 * defines: Needs, check_needs, check_no_groups, Keys, keys_set, keys_config, put_file, out_path, check_new, folder_begin,
 *          folder_end
 * Included behind gpt.h.
 */
#ifndef FORMATS_H
#define FORMATS_H

#include <dirent.h>
#include "tensor_list.h"            // defines: TensorList, list_add, list_add_reordered, tensor_fetch, tensor_put; safetensors.h

// ---------------------------------------------------------------------------------------------------------------------
// What a format can say

typedef struct { const char *key, *values; } Needs;      // values: those that it can say, blanks between them; a list ends with NULL

// Ends the program where the config has another value than those of a format's list.
static void check_needs(const Config *c, const char *run, const char *format_name, const Needs *needs) {
    for (; needs->key; needs++) {
        char *value = config_value_text(c, config_find(config_fields, N_FIELDS, needs->key)), *list = format(" %s ", needs->values);
        char *bare = value + (*value == '"');
        if (*bare != '\0' && *value == '"') bare[strlen(bare) - 1] = '\0';
        char *word = format(" %s ", bare);
        if (!strstr(list, word))
            fail("%s: %s is %s, which %s can't say: %s is expected", run, needs->key, bare, format_name, needs->values);
        free(value), free(list), free(word);
    }
}

// Likewise where queries share keys and values.
static void check_no_groups(const Model *m, const char *run, const char *format_name) {
    if (m->NKV != m->NH)
        fail("%s: model.kv_heads is %d, which %s can't say: as many as model.heads (%d) are expected", run, m->NKV, format_name, m->NH);
}

// ---------------------------------------------------------------------------------------------------------------------
// What a file says of a model, as keys of a config

typedef struct { char **list; int n; } Keys;             // as on the command line, --section.key=value

PRINTF_LIKE(3, 4) static void keys_set(Keys *k, const char *key, const char *fmt, ...) {
    char value[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(value, sizeof value, fmt, args);
    va_end(args);
    k->list = xrealloc(k->list, ((size_t)k->n + 1) * sizeof *k->list);
    k->list[k->n++] = format("--%s=%s", key, value);
}

// The config of the keys, which are used up: of a model that was trained elsewhere and has no optimizer but one that goes with
// every model. where: the file they are of, for messages.
static Config keys_config(Keys *k, const char *where) {
    char error[2048];
    Config c;
    keys_set(k, "data.dir", "%s", "");
    keys_set(k, "optimizer.name", "adamw");
    if (!config_try(&c, config_fields, N_FIELDS, config_presets, COUNT_OF(config_presets), NULL, 0, where, k->n, k->list, NULL, error, sizeof error))
        fail("%s: %s", where, error);
    config_resolve(&c, where);
    for (int i = 0; i < k->n; i++) free(k->list[i]);
    free(k->list);
    return c;
}

// ---------------------------------------------------------------------------------------------------------------------
// Files

// Closes f (text_open) and makes its text the file of this name in the folder.
static void put_file(FILE *f, char **text, const size_t *size, const char *folder, const char *name) {
    text_close(f, text);
    char *path = format("%s/%s", folder, name);
    if (write_file(path, *text, *size) != 0) fail("%s: cannot be written: %s", path, strerror(errno));
    free(*text), free(path);
}

// Removes the files in a folder: of a program that was killed. What is no file stays, and then the folder can't be taken.
static void folder_clear(const char *path) {
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder)); ) {
        char *file = format("%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.' && unlink(file) != 0) fail("%s: is in the way: %s", file, strerror(errno));
        free(file);
    }
    if (folder) closedir(folder);
}

// What --out names, without slashes at its end, since what is written first stands beside it; to be freed.
static char *out_path(const char *value) {
    size_t n = strlen(value);
    while (n > 1 && value[n - 1] == '/') n--;
    if (!n) fail_usage("--out=: a path is expected");
    return format("%.*s", (int)n, value);
}

// Nothing is overwritten.
static void check_new(const char *out) {
    if (file_exists(out)) fail("%s: is there already; --out=PATH names another, or remove it", out);
}

// The files of a folder that isn't there yet are written into another one beside it, whose name this returns; folder_end
// gives it its own and frees it. A file marks it as unfinished: only what has the mark, an interrupted one, is cleared away.
static char *folder_begin(const char *out) {
    char *folder = format("%s.tmp", out), *mark = format("%s/.unfinished", folder);
    check_new(out);
    if (file_exists(folder) && !file_exists(mark)) fail("%s: is there already, and nothing unfinished: it is in the way of %s", folder, out);
    folder_clear(folder);
    if (make_dirs(folder) != 0 || write_file(mark, "", 0) != 0) fail("%s: %s", folder, strerror(errno));
    free(mark);
    return folder;
}

static void folder_end(char *folder, const char *out) {
    char *mark = format("%s/.unfinished", folder);
    unlink(mark);
    free(mark);
    if (rename(folder, out) != 0) fail("%s: cannot be renamed to %s: %s", folder, out, strerror(errno));
    if (sync_folder(out) != 0) fail("%s: %s", out, strerror(errno));
    free(folder);
}

#endif // FORMATS_H
