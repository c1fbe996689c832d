/* examples.c - turns a line of JSON into examples. */
#include "instructions.h"

#include <stdlib.h>
#include <string.h>

/* ---- building -------------------------------------------------------------------------------- */

void examples_clear(examples *e)
{
    e->size = e->n_spans = e->count = 0;
    e->failed = false;
}

void examples_free(examples *e)
{
    free(e->text);
    free(e->spans);
    free(e->ends);
    *e = (examples){ 0 };
}

/* Grows an array of capacity `*room` to hold `need` items. On failure it is unchanged. */
static bool reserve(void **at, size_t *room, size_t need, size_t each)
{
    if (need <= *room)
        return true;
    size_t larger = need * 2 + 64;
    void  *moved = larger > need ? reallocarray(*at, larger, each) : NULL;
    if (!moved)
        return false;
    *at = moved;
    *room = larger;
    return true;
}

void examples_text(examples *e, const char *text, size_t size)
{
    /* `failed` stays set, so that callers check it only once, at the end */
    e->failed = e->failed || !reserve((void **)&e->text, &e->room, e->size + size, 1);
    if (e->failed || !size)
        return;
    memcpy(e->text + e->size, text, size);
    e->size += size;
}

void examples_span(examples *e, size_t begin)
{
    e->failed = e->failed ||
                !reserve((void **)&e->spans, &e->span_room, e->n_spans + 1, sizeof *e->spans);
    if (!e->failed)
        e->spans[e->n_spans++] = (span){ begin, e->size - begin };
}

void examples_end(examples *e)
{
    e->failed = e->failed ||
                !reserve((void **)&e->ends, &e->end_room, e->count + 1, sizeof *e->ends);
    if (!e->failed)
        e->ends[e->count++] = e->n_spans;
}

/* ---- keys ------------------------------------------------------------------------------------ */

const char *string_of(const json_t *object, const char *key, const char *what, size_t *size,
                      char why[OBJECT_WHY])
{
    const json_t *value = json_object_get(object, key);
    const char   *text = json_string_value(value);
    *size = json_string_length(value);
    if (!text)
        snprintf(why, OBJECT_WHY, "%s%s'%.60s'%s", what, value ? "the value of " : "no key ", key,
                 value ? " is not a string" : "");
    return text;
}

/* The keys of well-known formats. `more`: optional text after the inputs. */
typedef struct layout {
    const char *inputs, *more, *targets;
} layout;

static const layout layouts[] = {
    { "inputs", NULL, "targets" },       /* FLAN, T0 */
    { "prompt", NULL, "completion" },    /* the format of fine-tuning services */
    { "instruction", "input", "output" } /* Alpaca */
};

enum { LAYOUTS = sizeof layouts / sizeof *layouts };

static bool has(const json_t *object, const char *key) { return json_object_get(object, key); }

/* The layout of an object: the one set by the options, or the first known one whose keys are both
 * present. */
static bool find_layout(const instructions_config *c, const json_t *object, layout *out)
{
    if (*c->inputs) {
        *out = (layout){ c->inputs, NULL, c->targets };
        return true;
    }
    for (size_t k = 0; k < LAYOUTS; k++)
        if (has(object, layouts[k].inputs) && has(object, layouts[k].targets)) {
            *out = layouts[k];
            return true;
        }
    return false;
}

/* Writes the inputs and, after an empty line, the text that they refer to. */
static bool read_inputs(const json_t *object, const layout *l, examples *out, char why[OBJECT_WHY])
{
    size_t      size, begin = out->size;
    const char *inputs = string_of(object, l->inputs, "", &size, why), *more = NULL;
    if (!inputs)
        return false;
    examples_text(out, inputs, size);
    /* often "" or null, which adds nothing */
    if (l->more && has(object, l->more) && !json_is_null(json_object_get(object, l->more))) {
        more = string_of(object, l->more, "", &size, why);
        if (!more)
            return false;
        examples_text(out, "\n\n", size ? 2 : 0);
        examples_text(out, more, size);
    }
    examples_span(out, begin);
    return true;
}

static bool read_pair(const instructions_config *c, const json_t *object, const layout *l,
                      examples *out, char why[OBJECT_WHY])
{
    size_t      size, begin;
    const char *targets;
    if (!read_inputs(object, l, out, why))
        return false;
    begin = out->size;
    /* without eos an encoder would have nothing to read */
    if (!begin && c->eos != EOS_BOTH) {
        snprintf(why, OBJECT_WHY, "'%.60s' is empty, and data.eos appends nothing to it",
                 l->inputs);
        return false;
    }
    targets = string_of(object, l->targets, "", &size, why);
    if (!targets)
        return false;
    if (!size) {
        snprintf(why, OBJECT_WHY, "'%.60s' is empty: there is nothing to train on", l->targets);
        return false;
    }
    examples_text(out, targets, size);
    examples_span(out, begin);
    examples_end(out);
    return true;
}

static bool no_known_key(json_t *object, char why[OBJECT_WHY])
{
    snprintf(why, OBJECT_WHY,
             "it has neither 'inputs' and 'targets', nor 'prompt' and 'completion', nor "
             "'instruction' and 'output', nor 'messages'");
    object_list_keys(object, why);
    return false;
}

