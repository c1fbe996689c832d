/* prepare.c - makes token shards: names that depend on the content, one process at a time, parallel
 * encoding. */
#include "prepare.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cache.h"
#include "content.h"
#include "megatron.h"
#include "shard.h"
#include "tandem/files.h"
#include "tandem/random.h"

/* Documents that are encoded together: enough to occupy every thread, few enough to bound memory
 * when documents are long. */
enum { BLOCK = 256 };
#define BLOCK_BYTES ((size_t)8 << 20)

/* ---- names ----------------------------------------------------------------------------------- */

enum { LAYOUT = 4 }; /* version of the shard format; a new number makes all shards again */

/* Where the hashes of a part's files are kept: by their names, since the hashes are in question. */
static int memory_name(const preparation *p, const glob_t *files, char *path, size_t size)
{
    uint64_t h = td_random_stream("files");
    for (size_t i = 0; i < files->gl_pathc; i++)
        h = td_hash(h, files->gl_pathv[i], strlen(files->gl_pathv[i]) + 1);
    return snprintf(path, size, "%s/%s.%s.%016llx.files", p->in->cache, p->source->name,
                    p->part == PART_TRAIN ? "train" : "held_out", (unsigned long long)h) < (int)size
               ? 0
               : -1;
}

/* The index of a file of tokens says where its documents are, so it counts as content. */
static int add_index(glob_t *files, const char *path, td_error *error)
{
    char *index = megatron_index(path);
    int   code = 0;
    if (!index)
        return td_fail(error, TD_ENOMEM, "out of memory for the index of '%s'", path);
    if (access(index, R_OK))
        code = td_fail(error, TD_ECONFIG,
                       "cannot read '%s', which says where the documents of '%s' begin: %s", index,
                       path, strerror(errno));
    else if (td_glob(index, GLOB_APPEND | GLOB_NOCHECK, files))
        code = td_fail(error, TD_ENOMEM, "out of memory for the name '%s'", index);
    free(index);
    return code;
}

static int add_indices(glob_t *files, td_error *error)
{
    size_t n = files->gl_pathc;
    int    code = 0;
    for (size_t i = 0; i < n && !code; i++)
        if (megatron_is(files->gl_pathv[i]))
            code = add_index(files, files->gl_pathv[i], error);
    return code;
}

/* The name of a shard contains a hash of everything that its content depends on: the tokenizer, the
 * options, the split, and the content of each file. A shard that exists is therefore valid,
 * and one that no longer fits is never found. */
static int shard_name(const preparation *p, char *path, td_error *error)
{
    glob_t             files;
    char               memory[4096];
    const data_source *s = p->source;
    const td_data_in  *in = p->in;
    const char        *id = in->tokenizer_id ? in->tokenizer_id : "";
    int64_t            numbers[] = { LAYOUT, p->part, s->held_out.count ? 0 : s->held_out_every,
                                     in->special.vocab_size, in->special.eos };
    uint64_t content, h = td_hash(td_hash(td_random_stream(id), p->content, p->content_size),
                                  numbers, sizeof numbers);
    int      code = source_files(s, p->part, in->services, &files, error);

    if (!code)
        code = add_indices(&files, error);
    if (!code && memory_name(p, &files, memory, sizeof memory))
        code = td_fail(error, TD_ECONFIG, "the cache path '%.200s..' is too long", in->cache);
    if (!code)
        code = content_hash(&files, memory, s->name, in->services, &content, error);
    globfree(&files);
    if (code)
        return code;
    h = td_hash(h, &content, sizeof content);
    /* shorter than the name of the memory, so it fits */
    snprintf(path, 4096, "%s/%s.%s.%016llx", in->cache, s->name,
             p->part == PART_TRAIN ? "train" : "held_out", (unsigned long long)h);
    return 0;
}

/* A shard is named by the contents of its files before they were read: these must equal the
 * contents read. */
static int check_files(const preparation *p, const char *path, td_error *error)
{
    char now[4096];
    int  code = shard_name(p, now, error);
    if (code || !strcmp(now, path))
        return code;
    return td_fail(error, TD_EIO,
                   "the files of data source '%s' changed while they were read: run this again "
                   "when nothing writes to them",
                   p->source->name);
}

