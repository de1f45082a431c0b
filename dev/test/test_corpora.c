/* test_corpora.c - the program build/tokenize on whole corpora, and data/prepare.sh.
 *
 * Files, gzip, folders, documents, splits, formats, what is refused; then the folders that prepare.sh makes, downloads
 * and mirrors. Run from the project's folder, after tokenize is built (in $BUILD, or build); writes under
 * build/test/corpora only. Downloads are from file:// addresses.
 */
#define _GNU_SOURCE
#include "shell.h"
#include "tokens.h"

#define ROOT "build/test/corpora"
enum { CHUNK = 4 << 20 };      // how much of a text tokenize reads at once

// ---------------------------------------------------------------------------------------------------------------------
// Helpers

#define EOT "<|endoftext|>"
#define BYTES ROOT "/bytes.json"    // a byte-pair encoding without a merge: 257 tokens, the end of text is one

static void make_byte_tokenizer(void) {
    if (!file_exists(BYTES)) CHECK(run(TOKENIZE " train --vocab=257 --out=" BYTES " Makefile") == 0);
}

// The text of a split in the data folder dir, decoded by the tokenizer beside it.
static char *text_of(const char *dir, char split, size_t *n) {
    Tokenizer t;
    char *path = tokenizer_path(dir), error[512];
    if (tokenizer_load(&t, path, error, sizeof error) != 0) fail("%s", error);
    int count;
    Shard *shards = dataloader_shards(dir, split, &count);
    size_t room = 1 << 16;
    char *text = (char *)xmalloc(room);
    *n = 0;
    for (int i = 0; i < count; i++) {
        for (size_t k = 0; k < shards[i].count; k++) {
            int length = 0;
            const char *token = tokenizer_token(&t, (int)shard_token(&shards[i], k), &length);
            if (*n + (size_t)length + 1 > room) text = (char *)xrealloc(text, room = 2 * room + (size_t)length);
            if (token) memcpy(text + *n, token, (size_t)length);
            *n += (size_t)length;
        }
        shard_close(&shards[i]);
    }
    text[*n] = '\0';
    free(shards);
    tokenizer_free(&t);
    free(path);
    return text;
}

// Tokenizes `arguments` into a fresh folder and says whether the splits are these texts.
static bool splits_are(const char *arguments, const char *train, size_t train_n, const char *val, size_t val_n) {
    CHECK(run("rm -rf " ROOT "/out") == 0);
    char *command = format(TOKENIZE " shards --out=" ROOT "/out %s", arguments);
    bool same = run(command) == 0;
    for (int i = 0; same && i < 2; i++) {
        size_t n, expected_n = i == 0 ? train_n : val_n;
        char *text = text_of(ROOT "/out", i == 0 ? 't' : 'v', &n);
        same = n == expected_n && memcmp(text, i == 0 ? train : val, n) == 0;
        if (!same && n < 400) printf("    %s: %s: \"%s\"\n", arguments, i == 0 ? "train" : "val", text);
        free(text);
    }
    free(command);
    return same;
}

static bool splits_are_texts(const char *arguments, const char *train, const char *val) {
    return splits_are(arguments, train, strlen(train), val, strlen(val));
}

// ---------------------------------------------------------------------------------------------------------------------
// Documents

TEST(documents_are_divided_and_split) {
    free(test_folder("corpora"));
    make_byte_tokenizer();
#define WITH_EOT(how, every) "--tokenizer=" BYTES " --documents=" how " --val-every=" #every " " ROOT "/text"
#define WITHOUT_EOT(how, every) "--tokenizer=byte --documents=" how " --val-every=" #every " " ROOT "/text"

    // A separator is a whole line and nothing but: inside a line, indented or with a space behind it is text.
    put_text(ROOT "/text", EOT "\none\n\n" EOT "\ntwo " EOT "\n" EOT " \n" EOT "\r\n" EOT "\nthree\n " EOT "\n"
             EOT "\nfour\n" EOT);
    CHECK(splits_are_texts(WITH_EOT("endoftext", 2), EOT "one\n\n" EOT "three\n " EOT "\n",
                           EOT "two " EOT "\n" EOT " \n" EOT "four\n"));
    // Without a token for it, it stays as it stands.
    CHECK(splits_are_texts(WITHOUT_EOT("endoftext", 2), EOT "\none\n\n" EOT "\n" EOT "\nthree\n " EOT "\n" EOT "\n",
                           "two " EOT "\n" EOT " \n" EOT "\r\nfour\n" EOT));
    // Text never makes the token, where nothing was said of documents: one text, cut at nine tenths.
    put_text(ROOT "/text", "abcdefgh\n" EOT "\nhijklmn");
    CHECK(splits_are_texts("--tokenizer=" BYTES " " ROOT "/text", "abcdefgh\n" EOT "\nhijk", "lmn"));
    uint32_t first = ~0u;
    DataLoader d;
    dataloader_open(&d, ROOT "/out", 1, 257, 0);
    for (size_t i = 0; i < d.train[0].count; i++)
        if (shard_token(&d.train[0], i) < first) first = shard_token(&d.train[0], i);
    CHECK(first > 0 && d.train[0].count == 27);
    dataloader_close(&d);

    put_text(ROOT "/text", "\na\n\nb b\nc\r\n\r\nd");
    CHECK(splits_are_texts(WITH_EOT("line", 2), EOT "\na\n\n" EOT "c\r\n\r\n", EOT "b b\n" EOT "d"));
    CHECK(splits_are_texts(WITHOUT_EOT("line", 2), "\na\n\nc\r\n\r\n", "b b\nd"));
    CHECK(splits_are_texts(WITH_EOT("line", 3), EOT "\na\n\n" EOT "b b\n" EOT "d", EOT "c\r\n\r\n"));
    put_text(ROOT "/text", "\n\na\nb\n\n\n c\n\r\nd\n");
    CHECK(splits_are_texts(WITH_EOT("blank", 2), EOT "\n\na\nb\n\n\n" EOT "d\n", EOT " c\n\r\n"));
    CHECK(splits_are_texts(WITH_EOT("heading", 2), EOT "\n\na\nb\n\n\n c\n\r\n", EOT "d\n"));
    // Fewer than every-th documents: each still has its token, but the last tenth of the characters is for validation.
    CHECK(splits_are_texts(WITH_EOT("blank", 4), EOT "\n\na\nb\n\n\n" EOT " c\n\r\n", EOT "d\n"));

    // With a text for validation all documents of the other one are for training.
    put_text(ROOT "/val", "v\n\nw\n");
    CHECK(splits_are_texts("--tokenizer=" BYTES " --documents=blank --val=" ROOT "/val " ROOT "/text",
                           EOT "\n\na\nb\n\n\n" EOT " c\n\r\n" EOT "d\n", EOT "v\n\n" EOT "w\n"));
    CHECK_FAILS(shell, TOKENIZE " shards --out=" ROOT "/x --documents=page " ROOT "/text", 2,
                "--documents=page: endof");
    CHECK_FAILS(shell, TOKENIZE " shards --out=" ROOT "/x --val-every=1 " ROOT "/text", 2,
                "--val-every=1: an integer from 2");
    CHECK_FAILS(shell, TOKENIZE " shards --out=" ROOT "/x --val-every=9 --val=x " ROOT "/text", 2, "--val=x says what");
}

// Separators, characters and line ends on both sides of where one chunk ends and the next begins.
TEST(marks_that_divide_nothing_are_told) {
    static const struct { const char *text, *documents, *words; } cases[] = {
        { "one\n" EOT "\ntwo " EOT " three\n" EOT "\n", "--documents=endoftext", "/text: line 3: " EOT " stays text" },
        { "one\n\n" EOT "\ntwo\n" EOT " \nfour\n", "--documents=endoftext", "/text: line 5: " EOT " stays text" },
        { "one\n " EOT "\ntwo\n" EOT, "--documents=endoftext", "/text: line 2: " EOT " stays text" },
        { "one\n" EOT "\ntwo\n" EOT "\r\nthree\n" EOT, "--documents=endoftext", NULL },
        { "one\n" EOT "\ntwo\n", "--documents=line", "/text: line 2: " EOT " stays text: --documents=endoftext (make:" },
        { "one and " EOT "two\n", "", "/text: line 1: " EOT " stays text: --documents=endoftext (make:" },
        { "one and <|endoftext and two\n", "", NULL },
    };
    free(test_folder("corpora"));
    make_byte_tokenizer();
    for (size_t i = 0; i < 2 * COUNT_OF(cases); i++) {
        const char *words = cases[i / 2].words;
        put_text(ROOT "/text", cases[i / 2].text);
        char *command = format(TOKENIZE " shards --tokenizer=%s %s --val=Makefile --out=" ROOT "/out%zu " ROOT "/text 2>" ROOT "/said && "
                               "test $(wc -l <" ROOT "/said) = %d && grep -qF '%s' " ROOT "/said", i % 2 ? "byte" : BYTES,
                               cases[i / 2].documents, i, words != NULL, words ? words : "");
        if (!words) strcpy(strrchr(command, '&') - 2, "");
        CHECK_MSG(run(command) == 0, "case %zu", i);
        free(command);
    }
}

