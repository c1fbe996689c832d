/* logger.c - requirements on every logger: accept any numbers, continue after an interruption as if
 * there had been none, and report that it cannot write. */
#include "check/cases.h"
#include "check/internal.h"
#include "tandem/kind/logger.h"

/* Open the logger; *code is what `open` returned. */
static void *logger_opened(td_check *c, const td_part *part, const char *directory, int64_t resume,
                           int *code)
{
    td_logger_in in = { .services = td_check_services(c, 1),
                        .directory = directory,
                        .resume = resume };
    void        *state = NULL;
    td_error     e = { 0 };
    *code = ((const td_logger *)(const void *)part->plugin)->open(part->config, &in, &state, &e);
    if (*code)
        td_check_failure(c, "open", *code, &e);
    return state;
}

/* Log steps [from, to) and close: names that need quoting, NaN and infinities, a step without
 * metrics. */
static void write_steps(td_check *c, const td_part *part, const char *directory, int64_t from,
                        int64_t to, bool resume)
{
    const td_logger *l = (const void *)part->plugin;
    td_error         e = { 0 };
    int              code;
    void            *state = logger_opened(c, part, directory, resume ? from : 0, &code);
    MUST(c, !code, "it cannot be opened in the directory of a run");
    for (int64_t k = from; k < to; k++) {
        /* a quote in a name, NaN, infinity, the largest and the smallest magnitudes, a clock's
         * reading */
        td_metric m[] = { { "train/loss", 3.5 - (double)k, false },
                          { "train/tokens_per_second", 1e5, true },
                          { "evaluate/a \"quoted\" name/nll", k % 3 ? 1e-300 : NAN, false },
                          { "train/huge", k % 2 ? INFINITY : -1e300, false } };
        MUST(c, !l->write(state, k, m, 4, &e), "write fails at step %lld: %s", (long long)k,
             td_check_error(&e));
        if (l->flush && k % 4 == 3) /* as before a checkpoint, in the middle of a run */
            MUST(c, !l->flush(state, &e), "flush fails: %s", td_check_error(&e));
    }
    /* a step may have no metrics at all */
    MUST(c, !l->write(state, to, NULL, 0, &e), "write fails without metrics: %s",
         td_check_error(&e));
    if (l->flush)
        MUST(c, !l->flush(state, &e), "flush fails: %s", td_check_error(&e));
    l->close(state);
}

void td_check_logger(td_check *c)
{
    const char *directory = td_check_directory(c);
    td_part     part = td_check_part(c);
    td_check_need_options(c);
    /* the second run resumes before the end of the first, as after a crash */
    write_steps(c, &part, directory, 1, 12, false);
    write_steps(c, &part, directory, 5, 14, true); /* steps 5 to 11 are repeated */
}

/* The lines of a text file; 0 for a binary one, where lines mean nothing. */
static int64_t lines_of(const char *path)
{
    size_t  size = 0;
    char   *text = td_file_read(path, &size, NULL);
    int64_t lines = 0;
    /* a zero byte: binary */
    for (size_t k = 0; text && !memchr(text, 0, size) && k < size; k++)
        lines += text[k] == '\n';
    free(text);
    return lines;
}

/* The sum of `of` over all files in a directory and below; negative if it is not a directory. */
static int64_t total_of(const char *directory, int64_t (*of)(const char *path))
{
    char  **names = NULL;
    int64_t total = 0, n = td_list_directory(directory, &names, NULL);
    for (int64_t k = 0; k < n; k++) {
        char   *path = td_path_join(directory, names[k]);
        int64_t within = path ? total_of(path, of) : 0;
        /* negative: not a directory, so a file */
        total += within >= 0 ? within : of(path);
        free(path);
    }
    if (n >= 0)
        td_free_names(names, n);
    return n < 0 ? -1 : total;
}

/* With and without an interruption there must be equally many lines: repeated ones are removed.
 * Formats differ too much to compare more. */
