/* test_tokenize.c - the program build/tokenize with hooks in its system calls: texts that change between its passes, power
 * cuts while it writes. Includes data/tokenize.c; writes under build/test/tokenize only.
 */
#define _GNU_SOURCE
#include "volume.h"

// Before, or with `after` just behind, the open_number-th opening of a file of this name a shell command runs.
static const char *open_name, *open_command;
static int open_number;
static bool open_after;

static FILE *hooked_fopen(const char *path, const char *mode) {
    bool now = open_name && strcmp(path, open_name) == 0 && --open_number == 0;
    if (now && !open_after && system(open_command) != 0) _exit(99);
    FILE *f = fopen(path, mode);
    if (now && open_after && system(open_command) != 0) _exit(99);
    return f;
}

#define fopen(path, mode) hooked_fopen(path, mode)
#define main tokenize_main
#include "../../data/tokenize.c"
#undef main
#undef fopen
#include "test.h"

#define ROOT "build/test/tokenize"

// The program with its arguments in one string, to be run in a child.
static void tokenize(void *arguments) {
    char *argv[32] = { "tokenize" }, *text = xstrdup((const char *)arguments);
    int argc = 1;
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) argv[argc++] = word;
    if (power_folder) power_watch();
    if (tokenize_main(argc, argv) != 0) _exit(98);
}

static int run(const char *arguments) {
    char errors[1024];
    int code = run_child(tokenize, (void *)(uintptr_t)arguments, errors, sizeof errors);
    if (code != 0) printf("    %s: exit code %d: %s\n", arguments, code, errors);
    return code;
}

static void put_text(const char *path, int lines) {
    FILE *f = fopen(path, "w");
    for (int i = 0; f && i < lines; i++) fprintf(f, "line %d of a text\n", i);
    if (!f || fclose(f) != 0) fail("%s: %s", path, strerror(errno));
}

// However a text changes between two passes or in one, nothing is made of it.
TEST(a_text_that_changes_is_refused) {
    static const char *const commands[] = { "echo more >> " ROOT "/text", "echo less > " ROOT "/text",
                                            "cp " ROOT "/text " ROOT "/new && mv " ROOT "/new " ROOT "/text" };
    free(test_folder("tokenize"));
    open_name = ROOT "/text";
    for (int i = 0; i < (int)COUNT_OF(commands); i++)
        for (int number = 1; number <= 3; number++)             // counting, reading characters, tokenizing
            for (int after = 0; after < (i < 2 ? 2 : 1); after++) {     // who reads a file keeps it where another takes its place
                put_text(ROOT "/text", 100);
                open_command = commands[i];
                open_number = number;
                open_after = after;
                CHECK_FAILS(tokenize, "shards --out=" ROOT "/out " ROOT "/text", 1, ROOT "/text: changed while it was read: ");
                CHECK_MSG(system("test -z \"$(ls " ROOT "/out 2>&1 | grep bin)\"") == 0, "%s, pass %d", commands[i], number);
            }
    open_name = NULL;
    CHECK(run("shards --out=" ROOT "/out " ROOT "/text") == 0);
}

// A text that another program has packed is not one, whatever it is called.
TEST(a_packed_text_is_refused) {
    static const struct { const char *name, *bytes; size_t n; const char *by; } packed[] = {
        { "a.xz", "any text\n", 9, "xz" }, { "a.txt", "\xfd" "7zXZ\0\0\4", 8, "xz" }, { "b.zst", "any text\n", 9, "zstd" },
        { "b.txt", "\x28\xb5\x2f\xfd\x04\x58", 6, "zstd" }, { "c.zip", "any text\n", 9, "zip" }, { "c", "PK\3\4\x14\0", 6, "zip" },
        { "d.txt", "BZh91AY&SY", 10, "bzip2" } };
    free(test_folder("tokenize"));
    for (size_t i = 0; i < COUNT_OF(packed); i++) {
        char *path = format(ROOT "/%s", packed[i].name), *command = format("shards --tokenizer=byte --out=" ROOT "/out %s", path);
        char *words = format("%s: packed by %s: a text expected", path, packed[i].by);
        if (write_file(path, packed[i].bytes, packed[i].n) != 0) fail("%s: %s", path, strerror(errno));
        CHECK_FAILS(tokenize, command, 1, words);
        free(path), free(command), free(words);
    }
}

