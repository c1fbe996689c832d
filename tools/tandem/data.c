/* data.c - `tandem data`: make the project's own corpus, prepare token shards, show records.
 *
 * A record, as `tandem data show` prints it:
 *
 *     record 0 of 'arithmetic'
 *       given (8): 4 + 67 =
 *       predicted (8):  121\n13
 *       encoder_ids: 55 35 46 35 57 58 35 64
 *       ..                                    every array that the architecture makes from it
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "base/arena.h"
#include "base/file.h"
#include "data/corpus.h"
#include "data/tokenizer.h"
#include "plugin/hook.h"
#include "work.h"

#define LARGEST ((int64_t)1 << 40) /* limit for seeds, bytes and record numbers */

/* ---- make-corpus ----------------------------------------------------------------------------- */

static const td_flag corpus_flags[] = {
    { "--out", "DIR", "write the corpus to DIR" },
    { "--seed", "N", "seed; each gives a different corpus (default 1)" },
    { "--bytes", "N", "total bytes of training text, at least 10000 (default 4000000)" },
    { "--force", NULL, "replace existing files" },
    { NULL, NULL, NULL },
};

static const td_usage corpus_usage = {
    .name = "data make-corpus",
    .arguments = "--out DIR",
    .brief = "Generate a small corpus of six domains, each with a held-out file, from a seed.",
    .example = "tandem data make-corpus --out corpus --seed 1 --bytes 4000000",
    .flags = corpus_flags,
};

static int make_corpus(td_tool *tool, int argc, char **argv)
{
    const char *out;
    int         code;
    int64_t     seed, bytes;
    td_error    error = { 0 };

    if (!td_tool_parse(tool, &corpus_usage, argc, argv, &code))
        return code;
    out = td_tool_option(tool, "--out");
    if (!out || !*out)
        return td_tool_usage_error(tool, "--out DIR is missing");
    /* With less than 10000 bytes some domain would have no document. */
    if (!td_tool_integer(tool, "--seed", 1, 0, LARGEST, &seed) ||
        !td_tool_integer(tool, "--bytes", 4000000, 10000, LARGEST, &bytes))
        return TD_EXIT_USAGE;
    if (td_corpus_write(out, (uint64_t)seed, bytes, td_tool_option(tool, "--force"), &error))
        return td_tool_fail(tool, &error);
    printf("%s\n", out);
    return TD_EXIT_OK;
}

/* ---- prepare --------------------------------------------------------------------------------- */

/* The directory of the shards, for scripts. */
static void show_cache(const td_tool *tool, const char *run_directory)
{
    char   *cache = td_path_join(run_directory, "cache");
    json_t *j = cache && tool->json ? json_pack("{s:s}", "cache", cache) : NULL;
    if (j) {
        json_dumpf(j, stdout, 0);
        putchar('\n');
    } else if (cache)
        puts(cache);
    json_decref(j);
    free(cache);
}

static const td_usage prepare_usage = {
    .name = "data prepare",
    .arguments = "",
    .brief =
        "Tokenize the config's data into shards under run.dir/cache. Complete shards are kept; "
        "unfinished ones are started again.",
    .example = "tandem data prepare -c run.cfg",
    .config = true,
    .json = true,
};

static int prepare(td_tool *tool, int argc, char **argv)
{
    td_session *w;
    td_error    e = { 0 };
    int         code;

    if (!td_tool_parse(tool, &prepare_usage, argc, argv, &code))
        return code;
    w = td_work_open(tool, TD_NEED_TOKENIZER | TD_NEED_DATA, &code);
    if (!w)
        return code;
    /* No model or loss is needed: shards depend only on the tokenizer and the text. */
    code = td_session_prepare_data(w, &e);
    if (!code)
        show_cache(tool, w->x->run.dir);
    code = code ? td_tool_fail(tool, &e) : TD_EXIT_OK;
    td_session_close(w);
    return code;
}

