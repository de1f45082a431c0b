/* volume.h - what happens on the volume that a test writes to: what it lacks, what others do there, what a power cut leaves.
 *
 * Included before the project's headers: the system calls link, rename, fsync and flock of what follows go through here.
 *
 * A power cut is possible before each of these calls in the folder `power_folder`. What it leaves there is, in the worst
 * case, of two kinds: only the names that were there when the folder was last synced, or all that are there now, renamed,
 * new and removed ones; and of each file what it had when it was last synced, or nothing. With power_folder set, both are
 * made below `power_cuts` at every call: power_cuts/0a, 0b, 1a, ...
 */
#ifndef VOLUME_H
#define VOLUME_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int no_links, no_folder_sync, no_locks;      // not 0: the volume lacks these; the errno of fsync on a folder
static const char *before_lock;                     // a shell command that runs just before the next lock
static const char *power_folder, *power_cuts;
static int power_count;                             // of the cuts so far
static pid_t power_process;                         // who is watched, not its child that draws

enum { VOLUME_FILES = 32 };
static struct { ino_t inode; char *bytes; size_t size; } volume_synced[1024];
static int volume_synced_count;
static struct { ino_t inode; char name[NAME_MAX + 1]; } volume_names[VOLUME_FILES];     // when the folder was last synced
static int volume_name_count;

static inline char *volume_read(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    char *bytes = (char *)malloc(1 << 20);
    *size = f ? fread(bytes, 1, 1 << 20, f) : 0;
    if (!f || *size == 1 << 20) abort();
    fclose(f);
    return bytes;
}

// Puts the file of this inode as it was when it was synced at DIR/NAME; another one, or another's inode, is empty.
static inline void volume_put(const char *dir, const char *name, ino_t inode, const char *now) {
    char path[2 * PATH_MAX];
    size_t size = 0, synced = 0;
    char *bytes = now ? volume_read(now, &size) : NULL;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (!f) abort();
    for (int i = 0; i < volume_synced_count; i++)
        if (volume_synced[i].inode == inode) {
            synced = volume_synced[i].size;
            bool same = !now || (synced <= size && memcmp(bytes, volume_synced[i].bytes, synced) == 0);
            if (same) fwrite(volume_synced[i].bytes, 1, synced, f);
        }
    fclose(f);
    free(bytes);
}

static inline void power_may_go(void) {
    char dir[2][PATH_MAX], path[2 * PATH_MAX];
    DIR *folder = power_folder && power_process == getpid() ? opendir(power_folder) : NULL;
    if (!folder) return;
    for (int kind = 0; kind < 2; kind++) {
        snprintf(dir[kind], sizeof dir[kind], "%s/%d%c", power_cuts, power_count, 'a' + kind);
        if (mkdir(dir[kind], 0777) != 0) abort();
    }
    for (int i = 0; i < volume_name_count; i++) volume_put(dir[0], volume_names[i].name, volume_names[i].inode, NULL);
    for (struct dirent *entry; (entry = readdir(folder)); ) {
        snprintf(path, sizeof path, "%s/%s", power_folder, entry->d_name);
        if (entry->d_type == DT_REG) volume_put(dir[1], entry->d_name, entry->d_ino, path);
    }
    closedir(folder);
    power_count++;
}

static inline void volume_note_folder(const char *path) {
    DIR *folder = opendir(path);
    volume_name_count = 0;
    for (struct dirent *entry; folder && (entry = readdir(folder)); ) {
        if (entry->d_type != DT_REG) continue;
        if (volume_name_count == VOLUME_FILES) abort();
        volume_names[volume_name_count].inode = entry->d_ino;
        strcpy(volume_names[volume_name_count++].name, entry->d_name);
    }
    closedir(folder);
}

static inline void volume_note_file(int fd, ino_t inode) {
    char path[64];
    int at = 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    while (at < volume_synced_count && volume_synced[at].inode != inode) at++;
    if (at == 1024) abort();
    if (at == volume_synced_count) volume_synced_count++;
    else free(volume_synced[at].bytes);
    volume_synced[at].inode = inode;
    volume_synced[at].bytes = volume_read(path, &volume_synced[at].size);
}

// From here on this process is watched; what is in the folder is on the disk.
static inline void power_watch(void) {
    power_process = getpid();
    volume_note_folder(power_folder);
    for (int i = 0; i < volume_name_count; i++) {
        char path[2 * PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", power_folder, volume_names[i].name);
        int fd = open(path, O_RDONLY);
        volume_note_file(fd, volume_names[i].inode);
        close(fd);
    }
}

static inline int hooked_fsync(int fd) {
    struct stat st, watched;
    bool folder = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
    if (folder && no_folder_sync) { errno = no_folder_sync; return -1; }
    power_may_go();
    int result = fsync(fd);
    if (!power_folder || result != 0) return result;
    if (!folder) volume_note_file(fd, st.st_ino);
    else if (stat(power_folder, &watched) == 0 && watched.st_ino == st.st_ino) volume_note_folder(power_folder);
    return 0;
}

static inline int hooked_rename(const char *from, const char *to) {
    power_may_go();
    return rename(from, to);
}

static inline int hooked_link(const char *from, const char *to) {
    power_may_go();
    if (!no_links) return link(from, to);
    errno = EPERM;
    return -1;
}

static inline int hooked_flock(int fd, int operation) {
    const char *command = before_lock;
    before_lock = NULL;
    if (command && system(command) != 0) _exit(99);
    if (!no_locks) return flock(fd, operation);
    errno = ENOLCK;
    return -1;
}

#define fsync(fd) hooked_fsync(fd)
#define rename(from, to) hooked_rename(from, to)
#define link(from, to) hooked_link(from, to)
#define flock(fd, operation) hooked_flock(fd, operation)

#endif // VOLUME_H