void td_check_logger_resumed(td_check *c)
{
    const char *whole = td_check_directory(c), *twice = td_check_directory(c);
    td_part     part = td_check_part(c);
    int64_t     want, have;
    td_check_need_options(c);
    write_steps(c, &part, whole, 1, 14, false);
    /* counted only now, when the logger is closed: it may write late */
    want = total_of(whole, lines_of);
    if (!want)
        td_check_skip(c, "it writes no text files in the directory of the run");
    /* killed after step 8, with the last checkpoint after step 4 */
    write_steps(c, &part, twice, 1, 9, false);
    write_steps(c, &part, twice, 5, 14, true);
    have = total_of(twice, lines_of);
    if (have != want)
        td_check_finding(c,
                         "resumed at step 5 after 8 steps, it has %lld lines, but an uninterrupted "
                         "run has %lld: remove repeated lines (td_logger_in.resume)",
                         (long long)have, (long long)want);
}

/* A checkpoint that follows `flush` promises that no metric before it is lost, even if the process
 * is killed: nothing may be left to `close`. */
void td_check_logger_flushed(td_check *c)
{
    const char      *directory = td_check_directory(c);
    td_part          part = td_check_part(c);
    const td_logger *l = (const void *)part.plugin;
    td_metric        m = { "train/loss", 3.5, false };
    td_error         e = { 0 };
    int64_t          flushed, closed;
    int              code;
    void            *state;
    td_check_need_options(c);
    state = logger_opened(c, &part, directory, 0, &code);
    MUST(c, !code && !l->write(state, 1, &m, 1, &e), "it cannot write: %s", td_check_error(&e));
    MUST(c, !l->flush || !l->flush(state, &e), "flush fails: %s", td_check_error(&e));
    /* a kill is imitated by comparing sizes: only bytes that `close` adds would be lost */
    flushed = total_of(directory, td_file_size);
    l->close(state);
    closed = total_of(directory, td_file_size);
    if (flushed != closed)
        td_check_finding(c,
                         "its files have %lld bytes after %s, but %lld after close: a run that is "
                         "killed would lose metrics from before its last checkpoint",
                         (long long)flushed, l->flush ? "flush" : "write (it has no flush)",
                         (long long)closed);
}

/* The number of files in a directory; negative if it is not a directory. */
static int64_t entries_of(const char *directory)
{
    char  **names = NULL;
    int64_t n = td_list_directory(directory, &names, NULL);
    if (n >= 0)
        td_free_names(names, n);
    return n;
}

/* Open the logger in a directory that does not exist, and write: the first negative code, 0 if all
 * of it succeeds. */
static int write_nowhere(td_check *c, const td_part *part, const char *file)
{
    const td_logger *l = (const void *)part->plugin;
    td_metric        m = { "train/loss", 3.5, false };
    td_error         e = { 0 };
    int              code;
    void            *state = logger_opened(c, part, file, 0, &code);
    /* any of the three may report it, as files are often opened late */
    if (code)
        return code;
    code = l->write(state, 1, &m, 1, &e);
    if (!code && l->flush)
        code = l->flush(state, &e);
    l->close(state);
    if (code)
        td_check_failure(c, "write or flush", code, &e);
    return code;
}

void td_check_logger_nowhere(td_check *c)
{
    const char *directory = td_check_directory(c);
    td_part     part = td_check_part(c);
    char       *file = td_arena_print(c->arena, "%s/file", directory);
    FILE       *f = fopen(file, "w");
    bool        writes;

    td_check_need_options(c);
    MUST(c, f, "cannot write to the directory of the test");
    fclose(f);
    write_steps(c, &part, directory, 1, 3, false);
    /* one that writes elsewhere, or nowhere at all, has nothing to report; `file` is one entry */
    writes = entries_of(directory) > 1;
    if (!write_nowhere(c, &part, file) && writes)
        td_check_finding(c, "it writes to the directory of the run, but if that is a file, open, "
                            "write and flush all return 0: metrics would be lost silently");
}

/* A short run: opened, written, closed. */
static void log_run(td_check *c, void *argument)
{
    write_steps(c, argument, c->collected, 1, 4, false);
}

void td_check_logger_leak(td_check *c)
{
    td_part part = td_check_part(c);
    td_check_need_options(c);
    c->collected = (void *)(uintptr_t)td_check_directory(c);
    td_check_leak(c, "opening, writing and closing", log_run, &part);
}
