/* reader.c - lines from plain, gzip and zstd files, and the documents in them. */
#include "reader.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#ifndef LINE_LIMIT /* a test takes less */
#define LINE_LIMIT ((size_t)1 << 30)
#endif
#define CHUNK ((size_t)1 << 17)
enum { WHY = 300 };

struct reader {
    const char        *path, *key;
    const td_services *services;
    int64_t           *bad, line;
    bool               whole; /* a .txt file is one document */
    gzFile             gz;    /* also reads what is not compressed */
    FILE              *file;  /* zstd */
    ZSTD_DStream      *zstd;
    ZSTD_inBuffer      input;
    size_t             pending;         /* zstd: not 0 in the midst of a frame */
    char              *packed, *buffer; /* compressed and plain bytes */
    size_t             begin, end, room;
    bool               ended;
    json_t            *object;
};

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

static int open_streams(reader *r, td_error *error)
{
    if (!ends_with(r->path, ".zst")) {
        r->gz = gzopen(r->path, "rb");
    } else {
        r->file = fopen(r->path, "rb");
        r->zstd = ZSTD_createDStream();
        r->packed = malloc(CHUNK);
        if (r->file && (!r->zstd || !r->packed))
            return td_fail(error, TD_ENOMEM, "no memory to read '%s'", r->path);
    }
    return r->gz || r->file ? 0
                            : td_fail(error, TD_EIO, "cannot open '%s' for reading: %s", r->path,
                                      strerror(errno));
}

reader *reader_open(const char *path, const char *key, int64_t *bad, const td_services *services,
                    td_error *error)
{
    reader *r = calloc(1, sizeof *r);
    if (!r) {
        td_fail(error, TD_ENOMEM, "no memory to read '%s'", path);
        return NULL;
    }
    *r = (reader){ .path = path, .key = key, .bad = bad, .services = services };
    r->whole = ends_with(path, ".txt") || ends_with(path, ".txt.gz") || ends_with(path, ".txt.zst");
    if (open_streams(r, error) == 0)
        return r;
    reader_close(r);
    return NULL;
}

void reader_close(reader *r)
{
    if (!r)
        return;
    json_decref(r->object);
    if (r->gz)
        gzclose(r->gz);
    if (r->file)
        fclose(r->file);
    ZSTD_freeDStream(r->zstd);
    free(r->packed);
    free(r->buffer);
    free(r);
}

static int64_t read_gz(reader *r, char *out, td_error *error)
{
    int         code, n = gzread(r->gz, out, (unsigned)CHUNK);
    const char *why = gzerror(r->gz, &code);
    if (n < 0 || (n == 0 && code != Z_OK && code != Z_STREAM_END))
        return td_fail(error, TD_EFORMAT, "%s: cannot be read as gzip: %s", r->path,
                       code == Z_ERRNO ? strerror(errno) : why);
    return n;
}

static int64_t read_zstd(reader *r, char *out, td_error *error)
{
    ZSTD_outBuffer o = { out, CHUNK, 0 };
    while (o.pos == 0) {
        if (r->input.pos == r->input.size) {
            r->input = (ZSTD_inBuffer){ r->packed, fread(r->packed, 1, CHUNK, r->file), 0 };
            if (ferror(r->file))
                return td_fail(error, TD_EIO, "cannot read '%s': %s", r->path, strerror(errno));
            if (!r->input.size && r->pending)
                return td_fail(error, TD_EFORMAT,
                               "%s: ends in the midst of a zstd frame: it is truncated", r->path);
            if (!r->input.size)
                return 0;
        }
        r->pending = ZSTD_decompressStream(r->zstd, &o, &r->input);
        if (ZSTD_isError(r->pending))
            return td_fail(error, TD_EFORMAT, "%s: cannot be read as zstd: %s", r->path,
                           ZSTD_getErrorName(r->pending));
    }
    return (int64_t)o.pos;
}