bool examples_read(const instructions_config *c, json_t *object, examples *out,
                   char why[OBJECT_WHY])
{
    layout      l;
    const char *messages = *c->messages ? c->messages : "messages";
    examples_clear(out);
    /* if the options name keys, only these are read */
    if (!*c->messages && find_layout(c, object, &l))
        return read_pair(c, object, &l, out, why) && !out->failed;
    if (*c->messages || has(object, messages)) {
        const json_t *list = json_object_get(object, messages);
        if (list)
            return chat_read(c, list, out, why) && !out->failed;
        snprintf(why, OBJECT_WHY, "no key '%.60s'", messages);
        object_list_keys(object, why);
        return false;
    }
    return no_known_key(object, why);
}

/* ---- files ----------------------------------------------------------------------------------- */

/* The state of a walk over the files of a part. */
typedef struct walk {
    const instructions_config *config;
    const data_source         *source;
    int                        part;
    bad_lines                  bad;
    document_visitor          *visitor;
    void                      *arg;
    int64_t                    number; /* number of lines with examples, over all files */
    examples                   examples;
    td_error                  *error;
} walk;

/* Passes on an example as a document, whose pieces are alternately given and predicted. */
static int visit(walk *w, const span *spans, size_t count)
{
    piece few[8], *pieces = count <= 8 ? few : calloc(count, sizeof *pieces);
    int   code;
    if (!pieces)
        return td_fail(w->error, TD_ENOMEM, "out of memory for an example of %zu turns", count);
    for (size_t k = 0; k < count; k++)
        pieces[k] = (piece){ .text = w->examples.text + spans[k].begin,
                             .size = spans[k].size,
                             .end = k % 2 ? w->config->eos != EOS_NONE
                                          : w->config->eos == EOS_BOTH };
    code = w->visitor(w->arg, pieces, count);
    if (pieces != few)
        free(pieces);
    return code;
}

/* Holds out whole lines, not examples, so that all turns of a chat belong to the same part. */
static int visit_line(walk *w)
{
    const examples *e = &w->examples;
    int             code = 0;
    if (!source_has(w->source, w->part, w->number++))
        return 0;
    for (size_t k = 0; k < e->count && !code; k++) {
        size_t first = k ? e->ends[k - 1] : 0;
        code = visit(w, e->spans + first, e->ends[k] - first);
    }
    return code;
}

/* Those that the options name, and all that may count without them. */
static json_t *read_object(const instructions_config *c, const char *line, size_t size,
                           char why[OBJECT_WHY])
{
    const char *const keys[] = { c->inputs, c->targets,    c->messages, c->role,      c->content,
                                 "inputs",  "targets",     "prompt",    "completion", "input",
                                 "output",  "instruction", "messages",  NULL };
    _Static_assert(sizeof keys / sizeof *keys <= OBJECT_KEYS, "too many keys for object_read");
    return object_read(line, size, keys, why);
}

static int read_line(walk *w, const lines *l, const char *line, size_t size)
{
    char    why[OBJECT_WHY] = "";
    json_t *object;
    bool    fine;
    if (object_blank(line, size)) {
        object_skip_blank(&w->bad, l);
        return 0;
    }
    object = read_object(w->config, line, size, why);
    fine = object && examples_read(w->config, object, &w->examples, why);
    json_decref(object);
    /* a lack of memory says nothing about the line, so it is not skipped as a bad one */
    if (w->examples.failed)
        return td_fail(w->error, TD_ENOMEM, "%s:%lld: out of memory for a line of %zu bytes",
                       lines_path(l), (long long)lines_number(l), size);
    return fine ? visit_line(w)
                : object_skip(&w->bad, l, lines_number(l), "an example", why, "", w->error);
}

static int read_file(walk *w, const char *path)
{
    const char *line;
    size_t      size;
    lines      *l = lines_open(path, w->error);
    int         code = l ? 0 : TD_EIO;
    if (l && lines_whole(l))
        code = td_fail(w->error, TD_ECONFIG,
                       "data source '%s': '%s' is running text: data 'instructions' reads .jsonl, "
                       "one example per line",
                       w->source->name, path);
    while (!code && (code = lines_next(l, &line, &size, w->error)) == 0)
        code = read_line(w, l, line, size);
    lines_close(l);
    return code == TD_EEND ? 0 : code;
}

int instructions_each(const void *config, const data_source *s, int part,
                      const td_services *services, int64_t *bad, document_visitor *visitor,
                      void *arg, td_error *error)
{
    glob_t files;
    walk   w = { .config = config,
                 .source = s,
                 .part = part,
                 .bad = { bad, services },
                 .visitor = visitor,
                 .arg = arg,
                 .error = error };
    int    code = source_files(s, part, services, &files, error);
    for (size_t i = 0; i < files.gl_pathc && !code; i++)
        code = read_file(&w, files.gl_pathv[i]);
    globfree(&files);
    examples_free(&w.examples);
    return code;
}