TEST(chunks_leave_no_trace) {
    free(test_folder("corpora"));
    make_byte_tokenizer();
    enum { ROOM = CHUNK + 4096 };
    char *text = (char *)xmalloc(ROOM), *train = (char *)xmalloc(ROOM);
    // The sixth character of the separator is the second chunk's first, in one text; its line end, in another.
    for (int shift = 0; shift < 2; shift++) {
        size_t at = CHUNK - (shift ? 14 : 6), n = 0;
        for (; n < at; n += 2) memcpy(text + n, n % 1000 == 998 || n + 2 == at ? ".\n" : "\xc3\xa9", 2);
        size_t head = n;
        n += (size_t)sprintf(text + n, EOT "\r\n");
        n += (size_t)sprintf(text + n, "the second\n" EOT "\nthird");
        put(ROOT "/text", text, n);
        size_t train_n = (size_t)sprintf(train, EOT);
        memcpy(train + train_n, text, head);
        train_n += head;
        train_n += (size_t)sprintf(train + train_n, EOT "third");
        CHECK(splits_are(WITH_EOT("endoftext", 2), train, train_n, EOT "the second\n", strlen(EOT "the second\n")));
    }
    // A character of four bytes over the border, as characters; and a line number of what is wrong behind it.
    memset(text, 'x', CHUNK + 100);
    for (size_t i = 99; i < CHUNK - 10; i += 100) text[i] = '\n';
    memcpy(text + CHUNK - 3, "\xf0\x9f\x98\x80", 4);
    put(ROOT "/text", text, CHUNK + 100);
    CHECK(splits_are("--val=" ROOT "/text " ROOT "/text", text, CHUNK + 100, text, CHUNK + 100));
    memcpy(text + CHUNK + 50, "\n\xff", 2);
    put(ROOT "/text", text, CHUNK + 100);
    CHECK_FAILS(shell, TOKENIZE " shards --out=" ROOT "/x " ROOT "/text", 1,
                "/text: line 41944: byte 0xFF is not UTF-8");
    // The same of a vocabulary that is given, and without shards left behind.
    CHECK_FAILS(shell, TOKENIZE " shards --tokenizer=" ROOT "/out/tokenizer.bin --out=" ROOT "/x " ROOT "/text", 1,
                "/text: line 41944: byte 0xFF is not UTF-8");
    CHECK(rmdir(ROOT "/x") == 0);
    free(train);
    free(text);
}

// One line of 20 MB that is one word, and one of words that is cut into chunks, by a byte-pair encoding.
TEST(long_lines_round_trip) {
    free(test_folder("corpora"));
    enum { N = 20000000, WORDS = CHUNK + CHUNK / 2 };
    char *text = (char *)xmalloc(N);
    for (size_t i = 0; i < WORDS; i++) text[i] = "etaoin shrdlu"[hash64(7, i) % 13];
    put(ROOT "/words", text, WORDS);
    for (size_t i = 0; i < N; i++) text[i] = "ab"[hash64(8, i) & 1];
    put(ROOT "/word", text, N);
    CHECK(run("head -c 100000 " ROOT "/words >" ROOT "/sample && tail -c 100000 " ROOT "/word >>" ROOT "/sample && "
              TOKENIZE " train --vocab=300 --out=" ROOT "/tok.json " ROOT "/sample") == 0);
#define TOK(command) TOKENIZE " " command " --tokenizer=" ROOT "/tok.json "
    CHECK(run(TOK("encode --u16") "<" ROOT "/words | " TOK("decode --u16") "| cmp - " ROOT "/words") == 0);
    CHECK(run(TOK("encode --u16") "<" ROOT "/word | " TOK("decode --u16") "| cmp - " ROOT "/word") == 0);
    // However it is cut, the ids are those of the whole.
    CHECK(run(TOK("shards --out=" ROOT "/out") "--val=Makefile " ROOT "/words") == 0);
    Tokenizer t;
    char error[256];
    if (tokenizer_load(&t, ROOT "/tok.json", error, sizeof error) != 0) fail("%s", error);
    for (size_t i = 0; i < WORDS; i++) text[i] = "etaoin shrdlu"[hash64(7, i) % 13];
    uint32_t *ids = (uint32_t *)xmalloc(WORDS * sizeof *ids);
    long count = tokenizer_encode(&t, text, WORDS, ids, error, sizeof error);
    Shard shard = shard_open(ROOT "/out/train_000000.bin");
    long same = 0;
    while (same < count && same < (long)shard.count && shard_token(&shard, (size_t)same) == ids[same]) same++;
    CHECK_MSG(same == count && count == (long)shard.count, "%ld ids of %ld, of %zu", same, count, shard.count);
    CHECK(run(TOK("encode --u16") "<" ROOT "/words >" ROOT "/ids && tail -c +1025 " ROOT
              "/out/train_000000.bin | cmp - " ROOT "/ids") == 0);
    shard_close(&shard);
    free(ids);
    tokenizer_free(&t);
    free(text);
}

// ---------------------------------------------------------------------------------------------------------------------
// Files and folders

