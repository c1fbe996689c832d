/* place.h - where a logger writes: regular files, at names within the run's directory. */
#ifndef TD_LOGGER_PLACE_H
#define TD_LOGGER_PLACE_H

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tandem/error.h"

/* An option that names a file or folder of the run: a config from elsewhere must not reach files
 * outside, nor the run's own files. */
static inline int check_place(const char *key, const char *name, td_error *error)
{
    static const char *const taken[] = { "",
                                         ".",
                                         "..",
                                         ".lock",
                                         "log.txt",
                                         "checkpoints",
                                         "config.cfg",
                                         "environment.txt",
                                         "model-info.txt" };
    for (size_t k = 0; k < sizeof taken / sizeof *taken; k++)
        if (!strcmp(name, taken[k]))
            return td_fail(
                error, TD_ECONFIG,
                "%s = \"%s\": the run already has something else with that name: choose another",
                key, name);
    /* paths are refused: even one within the run could replace a checkpoint */
    for (const char *c = name; *c; c++)
        if (*c == '/' || (unsigned char)*c < 32 || *c == 127)
            return td_fail(error, TD_ECONFIG,
                           "%s has '/' or a control character: it must be a name within the run's "
                           "directory, not a path",
                           key);
    return 0;
}

/* Open a regular file, created if it does not exist: no link is followed, and a pipe without a
 * reader does not block. -1 with errno. */
static inline int open_place(const char *path, int flags)
{
    struct stat st;
    int         fd = open(path, flags | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666);
    if (fd < 0 || (!fstat(fd, &st) && S_ISREG(st.st_mode)))
        return fd;
    close(fd);
    errno = ENOTSUP;
    return -1;
}

/* The reason for a failure of open_place, and advice. */
static inline const char *place_reason(int why)
{
    return why == ELOOP || why == ENXIO || why == ENOTSUP
               ? "it is a link, a pipe or a device: remove it, and a regular file will be created "
                 "in its place"
               : strerror(why);
}

#endif
