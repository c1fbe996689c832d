/* tokenizer.c - `tandem data train-tokenizer`: trains the config's tokenizer on the text of its
 * data.
 *
 * A tokenizer plugin trains on files, a data plugin hands out documents; between the two lies a
 * scratch file that all documents are written to. */
#include "data/tokenizer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "work.h"

enum {
    LARGEST_VOCABULARY = 1 << 24, /* as of model.vocab_size */
    MOST_FILES = 64               /* of --files */
};

/* ---- the text of the data -------------------------------------------------------------------- */

typedef struct lines {
    FILE       *file;
    td_journal *log;
    double      start;
    int64_t     documents, bytes;
    bool        reported;
} lines;

/* Nothing in the first two seconds: a small corpus needs no progress line. */
static void report(lines *l, bool last)
{
    if (last ? !l->reported : td_now() - l->start < 2)
        return;
    l->reported = true;
    td_log_progress(l->log, last, "reading text: %lld documents, %.1f MB", (long long)l->documents,
                    1e-6 * (double)l->bytes);
}

/* The document as it is. Its own newlines stay: a tokenizer trains on lines, not on documents. */
static int write_document(void *lines_, const char *text, size_t size)
{
    lines *l = lines_;
    fwrite(text, 1, size, l->file);
    putc('\n', l->file);
    l->documents++;
    l->bytes += (int64_t)size;
    report(l, false);
    return ferror(l->file) ? TD_EIO : 0;
}

/* A file in the directory of `out`, where there must be room anyway, and already unlinked: no
 * failure and no signal leaves it behind. */
static FILE *scratch(const char *out, td_error *error)
{
    char  path[4096];
    FILE *f = NULL;
    int   fd = -1;
    if ((size_t)snprintf(path, sizeof path, "%s.text.XXXXXX", out) >= sizeof path) {
        td_fail(error, TD_ECONFIG, "the path of --out is too long");
        return NULL;
    }
    if ((fd = mkostemp(path, O_CLOEXEC)) >= 0) {
        unlink(path);
        f = fdopen(fd, "w");
    }
    if (!f) {
        td_fail(error, TD_EIO, "cannot write '%s', the text to train on: %s", path,
                strerror(errno));
        if (fd >= 0) /* fdopen failed, and did not take it */
            close(fd);
    }
    return f;
}

static int write_text(td_session *w, const char *out, FILE *f, td_error *error)
{
    const td_data *d = (const void *)w->x->data.plugin;
    lines          l = { .file = f, .log = w->log, .start = td_now() };
    int code = d->each_document(w->x->data.config, w->services, write_document, &l, error);
    report(&l, true);
    /* The disk's error says more than the data plugin's, which only saw the callback fail. */
    if (fflush(f) || ferror(f))
        td_fail(error, TD_EIO, "cannot write the text to train on beside '%s': %s", out,
                strerror(errno));
    if (!code && !error->code && !l.documents)
        td_fail(error, TD_ECONFIG, "the data has no text to train a tokenizer on");
    return td_failed(error, code);
}

/* ---- training -------------------------------------------------------------------------------- */

static int train_on(td_session *w, const char *const *files, size_t count, int64_t size,
                    const char *out, td_error *error)
{
    const td_tokenizer *t = (const void *)w->x->tokenizer.plugin;
    td_train_in         in = { files, count, size, out };
    return t->train(w->x->tokenizer.config, &in, w->services, error);
}

static int train_on_data(td_session *w, int64_t size, const char *out, td_error *error)
{
    const td_data *d = (const void *)w->x->data.plugin;
    char           name[64];
    const char    *list[] = { name };
    FILE          *f;
    int            code;
    if (!d->each_document)
        return td_fail(error, TD_ECONFIG,
                       "data '%s' has no text to train a tokenizer on: name text files with "
                       "--files",
                       d->plugin.name);
    if (!(f = scratch(out, error)))
        return error->code;
    /* The file has no other name. */
    snprintf(name, sizeof name, "/proc/self/fd/%d", fileno(f));
    code = write_text(w, out, f, error);
    if (!code)
        code = train_on(w, list, 1, size, out, error);
    fclose(f);
    return code;
}

/* `files` is "a.txt,b.txt". Each is tried here first, so that the message can name the option. */
static int train_on_files(td_session *w, const char *files, int64_t size, const char *out,
                          td_error *error)
{
    const char *list[MOST_FILES];
    size_t      n = 0;
    char       *rest = NULL, *copy = strdup(files);
    int         code = copy ? 0 : td_fail(error, TD_ENOMEM, "out of memory for --files");
    for (char *p = copy ? strtok_r(copy, ",", &rest) : NULL; p && !code;
         p = strtok_r(NULL, ",", &rest)) {
        if (n == MOST_FILES)
            code = td_fail(error, TD_ECONFIG, "--files takes at most %d files", MOST_FILES);
        else if (access(p, R_OK)) /* SentencePiece would name neither the file nor the option */
            code = td_fail(error, TD_EIO, "cannot read '%s' of --files: %s", p, strerror(errno));
        else
            list[n++] = p;
    }
    if (!code && !n)
        code = td_fail(error, TD_ECONFIG, "--files names no file");
    if (!code)
        code = train_on(w, list, n, size, out, error);
    free(copy);
    return code;
}

static int make_tokenizer(td_session *w, const char *files, int64_t size, const char *out,
                          td_error *error)
{
    const td_tokenizer *t = (const void *)w->x->tokenizer.plugin;
    if (!t->train)
        return td_fail(error, TD_ECONFIG, "tokenizer '%s' needs no training", t->plugin.name);
    return files ? train_on_files(w, files, size, out, error) : train_on_data(w, size, out, error);
}

/* ---- the command ----------------------------------------------------------------------------- */

static const td_flag flags[] = {
    { "--vocab-size", "N", "number of pieces (default 8000)" },
    { "--out", "FILE", "write the model to FILE" },
    { "--files", "FILE,FILE", "train on these plain text files instead of the data" },
    { NULL, NULL, NULL },
};

const td_usage td_usage_data_train_tokenizer = {
    .name = "data train-tokenizer",
    .arguments = "--out M.model [--vocab-size N]",
    .brief = "Train the config's tokenizer on the text of its data.",
    .example = "tandem data train-tokenizer -c run.cfg --vocab-size 8000 --out m.model",
    .flags = flags,
    .config = true,
};

int td_data_train_tokenizer(td_tool *tool, int argc, char **argv)
{
    const char *files, *out;
    td_session *w;
    td_error    e = { 0 };
    int64_t     size;
    int         code;

    if (!td_tool_parse(tool, &td_usage_data_train_tokenizer, argc, argv, &code))
        return code;
    files = td_tool_option(tool, "--files");
    out = td_tool_option(tool, "--out");
    if (!out || !*out)
        return td_tool_usage_error(tool, "--out M.model is missing");
    if (!td_tool_integer(tool, "--vocab-size", 8000, 2, LARGEST_VOCABULARY, &size))
        return TD_EXIT_USAGE;
    /* With --files the config needs no data. */
    w = td_work_open(tool, TD_NEED_TOKENIZER | (files ? 0u : TD_NEED_DATA), &code);
    if (!w)
        return code;
    code = make_tokenizer(w, files, size, out, &e) ? td_tool_fail(tool, &e) : TD_EXIT_OK;
    if (!code)
        printf("%s\n", out);
    td_session_close(w);
    return code;
}