TEST(gzip_and_folders_are_read) {
    free(test_folder("corpora"));
    make_byte_tokenizer();
    // Gzip, of several members too, is read as what it holds; a name says nothing.
    CHECK(run("seq 20000 >" ROOT "/text && gzip -c " ROOT "/text >" ROOT
              "/text.gz && { gzip -c Makefile; gzip -c muon.h; } >"
              ROOT "/two.dict.dz && cat Makefile muon.h >" ROOT "/both") == 0);
    CHECK(run(TOKENIZE " shards --out=" ROOT "/plain " ROOT "/text && " TOKENIZE " shards --out=" ROOT "/gz " ROOT
              "/text.gz && "
              "for f in train_000000.bin val_000000.bin tokenizer.bin; do cmp " ROOT "/plain/$f " ROOT
                  "/gz/$f || exit 1; done") == 0);
    CHECK(run(TOKENIZE " train --vocab=400 --out=" ROOT "/a.json " ROOT "/both && " TOKENIZE " train --vocab=400 --out="
              ROOT "/b.json " ROOT "/two.dict.dz && cmp " ROOT "/a.json " ROOT "/b.json") == 0);
    CHECK(run("printf '\\037' >" ROOT "/text && " TOKENIZE " shards --tokenizer=byte --out=" ROOT "/one --val=" ROOT
              "/text "
              ROOT "/text") == 0);       // gzip's first byte alone is a text of one byte

    // Damaged: cut in the middle and in its last four bytes, another checksum at its end, another header.
    CHECK(run("gzip -c muon.h >" ROOT "/good.gz && head -c 9000 " ROOT "/good.gz >" ROOT "/cut.gz && head -c -3 " ROOT
              "/good.gz >" ROOT "/short.gz && { head -c -8 " ROOT "/good.gz; printf 12345678; } >" ROOT "/crc.gz && "
              "printf '\\037\\213\\7abcdefghijklmnopqrstu' >" ROOT "/method.gz") == 0);
#define SHARDS TOKENIZE " shards --tokenizer=" BYTES " --out=" ROOT "/x "
    CHECK_FAILS(shell, SHARDS ROOT "/cut.gz", 1, "/cut.gz: cut off (a damaged gzip file)");
    CHECK_FAILS(shell, SHARDS ROOT "/short.gz", 1, "/short.gz: cut off (a damaged gzip file)");
    CHECK_FAILS(shell, SHARDS ROOT "/crc.gz", 1, "/crc.gz: incorrect data check (a damaged gzip file)");
    CHECK_FAILS(shell, SHARDS ROOT "/method.gz", 1, "/method.gz: unknown compression method (a damaged");
    // All of the file is eaten, or it is refused, as by gzip -dc: members, then zeros or nothing. A plain text isn't asked.
    CHECK(run("cd " ROOT " && { cat good.gz; head -c 999999 /dev/zero; } >padded.gz && printf 'a text' >plain.gz && "
              "{ cat good.gz; printf '\\037'; } >one.gz && { cat good.gz; printf x; } >x.gz && "
              "{ cat good.gz; echo more; } >more.gz && { cat good.gz; tail -c +2 good.gz; } >magic.gz && "
              "{ cat good.gz; head -c 500 good.gz; } >half.gz && { cat padded.gz good.gz; } >behind.gz && "
              "tail -c +2 good.gz >no_magic.txt.gz && cp no_magic.txt.gz no_magic.dict.dz") == 0);
    CHECK(run(TOKENIZE " shards --tokenizer=byte --out=" ROOT "/p/a muon.h && "
              TOKENIZE " shards --tokenizer=byte --out=" ROOT "/p/b " ROOT "/padded.gz && "
              "cmp " ROOT "/p/a/train_000000.bin " ROOT "/p/b/train_000000.bin && "
              "cmp " ROOT "/p/a/val_000000.bin " ROOT "/p/b/val_000000.bin") == 0);
    CHECK_FAILS(shell, SHARDS ROOT "/one.gz", 1, "/one.gz: cut off (a damaged gzip file)");
    CHECK_FAILS(shell, SHARDS ROOT "/x.gz", 1, "/x.gz: cut off (a damaged gzip file)");
    CHECK_FAILS(shell, SHARDS ROOT "/half.gz", 1, "/half.gz: cut off (a damaged gzip file)");
    CHECK_FAILS(shell, SHARDS ROOT "/more.gz", 1, "/more.gz: incorrect header check (a damaged gzip file)");
    CHECK_FAILS(shell, SHARDS ROOT "/magic.gz", 1, "/magic.gz: incorrect header check (a damaged gzip file)");
    CHECK_FAILS(shell, SHARDS ROOT "/behind.gz", 1, "/behind.gz: more behind its zeros (a damaged gzip file)");
    CHECK_FAILS(shell, SHARDS ROOT "/no_magic.txt.gz", 1, "/no_magic.txt.gz: not a gzip file, as its name says");
    CHECK_FAILS(shell, SHARDS ROOT "/no_magic.dict.dz", 1, "/no_magic.dict.dz: not a gzip file, as its name says");
    CHECK_FAILS(shell, SHARDS "--val-every=2 muon.h muon.h " ROOT "/plain.gz", 1, "/plain.gz: not a gzip file");
    CHECK_FAILS(shell, TOKENIZE " train --vocab=300 --out=" ROOT "/x.json " ROOT "/more.gz", 1, "/more.gz: incorrect header");
    // Found in the second text only, when shards of the first are written: all goes again.
    CHECK_FAILS(shell, SHARDS "--val-every=2 muon.h muon.h " ROOT "/crc.gz", 1, "/crc.gz: incorrect data check");
    CHECK(rmdir(ROOT "/x") == 0);
    CHECK_FAILS(shell, TOKENIZE " train --vocab=300 --out=" ROOT "/x.json " ROOT "/crc.gz", 1,
                "/crc.gz: incorrect data check");
    CHECK(!file_exists(ROOT "/x.json"));

    // A folder: in the order of the paths, each file a document; neither hidden files, empty ones nor a link's circle.
    CHECK(run("mkdir -p " ROOT "/f/b/c " ROOT "/f/.hidden " ROOT "/empty && cd " ROOT "/f && printf B >b/b.txt && "
              "printf C | gzip >b/c/c.txt.gz && printf A >a.md && printf no >.no && printf no >.hidden/no.txt && "
              ": >e.txt && "
              "ln -s .. b/up && ln -s ../a.md b/z.txt && printf D >d") == 0);
    CHECK(splits_are_texts("--tokenizer=" BYTES " --val-every=4 " ROOT "/f", EOT "A" EOT "B" EOT "C" EOT "D", EOT "A"));
    CHECK(splits_are_texts("--tokenizer=" BYTES " --val-every=3 --ext=txt " ROOT "/f/", EOT "B" EOT "C", EOT "A"));
    CHECK(splits_are_texts("--tokenizer=" BYTES " --val-every=2 --ext=md,text,txt " ROOT "/f", EOT "A" EOT "C", EOT "B"
                           EOT "A"));
    CHECK(splits_are_texts("--tokenizer=byte --val-every=2 " ROOT "/f/d " ROOT "/f/a.md " ROOT "/f/b", "DBA", "AC"));
    CHECK(splits_are_texts("--tokenizer=" BYTES " --val=" ROOT "/f/b " ROOT "/f/d", "D", EOT "B" EOT "C" EOT "A"));
    CHECK_FAILS(shell, SHARDS ROOT "/empty", 1, "/empty: no file in this folder that is not empty");
    CHECK_FAILS(shell, SHARDS "--ext=c,h " ROOT "/f", 1,
                "/f: no file in this folder that is not empty and has an extension");
    CHECK_FAILS(shell, SHARDS ROOT "/none", 1, "/none: cannot be read: No such file");
    CHECK_FAILS(shell, SHARDS "/dev/null", 1, "/dev/null: neither a file nor a folder");
    CHECK_FAILS(shell, SHARDS ROOT "/f/e.txt", 1, "/f/e.txt: the text is empty");
    CHECK(run("printf '' | gzip >" ROOT "/nothing.gz") == 0);
    CHECK_FAILS(shell, SHARDS ROOT "/nothing.gz", 1, "/nothing.gz: the text is empty");
    CHECK_FAILS(shell, SHARDS "--val=" ROOT "/nothing.gz muon.h", 1, "/nothing.gz: the text is empty");
    chmod(ROOT "/f/b/b.txt", 0);
    CHECK_FAILS(shell_as_nobody, TOKENIZE " train --vocab=300 --out=/dev/null " ROOT "/f", 1,
                "/f/b/b.txt: cannot be read: Perm");
    chmod(ROOT "/f/b/c", 0);
    CHECK_FAILS(shell_as_nobody, SHARDS ROOT "/f", 1, "/f/b/c: cannot be read: Permission denied");
    chmod(ROOT "/f/b/c", 0777);
}

// 60 MB of text, 150 kB of gzip: in 64 MB.
TEST(memory_does_not_grow_with_the_corpus) {
#ifdef __SANITIZE_ADDRESS__
    puts("    the sanitizer's own memory is beyond the limit: not tested");
    return;
#endif
    free(test_folder("corpora"));
    make_byte_tokenizer();
    CHECK(run("yes 'All work and no play makes Jack a dull boy' | head -c 60000000 | gzip >" ROOT "/jack.gz") == 0);
    CHECK(run("ulimit -d 65536 && OMP_NUM_THREADS=1 " TOKENIZE " shards --tokenizer=byte --out=" ROOT "/out " ROOT
              "/jack.gz") == 0);
    CHECK(run("test $(cat " ROOT "/out/*_0*.bin | wc -c) = $((2 * 60000000 + 2 * 1024))") == 0);
}

// ---------------------------------------------------------------------------------------------------------------------
// Formats

TEST(formats_of_llmc_and_nanogpt) {
    free(test_folder("corpora"));
    CHECK(run(TOKENIZE " train --vocab=500 --out=" ROOT "/tok.json muon.h") == 0);
#define SAME(kind, out) TOKENIZE " shards --tokenizer=" ROOT "/tok.json --format=" kind " --out=" ROOT "/" out " muon.h"
    CHECK(run(SAME("llmc", "llmc") " && " SAME("nanogpt", "nano")) == 0);
    CHECK(run("for s in train val; do tail -c +1025 " ROOT "/llmc/${s}_000000.bin | cmp - " ROOT
              "/nano/$s.bin || exit 1; done") == 0);
    CHECK(run("test \"$(ls " ROOT "/nano)\" = \"$(printf 'tokenizer.json\\ntrain.bin\\nval.bin\\nvocabulary')\"") == 0);
    CHECK(run(TOKENIZE " info " ROOT "/nano | grep '500 tokens, kind bpe'") == 0);
    CHECK_FAILS(shell, SAME("nanogpt", "nano"), 1, "/nano: holds shards already");
    CHECK_FAILS(shell, SAME("parquet", "x"), 2, "--format=parquet: llmc or nanogpt expected");
    CHECK_FAILS(shell, SAME("nanogpt", "x --name=me"), 2, "--name=me: files of --format=nanogpt");
    CHECK_FAILS(shell, SAME("nanogpt", "x --shard-tokens=9"), 2, "--shard-tokens=9: --format=nanogpt has one file");
    CHECK(!file_exists(ROOT "/x"));

#define LAST ROOT "/last"
    // 65,537 tokens: four bytes each, in the other kind of shard; nanoGPT's has no room for the last one.
    uint8_t *seen = (uint8_t *)xcalloc(UTF8_CODE_POINTS, 1);
    for (uint32_t c = 1, count = 0; count < 65537; c++)
        if (c < 0xd800 || c >= 0xe000) seen[c] = 1, count++;
    Tokenizer t = { 0 };
    char error[256];
    uint8_t last[4];
    CHECK(tokenizer_train_chars(&t, seen, error, sizeof error) == 0 && tokenizer_save(&t, ROOT "/wide.bin") == 0);
    int n = utf8_encode(65537 + 0x800, last);      // the code points left out are no characters
    put(LAST, last, (size_t)n);
#define WIDE(more) TOKENIZE " shards --tokenizer=" ROOT "/wide.bin --val=" LAST " --out=" ROOT "/wide " more LAST
    CHECK_FAILS(shell, WIDE("--format=nanogpt "), 1, "--format=nanogpt: 65537 tokens don't fit 16 bits");
    CHECK(run(WIDE("")) == 0);
    Shard s = shard_open(ROOT "/wide/train_000000.bin");
    CHECK(s.width == 4 && s.count == 1 && shard_token(&s, 0) == 65536);
    shard_close(&s);
    free(seen);
    tokenizer_free(&t);
}

