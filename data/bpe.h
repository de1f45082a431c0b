/* bpe.h - byte-level byte-pair encoding: training, encoding, decoding, and the field's files of such vocabularies.
 *
 * defines: Bpe, bpe_free, bpe_token, bpe_special, bpe_decode; BpeEncoder, bpe_encoder_open, bpe_encode, bpe_room, bpe_cut,
 *          bpe_encoder_close; BpeWords, bpe_count, bpe_train, bpe_words_free; bpe_load, bpe_load_gpt2, bpe_of_tokens,
 *          bpe_save
 *
 * A text is split into pieces by a pattern (ours is GPT-2's, Radford et al. 2019), and each piece becomes tokens by
 * itself: it starts as one token a byte; then, as long as a neighbouring pair is among the vocabulary's merges, the
 * pair with the lowest rank (leftmost first) becomes one token. Ranks are the order in which training found the merges
 * (Sennrich et al. 2016): the most frequent pair of neighbours becomes a token, again and again. Where two are as
 * frequent, the one with the smaller pair of ids is taken, as the trainer of Hugging Face's `tokenizers` does.
 *
 * All 256 bytes are tokens and bytes that are not UTF-8 are pieces of their own: any input comes back byte for byte,
 * unless the vocabulary normalizes it first. Special tokens (<|endoftext|>) are never made from text: the caller puts
 * their ids between documents. Added tokens that are not special are made from text wherever it has them.
 *
 * Functions that can fail return -1 and put one line into `error` (room bytes), never exit. A Bpe is read only once it
 * is made: threads share it, each with a BpeEncoder of its own. Needs PCRE2, utf8proc (unicode.h) and cJSON.
 */
#ifndef BPE_H
#define BPE_H

#include "../src/json.h"
#include "../src/util.h"
#include "unicode.h"

#define BPE_NONE UINT32_MAX     // no token, no position, no rank
#define BPE_EOT "<|endoftext|>"  // between documents, GPT-2's name for it

// ---------------------------------------------------------------------------------------------------------------------
// Distinct byte strings, numbered in the order of their coming: a vocabulary's tokens, a text's words

typedef struct {
    size_t count;
    uint8_t *bytes;         // all strings, end to end
    size_t *start;          // (count + 1): string i is bytes[start[i]] .. bytes[start[i + 1] - 1]
    uint64_t *slots;        // open addressing, at most half full: hash << 32 | 1 + i; 0 where free
    size_t bytes_room, start_room, slot_count, indexed;
} BpeStrings;

static inline uint32_t bpe_hash(const void *string, size_t n) {
    const uint8_t *s = (const uint8_t *)string;
    uint64_t h = n, word;
    for (; n >= 8; s += 8, n -= 8) {
        memcpy(&word, s, 8);
        h = mix64(h ^ word);
    }
    for (word = 0; n > 0; n--) word = word << 8 | *s++;
    return (uint32_t)mix64(h ^ word);
}

static inline size_t bpe_string_length(const BpeStrings *s, size_t i) { return s->start[i + 1] - s->start[i]; }

static inline void bpe_strings_free(BpeStrings *s) {
    free(s->bytes);
    free(s->start);
    free(s->slots);
    memset(s, 0, sizeof *s);
}

// The slot of a string of this hash: the one that holds it, else the free one where it belongs.
static inline uint64_t *bpe_strings_slot(const BpeStrings *s, const void *string, size_t n, uint32_t hash) {
    for (size_t at = hash;; at++) {
        uint64_t *slot = &s->slots[at & (s->slot_count - 1)];
        if (*slot == 0) return slot;
        size_t i = (uint32_t)*slot - 1;
        if (*slot >> 32 == hash && bpe_string_length(s, i) == n && memcmp(s->bytes + s->start[i], string, n) == 0)
            return slot;
    }
}

// The number of a string, or BPE_NONE.
static inline uint32_t bpe_strings_find(const BpeStrings *s, const void *string, size_t n) {
    return s->slot_count ? (uint32_t)*bpe_strings_slot(s, string, n, bpe_hash(string, n)) - 1 : BPE_NONE;
}

// Appends a string that bpe_strings_find does not find. Returns its number.
static inline uint32_t bpe_strings_append(BpeStrings *s, const void *string, size_t n) {
    size_t end = s->count ? s->start[s->count] : 0;
    if (end + n > s->bytes_room)
        s->bytes = (uint8_t *)xrealloc(s->bytes, s->bytes_room = 2 * (end + n) + 64);
    if (s->count + 2 > s->start_room)
        s->start = (size_t *)xrealloc(s->start, (s->start_room = 2 * s->count + 64) * sizeof *s->start);
    if (n > 0) memcpy(s->bytes + end, string, n);
    s->start[s->count] = end;
    s->start[++s->count] = end + n;
    return (uint32_t)s->count - 1;
}

// The number of a string, appended where it is new.
static inline uint32_t bpe_strings_add(BpeStrings *s, const void *string, size_t n) {
    if (2 * s->indexed >= s->slot_count) {
        BpeStrings old = *s;
        s->slot_count = old.slot_count ? 2 * old.slot_count : 256;
        s->slots = (uint64_t *)xcalloc(s->slot_count, sizeof *s->slots);
        for (size_t i = 0; i < old.slot_count; i++) {
            size_t at = old.slots[i] >> 32;
            while (s->slots[at & (s->slot_count - 1)]) at++;
            if (old.slots[i]) s->slots[at & (s->slot_count - 1)] = old.slots[i];
        }
        free(old.slots);
    }
    uint32_t hash = bpe_hash(string, n);
    uint64_t *slot = bpe_strings_slot(s, string, n, hash);
    if (*slot == 0) {
        *slot = (uint64_t)hash << 32 | (bpe_strings_append(s, string, n) + 1);
        s->indexed++;
    }
    return (uint32_t)*slot - 1;
}

// ---------------------------------------------------------------------------------------------------------------------
// A number for each pair of tokens: its rank, or where training keeps it

typedef struct { uint64_t pair; uint32_t value; } BpePairSlot;

typedef struct {
    BpePairSlot *slots;     // open addressing, at most half full; value BPE_NONE where free
    size_t slot_count, count;
} BpePairs;

static inline uint64_t bpe_pair(uint32_t left, uint32_t right) { return (uint64_t)left << 32 | right; }

static inline BpePairSlot *bpe_pairs_slot(const BpePairs *p, uint64_t pair) {
    for (size_t at = mix64(pair);; at++) {
        BpePairSlot *slot = &p->slots[at & (p->slot_count - 1)];
        if (slot->pair == pair || slot->value == BPE_NONE) return slot;
    }
}

static inline void bpe_pairs_make(BpePairs *p, size_t slot_count) {
    p->slot_count = slot_count;
    p->slots = (BpePairSlot *)xmalloc(slot_count * sizeof *p->slots);
    for (size_t i = 0; i < slot_count; i++) p->slots[i] = (BpePairSlot){ 0, BPE_NONE };
}

static inline uint32_t bpe_pairs_get(const BpePairs *p, uint32_t left, uint32_t right) {
    return bpe_pairs_slot(p, bpe_pair(left, right))->value;
}

static inline void bpe_pairs_set(BpePairs *p, uint64_t pair, uint32_t value) {
    if (2 * p->count >= p->slot_count) {
        BpePairs old = *p;
        bpe_pairs_make(p, 2 * old.slot_count);
        for (size_t i = 0; i < old.slot_count; i++)
            if (old.slots[i].value != BPE_NONE) *bpe_pairs_slot(p, old.slots[i].pair) = old.slots[i];
        free(old.slots);
    }
    BpePairSlot *slot = bpe_pairs_slot(p, pair);
    p->count += slot->value == BPE_NONE;
    *slot = (BpePairSlot){ pair, value };
}

// ---------------------------------------------------------------------------------------------------------------------
// A heap: the smallest key first, and of equal keys the one with the smallest value. Four children each, a cache line.

typedef struct { uint64_t key, value; } BpeHeapItem;
typedef struct { BpeHeapItem *items; size_t count, room; } BpeHeap;

static inline bool bpe_heap_before(BpeHeapItem a, BpeHeapItem b) {
    return a.key < b.key || (a.key == b.key && a.value < b.value);
}

static inline void bpe_heap_push(BpeHeap *h, uint64_t key, uint64_t value) {
    if (h->count == h->room)
        h->items = (BpeHeapItem *)xrealloc(h->items, (h->room = 2 * h->room + 1024) * sizeof *h->items);
    BpeHeapItem item = { key, value };
    size_t at = h->count++;
    for (size_t parent; at > 0 && bpe_heap_before(item, h->items[parent = (at - 1) / 4]); at = parent)
        h->items[at] = h->items[parent];
    h->items[at] = item;
}

