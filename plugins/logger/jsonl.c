/* jsonl.c - logger 'jsonl': metrics.jsonl in the run's directory, one JSON object per line.
 *
 *     {"step": 12, "loss": 3.25, .., "time/seconds": 1.5}
 *
 * Clock readings come last, so that two runs can be compared by cutting the ends of their lines:
 * everything before must be the same, bit for bit. A resumed run continues the file after its
 * checkpoint's step. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "place.h"
#include "tandem/kind/logger.h"

struct jsonl {
    const char *file;
};
typedef struct lines {
    FILE              *file;
    char               path[4096];
    const td_services *services;
    int64_t            last;   /* step of the last line */
    bool               warned; /* that lines are gone */
} lines;

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
    return !strncmp(rest, ", \"", 3) && !strncmp(rest + 3, group, strlen(group));
}

/* Will the resumed run write this line again? Those are the lines of step `resume` and later, and
 * the evaluation and the tasks after the step before, if they are to be repeated. */
static bool comes_again(const char *line, const td_logger_in *in)
{
    long long step;
    int       end = 0;
    if (sscanf(line, "{\"step\": %lld%n", &step, &end) != 1)
        return false; /* not ours: leave it */
    if (step >= in->resume)
        return true;
    return step == in->resume - 1 &&
           ((in->evaluate_again && begins_with(line + end, "evaluate/")) ||
            (in->score_again && begins_with(line + end, "tasks/")));
}

/* The number of bytes of the file to keep: up to the first line that will be written again, or
 * that a crash cut short. */
static long kept_bytes(lines *l, const td_logger_in *in)
{
    char     *line = NULL;
    size_t    room = 0;
    long      at = 0;
    long long step;
    for (ssize_t n; (n = getline(&line, &room, l->file)) > 0; at += n) {
        if (line[n - 1] != '\n' || comes_again(line, in))
            break;
        if (sscanf(line, "{\"step\": %lld", &step) == 1 && step > l->last)
            l->last = step;
    }
    free(line);
    return at;
}

/* Lines that the checkpoint was saved after have been removed, or never reached this disk. A repeated
 * evaluation may be all that its step has. */
static void warn_of_missing(const lines *l, const td_logger_in *in)
{
    if (!in->resume || l->last >= in->written ||
        ((in->evaluate_again || in->score_again) && in->written == in->resume - 1))
        return;
    in->services->log(in->services, TD_LOG_WARN,
                      "'%s' lacks the metrics of steps %lld to %lld, which were written: the run "
                      "continues without them; if you have a copy, put it back and resume again",
                      l->path, (long long)l->last + 1, (long long)in->written);
}

static int fail(const lines *l, int why, td_error *error)
{
    return td_fail(error, TD_EIO, "cannot write metrics to '%s': %s", l->path, place_reason(why));
}

/* A new run starts an empty file, a resumed one cuts off the lines that it will write again. The
 * descriptor is not inherited by child processes. */
static int open_file(lines *l, const td_logger_in *in, td_error *error)
{
    int  fd = open_place(l->path, O_RDWR);
    long keep;
    l->file = fd < 0 ? NULL : fdopen(fd, "r+");
    if (!l->file) {
        fail(l, errno, error);
        if (fd >= 0)
            close(fd);
        return TD_EIO;
    }
    keep = in->resume > 0 ? kept_bytes(l, in) : 0;
    if (!ftruncate(fd, keep) && !fseek(l->file, keep, SEEK_SET)) {
        warn_of_missing(l, in);
        return 0;
    }
    fail(l, errno, error);
    fclose(l->file);
    return TD_EIO;
}

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
    if (find_end(l, error))
        return TD_EIO;
    fprintf(l->file, "{\"step\": %lld", (long long)step);
    for (int time = 0; time < 2; time++)
        for (size_t i = 0; i < count; i++)
            if (metrics[i].time == (time != 0))
                put_metric(l->file, &metrics[i]);
    fputs("}\n", l->file);
    l->last = step;
    return fflush(l->file) || ferror(l->file) ? fail(l, errno, error) : 0;
}

/* Called before a checkpoint is saved: its metrics must survive whatever it survives. Some file
 * systems cannot sync, and then nothing more can be done. */
static int flush(void *state, td_error *error)
{
    lines *l = state;
    if (ferror(l->file) || fflush(l->file))
        return fail(l, errno, error);
    if (fsync(fileno(l->file)) && errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP)
        return fail(l, errno, error);
    return find_file(l, error);
}

static const td_logger jsonl = {
    .plugin = TD_PLUGIN(td_logger, TD_LOGGER_KIND, "jsonl", options, struct jsonl, .check = check,
                        .brief = "metrics.jsonl: one JSON object per step"),
    .open = open_jsonl,
    .close = close_jsonl,
    .write = write_jsonl,
    .flush = flush,
};

TD_MODULE("jsonl", "1.0", "tandem", "MIT", &jsonl.plugin)
