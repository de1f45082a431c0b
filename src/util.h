/* util.h - what every program here needs: one-line failures, memory, files, hashes, time, progress.
 *
 * defines: ERROR_ROOM, fail, fail_usage, stream_error, program_begin, xmalloc, xcalloc, xaligned, xrealloc, xstrdup, format,
 *          text_open, text_close, shell_quoted, runs_folder, read_file, MappedFile, file_open, file_map, file_unmap, folder_of, sync_fd,
 *          sync_folder, make_dirs, file_exists,
 *          same_regular_file, lock_folder, replace_open, replace_close, write_file, mix64, hash64, hash_string, uniform_of, normal_of, compare_doubles, compare_strings, seconds_now, Rate, rate_note, Progress
 * C standard library and POSIX only. A program defines _GNU_SOURCE before its first include.
 */
#ifndef UTIL_H
#define UTIL_H

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#if defined __FAST_MATH__ || (defined __FINITE_MATH_ONLY__ && __FINITE_MATH_ONLY__) || defined __ASSOCIATIVE_MATH__
#error "built with -ffast-math or a part of it (-Ofast has it): NaN must be NaN and sums keep their order. make takes it back"
#endif

#if defined(__APPLE__)
#define st_mtim st_mtimespec         // POSIX's name
#endif

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };   // what every program of the project exits with
enum { ERROR_ROOM = 2 * 4096 + 1024 };   // of a function's one line: two paths of any length, and what is wrong

// ---------------------------------------------------------------------------------------------------------------------
// Failing: one line on stderr, then the exit code. The line names the file, the key or the value, and what is expected.
// It ends by _exit: a failing program frees nothing, and no leak checker should add to its one line.

// printf into text, as one line: a name with a newline, or with what else a terminal would take for a command, has blanks.
static inline void error_line_of(char *text, size_t room, const char *fmt, va_list args) {
    vsnprintf(text, room, fmt, args);
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 127) *text = ' ';
}

// How a process that isn't alone says its line and ends; NULL: as below. It doesn't return.
static void (*fail_ends)(int code, const char *line);

__attribute__((noreturn)) static inline void fail_line(int code, const char *fmt, va_list args) {
    char text[2 * ERROR_ROOM];
    error_line_of(text, sizeof text, fmt, args);
    fflush(stdout);
    if (fail_ends) fail_ends(code, text);
    fprintf(stderr, "error: %s\n", text);
    fflush(NULL);
    _exit(code);
}

// The work failed (a damaged file, a full disk, NaN): print the line and exit 1.
__attribute__((noreturn)) PRINTF_LIKE(1, 2) static inline void fail(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fail_line(EXIT_FAILED, fmt, args);
}

// The user asked for something that can't be (a config's key, a flag): print the line and exit 2.
__attribute__((noreturn)) PRINTF_LIKE(1, 2) static inline void fail_usage(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fail_line(EXIT_USAGE, fmt, args);
}

// Whether all that was printed to f so far is with the system. Returns 0, or the errno of the write that failed. A stream
// doesn't keep it: where it is of an earlier write, another one, of a blank, fails for the same reason.
static inline int stream_error(FILE *f) {
    errno = 0;
    if (fflush(f) == 0 && !ferror(f)) return 0;
    if (!errno && write(fileno(f), " ", 1) == 1) errno = EIO;
    return errno;
}

// A pipe whose reader has gone is no loss: it wanted no more.
static inline void check_stdout(void) {
    int error = stream_error(stdout);
    if (error && error != EPIPE) fail("stdout: cannot be written: %s", strerror(error));
}

// First thing in every main. A file-size limit becomes an error of the write, as a full disk is; a stdout that can't be
// written makes the program fail when it ends; a file that is opened never becomes a stdin, stdout or stderr that was
// closed (what is opened in their stead allows the other direction only).
static inline void program_begin(void) {
    signal(SIGXFSZ, SIG_IGN);
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd) _exit(EXIT_FAILED);
    atexit(check_stdout);
}

// ---------------------------------------------------------------------------------------------------------------------
// Memory and strings: no caller checks for NULL, the program ends with one line instead.

