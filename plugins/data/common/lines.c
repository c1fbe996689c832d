/* lines.c - lines of plain, gzip and zstd files.
 *
 *     file -> read_chunk (decompress) -> fill (buffer) -> lines_next
 */
#include "lines.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "regular.h"
#include "tandem/files.h"

/* A line of JSON is in memory several times: as it is, as strings, as tokens. A whole file is not
 * parsed. Compressed, either may come from a file a thousandth of its size. */
#ifndef LINE_LIMIT /* tests use a smaller limit */
#define LINE_LIMIT ((size_t)1 << 28)
#define FILE_LIMIT ((size_t)1 << 30)
#endif
#ifndef FILE_LIMIT
#define FILE_LIMIT LINE_LIMIT
#endif
#define CHUNK ((size_t)1 << 17)
enum { PLAIN, GZIP, ZSTD, LARGEST_WINDOW = 31 /* bits */ };

struct lines {
    const char   *path;
    bool          whole;  /* a .txt file: the whole file is one line */
    int64_t       number; /* number of the last line read */
    int           packing;
    FILE         *file;
    z_stream      gzip;
    ZSTD_DStream *zstd;
    ZSTD_inBuffer input;  /* compressed bytes, in `packed` */
    bool          inside; /* inside a gzip member or zstd frame, or before the first */
    char         *packed; /* compressed bytes [CHUNK] */
    char         *buffer; /* plain bytes: begin .. end are unread */
    size_t        begin, end, room;
    bool          ended; /* the end of the plain text was reached */
};

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcasecmp(text + n - m, end);
}

static FILE *open_file(const char *path, td_error *error)
{
    struct stat st;
    const char *why = NULL;
    int         fd = open_regular(path, &st, &why);
    FILE       *file = fd < 0 ? NULL : fdopen(fd, "rb");
    if (file)
        return file;
    td_fail(error, TD_EIO, "cannot open '%s' for reading: %s%s", path, why ? why : strerror(errno),
            directory_advice(&st));
    if (fd >= 0)
        close(fd);
    return NULL;
}

/* `zstd --long=31` makes files with a window of 2 GiB, which the library refuses unless it is told.
 * Memory is taken for the window of the file, not for the largest. */
static bool open_zstd(lines *l)
{
    l->zstd = ZSTD_createDStream();
    return l->zstd &&
           !ZSTD_isError(ZSTD_DCtx_setParameter(l->zstd, ZSTD_d_windowLogMax, LARGEST_WINDOW));
}

static int open_streams(lines *l, td_error *error)
{
    l->file = open_file(l->path, error);
    if (!l->file)
        return TD_EIO;
    /* a plain file would be trained on, and a compressed one would look damaged */
    if (td_is_pointer_file(fileno(l->file)))
        return td_fail(error, TD_EFORMAT, "cannot read '%s': " TD_POINTER_ADVICE, l->path);
    l->packing = ends_with(l->path, ".gz") ? GZIP : ends_with(l->path, ".zst") ? ZSTD : PLAIN;
    if (l->packing == PLAIN)
        return 0;
    /* an empty file is not a gzip file: it must have at least one member */
    l->inside = true;
    l->packed = malloc(CHUNK);
    /* 15 + 16: the largest window, and gzip only, not zlib's own format */
    bool ready = l->packing == GZIP ? inflateInit2(&l->gzip, 15 + 16) == Z_OK : open_zstd(l);
    return l->packed && ready
               ? 0
               : td_fail(error, TD_ENOMEM, "out of memory while reading '%s'", l->path);
}

lines *lines_open(const char *path, td_error *error)
{
    lines *l = calloc(1, sizeof *l);
    if (!l) {
        td_fail(error, TD_ENOMEM, "out of memory while reading '%s'", path);
        return NULL;
    }
    l->path = path;
    l->whole = ends_with(path, ".txt") || ends_with(path, ".txt.gz") || ends_with(path, ".txt.zst");
    if (open_streams(l, error) == 0)
        return l;
    lines_close(l);
    return NULL;
}

void lines_close(lines *l)
{
    if (!l)
        return;
    /* each of these accepts a stream that open_streams did not reach: inflateEnd a zeroed
     * stream, the others NULL */
    if (l->file)
        fclose(l->file);
    inflateEnd(&l->gzip);
    ZSTD_freeDStream(l->zstd);
    free(l->packed);
    free(l->buffer);
    free(l);
}

/* ---- compression ----------------------------------------------------------------------------- */

static int64_t read_file(lines *l, char *out, td_error *error)
{
    size_t n = fread(out, 1, CHUNK, l->file);
    return ferror(l->file)
               ? td_fail(error, TD_EIO, "cannot read '%s': %s", l->path, strerror(errno))
               : (int64_t)n;
}

/* The number of compressed bytes at l->input, after reading more if there were none; 0 at the
 * end of the file. If `what` has not ended by then, the file is truncated: an error. */
static int64_t take_in(lines *l, const char *what, td_error *error)
{
    if (l->input.pos == l->input.size) {
        int64_t n = read_file(l, l->packed, error);
        if (n < 0)
            return n;
        l->input = (ZSTD_inBuffer){ l->packed, (size_t)n, 0 };
    }
    if (l->input.pos == l->input.size && l->inside)
        return td_fail(error, TD_EFORMAT,
                       "%s: ends in the middle of a %s: the file is truncated; get it again",
                       l->path, what);
    return (int64_t)(l->input.size - l->input.pos);
}

