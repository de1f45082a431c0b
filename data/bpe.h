/* bpe.h - byte-level byte-pair encoding: training and encoding. bpe_files.h reads and writes the field's files of it.
 *
 * defines: Bpe, bpe_free, bpe_token, bpe_special; BpeEncoder, bpe_encoder_open, bpe_encode, bpe_room, bpe_cut,
 *          bpe_encoder_close; BpeWords, bpe_count, bpe_train, bpe_words_free
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
 * is made: threads share it, each with a BpeEncoder of its own. Needs PCRE2 and utf8proc (unicode.h).
 */
#ifndef BPE_H
#define BPE_H

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
    long lengths[BPE_PARTS];                    // of a part's last piece: 0 behind its end, -1 where it failed
    char reasons[BPE_PARTS][256];
    #pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < BPE_PARTS; i++) {
        BpeSplitter splitter;
        const char *piece;
        lengths[i] = bpe_splitter_open(&splitter, 0, reasons[i], sizeof reasons[i]);
        if (lengths[i] < 0) continue;
        bpe_splitter_start(&splitter, text + cuts[i], cuts[i + 1] - cuts[i]);
        while ((lengths[i] = bpe_split(&splitter, &piece, reasons[i], sizeof reasons[i])) > 0)
            bpe_words_add(&parts[i], piece, (size_t)lengths[i], 1);
        bpe_splitter_close(&splitter);
    }
    const char *reason = NULL;
    for (int i = 0; i < BPE_PARTS; i++) {
        const BpeStrings *s = &parts[i].strings;
        for (size_t k = 0; k < s->count; k++)
            bpe_words_add(words, s->bytes + s->start[k], bpe_string_length(s, k), parts[i].counts[k]);
        bpe_words_free(&parts[i]);
        if (lengths[i] < 0 && !reason) reason = reasons[i];
    }
    if (reason) snprintf(error, room, "%.255s", reason);
    return reason ? -1 : 0;
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

#endif // BPE_H
