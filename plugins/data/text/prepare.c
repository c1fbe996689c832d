/* prepare.c - documents to token shards, once: encoded in parallel, written in the order of the
 * text, so that a shard does not depend on the number of threads. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/cache.h"
#include "common/reader.h"
#include "common/shard.h"
#include "text.h"

/* Documents that are encoded together: enough to occupy every thread, few enough to bound memory
 * when documents are long. */
enum { BLOCK = 256 };
#define BLOCK_BYTES ((size_t)8 << 20)

/* ---- documents ------------------------------------------------------------------------------- */

int text_each(const text_config *c, const data_source *s, int part, const td_services *services,
              int64_t *bad, int (*document)(void *arg, const char *text, size_t size), void *arg,
              td_error *error)
{
    glob_t  files;
    int64_t number = 0;
    int     code = source_files(s, part, services, &files, error);

    /* documents are numbered through all files: held_out_every counts across their borders */
    for (size_t i = 0; i < files.gl_pathc && !code; i++) {
        const char *text;
        size_t      size;
        reader     *r = reader_open(files.gl_pathv[i], c->text, bad, services, error);
        code = r ? 0 : TD_EIO;
        while (!code && (code = reader_next(r, &text, &size, error)) == 0)
            if (source_has(s, part, number++))
                code = document(arg, text, size);
        code = code == TD_EEND ? 0 : code;
        reader_close(r);
    }
    globfree(&files);
    return code;
}

/* ---- names ----------------------------------------------------------------------------------- */

enum { LAYOUT = 3 }; /* of a shard's files; a new number makes all shards anew */

/* The name of a shard contains a hash of everything that its content depends on: the tokenizer, the
 * key, the split, and the name, size and time of each file. A shard that exists is therefore right,
 * and one that no longer fits is never found. */
