/* test_machine.c - tests of src/machine.h on copies of the files by which Linux tells a process its limits. */
#define _GNU_SOURCE
#include "shell.h"
#include "../../src/machine.h"

#define ROOT "build/test/machine"

// Writes root/path of a copy.
static void put_in(const char *path, const char *text) {
    char *whole = format(ROOT "%s", path), *slash = strrchr(whole, '/');
    *slash = '\0';
    if (make_dirs(whole) != 0) fail("%s: %s", whole, strerror(errno));
    *slash = '/';
    if (write_file(whole, text, strlen(text)) != 0) fail("%s: %s", whole, strerror(errno));
    free(whole);
}

static const char meminfo[] = "MemTotal:       16000000 kB\nMemFree:          500000 kB\nMemAvailable:    8000000 kB\n"
                              "SwapTotal:       2000000 kB\nSwapFree:        1000000 kB\n";
enum { MB = 1 << 20 };

TEST(without_files_there_is_no_limit) {
    free(test_folder("machine"));
    MachineMemory m = machine_memory(ROOT);
    CHECK(isinf(m.available) && m.swap == 0 && isinf(m.group) && isinf(m.group_high) && isinf(machine_cpu_quota(ROOT)));
    put_in("/proc/meminfo", meminfo);
    put_in("/proc/self/cgroup", "");
    put_in("/proc/self/mountinfo", "garbage\n\n - \n");
    m = machine_memory(ROOT);
    CHECK(m.available == 8000000 * 1024.0 && m.swap == 1000000 * 1024.0 && isinf(m.group) && isinf(m.group_high));
    char name[64];
    CHECK(!strcmp(machine_cpu(ROOT, name, sizeof name), "unknown CPU"));
    put_in("/proc/cpuinfo", "processor\t: 0\nmodel name\t: A CPU \"of\" 1971\n");
    CHECK(!strcmp(machine_cpu(ROOT, name, sizeof name), "A CPU "));
    put_in("/proc/cpuinfo", "processor\t: 0\nBogoMIPS\t: 243.75\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\nCPU revision\t: 1\n");
    CHECK(!strcmp(machine_cpu(ROOT, name, sizeof name), "CPU 0x41 0xd0c"));
}

// Version 2, as systemd has it on a host: the tightest limit is not the innermost, and page cache can be had back.
TEST(limits_of_version_2_hold_for_all_groups_below) {
    free(test_folder("machine"));
    put_in("/proc/meminfo", meminfo);
    put_in("/proc/self/cgroup", "0::/user.slice/job.scope\n");
    put_in("/proc/self/mountinfo", "22 1 0:21 / / rw - ext4 /dev/sda1 rw\n"
                                "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n");
    put_in("/sys/fs/cgroup/cgroup.controllers", "cpu memory\n");
    put_in("/sys/fs/cgroup/user.slice/memory.max", "1048576000\n");                   // 1000 MB
    put_in("/sys/fs/cgroup/user.slice/memory.current", "838860800\n");                // 800
    put_in("/sys/fs/cgroup/user.slice/memory.stat", "anon 314572800\nfile 524288000\ninactive_file 419430400\nactive_file 104857600\n");
    put_in("/sys/fs/cgroup/user.slice/job.scope/memory.max", "max\n");
    put_in("/sys/fs/cgroup/user.slice/job.scope/memory.high", "629145600\n");         // 600
    put_in("/sys/fs/cgroup/user.slice/job.scope/memory.current", "104857600\n");      // 100
    put_in("/sys/fs/cgroup/user.slice/cpu.max", "150000 100000\n");
    put_in("/sys/fs/cgroup/user.slice/job.scope/cpu.max", "max 100000\n");
    MachineMemory m = machine_memory(ROOT);
    CHECK_MSG(m.group == 700.0 * MB && m.group_high == 500.0 * MB, "%g, %g MB", m.group / MB, m.group_high / MB);
    CHECK_MSG(machine_cpu_quota(ROOT) == 1.5, "%g", machine_cpu_quota(ROOT));
    put_in("/sys/fs/cgroup/user.slice/job.scope/memory.max", "209715200\n");          // 200, the innermost
    put_in("/sys/fs/cgroup/user.slice/job.scope/cpu.max", "20000 50000\n");
    m = machine_memory(ROOT);
    CHECK_MSG(m.group == 100.0 * MB && machine_cpu_quota(ROOT) == 0.4, "%g MB, %g", m.group / MB, machine_cpu_quota(ROOT));
}