TEST(info_and_convert) {
    free(test_folder("corpora"));
    put_text(ROOT "/text", "abcabcabcabc \"q\n");
    CHECK(run(TOKENIZE " train --vocab=260 --out=" ROOT "/tok.json " ROOT "/text") == 0);
    CHECK(run(TOKENIZE " info " ROOT "/tok.json >" ROOT "/info && grep -q '260 tokens, kind bpe: encodes and decodes' "
              ROOT "/info && grep -q 'end of text *0$' " ROOT "/info && grep -q 'longest tokens *\"abcabc\" \"abc\" ' "
              ROOT "/info") == 0);
    CHECK(run(TOKENIZE " shards --val=" ROOT "/text --out=" ROOT "/out " ROOT "/text && " TOKENIZE " info " ROOT
              "/out/tokenizer.bin >" ROOT "/info && grep -q '7 tokens, kind char' " ROOT
                  "/info && grep -q 'text *none' "
              ROOT "/info && grep -q '\"\\\\n\" \" \" \"\\\\\"\" \"a\" \"b\"$' " ROOT "/info") == 0);
    CHECK(run(TOKENIZE " info " ROOT "/out/val_000000.bin | grep 'tokens *16 of 2 bytes, the largest 6$'") == 0);
    CHECK(run("cp " ROOT "/out/val_000000.bin " ROOT "/shard.part && " TOKENIZE " info " ROOT
              "/shard.part | grep '16 of 2'") == 0);
    CHECK(run("head -c 1030 " ROOT "/shard.part >" ROOT "/cut.part") == 0);
    CHECK_FAILS(shell, TOKENIZE " info " ROOT "/cut.part", 1,
                "/cut.part: the header says 16 tokens (1056 bytes), the file has 1030");
    CHECK_FAILS(shell, TOKENIZE " info " ROOT "/none", 1, "/none: cannot be read: No such file");
    CHECK_FAILS(shell, TOKENIZE " info " ROOT "/text", 1, "/text: not a tokenizer file");
    CHECK(run(TOKENIZE " convert --tokenizer=" ROOT "/tok.json --out=" ROOT "/copy.json && cmp " ROOT "/tok.json " ROOT
              "/copy.json") == 0);
    CHECK_FAILS(shell, TOKENIZE " convert --tokenizer=" ROOT "/tok.json", 2, "--out=FILE is missing");
    CHECK_FAILS(shell, TOKENIZE " convert --tokenizer=" ROOT "/tok.json --out=" ROOT "/none/x", 1,
                "/none/x: cannot be written");
}

// What is at the path of an output: a link's target is written, a device or a pipe is written into, nothing else is
// replaced. Never tried on the system's own devices.
TEST(writers_look_at_what_is_there_first) {
    free(test_folder("corpora"));
    make_byte_tokenizer();
#define CONVERT(out) TOKENIZE " convert --tokenizer=" BYTES " --out=" ROOT "/" out
#define IS_WRITTEN " && cmp " BYTES " " ROOT "/"
    CHECK(run("mkdir " ROOT "/d && echo old >" ROOT "/d/old && ln -s d/old " ROOT "/link && ln -s link " ROOT "/chain && ln -s ../new " ROOT
              "/d/dangling && ln -s d/dangling " ROOT "/far && ln -s self " ROOT "/self && mkfifo " ROOT "/fifo") == 0);
    CHECK(run(CONVERT("chain") IS_WRITTEN "d/old && test -h " ROOT "/link && test -h " ROOT "/chain && test ! -h " ROOT "/d/old") == 0);
    CHECK(run(CONVERT("far") IS_WRITTEN "new && test -h " ROOT "/far && test -h " ROOT "/d/dangling") == 0);
    CHECK(run(TOKENIZE " train --vocab=257 --out=" ROOT "/chain muon.h" IS_WRITTEN "d/old && test -h " ROOT "/chain") == 0);
    CHECK(run("timeout 9 cat " ROOT "/fifo >" ROOT "/got & " CONVERT("fifo") " && wait" IS_WRITTEN "got && test -p " ROOT "/fifo") == 0);
    CHECK(run("ln -s /proc/self/fd/1 " ROOT "/stdout && " CONVERT("stdout") " | cmp - " BYTES) == 0);
    CHECK_FAILS(shell, CONVERT("d"), 1, "/d: cannot be written: Is a directory");
    CHECK_FAILS(shell, CONVERT("self"), 1, "/self: cannot be written: Too many levels of symbolic links");
    CHECK_FAILS(shell, CONVERT("none/x"), 1, "/none/x: cannot be written: No such file or directory");
    CHECK(run("ls -A " ROOT " | grep -c tmp | grep -qx 0 && ls -A " ROOT "/d | grep -c tmp | grep -qx 0") == 0);
    if (geteuid() != 0 || run("mknod " ROOT "/null c 1 3 && mknod " ROOT "/disk b 7 99") != 0) return;      // root's only
    CHECK(run("if : >" ROOT "/null; then " CONVERT("null") "; fi && test -c " ROOT "/null") == 0);          // a volume may forbid devices
    CHECK_FAILS(shell, CONVERT("disk"), 1, "/disk: cannot be written: Operation not supported");
}

// An output that is an input, by whatever name, is refused before anything is written.
TEST(no_writer_replaces_what_it_reads) {
    free(test_folder("corpora"));
    make_byte_tokenizer();
#define KEPT_AS_IT_IS(command, words) CHECK_FAILS(shell, TOKENIZE " " command, 2, words); \
    CHECK(run("(cd " ROOT "/in && cksum * */*) 2>/dev/null | cmp - " ROOT "/sums && test ! -e " ROOT "/in/train_000000.bin") == 0)
    CHECK(run("mkdir -p " ROOT "/in/d && cd " ROOT "/in && seq 300 >text && cp text vocabulary && cp text tokenizer.json && "
              "cp text d/more && ln -s text link && ln text hard") == 0);
    CHECK(run("cp " BYTES " " ROOT "/in/tok.bin && " TOKENIZE " train --vocab=260 --out=" ROOT "/in/d/tokenizer.json " ROOT "/in/text") == 0);
    CHECK(run("cd " ROOT "/in && echo '{}' >encoder.json && echo '#version: 0.2' >vocab.bpe && cksum * */* >../sums 2>/dev/null; true") == 0);
    KEPT_AS_IT_IS("train --vocab=260 --out=" ROOT "/in/text " ROOT "/in/text", "--out=" ROOT "/in/text: " ROOT "/in/text would be replaced");
    KEPT_AS_IT_IS("train --vocab=260 --out=" ROOT "/in/link " ROOT "/in/d " ROOT "/in/text", "/in/text would be replaced");
    KEPT_AS_IT_IS("train --vocab=260 --out=" ROOT "/in/hard " ROOT "/in/text", "/in/text would be replaced");
    KEPT_AS_IT_IS("train --vocab=260 --out=" ROOT "/in/d/more " ROOT "/in/d", "/in/d/more would be replaced");
    KEPT_AS_IT_IS("convert --tokenizer=" ROOT "/in/tok.bin --out=" ROOT "/in/../in/tok.bin", "/in/tok.bin would be replaced");
    KEPT_AS_IT_IS("convert --tokenizer=" ROOT "/in/encoder.json --out=" ROOT "/in/vocab.bpe", "/in/vocab.bpe would be replaced");
    KEPT_AS_IT_IS("shards --out=" ROOT "/in " ROOT "/in/vocabulary", "/in/vocabulary would be replaced");
    KEPT_AS_IT_IS("shards --out=" ROOT "/in --tokenizer=" ROOT "/in/d/tokenizer.json --val=" ROOT "/in/tokenizer.json " ROOT "/in/text",
                  "/in/tokenizer.json would be replaced");
    KEPT_AS_IT_IS("shards --out=" ROOT "/in/d --tokenizer=" ROOT "/in/d/tokenizer.json " ROOT "/in/text", "/in/d/tokenizer.json would be replaced");
    CHECK_FAILS(shell, "VOCAB=270 DATA_ROOT=" ROOT "/out data/prepare.sh --tokenizer " ROOT "/in/text " ROOT "/in/text", 2, "/in/text would be replaced");
    CHECK(run("cmp " ROOT "/in/text " ROOT "/in/d/more") == 0);
}