static inline bool bpe_heap_pop(BpeHeap *h, BpeHeapItem *top) {
    if (h->count == 0) return false;
    *top = h->items[0];
    BpeHeapItem item = h->items[--h->count];
    size_t at = 0;
    for (size_t best; (best = 4 * at + 1) < h->count; at = best) {
        for (size_t child = best + 1; child < 4 * at + 5 && child < h->count; child++)
            if (bpe_heap_before(h->items[child], h->items[best])) best = child;
        if (!bpe_heap_before(h->items[best], item)) break;
        h->items[at] = h->items[best];
    }
    h->items[at] = item;
    return true;
}

// ---------------------------------------------------------------------------------------------------------------------
// The vocabulary

typedef struct { uint32_t left, right, token; } BpeMerge;

typedef struct {            // a token that no merge makes
    uint32_t id;
    bool special;           // it is never made from text; else wherever the text has it
    bool normalized;        // it is looked for in the normalized text, else before that
} BpeAdded;

typedef struct {
    BpeStrings tokens;      // token i is the i-th string
    BpeAdded *added;        // (added_count)
    size_t added_count;
    bool any_plain;         // one of them is not special
    bool begins[256];       // one of them begins with this byte
    bool nfc;               // text is normalized to form C
    BpeMerge *merges;       // in the order of their ranks
    uint32_t merge_count;
    BpePairs ranks;         // of the pairs in merges
    uint32_t byte_id[256];  // the token that is just this byte
    int pattern;            // of bpe_patterns: what splits a text
    bool ignore_merges;     // a piece that is a token becomes it, whatever the merges would make of it
} Bpe;

static inline void bpe_free(Bpe *b) {
    bpe_strings_free(&b->tokens);
    free(b->added);
    free(b->merges);
    free(b->ranks.slots);
    memset(b, 0, sizeof *b);
}

static inline void bpe_add_merge(Bpe *b, uint32_t left, uint32_t right, uint32_t token) {
    if ((b->merge_count & (b->merge_count - 1)) == 0) {     // full at every power of two
        size_t room = b->merge_count ? 2 * (size_t)b->merge_count : 1;
        b->merges = (BpeMerge *)xrealloc(b->merges, room * sizeof *b->merges);
    }
    b->merges[b->merge_count] = (BpeMerge){ left, right, token };
    bpe_pairs_set(&b->ranks, bpe_pair(left, right), b->merge_count++);
}

// The bytes of token id, *length of them, no NUL behind; NULL and 0 where there is no such token.
static inline const char *bpe_token(const Bpe *b, uint32_t id, size_t *length) {
    *length = 0;
    if (id >= b->tokens.count) return NULL;
    *length = bpe_string_length(&b->tokens, id);
    return (const char *)b->tokens.bytes + b->tokens.start[id];
}

// The added token of this text, or NULL.
static inline const BpeAdded *bpe_added(const Bpe *b, const char *text) {
    for (size_t i = 0; i < b->added_count; i++) {
        size_t n;
        const char *token = bpe_token(b, b->added[i].id, &n);
        if (n == strlen(text) && memcmp(token, text, n) == 0) return &b->added[i];
    }
    return NULL;
}

// The id of a special token by its text, or BPE_NONE.
static inline uint32_t bpe_special(const Bpe *b, const char *text) {
    const BpeAdded *added = bpe_added(b, text);
    return added && added->special ? added->id : BPE_NONE;
}

static inline void bpe_add(Bpe *b, uint32_t id, bool special, bool normalized) {
    b->added = (BpeAdded *)xrealloc(b->added, (b->added_count + 1) * sizeof *b->added);
    b->added[b->added_count++] = (BpeAdded){ id, special, normalized };
    b->any_plain = b->any_plain || !special;
    b->begins[b->tokens.bytes[b->tokens.start[id]]] = true;
}

static inline void bpe_add_special(Bpe *b, const char *text) {
    bpe_add(b, bpe_strings_append(&b->tokens, text, strlen(text)), true, false);
}

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

// ---------------------------------------------------------------------------------------------------------------------
// Pieces

// What splits a text, as the owners' tokenizer.json says it. Every character is in some match, and no match goes on
// over a space behind a visible ASCII character or over a line end behind an ASCII letter or digit: see bpe_cut.
#define BPE_SUFFIXES "'s|'t|'re|'ve|'m|'ll|'d"
static const char *const bpe_patterns[] = {
    // GPT-2's (Radford et al. 2019): what the type ByteLevel does by itself
    BPE_SUFFIXES "| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
    // Llama 3's; GPT-4's cl100k_base in this format
    "(?i:" BPE_SUFFIXES ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+"
    "|\\s+(?!\\S)|\\s+",
    // Qwen2's: the same with single digits
    "(?i:" BPE_SUFFIXES ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+"
    "|\\s+(?!\\S)|\\s+",
    // GPT-4o's o200k_base
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:" BPE_SUFFIXES ")?"
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:" BPE_SUFFIXES ")?"
    "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
};

// Unicode's White_Space, which is what \s means in these patterns. PCRE2's \s has U+180E as well.
#define BPE_SPACE "\\x09-\\x0d\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

// The pattern as PCRE2 needs it: its \s (in a class or not) and \S (not in one) spelled out, its \p{...} with what this
// PCRE2 doesn't know yet. To be freed.
static inline char *bpe_spell(const char *pattern) {
    char version[64] = "";                          // "14.0.0"
    if (pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, NULL) <= (int)sizeof version)
        pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, version);
    char *out = NULL;
    size_t n;
    FILE *f = text_open(&out, &n);
    for (bool inside = false; *pattern; pattern++) {
        inside = *pattern == '[' || (inside && *pattern != ']');
        if (*pattern != '\\') putc(*pattern, f);
        else if (*++pattern == 's') fprintf(f, inside ? "%s" : "[%s]", BPE_SPACE);
        else if (*pattern == 'S') fprintf(f, "[^%s]", BPE_SPACE);
        else if (*pattern != 'p') fprintf(f, "\\%c", *pattern);
        else {
            const char *name = pattern + 2;         // behind p{
            int length = (int)strcspn(name, "}"), used;
            fprintf(f, "%s\\p{%.*s}", inside ? "" : "[", length, name);
            unsigned first, last;
            for (const char *at = unicode_added(name, (size_t)length, version); sscanf(at, "%x%n", &first, &used) == 1; ) {
                last = first;
                if (*(at += used) == '-' && sscanf(at, "-%x%n", &last, &used) == 1) at += used;
                fprintf(f, "\\x{%x}-\\x{%x}", first, last);
            }
            if (!inside) putc(']', f);
            pattern = name + length;
        }
    }
    text_close(f, &out);
    return out;
}

// Without JIT every match first checks that all text it is shown is UTF-8: it is shown about this many bytes of it.
enum { BPE_WINDOW = 1024 };

typedef struct {
    pcre2_code *code;
    pcre2_match_data *match;
    bool jit;
    const char *text;
    size_t n, at;           // the text's bytes, and how many of them have been handed out in pieces
    size_t shown;           // what the matcher sees of them
    size_t start, end;      // the last match
} BpeSplitter;

static inline bool bpe_ascii_letter(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }
static inline bool bpe_ascii_digit(char c) { return c >= '0' && c <= '9'; }

// The first place at or behind `from` (>= 1) where a text can be cut in two whose pieces are those of the whole: before
// a space that follows a visible ASCII character, a line end that follows an ASCII letter or digit. n where there is
// none.
static inline size_t bpe_cut(const char *text, size_t from, size_t n) {
    for (size_t i = from; i < n; i++) {
        char before = text[i - 1];
        if (text[i] == ' ' && before > ' ' && before < 0x7f) return i;
        if (text[i] == '\n' && (bpe_ascii_letter(before) || bpe_ascii_digit(before))) return i;
    }
    return n;
}

static inline void bpe_splitter_close(BpeSplitter *s) {
    pcre2_match_data_free(s->match);
    pcre2_code_free(s->code);
    memset(s, 0, sizeof *s);
}

static inline int bpe_splitter_open(BpeSplitter *s, int pattern, char *error, size_t room) {
    memset(s, 0, sizeof *s);
    int code;
    PCRE2_SIZE offset;
    char *spelled = bpe_spell(bpe_patterns[pattern]);
    s->code = pcre2_compile((PCRE2_SPTR)spelled, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF, &code, &offset, NULL);
    free(spelled);
    if (!s->code) {
        PCRE2_UCHAR message[128];
        pcre2_get_error_message(code, message, sizeof message);
        snprintf(error, room, "PCRE2 refuses pattern %d at %zu: %s", pattern, (size_t)offset, (char *)message);
        return -1;
    }
    s->jit = pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE) == 0;
    s->match = pcre2_match_data_create(1, NULL);
    if (!s->match) fail("out of memory: PCRE2's match data");
    return 0;
}