static inline void *xmalloc(size_t bytes) {
    void *p = malloc(bytes ? bytes : 1);
    if (!p) fail("out of memory: %zu bytes asked for", bytes);
    return p;
}

static inline void *xcalloc(size_t count, size_t size) {
    void *p = calloc(count ? count : 1, size ? size : 1);
    if (!p) fail("out of memory: %zu x %zu bytes asked for", count, size);
    return p;
}

// Zeros that begin at a multiple of 64 bytes, the length of a cache line and of the widest vectors; large ones in pages of 2 MB, where
// the system has them: reading them through takes a quarter less time.
static inline void *xaligned(size_t bytes) {
    enum { LINE = 64, HUGE = 1 << 21 };
    size_t unit = bytes >= 4 * HUGE ? HUGE : LINE, whole = (bytes + unit - 1) / unit * unit;
    void *p = aligned_alloc(unit, whole ? whole : unit);
    if (!p) fail("out of memory: %zu bytes asked for", bytes);
#ifdef MADV_HUGEPAGE
    if (unit == HUGE) madvise(p, whole, MADV_HUGEPAGE);
#endif
    return memset(p, 0, whole);
}

static inline void *xrealloc(void *old, size_t bytes) {
    void *p = realloc(old, bytes ? bytes : 1);
    if (!p) fail("out of memory: %zu bytes asked for", bytes);
    return p;
}

static inline char *xstrdup(const char *s) {
    size_t n = strlen(s) + 1;
    return (char *)memcpy(xmalloc(n), s, n);
}

// printf into a string of its own; the caller frees it.
PRINTF_LIKE(1, 2) static inline char *format(const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    char few[256], *s;
    int n = vsnprintf(few, sizeof few, fmt, args);
    va_end(args);
    s = (char *)xmalloc((size_t)n + 1);
    vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    return s;
}

// A stream into a string of its own: what is written to it is *text, the caller's to free, once text_close has been called.
static inline FILE *text_open(char **text, size_t *size) {
    *text = NULL;
    FILE *f = open_memstream(text, size);
    if (!f) fail("out of memory: %s", strerror(errno));
    return f;
}

// glibc marks no error where such a stream can't grow: then it can't for one byte more, which is taken back.
static inline void text_close(FILE *f, char *const *text) {
    bool lost = putc('\0', f) == EOF || fseek(f, -1, SEEK_CUR) != 0 || ferror(f);
    if (fclose(f) != 0 || lost || !*text) fail("out of memory: a text that is put together does not fit");
}

// A word as a shell reads it back, in quotes only where it needs them: "my run" -> 'my run'. For commands that are
// printed to be pasted; the caller frees it.
static inline char *shell_quoted(const char *word) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";
    size_t n = strlen(word);
    if (n > 0 && strspn(word, plain) == n) return xstrdup(word);
    char *quoted = (char *)xmalloc(4 * n + 3), *to = quoted;
    *to++ = '\'';
    for (; *word; word++) {
        if (*word == '\'') to = (char *)memcpy(to, "'\\''", 4) + 4;
        else *to++ = *word;
    }
    strcpy(to, "'");
    return quoted;
}

// ---------------------------------------------------------------------------------------------------------------------
// Files

// Where runs go whose folder has no name of its own: $RUNS_DIR, else runs.
static inline const char *runs_folder(void) {
    const char *folder = getenv("RUNS_DIR");
    return folder && *folder ? folder : "runs";
}

static inline bool file_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

