/* logger-@NAME@.c - metrics as a table, one line "step,name,value" for each.
 *
 * The contract: tandem/kind/logger.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tandem/kind/logger.h"

struct @IDENT@_config {
    const char *file;
    bool        times;
};

static const td_option options[] = {
    TD_OPTION_STRING(struct @IDENT@_config, file, "@NAME@.csv", "file name in the run's directory"),
    TD_OPTION_BOOL(struct @IDENT@_config, times, false,
                   "also write metrics that depend on the clock; without them two identical runs "
                   "write the same file"),
    TD_OPTION_END
};

/* Made by `open`, freed by `close`. */
typedef struct state {
    FILE *file;
    bool  times;
    char  path[4096];
} state;

static int cannot(const state *s, const char *what, td_error *error)
{
    return td_fail(error, TD_EIO, "logger '@NAME@' cannot %s '%s': %s", what, s->path,
                   strerror(errno));
}

/* ---- resuming -------------------------------------------------------------------------------- */

/* Whether the resumed run will write the line again: it belongs to a step, to an evaluation
 * or to tasks that the checkpoint does not cover. */
static bool comes_again(const char *line, const td_logger_in *in)
{
    char     *end;
    long long step = strtoll(line, &end, 10);
    if (end == line || *end != ',')
        return false; /* the header */
    if (step >= in->resume)
        return true;
    /* the checkpoint may have been written after the step but before its evaluation or its tasks */
    return step == in->resume - 1 &&
           ((in->evaluate_again && !strncmp(end, ",\"evaluate/", 11)) ||
            (in->score_again && !strncmp(end, ",\"tasks/", 8)));
}

/* Bytes to keep: those before the first line that will be written again or was cut off by a
 * crash. */
static long kept(FILE *f, const td_logger_in *in)
{
    char  *line = NULL;
    size_t room = 0;
    long   at = 0;
    for (ssize_t n; (n = getline(&line, &room, f)) > 0; at += n)
        if (line[n - 1] != '\n' || comes_again(line, in))
            break;
    free(line);
    return at;
}

/* Opens a new file, or the old one cut back to step in->resume: exactly what an uninterrupted run
 * would have written by then. */
static int open_file(state *s, const td_logger_in *in, td_error *error)
{
    long keep = 0;
    /* a missing file is not an error: this logger may be new to the run */
    s->file = in->resume > 0 ? fopen(s->path, "r+") : NULL;
    if (s->file)
        keep = kept(s->file, in);
    else
        s->file = fopen(s->path, "w+");
    if (!s->file)
        return cannot(s, "open", error);
    if (ftruncate(fileno(s->file), keep) || fseek(s->file, keep, SEEK_SET))
        return cannot(s, "continue", error);
    if (!keep)
        fputs("step,name,value\n", s->file);
    return 0;
}

/* ---- hooks ----------------------------------------------------------------------------------- */

static void close_@IDENT@(void *state_)
{
    state *s = state_;
    if (s->file)
        fclose(s->file);
    free(s);
}

/* [main]: after an error `close` is not called, so free everything here. */
static int open_@IDENT@(const void *config, const td_logger_in *in, void **out, td_error *error)
{
    const struct @IDENT@_config *c = config;
    state                    *s = calloc(1, sizeof *s);
    int                       n, code;
    if (!s)
        return td_fail(error, TD_ENOMEM, "logger '@NAME@': out of memory");
    s->times = c->times;
    n = snprintf(s->path, sizeof s->path, "%s/%s", in->directory, c->file);
    if (n < 0 || n >= (int)sizeof s->path)
        code = td_fail(error, TD_EIO, "logger '@NAME@': the path of '%s' in '%.200s..' is too long",
                       c->file, in->directory);
    else
        code = open_file(s, in, error);
    if (code)
        close_@IDENT@(s);
    else
        *out = s;
    return code;
}

/* Names of metrics contain names of data sources, which may contain commas, so they are quoted, and
 * quotes within them are doubled. */
static void put_name(FILE *f, const char *name)
{
    putc('"', f);
    for (; *name; name++) {
        if (*name == '"')
            putc('"', f);
        putc(*name, f);
    }
    putc('"', f);
}

/* [main]: the metrics of one step; steps come in order. Names and `metrics` belong to the host and
 * are valid during the call only. */
static int write_@IDENT@(void *state_, int64_t step, const td_metric *metrics, size_t count,
                      td_error *error)
{
    state *s = state_;
    for (size_t i = 0; i < count; i++) {
        if (metrics[i].time && !s->times)
            continue;
        fprintf(s->file, "%lld,", (long long)step);
        put_name(s->file, metrics[i].name);
        /* 17 digits restore a double exactly */
        fprintf(s->file, ",%.17g\n", metrics[i].value);
    }
    return ferror(s->file) ? cannot(s, "write to", error) : 0;
}

/* [main]: called before a checkpoint: everything written so far must be on the disk, or a crash
 * could leave a checkpoint that is ahead of the table. */
static int flush(void *state_, td_error *error)
{
    state *s = state_;
    return fflush(s->file) || fsync(fileno(s->file)) ? cannot(s, "write to", error) : 0;
}

static const td_logger @IDENT@_plugin = {
    .plugin = TD_PLUGIN(td_logger, TD_LOGGER_KIND, "@NAME@", options, struct @IDENT@_config,
                        .brief = "a table of step, name and value"),
    .open = open_@IDENT@,
    .close = close_@IDENT@,
    .write = write_@IDENT@,
    .flush = flush,
};

TD_MODULE("@NAME@", "0.1.0", "@AUTHOR@", "@LICENCE@", &@IDENT@_plugin.plugin)