static inline void bpe_splitter_start(BpeSplitter *s, const char *text, size_t n) {
    s->text = text;
    s->n = n;
    s->at = s->shown = s->start = s->end = 0;
}

// The next piece: its length, with its first byte in *piece; 0 at the end; -1 where PCRE2 gives up.
static inline long bpe_split(BpeSplitter *s, const char **piece, char *error, size_t room) {
    if (s->at == s->n) return 0;
    if (s->at == s->end) {
        if (s->at == s->shown)
            s->shown = s->jit || s->n - s->at <= BPE_WINDOW ? s->n : bpe_cut(s->text, s->at + BPE_WINDOW, s->n);
        int found = (s->jit ? pcre2_jit_match : pcre2_match)(s->code, (PCRE2_SPTR)s->text, s->shown, s->at, 0, s->match,
                                                             NULL);
        if (found > 0) {
            const PCRE2_SIZE *match = pcre2_get_ovector_pointer(s->match);
            s->start = match[0];
            s->end = match[1];
        } else if (found == PCRE2_ERROR_NOMATCH) {      // nothing but bytes that are not UTF-8
            s->start = s->end = s->shown;
        } else {
            PCRE2_UCHAR message[128];
            pcre2_get_error_message(found, message, sizeof message);
            snprintf(error, room, "PCRE2 gives up at byte %zu: %s", s->at, (char *)message);
            return -1;
        }
    }
    *piece = s->text + s->at;
    size_t from = s->at;
    s->at = from < s->start ? s->start : s->end;        // first the bytes between two matches
    return (long)(s->at - from);
}

// ---------------------------------------------------------------------------------------------------------------------
// Encoding

enum { BPE_CACHE_SLOTS = 1 << 15, BPE_CACHED_BYTES = 30, BPE_CACHED_IDS = 8, BPE_SHORT = 48, BPE_SHORT_ROOM = 256 };

typedef struct {            // a piece and its ids, a cache line
    uint8_t length, count;
    char piece[BPE_CACHED_BYTES];
    uint32_t ids[BPE_CACHED_IDS];
} BpeCached;

typedef struct {            // where in a long piece pairs of one rank begin
    uint32_t *at;
    size_t first, count, room;      // at[first] .. at[count - 1] are still to be merged
} BpePlaces;

typedef struct {
    const Bpe *bpe;
    BpeSplitter splitter;
    BpeCached *cache;       // (BPE_CACHE_SLOTS): a piece's slot is its hash; the last one to come stays
    // of a long piece
    BpePlaces *places;      // (merge_count), NULL until there is one
    BpeHeap heap;           // the ranks that have places
    uint32_t *previous;     // (room): the token before the one at this byte, BPE_NONE where there is none
    uint32_t *next;         // (room)
    size_t room;
} BpeEncoder;

static inline int bpe_encoder_open(BpeEncoder *e, const Bpe *b, char *error, size_t room) {
    memset(e, 0, sizeof *e);
    e->bpe = b;
    if (bpe_splitter_open(&e->splitter, b->pattern, error, room) != 0) return -1;
    e->cache = (BpeCached *)xaligned(BPE_CACHE_SLOTS * sizeof *e->cache);
    return 0;
}

static inline void bpe_encoder_close(BpeEncoder *e) {
    bpe_splitter_close(&e->splitter);
    free(e->cache);
    for (uint32_t i = 0; e->places && i < e->bpe->merge_count; i++) free(e->places[i].at);
    free(e->places);
    free(e->heap.items);
    free(e->previous);
    free(e->next);
    memset(e, 0, sizeof *e);
}