/* ---- tokenizing ------------------------------------------------------------------------------ */

/* A piece being encoded. */
typedef struct part {
    size_t  size; /* position and size of its text, in bytes */
    bool    end, encoded;
    int64_t count; /* of ids */
    int64_t bytes; /* of the text that they stand for */
} part;

/* A document being encoded; the texts and ids of its pieces are adjacent. Errors are kept per
 * document, as workers cannot share one. */
typedef struct job {
    char    *text;
    part    *parts;
    size_t   n_parts;
    int32_t *ids;
    int64_t  count, room; /* of ids */
    int      code;
    td_error error;
} job;

typedef struct work {
    const preparation *of;
    shard_writer       writer;
    job                jobs[BLOCK];
    int64_t            count;
    size_t             bytes;
    int64_t            tokens;
    double             reported; /* when progress was last reported */
    td_error          *error;
} work;

enum { PATIENCE = 2, REPEAT = 10 }; /* seconds before the first report, and between reports */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void report(work *w)
{
    const td_services *services = w->of->in->services;
    if (now() < w->reported + REPEAT)
        return;
    w->reported = now();
    services->log(services, TD_LOG_INFO, "preparing '%s': %lld documents, %lld tokens so far",
                  w->of->source->name, (long long)w->writer.documents, (long long)w->tokens);
}

static int reserve(job *j, int64_t more, size_t text)
{
    int64_t room = j->count + more;
    if (room <= j->room)
        return 0;
    int32_t *ids = realloc(j->ids, (size_t)room * sizeof *ids);
    if (!ids)
        return td_fail(&j->error, TD_ENOMEM, "out of memory while tokenizing %zu bytes", text);
    j->ids = ids;
    j->room = room;
    return 0;
}

static int encode_part(const td_data_in *in, job *j, part *p, const char *text)
{
    int64_t room = (int64_t)p->size + 1;
    /* Few tokenizers make more ids than bytes, so the first try nearly always fits; if not, it
     * returns the number of ids needed. Either way one id is reserved for eos. */
    for (int attempt = 0; attempt < 2; attempt++, room = p->count) {
        if (reserve(j, room + 1, p->size))
            return TD_ENOMEM;
        p->count = in->tokenizer->encode(in->tokenizer_state, text, p->size, j->ids + j->count,
                                         room, &j->error);
        if (p->count <= room)
            break;
    }
    if (p->count < 0)
        return (int)p->count;
    if (p->end && in->special.eos >= 0)
        j->ids[j->count + p->count++] = in->special.eos;
    p->bytes = (int64_t)p->size;
    j->count += p->count;
    return 0;
}

/* Ids as they are, with the end of text if they lack it. How much text they stand for is known from
 * decoding them: bits per byte would otherwise be unknown. */
static int copy_part(const preparation *of, job *j, part *p, const char *ids)
{
    const td_data_in *in = of->in;
    int64_t           n = (int64_t)(p->size / sizeof(int32_t));
    int32_t          *to;
    if (reserve(j, n + 1, p->size))
        return TD_ENOMEM;
    to = j->ids + j->count;
    memcpy(to, ids, p->size);
    /* they come from a file, and a model's embeddings would be read beyond their end */
    for (int64_t k = 0; k < n; k++)
        if (to[k] < 0 || to[k] >= in->special.vocab_size)
            return td_fail(
                &j->error, TD_EFORMAT,
                "data source '%s': a document has token %d, and the ids of the tokenizer "
                "are 0 to %lld: use the tokenizer that its files were made with",
                of->source->name, to[k], (long long)in->special.vocab_size - 1);
    p->bytes = in->tokenizer->decode(in->tokenizer_state, to, n, NULL, 0, &j->error);
    if (p->bytes < 0)
        return (int)p->bytes;
    if (p->end && in->special.eos >= 0 && to[n - 1] != in->special.eos)
        to[n++] = in->special.eos;
    p->count = n;
    j->count += n;
    return 0;
}

