/* prepare.c - documents to token shards, once: in parallel over documents, written in the order of
 * the text. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/reader.h"
#include "common/shard.h"
#include "text.h"

enum { BLOCK = 256 };
#define BLOCK_BYTES ((size_t)8 << 20)

/* ---- documents ------------------------------------------------------------------------------- */

static bool wanted(const text_source *s, int part, int64_t document)
{
    if (s->held_out.count || !s->held_out_every)
        return part == PART_TRAIN || s->held_out.count;
    return (document % s->held_out_every == s->held_out_every - 1) == (part == PART_HELD_OUT);
}

int text_each(const text_config *c, const text_source *s, int part, const td_services *services,
              int64_t *bad, int (*document)(void *arg, const char *text, size_t size), void *arg,
              td_error *error)
{
    glob_t  files;
    int64_t number = 0;
    int     code = text_files(s, part, services, &files, error);

    for (size_t i = 0; i < files.gl_pathc && !code; i++) {
        const char *text;
        size_t      size;
        reader     *r = reader_open(files.gl_pathv[i], c->text, bad, services, error);
        code = r ? 0 : TD_EIO;
        while (!code && (code = reader_next(r, &text, &size, error)) == 0)
            if (wanted(s, part, number++))
                code = document(arg, text, size);
        code = code == TD_EEND ? 0 : code;
        reader_close(r);
    }
    globfree(&files);
    return code;
}

/* ---- the name of a shard tells all that its content depends on ------------------------------- */

enum { LAYOUT = 3 }; /* of a shard's three files; those of another are made anew */

static int shard_name(const text_config *c, const text_source *s, int part, const td_data_in *in,
                      char *path, td_error *error)
{
    glob_t      files;
    struct stat st;
    const char *id = in->tokenizer_id ? in->tokenizer_id : "";
    int64_t     numbers[] = { LAYOUT, part, s->held_out.count ? 0 : s->held_out_every,
                              in->special.vocab_size, in->special.eos };
    uint64_t    h = td_hash(td_hash(td_random_stream(id), c->text, strlen(c->text) + 1), numbers,
                            sizeof numbers);
    int         code = text_files(s, part, in->services, &files, error);

    for (size_t i = 0; i < files.gl_pathc && !code; i++) {
        if (stat(files.gl_pathv[i], &st))
            code = td_fail(error, TD_EIO, "cannot read '%s': %s", files.gl_pathv[i],
                           strerror(errno));
        int64_t facts[] = { st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec };
        h = td_hash(td_hash(h, files.gl_pathv[i], strlen(files.gl_pathv[i]) + 1), facts,
                    sizeof facts);
    }
    globfree(&files);
    if (!code && snprintf(path, 4096, "%s/%s.%s.%016llx", in->cache, s->name,
                          part == PART_TRAIN ? "train" : "held_out", (unsigned long long)h) >= 4096)
        code = td_fail(error, TD_ECONFIG, "the cache path '%.200s..' is too long", in->cache);
    return code;
}

static int make_directories(const char *path, td_error *error)
{
    char part[4096];
    if ((size_t)snprintf(part, sizeof part, "%s", path) >= sizeof part)
        return td_fail(error, TD_EIO, "the cache path '%.200s..' is too long", path);
    for (char *p = part + 1;; p++) {
        char end = *p;
        if (end && end != '/')
            continue;
        *p = 0;
        if (mkdir(part, 0777) && errno != EEXIST)
            return td_fail(error, TD_EIO, "cannot make the cache directory '%s': %s", part,
                           strerror(errno));
        *p = end;
        if (!end)
            return 0;
    }
}

/* ---- tokenizing ------------------------------------------------------------------------------ */

typedef struct job {
    char    *text;
    size_t   size;
    int32_t *ids;
    int64_t  count;
    td_error error;
} job;

typedef struct preparation {
    const td_data_in *in;
    shard_writer      writer;
    job               jobs[BLOCK];
    int64_t           count;
    size_t            bytes;
    int64_t           tokens;
    const char       *name;
    double            told; /* when progress was last told */
    td_error         *error;
} preparation;

enum { PATIENCE = 2, REPEAT = 10 }; /* seconds until progress is told, and between two tellings */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void tell(preparation *p)
{
    if (now() < p->told + REPEAT)
        return;
    p->told = now();
    p->in->services->log(p->in->services, TD_LOG_INFO,
                         "preparing '%s': %lld documents, %lld tokens so far", p->name,
                         (long long)p->writer.documents, (long long)p->tokens);
}

static void encode_job(void *arg, int64_t i, int thread)
{
    preparation      *p = arg;
    job              *j = &p->jobs[i];
    const td_data_in *in = p->in;
    int64_t           room = (int64_t)j->size + 2;

    for (int attempt = 0; attempt < 2; attempt++, room = j->count + 1) {
        free(j->ids);
        j->ids = malloc((size_t)room * sizeof *j->ids);
        j->count = j->ids
                       ? in->tokenizer->encode(in->tokenizer_state, j->text, j->size, j->ids,
                                               room - 1, &j->error)
                       : td_fail(&j->error, TD_ENOMEM, "no memory to tokenize %zu bytes", j->size);
        if (j->count < room)
            break;
    }
    if (j->count >= 0 && j->ids && in->special.eos >= 0)
        j->ids[j->count++] = in->special.eos;
}