/* More plain bytes behind those that are there. */
static int fill(reader *r, td_error *error)
{
    if (r->begin) {
        memmove(r->buffer, r->buffer + r->begin, r->end - r->begin);
        r->end -= r->begin, r->begin = 0;
    }
    if (r->end > LINE_LIMIT)
        return td_fail(error, TD_EFORMAT,
                       "%s:%lld: this %s is longer than %zu bytes, the most that a document may "
                       "have: divide it into several %s",
                       r->path, (long long)r->line + 1, r->whole ? "file" : "line", LINE_LIMIT,
                       r->whole ? "files" : "lines");
    if (r->room - r->end < CHUNK) {
        size_t room = r->room * 2 + CHUNK;
        char  *grown = realloc(r->buffer, room);
        if (!grown)
            return td_fail(error, TD_ENOMEM, "%s:%lld: no memory for a line", r->path,
                           (long long)r->line + 1);
        r->buffer = grown, r->room = room;
    }
    int64_t n = r->gz ? read_gz(r, r->buffer + r->end, error)
                      : read_zstd(r, r->buffer + r->end, error);
    if (n < 0)
        return (int)n;
    r->ended = n == 0;
    r->end += (size_t)n;
    return 0;
}

static int next_line(reader *r, const char **line, size_t *size, td_error *error)
{
    size_t seen = 0;
    for (;;) {
        size_t      have = r->end - r->begin;
        const char *stop = have > seen && !r->whole
                               ? memchr(r->buffer + r->begin + seen, '\n', have - seen)
                               : NULL;
        if (stop || r->ended) {
            if (!have)
                return TD_EEND;
            *line = r->buffer + r->begin;
            *size = stop ? (size_t)(stop - *line) : have;
            r->begin += *size + (stop != NULL);
            r->line++;
            return 0;
        }
        seen = have;
        int code = fill(r, error);
        if (code)
            return code;
    }
}

/* False: the line is bad, and `why` says why. */
static bool parse(reader *r, const char *line, size_t size, const char **text, size_t *length,
                  char why[WHY])
{
    json_error_t problem;
    json_decref(r->object);
    r->object = json_loadb(line, size, JSON_ALLOW_NUL, &problem);
    const json_t *value = json_object_get(r->object, r->key);
    *text = json_string_value(value);
    *length = json_string_length(value);
    if (!r->object)
        snprintf(why, WHY, "it is no valid JSON: %s, at column %d", problem.text, problem.column);
    else if (!*text)
        snprintf(why, WHY, "%s",
                 !json_is_object(r->object) ? "it is no object { }"
                 : value                    ? "that is no string"
                                            : "it has no such text");
    return *text != NULL;
}

static int skip_bad(reader *r, const char *why, td_error *error)
{
    if (*r->bad <= 0)
        return td_fail(
            error, TD_EFORMAT,
            "%s:%lld: cannot take '%s' from this line: %s; mend it, or let some be skipped "
            "with data.max_bad_lines",
            r->path, (long long)r->line, r->key, why);
    --*r->bad;
    r->services->log(r->services, TD_LOG_WARN, "%s:%lld: skipped: %s", r->path, (long long)r->line,
                     why);
    return 0;
}

static bool blank(const char *line, size_t size)
{
    while (size && strchr(" \t\r", line[size - 1]))
        size--;
    return size == 0;
}

int reader_next(reader *r, const char **text, size_t *size, td_error *error)
{
    for (;;) {
        const char *line;
        char        why[WHY];
        size_t      length;
        int         code = next_line(r, &line, &length, error);
        if (code)
            return code;
        if (r->whole) {
            *text = line, *size = length;
            return 0;
        }
        if (blank(line, length))
            continue;
        bool fine = parse(r, line, length, text, size, why);
        if (fine && *size)
            return 0;
        if (!fine && (code = skip_bad(r, why, error)) != 0)
            return code;
    }
}
