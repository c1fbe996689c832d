/* file.c - files and directories: whole reads, atomic writes, maps, hashes. */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

static int io_error(td_error *error, const char *what, const char *path)
{
    return td_fail(error, TD_EIO, "cannot %s '%s': %s", what, path, strerror(errno));
}

/* ---- reading --------------------------------------------------------------------------------- */

/* A pipe with nobody at its other end would be waited for without a word. */
static int open_regular(const char *path, td_error *error)
{
    struct stat info;
    int         fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        io_error(error, "open", path);
        return -1;
    }
    if (!fstat(fd, &info) && S_ISREG(info.st_mode))
        return fd;
    close(fd);
    td_fail(error, TD_EIO, "cannot read '%s': it is no regular file", path);
    return -1;
}

/* Below /dev and /proc are standard input and the pipes that a shell makes for `<(command)`: those
 * have another end. */
static FILE *open_file(const char *path, td_error *error)
{
    bool  given = !strncmp(path, "/dev/", 5) || !strncmp(path, "/proc/", 6);
    int   fd = given ? open(path, O_RDONLY | O_CLOEXEC) : open_regular(path, error);
    FILE *file = fd >= 0 ? fdopen(fd, "rb") : NULL;
    if (!file)
        io_error(error, "open", path);
    if (!file && fd >= 0)
        close(fd);
    return file;
}

char *td_file_read(const char *path, size_t *size, td_error *error)
{
    FILE  *file = open_file(path, error);
    char  *data = NULL, *larger;
    size_t used = 0, room = 0, got = 1;

    if (!file)
        return NULL;
    while (got) {
        if (used + 1 >= room) {
            room = room ? 2 * room : 1 << 14;
            larger = realloc(data, room);
            if (!larger)
                break;
            data = larger;
        }
        got = fread(data + used, 1, room - used - 1, file);
        used += got;
    }
    if (got || ferror(file)) {
        got ? td_fail(error, TD_ENOMEM, "out of memory while reading '%s'", path)
            : io_error(error, "read", path);
        free(data);
        data = NULL;
    } else
        data[used] = 0;
    fclose(file);
    if (size)
        *size = used;
    return data;
}

int td_file_map(td_mapped_file *m, const char *path, td_error *error)
{
    struct stat info;
    int         fd = open_regular(path, error);
    void       *data = NULL;

    *m = (td_mapped_file){ NULL, 0 };
    if (fd < 0)
        return TD_EIO;
    if (fstat(fd, &info)) {
        close(fd);
        return io_error(error, "map", path);
    }
    if (info.st_size > 0)
        data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (data == MAP_FAILED)
        return io_error(error, "map", path);
    m->data = data;
    m->size = (size_t)info.st_size;
    return 0;
}

void td_file_unmap(td_mapped_file *m)
{
    if (m->data)
        munmap((void *)(uintptr_t)m->data, m->size);
    *m = (td_mapped_file){ NULL, 0 };
}

/* ---- atomic writes --------------------------------------------------------------------------- */

int td_atomic_open(td_atomic_file *a, const char *path, td_error *error)
{
    struct stat info;
    size_t      size = strlen(path) + 32;
    *a = (td_atomic_file){ NULL, strdup(path), malloc(size) };
    if (!a->path || !a->temporary) {
        td_atomic_abandon(a);
        return td_fail(error, TD_ENOMEM, "out of memory while writing '%s'", path);
    }
    if (!stat(path, &info) && !S_ISREG(info.st_mode)) {
        td_atomic_abandon(a);
        return td_fail(error, TD_EIO,
                       "cannot write '%s': there is something that is no regular file", path);
    }
    snprintf(a->temporary, size, "%s.%ld.tmp", path, (long)getpid());
    a->file = fopen(a->temporary, "wbe");
    if (a->file)
        return 0;
    io_error(error, "create", a->temporary);
    td_atomic_abandon(a);
    return TD_EIO;
}

int td_atomic_commit(td_atomic_file *a, td_error *error)
{
    char *directory = td_path_directory(a->path);
    int   code = 0;

    if (ferror(a->file) || fflush(a->file) || fsync(fileno(a->file)))
        code = io_error(error, "write", a->path);
    if (fclose(a->file) && !code)
        code = io_error(error, "write", a->path);
    a->file = NULL;
    if (!code && rename(a->temporary, a->path))
        code = io_error(error, "rename the new file to", a->path);
    if (!code && directory)
        code = td_sync_directory(directory, error);
    free(directory);
    td_atomic_abandon(a);
    return code;
}

void td_atomic_abandon(td_atomic_file *a)
{
    if (a->file)
        fclose(a->file);
    if (a->temporary)
        unlink(a->temporary);
    free(a->path);
    free(a->temporary);
    *a = (td_atomic_file){ NULL, NULL, NULL };
}

int td_file_write(const char *path, const void *data, size_t size, td_error *error)
{
    td_atomic_file a;
    if (td_atomic_open(&a, path, error))
        return TD_EIO;
    fwrite(data, 1, size, a.file);
    return td_atomic_commit(&a, error);
}

/* ---- directories ----------------------------------------------------------------------------- */