static int flush(preparation *p)
{
    int code = 0;
    td_parallel(p->in->services, p->count, encode_job, p);
    for (int64_t i = 0; i < p->count; i++) {
        job *j = &p->jobs[i];
        if (!code && j->count < 0)
            code = td_fail(p->error, (int)j->count, "%s", j->error.text);
        if (!code && j->count > 0)
            code = shard_add(&p->writer, j->ids, j->count, (int64_t)j->size, p->error);
        p->tokens += j->count > 0 ? j->count : 0;
        free(j->text);
        free(j->ids);
        *j = (job){ 0 };
    }
    p->count = 0;
    p->bytes = 0;
    tell(p);
    return code;
}

static int add_document(void *arg, const char *text, size_t size)
{
    preparation *p = arg;
    char        *copy = malloc(size + 1);
    if (!copy)
        return td_fail(p->error, TD_ENOMEM, "no memory for a document of %zu bytes", size);
    memcpy(copy, text, size);
    p->jobs[p->count++] = (job){ .text = copy, .size = size };
    p->bytes += size;
    return p->count == BLOCK || p->bytes >= BLOCK_BYTES ? flush(p) : 0;
}

static int make(const text_config *c, const text_source *s, int part, const td_data_in *in,
                const char *path, td_error *error)
{
    preparation *p = calloc(1, sizeof *p);
    if (!p)
        return td_fail(error, TD_ENOMEM, "no memory to prepare '%s'", s->name);
    p->in = in;
    p->name = s->name;
    p->error = error;
    p->told = now() + PATIENCE - REPEAT;
    in->services->log(in->services, TD_LOG_INFO, "preparing %s of '%s' in '%s'",
                      part == PART_TRAIN ? "the training text" : "the held-out text", s->name,
                      in->cache);
    int     code = shard_create(&p->writer, path, in->special.vocab_size <= 65536, error);
    int64_t bad = c->max_bad_lines;
    if (!code)
        code = text_each(c, s, part, in->services, &bad, add_document, p, error);
    p->writer.skipped = c->max_bad_lines - bad;
    int last = flush(p); /* also frees what is left after a failure */
    code = code ? code : last;
    if (!code)
        code = shard_finish(&p->writer, error);
    shard_abandon(&p->writer); /* nothing, if it was finished */
    if (!code)
        in->services->log(in->services, p->tokens ? TD_LOG_INFO : TD_LOG_WARN,
                          "prepared '%s': %lld tokens%s", s->name, (long long)p->tokens,
                          p->tokens ? "" : ": its files have no text");
    free(p);
    return code;
}

/* Locked, or -1 with errno. */
static int take(const char *name, const text_source *s, const td_services *services)
{
    int fd = open(name, O_CREAT | O_RDWR | O_CLOEXEC, 0666);
    if (fd < 0 || !flock(fd, LOCK_EX | LOCK_NB))
        return fd;
    if (errno == EWOULDBLOCK)
        services->log(services, TD_LOG_INFO, "another process prepares '%s': waiting for it",
                      s->name);
    while (errno == EWOULDBLOCK || errno == EINTR)
        if (!flock(fd, LOCK_EX))
            return fd;
    close(fd);
    return -1;
}

/* One process makes a shard, others wait for it and find it made. The lock of one that is killed
 * falls with it. Its file is removed by who holds it, so what was waited for may be no longer the
 * one that others see: then again. */
static int lock(const char *name, const text_source *s, const td_data_in *in, td_error *error)
{
    struct stat mine, seen;
    for (;;) {
        int fd = take(name, s, in->services);
        if (fd < 0) {
            td_fail(error, TD_EIO,
                    "cannot lock '%s', which keeps two processes from making one shard: %s", name,
                    strerror(errno));
            return -1;
        }
        if (!fstat(fd, &mine) && !stat(name, &seen) && mine.st_ino == seen.st_ino &&
            mine.st_dev == seen.st_dev)
            return fd;
        close(fd);
    }
}

/* One that is there already may have been made when more bad lines were allowed. */
static int check_skipped(const text_config *c, const text_source *s, const td_services *services,
                         const char *path, td_error *error)
{
    bool    empty;
    int64_t skipped = shard_skipped(path, &empty, error);
    if (skipped < 0)
        return (int)skipped;
    if (empty)
        services->log(services, TD_LOG_WARN, "'%s' has 0 tokens: its files have no text", s->name);
    return skipped <= c->max_bad_lines
               ? 0
               : td_fail(error, TD_EFORMAT,
                         "data source '%s': %lld bad lines were skipped when its token shard was "
                         "prepared, and data.max_bad_lines = %lld: mend them (remove "
                         "'%s.idx' to have them named), or allow as many",
                         s->name, (long long)skipped, (long long)c->max_bad_lines, path);
}

int text_prepare(const text_config *c, const text_source *s, int part, const td_data_in *in,
                 char *path, td_error *error)
{
    char index[4200], locked[4200];
    if (!in->cache || !*in->cache)
        return td_fail(error, TD_ECONFIG,
                       "data 'text' needs a cache directory for its token shards");
    int code = shard_name(c, s, part, in, path, error);
    if (code)
        return code;
    snprintf(index, sizeof index, "%s.idx", path);
    snprintf(locked, sizeof locked, "%s.lock", path);
    struct stat st;
    if (!stat(index, &st)) {
        unlink(locked); /* one that was killed when it had just finished */
        return check_skipped(c, s, in->services, path, error);
    }
    code = make_directories(in->cache, error);
    int fd = code ? -1 : lock(locked, s, in, error);
    if (fd < 0)
        return TD_EIO;
    code = stat(index, &st) ? make(c, s, part, in, path, error)
                            : check_skipped(c, s, in->services, path, error);
    unlink(locked);
    close(fd);
    return code;
}
