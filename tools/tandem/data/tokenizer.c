/* tokenizer.c - `tandem data train-tokenizer`: trains the config's tokenizer on the text of its
 * data.
 *
 * A tokenizer plugin trains on files, a data plugin hands out documents; so all documents are
 * written to a scratch file first. */
#include "data/tokenizer.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "plugin/hook.h"
#include "tandem/files.h"
#include "work.h"

enum {
    LARGEST_VOCABULARY = 1 << 24, /* as for model.vocab_size */
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

/* Prints nothing in the first two seconds: a small corpus needs no progress line. */
static void report(lines *l, bool last)
{
    if (last ? !l->reported : td_now() - l->start < 2)
        return;
    l->reported = true;
    td_log_progress(l->log, last, "reading text: %lld documents, %.1f MB", (long long)l->documents,
                    1e-6 * (double)l->bytes);
}

/* Writes the document unchanged, including its newlines: a tokenizer trains on lines, not on
 * documents. */
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

/* Creates a file in the directory of `out`, where there must be space anyway, and unlinks it at
 * once, so that no failure or signal leaves it behind. */
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
        td_fail(error, TD_EIO, "cannot write the text to train on beside '%s' (--out): %s", out,
                strerror(errno));
        if (fd >= 0) /* fdopen failed, so the descriptor is still ours */
            close(fd);
    }
    return f;
}

static int write_text(td_session *w, const char *out, FILE *f, td_error *error)
{
    const td_data *d = (const void *)w->x->data.plugin;
    lines          l = { .file = f, .log = w->log, .start = td_now() };
    int code = TD_HOOK(d, each_document, w->x->data.config, w->services, write_document, &l, error);
    report(&l, true);
    /* Prefers the disk's error to that of the data plugin, which only saw the callback fail. */
    if (fflush(f) || ferror(f))
        td_fail(error, TD_EIO, "cannot write the text to train on beside '%s': %s", out,
                strerror(errno));
    if (!code && !error->code && !l.documents)
        td_fail(error, TD_ECONFIG, "the data has no text to train a tokenizer on");
    return td_failed(error, code);
}

/* ---- a sign of life -------------------------------------------------------------------------- */

/* A tokenizer's training reports nothing until it is done, which may take minutes: a thread
 * prints the elapsed time. */
typedef struct pulse {
    pthread_t       thread;
    pthread_mutex_t lock;
    pthread_cond_t  ended;
    td_journal     *log;
    bool            started, end;
} pulse;

static void *beat(void *arg)
{
    pulse *p = arg;
    double start = td_now();
    pthread_mutex_lock(&p->lock);
    while (!p->end) {
        struct timespec next;
        clock_gettime(CLOCK_REALTIME, &next);
        next.tv_sec += 1;
        pthread_cond_timedwait(&p->ended, &p->lock, &next);
        /* nothing in the first two seconds, as above */
        if (!p->end && td_now() - start > 2)
            td_log_progress(p->log, false, "training the tokenizer: %.0f s", td_now() - start);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* Without the thread only the sign of life is missing. */
static void start_pulse(pulse *p, td_journal *log)
{
    *p = (pulse){ .log = log };
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->ended, NULL);
    p->started = !pthread_create(&p->thread, NULL, beat, p);
}

static void end_pulse(pulse *p)
{
    pthread_mutex_lock(&p->lock);
    p->end = true;
    pthread_cond_signal(&p->ended);
    pthread_mutex_unlock(&p->lock);
    if (p->started)
        pthread_join(p->thread, NULL);
    pthread_cond_destroy(&p->ended);
    pthread_mutex_destroy(&p->lock);
}

/* ---- training -------------------------------------------------------------------------------- */

static int train_on(td_session *w, const char *const *files, size_t count, int64_t size,
                    const char *out, td_error *error)
{
    const td_tokenizer *t = (const void *)w->x->tokenizer.plugin;
    td_train_in         in = { files, count, size, out };
    pulse               p;
    int                 code;
    start_pulse(&p, w->log);
    code = TD_HOOK(t, train, w->x->tokenizer.config, &in, w->services, error);
    end_pulse(&p);
    return code;
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
    /* The name under /proc is the file's only one. */
    snprintf(name, sizeof name, "/proc/self/fd/%d", fileno(f));
    code = write_text(w, out, f, error);
    if (!code)
        code = train_on(w, list, 1, size, out, error);
    fclose(f);
    return code;
}

/* SentencePiece would name neither the file nor the option, and take anything for text. */
static int check_readable(const char *path, td_error *error)
{
    int  fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool pointer = fd >= 0 && td_is_pointer_file(fd);
    if (fd < 0)
        return td_fail(error, TD_EIO, "cannot read '%s' of --files: %s", path, strerror(errno));
    close(fd);
    return pointer
               ? td_fail(error, TD_EFORMAT, "cannot read '%s' of --files: " TD_POINTER_ADVICE, path)
               : 0;
}

/* `files` is "a.txt,b.txt". Each file is opened here first, so that the message can name the
 * option. */
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
        else if (!(code = check_readable(p, error)))
            list[n++] = p;
    }
    if (!code && !n)
        code = td_fail(error, TD_ECONFIG, "--files is empty: name at least one file");
    if (!code)
        code = train_on(w, list, n, size, out, error);
    free(copy);
    return code;
}