// ---------------------------------------------------------------------------------------------------------------------
// What texts may hold, and what is refused

TEST(odd_texts_round_trip) {
    free(test_folder("corpora"));
    CHECK(run(TOKENIZE " train --vocab=300 --out=" ROOT "/tok.json Makefile") == 0);
    static const struct { const char *what, *bytes; size_t n; bool utf8; } odd[] = {
        { "bytes that are not UTF-8", "caf\xe9 \xff\xfe\xc3\x28 \xed\xa0\x80 end", 17, false },
        { "NUL bytes", "a\0b\0\0\n\0", 7, true },
        { "one byte", "x", 1, true },
        { "line ends of Windows", "one\r\ntwo\r\n\r\n", 12, true },
        { "a BOM", "\xef\xbb\xbf" "begin\n", 9, true },
        { "a cut character at the end", "ab\xf0\x9f", 4, false },
    };
    for (size_t i = 0; i < COUNT_OF(odd); i++) {
        put(ROOT "/odd", odd[i].bytes, odd[i].n);
        static const char *const tokenizers[] = { "byte", ROOT "/tok.json", "char" };
        for (int k = 0; k < 2 + odd[i].utf8; k++) {
            char *arguments = format("--tokenizer=%s --val=" ROOT "/odd " ROOT "/odd", tokenizers[k]);
            bool same = splits_are(arguments, odd[i].bytes, odd[i].n, odd[i].bytes, odd[i].n);
            CHECK_MSG(same, "%s, %s", odd[i].what, tokenizers[k]);
            free(arguments);
        }
        if (!odd[i].utf8)
            CHECK_FAILS(shell, TOKENIZE " shards --val=" ROOT "/odd --out=" ROOT "/x " ROOT "/odd", 1,
                        "/odd: line 1: byte 0x");
    }
    CHECK_FAILS(shell, TOKENIZE " shards --tokenizer=byte --out=" ROOT "/x " ROOT "/odd", 1,
                "4 characters: too short to split");
    CHECK_FAILS(shell, TOKENIZE " shards --tokenizer=" ROOT "/none.json --out=" ROOT "/x " ROOT "/odd", 2,
                "none.json: char, byte or");
    CHECK_FAILS(shell, TOKENIZE " shards --tokenizer=" ROOT "/odd --out=" ROOT "/x " ROOT "/odd", 1, "/odd: ");
    CHECK(!file_exists(ROOT "/x"));

    // A folder that can't be written to, and a disk that fills up in either format.
    CHECK(mkdir(ROOT "/locked", 0555) == 0);
#define LOCKED(out) TOKENIZE " shards --tokenizer=byte --val=Makefile --out=" out " train_gpt.c"
    CHECK_FAILS(shell_as_nobody, LOCKED(ROOT "/locked"), 1,
                "/locked/train_000000.bin: cannot be written: Permission denied");
    CHECK_FAILS(shell_as_nobody, LOCKED(ROOT "/locked/new"), 1, "/locked/new: cannot be made: Permission denied");
    CHECK_FAILS(shell_on_full_disk, LOCKED(ROOT "/full --format=nanogpt"), 1,
                "/full/train.bin: cannot be written: File too large");
    CHECK(rmdir(ROOT "/full") == 0);
}

// ---------------------------------------------------------------------------------------------------------------------
// data/prepare.sh

#define PREPARE "DATA_ROOT=" ROOT "/out data/prepare.sh "
#define MY_TEXT "'" ROOT "/my text.v2.txt'"

TEST(prepare_makes_a_folder_once) {
    free(test_folder("corpora"));
    put_text(ROOT "/my text.v2.txt", "The quick brown fox jumps over the lazy dog.\n");
    CHECK(run(PREPARE MY_TEXT " char") == 0);
    CHECK(run("test \"$(" PREPARE MY_TEXT " char)\" = '" ROOT "/out/my_text.v2: up to date'") == 0);
    CHECK(run("test \"$(" PREPARE MY_TEXT ")\" = '" ROOT "/out/my_text.v2: up to date'") == 0);
    DataLoader d;
    dataloader_open(&d, ROOT "/out/my_text.v2", 4, 256, 0);
    CHECK(d.train[0].count == 40 && d.val[0].count == 5);
    uint64_t before = dataloader_fingerprint(&d);
    dataloader_close(&d);

    // Another tokenizer has a folder of its own; another text or a missing part: anew.
    CHECK(run("VOCAB=280 " PREPARE MY_TEXT " bpe | grep '280 tokens, kind bpe'") == 0);
    CHECK(run("VOCAB=280 " PREPARE MY_TEXT " bpe | grep 'my_text.v2-bpe280: up to date'") == 0);
    CHECK(run("VOCAB=270 " PREPARE MY_TEXT " bpe | grep '270 tokens, kind bpe'") == 0);
    CHECK(run(PREPARE MY_TEXT " byte | grep 'kind byte'") == 0);
    CHECK(run("cp " ROOT "/out/my_text.v2-bpe270/tokenizer.json '" ROOT "/its tok.json' && "
              PREPARE MY_TEXT " '" ROOT "/its tok.json' | grep '270 tokens, kind bpe'") == 0);
    CHECK(run(PREPARE MY_TEXT " '" ROOT "/its tok.json' | grep 'my_text.v2-its_tok: up to date'") == 0);
    CHECK(run("cp " ROOT "/out/my_text.v2-bpe280/tokenizer.json '" ROOT "/its tok.json' && "
              PREPARE MY_TEXT " '" ROOT "/its tok.json' | grep '280 tokens, kind bpe'") == 0);
    CHECK(run("test \"$(ls " ROOT "/out | tr '\\n' ' ')\" = "
              "'my_text.v2 my_text.v2-bpe270 my_text.v2-bpe280 my_text.v2-byte my_text.v2-its_tok '") == 0);
    CHECK(run("test \"$(ls " ROOT "/out/my_text.v2-bpe270)\" = "
              "\"$(printf 'fingerprint\\ntokenizer.json\\ntrain_000000.bin\\nval_000000.bin\\nvocabulary')\"") == 0);
    put_text(ROOT "/my text.v2.txt", "The quick brown fox jumps over the lazy cat.\n");
    CHECK(run(PREPARE MY_TEXT " | grep 'kind char'") == 0);
    dataloader_open(&d, ROOT "/out/my_text.v2", 4, 256, 0);
    CHECK(dataloader_fingerprint(&d) != before);
    dataloader_close(&d);
    // A folder that is not whole is none: a shard missing, empty or with another byte.
    static const char *const harm[] = { "rm val_000000.bin", ": >train_000000.bin", "printf 1 | dd of=train_000000.bin bs=1 seek=1030 conv=notrunc 2>&-" };
    for (size_t i = 0; i < COUNT_OF(harm); i++) {
        char *command = format("(cd " ROOT "/out/my_text.v2 || exit; %s); " PREPARE MY_TEXT " | tee " ROOT "/said | grep 'kind char' && "
                               "grep -q 'preparing .* anew: .*_000000.bin' " ROOT "/said && " PREPARE MY_TEXT " | grep 'up to date'", harm[i]);
        CHECK(run(command) == 0);
        free(command);
    }

    // What fails leaves what was there, and nothing half-made.
    CHECK(run("cd " ROOT "/out && rm -r my_text.v2-*") == 0);
    put_text(ROOT "/my text.v2.txt", "The quick brown f\xf6x jumps over the lazy cat.\n");
    CHECK_FAILS(shell, PREPARE MY_TEXT, 1, "line 1: byte 0xF6 is not UTF-8");
    CHECK(run("test \"$(ls " ROOT "/out)\" = my_text.v2") == 0);
    CHECK(file_exists(ROOT "/out/my_text.v2/fingerprint"));
    CHECK_FAILS(shell, PREPARE "nonsuch", 2, "DATA=nonsuch: neither a corpus (kjv shakespeare gcide ");
    CHECK_FAILS(shell, PREPARE "kjv words", 2, "TOKENIZER=words: char, byte, bpe, gpt2 or a tokenizer's file expected");
    CHECK_FAILS(shell, PREPARE ROOT "/out/my_text.v2", 2, "holds token shards, not texts: train on it by --data.dir=");
    CHECK_FAILS(shell, PREPARE, 2, "a corpus (kjv shakespeare ");
    CHECK_FAILS(shell, "DOCUMENTS=line " PREPARE "kjv", 2, "kjv has its own");
    chmod(ROOT "/my text.v2.txt", 0);
    CHECK_FAILS(shell_as_nobody, PREPARE MY_TEXT, 1, "my text.v2.txt: cannot be read");
}

