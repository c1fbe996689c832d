/* reader.c - lines of plain, gzip and zstd files, and the documents in them.
 *
 *     file -> read_chunk (decompress) -> fill (buffer) -> next_line -> parse or is_text -> document
 */
#include "reader.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "regular.h"
#include "utf8.h"

#ifndef LINE_LIMIT /* a test sets less */
#define LINE_LIMIT ((size_t)1 << 30)
#endif
#define CHUNK ((size_t)1 << 17)
enum { WHY = 300 };
enum { PLAIN, GZIP, ZSTD };

struct reader {
    const char        *path, *key;
    const td_services *services;
    int64_t           *bad, line;
    bool               whole; /* a .txt file is one document */
    int                packing;
    FILE              *file;
    z_stream           gzip;
    ZSTD_DStream      *zstd;
    ZSTD_inBuffer      input;  /* compressed bytes, in `packed` */
    bool               inside; /* a gzip member or zstd frame has yet to end, or to begin */
    char              *packed; /* compressed bytes [CHUNK] */
    char              *buffer; /* plain bytes: begin .. end are unread */
    size_t             begin, end, room;
    bool               ended; /* no more plain bytes will come */
    json_t            *object;
};

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

static FILE *open_file(const char *path, td_error *error)
{
    struct stat st;
    const char *why = NULL;
    int         fd = open_regular(path, &st, &why);
    FILE       *file = fd < 0 ? NULL : fdopen(fd, "rb");
    if (file)
        return file;
    td_fail(error, TD_EIO, "cannot open '%s' for reading: %s", path, why ? why : strerror(errno));
    if (fd >= 0)
        close(fd);
    return NULL;
}

static int open_streams(reader *r, td_error *error)
{
    r->file = open_file(r->path, error);
    if (!r->file)
        return TD_EIO;
    r->packing = ends_with(r->path, ".gz") ? GZIP : ends_with(r->path, ".zst") ? ZSTD : PLAIN;
    if (r->packing == PLAIN)
        return 0;
    /* an empty file is no gzip file: a first member must come */
    r->inside = true;
    r->packed = malloc(CHUNK);
    /* 15 + 16: the largest window, and gzip only, not zlib's own format */
    bool ready = r->packing == GZIP ? inflateInit2(&r->gzip, 15 + 16) == Z_OK
                                    : (r->zstd = ZSTD_createDStream()) != NULL;
    return r->packed && ready ? 0 : td_fail(error, TD_ENOMEM, "no memory to read '%s'", r->path);
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
    /* each of these accepts what open_streams did not come to: inflateEnd a zeroed stream, the
     * others NULL */
    json_decref(r->object);
    if (r->file)
        fclose(r->file);
    inflateEnd(&r->gzip);
    ZSTD_freeDStream(r->zstd);
    free(r->packed);
    free(r->buffer);
    free(r);
}

/* ---- compression ----------------------------------------------------------------------------- */

static int64_t read_file(reader *r, char *out, td_error *error)
{
    size_t n = fread(out, 1, CHUNK, r->file);
    return ferror(r->file)
               ? td_fail(error, TD_EIO, "cannot read '%s': %s", r->path, strerror(errno))
               : (int64_t)n;
}

/* How many compressed bytes are at r->input, after reading more if there were none; 0 at the end of
 * the file. `what` must have ended there: a truncated file is an error. */
static int64_t take_in(reader *r, const char *what, td_error *error)
{
    if (r->input.pos == r->input.size) {
        int64_t n = read_file(r, r->packed, error);
        if (n < 0)
            return n;
        r->input = (ZSTD_inBuffer){ r->packed, (size_t)n, 0 };
    }
    if (r->input.pos == r->input.size && r->inside)
        return td_fail(error, TD_EFORMAT,
                       "%s: ends in the middle of a %s: the file is truncated; get it again",
                       r->path, what);
    return (int64_t)(r->input.size - r->input.pos);
}

static int64_t refuse(const reader *r, const char *what, const char *why, td_error *error)
{
    return td_fail(error, TD_EFORMAT,
                   "%s: cannot be read as %s: %s, before byte %lld: the file is damaged, has the "
                   "wrong suffix, or has something appended",
                   r->path, what, why,
                   (long long)ftello(r->file) - (long long)(r->input.size - r->input.pos));
}