static int shard_name(const text_config *c, const data_source *s, int part, const td_data_in *in,
                      char *path, td_error *error)
{
    glob_t      files;
    struct stat st;
    const char *id = in->tokenizer_id ? in->tokenizer_id : "";
    int64_t     numbers[] = { LAYOUT, part, s->held_out.count ? 0 : s->held_out_every,
                              in->special.vocab_size, in->special.eos };
    uint64_t    h = td_hash(td_hash(td_random_stream(id), c->text, strlen(c->text) + 1), numbers,
                            sizeof numbers);
    int         code = source_files(s, part, in->services, &files, error);

    for (size_t i = 0; i < files.gl_pathc && !code; i++) {
        if (stat(files.gl_pathv[i], &st))
            code = td_fail(error, TD_EIO, "cannot read '%s': %s", files.gl_pathv[i],
                           strerror(errno));
        /* size and time stand for the content, which would take as long to hash as to prepare */
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

/* ---- tokenizing ------------------------------------------------------------------------------ */

/* A document on its way. Errors are kept per document, as workers cannot share one. */
typedef struct job {
    char    *text;
    size_t   size;
    int32_t *ids;
    int64_t  count; /* of ids, or a negative code */
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
    double            reported; /* when progress was last reported */
    td_error         *error;
} preparation;

enum { PATIENCE = 2, REPEAT = 10 }; /* seconds before the first report, and between reports */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void report(preparation *p)
{
    if (now() < p->reported + REPEAT)
        return;
    p->reported = now();
    p->in->services->log(p->in->services, TD_LOG_INFO,
                         "preparing '%s': %lld documents, %lld tokens so far", p->name,
                         (long long)p->writer.documents, (long long)p->tokens);
}

/* Runs in any thread. [worker] */
static void encode_job(void *arg, int64_t i, int thread)
{
    preparation      *p = arg;
    job              *j = &p->jobs[i];
    const td_data_in *in = p->in;
    int64_t           room = (int64_t)j->size + 2;

    /* Few tokenizers make more ids than bytes, so the first try nearly always fits. If not, it
     * returns how many there are. Either way one place is left for eos. */
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

/* Encode the documents of the block, then write them in order. After a failure the rest is only
 * freed. */
static int flush(preparation *p)
{
    int code = 0;
    td_parallel(p->in->services, p->count, encode_job, p);
    for (int64_t i = 0; i < p->count; i++) {
        job *j = &p->jobs[i];
        /* the first failure in the order of the text, whichever thread met one first */
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
    report(p);
    return code;
}

/* The reader's text lasts until its next document, a job until its block is flushed: copy it. + 1:
 * malloc of 0 bytes may return NULL. */
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

/* All documents of the part into the writer's files. */
static int write_shard(preparation *p, const text_config *c, const data_source *s, int part,
                       const char *path)
{
    /* ids of two bytes if they fit: half the file, half the reading */
    int     code = shard_create(&p->writer, path, p->in->special.vocab_size <= 65536, p->error);
    int64_t bad = c->max_bad_lines;
    if (!code)
        code = text_each(c, s, part, p->in->services, &bad, add_document, p, p->error);
    p->writer.skipped = c->max_bad_lines - bad;
    int last = flush(p); /* after a failure, too: it frees the block */
    code = code ? code : last;
    if (!code)
        code = shard_finish(&p->writer, p->error);
    shard_abandon(&p->writer); /* does nothing if it was finished */
    return code;
}

/* Make the shard at `path`, and report it. */
static int make(const text_config *c, const data_source *s, int part, const td_data_in *in,
                const char *path, td_error *error)
{
    preparation *p = calloc(1, sizeof *p);
    if (!p)
        return td_fail(error, TD_ENOMEM, "no memory to prepare '%s'", s->name);
    p->in = in;
    p->name = s->name;
    p->error = error;
    p->reported = now() + PATIENCE - REPEAT;
    in->services->log(in->services, TD_LOG_INFO, "preparing %s of '%s' in '%s'",
                      part == PART_TRAIN ? "the training text" : "the held-out text", s->name,
                      in->cache);
    int code = write_shard(p, c, s, part, path);
    if (!code)
        in->services->log(in->services, p->tokens ? TD_LOG_INFO : TD_LOG_WARN,
                          "prepared '%s': %lld tokens%s", s->name, (long long)p->tokens,
                          p->tokens ? "" : ": its files contain no text");
    free(p);
    return code;
}

/* An existing shard may have been made when more bad lines were allowed: the limit is not part of
 * its name, as it changes no content that was accepted. */
static int check_skipped(const text_config *c, const data_source *s, const td_services *services,
                         const char *path, td_error *error)
{
    bool    empty;
    int64_t skipped = shard_skipped(path, &empty, error);
    if (skipped < 0)
        return (int)skipped;
    if (empty)
        services->log(services, TD_LOG_WARN, "'%s' has 0 tokens: its files contain no text",
                      s->name);
    return skipped <= c->max_bad_lines
               ? 0
               : td_fail(error, TD_EFORMAT,
                         "data source '%s': %lld bad lines were skipped when its token shard was "
                         "prepared, but data.max_bad_lines = %lld: fix them (remove '%s.idx' and "
                         "run this again to list them), or raise the limit",
                         s->name, (long long)skipped, (long long)c->max_bad_lines, path);
}

int text_prepare(const text_config *c, const data_source *s, int part, const td_data_in *in,
                 char *path, td_error *error)
{
    char index[4200], locked[4200];
    /* the commonest case first, without a lock: the shard exists */
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
        unlink(locked); /* left by a process that was killed after its last rename */
        return check_skipped(c, s, in->services, path, error);
    }
    code = cache_directory(in->cache, error);
    int lock = code ? -1 : cache_lock(locked, s->name, in->services, error);
    if (lock < 0)
        return TD_EIO;
    /* look again: whoever held the lock may have made it */
    code = stat(index, &st) ? make(c, s, part, in, path, error)
                            : check_skipped(c, s, in->services, path, error);
    cache_unlock(locked, lock);
    return code;
}