// Merges n <= BPE_SHORT_ROOM tokens in place: looks through all ranks for each merge, which is the faster way up to
// about BPE_SHORT. Returns how many are left.
static inline size_t bpe_merge_short(const Bpe *b, uint32_t *ids, size_t n) {
    uint32_t ranks[BPE_SHORT_ROOM];     // of the pairs that begin at each token
    for (size_t i = 0; i + 1 < n; i++) ranks[i] = bpe_pairs_get(&b->ranks, ids[i], ids[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (ranks[i] < ranks[best]) best = i;
        if (ranks[best] == BPE_NONE) break;
        ids[best] = b->merges[ranks[best]].token;
        n--;
        for (size_t i = best + 1; i < n; i++) ids[i] = ids[i + 1];
        for (size_t i = best + 1; i + 1 < n; i++) ranks[i] = ranks[i + 1];
        if (best > 0) ranks[best - 1] = bpe_pairs_get(&b->ranks, ids[best - 1], ids[best]);
        if (best + 1 < n) ranks[best] = bpe_pairs_get(&b->ranks, ids[best], ids[best + 1]);
    }
    return n;
}

static inline uint32_t bpe_rank_at(const BpeEncoder *e, const uint32_t *ids, uint32_t at) {
    if (at == BPE_NONE || ids[at] == BPE_NONE || e->next[at] == BPE_NONE) return BPE_NONE;
    return bpe_pairs_get(&e->bpe->ranks, ids[at], ids[e->next[at]]);
}

// Notes the pair that begins at a token, where it has a rank.
static inline void bpe_note(BpeEncoder *e, const uint32_t *ids, uint32_t at) {
    uint32_t rank = bpe_rank_at(e, ids, at);
    if (rank == BPE_NONE) return;
    BpePlaces *p = &e->places[rank];
    if (p->first == p->count) {
        p->first = p->count = 0;
        bpe_heap_push(&e->heap, rank, 0);
    }
    if (p->count == p->room) p->at = (uint32_t *)xrealloc(p->at, (p->room = 2 * p->room + 16) * sizeof *p->at);
    p->at[p->count++] = at;
}

// The same for any n < BPE_NONE in O(n log n): the tokens are a linked list, and each rank has a list of the places
// where its pair begins, in which those that are no longer true are passed over. Where places of one rank can exclude
// each other (aaa, pair aa), they are noted from left to right: a token comes to be so.
static inline size_t bpe_merge_long(BpeEncoder *e, uint32_t *ids, size_t n) {
    if (!e->places) e->places = (BpePlaces *)xcalloc(e->bpe->merge_count, sizeof *e->places);
    if (n > e->room) {
        e->room = n;
        e->previous = (uint32_t *)xrealloc(e->previous, n * sizeof *e->previous);
        e->next = (uint32_t *)xrealloc(e->next, n * sizeof *e->next);
    }
    for (uint32_t i = 0; i < n; i++) {
        e->previous[i] = i > 0 ? i - 1 : BPE_NONE;
        e->next[i] = i + 1 < n ? i + 1 : BPE_NONE;
    }
    for (uint32_t i = 0; i < n; i++) bpe_note(e, ids, i);
    for (BpeHeapItem top; bpe_heap_pop(&e->heap, &top); ) {
        BpePlaces *p = &e->places[top.key];
        while (p->first < p->count) {
            uint32_t at = p->at[p->first++];
            if (bpe_rank_at(e, ids, at) != top.key) continue;
            uint32_t gone = e->next[at];
            ids[at] = e->bpe->merges[top.key].token;
            ids[gone] = BPE_NONE;
            e->next[at] = e->next[gone];
            if (e->next[at] != BPE_NONE) e->previous[e->next[at]] = at;
            bpe_note(e, ids, e->previous[at]);
            bpe_note(e, ids, at);
            if (e->heap.count == 0 || e->heap.items[0].key > top.key || p->first == p->count) continue;
            bpe_heap_push(&e->heap, top.key, 0);    // never of a trained vocabulary: a lower rank has come up
            break;
        }
    }
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        if (ids[i] != BPE_NONE) ids[count++] = ids[i];
    return count;
}

static inline size_t bpe_encode_piece(BpeEncoder *e, const char *piece, size_t n, uint32_t *ids) {
    BpeCached *cached = n <= BPE_CACHED_BYTES ? &e->cache[bpe_hash(piece, n) % BPE_CACHE_SLOTS] : NULL;
    if (cached && cached->length == n && memcmp(cached->piece, piece, n) == 0) {
        for (int i = 0; i < cached->count; i++) ids[i] = cached->ids[i];
        return cached->count;
    }
    uint32_t whole = e->bpe->ignore_merges ? bpe_strings_find(&e->bpe->tokens, piece, n) : BPE_NONE;
    size_t count = 1;
    if (whole != BPE_NONE) ids[0] = whole;
    else {
        for (size_t i = 0; i < n; i++) ids[i] = e->bpe->byte_id[(uint8_t)piece[i]];
        count = n <= BPE_SHORT ? bpe_merge_short(e->bpe, ids, n) : bpe_merge_long(e, ids, n);
    }
    if (cached && count <= BPE_CACHED_IDS) {
        cached->length = (uint8_t)n;
        cached->count = (uint8_t)count;
        memcpy(cached->piece, piece, n);
        memcpy(cached->ids, ids, count * sizeof *ids);
    }
    return count;
}

static inline long bpe_encode_pieces(BpeEncoder *e, const char *text, size_t n, uint32_t *ids, char *error,
                                     size_t room) {
    size_t count = 0;
    const char *piece;
    bpe_splitter_start(&e->splitter, text, n);
    for (long length; (length = bpe_split(&e->splitter, &piece, error, room)) != 0; ) {
        if (length < 0) return -1;
        if (length >= (long)BPE_NONE) {
            snprintf(error, room, "byte %zu: %ld bytes that no space or change of kind divides: below 4 GiB expected",
                     (size_t)(piece - text), length);
            return -1;
        }
        count += bpe_encode_piece(e, piece, (size_t)length, ids + count);
    }
    return (long)count;
}

// The first added token of a text that is to be made, of those looked for before or after normalization: NULL where
// there is none, else *at is where it begins and *length how long it is. The longest one counts of those that begin at
// one place; a special token is text, and hides what it has in common with others.
static inline const BpeAdded *bpe_find_added(const Bpe *b, bool normalized, const char *text, size_t n, size_t *at,
                                             size_t *length) {
    for (*at = 0; b->any_plain && *at < n; *at += *length > 0 ? *length : 1) {
        const BpeAdded *longest = NULL;
        *length = 0;
        for (size_t i = 0; b->begins[(uint8_t)text[*at]] && i < b->added_count; i++) {
            size_t size;
            const char *token = bpe_token(b, b->added[i].id, &size);
            if (b->added[i].normalized != normalized || size <= *length || size > n - *at ||
                memcmp(token, text + *at, size) != 0) continue;
            longest = &b->added[i];
            *length = size;
        }
        if (longest && !longest->special) return longest;
    }
    return NULL;
}

// Text between added tokens: first those that are looked for in the text as it is, then in what is normalized.
static inline long bpe_encode_between(BpeEncoder *e, bool normalized, const char *text, size_t n, uint32_t *ids,
                                      char *error, size_t room) {
    long count = 0;
    for (size_t from = 0, at, length; from < n; from += at + length) {
        const BpeAdded *added = bpe_find_added(e->bpe, normalized, text + from, n - from, &at, &length);
        if (!added) at = n - from, length = 0;
        size_t size = at;
        char *normal = !normalized && e->bpe->nfc ? unicode_nfc(text + from, at, &size) : NULL;
        long more = (normalized ? bpe_encode_pieces(e, text + from, at, ids + count, error, room)
                                : bpe_encode_between(e, true, normal ? normal : text + from, size, ids + count, error, room));
        free(normal);
        if (more < 0) return -1;
        count += more;
        if (added) ids[count++] = added->id;
    }
    return count;
}

// How many ids n bytes of text can become: a token is at least one byte long.
static inline size_t bpe_room(const Bpe *b, size_t n) { return b->nfc ? UNICODE_NFC_GROWTH * n : n; }

// n bytes of text to ids (bpe_room of them). Returns the number of ids, or -1.
static inline long bpe_encode(BpeEncoder *e, const char *text, size_t n, uint32_t *ids, char *error, size_t room) {
    return bpe_encode_between(e, false, text, n, ids, error, room);
}

// ---------------------------------------------------------------------------------------------------------------------
// Training

typedef struct {
    BpeStrings strings;     // the distinct pieces of a text
    uint64_t *counts;       // how often each occurs
    size_t room;
} BpeWords;

static inline void bpe_words_free(BpeWords *w) {
    bpe_strings_free(&w->strings);
    free(w->counts);
    memset(w, 0, sizeof *w);
}

static inline void bpe_words_add(BpeWords *w, const void *word, size_t n, uint64_t count) {
    size_t before = w->strings.count;
    uint32_t i = bpe_strings_add(&w->strings, word, n);
    if (w->strings.count > w->room)
        w->counts = (uint64_t *)xrealloc(w->counts, (w->room = 2 * w->room + 1024) * sizeof *w->counts);
    w->counts[i] = (i < before ? w->counts[i] : 0) + count;
}

enum { BPE_PARTS = 16 };    // of a text to be counted: not the number of threads, so that nothing depends on it

// Adds the pieces of n bytes of text to words (zeroed before the first text). Call it for each part of a corpus that
// is larger than memory, cut by bpe_cut. Returns 0, or -1.
static inline int bpe_count(BpeWords *words, const char *text, size_t n, char *error, size_t room) {
    BpeWords parts[BPE_PARTS] = { 0 };
    size_t cuts[BPE_PARTS + 1] = { 0 };
    for (size_t i = 1; i <= BPE_PARTS; i++) {
        size_t from = n / BPE_PARTS * i;
        cuts[i] = i == BPE_PARTS ? n : bpe_cut(text, from > cuts[i - 1] ? from : cuts[i - 1] + 1, n);
    }
    bool failed = false;
    #pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < BPE_PARTS; i++) {
        BpeSplitter splitter;
        char reason[256];
        const char *piece;
        long length = bpe_splitter_open(&splitter, 0, reason, sizeof reason);
        if (length == 0) {
            bpe_splitter_start(&splitter, text + cuts[i], cuts[i + 1] - cuts[i]);
            while ((length = bpe_split(&splitter, &piece, reason, sizeof reason)) > 0)
                bpe_words_add(&parts[i], piece, (size_t)length, 1);
            bpe_splitter_close(&splitter);
        }
        if (length < 0) {
            #pragma omp critical
            {
                failed = true;
                snprintf(error, room, "%s", reason);
            }
        }
    }
    for (int i = 0; i < BPE_PARTS; i++) {
        const BpeStrings *s = &parts[i].strings;
        for (size_t k = 0; k < s->count; k++)
            bpe_words_add(words, s->bytes + s->start[k], bpe_string_length(s, k), parts[i].counts[k]);
        bpe_words_free(&parts[i]);
    }
    return failed ? -1 : 0;
}

typedef struct {            // a token of a word
    uint32_t id;            // BPE_NONE where it went into the token before
    uint32_t word;
    uint32_t previous, next;        // in the word
    uint32_t before, after;         // where else the pair occurs that begins here
} BpeNode;

typedef struct {            // two neighbours, left << 32 | right
    uint64_t pair;
    uint64_t count;
    uint32_t first, last;   // the nodes at which it begins
    bool grown;             // it has new occurrences, the heap doesn't know
} BpePair;

typedef struct {
    const uint64_t *counts; // of the words
    BpeNode *nodes;
    BpePair *pairs;
    uint32_t pair_count, grown_count;
    size_t pair_room, grown_room;
    BpePairs index;         // of pairs
    uint32_t *grown;
    BpeHeap heap;           // ~count, pair: the most frequent first
} BpeTrainer;

// The pair that begins at a node that is not the last of its word, made where it is new.
static inline BpePair *bpe_pair_at(BpeTrainer *t, uint32_t at) {
    uint64_t pair = bpe_pair(t->nodes[at].id, t->nodes[t->nodes[at].next].id);
    uint32_t i = bpe_pairs_slot(&t->index, pair)->value;
    if (i == BPE_NONE) {
        i = t->pair_count++;
        if (i == t->pair_room)
            t->pairs = (BpePair *)xrealloc(t->pairs, (t->pair_room = 2 * t->pair_room + 1024) * sizeof *t->pairs);
        t->pairs[i] = (BpePair){ pair, 0, BPE_NONE, BPE_NONE, false };
        bpe_pairs_set(&t->index, pair, i);
    }
    return &t->pairs[i];
}

// Counts the pair that begins at a node.
static inline void bpe_link(BpeTrainer *t, uint32_t at) {
    if (at == BPE_NONE || t->nodes[at].next == BPE_NONE) return;
    BpePair *p = bpe_pair_at(t, at);
    BpeNode *node = &t->nodes[at];
    p->count += t->counts[node->word];
    node->before = p->last;
    node->after = BPE_NONE;
    if (p->last == BPE_NONE) p->first = at;
    else t->nodes[p->last].after = at;
    p->last = at;
    if (p->grown) return;
    p->grown = true;
    if (t->grown_count == t->grown_room)
        t->grown = (uint32_t *)xrealloc(t->grown, (t->grown_room = 2 * t->grown_room + 1024) * sizeof *t->grown);
    t->grown[t->grown_count++] = (uint32_t)(p - t->pairs);
}

