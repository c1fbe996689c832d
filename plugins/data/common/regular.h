/* regular.h - opening a file that must be a regular one, and syncing one to the disk. */
#ifndef TD_DATA_COMMON_REGULAR_H
#define TD_DATA_COMMON_REGULAR_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* A descriptor and its `st`, or -1 with a reason in `why`. O_NONBLOCK: opening a pipe that nobody
 * writes to would wait forever. */
static inline int open_regular(const char *path, struct stat *st, const char **why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && !fstat(fd, st) && S_ISREG(st->st_mode))
        return fd;
    *why = fd < 0 ? strerror(errno) : "not a regular file";
    if (fd >= 0)
        close(fd);
    else
        *st = (struct stat){ 0 };
    return -1;
}

/* Advice for texts, to follow the reason of open_regular. */
static inline const char *directory_advice(const struct stat *st)
{
    return S_ISDIR(st->st_mode) ? ", but a directory: name the files in it, one by one or with a "
                                  "pattern (DIR/*.jsonl)"
                                : "";
}

/* Advice about a failed write, to follow its reason. */
static inline const char *write_advice(int why)
{
    switch (why) {
    case ENOSPC:
    case EDQUOT:
        return "; free some space, then run this again";
    case EFBIG:
        return "; raise the limit on the size of files (ulimit -f), then run this again";
    case EROFS:
    case EACCES:
    case EPERM:
        return "; set run.dir to a directory that can be written";
    default:
        return "";
    }
}

/* fsync; 0 also where the file system has none: then nothing can be done, and nothing is lost. */
static inline int sync_file(int fd)
{
    return fsync(fd) && errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP ? -1 : 0;
}

/* Create a new file beside `path`; its name, `path`.RANDOM.tmp, is written to `name`. Nobody can
 * have put a link there, and no other process writes to it. A descriptor, or -1 with errno. */
static inline int open_temporary(const char *path, char *name, size_t size)
{
    uint64_t noise;
    int      fd = -1;
    errno = EEXIST;
    for (int k = 0; k < 100 && fd < 0 && errno == EEXIST; k++) {
        if (getrandom(&noise, sizeof noise, 0) != (ssize_t)sizeof noise ||
            (size_t)snprintf(name, size, "%s.%016llx.tmp", path, (unsigned long long)noise) >= size)
            return -1;
        fd = open(name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
    }
    return fd;
}

#endif