/* ---- show ------------------------------------------------------------------------------------ */

/* The whole array on one line, however long, so that it can be compared and extracted. */
static void show_array(const td_array *a)
{
    int64_t n = 1;
    for (int32_t k = 0; k < a->rank; k++)
        n *= a->dim[k];
    printf("  %s:", a->name);
    for (int64_t i = 0; i < n; i++)
        if (a->dtype == TD_F32)
            printf(" %g", (double)((const float *)a->data)[i]);
        else
            printf(" %d", ((const int32_t *)a->data)[i]);
    putchar('\n');
}

/* Names ids that have no text, as in docs/config.md: sentinels "<0>", modes "[R]", and the end of a
 * text, "</s>". False for every other id. */
static bool mark_of(const td_special *s, int32_t id, char out[32])
{
    /* Sentinel k has the id sentinel + k * sentinel_step; the step may be negative. */
    int64_t k = s->sentinels && s->sentinel_step ? ((int64_t)id - s->sentinel) / s->sentinel_step
                                                 : -1;
    if (k >= 0 && k < s->sentinels && s->sentinel + k * s->sentinel_step == id)
        return snprintf(out, 32, "<%lld>", (long long)k) > 0;
    if (id >= 0 && id == s->eos)
        return snprintf(out, 32, "</s>") > 0;
    for (int m = 0; m < 3; m++)
        if (id >= 0 && id == s->mode[m])
            return snprintf(out, 32, "[%c]", "RSX"[m]) > 0;
    return false;
}

/* Prints the tokens between two marks as text on one line, without control characters, which could
 * upset the terminal. */
static void show_piece(const td_session *w, const int32_t *ids, int64_t count)
{
    const td_tokenizer *t = (const void *)w->x->tokenizer.plugin;
    td_error            e = { 0 };
    /* With a room of 0 the tokenizer only returns the number of bytes. */
    int64_t             n = TD_HOOK(t, decode, w->tokenizer, ids, count, NULL, 0, &e);
    char               *text = n > 0 ? malloc((size_t)n) : NULL;
    if (text)
        TD_HOOK(t, decode, w->tokenizer, ids, count, text, n, &e);
    for (int64_t i = 0; text && i < n; i++)
        if (text[i] == '\n' || text[i] == '\r')
            fputs(text[i] == '\n' ? "\\n" : "\\r", stdout);
        else
            putchar((unsigned char)text[i] < 32 ? '?' : text[i]);
    free(text);
}

/* Runs of ordinary tokens are decoded together: a character may span several tokens. */
static void show_text(const td_session *w, const char *name, const int32_t *ids, int64_t count)
{
    int64_t from = 0;
    printf("  %s (%lld): ", name, (long long)count);
    /* At i = count there is no mark, only the last run of tokens to print. */
    for (int64_t i = 0; i <= count; i++) {
        char mark[32] = "";
        if (i < count && !mark_of(&w->special, ids[i], mark))
            continue;
        if (from < i)
            show_piece(w, ids + from, i - from);
        fputs(mark, stdout);
        from = i + 1;
    }
    putchar('\n');
}

/* Prints a record as training reads it: split by the loss, laid out by the architecture. */
static int show_one(td_session *w, uint64_t index, td_arena *arena, td_batch *b, td_error *error)
{
    const td_data  *d = (const void *)w->x->data.plugin;
    td_arrange_spec f = td_session_feed(w);
    td_example      x;
    int             code = td_arrange_fetch(&f, index, arena, &x, error);
    /* both steps of training, so that what is shown is what a model reads */
    if (!code)
        code = td_arrange_examples(&f, &x, 1, b, error);
    if (code)
        return code;
    printf("record %llu of '%s'\n", (unsigned long long)index,
           TD_HOOK(d, source_name, w->data, x.source));
    show_text(w, "given", x.given, x.n_given);
    show_text(w, "predicted", x.predicted, x.n_predicted);
    for (int32_t k = 0; k < b->count; k++)
        show_array(&b->at[k]);
    return 0;
}