// Whether two paths lead to one regular file, by whatever names.
static inline bool same_regular_file(const char *a, const char *b) {
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && S_ISREG(x.st_mode) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

// The whole file, with a NUL behind its last byte. size may be NULL. Returns NULL with errno set where it can't be read.
static inline char *read_file(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    struct stat st;
    if (fstat(fileno(f), &st) == 0 && S_ISDIR(st.st_mode)) { fclose(f); errno = EISDIR; return NULL; }
    size_t n = 0, room = 1 << 16;
    char *text = (char *)xmalloc(room + 1);
    for (size_t got; (got = fread(text + n, 1, room - n, f)) > 0; ) {
        n += got;
        if (n == room) text = (char *)xrealloc(text, (room *= 2) + 1);
    }
    int error = ferror(f) ? (errno ? errno : EIO) : 0;
    fclose(f);
    if (error) { free(text); errno = error; return NULL; }
    text[n] = '\0';
    if (size) *size = n;
    return text;
}

// fsync: what was written to fd survives a power cut. 0; 1 where the file or its volume has no such thing (EINVAL and its
// kin, as pipes, devices and some network and FUSE volumes say); or -1 with errno set.
static inline int sync_fd(int fd) {
    int result;
    do result = fsync(fd); while (result != 0 && errno == EINTR);
    return result != 0 && (errno == EINVAL || errno == ENOTSUP || errno == ENOSYS) ? 1 : result;
}

typedef struct { const unsigned char *bytes; size_t size; } MappedFile;

// Opens a file to map it; a pipe of that name doesn't make it wait. -1 with errno set.
static inline int file_open(const char *path) { return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); }

// Maps what fd is of, to be read, and closes it. NULL, or the reason why it can't be. An empty file has bytes NULL.
static inline const char *file_map(MappedFile *m, int fd) {
    *m = (MappedFile){NULL, 0};
    struct stat st;
    const char *reason = NULL;
    if (fd < 0 || fstat(fd, &st) != 0) reason = strerror(errno);
    else if (!S_ISREG(st.st_mode)) reason = "not a regular file";
    else if ((uintmax_t)st.st_size > SIZE_MAX) reason = "larger than the address space";
    else if ((m->size = (size_t)st.st_size) > 0) {
        void *map = mmap(NULL, m->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED) reason = strerror(errno);
        else m->bytes = (const unsigned char *)map;
    }
    if (fd >= 0) close(fd);
    return reason;
}

static inline void file_unmap(MappedFile *m) {
    if (m->bytes) munmap((void *)(uintptr_t)m->bytes, m->size);
    *m = (MappedFile){NULL, 0};
}

// The folder that holds path, to be freed.
static inline char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? format("%.*s", (int)(slash - path > 0 ? slash - path : 1), path) : xstrdup(".");
}

// fsync of the folder that holds path: a rename or a new name in it survives a power cut. Returns as sync_fd, 1 too where
// the folder may be written but not read.
static inline int sync_folder(const char *path) {
    char *folder = folder_of(path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY), result = fd >= 0 ? sync_fd(fd) : errno == EACCES ? 1 : -1, error = errno;
    free(folder);
    if (fd >= 0) close(fd);
    errno = error;
    return result;
}

// mkdir -p; what it makes survives a power cut. Returns 0, or -1 with errno set.
static inline int make_dirs(const char *path) {
    if (!*path) { errno = ENOENT; return -1; }
    char *copy = xstrdup(path);
    int result = 0;
    for (char *p = copy + 1; result == 0; p++) {
        if (*p != '/' && *p != '\0') continue;
        char kept = *p;
        *p = '\0';
        if (mkdir(copy, 0777) == 0) result = sync_folder(copy) < 0 ? -1 : 0;
        else if (errno != EEXIST) result = -1;
        *p = kept;
        if (kept == '\0') break;
    }
    struct stat st;
    if (result == 0 && (stat(copy, &st) != 0 || !S_ISDIR(st.st_mode))) { errno = ENOTDIR; result = -1; }
    free(copy);
    return result;
}

// Opens a folder and locks it against other processes that ask for the same; closing the descriptor unlocks it. Returns
// the descriptor; or -1 with errno set, EWOULDBLOCK where another process has the lock. A volume without locks (some
// network and FUSE ones) gives the descriptor and *locked = false. locked NULL: only opens it.
static inline int lock_folder(const char *path, bool *locked) {
    int fd = open(path, O_RDONLY | O_DIRECTORY), code, error;
    if (fd < 0 || !locked) return fd;
    do code = flock(fd, LOCK_EX | LOCK_NB); while (code != 0 && errno == EINTR);
    *locked = code == 0;
    if (*locked || errno != EWOULDBLOCK) return fd;
    error = errno;
    close(fd);
    errno = error;
    return -1;
}

