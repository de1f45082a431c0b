/* machine.h - what this machine lets a process have: its CPU's name, cores, and memory, within the limits of its control
 * groups; and all else that Linux has and POSIX has not.
 *
 * defines: MachineMemory, machine_cpu, MachineCpus, machine_cpus, machine_same_cpus, machine_cores, machine_cpu_quota,
 *          machine_threads, wait_politely, machine_memory, machine_resident, machine_end_with_parent, machine_exchange
 *
 * Linux says all of it in files under /proc and /sys; where one is missing, or on another system, it says nothing, and who
 * asks does without. Every reader takes the root folder that these paths begin at: "" is the machine, anything else a copy,
 * for tests.
 *
 * Control groups (man 7 cgroups): /proc/self/cgroup names the process's group in each hierarchy, /proc/self/mountinfo
 * where that is mounted. A limit holds for all groups below the one that has it, so that the smallest on the way up
 * counts. Version 2 (Documentation/admin-guide/cgroup-v2.rst in Linux) has one hierarchy, with memory.max, memory.high
 * and cpu.max; version 1 one for each controller, with memory.limit_in_bytes and cpu.cfs_quota_us. Both may be there.
 */
#ifndef MACHINE_H
#define MACHINE_H

#include "openmp.h"
#include "util.h"
#include <sched.h>
#if defined(__linux__)
#include <sys/prctl.h>
#elif defined(__FreeBSD__)
#include <sys/procctl.h>
#endif

// The text of root/path, to be freed, or NULL.
PRINTF_LIKE(2, 3) static inline char *machine_read(const char *root, const char *fmt, ...) {
    char path[4096];
    va_list args;
    va_start(args, fmt);
    int n = snprintf(path, sizeof path, "%s", root);
    vsnprintf(path + n, sizeof path - (size_t)n, fmt, args);
    va_end(args);
    return read_file(path, NULL);
}

// The number behind `key` where a line of text begins with it ("MemAvailable: 123 kB", "inactive_file 123"), else 0.
static inline double machine_number(const char *text, const char *key) {
    size_t length = strlen(key);
    for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (!strncmp(line, key, length) && strchr(": ", line[length])) return strtod(line + length + 1, NULL);
    return 0;
}

// ---------------------------------------------------------------------------------------------------------------------
// Control groups

typedef struct {
    bool unified;                   // version 2
    char *mount;                    // where the hierarchy is mounted, without the root
    char *group;                    // the process's group below it, "" or "/a/b"
} MachineGroup;

// Whether a list such as "rw,cpu,cpuacct" has this word.
static inline bool machine_listed(const char *list, const char *word) {
    size_t length = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += length)
        if ((at == list || at[-1] == ',') && (at[length] == ',' || at[length] == '\0')) return true;
    return false;
}

// Finds the process's group of a controller, in version 2 or 1. False where there is none; else mount and group are to be
// freed.
static inline bool machine_group(const char *root, const char *controller, bool unified, MachineGroup *g) {
    char *groups = machine_read(root, "/proc/self/cgroup"), *mounts = machine_read(root, "/proc/self/mountinfo");
    char *path = NULL, *rest = groups, *line;
    memset(g, 0, sizeof *g);
    while (groups && (line = strsep(&rest, "\n"))) {             // such as 4:cpu,cpuacct:/a/b, or 0::/a/b of version 2
        char *names = strchr(line, ':'), *at = names ? strchr(++names, ':') : NULL;
        if (!at) continue;
        *at++ = '\0';
        if (unified ? !strncmp(line, "0:", 2) && !*names : machine_listed(names, controller)) path = at;
    }
    rest = mounts;
    while (path && mounts && !g->mount && (line = strsep(&rest, "\n"))) {
        // such as 33 24 0:30 /mounted/part /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory
        char part[1024], mount[1024], type[32], options[1024], *tail = strstr(line, " - ");
        if (sscanf(line, "%*s %*s %*s %1023s %1023s", part, mount) != 2 || !tail ||
            sscanf(tail, " - %31s %*s %1023s", type, options) != 2) continue;
        if (strcmp(type, unified ? "cgroup2" : "cgroup") || (!unified && !machine_listed(options, controller))) continue;
        size_t length = strcmp(part, "/") ? strlen(part) : 0;    // a container sees only a part of the hierarchy
        bool inside = !strncmp(path, part, length) && (path[length] == '/' || !path[length]);
        const char *below = inside && strcmp(path + length, "/") ? path + length : "";
        g->unified = unified;
        g->mount = xstrdup(mount);
        g->group = xstrdup(strstr(below, "..") ? "" : below);
    }
    free(groups);
    free(mounts);
    return g->mount != NULL;
}