/* The arena holds one record at a time, however many there are to show. */
static int show_all(td_session *w, int64_t index, int64_t count, td_error *error)
{
    td_arena *arena = td_arena_new();
    td_batch *b = td_batch_new();
    int       code = arena && b ? td_session_open_data(w, error)
                                : td_fail(error, TD_ENOMEM, "out of memory for a record");
    /* Past the end of an epoch records continue, as in training. */
    for (int64_t i = 0; i < count && !code; i++) {
        td_arena_reset(arena);
        code = show_one(w, (uint64_t)(index + i), arena, b, error);
    }
    td_batch_free(b);
    td_arena_free(arena);
    return code;
}

static const td_flag show_flags[] = { { "--index", "N", "first record (default 0)" },
                                      { "--count", "K", "number of records (default 1)" },
                                      { NULL, NULL, NULL } };

static const td_usage show_usage = {
    .name = "data show",
    .arguments = "[--index N] [--count K]",
    .brief = "Show training records as the model sees them: the given and the predicted text, then "
             "every array of the batch.",
    .example = "tandem data show -c run.cfg --index 5",
    .flags = show_flags,
    .config = true,
};

static int show(td_tool *tool, int argc, char **argv)
{
    td_session *w;
    td_error    e = { 0 };
    int64_t     index, count;
    int         code;

    if (!td_tool_parse(tool, &show_usage, argc, argv, &code))
        return code;
    if (!td_tool_integer(tool, "--index", 0, 0, LARGEST, &index) ||
        !td_tool_integer(tool, "--count", 1, 1, LARGEST, &count))
        return TD_EXIT_USAGE;
    /* a record is split by the loss, and its text printed by the tokenizer */
    w = td_work_open(tool, TD_NEED_MODEL | TD_NEED_LOSS | TD_NEED_TOKENIZER | TD_NEED_DATA, &code);
    if (!w)
        return code;
    code = show_all(w, index, count, &e) ? td_tool_fail(tool, &e) : TD_EXIT_OK;
    td_session_close(w);
    return code;
}

/* ---- the command ----------------------------------------------------------------------------- */

static const td_word words[] = {
    { "make-corpus", NULL, "generate the embedded corpus, or a larger one, from a seed",
      &corpus_usage, make_corpus },
    { "train-tokenizer", NULL, "train the config's tokenizer on its data",
      &td_usage_data_train_tokenizer, td_data_train_tokenizer },
    { "prepare", NULL, "tokenize a config's data into shards, in parallel", &prepare_usage,
      prepare },
    { "show", NULL, "show records of a config's data as the model sees them", &show_usage, show },
    { NULL, NULL, NULL, NULL, NULL },
};

const td_usage td_usage_data = { .name = "data",
                                 .brief = "Work with text, tokenizers and token shards.",
                                 .words = words };

/* Each word has its own options, so this lists only the words. */
static void overview(FILE *out)
{
    fprintf(out, "usage: tandem data COMMAND ..\n\n%s\n\n", td_usage_data.brief);
    for (const td_word *w = words; w->name; w++)
        fprintf(out, "  %-18s %s\n", w->name, w->brief);
    fputs("\nSee `tandem data COMMAND --help` for the options of a command.\n", out);
}

int td_command_data(td_tool *tool, int argc, char **argv)
{
    if (!argc) {
        overview(stderr);
        return TD_EXIT_USAGE;
    }
    if (!strcmp(argv[0], "--help") || !strcmp(argv[0], "-h")) {
        overview(stdout);
        return TD_EXIT_OK;
    }
    for (const td_word *w = words; w->name; w++)
        if (!strcmp(argv[0], w->name)) {
            tool->command = w->usage->name; /* "data show", for messages */
            return w->run(tool, argc - 1, argv + 1);
        }
    tool->usage = &td_usage_data;
    return td_tool_no_word(tool, argv[0]);
}