/* Runs in any thread. [worker] */
static void encode_job(void *arg, int64_t i, int thread)
{
    work       *w = arg;
    job        *j = &w->jobs[i];
    const char *text = j->text;
    for (size_t k = 0; k < j->n_parts && !j->code; text += j->parts[k++].size)
        j->code = j->parts[k].encoded ? copy_part(w->of, j, &j->parts[k], text)
                                      : encode_part(w->of->in, j, &j->parts[k], text);
}

/* A piece without tokens, such as a space with some tokenizers, cannot be stored in a shard. A
 * document of one piece is dropped; in a document of several, the roles of the others would shift,
 * so it is an error. */
static int write_job(work *w, const job *j)
{
    const int32_t *ids = j->ids;
    int            code = 0;
    for (size_t k = 0; k < j->n_parts && !code; ids += j->parts[k++].count) {
        const part *p = &j->parts[k];
        if (p->count > 0)
            code = shard_add_piece(&w->writer, ids, p->count, p->bytes, w->error);
        else if (j->n_parts > 1)
            code = td_fail(w->error, TD_EFORMAT,
                           "data source '%s': piece %zu of document %lld, of %zu bytes, has no "
                           "tokens: it needs some text that the tokenizer keeps",
                           w->of->source->name, k + 1, (long long)w->writer.documents + 1, p->size);
    }
    if (!code && j->count > 0)
        code = shard_end_document(&w->writer, w->error);
    return code;
}

/* Encode the documents of the block, then write them in order. After a failure the rest is only
 * freed. */
static int flush(work *w)
{
    int code = 0;
    td_parallel(w->of->in->services, w->count, encode_job, w);
    for (int64_t i = 0; i < w->count; i++) {
        job *j = &w->jobs[i];
        /* the first failure in the order of the text, whichever thread failed first */
        if (!code && j->code)
            code = td_fail(w->error, j->code, "%s", j->error.text);
        if (!code)
            code = write_job(w, j);
        w->tokens += j->code ? 0 : j->count;
        free(j->text);
        free(j->parts);
        free(j->ids);
        *j = (job){ 0 };
    }
    w->count = 0;
    w->bytes = 0;
    report(w);
    return code;
}

/* The text is copied, because it is valid only until the next document, and a job lives until its
 * block is flushed. */
static int add_document(void *arg, const piece *pieces, size_t count)
{
    work  *w = arg;
    job   *j = &w->jobs[w->count];
    size_t size = 0, at = 0;
    for (size_t k = 0; k < count; k++)
        size += pieces[k].size;
    /* + 1: malloc of 0 bytes may return NULL */
    j->text = malloc(size + 1);
    j->parts = calloc(count + 1, sizeof *j->parts);
    w->count++; /* counted now, so that flush frees it even after a failure */
    if (!j->text || !j->parts)
        return td_fail(w->error, TD_ENOMEM, "out of memory for a document of %zu bytes", size);
    for (size_t k = 0; k < count; at += pieces[k++].size) {
        if (pieces[k].size)
            memcpy(j->text + at, pieces[k].text, pieces[k].size);
        j->parts[k] = (part){ .size = pieces[k].size,
                              .end = pieces[k].end,
                              .encoded = pieces[k].encoded };
    }
    j->n_parts = count;
    w->bytes += size;
    return w->count == BLOCK || w->bytes >= BLOCK_BYTES ? flush(w) : 0;
}

/* Writes all documents of the part to the writer's files. */
static int write_shard(work *w, const char *path)
{
    const preparation *p = w->of;
    /* two-byte ids if they fit: half the file size and half the reading */
    int     code = shard_create(&w->writer, path, p->in->special.vocab_size <= 65536, w->error);
    int64_t bad = p->max_bad_lines;
    if (!code)
        code = p->each(p->config, p->source, p->part, p->in->services, &bad, add_document, w,
                       w->error);
    w->writer.skipped = p->max_bad_lines - bad;
    int last = flush(w); /* even after a failure, to free the block */
    code = code ? code : last;
    if (!code)
        code = check_files(p, path, w->error);
    if (!code)
        code = shard_finish(&w->writer, w->error);
    shard_abandon(&w->writer); /* does nothing after shard_finish */
    return code;
}

