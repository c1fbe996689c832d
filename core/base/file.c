/* file.c - files: whole reads, maps, hashes, atomic writes. */
#include "base/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

/* Files are written beside their place and renamed, so nothing complete is lost. */
static const char *advice_on(int why)
{
    switch (why) {
    case ENOSPC:
    case EDQUOT:
        return "; free some space there, then run the command again: what was complete is "
               "untouched";
    case EFBIG:
        return "; raise the limit on the size of files (ulimit -f), then run the command again";
    default:
        return "";
    }
}

int td_io_error(td_error *error, const char *what, const char *path)
{
    int why = errno;
    return td_fail(error, TD_EIO, "cannot %s '%s': %s%s", what, path, strerror(why),
                   advice_on(why));
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Opening a pipe that nobody writes to would block silently. With O_NONBLOCK it opens, and can be
 * refused. Regular files ignore the flag. */
static int open_regular(const char *path, td_error *error)
{
    struct stat info;
    int         fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        td_io_error(error, "open", path);
        return -1;
    }
    if (!fstat(fd, &info) && S_ISREG(info.st_mode))
        return fd;
    close(fd);
    /* opening a directory also succeeds; reading it would fail with a cryptic message */
    td_fail(error, TD_EIO, "cannot read '%s': not a regular file", path);
    return -1;
}

/* Under /dev and /proc are standard input and the pipes that a shell makes for `<(command)`: those
 * do have a writer. */
static FILE *open_file(const char *path, td_error *error)
{
    bool  may_be_pipe = !strncmp(path, "/dev/", 5) || !strncmp(path, "/proc/", 6);
    int   fd = may_be_pipe ? open(path, O_RDONLY | O_CLOEXEC) : open_regular(path, error);
    FILE *file = fd >= 0 ? fdopen(fd, "rb") : NULL;
    /* td_fail keeps the first error, so this adds nothing to one of open_regular */
    if (!file)
        td_io_error(error, "open", path);
    if (!file && fd >= 0)
        close(fd);
    return file;
}

/* A file that is not regular may be endless, like /dev/zero. */
#define STREAM_LIMIT ((size_t)256 << 20)

static size_t limit_of(FILE *file)
{
    struct stat info;
    return !fstat(fileno(file), &info) && S_ISREG(info.st_mode) ? SIZE_MAX : STREAM_LIMIT;
}

/* The rest of a file, followed by a 0. Grows as it reads: pipes, and files of /proc, have no size
 * to ask for. */
static char *read_all(FILE *file, const char *path, size_t *size, td_error *error)
{
    size_t limit = limit_of(file);
    char  *data = NULL;
    size_t used = 0, room = 0, got = 1;
    while (got) {
        if (used + 1 >= room) { /* the 0 needs a byte */
            char *larger = realloc(data, room ? 2 * room : 1 << 14);
            if (!larger) {
                td_fail(error, TD_ENOMEM, "out of memory while reading '%s'", path);
                free(data);
                return NULL;
            }
            data = larger;
            room = room ? 2 * room : 1 << 14;
        }
        got = fread(data + used, 1, room - used - 1, file);
        used += got;
        if (used > limit)
            break;
    }
    if (ferror(file) || used > limit) {
        if (ferror(file))
            td_io_error(error, "read", path);
        else
            td_fail(error, TD_EIO,
                    "cannot read '%s': it is a pipe or a device with more than %zu MiB of data: "
                    "name a regular file",
                    path, limit >> 20);
        free(data);
        return NULL;
    }
    data[used] = 0;
    *size = used;
    return data;
}

/* Not a map: callers need the 0 at the end, and text that stays the same if the file changes. */
char *td_file_read(const char *path, size_t *size, td_error *error)
{
    FILE  *file = open_file(path, error);
    size_t used = 0;
    char  *data = file ? read_all(file, path, &used, error) : NULL;
    if (file)
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
        return td_io_error(error, "map", path);
    }
    /* mmap refuses 0 bytes; an empty file is a map without data */
    if (info.st_size > 0)
        data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
    close(fd); /* the map keeps the file open */
    if (data == MAP_FAILED)
        return td_io_error(error, "map", path);
    m->data = data;
    m->size = (size_t)info.st_size;
    return 0;
}

/* The map is const for its readers, but munmap takes a plain pointer: hence the detour through an
 * integer. */
void td_file_unmap(td_mapped_file *m)
{
    if (m->data)
        munmap((void *)(uintptr_t)m->data, m->size);
    *m = (td_mapped_file){ NULL, 0 };
}

enum { HASHED_AT_ONCE = 1 << 16 };

static int hash_all(FILE *file, XXH3_state_t *state, const char *path, char hex[33],
                    td_error *error)
{
    char          buffer[HASHED_AT_ONCE];
    XXH128_hash_t h;
    XXH3_128bits_reset(state);
    for (size_t got; (got = fread(buffer, 1, sizeof buffer, file)) > 0;)
        XXH3_128bits_update(state, buffer, got);
    if (ferror(file))
        return td_io_error(error, "read", path);
    h = XXH3_128bits_digest(state);
    /* high half first, as `xxhsum -H2` prints it */
    snprintf(hex, 33, "%016llx%016llx", (unsigned long long)h.high64, (unsigned long long)h.low64);
    return 0;
}

