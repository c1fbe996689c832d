/* shard.c - Megatron-LM's indexed token files: opening checks everything once, so that fetching
 * needs no checks. */
#include "shard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "regular.h"
#include "shard_format.h"

enum { HEADER = 34, TAIL = 40 };        /* bytes before the sizes, and after the lengths */
#define BLOCK ((size_t)1 << 20)         /* bytes of .bin that are checked at once */
#define MOST_SKIPPED ((int64_t)1 << 40) /* more than the option max_bad_lines accepts */

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

/* Open one of the files, and remember its present identity. */
static int open_file(shard *s, int which, const char *path, td_error *error)
{
    char        name[4200];
    const char *why;
    struct stat st;
    shard_file *f = &s->file[which];
    snprintf(name, sizeof name, "%s%s", path, shard_ends[which]);
    errno = 0;
    f->fd = open_regular(name, &st, &why);
    if (f->fd < 0)
        return td_fail(error, TD_EIO, "cannot open token shard '%s': %s%s", name, why,
                       errno == EMFILE || errno == ENFILE
                           ? "; raise the limit on open files (ulimit -n)"
                           : "; remove its .idx, .bin and .len and prepare again");
    f->size = (size_t)st.st_size;
    f->modified = st.st_mtim;
    return 0;
}

/* Map one that is open. An empty file leaves `data` NULL. */
static int map(const shard *s, int which, const char *path, const unsigned char **data,
               size_t *size, td_error *error)
{
    const shard_file *f = &s->file[which];
    void             *p = f->size ? mmap(NULL, f->size, PROT_READ, MAP_SHARED, f->fd, 0) : NULL;
    if (p == MAP_FAILED)
        return td_fail(error, TD_EIO, "cannot map token shard '%s%s': %s", path, shard_ends[which],
                       strerror(errno));
    *data = p;
    *size = f->size;
    return 0;
}

/* The index and the lengths, which can be checked without the tokens. */
static int open_small(shard *s, const char *path, td_error *error)
{
    *s = (shard){ .file = { { .fd = -1 }, { .fd = -1 }, { .fd = -1 } }, .path = strdup(path) };
    int code = s->path ? 0 : td_fail(error, TD_ENOMEM, "out of memory while opening '%s'", path);
    if (!code)
        code = open_file(s, SHARD_IDX, path, error);
    if (!code)
        code = open_file(s, SHARD_LEN, path, error);
    if (!code)
        code = map(s, SHARD_IDX, path, &s->idx, &s->idx_size, error);
    return code ? code : map(s, SHARD_LEN, path, &s->len, &s->len_size, error);
}

/* Where the arrays after the header lie. */
static int32_t size_at(const shard *s, int64_t piece)
{
    return load32(s->idx + HEADER + 4 * piece);
}

static int64_t offset_at(const shard *s, int64_t piece)
{
    return load64(s->idx + HEADER + 4 * s->pieces + 8 * piece);
}

static int64_t boundary_at(const shard *s, int64_t document)
{
    return load64(s->idx + HEADER + 12 * s->pieces + 8 * document);
}

/* Pieces have no gaps: each begins where the previous one ends, and the last ends with the ids.
 * Sums are checked for overflow, as every number may be damaged. Adds up tokens and bytes. */
static int check_pieces(shard *s)
{
    for (int64_t i = 0; i < s->pieces; i++) {
        int32_t size = size_at(s, i);
        int64_t bytes = load64(s->len + 8 * i);
        if (size <= 0 || offset_at(s, i) != s->tokens * s->width || bytes < 0 ||
            bytes > INT32_MAX || __builtin_add_overflow(s->bytes, bytes, &s->bytes))
            return -1;
        s->tokens += size;
    }
    return (uint64_t)s->tokens * (unsigned)s->width == s->bin_size ? 0 : -1;
}

/* Every document has at least one piece, and the last document ends with the last piece. */
static int check_documents(const shard *s)
{
    if (boundary_at(s, 0) != 0 || boundary_at(s, s->documents) != s->pieces)
        return -1;
    for (int64_t i = 0; i < s->documents; i++)
        if (boundary_at(s, i + 1) <= boundary_at(s, i))
            return -1;
    return 0;
}