// Version 1, as in a container of Docker: the process's path is the host's, but only its own part is mounted.
TEST(limits_of_version_1_in_a_container) {
    free(test_folder("machine"));
    put_in("/proc/meminfo", meminfo);
    put_in("/proc/self/cgroup", "11:memory:/docker/abc/inner\n4:cpuacct,cpu:/docker/abc/inner\n1:name=systemd:/docker/abc\n0::/system.slice\n");
    put_in("/proc/self/mountinfo", "30 20 0:26 /docker/abc /sys/fs/cgroup/systemd ro master:1 - cgroup cgroup rw,xattr,name=systemd\n"
                                "33 20 0:29 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro,nosuid master:15 - cgroup cgroup rw,cpu,cpuacct\n"
                                "34 20 0:30 /docker/abc /sys/fs/cgroup/memory ro,nosuid master:16 - cgroup cgroup rw,memory\n");
    put_in("/sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n");             // 512 MB
    put_in("/sys/fs/cgroup/memory/memory.usage_in_bytes", "134217728\n");             // 128
    put_in("/sys/fs/cgroup/memory/memory.stat", "cache 67108864\ninactive_file 1\ntotal_inactive_file 33554432\ntotal_active_file 33554432\n");
    put_in("/sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "9223372036854771712\n");
    put_in("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "250000\n");
    put_in("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    put_in("/sys/fs/cgroup/cpu,cpuacct/inner/cpu.cfs_quota_us", "-1\n");
    put_in("/sys/fs/cgroup/cpu,cpuacct/inner/cpu.cfs_period_us", "100000\n");
    MachineMemory m = machine_memory(ROOT);
    CHECK_MSG(m.group == 448.0 * MB && isinf(m.group_high), "%g MB", m.group / MB);
    CHECK_MSG(machine_cpu_quota(ROOT) == 2.5, "%g", machine_cpu_quota(ROOT));
    // in a namespace of its own, where the path says nothing about what is mounted
    put_in("/proc/self/cgroup", "11:memory:/\n4:cpuacct,cpu:/../other\n");
    CHECK(machine_memory(ROOT).group == 448.0 * MB && machine_cpu_quota(ROOT) == 2.5);
}

// Both versions at once: the memory controller in version 1, nothing but processes in version 2.
TEST(both_versions_may_be_there) {
    free(test_folder("machine"));
    put_in("/proc/self/cgroup", "4:memory:/a\n1:cpu:/\n0::/\n");
    put_in("/proc/self/mountinfo", "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
                                "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
                                "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    put_in("/sys/fs/cgroup/unified/cgroup.procs", "1\n");
    put_in("/sys/fs/cgroup/memory/memory.limit_in_bytes", "209715200\n");
    put_in("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "104857600\n");
    put_in("/sys/fs/cgroup/memory/a/memory.usage_in_bytes", "209715200\n");           // more than there may be: none is left
    put_in("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    put_in("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    CHECK(machine_memory(ROOT).group == 0 && isinf(machine_cpu_quota(ROOT)));
}

TEST(threads_of_one_core_count_once) {
    free(test_folder("machine"));
    MachineCpus set = { { true, true, true, true, true, true } };
    CHECK(machine_cores(ROOT, &set) == 6);                                           // nothing says otherwise
    static const char *const siblings[] = { "0,4\n", "1,5\n", "2-3\n", "2-3\n", "0,4\n", "1,5\n" };
    for (int cpu = 0; cpu < 6; cpu++) {
        char *path = format("/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
        put_in(path, siblings[cpu]);
        free(path);
    }
    CHECK(machine_cores(ROOT, &set) == 3);
    set.has[0] = false;                                                              // its other thread then counts
    CHECK(machine_cores(ROOT, &set) == 3);
    set.has[4] = false;
    CHECK(machine_cores(ROOT, &set) == 2);
}

// This machine's own.
TEST(this_process_may_run_somewhere) {
    MachineCpus here, there;
    CHECK(machine_cpus(&here) && machine_cpus(&there) && machine_same_cpus(&here, &there) && machine_cores("", &here) >= 1);
    for (int cpu = 0; cpu < MACHINE_CPUS; cpu++) there.has[cpu] ^= here.has[cpu];
    CHECK(!machine_same_cpus(&here, &there) && machine_cores("", &there) == 0);
    CHECK(machine_resident() > 100e3 && machine_resident() < 1e9);
}

// Headers and functions that Linux has and macOS or FreeBSD has not stand in machine.h alone, or in gemm.h between the #if of an
// instruction set. Ranks are for Linux: only glibc has the on_exit of dist.h, which tells the exit code.
TEST(what_linux_alone_has_stands_in_machine_h) {
    CHECK(run("! grep -nwE '"
        "(linux/[a-z_]+|sys/(prctl|sendfile|epoll|eventfd|signalfd|inotify|sysinfo|statfs|vfs|random|personality|timerfd))\\.h|"
        "(sched|threads|malloc|error|features|argp)\\.h|sched_[gs]etaffinity|cpu_set_t|CPU_(SET|ISSET|ZERO|COUNT|EQUAL)|prctl|sendfile|"
        "accept4|pipe2|SOCK_(CLOEXEC|NONBLOCK)|MSG_NOSIGNAL|renameat2|RENAME_[A-Z]+|O_(TMPFILE|PATH|DIRECT)|fallocate|mremap|"
        "MAP_(POPULATE|HUGETLB|FIXED_NOREPLACE)|memfd_create|syncfs|gettid|getrandom|copy_file_range|sigtimedwait|sigwaitinfo|"
        "clock_nanosleep|timer_create|pthread_barrier_[a-z]+|pthread_setaffinity_np|CLOCK_(BOOTTIME|MONOTONIC_[A-Z]+)|strchrnul|"
        "rawmemchr|memrchr|mempcpy|strverscmp|versionsort|canonicalize_file_name|get_nprocs|program_invocation_(short_)?name|"
        "f(write|puts)_unlocked|secure_getenv|qsort_r|mallinfo2?|malloc_(trim|usable_size)|mallopt|sincosf?|exp10f?|pow10f?|"
        "once_flag|call_once|(thrd|mtx|tss)_[a-z]+' "
        "train_gpt.c muon.h $(ls src/*.[ch] data/*.[ch] tools/*.[ch] dev/exp/*.h | grep -v src/machine.h) >&2") == 0);
    CHECK(run("! grep -n '\"/proc/\\|\"/sys/' train_gpt.c $(ls src/*.[ch] data/*.[ch] tools/*.[ch] | grep -v src/machine.h) >&2") == 0);
}

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    RUN(without_files_there_is_no_limit);
    RUN(limits_of_version_2_hold_for_all_groups_below);
    RUN(limits_of_version_1_in_a_container);
    RUN(both_versions_may_be_there);
    RUN(threads_of_one_core_count_once);
    RUN(this_process_may_run_somewhere);
    RUN(what_linux_alone_has_stands_in_machine_h);
    return tests_end();
}