TEST(prepare_names_folders) {
    free(test_folder("corpora"));
    put_text(ROOT "/tok.json", "{}");
    put_text(ROOT "/byte", "{}");
    static const struct { const char *arguments, *folder; } names[] = {
        { "kjv", "kjv" }, { "kjv char", "kjv" }, { "kjv byte", "kjv-byte" }, { "kjv bpe", "kjv-bpe4096" },
        { "linux-doc gpt2", "linux-doc-gpt2" }, { "jargon " ROOT "/tok.json", "jargon-tok" }, { "fineweb10B",
                                                                                               "fineweb10B" },
        { "some/text.dict.dz", "text" }, { "some/folder.d/", "folder" }, { "'a b.txt.gz' byte", "a_b-byte" },
        { "some/kjv.txt bpe", "kjv-text-bpe4096" }, { "some/kjv-byte.txt", "kjv-byte-text" }, { "kjv " ROOT "/byte", "kjv-byte-file" }, { "kj.", "kj" }, { "some/.hidden", "_hidden" }, { "some/-x", "_x" },
        // What a config's data.dir names, and what is said beside it
        { "--config=" ROOT "/a.json", "jargon" }, { "--config=" ROOT "/b.json", "linux-doc-bpe1024" },
        { "--config=" ROOT "/b.json byte", "linux-doc-byte" }, { "--config=" ROOT "/b.json char", "linux-doc" },
        { "--config=configs/default.json", "kjv-bpe4096" },
        { "--config=configs/shakespeare_4x128.json bpe", "shakespeare-bpe4096" },
    };
    put_text(ROOT "/a.json", "{\"run\": {\"dir\": \"runs/x\"}, \"data\": {\n  \"dir\": \"build/data/jargon\"}}");
    put_text(ROOT "/b.json", "{\"data\": {\"dir\": \"build/data/linux-doc-bpe1024/\"}}");
    put_text(ROOT "/c.json", "{\"data\": {\"dir\": \"build/data/kjvs\"}}");
    put_text(ROOT "/d.json", "{\"data\": {\"dir\": \"build/data/kjv-mine\"}}");
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char *command = format("test \"$(" PREPARE "--folder %s)\" = " ROOT "/out/%s", names[i].arguments,
                               names[i].folder);
        CHECK_MSG(run(command) == 0, "%s", names[i].arguments);
        free(command);
    }
    // A folder of the user's own, or a tokenizer only the user knows: nothing to do.
    for (char c = 'c'; c <= 'e'; c++) {
        char *command = format("test -z \"$(" PREPARE "--config=" ROOT "/%c.json && " PREPARE "--folder --config=" ROOT
                               "/%c.json)\"", c, c);
        CHECK(run(command) == 0);
        free(command);
    }
    CHECK_FAILS(shell, PREPARE "--config=" ROOT "/c.json bpe", 2, "TOKENIZER=bpe: " ROOT "/c.json names no corpus");
    CHECK(!file_exists(ROOT "/out"));
    CHECK(run("test \"$(data/prepare.sh --names | tr '\\n' ' ')\" = 'kjv shakespeare gcide jargon linux-doc "
              "tinystories "
              "enwik8 text8 fineweb10B finewebedu10B '") == 0);
}

TEST(prepare_takes_folders_and_documents) {
    free(test_folder("corpora"));
    CHECK(run("mkdir -p " ROOT "/texts/sub && cd " ROOT
              "/texts && for i in 1 2 3 4 5 6 7 8 9; do echo text $i >sub/$i.txt; done && "
              "echo ten | gzip >z.txt.gz && echo '\\377' >picture.png") == 0);
#define TEXTS "EXT=txt " PREPARE ROOT "/texts/"
    CHECK(run("VOCAB=258 " TEXTS " bpe | grep 'val *[0-9]* tokens of 4 bytes'") == 0);      // the tenth
    CHECK(run("VOCAB=258 " TEXTS " bpe | grep 'texts-bpe258: up to date'") == 0);
    CHECK(run(TEXTS " | grep 'kind char'") == 0);
    CHECK_FAILS(shell, PREPARE ROOT "/texts", 1, "/texts/picture.png: line 1: byte 0xFF is not UTF-8");
    put_text(ROOT "/texts/sub/5.txt", "another text\n");
    CHECK(run(TEXTS " | grep 'kind char'") == 0);
    unlink(ROOT "/texts/sub/5.txt");
    CHECK(run(TEXTS " | grep 'kind char'") == 0);
    CHECK(run(TEXTS " | grep 'texts: up to date'") == 0);
    CHECK(run("mkdir " ROOT "/nothing") == 0);
    CHECK_FAILS(shell, PREPARE ROOT "/nothing", 1, "/nothing: no file in this folder");

    put_text(ROOT "/lines", "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\n");
    CHECK(run("DOCUMENTS=line " PREPARE ROOT "/lines byte | grep 'val *2 tokens'") == 0);
    CHECK(run(PREPARE ROOT "/lines byte | grep 'val *3 tokens'") == 0);
    CHECK(run("VOCAB=270 " PREPARE "--tokenizer muon.h " ROOT "/tok.json && " TOKENIZE " info " ROOT
              "/tok.json | grep '270 tokens'") == 0);
    CHECK(run("VOCAB=260 " PREPARE "--tokenizer muon.h && " TOKENIZE " info " ROOT
              "/out/muon-bpe260.json | grep '260 tokens'") == 0);
    CHECK_FAILS(shell, "VOCAB=9 " PREPARE "--tokenizer muon.h", 2, "--vocab=9: an integer from 257");
    CHECK_FAILS(shell, PREPARE "--tokenizer fineweb10B", 2, "TOKENIZER=bpe: fineweb10B comes as tokens of gpt2");
    CHECK(run("test -z \"$(ls -d " ROOT "/out/*.new.* 2>/dev/null)\"") == 0);

    // A folder that somebody else made is not replaced.
    CHECK(run("rm " ROOT "/out/texts/fingerprint && mkdir " ROOT "/out/kjv-bpe4096") == 0);
    CHECK_FAILS(shell, TEXTS, 1, "/out/texts: no fingerprint, so not made by data/prepare.sh: move it");
    CHECK(run("test -z \"$(" PREPARE "--config=configs/default.json)\" && rmdir " ROOT "/out/kjv-bpe4096") == 0);

    CHECK(mkdir(ROOT "/locked", 0555) == 0);
    CHECK_FAILS(shell_as_nobody, "DATA_ROOT=" ROOT "/locked data/prepare.sh muon.h", 1, "/locked/muon.new.");
    CHECK_FAILS(shell_on_full_disk, PREPARE "train_gpt.c byte", 1,
                "train_000000.bin: cannot be written: File too large");
    CHECK(!file_exists(ROOT "/out/train_gpt-byte"));
}

// What is prepared from $1 with the environment $2 goes to a folder that --folder names too, and is there with this text.
static bool prepared_apart(const char *folder, const char *environment, const char *arguments) {
    char *command = format("%s " PREPARE "%s > " ROOT "/said && %s " PREPARE "--folder %s > " ROOT "/name && "
                           "test -s \"$(cat " ROOT "/name)/train_000000.bin\" && case $(cat " ROOT "/name) in " ROOT "/out/%s) ;; *) cat "
                           ROOT "/name >&2; exit 1; esac", environment, arguments, environment, arguments, folder);
    bool good = run(command) == 0;
    free(command);
    return good;
}