static const char *why_empty(const preparation *p)
{
    /* a .txt file is one document, whatever its length */
    if (p->part == PART_HELD_OUT && p->source->held_out_every)
        return ": held_out_every holds out whole documents, and its files have fewer than that (a "
               ".txt file is one document): name files with held_out, or split the text into "
               "documents (.jsonl)";
    return ": its files contain no text";
}

/* A source to train on that has nothing in any file is a wrong path or a failed download. One whose
 * every document is held out has text all the same. */
static int refuse_empty(const preparation *p, td_error *error)
{
    const td_strings *files = &p->source->files;
    if (p->part != PART_TRAIN || p->source->held_out_every == 1)
        return 0;
    return td_fail(
        error, TD_ECONFIG,
        "data source '%s' has no text: there is none in '%s'%s; leave the source out, or "
        "correct its 'files'",
        p->source->name, files->count ? files->at[0] : "",
        files->count > 1 ? " and its other files" : "");
}

/* Makes the shard at `path`, and reports it. */
static int make(const preparation *p, const char *path, td_error *error)
{
    const td_services *services = p->in->services;
    const char        *name = p->source->name;
    work              *w = calloc(1, sizeof *w);
    if (!w)
        return td_fail(error, TD_ENOMEM, "out of memory while preparing '%s'", name);
    w->of = p;
    w->error = error;
    /* short work is not reported at all */
    w->reported = now() + PATIENCE - REPEAT;
    services->log(services, TD_LOG_INFO, "preparing %s of '%s' in '%s'",
                  p->part == PART_TRAIN ? "the training text" : "the held-out text", name,
                  p->in->cache);
    if (p->in->special.eos < 0)
        services
            ->log(services, TD_LOG_WARN,
                  "the tokenizer has no end-of-text token: nothing marks where the documents of "
                  "'%s' end",
                  name);
    int code = write_shard(w, path);
    if (!code)
        services->log(services, w->tokens ? TD_LOG_INFO : TD_LOG_WARN,
                      "prepared '%s': %lld tokens%s", name, (long long)w->tokens,
                      w->tokens ? "" : why_empty(p));
    if (!code && !w->tokens)
        code = refuse_empty(p, error);
    free(w);
    return code;
}

/* An existing shard may have been made when more bad lines were allowed: the limit is not part of
 * its name, because it does not change the accepted content. */
static int check_skipped(const preparation *p, const char *path, td_error *error)
{
    const td_services *services = p->in->services;
    bool               empty;
    int64_t            skipped = shard_skipped(path, &empty, error);
    if (skipped < 0)
        return (int)skipped;
    if (empty)
        services->log(services, TD_LOG_WARN, "'%s' has 0 tokens%s", p->source->name, why_empty(p));
    if (empty && refuse_empty(p, error))
        return TD_ECONFIG;
    return skipped <= p->max_bad_lines
               ? 0
               : td_fail(error, TD_EFORMAT,
                         "data source '%s': %lld bad lines were skipped when its token shard was "
                         "prepared, but data.max_bad_lines = %lld: fix them (remove '%s.idx' and "
                         "run this again to list them), or raise the limit",
                         p->source->name, (long long)skipped, (long long)p->max_bad_lines, path);
}

int prepare_shard(const preparation *p, char path[4096], td_error *error)
{
    char        index[4200], locked[4200];
    struct stat st;
    if (!p->in->cache || !*p->in->cache)
        return td_fail(error, TD_ECONFIG, "data '%s' needs a cache directory for its token shards",
                       p->plugin);
    int code = shard_name(p, path, error);
    if (code)
        return code;
    snprintf(index, sizeof index, "%s.idx", path);
    snprintf(locked, sizeof locked, "%s.lock", path);
    /* the commonest case first, without a lock: the shard exists */
    if (!stat(index, &st)) {
        unlink(locked); /* left by a process that was killed after its last rename */
        return check_skipped(p, path, error);
    }
    bool held = false;
    code = cache_directory(p->in->cache, error);
    int lock = code ? -1 : cache_lock(locked, p->source->name, p->in->services, &held, error);
    if (lock < 0)
        return TD_EIO;
    if (held)
        shard_remove_left(path);
    /* check again: another process may have made it while holding the lock */
    code = stat(index, &st) ? make(p, path, error) : check_skipped(p, path, error);
    cache_unlock(locked, lock);
    return code;
}
