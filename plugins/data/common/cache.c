/* cache.c - directories and locks for prepared data. */
#include "cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int cache_directory(const char *path, td_error *error)
{
    char part[4096];
    if ((size_t)snprintf(part, sizeof part, "%s", path) >= sizeof part)
        return td_fail(error, TD_EIO, "the cache path '%.200s..' is too long", path);
    /* end the text at each '/' in turn; from 1, as '/' itself exists */
    for (char *p = part + 1;; p++) {
        char end = *p;
        if (end && end != '/')
            continue;
        *p = 0;
        if (mkdir(part, 0777) && errno != EEXIST)
            return td_fail(error, TD_EIO, "cannot create the cache directory '%s': %s", part,
                           strerror(errno));
        *p = end;
        if (!end)
            return 0;
    }
}

/* Locked, or -1 with errno. The first try does not wait, so that waiting can be reported. */
static int take(const char *name, const char *what, const td_services *services, bool *held)
{
    int fd = open(name, O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0666);
    *held = fd >= 0 && !flock(fd, LOCK_EX | LOCK_NB);
    if (fd < 0 || *held)
        return fd;
    /* some network file systems have no locks */
    if (errno == ENOSYS || errno == ENOLCK || errno == EOPNOTSUPP || errno == EINVAL) {
        services->log(services, TD_LOG_WARN,
                      "cannot lock '%s' (%s): another process that prepares '%s' at the same time "
                      "will repeat the work",
                      name, strerror(errno), what);
        return fd;
    }
    if (errno == EWOULDBLOCK)
        services->log(services, TD_LOG_INFO, "another process is preparing '%s': waiting for it",
                      what);
    while (errno == EWOULDBLOCK || errno == EINTR)
        if (!flock(fd, LOCK_EX)) {
            *held = true;
            return fd;
        }
    close(fd);
    return -1;
}

int cache_lock(const char *name, const char *what, const td_services *services, bool *held,
               td_error *error)
{
    struct stat mine, seen;
    for (;;) {
        int fd = take(name, what, services, held);
        if (fd < 0) {
            td_fail(error, TD_EIO,
                    "cannot lock '%s', which keeps two processes from preparing the same data: %s",
                    name, strerror(errno));
            return -1;
        }
        if (!*held)
            return fd;
        /* Whoever held the lock removed its file. Then this is a lock on a file that no other
         * process can see, and a third may hold one on a new file of that name: try again. */
        if (!fstat(fd, &mine) && !stat(name, &seen) && mine.st_ino == seen.st_ino &&
            mine.st_dev == seen.st_dev)
            return fd;
        close(fd);
    }
}

void cache_unlock(const char *name, int lock)
{
    /* removed before the lock is released; later it could be another process's file */
    unlink(name);
    close(lock);
}
