/* regular.h - opening a file that must be a regular one. */
#ifndef TD_DATA_COMMON_REGULAR_H
#define TD_DATA_COMMON_REGULAR_H

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A descriptor and its `st`, or -1 with a reason in `why`. O_NONBLOCK: opening a pipe that nobody
 * writes to would wait for ever.. */
static inline int open_regular(const char *path, struct stat *st, const char **why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && !fstat(fd, st) && S_ISREG(st->st_mode))
        return fd;
    *why = fd >= 0 ? "not a regular file" : strerror(errno);
    if (fd >= 0)
        close(fd);
    return -1;
}

#endif