static int64_t refuse(const lines *l, const char *what, const char *why, td_error *error)
{
    return td_fail(error, TD_EFORMAT,
                   "%s: cannot be read as %s: %s, before byte %lld: the file is damaged, has the "
                   "wrong suffix, or has something appended",
                   l->path, what, why,
                   (long long)ftello(l->file) - (long long)(l->input.size - l->input.pos));
}

/* A gzip file is one member or several, as `cat a.gz b.gz` makes them, and nothing else. */
static int64_t read_gzip(lines *l, char *out, td_error *error)
{
    l->gzip.next_out = (Bytef *)out;
    l->gzip.avail_out = CHUNK;
    /* loop until there is output, because 0 bytes would mean the end */
    while (l->gzip.avail_out == CHUNK) {
        int64_t have = take_in(l, "gzip member", error);
        if (have <= 0)
            return have;
        l->gzip.next_in = (Bytef *)l->packed + l->input.pos;
        l->gzip.avail_in = (uInt)have;
        int code = l->inside ? Z_OK : inflateReset(&l->gzip);
        if (code == Z_OK)
            code = inflate(&l->gzip, Z_NO_FLUSH);
        l->input.pos = l->input.size - l->gzip.avail_in;
        l->inside = code != Z_STREAM_END;
        if (code != Z_OK && code != Z_STREAM_END)
            return refuse(l, "gzip", l->gzip.msg ? l->gzip.msg : zError(code), error);
    }
    return (int64_t)(CHUNK - l->gzip.avail_out);
}

/* The same for zstd, which begins the next frame by itself. It leaves a byte of the input until all
 * output of a frame has been taken, so none is lost at the end of the file. */
static int64_t read_zstd(lines *l, char *out, td_error *error)
{
    ZSTD_outBuffer o = { out, CHUNK, 0 };
    while (o.pos == 0) {
        int64_t have = take_in(l, "zstd frame", error);
        if (have <= 0)
            return have;
        size_t more = ZSTD_decompressStream(l->zstd, &o, &l->input);
        if (ZSTD_isError(more))
            return refuse(l, "zstd", ZSTD_getErrorName(more), error);
        l->inside = more != 0;
    }
    return (int64_t)o.pos;
}

static int64_t read_chunk(lines *l, char *out, td_error *error)
{
    return l->packing == GZIP   ? read_gzip(l, out, error)
           : l->packing == ZSTD ? read_zstd(l, out, error)
                                : read_file(l, out, error);
}

/* ---- lines ----------------------------------------------------------------------------------- */

/* Makes space for another chunk after the unread bytes. */
static int grow(lines *l, td_error *error)
{
    size_t room = l->room * 2 + CHUNK;
    char  *grown;
    if (l->room - l->end >= CHUNK)
        return 0;
    grown = realloc(l->buffer, room);
    if (!grown)
        return td_fail(error, TD_ENOMEM, "%s:%lld: out of memory for a line", l->path,
                       (long long)l->number + 1);
    l->buffer = grown;
    l->room = room;
    return 0;
}

/* Appends more plain bytes to the unread ones. */
static int fill(lines *l, td_error *error)
{
    /* move the unread bytes to the front, so that the buffer grows only for a line longer than
     * it */
    if (l->begin) {
        memmove(l->buffer, l->buffer + l->begin, l->end - l->begin);
        l->end -= l->begin;
        l->begin = 0;
    }
    size_t limit = l->whole ? FILE_LIMIT : LINE_LIMIT;
    if (l->end > limit)
        return td_fail(error, TD_EFORMAT,
                       "%s:%lld: this %s is longer than %zu bytes, the limit for a document: split "
                       "it into several %s",
                       l->path, (long long)l->number + 1, l->whole ? "file" : "line", limit,
                       l->whole ? "files" : "lines");
    if (grow(l, error))
        return TD_ENOMEM;
    int64_t n = read_chunk(l, l->buffer + l->end, error);
    if (n < 0)
        return (int)n;
    l->ended = n == 0;
    l->end += (size_t)n;
    return 0;
}

/* Some programs begin a file with a byte order mark, which is not part of its text. */
static void drop_mark(lines *l, const char **line, size_t *size)
{
    if (l->number == 1 && *size >= 3 && !memcmp(*line, "\xEF\xBB\xBF", 3)) {
        *line += 3;
        *size -= 3;
    }
}

/* The next line without its '\n', or the whole of a .txt file. Returns 0, TD_EEND or a code. */
int lines_next(lines *l, const char **line, size_t *size, td_error *error)
{
    size_t seen = 0; /* bytes already searched, so that a long line is searched only once */
    for (;;) {
        size_t      have = l->end - l->begin;
        const char *stop = have > seen && !l->whole
                               ? memchr(l->buffer + l->begin + seen, '\n', have - seen)
                               : NULL;
        /* the last line of a file need not end in a newline */
        if (stop || l->ended) {
            if (!have)
                return TD_EEND;
            *line = l->buffer + l->begin;
            *size = stop ? (size_t)(stop - *line) : have;
            l->begin += *size + (stop != NULL);
            l->number++;
            drop_mark(l, line, size);
            return 0;
        }
        seen = have;
        int code = fill(l, error);
        if (code)
            return code;
    }
}

const char *lines_path(const lines *l) { return l->path; }
bool        lines_whole(const lines *l) { return l->whole; }
int64_t     lines_number(const lines *l) { return l->number; }