// The file that writing to `path` makes or replaces, to be freed: path itself, or where its links lead, there already or
// not. *in_place: a device or a pipe, into which one writes; nothing may take its place. NULL with errno set where path
// is something else, such as a folder.
static inline char *file_behind(const char *path, bool *in_place) {
    struct stat st;
    char *at = xstrdup(path), link[4096];
    *in_place = stat(path, &st) == 0 && (S_ISCHR(st.st_mode) || S_ISFIFO(st.st_mode));
    for (int links = 0; !*in_place && lstat(at, &st) == 0 && !S_ISREG(st.st_mode); links++) {
        ssize_t n = S_ISLNK(st.st_mode) ? readlink(at, link, sizeof link - 1) : -1;
        if (n < 0 || links == 40) {
            errno = S_ISDIR(st.st_mode) ? EISDIR : links == 40 ? ELOOP : S_ISLNK(st.st_mode) ? errno : ENOTSUP;
            free(at);
            return NULL;
        }
        link[n] = '\0';
        const char *slash = strrchr(at, '/');
        char *next = *link == '/' || !slash ? xstrdup(link) : format("%.*s%s", (int)(slash + 1 - at), at, link);
        free(at);
        at = next;
    }
    return at;
}

// A file on its way: replace_open, writing to f, replace_close. It takes the place of what is at `path` as a whole or
// not at all, whenever the process or the machine dies: a temporary file beside it is synced, then renamed, then the folder
// is synced; except where path is written in place (file_behind).
typedef struct { char *path, *temporary; FILE *f; } Replacement;

// f is NULL, with errno set, where the file can't be written.
static inline Replacement replace_open(const char *path) {
    bool in_place;
    Replacement r = { .path = file_behind(path, &in_place) };
    if (r.path && !in_place) r.temporary = format("%s.tmp", r.path);
    if (r.path) r.f = fopen(in_place ? r.path : r.temporary, "wb");
    return r;
}

// error: 0, or the errno of what failed since replace_open; then, or where f is NULL, path stays as it was. Returns 0, or
// -1 with errno set (only where the folder can't be synced, path is the new one).
static inline int replace_close(Replacement *r, int error) {
    if (!r->f) error = errno;
    else if (!error && r->temporary && (fflush(r->f) != 0 || sync_fd(fileno(r->f)) < 0)) error = errno;
    if (r->f && fclose(r->f) != 0 && !error) error = errno;
    bool renamed = !error && r->temporary && rename(r->temporary, r->path) == 0;
    if (!error && r->temporary && (!renamed || sync_folder(r->path) < 0)) error = errno;
    if (error && r->f && r->temporary && !renamed) unlink(r->temporary);
    free(r->path);
    free(r->temporary);
    memset(r, 0, sizeof *r);
    errno = error;
    return error ? -1 : 0;
}

// Makes these bytes the file at path, as a whole or not at all (replace_open). Returns 0, or -1 with errno set.
static inline int write_file(const char *path, const void *bytes, size_t size) {
    Replacement r = replace_open(path);
    int error = 0;
    if (r.f && fwrite(bytes, 1, size, r.f) != size) error = errno ? errno : EIO;
    return replace_close(&r, error);
}

// ---------------------------------------------------------------------------------------------------------------------
// Hashes: every random number of the project is a hash of what it belongs to (seed, tensor, step, position), never a
// generator's hidden state: nothing changes with threads, micro-batches or a resume.

