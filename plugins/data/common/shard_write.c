/* shard_write.c - writing token shards: in temporary files that are renamed when all is on the disk. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "regular.h"
#include "shard_format.h"
#include "tandem/random.h"

static int no_write(const shard_writer *w, int which, int why, td_error *error)
{
    return td_fail(error, TD_EIO, "cannot write token shard '%s%s': %s%s", w->path,
                   shard_ends[which], strerror(why), write_advice(why));
}

/* Open a file of the shard under a temporary name. */
static FILE *create(shard_writer *w, int which, td_error *error)
{
    char path[4200];
    snprintf(path, sizeof path, "%s%s", w->path, shard_ends[which]);
    int   fd = open_temporary(path, w->temporary[which], sizeof *w->temporary);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "wb");
    if (f) {
        XXH3_64bits_reset(w->state);
        return f;
    }
    no_write(w, which, errno, error);
    /* there is no file of that name, or it is not ours */
    if (fd < 0)
        *w->temporary[which] = 0;
    else
        close(fd);
    return NULL;
}

/* Write, and hash the written bytes. A failed fwrite is found by settle's ferror. */
static void put(shard_writer *w, FILE *f, const void *data, size_t size)
{
    /* fwrite of NULL is undefined even for no elements */
    if (!size)
        return;
    fwrite(data, 1, size, f);
    XXH3_64bits_update(w->state, data, size);
}

/* Syncs and closes the file, still under its temporary name. Without this, a crash after the rename
 * could leave an empty file under the final name. */
static int settle(shard_writer *w, int which, FILE *f, td_error *error)
{
    int bad = ferror(f) || fflush(f) || sync_file(fileno(f)), why = errno;

    w->sums[which] = XXH3_64bits_digest(w->state);
    /* close it either way, and report the first failure */
    if (fclose(f) && !bad) {
        bad = 1;
        why = errno;
    }
    return bad ? no_write(w, which, why, error) : 0;
}

static int put_in_place(shard_writer *w, int which, td_error *error)
{
    char to[4200];
    snprintf(to, sizeof to, "%s%s", w->path, shard_ends[which]);
    if (rename(w->temporary[which], to))
        return td_fail(error, TD_EIO, "cannot write token shard '%s': %s", to, strerror(errno));
    *w->temporary[which] = 0;
    return 0;
}

/* The names themselves are on the disk only when their directory is. */
static void settle_names(const shard_writer *w)
{
    char  directory[4096];
    char *slash;
    int   fd;
    snprintf(directory, sizeof directory, "%s", w->path);
    slash = strrchr(directory, '/');
    if (slash)
        slash[slash == directory] = 0;
    fd = open(slash ? directory : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    /* a failure costs at most the shard, which is then made again */
    fsync(fd);
    close(fd);
}

void shard_remove_left(const char *path)
{
    const char    *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t         length = strlen(name);
    char           directory[4096], left[4400];
    DIR           *d;
    struct dirent *e;
    snprintf(directory, sizeof directory, "%.*s", slash ? (int)(slash - path) : 1,
             slash ? path : ".");
    d = opendir(directory);
    while (d && (e = readdir(d)) != NULL) {
        size_t n = strlen(e->d_name);
        if (n < length + 5 || strncmp(e->d_name, name, length) || e->d_name[length] != '.' ||
            /* NAME.RANDOM.tmp of this shard only: others may be in the making */
            strcmp(e->d_name + n - 4, ".tmp"))
            continue;
        snprintf(left, sizeof left, "%s/%s", directory, e->d_name);
        unlink(left);
    }
    if (d)
        closedir(d);
}

int shard_create(shard_writer *w, const char *path, bool narrow, td_error *error)
{
    *w = (shard_writer){ .width = narrow ? 2 : 4 };
    if (strlen(path) >= sizeof w->path)
        return td_fail(error, TD_EIO, "the path of token shard '%s' is too long", path);
    strcpy(w->path, path);
    w->state = XXH3_createState();
    if (!w->state)
        return td_fail(error, TD_ENOMEM, "out of memory while writing token shard '%s'", path);
    w->bin = create(w, SHARD_BIN, error);
    return w->bin ? 0 : TD_EIO;
}

static int no_index(const shard_writer *w, td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory for the index of %lld documents",
                   (long long)w->documents);
}

/* Each pointer is stored as soon as its array has moved, so that neither is lost if the second
 * reallocation fails. */
static int grow(shard_writer *w, td_error *error)
{
    int64_t  room = w->room * 2 + 1024;
    int32_t *sizes = realloc(w->sizes, (size_t)room * sizeof *sizes);
    if (sizes)
        w->sizes = sizes;
    int64_t *bytes = realloc(w->bytes, (size_t)room * sizeof *bytes);
    if (bytes)
        w->bytes = bytes;
    if (!sizes || !bytes)
        return no_index(w, error);
    w->room = room;
    return 0;
}

