/* tokens.h - tests of tokens: back to text, and into a shard (data/tokenize.c writes both as it reads a corpus). */
#ifndef TOKENS_H
#define TOKENS_H

#include "../../data/dataloader.h"
#include "../../data/tokenizer.h"

// Writes the bytes of `count` tokens into text (NULL: only counts them). Returns how many, or -1 where an id is none.
static inline long bpe_decode(const Bpe *b, const uint32_t *ids, size_t count, char *text) {
    size_t at = 0, n = 0;
    for (size_t i = 0; i < count; i++, at += n) {
        const char *token = bpe_token(b, ids[i], &n);
        if (!token) return -1;
        if (text) memcpy(text + at, token, n);
    }
    return (long)at;
}

// Writes n tokens of a vocabulary of V as a shard, as a whole or not at all (replace_open). Returns 0, or -1 with errno
// set.
static inline int shard_write(const char *path, const uint32_t *ids, size_t n, int V) {
    if (n > INT32_MAX) { errno = EFBIG; return -1; }
    int kind = shard_kind(V), width = shard_kinds[kind].width;
    int32_t header[SHARD_HEADER_BYTES / 4] = { shard_kinds[kind].magic, shard_kinds[kind].version, (int32_t)n };
    uint16_t *narrow = width == 2 ? (uint16_t *)xmalloc(n * sizeof *narrow) : NULL;
    for (size_t i = 0; narrow && i < n; i++) narrow[i] = (uint16_t)ids[i];
    const void *tokens = narrow ? (const void *)narrow : ids;
    Replacement r = replace_open(path);
    int error = 0;
    if (r.f && (fwrite(header, sizeof header, 1, r.f) != 1 || fwrite(tokens, (size_t)width, n, r.f) != n))
        error = errno ? errno : EIO;
    int result = replace_close(&r, error);
    error = errno;
    free(narrow);
    errno = error;
    return result;
}

#endif // TOKENS_H