// The group above; false at the top.
static inline bool machine_group_up(MachineGroup *g) {
    char *slash = strrchr(g->group, '/');
    if (slash) *slash = '\0';
    return slash != NULL;
}

static inline void machine_group_free(MachineGroup *g) {
    free(g->mount);
    free(g->group);
}

// The number in one of a group's files; INFINITY where there is none ("max", -1 or 2^63 less a page is no limit).
static inline double machine_limit(const char *root, const MachineGroup *g, const char *file) {
    char *text = machine_read(root, "%s%s/%s", g->mount, g->group, file), *end = text;
    double value = text ? strtod(text, &end) : INFINITY;
    bool none = end == text || value < 0 || value > 0x1p60;
    free(text);
    return none ? INFINITY : value;
}

// ---------------------------------------------------------------------------------------------------------------------
// Processors

// The value of the first of a file's lines "key : value", without what would have to be escaped; "" where there is none.
static inline const char *machine_field(const char *text, const char *key, char *value, size_t room) {
    const char *at = text ? strstr(text, key) : NULL;
    at = at ? strchr(at, ':') : NULL;
    snprintf(value, room, "%.*s", at ? (int)strcspn(at + 1 + strspn(at + 1, " "), "\n\"\\") : 0, at ? at + 1 + strspn(at + 1, " ") : "");
    return value;
}

// Arm's CPUs have numbers for a name: "CPU 0x41 0xd0c" is Arm's (0x41) Neoverse N1.
static inline const char *machine_cpu(const char *root, char *name, size_t room) {
    char *text = machine_read(root, "/proc/cpuinfo"), maker[16], part[16];
    if (!*machine_field(text, "model name", name, room) && *machine_field(text, "CPU implementer", maker, sizeof maker))
        snprintf(name, room, "CPU %s %s", maker, machine_field(text, "CPU part", part, sizeof part));
    if (!*name) snprintf(name, room, "unknown CPU");
    free(text);
    return name;
}

enum { MACHINE_CPUS = 1024 };                                   // of a set at most
typedef struct { bool has[MACHINE_CPUS]; } MachineCpus;

// The CPUs this process may run on. False where the system doesn't say; then the set is empty.
static inline bool machine_cpus(MachineCpus *cpus) {
    memset(cpus, 0, sizeof *cpus);
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return false;
    for (int cpu = 0; cpu < MACHINE_CPUS && cpu < CPU_SETSIZE; cpu++) cpus->has[cpu] = CPU_ISSET(cpu, &set) != 0;
    return true;
#else
    return false;
#endif
}

static inline bool machine_same_cpus(const MachineCpus *a, const MachineCpus *b) { return !memcmp(a, b, sizeof *a); }

// How many physical cores the CPUs of a set belong to.
static inline int machine_cores(const char *root, const MachineCpus *cpus) {
    int cores = 0;
    for (int cpu = 0; cpu < MACHINE_CPUS; cpu++) {
        if (!cpus->has[cpu]) continue;
        // such as "0,4" or "0-1": a core counts by its first thread in the set
        char *list = machine_read(root, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu), *at = list;
        int first = cpu;
        while (at && *at) {
            char *end;
            long sibling = strtol(at, &end, 10);
            if (end == at) break;
            if (sibling >= 0 && sibling < first && cpus->has[sibling]) first = (int)sibling;
            at = *end ? end + 1 : end;
        }
        free(list);
        cores += first == cpu;
    }
    return cores;
}

// How many CPUs' time the control groups let this process have, such as 1.5; INFINITY without a limit.
static inline double machine_cpu_quota(const char *root) {
    double least = INFINITY;
    MachineGroup g;
    for (int unified = 0; unified < 2; unified++) {
        if (!machine_group(root, "cpu", unified, &g)) continue;
        do {
            double quota = machine_limit(root, &g, unified ? "cpu.max" : "cpu.cfs_quota_us"), period = 1e5;
            char *text = unified ? machine_read(root, "%s%s/cpu.max", g.mount, g.group) : NULL;    // "50000 100000"
            if (text && strchr(text, ' ')) period = strtod(strchr(text, ' '), NULL);
            if (!unified) period = machine_limit(root, &g, "cpu.cfs_period_us");
            free(text);
            if (isfinite(quota) && quota > 0 && isfinite(period) && period > 0) least = fmin(least, quota / period);
        } while (machine_group_up(&g));
        machine_group_free(&g);
    }
    return least;
}