int td_file_hash(const char *path, char hex[33], td_error *error)
{
    FILE         *file = open_file(path, error);
    XXH3_state_t *state;
    int           code;
    if (!file)
        return TD_EIO;
    state = XXH3_createState();
    code = state ? hash_all(file, state, path, hex, error)
                 : td_fail(error, TD_ENOMEM, "out of memory while hashing '%s'", path);
    XXH3_freeState(state);
    fclose(file);
    return code;
}

FILE *td_file_append(const char *path, td_error *error)
{
    struct stat info;
    /* a pipe that nobody reads would block forever, and a link may lead anywhere */
    int  fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    bool regular = fd >= 0 && !fstat(fd, &info) && S_ISREG(info.st_mode);
    FILE *file = regular ? fdopen(fd, "a") : NULL;
    if (file)
        return file;
    if ((fd >= 0 && !regular) || errno == ELOOP || errno == ENXIO)
        td_fail(error, TD_EIO,
                "cannot write to '%s': it is a link, a pipe or a device: remove it, and a regular "
                "file will be created in its place",
                path);
    td_io_error(error, "open for writing", path);
    if (fd >= 0)
        close(fd);
    return NULL;
}

bool td_file_exists(const char *path) { return access(path, F_OK) == 0; }

int64_t td_file_size(const char *path)
{
    struct stat info;
    return stat(path, &info) ? -1 : (int64_t)info.st_size;
}

/* ---- atomic writes --------------------------------------------------------------------------- */

/* The order that survives a crash at any point: write and sync a temporary file, rename it, sync
 * the directory. rename() replaces the old file in one step, and needs both on one file system:
 * so the temporary file is next to its target, not in /tmp. */

/* A file of a name that nobody can foresee, so that no link can have been put there: -1 with errno.
 * It must be new, so two processes that write the same file do not mix their bytes. */
static int create_temporary(const char *path, char *name, size_t size)
{
    uint64_t noise;
    int      fd = -1;
    errno = EEXIST;
    for (int k = 0; k < 100 && fd < 0 && errno == EEXIST; k++) {
        if (getrandom(&noise, sizeof noise, 0) != (ssize_t)sizeof noise)
            return -1;
        snprintf(name, size, "%s.%016" PRIx64 ".tmp", path, noise);
        fd = open(name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
    }
    return fd;
}

int td_atomic_open(td_atomic_file *a, const char *path, td_error *error)
{
    struct stat info;
    size_t      size = strlen(path) + 32; /* ".", 16 digits, ".tmp" */
    int         fd;
    *a = (td_atomic_file){ NULL, NULL, NULL };
    /* renaming over a device or a pipe would replace it with a file */
    if (!stat(path, &info) && !S_ISREG(info.st_mode))
        return td_fail(error, TD_EIO, "cannot write '%s': it exists and is not a regular file",
                       path);
    a->path = strdup(path);
    a->temporary = a->path ? malloc(size) : NULL;
    if (!a->temporary) {
        td_atomic_abandon(a);
        return td_fail(error, TD_ENOMEM, "out of memory while writing '%s'", path);
    }
    fd = create_temporary(path, a->temporary, size);
    a->file = fd >= 0 ? fdopen(fd, "wb") : NULL;
    if (a->file)
        return 0;
    td_io_error(error, "create", a->temporary);
    if (fd < 0)
        *a->temporary = 0; /* not ours to remove */
    else
        close(fd);
    td_atomic_abandon(a);
    return TD_EIO;
}

/* Some file systems cannot sync: then nothing can be done, and nothing is lost that another would
 * have kept. */
int td_sync_file(int fd)
{
    return fsync(fd) && errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP ? -1 : 0;
}

int td_atomic_commit(td_atomic_file *a, td_error *error)
{
    char *directory = td_path_directory(a->path);
    int   code = 0;

    assert(a->file);
    /* The data must be on disk before the name points to it: after a power failure the new name
     * would otherwise lead to an empty file. Errors of earlier writes are still in the stream. */
    if (ferror(a->file) || fflush(a->file) || td_sync_file(fileno(a->file)))
        code = td_io_error(error, "write", a->path);
    if (fclose(a->file) && !code)
        code = td_io_error(error, "write", a->path);
    a->file = NULL;
    if (!code && rename(a->temporary, a->path))
        code = td_io_error(error, "rename the new file to", a->path);
    if (!code && directory) /* the rename itself is not durable until this */
        code = td_sync_directory(directory, error);
    free(directory);
    td_atomic_abandon(a);
    return code;
}

void td_atomic_abandon(td_atomic_file *a)
{
    if (a->file)
        fclose(a->file);
    /* after a commit it has been renamed, and this finds nothing */
    if (a->temporary)
        unlink(a->temporary);
    free(a->path);
    free(a->temporary);
    *a = (td_atomic_file){ NULL, NULL, NULL };
}

int td_file_write(const char *path, const void *data, size_t size, td_error *error)
{
    td_atomic_file a;
    int            code = td_atomic_open(&a, path, error);
    if (code)
        return code;
    fwrite(data, 1, size, a.file); /* a failure stays in the stream: commit reports it */
    return td_atomic_commit(&a, error);
}

int td_file_write_in(const char *folder, const char *name, const void *data, size_t size,
                     td_error *error)
{
    char *path = td_path_join(folder, name);
    int   code = path ? td_file_write(path, data, size, error)
                      : td_fail(error, TD_ENOMEM, "out of memory while writing '%s'", name);
    free(path);
    return code;
}
