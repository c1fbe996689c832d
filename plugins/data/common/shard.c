/* shard.c - Megatron-LM's indexed token files: opening checks everything once, so that fetching
 * need not. */
#include "shard.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "regular.h"
#include "tandem/random.h"

enum { HEADER = 34 };                     /* bytes in front of the sizes */
#define MOST_SKIPPED ((int64_t)1 << 40)   /* more than the option max_bad_lines allows */
static const char magic[9] = "MMIDIDX\0"; /* 9 bytes with the literal's own 0 */

/* The index's i64 arrays are not aligned: 34 bytes precede them. */
static int64_t load64(const unsigned char *p)
{
    int64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static int32_t load32(const unsigned char *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Map the file `path` + `end`. An empty file leaves `data` NULL. */
static int map(const char *path, const char *end, const unsigned char **data, size_t *size,
               td_error *error)
{
    char        name[4200];
    const char *why;
    struct stat st;
    snprintf(name, sizeof name, "%s%s", path, end);
    int f = open_regular(name, &st, &why);
    if (f < 0)
        return td_fail(error, TD_EIO,
                       "cannot open token shard '%s': %s; remove its .idx, .bin and .len and "
                       "prepare again",
                       name, why);
    /* the mapping outlives the descriptor */
    *size = (size_t)st.st_size;
    void *p = *size ? mmap(NULL, *size, PROT_READ, MAP_SHARED, f, 0) : NULL;
    close(f);
    if (p == MAP_FAILED)
        return td_fail(error, TD_EIO, "cannot map token shard '%s': %s", name, strerror(errno));
    *data = p;
    return 0;
}

/* Documents lie without gaps: each begins where the one before ends, the last where the ids end,
 * and boundary i is i. Sums are checked for overflow, as every number may be damaged. Adds up
 * tokens and bytes. */
static int check_documents(shard *s)
{
    for (int64_t i = 0; i < s->documents; i++) {
        int32_t size = load32(s->idx + HEADER + 4 * i);
        int64_t at = load64(s->idx + HEADER + 4 * s->documents + 8 * i);
        int64_t boundary = load64(s->idx + HEADER + 12 * s->documents + 8 * i);
        int64_t bytes = load64(s->len + 8 * i);
        if (size <= 0 || at != s->tokens * s->width || boundary != i || bytes < 0 ||
            bytes > INT32_MAX || __builtin_add_overflow(s->bytes, bytes, &s->bytes))
            return -1;
        s->tokens += size;
    }
    /* one boundary more than documents: the end */
    if (load64(s->idx + HEADER + 20 * s->documents) != s->documents)
        return -1;
    return (uint64_t)s->tokens * (unsigned)s->width == s->bin_size ? 0 : -1;
}

static int64_t skipped(const shard *s) { return load64(s->len + 8 * s->documents + 8); }

/* The header, and that index and lengths have the sizes that its number of documents asks for, so
 * that all later reads are inside. */
static int check_sizes(shard *s)
{
    if (s->idx_size < HEADER || memcmp(s->idx, magic, 9) || load64(s->idx + 9) != 1)
        return -1;
    s->width = s->idx[17] == 8 ? 2 : s->idx[17] == 4 ? 4 : 0;
    s->documents = load64(s->idx + 18);
    /* n is bounded first: the sums below cannot wrap */
    uint64_t n = (uint64_t)s->documents;
    if (!s->width || n > s->idx_size / 20 || (uint64_t)load64(s->idx + 26) != n + 1 ||
        s->idx_size != HEADER + 20 * n + 8 || s->len_size != 8 * n + 16)
        return -1;
    return skipped(s) >= 0 && skipped(s) <= MOST_SKIPPED ? 0 : -1;
}

static int damaged(const char *path, td_error *error)
{
    return td_fail(
        error, TD_EFORMAT,
        "token shard '%s.idx' is damaged or does not match its .bin and .len; remove all "
        "three and prepare again",
        path);
}

/* One pass as fast as the file can be read: the compiler vectorizes both loops. A negative id
 * counts as a large one. */
static uint32_t largest_id(const shard *s)
{
    const uint16_t *narrow = (const void *)s->bin;
    const uint32_t *wide = (const void *)s->bin;
    uint32_t        most = 0;
    if (s->width == 2)
        for (int64_t i = 0; i < s->tokens; i++)
            most = narrow[i] > most ? narrow[i] : most;
    else
        for (int64_t i = 0; i < s->tokens; i++)
            most = wide[i] > most ? wide[i] : most;
    return most;
}

static int check_ids(const shard *s, const char *path, int64_t vocab_size, td_error *error)
{
    uint32_t most = s->tokens ? largest_id(s) : 0;
    if (!s->tokens || most < vocab_size)
        return 0;
    return td_fail(error, TD_EFORMAT,
                   "token shard '%s.bin' is damaged: it has id %lld, but the tokenizer's ids are "
                   "below %lld; remove it with its .idx and .len and prepare again",
                   path, (long long)(int32_t)most, (long long)vocab_size);
}

int shard_open(shard *s, const char *path, int64_t vocab_size, td_error *error)
{
    *s = (shard){ 0 };
    /* sizes before documents before ids: each check relies on the one before */
    int code = map(path, ".idx", &s->idx, &s->idx_size, error);
    if (!code)
        code = map(path, ".bin", &s->bin, &s->bin_size, error);
    if (!code)
        code = map(path, ".len", &s->len, &s->len_size, error);
    if (!code && (check_sizes(s) || check_documents(s)))
        code = damaged(path, error);
    if (!code)
        code = check_ids(s, path, vocab_size, error);
    if (code)
        shard_close(s);
    return code;
}

void shard_close(shard *s)
{
    if (s->bin)
        munmap((void *)s->bin, s->bin_size);
    if (s->idx)
        munmap((void *)s->idx, s->idx_size);
    if (s->len)
        munmap((void *)s->len, s->len_size);
    *s = (shard){ 0 };
}

void shard_tokens(const shard *s, int64_t begin, int64_t count, int32_t *out)
{
    if (s->width == 4) {
        memcpy(out, s->bin + 4 * begin, (size_t)count * 4);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        uint16_t id;
        memcpy(&id, s->bin + 2 * (begin + i), sizeof id);
        out[i] = id;
    }
}

int64_t shard_document(const shard *s, int64_t i)
{
    return i < s->documents ? load64(s->idx + HEADER + 4 * s->documents + 8 * i) / s->width
                            : s->tokens;
}

int64_t shard_bytes(const shard *s, int64_t i) { return load64(s->len + 8 * i); }

uint64_t shard_hash(const shard *s) { return (uint64_t)load64(s->len + 8 * s->documents); }

int64_t shard_skipped(const char *path, bool *empty, td_error *error)
{
    shard   s = { 0 };
    int64_t n = map(path, ".len", &s.len, &s.len_size, error);
    if (!n)
        n = map(path, ".idx", &s.idx, &s.idx_size, error);
    if (!n)
        n = check_sizes(&s) ? damaged(path, error) : skipped(&s);
    *empty = n >= 0 && !s.documents;
    shard_close(&s);
    return n;
}

/* No document is empty, so the last that begins at `token` or before contains it. */
int64_t shard_find(const shard *s, int64_t token)
{
    int64_t low = 0, high = s->documents;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (shard_document(s, middle) <= token)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* ---- writing --------------------------------------------------------------------------------- */

static const char *const ends[] = { ".bin", ".len", ".idx" }; /* in the order of shard_finish */

/* Open a file of the shard under its temporary name. */
static FILE *create(const shard_writer *w, const char *end, td_error *error)
{
    char name[4200];
    snprintf(name, sizeof name, "%s%s.tmp", w->path, end);
    FILE *f = fopen(name, "wb");
    if (!f)
        td_fail(error, TD_EIO, "cannot write token shard '%s': %s", name, strerror(errno));
    return f;
}

/* Close the file once its bytes are on the disk, still under the temporary name. Before a rename:
 * or else a crash could leave the final name on an empty file. */
static int settle(const shard_writer *w, const char *end, FILE *f, td_error *error)
{
    int bad = ferror(f) || fflush(f) || fsync(fileno(f)), why = errno;

    /* close it either way, and report the first failure */
    if (fclose(f) && !bad) {
        bad = 1;
        why = errno;
    }
    return bad ? td_fail(
                     error, TD_EIO,
                     "cannot write token shard '%s%s': %s; free some space, then run this again",
                     w->path, end, strerror(why))
               : 0;
}

static int put_in_place(const shard_writer *w, const char *end, td_error *error)
{
    char from[4200], to[4200];
    snprintf(from, sizeof from, "%s%s.tmp", w->path, end);
    snprintf(to, sizeof to, "%s%s", w->path, end);
    return rename(from, to)
               ? td_fail(error, TD_EIO, "cannot write token shard '%s': %s", to, strerror(errno))
               : 0;
}

static void forget(const shard_writer *w, const char *end)
{
    char name[4200];
    snprintf(name, sizeof name, "%s%s.tmp", w->path, end);
    unlink(name);
}

int shard_create(shard_writer *w, const char *path, bool narrow, td_error *error)
{
    *w = (shard_writer){ .width = narrow ? 2 : 4 };
    if (strlen(path) >= sizeof w->path)
        return td_fail(error, TD_EIO, "the path of token shard '%s' is too long", path);
    strcpy(w->path, path);
    w->bin = create(w, ".bin", error);
    return w->bin ? 0 : TD_EIO;
}

/* Each array is stored as soon as it has moved, so that a failure of the second loses neither. */
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
        return td_fail(error, TD_ENOMEM, "no memory for the index of %lld documents",
                       (long long)room);
    w->room = room;
    return 0;
}

int shard_add(shard_writer *w, const int32_t *ids, int64_t count, int64_t bytes, td_error *error)
{
    if (count > INT32_MAX || bytes > INT32_MAX)
        return td_fail(error, TD_EFORMAT,
                       "a document of %lld tokens and %lld bytes is too long for a shard",
                       (long long)count, (long long)bytes);
    if (w->documents == w->room && grow(w, error))
        return TD_ENOMEM;
    for (int64_t i = 0; i < count; i++) {
        if (w->width == 2 && (ids[i] < 0 || ids[i] > UINT16_MAX))
            return td_fail(error, TD_EFORMAT,
                           "the tokenizer produced id %d, outside its vocabulary", (int)ids[i]);
        uint16_t narrow = (uint16_t)ids[i];
        fwrite(w->width == 2 ? (const void *)&narrow : &ids[i], (size_t)w->width, 1, w->bin);
    }
    /* the count too: where documents end is part of the content */
    w->hash = td_hash(td_hash(w->hash, &count, sizeof count), ids, (size_t)count * sizeof *ids);
    w->sizes[w->documents] = (int32_t)count;
    w->bytes[w->documents++] = bytes;
    return ferror(w->bin)
               ? td_fail(error, TD_EIO,
                         "cannot write token shard '%s.bin': %s; free some space, then run this "
                         "again",
                         w->path, strerror(errno))
               : 0;
}

/* The layout is in shard.h. A failed fwrite is found by settle's ferror. */
static void write_index(const shard_writer *w, FILE *f)
{
    int64_t       n = w->documents, at = 0, boundaries = n + 1, version = 1;
    unsigned char code = w->width == 2 ? 8 : 4;
    fwrite(magic, 1, 9, f);
    fwrite(&version, 8, 1, f);
    fwrite(&code, 1, 1, f);
    fwrite(&n, 8, 1, f);
    fwrite(&boundaries, 8, 1, f);
    /* fwrite of NULL is undefined even for no elements */
    if (n)
        fwrite(w->sizes, 4, (size_t)n, f);
    for (int64_t i = 0; i < n; at += (int64_t)w->sizes[i++] * w->width)
        fwrite(&at, 8, 1, f);
    for (int64_t i = 0; i <= n; i++)
        fwrite(&i, 8, 1, f);
}

static void write_lengths(const shard_writer *w, FILE *f)
{
    if (w->documents)
        fwrite(w->bytes, 8, (size_t)w->documents, f);
    fwrite(&w->hash, 8, 1, f);
    fwrite(&w->skipped, 8, 1, f);
}

static int write_small(shard_writer *w, const char *end, td_error *error)
{
    FILE *f = create(w, end, error);
    if (!f)
        return TD_EIO;
    if (!strcmp(end, ".idx"))
        write_index(w, f);
    else
        write_lengths(w, f);
    return settle(w, end, f, error);
}

/* All three are on the disk before the first gets its name, and the index gets its own last. */
int shard_finish(shard_writer *w, td_error *error)
{
    FILE *f = w->bin;
    w->bin = NULL;
    int code = settle(w, ".bin", f, error);
    if (!code)
        code = write_small(w, ".len", error);
    if (!code)
        code = write_small(w, ".idx", error);
    for (size_t k = 0; k < 3 && !code; k++)
        code = put_in_place(w, ends[k], error);
    shard_abandon(w);
    return code;
}

void shard_abandon(shard_writer *w)
{
    if (w->bin)
        fclose(w->bin);
    for (size_t k = 0; k < 3 && *w->path; k++)
        forget(w, ends[k]);
    free(w->sizes);
    free(w->bytes);
    *w = (shard_writer){ 0 };
}