int shard_add_piece(shard_writer *w, const int32_t *ids, int64_t count, int64_t bytes,
                    td_error *error)
{
    if (count > INT32_MAX || bytes > INT32_MAX)
        return td_fail(error, TD_EFORMAT,
                       "a document of %lld tokens and %lld bytes is too long for a shard",
                       (long long)count, (long long)bytes);
    if (w->pieces == w->room && grow(w, error))
        return TD_ENOMEM;
    for (int64_t i = 0; i < count; i++) {
        if (w->width == 2 && (ids[i] < 0 || ids[i] > UINT16_MAX))
            return td_fail(error, TD_EFORMAT,
                           "the tokenizer produced id %d, outside its vocabulary", (int)ids[i]);
        uint16_t narrow = (uint16_t)ids[i];
        put(w, w->bin, w->width == 2 ? (const void *)&narrow : &ids[i], (size_t)w->width);
    }
    /* hashes the count too, because the boundaries of pieces are part of the content */
    w->hash = td_hash(td_hash(w->hash, &count, sizeof count), ids, (size_t)count * sizeof *ids);
    w->sizes[w->pieces] = (int32_t)count;
    w->bytes[w->pieces++] = bytes;
    return ferror(w->bin) ? no_write(w, SHARD_BIN, errno, error) : 0;
}

int shard_end_document(shard_writer *w, td_error *error)
{
    if (w->documents == w->room_documents) {
        int64_t  room = w->room_documents * 2 + 1024;
        int64_t *ends = realloc(w->ends, (size_t)room * sizeof *ends);
        if (!ends)
            return no_index(w, error);
        w->ends = ends;
        w->room_documents = room;
    }
    w->ends[w->documents++] = w->pieces;
    /* hashes which pieces belong together; for a document of one piece the piece's count
     * suffices */
    int64_t first = w->documents > 1 ? w->ends[w->documents - 2] : 0, count = w->pieces - first;
    if (count > 1)
        w->hash = td_hash(w->hash, &count, sizeof count);
    return 0;
}

int shard_add(shard_writer *w, const int32_t *ids, int64_t count, int64_t bytes, td_error *error)
{
    int code = shard_add_piece(w, ids, count, bytes, error);
    return code ? code : shard_end_document(w, error);
}

/* The layout is in shard.h. */
static void write_index(shard_writer *w, FILE *f)
{
    int64_t       n = w->pieces, at = 0, boundaries = w->documents + 1, version = 1;
    unsigned char code = w->width == 2 ? 8 : 4;
    put(w, f, shard_magic, sizeof shard_magic);
    put(w, f, &version, 8);
    put(w, f, &code, 1);
    put(w, f, &n, 8);
    put(w, f, &boundaries, 8);
    put(w, f, w->sizes, 4 * (size_t)n);
    for (int64_t i = 0; i < n; at += (int64_t)w->sizes[i++] * w->width)
        put(w, f, &at, 8);
    at = 0;
    put(w, f, &at, 8);
    put(w, f, w->ends, 8 * (size_t)w->documents);
}

static void write_lengths(shard_writer *w, FILE *f)
{
    uint64_t sum;
    put(w, f, w->bytes, 8 * (size_t)w->pieces);
    put(w, f, &w->hash, 8);
    put(w, f, &w->skipped, 8);
    put(w, f, &w->sums[SHARD_BIN], 8);
    put(w, f, &w->sums[SHARD_IDX], 8);
    /* of everything until here, itself left out */
    sum = XXH3_64bits_digest(w->state);
    put(w, f, &sum, 8);
}

static int write_small(shard_writer *w, int which, td_error *error)
{
    FILE *f = create(w, which, error);
    if (!f)
        return TD_EIO;
    if (which == SHARD_IDX)
        write_index(w, f);
    else
        write_lengths(w, f);
    return settle(w, which, f, error);
}

/* All three are on the disk before the first is renamed, and the index is renamed last. The lengths
 * are written last, because they contain the hashes of the others. */
int shard_finish(shard_writer *w, td_error *error)
{
    FILE *f = w->bin;
    w->bin = NULL;
    int code = settle(w, SHARD_BIN, f, error);
    if (!code)
        code = write_small(w, SHARD_IDX, error);
    if (!code)
        code = write_small(w, SHARD_LEN, error);
    for (int k = 0; k < SHARD_FILES && !code; k++)
        code = put_in_place(w, k, error);
    if (!code)
        settle_names(w);
    shard_abandon(w);
    return code;
}

void shard_abandon(shard_writer *w)
{
    if (w->bin)
        fclose(w->bin);
    for (size_t k = 0; k < SHARD_FILES; k++)
        if (*w->temporary[k])
            unlink(w->temporary[k]);
    XXH3_freeState(w->state);
    free(w->sizes);
    free(w->bytes);
    free(w->ends);
    *w = (shard_writer){ 0 };
}