char *td_temporary_directory(const char *name, td_error *error)
{
    const char *base = getenv("TMPDIR");
    size_t      size;
    char       *path;
    base = base && *base ? base : "/tmp";
    size = strlen(base) + strlen(name) + 9;
    path = malloc(size);
    if (!path) {
        td_fail(error, TD_ENOMEM, "out of memory while making a directory in '%s'", base);
        return NULL;
    }
    snprintf(path, size, "%s/%s-XXXXXX", base, name);
    if (mkdtemp(path))
        return path;
    td_fail(error, TD_EIO, "cannot make a directory in '%s': %s: set TMPDIR to where there is room",
            base, strerror(errno));
    free(path);
    return NULL;
}

int td_make_directories(const char *path, td_error *error)
{
    if (!*path)
        return td_fail(error, TD_ECONFIG, "cannot make a directory: its name is empty");
    char *copy = strdup(path);
    int   code = copy ? 0 : td_fail(error, TD_ENOMEM, "out of memory while making '%s'", path);
    for (char *p = copy; !code && p;) {
        p = strchr(p + 1, '/');
        if (p)
            *p = 0;
        if (*copy && mkdir(copy, 0777) && errno != EEXIST)
            code = io_error(error, "make the directory", copy);
        if (p)
            *p = '/';
    }
    free(copy);
    return code;
}

int td_sync_directory(const char *path, td_error *error)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), code = 0;
    if (fd < 0)
        return io_error(error, "open the directory", path);
    if (fsync(fd) && errno != EINVAL && errno != EROFS)
        code = io_error(error, "sync the directory", path);
    close(fd);
    return code;
}

bool td_file_exists(const char *path) { return access(path, F_OK) == 0; }

int64_t td_file_size(const char *path)
{
    struct stat info;
    return stat(path, &info) ? -1 : (int64_t)info.st_size;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int64_t td_list_directory(const char *path, char ***names, td_error *error)
{
    DIR           *dir = opendir(path);
    struct dirent *e;
    size_t         count = 0;
    char         **list = NULL;

    if (!dir)
        return io_error(error, "list", path);
    while (errno = 0, (e = readdir(dir)) != NULL) {
        char **larger;
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        larger = realloc(list, (count + 1) * sizeof *list);
        if (larger)
            list = larger;
        if (!larger || !(list[count] = strdup(e->d_name))) {
            closedir(dir);
            td_free_names(list, (int64_t)count);
            return td_fail(error, TD_ENOMEM, "out of memory while listing '%s'", path);
        }
        count++;
    }
    if (errno) {
        int code = io_error(error, "list", path);
        closedir(dir);
        td_free_names(list, (int64_t)count);
        return code;
    }
    closedir(dir);
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

int td_remove_tree(const char *path, td_error *error)
{
    struct stat info;
    char      **names = NULL;
    int64_t     count;
    int         code = 0;

    if (lstat(path, &info))
        return errno == ENOENT ? 0 : io_error(error, "remove", path);
    if (!S_ISDIR(info.st_mode))
        return unlink(path) ? io_error(error, "remove", path) : 0;
    count = td_list_directory(path, &names, error);
    if (count < 0)
        return TD_EIO;
    for (int64_t i = 0; i < count && !code; i++) {
        char *child = td_path_join(path, names[i]);
        code = child ? td_remove_tree(child, error)
                     : td_fail(error, TD_ENOMEM, "out of memory while removing '%s'", path);
        free(child);
    }
    td_free_names(names, count);
    return code ? code : rmdir(path) ? io_error(error, "remove", path) : 0;
}

int td_replace_directory(const char *from, const char *to, td_error *error)
{
    if (!rename(from, to))
        return 0;
    if (errno != EEXIST && errno != ENOTEMPTY)
        return io_error(error, "rename", from);
    if (!renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE))
        return td_remove_tree(from, error);
    /* a file system that cannot exchange names: then there is a moment without */
    if (errno != EINVAL && errno != ENOSYS)
        return io_error(error, "rename", from);
    if (td_remove_tree(to, error))
        return TD_EIO;
    return rename(from, to) ? io_error(error, "rename", from) : 0;
}

/* ---- hashes and paths ------------------------------------------------------------------------ */

int td_file_hash(const char *path, char hex[33], td_error *error)
{
    FILE               *file = open_file(path, error);
    XXH3_state_t       *state = XXH3_createState();
    static const size_t room = 1 << 16;
    char               *buffer = malloc(room);
    int                 code = 0;

    if (!file || !state || !buffer)
        code = file ? td_fail(error, TD_ENOMEM, "out of memory while hashing '%s'", path) : TD_EIO;
    else {
        XXH128_hash_t h;
        XXH3_128bits_reset(state);
        for (size_t got; (got = fread(buffer, 1, room, file)) > 0;)
            XXH3_128bits_update(state, buffer, got);
        if (ferror(file))
            code = io_error(error, "read", path);
        h = XXH3_128bits_digest(state);
        snprintf(hex, 33, "%016llx%016llx", (unsigned long long)h.high64,
                 (unsigned long long)h.low64);
    }
    if (file)
        fclose(file);
    XXH3_freeState(state);
    free(buffer);
    return code;
}

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
    return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

char *td_program_directory(void)
{
    char    path[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", path, sizeof path - 1);
    if (size <= 0)
        return strdup(".");
    path[size] = 0;
    return td_path_directory(path);
}
