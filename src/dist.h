/* dist.h - ranks: the processes that train one model together, and all that they tell each other.
 *
 * defines: dist_tell, dist_begin, dist_rank, dist_ranks, dist_here, dist_sharing, dist_any, dist_first, dist_sum_ints,
 *          dist_sum_doubles, dist_max_floats, dist_share, dist_words, dist_gather, dist_pause, DistMessages, dist_send,
 *          dist_receive, dist_poll, dist_finish, dist_sent_bytes, dist_wait_seconds
 *
 * MPI enters here and nowhere else, where MUON_MPI is defined (make MPI=1). Without it there is one rank, and nothing costs
 * anything. Every function but the ones that ask is collective: all ranks call it, in the same order.
 *
 * Only what is exact in any order is left to MPI's own reductions (sums of integers, of doubles of which all but one are zero,
 * maxima): the order in which they add is the library's, and changes with sizes and switches.
 *
 * A rank that fails says its line and takes all others with it (MPI_Abort): under MPICH a process that just leaves looks like
 * success. What all ranks meet, such as a bad config, is said once, by rank 0: the others wait a moment for it.
 */
#ifndef DIST_H
#define DIST_H

#include "machine.h"
#include "util.h"

// Where all processes fail alike the first one says it: its end comes to the others while they wait here.
static inline void dist_let_first(int rank) {
    struct timespec moment = {3, 0};
    while (rank > 0 && nanosleep(&moment, &moment) != 0 && errno == EINTR) {}     // by the launcher's SIGTERM: its SIGKILL follows
}

// Ends a program that a launcher started as one of several, and that is alone: all of them would write one run's folder.
static inline void dist_check_launcher(const char *why) {
    static const char *const names[][2] = {{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"}, {"PMI_SIZE", "PMI_RANK"}};   // Open MPI, MPICH
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const char *size = getenv(names[i][0]), *rank = getenv(names[i][1]);
        if (!size || atoi(size) < 2) continue;
        dist_let_first(rank ? atoi(rank) : 0);
        fail_usage("one of %s processes that a launcher of MPI started, but each would train alone: the program is %s; "
                   "`make train RANKS=%s` builds and starts one that knows the others", size, why, size);
    }
}

#ifdef MUON_MPI
#include <limits.h>
#include <mpi.h>

static struct {
    int rank, ranks, here, sharing;      // ranks of this machine, and those of them that may use the same CPUs, with this one
    MPI_Comm comm;
    MPI_Op larger;                       // of floats
    double sent, waited;                 // bytes of weights and gradients; seconds in which this rank had nothing to do
} dist = {0, 1, 1, 1, MPI_COMM_NULL, MPI_OP_NULL, 0, 0};

static inline int dist_rank(void) { return dist.rank; }
static inline int dist_ranks(void) { return dist.ranks; }

// A word for dev/ranks.sh, which started the ranks and reads it when they have ended.
PRINTF_LIKE(1, 2) static inline void dist_tell(const char *fmt, ...) {
    const char *path = getenv("MUON_RANKS_WORD");
    FILE *f = path ? fopen(path, "a") : NULL;
    if (!f) return;
    va_list args;
    va_start(args, fmt);
    vfprintf(f, fmt, args);
    va_end(args);
    fclose(f);
}

// How util.h's fail ends a rank: with its line, and without the library's.
static inline void dist_fail(int code, const char *line) {
    dist_let_first(dist.rank);
    if (dist.rank > 0) fprintf(stderr, "error: rank %d: %s\n", dist.rank, line);
    else fprintf(stderr, "error: %s\n", line);
    fflush(NULL);
    dist_tell("ended %d\n", code);
    nanosleep(&(struct timespec){0, 300000000}, NULL);   // MPICH's launcher may end before it has passed the line on
    dist.comm = MPI_COMM_NULL;
    if (dist.ranks > 1 && freopen("/dev/null", "w", stderr)) MPI_Abort(MPI_COMM_WORLD, code);
    _exit(code);
}

// Counts the ranks of this machine, and those that may run on the CPUs that this one may run on: all where the launcher binds none.
static inline void dist_count_neighbours(void) {
    MPI_Comm machine;
    int here = 0, mine = 0;
    MPI_Comm_split_type(dist.comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine);
    MPI_Comm_size(machine, &here);
    MPI_Comm_rank(machine, &mine);
    MachineCpus *sets = (MachineCpus *)xcalloc((size_t)here, sizeof *sets);
    machine_cpus(&sets[mine]);
    MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, sets, (int)sizeof *sets, MPI_BYTE, machine);
    dist.here = here;
    dist.sharing = 0;
    for (int i = 0; i < here; i++) dist.sharing += machine_same_cpus(&sets[i], &sets[mine]);
    free(sets);
    MPI_Comm_free(&machine);
}