// The opposite, before one of the pair's two tokens becomes another.
static inline void bpe_unlink(BpeTrainer *t, uint32_t at) {
    if (at == BPE_NONE || t->nodes[at].next == BPE_NONE) return;
    BpePair *p = bpe_pair_at(t, at);
    const BpeNode *node = &t->nodes[at];
    p->count -= t->counts[node->word];
    if (node->before == BPE_NONE) p->first = node->after;
    else t->nodes[node->before].after = node->after;
    if (node->after == BPE_NONE) p->last = node->before;
    else t->nodes[node->after].before = node->before;
}

static inline void bpe_queue_grown(BpeTrainer *t) {
    for (uint32_t i = 0; i < t->grown_count; i++) {
        BpePair *p = &t->pairs[t->grown[i]];
        if (p->count > 0) bpe_heap_push(&t->heap, ~p->count, p->pair);
        p->grown = false;
    }
    t->grown_count = 0;
}

// Makes one token of every occurrence of a pair. Within a word they come from left to right.
static inline void bpe_merge_everywhere(BpeTrainer *t, uint32_t pair, uint32_t token) {
    for (uint32_t at; (at = t->pairs[pair].first) != BPE_NONE; ) {
        BpeNode *node = &t->nodes[at], *gone = &t->nodes[node->next];
        bpe_unlink(t, node->previous);
        bpe_unlink(t, node->next);
        bpe_unlink(t, at);
        node->id = token;
        gone->id = BPE_NONE;
        node->next = gone->next;
        if (node->next != BPE_NONE) t->nodes[node->next].previous = at;
        bpe_link(t, node->previous);
        bpe_link(t, at);
    }
}

// GPT-2 writes each byte as a printable character: itself where it is one in Latin-1, else U+0100, U+0101, ...
// Sorted by these characters the bytes are a trained vocabulary's first tokens.
static inline uint32_t bpe_character(uint32_t byte) {
    if (byte <= ' ') return 0x100 + byte;
    if (byte >= 0x7f && byte <= 0xa0) return 0x121 + byte - 0x7f;
    return byte == 0xad ? 0x143 : byte;
}

// The opposite; -1 where the character is none of these.
static inline int bpe_byte(uint32_t character) {
    uint32_t byte = character < 0x100 ? character : character <= 0x120 ? character - 0x100
                  : character <= 0x142 ? character - 0x121 + 0x7f : 0xad;
    return bpe_character(byte) == character ? (int)byte : -1;
}

// The token of two tokens' bytes, appended where it is new; BPE_NONE where an added token is spelled so.
static inline uint32_t bpe_concatenate(Bpe *b, uint32_t left, uint32_t right) {
    size_t n, more;
    const char *left_bytes = bpe_token(b, left, &n), *right_bytes = bpe_token(b, right, &more);
    char *bytes = (char *)xmalloc(n + more + 1);
    memcpy(bytes, left_bytes, n);
    memcpy(bytes + n, right_bytes, more);
    bytes[n + more] = '\0';
    uint32_t token = strlen(bytes) == n + more && bpe_added(b, bytes)
                         ? BPE_NONE : bpe_strings_add(&b->tokens, bytes, n + more);
    free(bytes);
    return token;
}

// Makes a vocabulary of `size` tokens: the special ones, the 256 bytes, then the merges; fewer where no pair is left.
// The result depends on the words and their counts only. Returns 0, or -1; b then needs no bpe_free.
static inline int bpe_train(Bpe *b, const BpeWords *words, size_t size, const char *const *special, size_t specials,
                            char *error, size_t room) {
    const BpeStrings *s = &words->strings;
    size_t n = s->count ? s->start[s->count] : 0;
    memset(b, 0, sizeof *b);
    if (size < specials + 256 || size > INT32_MAX || n >= BPE_NONE) {
        if (n >= BPE_NONE) snprintf(error, room, "%zu bytes of distinct words: below 4 GiB expected", n);
        else snprintf(error, room, "a vocabulary of %zu tokens: at least %zu expected (256 bytes%s)", size,
                      specials + 256, specials ? " and the special tokens" : "");
        return -1;
    }
    bpe_pairs_make(&b->ranks, 1024);
    for (size_t i = 0; i < specials; i++) {
        size_t length = strlen(special[i]);
        if (length < 2 || bpe_added(b, special[i])) {
            snprintf(error, room, "special token \"%s\": %s", special[i], length < 2 ? "two characters or more expected"
                                                                                   : "given twice");
            bpe_free(b);
            return -1;
        }
        bpe_add_special(b, special[i]);
    }
    for (int printable = 1; printable >= 0; printable--)
        for (int byte = 0; byte < 256; byte++)
            if ((bpe_character((uint32_t)byte) < 0x100) == printable)
                b->byte_id[byte] = bpe_strings_add(&b->tokens, &(uint8_t){ (uint8_t)byte }, 1);

    BpeTrainer t = { .counts = words->counts };
    t.nodes = (BpeNode *)xmalloc(n * sizeof *t.nodes);
    bpe_pairs_make(&t.index, 1 << 16);
    for (uint32_t word = 0; word < s->count; word++)
        for (size_t i = s->start[word]; i < s->start[word + 1]; i++)
            t.nodes[i] = (BpeNode){ .id = b->byte_id[s->bytes[i]], .word = word,
                                    .previous = i > s->start[word] ? (uint32_t)i - 1 : BPE_NONE,
                                    .next = i + 1 < s->start[word + 1] ? (uint32_t)i + 1 : BPE_NONE };
    for (uint32_t i = 0; i < n; i++) bpe_link(&t, i);
    bpe_queue_grown(&t);

    for (BpeHeapItem top; b->tokens.count < size && bpe_heap_pop(&t.heap, &top); ) {
        uint32_t pair = bpe_pairs_slot(&t.index, top.value)->value;
        uint64_t count = t.pairs[pair].count;
        if (count != ~top.key) {            // the heap's count is an old one
            if (count > 0) bpe_heap_push(&t.heap, ~count, top.value);
            continue;
        }
        uint32_t left = (uint32_t)(top.value >> 32), right = (uint32_t)top.value;
        uint32_t token = bpe_concatenate(b, left, right);
        if (token == BPE_NONE) continue;    // a special token's text
        if (bpe_pairs_get(&b->ranks, left, right) == BPE_NONE) bpe_add_merge(b, left, right, token);
        bpe_merge_everywhere(&t, pair, token);
        bpe_queue_grown(&t);
    }
    free(t.nodes);
    free(t.pairs);
    free(t.index.slots);
    free(t.grown);
    free(t.heap.items);
    return 0;
}

// ---------------------------------------------------------------------------------------------------------------------
// The field's files: Hugging Face's tokenizer.json; GPT-2's encoder.json with vocab.bpe

// The bytes of a name as these files write it, n of them, into bytes (room for n). Returns how many, or -1 where the
// name has another character than GPT-2's 256, all of which are one or two bytes long in UTF-8.
static inline long bpe_parse_name(const char *name, size_t n, uint8_t *bytes) {
    long count = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t c = (uint8_t)name[i];
        if (c >= 0xc2 && c < 0xe0 && i + 1 < n && (name[i + 1] & 0xc0) == 0x80)
            c = (c & 0x1f) << 6 | (name[++i] & 0x3f);
        else if (c >= 0x80) return -1;
        int byte = bpe_byte(c);
        if (byte < 0) return -1;
        bytes[count++] = (uint8_t)byte;
    }
    return count;
}

// The name of a token: the opposite. The caller frees it.
static inline char *bpe_make_name(const uint8_t *bytes, size_t n) {
    char *name = (char *)xmalloc(2 * n + 1), *end = name;
    for (size_t i = 0; i < n; i++) {
        uint32_t c = bpe_character(bytes[i]);
        if (c >= 0x80) *end++ = (char)(0xc0 | c >> 6);
        *end++ = (char)(c < 0x80 ? c : 0x80 | (c & 0x3f));
    }
    *end = '\0';
    return name;
}

// The token of this name, or BPE_NONE.
static inline uint32_t bpe_named(const Bpe *b, const char *name, size_t n) {
    uint8_t *bytes = (uint8_t *)xmalloc(n);
    long count = bpe_parse_name(name, n, bytes);
    uint32_t id = count > 0 ? bpe_strings_find(&b->tokens, bytes, (size_t)count) : BPE_NONE;
    free(bytes);
    return id;
}

