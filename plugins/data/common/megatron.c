/* megatron.c - reads Megatron-LM's indexed datasets. */
#include "megatron.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "regular.h"
#include "shard_format.h"

enum { HEADER = 34 };                /* bytes before the sizes */
#define MOST_TOKENS (INT32_MAX / 16) /* of a document, whose bytes fit into an int32 in a shard */

/* Its numbers for types of ids. */
enum { U8 = 1, I8, I16, I32, I64, F64, F32, U16, TYPES };
static const int widths[TYPES] = { [U8] = 1, [I8] = 1, [I16] = 2, [I32] = 4, [I64] = 8, [U16] = 2 };

struct megatron {
    const char    *path;
    int            bin, type, width;
    int64_t        bin_size;
    unsigned char *idx; /* [idx_size] */
    size_t         idx_size;
    uint64_t       pieces, documents, next; /* next: document */
    unsigned char *raw;                     /* the piece that is read */
    int32_t       *ids;                     /* [room] of the document */
    int64_t        count, room;
};

bool megatron_is(const char *path)
{
    size_t n = strlen(path);
    return n > 4 && !strcmp(path + n - 4, ".bin");
}

char *megatron_index(const char *path)
{
    char *name = strdup(path);
    if (name)
        memcpy(name + strlen(name) - 3, "idx", 3);
    return name;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* The index's arrays are not aligned: 34 bytes precede them. */
static int64_t load64(const unsigned char *p)
{
    int64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static int32_t size_at(const megatron *m, uint64_t piece)
{
    int32_t v;
    memcpy(&v, m->idx + HEADER + 4 * piece, sizeof v);
    return v;
}

static int64_t offset_at(const megatron *m, uint64_t piece)
{
    return load64(m->idx + HEADER + 4 * m->pieces + 8 * piece);
}

static int64_t boundary_at(const megatron *m, uint64_t document)
{
    return load64(m->idx + HEADER + 12 * m->pieces + 8 * document);
}

static int damaged(const megatron *m, const char *what, td_error *error)
{
    return td_fail(error, TD_EFORMAT,
                   "the index of '%s' %s: make both files again with the program that wrote them",
                   m->path, what);
}

/* All of the file; NULL with `why` if it cannot be read. */
static unsigned char *read_all(int fd, size_t size, const char **why)
{
    unsigned char *p = malloc(size);
    size_t         at = 0;
    ssize_t        n = 1;
    while (p && at < size && (n = pread(fd, p + at, size - at, (off_t)at)) > 0)
        at += (size_t)n;
    if (p && at == size)
        return p;
    *why = !p ? "out of memory" : n < 0 ? strerror(errno) : "it became shorter";
    free(p);
    return NULL;
}

/* Read the index, rather than map it: a file that became shorter meanwhile would end the process. An
 * empty one leaves it NULL. */
static int open_index(megatron *m, const char *name, td_error *error)
{
    struct stat    st;
    const char    *why = NULL;
    int            fd = open_regular(name, &st, &why);
    unsigned char *p = fd >= 0 && st.st_size > 0 ? read_all(fd, (size_t)st.st_size, &why) : NULL;
    if (fd >= 0)
        close(fd);
    if (why)
        return td_fail(error, TD_EIO, "cannot read '%s', the index of '%s': %s", name, m->path,
                       why);
    m->idx = p;
    m->idx_size = p ? (size_t)st.st_size : 0;
    return 0;
}

static int open_files(megatron *m, td_error *error)
{
    struct stat st;
    const char *why;
    char       *name = megatron_index(m->path);
    int         code = name ? open_index(m, name, error)
                            : td_fail(error, TD_ENOMEM, "out of memory while opening '%s'", m->path);
    free(name);
    if (code)
        return code;
    m->bin = open_regular(m->path, &st, &why);
    if (m->bin < 0)
        return td_fail(error, TD_EIO, "cannot open '%s': %s", m->path, why);
    m->bin_size = st.st_size;
    return 0;
}

/* The numbers are bounded by the file's size before they are multiplied. After the arrays, files of
 * several media have a byte for each piece. */
static int check_header(megatron *m, td_error *error)
{
    uint64_t room;
    if (m->idx_size >= 6 && !memcmp(m->idx, "TNTIDX", 6))
        return damaged(m, "has the layout of an older fairseq, which cannot be read", error);
    if (m->idx_size < HEADER || memcmp(m->idx, shard_magic, sizeof shard_magic))
        return damaged(m, "does not begin with MMIDIDX", error);
    if (load64(m->idx + 9) != 1)
        return damaged(m, "is not version 1", error);
    m->type = m->idx[17];
    m->width = m->type < TYPES ? widths[m->type] : 0;
    if (!m->width)
        return damaged(m,
                       m->type == F32 || m->type == F64 ? "says that its tokens are floats"
                                                        : "has an unknown type of tokens",
                       error);
    m->pieces = (uint64_t)load64(m->idx + 18);
    m->documents = (uint64_t)load64(m->idx + 26) - 1;
    /* each product stays below the file's size, so none can overflow */
    room = m->idx_size - HEADER;
    if (m->pieces > room / 12 || m->documents >= (room - 12 * m->pieces) / 8 ||
        (room - 12 * m->pieces - 8 * (m->documents + 1) &&
         room - 12 * m->pieces - 8 * (m->documents + 1) != m->pieces))
        return damaged(m, "has a length that does not follow from its numbers", error);
    return 0;
}

/* Documents are runs of pieces, all of them in order; every piece lies within NAME.bin. */
static int check_arrays(const megatron *m, td_error *error)
{
    for (uint64_t k = 0; k < m->pieces; k++)
        if (size_at(m, k) < 0 || offset_at(m, k) < 0 || offset_at(m, k) > m->bin_size ||
            (int64_t)size_at(m, k) * m->width > m->bin_size - offset_at(m, k))
            return damaged(m, "names tokens outside of it", error);
    for (uint64_t d = 0; d < m->documents; d++)
        if (boundary_at(m, d) < 0 || boundary_at(m, d) > boundary_at(m, d + 1))
            return damaged(m, "has documents out of order", error);
    return boundary_at(m, 0) != 0 || boundary_at(m, m->documents) != (int64_t)m->pieces
               ? damaged(m, "has pieces outside of its documents", error)
               : 0;
}

megatron *megatron_open(const char *path, td_error *error)
{
    megatron *m = calloc(1, sizeof *m);
    if (!m) {
        td_fail(error, TD_ENOMEM, "out of memory while reading '%s'", path);
        return NULL;
    }
    *m = (megatron){ .path = path, .bin = -1 };
    if (!open_files(m, error) && !check_header(m, error) && !check_arrays(m, error))
        return m;
    megatron_close(m);
    return NULL;
}

void megatron_close(megatron *m)
{
    if (!m)
        return;
    free(m->idx);
    if (m->bin >= 0)
        close(m->bin);
    free(m->raw);
    free(m->ids);
    free(m);
}

/* ---- documents ------------------------------------------------------------------------------- */

static int64_t id_at(const megatron *m, int64_t k)
{
    const unsigned char *p = m->raw + k * m->width;
    switch (m->type) {
    case U8:
        return *p;
    case I8:
        return (int8_t)*p;
    case I64:
        return load64(p);
    case I32: {
        int32_t v;
        memcpy(&v, p, sizeof v);
        return v;
    }
    default: {
        uint16_t v;
        memcpy(&v, p, sizeof v);
        return m->type == I16 ? (int16_t)v : v;
    }
    }
}

/* Read, not mapped: of a file that has become shorter this is an error. */
static int read_raw(megatron *m, int64_t offset, size_t size, td_error *error)
{
    unsigned char *raw = realloc(m->raw, size + 1);
    if (!raw)
        return td_fail(error, TD_ENOMEM, "out of memory for %zu bytes of '%s'", size, m->path);
    m->raw = raw;
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(m->bin, raw + done, size - done, offset + (int64_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return td_fail(error, TD_EIO, "cannot read '%s': %s", m->path,
                           n ? strerror(errno) : "it has become shorter since it was opened");
        done += (size_t)n;
    }
    return 0;
}

static int add_piece(megatron *m, uint64_t piece, td_error *error)
{
    int64_t n = size_at(m, piece), all = m->count + n;
    int     code;
    /* before memory is taken for them */
    if (all > MOST_TOKENS)
        return td_fail(error, TD_EFORMAT, "document %llu of '%s' has more than %d tokens: split it",
                       (unsigned long long)m->next, m->path, MOST_TOKENS);
    code = read_raw(m, offset_at(m, piece), (size_t)(n * m->width), error);
    if (code)
        return code;
    if (all > m->room) {
        int32_t *ids = realloc(m->ids, (size_t)(2 * all) * sizeof *ids);
        if (!ids)
            return td_fail(error, TD_ENOMEM, "out of memory for a document of '%s'", m->path);
        m->ids = ids;
        m->room = 2 * all;
    }
    for (int64_t k = 0; k < n; k++) {
        int64_t id = id_at(m, k);
        if (id < 0 || id > INT32_MAX)
            return td_fail(error, TD_EFORMAT, "document %llu of '%s' has the token %lld",
                           (unsigned long long)m->next, m->path, (long long)id);
        m->ids[m->count++] = (int32_t)id;
    }
    return 0;
}

int megatron_next(megatron *m, const int32_t **ids, int64_t *n, td_error *error)
{
    for (m->count = 0; !m->count; m->next++) {
        if (m->next == m->documents)
            return TD_EEND;
        for (int64_t p = boundary_at(m, m->next); p < boundary_at(m, m->next + 1); p++) {
            int code = add_piece(m, (uint64_t)p, error);
            if (code)
                return code;
        }
    }
    *ids = m->ids;
    *n = m->count;
    return 0;
}