/* A gzip file is one member or several, as `cat a.gz b.gz` makes them, and nothing else. */
static int64_t read_gzip(reader *r, char *out, td_error *error)
{
    r->gzip.next_out = (Bytef *)out;
    r->gzip.avail_out = CHUNK;
    /* until there is output: 0 bytes would mean the end */
    while (r->gzip.avail_out == CHUNK) {
        int64_t have = take_in(r, "gzip member", error);
        if (have <= 0)
            return have;
        r->gzip.next_in = (Bytef *)r->packed + r->input.pos;
        r->gzip.avail_in = (uInt)have;
        int code = r->inside ? Z_OK : inflateReset(&r->gzip);
        if (code == Z_OK)
            code = inflate(&r->gzip, Z_NO_FLUSH);
        r->input.pos = r->input.size - r->gzip.avail_in;
        r->inside = code != Z_STREAM_END;
        if (code != Z_OK && code != Z_STREAM_END)
            return refuse(r, "gzip", r->gzip.msg ? r->gzip.msg : zError(code), error);
    }
    return (int64_t)(CHUNK - r->gzip.avail_out);
}

/* The same for zstd, which begins the next frame by itself. It leaves a byte of the input until all
 * output of a frame has been taken, so none is lost at the end of the file. */
static int64_t read_zstd(reader *r, char *out, td_error *error)
{
    ZSTD_outBuffer o = { out, CHUNK, 0 };
    while (o.pos == 0) {
        int64_t have = take_in(r, "zstd frame", error);
        if (have <= 0)
            return have;
        size_t more = ZSTD_decompressStream(r->zstd, &o, &r->input);
        if (ZSTD_isError(more))
            return refuse(r, "zstd", ZSTD_getErrorName(more), error);
        r->inside = more != 0;
    }
    return (int64_t)o.pos;
}

static int64_t read_chunk(reader *r, char *out, td_error *error)
{
    return r->packing == GZIP   ? read_gzip(r, out, error)
           : r->packing == ZSTD ? read_zstd(r, out, error)
                                : read_file(r, out, error);
}

/* ---- lines ----------------------------------------------------------------------------------- */

/* Room for another chunk behind the unread bytes. */
static int grow(reader *r, td_error *error)
{
    size_t room = r->room * 2 + CHUNK;
    char  *grown;
    if (r->room - r->end >= CHUNK)
        return 0;
    grown = realloc(r->buffer, room);
    if (!grown)
        return td_fail(error, TD_ENOMEM, "%s:%lld: no memory for a line", r->path,
                       (long long)r->line + 1);
    r->buffer = grown;
    r->room = room;
    return 0;
}

/* Read more plain bytes behind the unread ones. */
static int fill(reader *r, td_error *error)
{
    /* move the unread bytes to the front, so that the buffer grows only for a line longer than
     * it */
    if (r->begin) {
        memmove(r->buffer, r->buffer + r->begin, r->end - r->begin);
        r->end -= r->begin;
        r->begin = 0;
    }
    if (r->end > LINE_LIMIT)
        return td_fail(error, TD_EFORMAT,
                       "%s:%lld: this %s is longer than %zu bytes, the limit for a document: split "
                       "it into several %s",
                       r->path, (long long)r->line + 1, r->whole ? "file" : "line", LINE_LIMIT,
                       r->whole ? "files" : "lines");
    if (grow(r, error))
        return TD_ENOMEM;
    int64_t n = read_chunk(r, r->buffer + r->end, error);
    if (n < 0)
        return (int)n;
    r->ended = n == 0;
    r->end += (size_t)n;
    return 0;
}