TEST(prepare_keeps_texts_of_one_name_apart) {
    free(test_folder("corpora"));
    CHECK(run("cd " ROOT " && mkdir p q && seq 100 >p/input.txt && seq 200 >q/input.txt && seq 300 >\xe6\xbc\xa2\xe5\xad\x97.txt && "
              "seq 400 >\xe4\xbb\xae\xe5\x90\x8d.txt && cp q/input.txt q/same.txt && mkdir r && cp p/input.txt r/") == 0);
#define APART "[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]"
    CHECK(prepared_apart("input", "", ROOT "/p/input.txt"));
    CHECK(run("cksum " ROOT "/out/input/* >" ROOT "/sums") == 0);
    CHECK(prepared_apart("input-" APART, "", ROOT "/q/input.txt"));
    CHECK(run("grep -q '^" ROOT "/out/input is of /.*/p/input.txt, tokenizer char, documents files: not what is asked for' " ROOT "/said") == 0);
    CHECK(prepared_apart("input-" APART, "DOCUMENTS=line", ROOT "/p/input.txt"));
    CHECK(prepared_apart("input-" APART, "EXT=txt", ROOT "/p/input.txt"));
    CHECK(prepared_apart("input", "", "\"$PWD\"/" ROOT "/p/../p/input.txt"));            // another way to the same, or a copy
    CHECK(prepared_apart("input", "", ROOT "/r/input.txt"));
    CHECK(run("ls " ROOT "/out | grep -c input | grep -qx 4 && cksum " ROOT "/out/input/* | cmp - " ROOT "/sums") == 0);
    CHECK(prepared_apart("______", "", ROOT "/\xe6\xbc\xa2\xe5\xad\x97.txt"));
    CHECK(prepared_apart("______-" APART, "", ROOT "/\xe4\xbb\xae\xe5\x90\x8d.txt"));
    // A text that was changed is prepared anew where it was; with the first folder gone, the second keeps its name.
    CHECK(run("seq 150 >" ROOT "/p/input.txt") == 0);
    CHECK(prepared_apart("input", "", ROOT "/p/input.txt") && run("grep -q 'input anew: what it is made of has changed' " ROOT "/said") == 0);
    CHECK(run("rm -r " ROOT "/out/input") == 0 && prepared_apart("input-" APART, "", ROOT "/q/input.txt"));
    // Tokenizers' files of one name, for a text and a corpus's name.
    CHECK(run("VOCAB=260 " PREPARE "--tokenizer muon.h " ROOT "/p/tok.json && VOCAB=270 " PREPARE "--tokenizer muon.h " ROOT "/q/tok.json") == 0);
    CHECK(prepared_apart("input-tok", "", ROOT "/p/input.txt " ROOT "/p/tok.json"));
    CHECK(prepared_apart("input-tok-" APART, "", ROOT "/p/input.txt " ROOT "/q/tok.json"));
    CHECK(run(PREPARE "--tokenizer " ROOT "/p/input.txt && " PREPARE "--tokenizer " ROOT "/q/input.txt | "
              "grep -q 'input-bpe4096.json: replaced'") == 0);
}

// What kill -9 leaves goes with the next preparation of the same; what others are at stays.
TEST(prepare_removes_what_a_killed_one_left) {
    free(test_folder("corpora"));
    CHECK(run("seq 1000 >" ROOT "/text && mkfifo " ROOT "/slow && printf '#!/bin/sh\nread -r x <" ROOT "/slow\n' >" ROOT
              "/tokenize && chmod +x " ROOT "/tokenize") == 0);
#define SLOW "BUILD=" ROOT " " PREPARE ROOT "/text byte >/dev/null 2>&1 & pid=$!; " \
             "until ls -d " ROOT "/out/text-byte.new.*$pid >/dev/null 2>&1; do sleep 0.02; done; "
    CHECK(run(SLOW "kill -9 $pid; wait $pid 2>/dev/null; echo x >" ROOT "/slow; ls -d " ROOT "/out/text-byte.new.*$pid >/dev/null") == 0);
    CHECK(run("mkdir " ROOT "/out/text-byte.new.4194999 " ROOT "/out/text-byte.new.elsewhere.4194999 " ROOT "/out/text.new.4194999") == 0);
    CHECK(run(SLOW PREPARE ROOT "/text byte && ls " ROOT "/out | grep -c . | grep -qx 4 && ls -d " ROOT "/out/text-byte.new.*$pid; code=$?; "
              "kill $pid; echo x >" ROOT "/slow; wait $pid; exit $code") == 0);
    CHECK(run("ls " ROOT "/out | tr '\n' ' ' | grep -qx 'text-byte text-byte.new.elsewhere.4194999 text.new.4194999 '") == 0);
    // Of other names likewise, by any preparation; a living one's, another machine's and what only looks alike stay.
    CHECK(run("cd " ROOT "/out && rm -r * && host=$(uname -n) && mkdir a.new.$host.4194999 'b c.new.'$host.4194998 a.new.$host.4194999.old "
              "a.new.$host.$$ d.new.elsewhere.4194999 e.new.4194999 f.new.$host.4194999x g.new.$host && echo x >h.new.$host.4194999 && "
              "cd - >/dev/null && " PREPARE ROOT "/text byte && ls " ROOT "/out | sed \"s/$host/HOST/; s/T.$$\\$/T.PID/\" | tr '\n' ' ' | grep -qx "
              "'a.new.HOST.PID d.new.elsewhere.4194999 e.new.4194999 f.new.HOST.4194999x g.new.HOST h.new.HOST.4194999 text-byte '") == 0);
    // Killed when its folder stood in its place, but the one that it replaced was not gone yet.
    CHECK(run("mkdir " ROOT "/out/text-byte.new.$(uname -n).4194999 && " PREPARE ROOT "/text byte | grep 'text-byte: up to date' && "
              "! test -e " ROOT "/out/text-byte.new.$(uname -n).4194999") == 0);
    // Several at once: all succeed, and the folder is one whole one.
    CHECK(run("rm -r " ROOT "/out/*; for i in 1 2 3 4 5 6 7 8; do " PREPARE ROOT "/text byte & pids=\"$pids $!\"; done; "
              "for p in $pids; do wait $p || exit 1; done; ls " ROOT "/out/text-byte | tr '\n' ' ' | "
              "grep -qx 'fingerprint tokenizer.bin train_000000.bin val_000000.bin vocabulary ' && test $(ls " ROOT "/out) = text-byte") == 0);
}

// ---------------------------------------------------------------------------------------------------------------------
// Downloads and mirrors

#define MIRRORED "DATA_MIRROR=" ROOT "/mirror " PREPARE
#define FROM_URL "DATA_URL=\"file://$(echo \"$PWD\" | sed 's/ /%20/g')/" ROOT "/mirror\" " PREPARE
#define STORIES ROOT "/mirror/tinystories/TinyStoriesV2-GPT4-"
#define KEPT ROOT "/out/.downloads/tinystories/TinyStoriesV2-GPT4-"

// 300 kB of stories for training, two for validation, as TinyStories writes them.
static void put_stories(void) {
    CHECK(make_dirs(ROOT "/mirror/tinystories") == 0);
    CHECK(run("yes \"$(printf 'Once upon a time.\\n" EOT "')\" | head -n 20000 >" STORIES "train.txt && "
              "printf 'One day.\\n" EOT "\\nThe end.\\n" EOT "' >" STORIES "valid.txt") == 0);
}

TEST(prepare_checks_what_a_mirror_holds) {
    free(test_folder("corpora"));
    CHECK(make_dirs(ROOT "/mirror/tinyshakespeare") == 0 && make_dirs(ROOT "/mirror/enwik8") == 0 &&
          make_dirs(ROOT "/mirror/kjv") == 0 && make_dirs(ROOT "/mirror/gcide") == 0);
    put_text(ROOT "/mirror/tinyshakespeare/input.txt", "First Citizen:\nNot the whole text.\n");
    put_text(ROOT "/mirror/enwik8/enwik8", "<mediawiki>");
    put_text(ROOT "/mirror/text8.zip", "PK");
    put_text(ROOT "/mirror/kjv/kjv.txt", "Ge1:1 In the beginning\n");
    put_text(ROOT "/mirror/gcide/gcide.dict.dz", "\x1f\x8b");
    CHECK_FAILS(shell, MIRRORED "shakespeare", 1,
                "mirror/tinyshakespeare/input.txt: not the text expected: 35 bytes instead "
                                                  "of 1115394, sha256 ");
    CHECK_FAILS(shell, MIRRORED "enwik8 byte", 1,
                "mirror/enwik8/enwik8: not the text expected: 11 bytes instead of 100000000, "
                                                  "md5 ");
    CHECK_FAILS(shell, MIRRORED "kjv", 1,
                "mirror/kjv/kjv.txt: not the text expected: 23 bytes instead of 4404412, sha256 ");
    CHECK_FAILS(shell, MIRRORED "gcide", 1, "mirror/gcide/gcide.dict.dz: damaged");
    if (system("command -v unzip >/dev/null") == 0)
        CHECK_FAILS(shell, MIRRORED "text8", 1, "mirror/text8.zip: damaged");
    CHECK(run("test -z \"$(ls " ROOT "/out)\"") == 0);

    // A checksum beside a mirror's file is asserted: a file that was cut is refused.
    put_stories();
    CHECK(run("cd " ROOT "/mirror/tinystories && for f in *.txt; do sha256sum $f >$f.sha256; done") == 0);
    CHECK(run(MIRRORED "tinystories byte | grep 'val *36 tokens\\|val *45 tokens'") == 0);
    CHECK(run("rm -r " ROOT "/out && head -c 9000 " STORIES "train.txt >" ROOT "/x && mv " ROOT "/x " STORIES
              "train.txt") == 0);
    CHECK_FAILS(shell, MIRRORED "tinystories byte", 1, "train.txt: not the file expected: sha256 ");
    CHECK(run("test -z \"$(ls " ROOT "/out)\"") == 0);
}

