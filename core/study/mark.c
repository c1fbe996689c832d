/* mark.c - marks of finished cells, and the lock of a study. */
#include "study/mark.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"

/* ---- done ------------------------------------------------------------------------------------ */

/* DIRECTORY/FOLDER/NAME; free() it. */
static char *path_of(const char *directory, const char *folder, const char *name)
{
    td_text t = { 0 };
    td_text_print(&t, "%s/%s/%s", directory, folder, name);
    return t.data;
}

static char *read_mark(const char *directory, const char *folder, const char *name)
{
    char *path = path_of(directory, folder, name);
    char *text = path && td_file_exists(path) ? td_file_read(path, NULL, &(td_error){ 0 }) : NULL;
    free(path);
    return text;
}

static int write_mark(const char *directory, const char *folder, const char *name, const char *text,
                      td_error *error)
{
    char *path = path_of(directory, folder, name), *parent = path ? td_path_directory(path) : NULL;
    int   code = parent ? td_make_directories(parent, error)
                        : td_fail(error, TD_ENOMEM, "out of memory while marking '%s'", name);
    if (!code)
        code = td_file_write(path, text, strlen(text), error);
    free(parent);
    free(path);
    return code;
}

static bool is_marked(const char *directory, const char *folder, const char *name, const char *key)
{
    char *text = read_mark(directory, folder, name);
    /* a shell may have written it, and its echo ends the line */
    bool  is = text && *key && !strncmp(text, key, strlen(key)) && strchr("\n", text[strlen(key)]);
    free(text);
    return is;
}

static int mark(const char *directory, const char *folder, const char *name, const char *key,
                td_error *error)
{
    char line[200];
    snprintf(line, sizeof line, "%s\n", key);
    return write_mark(directory, folder, name, line, error);
}

bool td_mark_is(const char *directory, const char *name, const char *key)
{
    return is_marked(directory, "done", name, key);
}

int td_mark_set(const char *directory, const char *name, const char *key, td_error *error)
{
    return mark(directory, "done", name, key, error);
}

bool td_text_mark_is(const char *directory, const char *name, const char *stamp)
{
    return is_marked(directory, "texts", name, stamp);
}

int td_text_mark_set(const char *directory, const char *name, const char *stamp, td_error *error)
{
    return mark(directory, "texts", name, stamp, error);
}

time_t td_begun_time(const char *directory, const char *name)
{
    char       *path = path_of(directory, "begun", name);
    struct stat st;
    time_t      when = path && !stat(path, &st) ? st.st_mtim.tv_sec : 0;
    free(path);
    return when;
}

char *td_begun_read(const char *directory, const char *name)
{
    return read_mark(directory, "begun", name);
}

int td_begun_write(const char *directory, const char *name, const char *text, td_error *error)
{
    return write_mark(directory, "begun", name, text, error);
}

int td_mark_unset(const char *directory, const char *name, td_error *error)
{
    char *path = path_of(directory, "done", name);
    int   code = path ? td_remove_tree(path, error)
                      : td_fail(error, TD_ENOMEM, "out of memory while marking '%s'", name);
    free(path);
    return code;
}

int td_mark_clear(const char *directory, const char *name, td_error *error)
{
    static const char *const folders[] = { "done", "begun", "texts" };
    int                      code = 0;
    for (size_t k = 0; k < 3 && !code; k++) {
        char *path = path_of(directory, folders[k], name);
        code = path ? td_remove_tree(path, error)
                    : td_fail(error, TD_ENOMEM, "out of memory while marking '%s'", name);
        free(path);
    }
    return code;
}

/* ---- the lock -------------------------------------------------------------------------------- */

enum { PATIENCE = 60 }; /* seconds that children of a killed process may take to save */

/* Without O_CLOEXEC, because children must hold the lock. */
static int open_lock(const char *directory, int flags)
{
    char *path = td_path_join(directory, ".lock");
    int   fd = path ? open(path, O_RDWR | O_NOFOLLOW | flags, 0666) : -1;
    free(path);
    return fd;
}

/* The process that took the lock; 0: unknown. */
static long holder(int fd)
{
    char    text[32] = "";
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    return n > 0 ? strtol(text, NULL, 10) : 0;
}

static bool is_alive(long pid) { return pid > 0 && (!kill((pid_t)pid, 0) || errno == EPERM); }

static int sign(int fd)
{
    char text[32];
    int  n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    return ftruncate(fd, 0) || pwrite(fd, text, (size_t)n, 0) != n;
}

int td_study_lock(const char *directory, td_error *error)
{
    int    fd = open_lock(directory, O_CREAT);
    double start = td_now();
    if (fd < 0)
        return td_fail(error, TD_EIO, "cannot create '%s/.lock': %s", directory, strerror(errno));
    while (flock(fd, LOCK_EX | LOCK_NB)) {
        long pid = holder(fd);
        /* a dead holder's children save and end; they hold the lock until then */
        if (errno == EWOULDBLOCK && !is_alive(pid) && td_now() - start < PATIENCE) {
            usleep(50000);
            continue;
        }
        close(fd);
        return td_fail(
            error, TD_ECONFIG,
            "another process (%ld) is running the study in '%s': wait for it, or stop it "
            "with SIGTERM and run this again",
            pid, directory);
    }
    if (!sign(fd))
        return fd;
    close(fd);
    return td_fail(error, TD_EIO, "cannot write '%s/.lock': %s", directory, strerror(errno));
}

bool td_study_is_running(const char *directory)
{
    int  fd = open_lock(directory, 0);
    bool held = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK;
    if (fd >= 0)
        close(fd);
    return held;
}