// What a tokenizer.json may say, beside its tokens and merges: one of these values. Everything else would make other
// ids, but for the post-processor, which adds special tokens: the caller does that.
typedef struct { const char *key, *values; bool required; } BpeSetting;

static const BpeSetting bpe_settings[] = {
    { "truncation", "null", false },                { "padding", "null", false },
    { "normalizer", "null {\"type\":\"NFC\"}", false }, { "pre_tokenizer.type", "\"ByteLevel\" \"Sequence\"", true },
    { "post_processor.type", "\"ByteLevel\" \"TemplateProcessing\" \"Sequence\"", false },
    { "decoder.type", "\"ByteLevel\"", false },
    { "model.type", "\"BPE\"", false },             { "model.dropout", "null", false },
    { "model.continuing_subword_prefix", "\"\"", false }, { "model.end_of_word_suffix", "\"\"", false },
    { "model.byte_fallback", "false", false },      { "model.ignore_merges", "false true", false },
}, bpe_byte_level[] = {                             // GPT-2's split
    { "pre_tokenizer.add_prefix_space", "false", true }, { "pre_tokenizer.use_regex", "true", false },
}, bpe_sequence[] = {                               // a split by another pattern, its matches kept
    { "pre_tokenizer.pretokenizers.0.type", "\"Split\"", true },
    { "pre_tokenizer.pretokenizers.0.behavior", "\"Isolated\" \"Removed\"", true },
    { "pre_tokenizer.pretokenizers.1.type", "\"ByteLevel\"", true },
    { "pre_tokenizer.pretokenizers.1.add_prefix_space", "false", true },
    { "pre_tokenizer.pretokenizers.1.use_regex", "false", true },
    { "pre_tokenizer.pretokenizers.2", "null", false },
}, bpe_isolated = { "pre_tokenizer.pretokenizers.0.invert", "false", true },
  bpe_removed = { "pre_tokenizer.pretokenizers.0.invert", "true", true };

// "a.b" of an object, "a.0" of a list; NULL where there is none.
static inline const cJSON *bpe_json_at(const cJSON *object, const char *key) {
    const char *dot = strchr(key, '.');
    char *head = format("%.*s", (int)(dot ? dot - key : (long)strlen(key)), key);
    const cJSON *item = cJSON_IsArray(object) ? cJSON_GetArrayItem(object, atoi(head))
                                              : cJSON_GetObjectItemCaseSensitive(object, head);
    free(head);
    return dot && item ? bpe_json_at(item, dot + 1) : item;
}

static inline int bpe_check_settings(const cJSON *root, const BpeSetting *settings, size_t count, char *error,
                                     size_t room) {
    for (size_t i = 0; i < count; i++) {
        const cJSON *item = bpe_json_at(root, settings[i].key);
        if (!settings[i].required && (!item || cJSON_IsNull(item))) continue;
        char *value = item ? cJSON_PrintUnformatted(item) : xstrdup("missing");
        const char *at = value && *value ? strstr(settings[i].values, value) : NULL;
        bool accepted = at && strchr(" ", at[strlen(value)]);     // a whole one of them
        if (!accepted)
            snprintf(error, room, "%s: %.60s: %s expected", settings[i].key, value ? value : "?", settings[i].values);
        free(value);
        if (!accepted) return -1;
    }
    return 0;
}

// Everything but the tokens and the merges. Fills b's nfc, pattern and ignore_merges.
static inline int bpe_take_settings(Bpe *b, const cJSON *root, char *error, size_t room) {
    if (bpe_check_settings(root, bpe_settings, COUNT_OF(bpe_settings), error, room) != 0) return -1;
    b->nfc = cJSON_IsObject(bpe_json_at(root, "normalizer"));
    b->ignore_merges = cJSON_IsTrue(bpe_json_at(root, "model.ignore_merges"));
    if (strcmp(bpe_json_at(root, "pre_tokenizer.type")->valuestring, "ByteLevel") == 0)
        return bpe_check_settings(root, bpe_byte_level, COUNT_OF(bpe_byte_level), error, room);
    if (bpe_check_settings(root, bpe_sequence, COUNT_OF(bpe_sequence), error, room) != 0) return -1;
    bool removed = strcmp(bpe_json_at(root, "pre_tokenizer.pretokenizers.0.behavior")->valuestring, "Removed") == 0;
    if (bpe_check_settings(root, removed ? &bpe_removed : &bpe_isolated, 1, error, room) != 0) return -1;
    const cJSON *regex = bpe_json_at(root, "pre_tokenizer.pretokenizers.0.pattern.Regex");
    for (b->pattern = 0; b->pattern < (int)COUNT_OF(bpe_patterns); b->pattern++)
        if (cJSON_IsString(regex) && strcmp(regex->valuestring, bpe_patterns[b->pattern]) == 0) return 0;
    snprintf(error, room, "pre_tokenizer.pretokenizers.0.pattern.Regex: %.60s: the pattern of GPT-2, Llama 3, Qwen2 or "
             "GPT-4o expected", cJSON_IsString(regex) ? regex->valuestring : "missing");
    return -1;
}

// An id of a vocabulary of at most `size` tokens; -1 where item is none.
static inline long bpe_json_id(const cJSON *item, size_t size) {
    double x = cJSON_IsNumber(item) ? item->valuedouble : -1;
    return x >= 0 && x < (double)size && x == (double)(long)x ? (long)x : -1;
}

typedef struct {
    const char *text;
    const cJSON *added;     // its entry in added_tokens, or NULL
    bool both;              // it is in the vocabulary too
} BpeName;

// The names of a vocabulary by id, from {"name": id, ...} and (NULL: none) [{"content": "text", "id": id, ...}, ...],
// into names (size of them, zeroed). Returns how many there are, or -1.
static inline long bpe_collect_names(BpeName *names, size_t size, const cJSON *vocab, const cJSON *added, char *error,
                                     size_t room) {
    const cJSON *item;
    long count = 0;
    cJSON_ArrayForEach(item, added) {
        const cJSON *content = bpe_json_at(item, "content");
        long id = bpe_json_id(bpe_json_at(item, "id"), size);
        if (!cJSON_IsString(content) || strlen(content->valuestring) < 2 || id < 0 || names[id].text) {
            snprintf(error, room, "added_tokens[%ld]: content of two characters or more, its own id expected", count);
            return -1;
        }
        static const char *const flags[] = { "single_word", "lstrip", "rstrip" };     // where a token counts as found
        for (size_t i = 0; i < COUNT_OF(flags) && !cJSON_IsTrue(bpe_json_at(item, "special")); i++) {
            if (!cJSON_IsTrue(bpe_json_at(item, flags[i]))) continue;
            snprintf(error, room, "added_tokens[%ld].%s: true: false expected of a token that is not special", count, flags[i]);
            return -1;
        }
        names[id] = (BpeName){ content->valuestring, item, false };
        count++;
    }
    cJSON_ArrayForEach(item, vocab) {
        long id = bpe_json_id(item, size);
        if (id >= 0 && names[id].added && !names[id].both && strcmp(names[id].text, item->string) == 0) {
            names[id].both = true;
            continue;
        }
        if (id < 0 || names[id].text) {
            snprintf(error, room, "model.vocab: \"%.40s\": an id of its own of 0, 1, 2, ... expected", item->string);
            return -1;
        }
        names[id] = (BpeName){ item->string, NULL, false };
        count++;
    }
    return count;
}

// Whether an added token has one id, and is found as `tokenizers` finds it: in a text that is cut by bpe_cut and, of
// those looked for in the normalized text, spelled as that is. Returns 0, or -1.
static inline int bpe_check_added(const Bpe *b, const BpeAdded *added, char *error, size_t room) {
    size_t n = bpe_string_length(&b->tokens, added->id), normal_length;
    char *text = format("%.*s", (int)n, (const char *)b->tokens.bytes + b->tokens.start[added->id]);
    char *normal = unicode_nfc(text, n, &normal_length);
    const char *wrong = NULL;
    uint32_t named = bpe_named(b, text, n);
    if (bpe_added(b, text) != added || (named != BPE_NONE && named != added->id)) wrong = "one id expected, there are two";
    else if (!b->any_plain) wrong = NULL;           // none is looked for
    else if (bpe_cut(text, 1, n) < n) wrong = "has a space or a line end behind other characters: not implemented";
    else if (b->nfc && added->normalized && (normal_length != n || memcmp(normal, text, n) != 0))
        wrong = "is not in normalization form C";
    if (wrong) snprintf(error, room, "added_tokens: \"%.40s\": %s", text, wrong);
    free(text);
    free(normal);
    return wrong ? -1 : 0;
}