static int64_t skipped(const shard *s) { return load64(s->len + 8 * s->pieces + 8); }

/* The file's hash when it was written. */
static uint64_t sum_of(const shard *s, int which)
{
    static const int place[SHARD_FILES] = { [SHARD_BIN] = 16, [SHARD_IDX] = 24, [SHARD_LEN] = 32 };
    return (uint64_t)load64(s->len + 8 * s->pieces + place[which]);
}

/* A flipped bit can leave an index or a length that is still possible. */
static int check_sums(const shard *s)
{
    return XXH3_64bits(s->idx, s->idx_size) == sum_of(s, SHARD_IDX) &&
                   XXH3_64bits(s->len, s->len_size - 8) == sum_of(s, SHARD_LEN)
               ? 0
               : -1;
}

/* Check the header, and that the index and lengths are as long as its numbers of pieces and
 * documents require, so that all later reads are inside them. */
static int check_sizes(shard *s)
{
    if (s->idx_size < HEADER || memcmp(s->idx, shard_magic, sizeof shard_magic) ||
        load64(s->idx + 9) != 1)
        return -1;
    s->width = s->idx[17] == 8 ? 2 : s->idx[17] == 4 ? 4 : 0;
    /* both are bounded before use: as unsigned numbers a damaged one is large, and the sums below
     * cannot wrap */
    uint64_t n = (uint64_t)load64(s->idx + 18), d = (uint64_t)load64(s->idx + 26) - 1;
    if (!s->width || n > s->idx_size / 12 || d > n || s->idx_size != HEADER + 12 * n + 8 * d + 8 ||
        s->len_size != 8 * n + TAIL)
        return -1;
    s->pieces = (int64_t)n;
    s->documents = (int64_t)d;
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

/* All `size` bytes at `offset` of .bin. Read, not mapped: of a file that has become shorter this is
 * an error, where a map would end the process. */
static int read_bin(const shard *s, void *out, size_t size, int64_t offset, td_error *error)
{
    char *to = out;
    while (size) {
        ssize_t n = pread(s->file[SHARD_BIN].fd, to, size, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return td_fail(error, TD_EIO, "cannot read token shard '%s.bin': %s", s->path,
                           n ? strerror(errno) : "it has become shorter since it was opened");
        to += n;
        size -= (size_t)n;
        offset += n;
    }
    return 0;
}

/* The compiler vectorizes both loops. A negative id counts as a large one. */
static uint32_t largest_id(const void *block, size_t size, int width, uint32_t most)
{
    const uint16_t *narrow = block;
    const uint32_t *wide = block;
    if (width == 2)
        for (size_t i = 0; i < size / 2; i++)
            most = narrow[i] > most ? narrow[i] : most;
    else
        for (size_t i = 0; i < size / 4; i++)
            most = wide[i] > most ? wide[i] : most;
    return most;
}

/* One pass as fast as the file can be read, for both: the largest id and the hash. */
static int scan(const shard *s, XXH3_state_t *state, void *block, uint32_t *most, td_error *error)
{
    XXH3_64bits_reset(state);
    for (size_t at = 0; at < s->bin_size; at += BLOCK) {
        size_t n = s->bin_size - at < BLOCK ? s->bin_size - at : BLOCK;
        int    code = read_bin(s, block, n, (int64_t)at, error);
        if (code)
            return code;
        *most = largest_id(block, n, s->width, *most);
        XXH3_64bits_update(state, block, n);
    }
    return 0;
}

static int judge_ids(const shard *s, uint32_t most, uint64_t sum, int64_t vocab_size,
                     td_error *error)
{
    if (s->tokens && most >= vocab_size)
        return td_fail(error, TD_EFORMAT,
                       "token shard '%s.bin' is damaged: it has id %lld, but the tokenizer's ids "
                       "are below %lld; remove it with its .idx and .len and prepare again",
                       s->path, (long long)(int32_t)most, (long long)vocab_size);
    /* damage may leave ids that are valid */
    if (sum != sum_of(s, SHARD_BIN))
        return td_fail(error, TD_EFORMAT,
                       "token shard '%s.bin' is damaged: its tokens are not those that were "
                       "written; remove it with its .idx and .len and prepare again",
                       s->path);
    return 0;
}

static int check_ids(const shard *s, int64_t vocab_size, td_error *error)
{
    XXH3_state_t *state = XXH3_createState();
    void         *block = malloc(BLOCK);
    uint32_t      most = 0;
    int           code = state && block
                             ? scan(s, state, block, &most, error)
                             : td_fail(error, TD_ENOMEM, "out of memory while checking '%s.bin'", s->path);
    if (!code)
        code = judge_ids(s, most, XXH3_64bits_digest(state), vocab_size, error);
    XXH3_freeState(state);
    free(block);
    return code;
}

int shard_open(shard *s, const char *path, int64_t vocab_size, td_error *error)
{
    /* sizes before pieces before ids: each check relies on the one before */
    int code = open_small(s, path, error);
    if (!code)
        code = open_file(s, SHARD_BIN, path, error);
    s->bin_size = s->file[SHARD_BIN].size;
    if (!code && (check_sizes(s) || check_pieces(s) || check_documents(s) || check_sums(s)))
        code = damaged(path, error);
    if (!code)
        code = check_ids(s, vocab_size, error);
    if (code)
        shard_close(s);
    return code;
}

void shard_close(shard *s)
{
    if (s->idx)
        munmap((void *)s->idx, s->idx_size);
    if (s->len)
        munmap((void *)s->len, s->len_size);
    /* one that was never opened is all zeros: it has no path, and 0 is no file of its own */
    for (int k = 0; s->path && k < SHARD_FILES; k++)
        if (s->file[k].fd >= 0)
            close(s->file[k].fd);
    free(s->path);
    *s = (shard){ 0 };
}

int shard_unchanged(const shard *s, td_error *error)
{
    for (int k = 0; k < SHARD_FILES; k++) {
        const shard_file *f = &s->file[k];
        struct stat       st;
        /* the checks of shard_open hold only for what was there then */
        if (!fstat(f->fd, &st) && (size_t)st.st_size == f->size &&
            st.st_mtim.tv_sec == f->modified.tv_sec && st.st_mtim.tv_nsec == f->modified.tv_nsec)
            continue;
        return td_fail(error, TD_EIO,
                       "token shard '%s%s' was changed while it was read: do not write to it, "
                       "remove its .idx, .bin and .len, and prepare again",
                       s->path, shard_ends[k]);
    }
    return 0;
}

int shard_tokens(const shard *s, int64_t begin, int64_t count, int32_t *out, td_error *error)
{
    if (s->width == 4)
        return read_bin(s, out, (size_t)count * 4, 4 * begin, error);
    /* into the upper half of `out`, where no id is overwritten before it is widened */
    char *narrow = (char *)out + 2 * count;
    int   code = read_bin(s, narrow, (size_t)count * 2, 2 * begin, error);
    for (int64_t i = 0; i < count && !code; i++) {
        uint16_t id;
        memcpy(&id, narrow + 2 * i, sizeof id);
        out[i] = id;
    }
    return code;
}

int64_t shard_piece(const shard *s, int64_t i)
{
    return i < s->pieces ? offset_at(s, i) / s->width : s->tokens;
}

int64_t shard_first_piece(const shard *s, int64_t i) { return boundary_at(s, i); }

int64_t shard_document(const shard *s, int64_t i) { return shard_piece(s, boundary_at(s, i)); }

int64_t shard_piece_bytes(const shard *s, int64_t i) { return load64(s->len + 8 * i); }

int64_t shard_bytes(const shard *s, int64_t i)
{
    int64_t sum = 0;
    for (int64_t p = boundary_at(s, i); p < boundary_at(s, i + 1); p++)
        sum += shard_piece_bytes(s, p);
    return sum;
}

uint64_t shard_hash(const shard *s) { return (uint64_t)load64(s->len + 8 * s->pieces); }

int64_t shard_skipped(const char *path, bool *empty, td_error *error)
{
    shard   s;
    int64_t n = open_small(&s, path, error);
    if (!n)
        n = check_sizes(&s) || check_sums(&s) ? damaged(path, error) : skipped(&s);
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