/* ---- files that are not plain text ----------------------------------------------------------- */

static bool ends_with(const char *text, size_t n, const char *end)
{
    size_t m = strlen(end);
    return n >= m && !memcmp(text + n - m, end, m);
}

/* Whether one of "a.txt,b.jsonl.gz" must be read as data is: JSON Lines by their text, compressed
 * files unpacked. The tokenizer itself reads plain lines only. */
static bool needs_reader(const char *files)
{
    static const char *const suffixes[] = { ".jsonl", ".gz", ".zst" };
    for (const char *at = files; at && *at; at += strspn(at, ",")) {
        size_t n = strcspn(at, ",");
        for (size_t k = 0; k < sizeof suffixes / sizeof *suffixes; k++)
            if (ends_with(at, n, suffixes[k]))
                return true;
        at += n;
    }
    return false;
}

/* As an override: data = { plugin = "text"; sources = ( .. ) }. Other keys of a config's data, such
 * as the name of the text's key, stay. */
static void print_sources(const char *files, td_text *out)
{
    td_text_print(out, "data.sources=({name=\"files\";files=[\"");
    for (const char *p = files; *p; p++) {
        if (*p == ',')
            td_text_print(out, "\",\"");
        else
            td_text_print(out, "%s%c", *p == '"' || *p == '\\' ? "\\" : "", *p);
    }
    td_text_print(out, "\"];})");
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
    { "--vocab-size", "N",
      "number of pieces (default: model.vocab_size, or 8000 without a model)" },
    { "--out", "FILE", "write the model to FILE" },
    { "--files", "FILE,FILE",
      "train on these files instead of the data: plain text, or JSON Lines with the key data.text; "
      "also .gz and .zst" },
    { NULL, NULL, NULL },
};

const td_usage td_usage_data_train_tokenizer = {
    .name = "data train-tokenizer",
    .arguments = "--out M.model [--vocab-size N]",
    .brief = "Train the config's tokenizer on the text of its data.",
    .example = "tandem data train-tokenizer -c run.cfg --vocab-size 8000 --out m.model",
    .flags = flags,
    .config = true,
    .notes =
        "Options of the model are keys of the config: tokenizer.type, character_coverage, "
        "split_digits, byte_fallback, whitespace_pieces, symbols. `tandem plugins show tokenizer "
        "sentencepiece` explains them.\n",
};

/* The model must have the same number of embeddings. */
static void warn_of_model(const td_session *w, int64_t size)
{
    int64_t rows;
    if (td_config_get_int(w->x->config, "model.vocab_size", &rows) && rows < size)
        td_log_line(
            w->log, TD_LOG_WARN,
            "model.vocab_size = %lld is less than the %lld pieces of this tokenizer: set it "
            "to %lld",
            (long long)rows, (long long)size, (long long)size);
}

static int64_t default_size(const td_session *w)
{
    int64_t rows;
    return td_config_get_int(w->x->config, "model.vocab_size", &rows) && rows >= 2 ? rows : 8000;
}

int td_data_train_tokenizer(td_tool *tool, int argc, char **argv)
{
    const char *files, *out;
    td_session *w;
    td_error    e = { 0 };
    td_text     sources = { 0 };
    int64_t     size;
    bool        reader;
    int         code;

    if (!td_tool_parse(tool, &td_usage_data_train_tokenizer, argc, argv, &code))
        return code;
    files = td_tool_option(tool, "--files");
    out = td_tool_option(tool, "--out");
    if (!out || !*out)
        return td_tool_usage_error(tool, "--out M.model is missing");
    if (!td_tool_integer(tool, "--vocab-size", 0, 2, LARGEST_VOCABULARY, &size))
        return TD_EXIT_USAGE;
    reader = files && needs_reader(files);
    if (reader && tool->n_overrides + 3 > TD_ARGUMENTS) /* the list ends with NULL */
        return td_tool_usage_error(tool, "too many arguments with --files");
    if (reader) {
        print_sources(files, &sources);
        tool->overrides[tool->n_overrides++] = "data.plugin=text";
        tool->overrides[tool->n_overrides++] = td_text_get(&sources);
    }
    /* With --files the config needs no data. */
    w = td_work_open(tool, TD_NEED_TOKENIZER | (files && !reader ? 0u : TD_NEED_DATA), &code);
    td_text_free(&sources);
    if (!w)
        return code;
    size = size ? size : default_size(w);
    warn_of_model(w, size);
    if (!access(out, F_OK)) /* configs may name it */
        td_log_line(w->log, TD_LOG_WARN, "--out '%s' exists, and will be replaced", out);
    code = make_tokenizer(w, reader ? NULL : files, size, out, &e) ? td_tool_fail(tool, &e)
                                                                   : TD_EXIT_OK;
    if (!code)
        printf("%s\n", out);
    td_session_close(w);
    return code;
}