static inline int bpe_take_vocab(Bpe *b, const cJSON *vocab, const cJSON *added, char *error, size_t room) {
    if (!cJSON_IsObject(vocab) || (added && !cJSON_IsArray(added) && !cJSON_IsNull(added))) {
        snprintf(error, room, cJSON_IsObject(vocab) ? "added_tokens: a list expected"
                                                    : "model.vocab: an object of tokens and their ids expected");
        return -1;
    }
    size_t size = (size_t)cJSON_GetArraySize(vocab) + (size_t)cJSON_GetArraySize(added);
    BpeName *names = (BpeName *)xcalloc(size, sizeof *names);
    long count = bpe_collect_names(names, size, vocab, added, error, room);
    bool taken = count >= 0;
    for (long id = 0; taken && id < count; id++) {
        const char *name = names[id].text;
        size_t length = name ? strlen(name) : 0;
        uint8_t *bytes = (uint8_t *)xmalloc(length);
        const cJSON *entry = names[id].added;
        bool special = entry && cJSON_IsTrue(bpe_json_at(entry, "special")), merged = !entry || (names[id].both && !special);
        long n = name && merged ? bpe_parse_name(name, length, bytes) : 0;
        bool same = !entry || ((size_t)n == length && memcmp(bytes, name, length) == 0);
        if (merged) taken = n > 0 && same && bpe_strings_add(&b->tokens, bytes, (size_t)n) == id;
        else bpe_strings_append(&b->tokens, name, length);
        if (entry && taken) bpe_add(b, (uint32_t)id, special, cJSON_IsTrue(bpe_json_at(entry, "normalized")));
        free(bytes);
        if (taken) continue;
        if (!name) snprintf(error, room, "model.vocab: no token has id %ld, of %ld tokens", id, count);
        else snprintf(error, room, "model.vocab: \"%.40s\": %s", name, !same ? "an added token, and other bytes here"
                      : n > 0 ? "a second token of these bytes" : "not a token of bytes (byte-level BPE)");
    }
    free(names);
    for (size_t i = 0; taken && i < b->added_count; i++) taken = bpe_check_added(b, &b->added[i], error, room) == 0;
    for (int byte = 0; taken && byte < 256; byte++) {
        b->byte_id[byte] = bpe_strings_find(&b->tokens, &(uint8_t){ (uint8_t)byte }, 1);
        if (b->byte_id[byte] != BPE_NONE) continue;
        snprintf(error, room, "model.vocab: no token is byte 0x%02X alone (byte-level BPE expected)", byte);
        taken = false;
    }
    return taken ? 0 : -1;
}

// The next merge: two tokens whose bytes together are a third.
static inline int bpe_take_merge(Bpe *b, const char *left, size_t left_length, const char *right, size_t right_length) {
    char *both = format("%.*s%.*s", (int)left_length, left, (int)right_length, right);
    uint32_t ids[3] = { bpe_named(b, left, left_length), bpe_named(b, right, right_length),
                        bpe_named(b, both, left_length + right_length) };
    free(both);
    if (ids[0] == BPE_NONE || ids[1] == BPE_NONE || ids[2] == BPE_NONE) return -1;
    bpe_add_merge(b, ids[0], ids[1], ids[2]);
    return 0;
}

// "left right", length bytes.
static inline int bpe_take_merge_line(Bpe *b, const char *line, size_t length) {
    const char *space = (const char *)memchr(line, ' ', length);
    return space ? bpe_take_merge(b, line, (size_t)(space - line), space + 1, length - (size_t)(space - line) - 1) : -1;
}

// ["left right", ...] or [["left", "right"], ...]
static inline int bpe_take_merges(Bpe *b, const cJSON *merges, char *error, size_t room) {
    const cJSON *item;
    long i = 0;
    if (!cJSON_IsArray(merges)) {
        snprintf(error, room, "model.merges: a list expected");
        return -1;
    }
    cJSON_ArrayForEach(item, merges) {
        int taken = -1;
        const cJSON *left = cJSON_IsArray(item) ? item->child : NULL, *right = left ? left->next : NULL;
        if (cJSON_IsString(item))
            taken = bpe_take_merge_line(b, item->valuestring, strlen(item->valuestring));
        else if (cJSON_IsString(left) && cJSON_IsString(right) && !right->next)
            taken = bpe_take_merge(b, left->valuestring, strlen(left->valuestring), right->valuestring,
                                   strlen(right->valuestring));
        if (taken != 0) {
            snprintf(error, room, "model.merges[%ld]: two tokens expected that together are one of model.vocab", i);
            return -1;
        }
        i++;
    }
    return 0;
}

static inline cJSON *bpe_read_json(const char *path, char *error, size_t room) {
    size_t n;
    char *text = read_file(path, &n);
    if (!text) {
        snprintf(error, room, "%s: cannot be read: %s", path, strerror(errno));
        return NULL;
    }
    const char *end = text + strlen(text);      // cJSON takes a NUL for a space
    cJSON *root = end == text + n ? cJSON_ParseWithLengthOpts(text, n + 1, &end, true) : NULL;
    if (root && !cJSON_IsObject(root)) {
        cJSON_Delete(root);
        root = NULL;
        end = text;
    }
    if (!root) snprintf(error, room, "%s: not JSON, or not an object (byte %zu)", path, (size_t)(end - text));
    free(text);
    return root;
}

// Puts "path: " before a reason. Returns -1, b freed.
static inline int bpe_refuse(Bpe *b, const char *path, const char *reason, char *error, size_t room) {
    snprintf(error, room, "%s: %s", path, reason);
    for (char *c = error; *c; c++)
        if ((unsigned char)*c < ' ') *c = '?';      // of a name: one line it stays
    bpe_free(b);
    return -1;
}

// Reads a tokenizer.json of byte-level BPE type with a split of bpe_patterns. Returns 0, or -1 with a line that names
// path and the key; b then needs no bpe_free.
static inline int bpe_load(Bpe *b, const char *path, char *error, size_t room) {
    memset(b, 0, sizeof *b);
    cJSON *root = bpe_read_json(path, error, room);
    if (!root) return -1;
    char reason[256];
    bpe_pairs_make(&b->ranks, 1024);
    bool taken = bpe_take_settings(b, root, reason, sizeof reason) == 0 &&
                 bpe_take_vocab(b, bpe_json_at(root, "model.vocab"), bpe_json_at(root, "added_tokens"), reason,
                                sizeof reason) == 0 &&
                 bpe_take_merges(b, bpe_json_at(root, "model.merges"), reason, sizeof reason) == 0;
    cJSON_Delete(root);
    return taken ? 0 : bpe_refuse(b, path, reason, error, room);
}

// Whether a file that doesn't say how it splits can be GPT-2's: every token is special, a byte or what a merge makes
// (CLIP's and others mark the end of a word; half a file makes less), and of ASCII is within one piece (those of
// Llama 3, GPT-4 and Qwen have ".\n" and "(s"). Returns 0, or -1.
static inline int bpe_check_gpt2(const Bpe *b, char *error, size_t room) {
    BpeSplitter splitter;
    if (bpe_splitter_open(&splitter, 0, error, room) != 0) return -1;
    bool *made = (bool *)xcalloc(b->tokens.count, sizeof *made);
    for (int byte = 0; byte < 256; byte++) made[b->byte_id[byte]] = true;
    for (size_t i = 0; i < b->added_count; i++) made[b->added[i].id] = true;
    for (uint32_t i = 0; i < b->merge_count; i++) made[b->merges[i].token] = true;
    int result = 0;
    for (uint32_t id = 0; result == 0 && id < b->tokens.count; id++) {
        size_t n, ascii = 0;
        const char *token = bpe_token(b, id, &n), *piece;
        while (ascii < n && (signed char)token[ascii] >= 0) ascii++;
        bpe_splitter_start(&splitter, token, n);
        bool checked = ascii == n && bpe_special(b, BPE_EOT) != id;
        bool whole = !checked || bpe_split(&splitter, &piece, error, room) == (long)n;
        if (made[id] && whole) continue;
        char *name = bpe_make_name((const uint8_t *)token, n);
        snprintf(error, room, "token %u, \"%.40s\", is %s: not a vocabulary with GPT-2's split (its tokenizer.json "
                 "expected)", id, name, made[id] ? "more than a piece" : "made by no merge");
        free(name);
        result = -1;
    }
    free(made);
    bpe_splitter_close(&splitter);
    return result;
}