// One thread per physical core of those this process may use, and no more than its share of CPU time keeps busy. 0: it
// isn't known, or OMP_NUM_THREADS says how many.
static inline int machine_threads(void) {
    MachineCpus cpus;
    if (getenv("OMP_NUM_THREADS") || !machine_cpus(&cpus)) return 0;
    return (int)fmin(machine_cores("", &cpus), ceil(machine_cpu_quota("")));
}

// GCC's OpenMP lets waiting threads spin for a millisecond or more. Beside any other busy process that makes a program
// several times slower, and a short spin costs nothing measurable. It reads its settings when it is loaded, so the
// program starts itself once more with them, unless the user has set them. argv: main's.
static inline void wait_politely(char **argv) {
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
    setenv("GOMP_SPINCOUNT", "1000", 1);
    char *program = realpath("/proc/self/exe", NULL);
    if (program) execv(program, argv);           // where that can't be done, it goes on as it is
    free(program);
}

// ---------------------------------------------------------------------------------------------------------------------
// Memory

typedef struct {
    double available, swap;         // bytes that new work may have without swapping, and of free swap
    double group;                   // bytes left below the tightest hard limit of a control group: beyond it, killed
    double group_high;              // and below the tightest soft one: beyond it, slowed down
} MachineMemory;                    // INFINITY: no limit, or it isn't known

// Bytes left in a group below `limit`: what its files in the page cache take can be had back.
static inline double machine_group_left(const char *root, const MachineGroup *g, double limit) {
    double used = machine_limit(root, g, g->unified ? "memory.current" : "memory.usage_in_bytes");
    char *stat = machine_read(root, "%s%s/memory.stat", g->mount, g->group);
    double cache = g->unified ? machine_number(stat, "inactive_file") + machine_number(stat, "active_file")
                              : machine_number(stat, "total_inactive_file") + machine_number(stat, "total_active_file");
    free(stat);
    return fmax(0, limit - (isfinite(used) ? fmax(0, used - cache) : 0));
}

static inline MachineMemory machine_memory(const char *root) {
    MachineMemory m = { INFINITY, 0, INFINITY, INFINITY };
    char *text = machine_read(root, "/proc/meminfo");
    if (text && machine_number(text, "MemAvailable") > 0) m.available = 1024 * machine_number(text, "MemAvailable");
    if (text) m.swap = 1024 * machine_number(text, "SwapFree");
    free(text);
    MachineGroup g;
    for (int unified = 0; unified < 2; unified++) {
        if (!machine_group(root, "memory", unified, &g)) continue;
        do {
            double limit = machine_limit(root, &g, unified ? "memory.max" : "memory.limit_in_bytes");
            double high = unified ? machine_limit(root, &g, "memory.high") : INFINITY;
            if (isfinite(limit)) m.group = fmin(m.group, machine_group_left(root, &g, limit));
            if (isfinite(high)) m.group_high = fmin(m.group_high, machine_group_left(root, &g, high));
        } while (machine_group_up(&g));
        machine_group_free(&g);
    }
    return m;
}

// The largest resident size this process has had, in bytes; 0 where the system doesn't say. (getrusage's would be that of the
// program that started this one, where that was larger.)
static inline double machine_resident(void) {
    char *text = machine_read("", "/proc/self/status");
    double bytes = text ? 1024 * machine_number(text, "VmHWM") : 0;
    free(text);
    return bytes;
}

// ---------------------------------------------------------------------------------------------------------------------
// Processes and files

// From here on this process gets a signal when its parent ends. Where the system can't do that, a child outlives its parent.
static inline void machine_end_with_parent(int signal_number) {
#if defined(__linux__)
    prctl(PR_SET_PDEATHSIG, signal_number);
#elif defined(__FreeBSD__)
    procctl(P_PID, 0, PROC_PDEATHSIG_CTL, &signal_number);
#else
    (void)signal_number;
#endif
}

// Changes two names of one folder, as one step. Returns 0, or -1 with errno: EINVAL or ENOSYS where the system or the volume can't.
static inline int machine_exchange(const char *a, const char *b) {
#if defined(RENAME_EXCHANGE)
    return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
#else
    (void)a, (void)b;
    errno = ENOSYS;
    return -1;
#endif
}

#endif // MACHINE_H
