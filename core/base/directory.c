/* directory.c - making, listing, replacing and removing directories; the strings of paths. */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- making ---------------------------------------------------------------------------------- */

char *td_temporary_directory(const char *name, td_error *error)
{
    /* TMPDIR is set where /tmp is too small, or not shared between machines */
    const char *base = getenv("TMPDIR");
    size_t      size;
    char       *path;
    base = base && *base ? base : "/tmp";
    size = strlen(base) + strlen(name) + sizeof "/-XXXXXX";
    path = malloc(size);
    if (!path) {
        td_fail(error, TD_ENOMEM, "out of memory while creating a directory in '%s'", base);
        return NULL;
    }
    snprintf(path, size, "%s/%s-XXXXXX", base, name);
    /* mkdtemp fills in the X's, and creates the directory for this user only */
    if (mkdtemp(path))
        return path;
    td_fail(error, TD_EIO,
            "cannot create a directory in '%s': %s; set TMPDIR to a writable directory with free "
            "space",
            base, strerror(errno));
    free(path);
    return NULL;
}

int td_make_directories(const char *path, td_error *error)
{
    char *copy;
    int   code = 0;
    if (!*path)
        return td_fail(error, TD_ECONFIG, "cannot create a directory: the path is empty");
    copy = strdup(path);
    if (!copy)
        return td_fail(error, TD_ENOMEM, "out of memory while creating '%s'", path);
    /* For "a/b/c": a, a/b, a/b/c. If a file is in the way, the next level fails with ENOTDIR; if it
     * is the last one, using the directory fails. */
    for (char *slash = copy; !code && slash;) {
        slash = strchr(slash + 1, '/');
        if (slash)
            *slash = 0;
        if (*copy && mkdir(copy, 0777) && errno != EEXIST)
            code = td_io_error(error, "create the directory", copy);
        if (slash)
            *slash = '/';
    }
    free(copy);
    return code;
}

int td_make_writable(const char *path, td_error *error)
{
    struct stat st;
    int         code = td_make_directories(path, error);
    if (code)
        return code;
    if (!stat(path, &st) && !S_ISDIR(st.st_mode))
        errno = ENOTDIR;
    else if (!access(path, W_OK | X_OK))
        return 0;
    return td_io_error(error, "write to the directory", path);
}

int td_sync_directory(const char *path, td_error *error)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), code = 0;
    if (fd < 0)
        return td_io_error(error, "open the directory", path);
    /* some network and read-only file systems cannot sync a directory, and need not */
    if (td_sync_file(fd) && errno != EROFS)
        code = td_io_error(error, "sync the directory", path);
    close(fd);
    return code;
}

/* ---- listing --------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A list of a few dozen names: growing it one by one is good enough. */
static bool add_name(char ***list, size_t *count, const char *name)
{
    char **larger = realloc(*list, (*count + 1) * sizeof *larger);
    if (larger)
        *list = larger;
    if (!larger || !(larger[*count] = strdup(name)))
        return false;
    ++*count;
    return true;
}

/* Entries of an open directory, unsorted; after a failure `names` has the entries read so far. */
static int read_names(DIR *dir, const char *path, char ***names, size_t *count, td_error *error)
{
    struct dirent *e;
    /* readdir returns NULL at the end and on errors: only errno tells them apart */
    for (errno = 0; (e = readdir(dir)) != NULL; errno = 0) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        if (!add_name(names, count, e->d_name))
            return td_fail(error, TD_ENOMEM, "out of memory while listing '%s'", path);
    }
    return errno ? td_io_error(error, "list", path) : 0;
}

/* The count is signed so that it can also be an error code. */
int64_t td_list_directory(const char *path, char ***names, td_error *error)
{
    DIR   *dir = opendir(path);
    size_t count = 0;
    char **list = NULL;
    int    code;

    if (!dir)
        return td_io_error(error, "list", path);
    code = read_names(dir, path, &list, &count, error);
    closedir(dir);
    if (code) {
        td_free_names(list, (int64_t)count);
        return code;
    }
    /* the order of the file system changes from machine to machine */
    if (count)
        qsort(list, count, sizeof *list, by_name);
    *names = list;
    return (int64_t)count;
}

void td_free_names(char **names, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

/* ---- removing and replacing ------------------------------------------------------------------ */

int td_remove_tree(const char *path, td_error *error)
{
    struct stat info;
    char      **names = NULL;
    int64_t     count;
    int         code = 0;

    if (lstat(path, &info)) /* not stat: a link to a directory must not be walked */
        return errno == ENOENT ? 0 : td_io_error(error, "remove", path);
    if (!S_ISDIR(info.st_mode))
        return unlink(path) ? td_io_error(error, "remove", path) : 0;
    count = td_list_directory(path, &names, error);
    if (count < 0)
        return (int)count;
    /* the names are a copy: removing entries while readdir goes through them is not portable */
    for (int64_t i = 0; i < count && !code; i++) {
        char *child = td_path_join(path, names[i]);
        code = child ? td_remove_tree(child, error)
                     : td_fail(error, TD_ENOMEM, "out of memory while removing '%s'", path);
        free(child);
    }
    td_free_names(names, count);
    if (code) /* rmdir would only report "not empty" on top of it */
        return code;
    return rmdir(path) ? td_io_error(error, "remove", path) : 0;
}

int td_replace_directory(const char *from, const char *to, td_error *error)
{
    /* rename replaces an empty directory only: enough the first time */
    if (!rename(from, to))
        return 0;
    if (errno != EEXIST && errno != ENOTEMPTY)
        return td_io_error(error, "rename", from);
    /* The exchange is atomic; the old directory is then under the new one's name. If it cannot be
     * removed (someone has it open, on NFS), that is only disk space. */
    if (!renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE)) {
        td_remove_tree(from, NULL);
        return 0;
    }
    if (errno != EINVAL && errno != ENOSYS)
        return td_io_error(error, "rename", from);
    /* NFS and others cannot exchange names. A crash between the two steps leaves only `from`, which
     * is complete. */
    if (td_remove_tree(to, error))
        return td_failed(error, TD_EIO);
    return rename(from, to) ? td_io_error(error, "rename", from) : 0;
}

/* ---- paths ----------------------------------------------------------------------------------- */

/* Paths are only joined and split, never cleaned: "a/../b" may not be "b" if a is a link. */

char *td_path_join(const char *directory, const char *name)
{
    size_t size = strlen(directory) + strlen(name) + 2;
    char  *path = *name == '/' ? strdup(name) : malloc(size);
    if (path && *name != '/')
        snprintf(path, size, "%s%s%s", directory, *directory ? "/" : "", name);
    return path;
}

char *td_path_directory(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return strdup(".");
    /* the directory of "/x" is "/" */
    return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

char *td_program_find(const char *name)
{
    const char *path = getenv("PATH");
    char       *copy = strdup(path ? path : ""), *rest = copy, *found = NULL;
    for (char *directory; !found && rest && (directory = strsep(&rest, ":")) != NULL;) {
        found = td_path_join(*directory ? directory : ".", name); /* empty: here */
        if (found && access(found, X_OK)) {
            free(found);
            found = NULL;
        }
    }
    free(copy);
    return found;
}