/* The next line without its '\n', or the whole of a .txt file. Returns 0, TD_EEND or a code. */
static int next_line(reader *r, const char **line, size_t *size, td_error *error)
{
    size_t seen = 0; /* bytes that were searched already: a long line is searched once */
    for (;;) {
        size_t      have = r->end - r->begin;
        const char *stop = have > seen && !r->whole
                               ? memchr(r->buffer + r->begin + seen, '\n', have - seen)
                               : NULL;
        /* the last line of a file need not end in a newline */
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

/* Is the line perhaps valid JSON that jansson does not support? */
static bool beyond_jansson(const json_error_t *e)
{
    switch (json_error_code(e)) {
    case json_error_numeric_overflow:
    case json_error_stack_overflow:
    case json_error_null_byte_in_key:
        return true;
    default:
        return false;
    }
}

/* "no key 'text' (keys: 'txt', 'id')", with as many keys as fit. */
static void list_keys(const reader *r, char why[WHY])
{
    const size_t end = WHY - 24; /* room for what follows the keys */
    size_t       n = (size_t)snprintf(why, WHY, "no key '%.60s' (keys:", r->key);
    void        *at = json_object_iter(r->object);
    if (!at)
        n += (size_t)snprintf(why + n, WHY - n, " none");
    for (bool first = true; at; at = json_object_iter_next(r->object, at), first = false) {
        const char *key = json_object_iter_key(at);
        if (n + strlen(key) + 4 > end) {
            n += (size_t)snprintf(why + n, WHY - n, " ..");
            break;
        }
        n += (size_t)snprintf(why + n, WHY - n, "%s '%s'", first ? "" : ",", key);
    }
    snprintf(why + n, WHY - n, ")");
    /* a key may contain anything, and this goes to a terminal */
    for (char *c = why; *c; c++)
        if ((unsigned char)*c < 32 || *c == 127)
            *c = '?';
}

/* The text of a JSON line, owned by r->object until the next line. False: the line is bad, and
 * `why` says why. */
static bool parse(reader *r, const char *line, size_t size, const char **text, size_t *length,
                  char why[WHY])
{
    /* Integers beyond 64 bits would be errors; read as reals they are not, and no number matters
     * here. Two texts under one key would be ambiguous. */
    const size_t flags = JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL;
    json_error_t problem;
    json_decref(r->object);
    r->object = json_loadb(line, size, flags, &problem);
    const json_t *value = json_object_get(r->object, r->key);
    *text = json_string_value(value);
    *length = json_string_length(value);
    if (!r->object)
        snprintf(why, WHY, "%s: %s, at column %d",
                 beyond_jansson(&problem) ? "JSON that the library jansson does not support"
                                          : "not valid JSON",
                 problem.text, problem.column);
    else if (!json_is_object(r->object))
        snprintf(why, WHY, "not an object { }");
    else if (!value)
        list_keys(r, why);
    else if (!*text)
        snprintf(why, WHY, "the value of '%.100s' is not a string", r->key);
    return *text != NULL;
}

/* Is a whole file UTF-8? False: `why` says where it is not, and r->line is that line. */
static bool is_text(reader *r, const char *text, size_t size, char why[WHY])
{
    const unsigned char *p = (const unsigned char *)text;
    size_t               at = 0;
    for (size_t n; at < size && (n = utf8_character(p + at, size - at)) != 0; at += n)
        r->line += p[at] == '\n';
    if (at == size)
        return true;
    snprintf(why, WHY, "byte %zu of the file, 0x%02X, is not UTF-8 text", at, p[at]);
    return false;
}

/* Count a bad line and log it, or refuse it if no more may be skipped. */
static int skip_bad(reader *r, const char *why, td_error *error)
{
    /* of an object without the key, the line may be right and the option wrong */
    bool no_key = !r->whole && json_is_object(r->object) && !json_object_get(r->object, r->key);

    if (*r->bad <= 0)
        return td_fail(
            error, TD_EFORMAT,
            "%s:%lld: cannot read '%s' from this %s: %s; fix the %s%s, or let bad ones be "
            "skipped with data.max_bad_lines",
            r->path, (long long)r->line, r->whole ? "text" : r->key, r->whole ? "file" : "line",
            why, r->whole ? "file" : "line", no_key ? " or set data.text" : "");
    --*r->bad;
    r->services->log(r->services, TD_LOG_WARN, "%s:%lld: skipped: %s", r->path, (long long)r->line,
                     why);
    return 0;
}

/* A line of nothing but spaces is no document, and no error. */
static bool blank(const char *line, size_t size)
{
    while (size && memchr(" \t\r", line[size - 1], 3))
        size--;
    return size == 0;
}

/* Lines that are blank or skipped, and empty documents, do not end the loop. */
int reader_next(reader *r, const char **text, size_t *size, td_error *error)
{
    for (;;) {
        const char *line;
        char        why[WHY];
        size_t      length;
        int         code = next_line(r, &line, &length, error);
        if (code)
            return code;
        if (!r->whole && blank(line, length))
            continue;
        /* an empty document is skipped like a blank line */
        bool fine = r->whole ? is_text(r, line, length, why)
                             : parse(r, line, length, text, size, why);
        if (r->whole) {
            *text = line;
            *size = length;
        }
        if (fine && *size)
            return 0;
        if (!fine && (code = skip_bad(r, why, error)) != 0)
            return code;
    }
}