// The reason is the disk's, not what is left of the text on it.
TEST(prepare_says_that_the_disk_is_full) {
    free(test_folder("corpora"));
    CHECK(run("mkdir -p " ROOT "/mirror/kjv " ROOT "/mirror/gcide && seq 40000 >" ROOT "/mirror/kjv/kjv.txt && "
              "gzip -c " ROOT "/mirror/kjv/kjv.txt >" ROOT "/mirror/gcide/gcide.dict.dz") == 0);
    CHECK_FAILS(shell_on_full_disk, MIRRORED "kjv >/dev/null", 1, "/all.txt: cannot be written: File too large");
    CHECK_FAILS(shell_on_full_disk, MIRRORED "gcide >/dev/null", 1, "/all.txt: cannot be written: File too large");
    if (system("command -v bible >/dev/null") == 0)
        CHECK_FAILS(shell_on_full_disk, PREPARE "kjv >/dev/null", 1, "/all.txt: cannot be written: File too large");
    CHECK(run("test -z \"$(ls " ROOT "/out)\"") == 0);
    CHECK_FAILS(shell, PREPARE "README.md byte >/dev/full", 1, "error: stdout: cannot be written");
}

TEST(prepare_takes_ready_shards) {
    free(test_folder("corpora"));
    CHECK(make_dirs(ROOT "/mirror/fineweb10B") == 0);
    uint32_t ids[1000];
    for (uint32_t i = 0; i < 1000; i++) ids[i] = i;
    CHECK(shard_write(ROOT "/mirror/fineweb10B/fineweb_val_000000.bin", ids, 1000, 50257) == 0);
    CHECK(shard_write(ROOT "/mirror/fineweb10B/fineweb_train_000001.bin", ids, 900, 50257) == 0);
    CHECK(shard_write(ROOT "/mirror/fineweb10B/fineweb_train_000002.bin", ids, 800, 50257) == 0);
#define FINEWEB "DATA_URL=file:///none " MIRRORED "fineweb10B"
    CHECK(run("SHARDS=2 " FINEWEB " 2>" ROOT "/warning && grep -q 'warning: no tokenizer' " ROOT "/warning") == 0);
    CHECK(run("SHARDS=2 " FINEWEB " | grep 'fineweb10B: up to date'") == 0);
    CHECK(run(TOKENIZE " info " ROOT "/out/fineweb10B | grep 'train *1700 tokens, 2 shards'") == 0);
    CHECK(run("SHARDS=1 " FINEWEB " gpt2 && " TOKENIZE " info " ROOT
              "/out/fineweb10B | grep 'train *900 tokens, 1 shard,'") == 0);
    CHECK_FAILS(shell, "SHARDS=1 " FINEWEB " bpe", 2, "TOKENIZER=bpe: fineweb10B comes as tokens of gpt2");
    CHECK_FAILS(shell, "SHARDS=all " FINEWEB, 2, "SHARDS=all: the number of training shards expected");
    put_text(ROOT "/mirror/fineweb10B/fineweb_train_000002.bin", "<html>Not found</html>");
    CHECK_FAILS(shell, "SHARDS=2 " FINEWEB, 1, "fineweb_train_000002.bin: 22 bytes: a token shard has a header");
    CHECK(run("cd " ROOT
              "/mirror/fineweb10B && head -c 1500 fineweb_val_000000.bin >x && mv x fineweb_train_000002.bin") == 0);
    CHECK_FAILS(shell, "SHARDS=2 " FINEWEB, 1, "the header says 1000 tokens (3024 bytes), the file has 1500 bytes");
    CHECK(run("test \"$(ls " ROOT "/out)\" = fineweb10B") == 0);      // the one made before
}

TEST(prepare_downloads_and_goes_on) {
    free(test_folder("corpora"));
    if (system("command -v curl >/dev/null") != 0) { puts("    curl is missing: not tested"); return; }
    put_stories();
    CHECK_FAILS(shell, "DATA_URL=file:///none " PREPARE "shakespeare", 1,
                "file:///none/tinyshakespeare/input.txt can't be downloaded");
    CHECK(run("test -z \"$(find " ROOT "/out -type f)\"") == 0);

    // Cut at 100 kB (a full disk); what came stays as a part, and the next time goes on behind it: the part's first
    // letter, changed, is still the changed one.
    char errors[1024];
    CHECK(run_child(shell_on_full_disk, FROM_URL "tinystories byte", errors, sizeof errors) == 1);
    CHECK_MSG(strstr(errors, "train.txt can't be downloaded"), "%s", errors);
    CHECK(!file_exists(KEPT "train.txt") && file_exists(KEPT "valid.txt"));
    CHECK(run("test $(wc -c <" KEPT "train.txt.part) = 100000 && printf o | dd of=" KEPT
              "train.txt.part conv=notrunc status=none") == 0);
    CHECK(run(FROM_URL "tinystories byte | grep 'going on with the download of .*train.txt'") == 0);
    CHECK(run("{ printf o; tail -c +2 " STORIES "train.txt; } | cmp - " KEPT "train.txt") == 0);
    CHECK(run("cmp " STORIES "valid.txt " KEPT "valid.txt && ! ls " KEPT "*.part 2>/dev/null") == 0);

    // Made once; for another tokenizer nothing is downloaded again; what was downloaded is asserted when it is used.
    CHECK(run(FROM_URL "tinystories byte | grep 'tinystories-byte: up to date'") == 0);
    CHECK(run("rm -r " ROOT "/mirror && VOCAB=270 " FROM_URL "tinystories bpe | grep '270 tokens, kind bpe'") == 0);
    CHECK(run("printf x >>" KEPT "valid.txt") == 0);
    CHECK_FAILS(shell, FROM_URL "tinystories", 1, "valid.txt: not the file expected: sha256 ");
    // A checksum that the user wrote down before the first download
    put_stories();
    CHECK(run("rm " KEPT "valid.txt && echo 1234 >" KEPT "valid.txt.sha256") == 0);
    CHECK_FAILS(shell, FROM_URL "tinystories", 1, "valid.txt.part: not the file expected: sha256 ");
    CHECK(!file_exists(KEPT "valid.txt"));
    CHECK(run("sha256sum " STORIES "valid.txt >" KEPT "valid.txt.sha256 && " FROM_URL "tinystories | grep 'kind char'")
          == 0);
}

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    RUN(documents_are_divided_and_split);
    RUN(marks_that_divide_nothing_are_told);
    RUN(chunks_leave_no_trace);
    RUN(long_lines_round_trip);
    RUN(gzip_and_folders_are_read);
    RUN(memory_does_not_grow_with_the_corpus);
    RUN(formats_of_llmc_and_nanogpt);
    RUN(info_and_convert);
    RUN(writers_look_at_what_is_there_first);
    RUN(no_writer_replaces_what_it_reads);
    RUN(odd_texts_round_trip);
    RUN(prepare_makes_a_folder_once);
    RUN(prepare_names_folders);
    RUN(prepare_takes_folders_and_documents);
    RUN(prepare_keeps_texts_of_one_name_apart);
    RUN(prepare_removes_what_a_killed_one_left);
    RUN(prepare_checks_what_a_mirror_holds);
    RUN(prepare_says_that_the_disk_is_full);
    RUN(prepare_takes_ready_shards);
    RUN(prepare_downloads_and_goes_on);
    return tests_end();
}
