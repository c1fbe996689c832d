/* content.c - hashes of files, stored with the files' identities. */
#include "content.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "regular.h"
#include "tandem/random.h"

#define BLOCK ((size_t)1 << 20)
#define MANY ((int64_t)4 << 30) /* bytes that take long enough to say so */
enum { SETTLED = 2 };           /* seconds; no file system counts time in longer units */

/* A file as it was when it was hashed. */
typedef struct known {
    int64_t  size, modified[2], changed[2]; /* times in seconds and nanoseconds */
    uint64_t device, inode;
    uint64_t hash;
} known;

static known identify(const struct stat *st)
{
    return (known){ .size = st->st_size,
                    .modified = { st->st_mtim.tv_sec, st->st_mtim.tv_nsec },
                    .changed = { st->st_ctim.tv_sec, st->st_ctim.tv_nsec },
                    .device = st->st_dev,
                    .inode = st->st_ino };
}

static bool is_same(const known *a, const known *b)
{
    return a->size == b->size && a->device == b->device && a->inode == b->inode &&
           !memcmp(a->modified, b->modified, sizeof a->modified) &&
           !memcmp(a->changed, b->changed, sizeof a->changed);
}

/* A file that was written just now can be written again within the same tick of its clock: its
 * times are not yet conclusive. */
static bool is_settled(const known *k) { return time(NULL) - k->changed[0] > SETTLED; }

/* ---- memory ---------------------------------------------------------------------------------- */

/* A line per file, in the order of the files. Lines that cannot be read are files that are not
 * known. */
static void recall(const char *memory, known *at, size_t count)
{
    FILE *f = fopen(memory, "re");
    char  line[400];
    for (size_t i = 0; f && i < count && fgets(line, sizeof line, f); i++) {
        long long          n[5];
        unsigned long long u[3];
        if (sscanf(line, "%lld %lld %lld %lld %lld %llu %llu %llx", &n[0], &n[1], &n[2], &n[3],
                   &n[4], &u[0], &u[1], &u[2]) != 8)
            break;
        at[i] = (known){ n[0], { n[1], n[2] }, { n[3], n[4] }, u[0], u[1], u[2] };
    }
    if (f)
        fclose(f);
}

/* Failures are not reported: nothing is lost but the time to read the files again. */
static void remember(const char *memory, const known *at, size_t count)
{
    char  name[4400];
    int   fd = open_temporary(memory, name, sizeof name);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    if (!f)
        return;
    for (size_t i = 0; i < count; i++) {
        /* one that may change unseen is kept with a size that no file has */
        long long size = is_settled(&at[i]) ? (long long)at[i].size : -1;
        fprintf(f, "%lld %lld %lld %lld %lld %llu %llu %llx\n", size, (long long)at[i].modified[0],
                (long long)at[i].modified[1], (long long)at[i].changed[0],
                (long long)at[i].changed[1], (unsigned long long)at[i].device,
                (unsigned long long)at[i].inode, (unsigned long long)at[i].hash);
    }
    bool bad = ferror(f) != 0;
    if (fclose(f) || bad || rename(name, memory))
        unlink(name);
}

/* ---- hashing --------------------------------------------------------------------------------- */

static int hash_open(int fd, const char *path, XXH3_state_t *state, void *block, td_error *error)
{
    XXH3_64bits_reset(state);
    for (;;) {
        ssize_t n = read(fd, block, BLOCK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return td_fail(error, TD_EIO, "cannot read '%s': %s", path, strerror(errno));
        if (!n)
            return 0;
        XXH3_64bits_update(state, block, (size_t)n);
    }
}

/* *k: the file as it is, hashed unless `before` is the same. */
static int learn(const char *path, const known *before, known *k, XXH3_state_t *state, void *block,
                 td_error *error)
{
    struct stat st;
    const char *why;
    int         code = 0, fd = open_regular(path, &st, &why);
    if (fd < 0)
        return td_fail(error, TD_EIO, "cannot read '%s': %s%s", path, why, directory_advice(&st));
    *k = identify(&st);
    k->hash = before->hash;
    if (!is_same(k, before)) {
        code = hash_open(fd, path, state, block, error);
        k->hash = XXH3_64bits_digest(state);
    }
    close(fd);
    return code;
}

static void announce(const glob_t *files, const known *before, const char *what,
                     const td_services *services)
{
    struct stat st;
    int64_t     bytes = 0;
    for (size_t i = 0; i < files->gl_pathc; i++)
        if (!stat(files->gl_pathv[i], &st)) {
            known k = identify(&st);
            bytes += is_same(&k, &before[i]) ? 0 : k.size;
        }
    if (bytes >= MANY)
        services->log(services, TD_LOG_INFO, "reading %.1f GB of '%s' to see what has changed",
                      1e-9 * (double)bytes, what);
}

static int hash_files(const glob_t *files, const known *before, known *now, uint64_t *hash,
                      td_error *error)
{
    XXH3_state_t *state = XXH3_createState();
    void         *block = malloc(BLOCK);
    int code = state && block ? 0 : td_fail(error, TD_ENOMEM, "out of memory while hashing files");
    uint64_t h = td_random_stream("content");
    for (size_t i = 0; i < files->gl_pathc && !code; i++) {
        const char *path = files->gl_pathv[i], *slash = strrchr(path, '/');
        const char *name = slash ? slash + 1 : path; /* its end says how it is read */
        code = learn(path, &before[i], &now[i], state, block, error);
        h = td_hash(td_hash(h, name, strlen(name) + 1), &now[i].hash, sizeof now[i].hash);
    }
    XXH3_freeState(state);
    free(block);
    *hash = h;
    return code;
}

int content_hash(const glob_t *files, const char *memory, const char *what,
                 const td_services *services, uint64_t *hash, td_error *error)
{
    size_t count = files->gl_pathc;
    known *before = calloc(count + 1, sizeof *before), *now = calloc(count + 1, sizeof *now);
    int code = before && now ? 0 : td_fail(error, TD_ENOMEM, "out of memory for %zu files", count);
    if (!code) {
        for (size_t i = 0; i < count; i++)
            before[i].size = -1; /* no file's */
        recall(memory, before, count);
        announce(files, before, what, services);
        code = hash_files(files, before, now, hash, error);
    }
    if (!code && memcmp(before, now, count * sizeof *now))
        remember(memory, now, count);
    free(before);
    free(now);
    return code;
}