// The finalizer of splitmix64 (Steele, Lea, Flood 2014): a bijection of 64-bit words that mixes every bit.
static inline uint64_t mix64(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

// Hash of two words; chain it for more: hash64(hash64(a, b), c).
static inline uint64_t hash64(uint64_t a, uint64_t b) {
    return mix64(mix64(a) ^ b);
}

// FNV-1a of a string, mixed.
static inline uint64_t hash_string(const char *s) {
    uint64_t h = 0xcbf29ce484222325u;
    for (; *s; s++) h = (h ^ (unsigned char)*s) * 0x100000001b3u;
    return mix64(h);
}

// [0, 1) from a hash, 24 bits: exact in a float.
static inline float uniform_of(uint64_t hash) {
    return (float)(hash >> 40) * 0x1p-24f;
}

// Standard normal from a hash (Box and Muller, 1958).
static inline float normal_of(uint64_t hash) {
    return (float)(sqrt(-2.0 * log(1.0 - uniform_of(hash))) * cos(2.0 * M_PI * uniform_of(mix64(hash))));
}

// For qsort of doubles, ascending.
static inline int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// For qsort of strings.
static inline int compare_strings(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

// ---------------------------------------------------------------------------------------------------------------------
// Time and progress

static inline double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Of all threads of this process together, waiting on each other included where they spin.
static inline double cpu_seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// "42 s", "3:07", "2:03:07"; buffer of at least 24 bytes.
static inline const char *format_seconds(char *buffer, double seconds) {
    if (!(seconds >= 0 && seconds < 3.6e9)) return strcpy(buffer, "?");
    long s = (long)(seconds + 0.5);
    if (s < 60) snprintf(buffer, 24, "%ld s", s);
    else if (s < 3600) snprintf(buffer, 24, "%ld:%02ld", s / 60, s % 60);
    else snprintf(buffer, 24, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    return buffer;
}

// How fast work goes now: over the last RATE_SECONDS, or since the point before where that is longer ago.
enum { RATE_SECONDS = 10, RATE_POINTS = 64 };
typedef struct { double at[RATE_POINTS], done[RATE_POINTS]; int n; } Rate;

// Notes that so much is done after `at` seconds. Returns how much was done in a second of late; NaN at the first point.
static inline double rate_note(Rate *r, double at, double done) {
    int drop = 0;
    while (drop + 1 < r->n && r->at[drop + 1] <= at - RATE_SECONDS) drop++;
    r->n -= drop;
    memmove(r->at, r->at + drop, (size_t)r->n * sizeof *r->at);
    memmove(r->done, r->done + drop, (size_t)r->n * sizeof *r->done);
    double speed = r->n ? (done - r->done[0]) / (at - r->at[0]) : NAN;
    // A point too close to the one before it gives way to the next, so that the window's always have room.
    if (r->n > 1 && r->at[r->n - 1] - r->at[r->n - 2] < RATE_SECONDS / (RATE_POINTS - 4.0)) r->n--;
    r->at[r->n] = at;
    r->done[r->n++] = done;
    return speed;
}

/* Progress of long work: on a terminal one moving line, redrawn at most ten times a second; in a log a plain line at
 * growing intervals (2 s, then 10 s). progress_line says whether a line is due; the caller prints its text with it. */
typedef struct {
    bool terminal;
    bool open;          // a moving line stands unfinished on the terminal
    int lines;
    double last;        // when the last line was printed
} Progress;

static inline Progress progress_start(void) {
    Progress p = { isatty(STDOUT_FILENO) != 0, false, 0, 0.0 };
    return p;
}

static inline bool progress_due(Progress *p, bool must) {
    double now = seconds_now(), interval = p->terminal ? 0.1 : p->lines < 5 ? 2.0 : 10.0;
    if (!must && p->lines > 0 && now - p->last < interval) return false;
    p->last = now;
    return true;
}

// Prints a line that the next one replaces on a terminal; call it where progress_due said so.
PRINTF_LIKE(2, 3) static inline void progress_line(Progress *p, const char *fmt, ...) {
    char line[256];
    struct winsize size;
    bool known = p->terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
    int columns = known ? size.ws_col - 1 : (int)sizeof line;
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (p->terminal) printf("\r\033[K%.*s", columns, line);      // a wrapped line could not be drawn over
    else puts(line);
    p->open = p->terminal;
    p->lines++;
    fflush(stdout);
}

// Ends the moving line, so that other text can follow.
static inline void progress_end(Progress *p) {
    if (p->open) putchar('\n');
    p->open = false;
    fflush(stdout);
}

#endif // UTIL_H