// Reads GPT-2's two files: {"name": id, ...}, and a line "left right" for each merge. <|endoftext|> is special.
static inline int bpe_load_gpt2(Bpe *b, const char *encoder_json, const char *vocab_bpe, char *error, size_t room) {
    memset(b, 0, sizeof *b);
    size_t n;
    char *text = read_file(vocab_bpe, &n), reason[256];
    if (!text) {
        snprintf(error, room, "%s: cannot be read: %s", vocab_bpe, strerror(errno));
        return -1;
    }
    cJSON *vocab = bpe_read_json(encoder_json, error, room), *added = cJSON_CreateArray();
    if (!vocab) {
        free(text);
        cJSON_Delete(added);
        return -1;
    }
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(vocab, BPE_EOT);
    if (id) {
        cJSON *special = cJSON_CreateObject();
        cJSON_AddStringToObject(special, "content", BPE_EOT);
        cJSON_AddNumberToObject(special, "id", cJSON_GetNumberValue(id));
        cJSON_AddTrueToObject(special, "special");
        cJSON_AddItemToArray(added, special);
    }
    bpe_pairs_make(&b->ranks, 1024);
    int result = bpe_take_vocab(b, vocab, added, reason, sizeof reason);
    if (result != 0) bpe_refuse(b, encoder_json, reason, error, room);
    size_t line = 1;
    for (const char *at = text; result == 0 && at < text + n; line++) {
        size_t length = strcspn(at, "\n");
        bool comment = line == 1 && strncmp(at, "#version", 8) == 0;
        if (!comment && bpe_take_merge_line(b, at, length) != 0) {
            snprintf(reason, sizeof reason, "line %zu: two tokens expected that together are one of %.80s", line,
                     encoder_json);
            result = bpe_refuse(b, vocab_bpe, reason, error, room);
        }
        at += length + 1;
    }
    if (result == 0 && bpe_check_gpt2(b, reason, sizeof reason) != 0)
        result = bpe_refuse(b, vocab_bpe, reason, error, room);
    cJSON_Delete(vocab);
    cJSON_Delete(added);
    free(text);
    return result;
}

// Makes a vocabulary of its `count` tokens alone (token i is bytes[start[i]] .. bytes[start[i + 1] - 1]), whose ids are
// in the order of the merges, as GPT-2's are: what the merges before a token make of its bytes must be two tokens, and
// the pair of them is its merge. There is no other merge of the same token: wherever a text has these bytes and nothing
// joins them with their neighbours, the same merges lead to the same pair. Returns 0, or -1 where the tokens are of
// another kind; b then needs no bpe_free.
static inline int bpe_of_tokens(Bpe *b, const uint8_t *bytes, const uint32_t *start, size_t count) {
    memset(b, 0, sizeof *b);
    bpe_pairs_make(&b->ranks, 1024);
    memset(b->byte_id, 0xff, sizeof b->byte_id);
    bool taken = true;
    for (size_t id = 0; taken && id < count; id++) {
        const uint8_t *token = bytes + start[id];
        size_t n = start[id + 1] - start[id];
        bool special = n == strlen(BPE_EOT) && memcmp(token, BPE_EOT, n) == 0 && b->added_count == 0;
        if (special) bpe_add_special(b, BPE_EOT);
        else taken = n <= BPE_SHORT_ROOM && bpe_strings_add(&b->tokens, token, n) == id;
        if (n == 1) b->byte_id[*token] = (uint32_t)id;
    }
    for (int byte = 0; byte < 256; byte++) taken = taken && b->byte_id[byte] != BPE_NONE;
    for (uint32_t id = 0; taken && id < count; id++) {
        const uint8_t *token = bytes + start[id];
        size_t n = start[id + 1] - start[id];
        uint32_t ids[BPE_SHORT_ROOM];
        if (n == 1 || (b->added_count && id == b->added[0].id)) continue;
        for (size_t i = 0; i < n; i++) ids[i] = b->byte_id[token[i]];
        taken = bpe_merge_short(b, ids, n) == 2;
        if (taken) bpe_add_merge(b, ids[0], ids[1], id);
    }
    char reason[256];
    if (taken && bpe_check_gpt2(b, reason, sizeof reason) == 0) return 0;
    bpe_free(b);
    return -1;
}

static inline cJSON *bpe_byte_level_json(bool use_regex) {
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "type", "ByteLevel");
    cJSON_AddFalseToObject(object, "add_prefix_space");
    cJSON_AddTrueToObject(object, "trim_offsets");
    cJSON_AddBoolToObject(object, "use_regex", use_regex);
    return object;
}

static inline cJSON *bpe_pre_tokenizer_json(int pattern) {
    if (pattern == 0) return bpe_byte_level_json(true);
    cJSON *object = cJSON_CreateObject(), *split = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "type", "Sequence");
    cJSON *list = cJSON_AddArrayToObject(object, "pretokenizers");
    cJSON_AddStringToObject(split, "type", "Split");
    cJSON_AddStringToObject(cJSON_AddObjectToObject(split, "pattern"), "Regex", bpe_patterns[pattern]);
    cJSON_AddStringToObject(split, "behavior", "Isolated");
    cJSON_AddFalseToObject(split, "invert");
    cJSON_AddItemToArray(list, split);
    cJSON_AddItemToArray(list, bpe_byte_level_json(false));
    return object;
}

// Writes a tokenizer.json as a whole or not at all. Returns 0, or -1 with errno set.
static inline int bpe_save(const Bpe *b, const char *path) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "version", "1.0");
    cJSON_AddNullToObject(root, "truncation");
    cJSON_AddNullToObject(root, "padding");
    cJSON *added = cJSON_AddArrayToObject(root, "added_tokens");
    char **names = (char **)xcalloc(b->tokens.count, sizeof *names);
    for (size_t i = 0; i < b->added_count; i++) {
        static const char *const flags[] = { "single_word", "lstrip", "rstrip" };
        uint32_t id = b->added[i].id;
        size_t n;
        const char *text = bpe_token(b, id, &n);
        cJSON *object = cJSON_CreateObject();
        names[id] = format("%.*s", (int)n, text);
        cJSON_AddNumberToObject(object, "id", id);
        cJSON_AddStringToObject(object, "content", names[id]);
        for (size_t k = 0; k < COUNT_OF(flags); k++) cJSON_AddFalseToObject(object, flags[k]);
        cJSON_AddBoolToObject(object, "normalized", b->added[i].normalized);
        cJSON_AddBoolToObject(object, "special", b->added[i].special);
        cJSON_AddItemToArray(added, object);
    }
    if (b->nfc) cJSON_AddStringToObject(cJSON_AddObjectToObject(root, "normalizer"), "type", "NFC");
    else cJSON_AddNullToObject(root, "normalizer");
    cJSON_AddItemToObject(root, "pre_tokenizer", bpe_pre_tokenizer_json(b->pattern));
    cJSON_AddItemToObject(root, "post_processor", bpe_byte_level_json(true));
    cJSON_AddItemToObject(root, "decoder", bpe_byte_level_json(true));

    cJSON *model = cJSON_AddObjectToObject(root, "model");
    cJSON_AddStringToObject(model, "type", "BPE");
    cJSON_AddNullToObject(model, "dropout");
    cJSON_AddNullToObject(model, "unk_token");
    cJSON_AddNullToObject(model, "continuing_subword_prefix");
    cJSON_AddNullToObject(model, "end_of_word_suffix");
    cJSON_AddFalseToObject(model, "fuse_unk");
    cJSON_AddFalseToObject(model, "byte_fallback");
    cJSON_AddBoolToObject(model, "ignore_merges", b->ignore_merges);
    cJSON *vocab = cJSON_AddObjectToObject(model, "vocab"), *merges = cJSON_AddArrayToObject(model, "merges");
    for (uint32_t id = 0; id < b->tokens.count; id++) {
        size_t n;
        const char *bytes = bpe_token(b, id, &n);
        bool merged = !names[id];
        if (merged) names[id] = bpe_make_name((const uint8_t *)bytes, n);
        if (merged || bpe_special(b, names[id]) == id || bpe_strings_find(&b->tokens, bytes, n) == id)
            cJSON_AddNumberToObject(vocab, names[id], id);
    }
    for (uint32_t i = 0; i < b->merge_count; i++) {
        char *line = format("%s %s", names[b->merges[i].left], names[b->merges[i].right]);
        cJSON_AddItemToArray(merges, cJSON_CreateString(line));
        free(line);
    }
    char *text = cJSON_Print(root);
    if (!text) fail("out of memory: %zu tokens as JSON", b->tokens.count);
    int result = write_file(path, text, strlen(text)), error = errno;
    for (size_t id = 0; id < b->tokens.count; id++) free(names[id]);
    free(names);
    free(text);
    cJSON_Delete(root);
    errno = error;
    return result;
}

#endif // BPE_H