// Waits until all requests are done. Meanwhile other ranks may have the CPU: MPICH's own waiting keeps it, and where ranks outnumber
// the CPUs each message then takes a slice of the scheduler's.
static inline void dist_wait(int n, MPI_Request *requests) {
    for (int done = 0; MPI_Testall(n, requests, &done, MPI_STATUSES_IGNORE), !done; ) sched_yield();
}

static inline void dist_reduce(void *x, size_t n, MPI_Datatype type, MPI_Op op) {
    MPI_Request request;
    MPI_Iallreduce(MPI_IN_PLACE, x, (int)n, type, op, dist.comm, &request);
    dist_wait(1, &request);
}

// Waits until all ranks are here, asleep: where one has files to write, the others shouldn't spin beside it.
static inline void dist_pause(void) {
    MPI_Request request;
    struct timespec moment = {0, 500000};
    int done = 0;
    MPI_Ibarrier(dist.comm, &request);
    for (MPI_Test(&request, &done, MPI_STATUS_IGNORE); !done; MPI_Test(&request, &done, MPI_STATUS_IGNORE)) nanosleep(&moment, NULL);
}

// How a rank ends that doesn't fail, by main's return or by exit.
static inline void dist_leave(int code, void *none) {
    (void)none;
    if (dist.comm == MPI_COMM_NULL) return;
    fflush(NULL);
    if (dist.rank == 0) dist_tell("ended %d\n", code);
    dist_pause();
    fail_ends = NULL;
    MPI_Comm_free(&dist.comm);
    MPI_Finalize();
}

static inline void dist_begin(int *argc, char ***argv) {
    int threads;
    MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &threads);
    MPI_Comm_dup(MPI_COMM_WORLD, &dist.comm);
    MPI_Comm_rank(dist.comm, &dist.rank);
    MPI_Comm_size(dist.comm, &dist.ranks);
    fail_ends = dist_fail;
    on_exit(dist_leave, NULL);
    if (dist.ranks == 1) dist_check_launcher("built for another MPI library than the launcher's");
    dist_count_neighbours();
    if (dist.rank > 0 && !freopen("/dev/null", "w", stdout)) fail("/dev/null: %s", strerror(errno));    // rank 0 speaks for all
}

static inline int dist_here(void) { return dist.here; }
static inline int dist_sharing(void) { return dist.sharing; }

// Whether any rank says so.
static inline bool dist_any(bool mine) {
    int any = mine;
    dist_reduce(&any, 1, MPI_INT, MPI_MAX);
    return any;
}

// The lowest rank that says so; -1: none does.
static inline int dist_first(bool mine) {
    int first = mine ? dist.rank : dist.ranks;
    dist_reduce(&first, 1, MPI_INT, MPI_MIN);
    return first < dist.ranks ? first : -1;
}

static inline void dist_sum_ints(int *x, size_t n) { if (n) dist_reduce(x, n, MPI_INT, MPI_SUM); }

// Of each number all ranks but one must have 0.
static inline void dist_sum_doubles(double *x, size_t n) { if (n) dist_reduce(x, n, MPI_DOUBLE, MPI_SUM); }

// NaN counts as larger than any number.
static inline void dist_larger(void *in, void *inout, int *n, MPI_Datatype *type) {
    const float *a = (const float *)in;
    float *b = (float *)inout;
    (void)type;
    for (int i = 0; i < *n; i++) if (!isnan(b[i]) && !(a[i] <= b[i])) b[i] = a[i];
}

static inline void dist_max_floats(float *x, size_t n) {
    if (dist.larger == MPI_OP_NULL) MPI_Op_create(dist_larger, 1, &dist.larger);
    dist_reduce(x, n, MPI_FLOAT, dist.larger);
}