static bool same_files(const char *a, const char *b) {
    size_t n = 0, m = 0;
    char *x = read_file(a, &n), *y = read_file(b, &m);
    bool same = x && y && n == m && memcmp(x, y, n) == 0;
    free(x), free(y);
    return same;
}

// A shard, a tokenizer or a fingerprint that is there after a power cut is whole; a folder that is in its place, too.
TEST(a_power_cut_leaves_no_shard_half) {
    char *data = test_folder("tokenize/data"), *cuts = test_folder("tokenize/cuts"), *cut;
    int n = 0, last = 0;
    put_text(ROOT "/text", 3000);
    power_folder = data;
    power_cuts = cuts;
    CHECK(run("shards --shard-tokens=20000 --out=" ROOT "/data " ROOT "/text") == 0);
    power_folder = NULL;
    for (; file_exists(cut = format("%s/%d%c", cuts, n / 2, 'a' + n % 2)); free(cut), n++) {
        DIR *folder = opendir(cut);
        for (struct dirent *entry; (entry = readdir(folder)); ) {
            size_t length = strlen(entry->d_name);
            if (entry->d_name[0] == '.' || (length > 4 && strcmp(entry->d_name + length - 4, ".tmp") == 0)) continue;
            char *mine = format("%s/%s", cut, entry->d_name), *whole = format("%s/%s", data, entry->d_name);
            CHECK_MSG(same_files(mine, whole), "%s", mine);
            free(mine), free(whole);
        }
        closedir(folder);
    }
    CHECK_MSG(n > 20, "%d cuts", n);
    free(cut);
    // what was copied and not synced is on the disk before the folder has its name
    CHECK(system("rm -r " ROOT "/cuts && mkdir " ROOT "/cuts && cp -r " ROOT "/data " ROOT "/new && rm -r " ROOT "/data && "
                 "printf 'text\\n\\n' > " ROOT "/lines") == 0);
    power_folder = ROOT "/new";
    volume_name_count = 0;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {                                             // watched from here on, with nothing on the disk
        power_process = getpid();
        if (!freopen(ROOT "/lines", "r", stdin)) _exit(97);
        char *argv[] = { "tokenize", "install", ROOT "/new", ROOT "/data" };
        _exit(tokenize_main(4, argv));
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    power_folder = NULL;
    while (file_exists(cut = format("%s/%db", cuts, last))) free(cut), last++;
    free(cut);
    cut = format("diff -r %s/%db %s", cuts, last - 2, data);    // before the rename to its place; the last one is of the folder above
    CHECK_MSG(system(cut) == 0, "%s", cut);
    free(cut), free(data), free(cuts);
}

// Many at once: each succeeds, the folder is there at any time, and no folder lies in another one.
TEST(folders_that_are_installed_at_once) {
    free(test_folder("tokenize"));
    CHECK(system("cd " ROOT " || exit; for i in 1 2 3 4 5 6 7 8; do mkdir $i; cp ../../../dev/test/run.sh $i/tokenizer; done") == 0);
    const char *tokenize_program = getenv("BUILD") ? getenv("BUILD") : "build";
    char *command = format("cd " ROOT " || exit; t=../../../%s/tokenize; head -c 3000 ../../../muon.h > text; for i in 1 2 3 4 5 6 7 8; do rm $i/*; "
                           "$t shards --tokenizer=byte --out=$i text > out || exit 1; done; "
                           "for i in 1 2 3 4 5 6 7 8; do printf \"text\\n$i\\n\" | $t install $i data & pids=\"$pids $!\"; done; "
                           "for p in $pids; do wait $p || exit 2; done; test $(ls -d [1-8] | wc -l) = 7 && "
                           "ls data | tr '\\n' ' ' | grep -qx 'fingerprint tokenizer.bin train_000000.bin val_000000.bin vocabulary ' && $t verify data", tokenize_program);
    CHECK(system(command) == 0);
    free(command);
}

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    RUN(a_text_that_changes_is_refused);
    RUN(a_packed_text_is_refused);
    RUN(a_power_cut_leaves_no_shard_half);
    RUN(folders_that_are_installed_at_once);
    return tests_end();
}
