/* jsonl.c - logger 'jsonl': metrics.jsonl in the run's directory, one JSON object per line.
 *
 *     {"step": 12, "loss": 3.25, .., "time/seconds": 1.5}
 *
 * Clock readings come last, so that two runs can be compared by cutting the ends of their lines:
 * all before is the same bits. A resumed run continues the file after its checkpoint's step. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tandem/kind/logger.h"

struct jsonl {
    const char *file;
};
typedef struct lines {
    FILE *file;
    char  path[4096];
} lines;

static const td_option options[] = { TD_OPTION_STRING(struct jsonl, file, "metrics.jsonl",
                                                      "file name within the run's directory"),
                                     TD_OPTION_END };

/* Will the resumed run write this line again? Those are the lines of step `resume` and later, and
 * an evaluation after the step before, if it is to be repeated. */
static bool comes_again(const char *line, const td_logger_in *in)
{
    long long step;
    int       end = 0;
    if (sscanf(line, "{\"step\": %lld%n", &step, &end) != 1)
        return false; /* not ours: leave it */
    if (step >= in->resume)
        return true;
    return in->evaluate_again && step == in->resume - 1 &&
           !strncmp(line + end, ", \"evaluate/", strlen(", \"evaluate/"));
}

/* How many bytes of the file to keep: up to the first line that will be written again, or that a
 * crash cut short. */
static long kept_bytes(FILE *f, const td_logger_in *in)
{
    char  *line = NULL;
    size_t room = 0;
    long   at = 0;
    for (ssize_t n; (n = getline(&line, &room, f)) > 0; at += n) {
        if (line[n - 1] != '\n' || comes_again(line, in))
            break;
    }
    free(line);
    return at;
}

static int fail(const lines *l, int why, td_error *error)
{
    return td_fail(error, TD_EIO, "cannot write metrics to '%s': %s", l->path, strerror(why));
}

/* A new run starts an empty file, a resumed one truncates what it will write again. "e": child
 * processes must not inherit it. */
static FILE *open_file(const char *path, const td_logger_in *in)
{
    FILE *f = in->resume > 0 ? fopen(path, "r+e") : NULL;
    long  keep;
    if (!f)
        f = fopen(path, "w+e");
    keep = f && in->resume > 0 ? kept_bytes(f, in) : 0;
    if (!f || (!ftruncate(fileno(f), keep) && !fseek(f, keep, SEEK_SET)))
        return f;
    fclose(f);
    return NULL;
}

static int open_jsonl(const void *config, const td_logger_in *in, void **state, td_error *error)
{
    lines *l = calloc(1, sizeof *l);
    int    code = 0;
    if (!l)
        return td_fail(error, TD_ENOMEM, "no memory to open the metrics");
    /* exactly one of these fails, or none */
    if ((size_t)snprintf(l->path, sizeof l->path, "%s/%s", in->directory,
                         ((const struct jsonl *)config)->file) >= sizeof l->path)
        code = td_fail(error, TD_EIO, "the path of the metrics file in '%.200s..' is too long",
                       in->directory);
    else if (!(l->file = open_file(l->path, in)))
        code = fail(l, errno, error);
    if (code)
        free(l);
    else
        *state = l;
    return code;
}

static void close_jsonl(void *state)
{
    fclose(((lines *)state)->file);
    free(state);
}

/* A JSON string. Bytes from 128 on are UTF-8 and need no escape. */
static void put_text(FILE *f, const char *text)
{
    putc('"', f);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(f, "\\%c", c);
        else if (c < 32)
            fprintf(f, "\\u%04x", c);
        else
            putc(c, f);
    }
    putc('"', f);
}

/* JSON has neither NaN nor infinity: they become null. 17 digits bring a double back exactly. */
static void put_metric(FILE *f, const td_metric *m)
{
    fputs(", ", f);
    put_text(f, m->name);
    if (isfinite(m->value))
        fprintf(f, ": %.17g", m->value);
    else
        fputs(": null", f);
}

/* Flushed line by line, so that `tail -f` shows a run in progress. */
static int write_jsonl(void *state, int64_t step, const td_metric *metrics, size_t count,
                       td_error *error)
{
    FILE *f = ((lines *)state)->file;
    fprintf(f, "{\"step\": %lld", (long long)step);
    for (int time = 0; time < 2; time++)
        for (size_t i = 0; i < count; i++)
            if (metrics[i].time == (time != 0))
                put_metric(f, &metrics[i]);
    fputs("}\n", f);
    return fflush(f) || ferror(f) ? fail(state, errno, error) : 0;
}

/* Before a checkpoint: its metrics must survive whatever it survives. */
static int flush(void *state, td_error *error)
{
    FILE *f = ((lines *)state)->file;
    return fflush(f) || fsync(fileno(f)) ? fail(state, errno, error) : 0;
}

static const td_logger jsonl = {
    .plugin = TD_PLUGIN(td_logger, TD_LOGGER_KIND, "jsonl", options, struct jsonl,
                        .brief = "metrics.jsonl: one JSON object per step"),
    .open = open_jsonl,
    .close = close_jsonl,
    .write = write_jsonl,
    .flush = flush,
};

TD_MODULE("jsonl", "1.0", "tandem", "MIT", &jsonl.plugin)
