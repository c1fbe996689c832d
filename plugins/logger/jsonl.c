/* jsonl.c - logger 'jsonl': metrics.jsonl in the run's directory, one JSON object per line.
 *
 *     {"step": 12, "loss": 3.25, .., "time/seconds": 1.5}
 *
 * Clock readings come last, so that two runs can be compared by cutting the ends of their lines:
 * everything before must be the same, bit for bit. A resumed run continues the file after its
 * checkpoint's step. */
#include <math.h>

#include "lines.h"

struct jsonl {
    const char *file;
};

static const td_option options[] = { TD_OPTION_STRING(struct jsonl, file, "metrics.jsonl",
                                                      "file name within the run's directory"),
                                     TD_OPTION_END };

static int check(const void *config, td_error *error)
{
    return check_place("file", ((const struct jsonl *)config)->file, error);
}

/* The rest of a line, after its step, begins with a metric of this group. */
static bool begins_with(const char *rest, const char *group)
{
    int end = 0;
    if (sscanf(line, "{\"step\": %lld%n", step, &end) != 1)
        return false;
    *name = line + end;
    if (!strncmp(*name, ", \"", 3))
        *name += 3;
    return true;
}

static const line_form form = { .head = "", .parse = parse };

static int open_jsonl(const void *config, const td_logger_in *in, void **state, td_error *error)
{
    lines *l = calloc(1, sizeof *l);
    int    code;
    if (!l)
        return td_fail(error, TD_ENOMEM, "out of memory while opening the metrics");
    /* before the file is opened, which may log what is missing */
    l->services = in->services;
    if ((size_t)snprintf(l->path, sizeof l->path, "%s/%s", in->directory,
                         ((const struct jsonl *)config)->file) >= sizeof l->path)
        code = td_fail(error, TD_EIO, "the path of the metrics file in '%.200s..' is too long",
                       in->directory);
    else
        code = open_file(l, in, error);
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

/* JSON has neither NaN nor infinity: they become null. 17 digits restore a double exactly. */
static void put_metric(FILE *f, const td_metric *m)
{
    fputs(", ", f);
    put_text(f, m->name);
    if (isfinite(m->value))
        fprintf(f, ": %.17g", m->value);
    else
        fputs(": null", f);
}

/* Lost lines cannot be written again; later lines are written in the right place. */
static void warn_of_loss(lines *l, const char *what)
{
    if (!l->warned)
        l->services->log(l->services, TD_LOG_WARN,
                         "'%s' was %s while the run was writing to it: the run continues without "
                         "the lines up to step %lld",
                         l->path, what, (long long)l->last);
    l->warned = true;
}

/* Written past the end of a file that was cut short, a line would follow a hole. */
static int find_end(lines *l, td_error *error)
{
    struct stat st;
    if (fstat(fileno(l->file), &st))
        return fail(l, errno, error);
    if (st.st_size >= ftello(l->file))
        return 0;
    warn_of_loss(l, "cut short");
    return fseek(l->file, 0, SEEK_END) ? fail(l, errno, error) : 0;
}

/* Does the path still lead to the file that is open? If not, begin another. If that is impossible,
 * the directory is gone, too, which is not for a logger to say. */
static int find_file(lines *l, td_error *error)
{
    struct stat mine, named;
    FILE       *f;
    int         fd;
    if (!lstat(l->path, &named) && !fstat(fileno(l->file), &mine) && named.st_ino == mine.st_ino &&
        named.st_dev == mine.st_dev)
        return 0;
    warn_of_loss(l, "removed or replaced");
    fd = open_place(l->path, O_RDWR);
    f = fd < 0 ? NULL : fdopen(fd, "r+");
    if (f) {
        fclose(l->file);
        l->file = f;
        return fseek(f, 0, SEEK_END) ? fail(l, errno, error) : 0;
    }
    if (fd >= 0)
        close(fd);
    return 0;
}

/* Flushed line by line, so that `tail -f` shows a run in progress. */
static int write_jsonl(void *state, int64_t step, const td_metric *metrics, size_t count,
                       td_error *error)
{
    lines *l = state;
    if (lines_begin(l, error))
        return TD_EIO;
    fprintf(l->file, "{\"step\": %lld", (long long)step);
    for (int time = 0; time < 2; time++)
        for (size_t i = 0; i < count; i++)
            if (metrics[i].time == (time != 0))
                put_metric(l->file, &metrics[i]);
    fputs("}\n", l->file);
    return lines_end(l, step, error);
}

static const td_logger jsonl = {
    .plugin = TD_PLUGIN(td_logger, TD_LOGGER_KIND, "jsonl", options, struct jsonl, .check = check,
                        .brief = "metrics.jsonl: one JSON object per step"),
    .open = open_jsonl,
    .close = lines_close,
    .write = write_jsonl,
    .flush = lines_flush,
};

TD_MODULE("jsonl", "1.0", "tandem", "MIT", &jsonl.plugin)
