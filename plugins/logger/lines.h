/* lines.h - a log of lines, each with its step: what loggers of text files share. A new run starts an
 * empty file; a resumed one cuts off the lines that it will write again. A logger has a `line_form`,
 * and writes between lines_begin and lines_end. */
#ifndef TD_LOGGER_LINES_H
#define TD_LOGGER_LINES_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "place.h"
#include "tandem/kind/logger.h"

/* How a logger's lines look. */
typedef struct line_form {
    const char *head; /* the first lines of a file, each with a newline; "": none */
    /* The step of a line and the name of its first metric, which need not end there. False: it is not
     * a line of metrics. */
    bool (*parse)(const char *line, long long *step, const char **name);
} line_form;

typedef struct lines {
    const line_form   *form;
    FILE              *file;
    char               path[4096];
    const td_services *services;
    int64_t            last;   /* step of the last line */
    bool               warned; /* that lines are gone */
} lines;

static inline int lines_fail(const lines *l, int why, td_error *error)
{
    return td_fail(error, TD_EIO, "cannot write metrics to '%s': %s", l->path, place_reason(why));
}

/* ---- opening --------------------------------------------------------------------------------- */

static inline bool lines_begins(const char *name, const char *group)
{
    return !strncmp(name, group, strlen(group));
}

/* Will the resumed run write this line again? It writes the lines of step `resume` and later, and
 * the evaluation and the tasks after the step before, if they are to be repeated. */
static inline bool lines_come_again(const lines *l, const char *line, const td_logger_in *in)
{
    long long   step;
    const char *name;
    if (!l->form->parse(line, &step, &name))
        return false; /* not ours: leave it */
    if (step >= in->resume)
        return true;
    return step == in->resume - 1 && ((in->evaluate_again && lines_begins(name, "evaluate/")) ||
                                      (in->score_again && lines_begins(name, "tasks/")));
}

/* The number of bytes of the file to keep: up to the first line that will be written again, or
 * that a crash cut short. */
static inline long lines_kept(lines *l, const td_logger_in *in)
{
    char       *line = NULL;
    size_t      room = 0;
    long        at = 0;
    long long   step;
    const char *name;
    for (ssize_t n; (n = getline(&line, &room, l->file)) > 0; at += n) {
        if (line[n - 1] != '\n' || lines_come_again(l, line, in))
            break;
        if (l->form->parse(line, &step, &name) && step > l->last)
            l->last = step;
    }
    free(line);
    return at;
}

/* Are lines missing that were written before the checkpoint? They were removed, or never reached
 * this disk. The lines of its last step may be an evaluation alone, which will be repeated. */
static inline void lines_warn_of_missing(const lines *l, const td_logger_in *in)
{
    if (!in->resume || l->last >= in->written ||
        ((in->evaluate_again || in->score_again) && in->written == in->resume - 1))
        return;
    in->services->log(in->services, TD_LOG_WARN,
                      "'%s' lacks the metrics of steps %lld to %lld, which were written: the run "
                      "continues without them; if you have a copy, put it back and resume again",
                      l->path, (long long)l->last + 1, (long long)in->written);
}

/* An empty file gets its header. */
static inline int lines_put_head(lines *l, td_error *error)
{
    if (ftell(l->file) == 0)
        fputs(l->form->head, l->file);
    return fflush(l->file) || ferror(l->file) ? lines_fail(l, errno, error) : 0;
}

/* The descriptor is not inherited by child processes. */
static inline int lines_open_file(lines *l, const td_logger_in *in, td_error *error)
{
    int  fd = open_place(l->path, O_RDWR);
    long keep;
    l->file = fd < 0 ? NULL : fdopen(fd, "r+");
    if (!l->file) {
        lines_fail(l, errno, error);
        if (fd >= 0)
            close(fd);
        return TD_EIO;
    }
    keep = in->resume > 0 ? lines_kept(l, in) : 0;
    if (ftruncate(fd, keep) || fseek(l->file, keep, SEEK_SET))
        lines_fail(l, errno, error);
    else if (!lines_put_head(l, error)) {
        lines_warn_of_missing(l, in);
        return 0;
    }
    fclose(l->file);
    return TD_EIO;
}

/* Open `file` in the run's directory as *state. */
static inline int lines_open(const line_form *form, const char *file, const td_logger_in *in,
                             void **state, td_error *error)
{
    lines *l = calloc(1, sizeof *l);
    int    code;
    if (!l)
        return td_fail(error, TD_ENOMEM, "out of memory while opening the metrics");
    /* before the file is opened, which may log what is missing */
    l->services = in->services;
    l->form = form;
    if ((size_t)snprintf(l->path, sizeof l->path, "%s/%s", in->directory, file) >= sizeof l->path)
        code = td_fail(error, TD_EIO, "the path of the metrics file in '%.200s..' is too long",
                       in->directory);
    else
        code = lines_open_file(l, in, error);
    if (code)
        free(l);
    else
        *state = l;
    return code;
}

static inline void lines_close(void *state)
{
    fclose(((lines *)state)->file);
    free(state);
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Lost lines cannot be written again; later lines are written in the right place. */
static inline void lines_warn_of_loss(lines *l, const char *what)
{
    if (!l->warned)
        l->services->log(l->services, TD_LOG_WARN,
                         "'%s' was %s while the run was writing to it: the run continues without "
                         "the lines up to step %lld",
                         l->path, what, (long long)l->last);
    l->warned = true;
}

/* Before the lines of a step. In a file that was cut short, a line written at the old end would
 * follow a hole. */
static inline int lines_begin(lines *l, td_error *error)
{
    struct stat st;
    if (fstat(fileno(l->file), &st))
        return lines_fail(l, errno, error);
    if (st.st_size >= ftello(l->file))
        return 0;
    lines_warn_of_loss(l, "cut short");
    return fseek(l->file, 0, SEEK_END) ? lines_fail(l, errno, error) : lines_put_head(l, error);
}

/* After them. Flushed, so that `tail -f` shows a run in progress. */
static inline int lines_end(lines *l, int64_t step, td_error *error)
{
    l->last = step;
    return fflush(l->file) || ferror(l->file) ? lines_fail(l, errno, error) : 0;
}

/* Does the path still lead to the file that is open? If not, begin another. If that is impossible,
 * the directory is gone, too, which others report. */
static inline int lines_find_file(lines *l, td_error *error)
{
    struct stat mine, named;
    FILE       *f;
    int         fd;
    if (!lstat(l->path, &named) && !fstat(fileno(l->file), &mine) && named.st_ino == mine.st_ino &&
        named.st_dev == mine.st_dev)
        return 0;
    lines_warn_of_loss(l, "removed or replaced");
    fd = open_place(l->path, O_RDWR);
    f = fd < 0 ? NULL : fdopen(fd, "r+");
    if (f) {
        fclose(l->file);
        l->file = f;
        return fseek(f, 0, SEEK_END) ? lines_fail(l, errno, error) : lines_put_head(l, error);
    }
    if (fd >= 0)
        close(fd);
    return 0;
}

/* The hook `flush`, called before a checkpoint is saved: its metrics must survive whatever it
 * survives. Some file systems cannot sync, and then nothing more can be done. */
static inline int lines_flush(void *state, td_error *error)
{
    lines *l = state;
    if (ferror(l->file) || fflush(l->file))
        return lines_fail(l, errno, error);
    if (fsync(fileno(l->file)) && errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP)
        return lines_fail(l, errno, error);
    return lines_find_file(l, error);
}

#endif