// What rank `from` has becomes everybody's.
static inline void dist_share(void *bytes, size_t n, int from) {
    MPI_Request request;
    MPI_Ibcast(bytes, (int)n, MPI_BYTE, from, dist.comm, &request);
    dist_wait(1, &request);
}

// Words that one rank has, or several, become those of the lowest that has any, everywhere. Returns whether there are any.
static inline bool dist_words(char *words, size_t room) {
    int first = dist_first(*words != '\0');
    if (first >= 0) dist_share(words, room, first);
    return first >= 0;
}

// all: the ranks' n bytes each, in their order.
static inline void dist_gather(const void *mine, void *all, size_t n) {
    MPI_Request request;
    MPI_Iallgather(mine, (int)n, MPI_BYTE, all, (int)n, MPI_BYTE, dist.comm, &request);
    dist_wait(1, &request);
}

// Messages under way. Two ranks that send each other several must do so in the same order: they carry no names.
typedef struct { MPI_Request *requests; int n, room; } DistMessages;

static inline MPI_Request *dist_next_message(DistMessages *m) {
    if (m->n == m->room) m->requests = (MPI_Request *)xrealloc(m->requests, (size_t)(m->room = 2 * m->room + 16) * sizeof *m->requests);
    return &m->requests[m->n++];
}

// x, of n bytes, must stay as it is until dist_finish.
static inline void dist_send(DistMessages *m, const void *x, size_t n, int to) {
    dist.sent += (double)n;
    MPI_Isend(x, (int)n, MPI_BYTE, to, 0, dist.comm, dist_next_message(m));
}

static inline void dist_receive(DistMessages *m, void *x, size_t n, int from) {
    MPI_Irecv(x, (int)n, MPI_BYTE, from, 0, dist.comm, dist_next_message(m));
}

// Whether all of them are done: MPI moves messages only while it is called.
static inline bool dist_poll(DistMessages *m) {
    int done = 1;
    if (m->n) MPI_Testall(m->n, m->requests, &done, MPI_STATUSES_IGNORE);
    if (done) m->n = 0;
    return done;
}

static inline void dist_finish(DistMessages *m) {
    double start = seconds_now();
    if (m->n) dist_wait(m->n, m->requests);
    dist.waited += seconds_now() - start;
    m->n = 0;
}

static inline double dist_sent_bytes(void) { return dist.sent; }
static inline double dist_wait_seconds(void) { return dist.waited; }

#else    // one rank

static inline int dist_rank(void) { return 0; }
static inline int dist_ranks(void) { return 1; }
static inline int dist_here(void) { return 1; }
static inline int dist_sharing(void) { return 1; }

static inline void dist_begin(int *argc, char ***argv) {
    (void)argc, (void)argv;
    dist_check_launcher("built without MPI");
}

PRINTF_LIKE(1, 2) static inline void dist_tell(const char *fmt, ...) { (void)fmt; }
static inline bool dist_any(bool mine) { return mine; }
static inline int dist_first(bool mine) { return mine ? 0 : -1; }
static inline void dist_sum_ints(int *x, size_t n) { (void)x, (void)n; }
static inline void dist_sum_doubles(double *x, size_t n) { (void)x, (void)n; }
static inline void dist_max_floats(float *x, size_t n) { (void)x, (void)n; }
static inline void dist_share(void *bytes, size_t n, int from) { (void)bytes, (void)n, (void)from; }
static inline void dist_gather(const void *mine, void *all, size_t n) { memcpy(all, mine, n); }
static inline bool dist_words(char *words, size_t room) { (void)room; return *words != '\0'; }
static inline void dist_pause(void) {}

typedef struct { char none; } DistMessages;

static inline void dist_send(DistMessages *m, const void *x, size_t n, int to) { (void)m, (void)x, (void)n, (void)to; }
static inline void dist_receive(DistMessages *m, void *x, size_t n, int from) { (void)m, (void)x, (void)n, (void)from; }
static inline bool dist_poll(DistMessages *m) { (void)m; return true; }
static inline void dist_finish(DistMessages *m) { (void)m; }
static inline double dist_sent_bytes(void) { return 0; }
static inline double dist_wait_seconds(void) { return 0; }
#endif

#endif // DIST_H
