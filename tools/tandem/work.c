/* work.c - from arguments to an engine and data. */
#include "work.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tandem/kind/comm.h"
#include "tandem/random.h"

bool td_work_open(td_work *w, td_tool *tool, unsigned needs, int *code)
{
    td_errors    errors = { 0 };
    td_registry *r = td_tool_registry(tool);
    char        *configs = td_tool_configs();
    td_error     e = { 0 };

    memset(w, 0, sizeof *w);
    w->tool = tool;
    *code = TD_EXIT_USAGE;
    if (r)
        w->x = td_experiment_open(r, tool->files, tool->n_files, tool->overrides, tool->n_overrides,
                                  configs, needs, &errors);
    free(configs);
    if (errors.count)
        fprintf(stderr, "%s\n", td_text_get(&errors.text));
    td_errors_free(&errors);
    if (!w->x)
        return false;
    w->pool = td_pool_new((int)w->x->threads, tool->log, &e);
    if (w->pool) {
        w->shipped = td_tool_shipped();
        td_pool_set_shipped(w->pool, w->shipped);
        w->services = td_pool_services(w->pool);
        return true;
    }
    *code = td_tool_fail(tool, &e);
    td_work_close(w);
    return false;
}

void td_work_close(td_work *w)
{
    if (w->data_opened)
        ((const td_data *)(const void *)w->x->data.plugin)->close(w->data);
    if (w->tokenizer_opened)
        ((const td_tokenizer *)(const void *)w->x->tokenizer.plugin)->close(w->tokenizer);
    td_engine_close(w->engine);
    td_pool_free(w->pool);
    free(w->shipped);
    td_experiment_close(w->x);
}

/* There is one process: a comm that connects more is refused, not half obeyed. */
static int check_alone(const td_work *w, td_error *error)
{
    const td_comm *c = (const void *)w->x->comm.plugin;
    void          *state = NULL;
    int            processes;
    if (c->open(w->x->comm.config, w->services, &state, error))
        return error->code ? error->code
                           : td_fail(error, TD_EIO, "comm '%s' cannot open", c->plugin.name);
    processes = c->size(state);
    c->close(state);
    return processes == 1
               ? 0
               : td_fail(error, TD_ECONFIG,
                         "comm '%s' connects %d processes; training on more than one is not "
                         "built yet",
                         c->plugin.name, processes);
}

int td_work_engine(td_work *w, td_error *error)
{
    td_engine_options o = { td_experiment_model(w->x), w->x->backend, w->services, w->tool->log,
                            false };
    if (check_alone(w, error))
        return error->code;
    w->engine = td_engine_open(&o, error);
    if (w->engine)
        return 0;
    return error->code
               ? error->code
               : td_fail(error, TD_EIO, "backend '%s' cannot open", w->x->backend.plugin->name);
}

/* ---- data ------------------------------------------------------------------------------------ */

static int64_t vocabulary(const td_work *w)
{
    return ((const td_architecture *)(const void *)w->x->model.plugin)
        ->vocab_size(w->x->model.config);
}

static int open_tokenizer(td_work *w, td_error *error)
{
    const td_tokenizer *t = (const void *)w->x->tokenizer.plugin;
    if (t->open(w->x->tokenizer.config, w->services, &w->tokenizer, error))
        return td_failed(error, TD_EIO);
    w->special = (td_special){ .pad = -1, .bos = -1, .eos = -1, .unk = -1, .mode = { -1, -1, -1 } };
    w->tokenizer_opened = true;
    t->special(w->tokenizer, &w->special);
    if (w->x->model.plugin && w->special.vocab_size > vocabulary(w))
        return td_fail(error, TD_ECONFIG,
                       "tokenizer '%s' has %d ids; model.vocab_size = %lld is too small for them",
                       t->plugin.name, w->special.vocab_size, (long long)vocabulary(w));
    return 0;
}

/* What an id stands for: its piece, or the text that it becomes. */
static int hash_id(const td_work *w, int32_t id, uint64_t *h, td_error *error)
{
    const td_tokenizer *t = (const void *)w->x->tokenizer.plugin;
    const char         *piece = t->piece ? t->piece(w->tokenizer, id) : NULL;
    int64_t n = piece ? (int64_t)strlen(piece) : t->decode(w->tokenizer, &id, 1, NULL, 0, NULL);
    char   *text = !piece && n > 0 ? malloc((size_t)n) : NULL;
    if (!piece && n > 0 && !text)
        return td_fail(error, TD_ENOMEM, "no memory for the %lld bytes of token %d", (long long)n,
                       (int)id);
    if (text)
        n = t->decode(w->tokenizer, &id, 1, text, n, NULL);
    uint64_t one = td_hash(td_random_stream(""), piece ? piece : text, n > 0 ? (size_t)n : 0);
    *h = td_random_bits(*h, one, (uint64_t)id);
    free(text);
    return 0;
}

/* Tells shards of different tokenizers apart: the name, and its own fingerprint or what every id
 * stands for. */
static int identify(const td_work *w, char out[64], td_error *error)
{
    const td_tokenizer *t = (const void *)w->x->tokenizer.plugin;
    uint64_t            h = 0;
    int                 code = t->fingerprint ? t->fingerprint(w->tokenizer, &h, error) : 0;
    for (int32_t id = 0; !t->fingerprint && !code && id < w->special.vocab_size; id++)
        code = hash_id(w, id, &h, error);
    snprintf(out, 64, "%.40s-%016llx", t->plugin.name, (unsigned long long)h);
    return code;
}

int td_work_tokenizer(td_work *w, td_error *error)
{
    int code = open_tokenizer(w, error);
    return code ? code : identify(w, w->tokenizer_id, error);
}

/* The data's `open` or, if it is only to prepare, its `prepare`. */
static int with_data(td_work *w, bool open, td_error *error)
{
    const td_data *d = (const void *)w->x->data.plugin;
    const td_loss *l = (const void *)w->x->loss.plugin;
    char          *cache = td_path_join(w->x->run.dir, "cache");
    td_data_in     in = { .services = w->services,
                          .tokenizer = (const void *)w->x->tokenizer.plugin,
                          .cache = cache,
                          .seed = (uint64_t)w->x->train.seed_data,
                          .length = w->x->train.length,
                          .held_out_length = w->x->evaluate.length };
    int            code = cache ? open_tokenizer(w, error)
                                : td_fail(error, TD_ENOMEM, "out of memory while opening the data");

    if (!code) {
        in.tokenizer_state = w->tokenizer;
        in.special = w->special;
        code = identify(w, w->tokenizer_id, error);
        in.tokenizer_id = w->tokenizer_id;
        if (l)
            in.length = l->bounds(w->x->loss.config, w->x->train.length).raw;
    }
    if (!code)
        code = td_make_directories(cache, error);
    if (!code && open) {
        code = d->open(w->x->data.config, &in, &w->data, error);
        w->data_opened = !code;
    } else if (!code && d->prepare)
        code = d->prepare(w->x->data.config, &in, error);
    free(cache);
    return code;
}

int td_work_data(td_work *w, td_error *error) { return with_data(w, true, error); }

int td_work_prepare(td_work *w, td_error *error) { return with_data(w, false, error); }

td_arrange_spec td_work_feed(const td_work *w)
{
    const td_experiment *x = w->x;
    return (td_arrange_spec){ x->model,
                              x->loss,
                              w->data_opened ? (const void *)x->data.plugin : NULL,
                              w->data,
                              w->special,
                              x->train.length,
                              x->train.batch,
                              x->train.micro_batch,
                              x->train.bucket,
                              x->train.pack,
                              (uint64_t)x->train.seed_data };
}

td_evaluate_spec td_work_evaluate(const td_work *w)
{
    td_evaluate_spec e = { td_work_feed(w), w->x->evaluate.prefix, w->x->evaluate.sequences,
                           w->x->evaluate.batch };
    e.feed.length = w->x->evaluate.length;
    return e;
}

json_t *td_work_scores(const td_evaluation *e)
{
    json_t *sources = json_array();
    for (int64_t i = 0; i <= e->count; i++) { /* the last: the mean */
        bool   all = i == e->count;
        double nll = all ? e->nll : e->at[i].nll,
               bits = all ? e->bits_per_byte : e->at[i].bits_per_byte;
        json_t *j = json_pack("{s:o, s:o, s:o}", "nll", td_tool_number(nll), "perplexity",
                              td_tool_number(exp(nll)), "bits_per_byte",
                              td_tool_number(bits < 0 ? (double)NAN : bits));
        if (all) {
            json_object_set_new(j, "sources", sources);
            return j;
        }
        json_object_set_new(j, "source", json_string(e->at[i].source));
        json_object_set_new(j, "sequences", json_integer(e->at[i].sequences));
        json_object_set_new(j, "targets", json_integer(e->at[i].targets));
        json_array_append_new(sources, j);
    }
    return NULL;
}

/* ---- planning -------------------------------------------------------------------------------- */

static int plan_steps(td_work *w, const td_arrange_spec *f, const td_batch *shape,
                      td_memory *memory, td_error *error)
{
    int code = td_engine_plan(w->engine, shape, memory, error);
    if (!code && f->micro_batch < f->batch)
        code = td_engine_plan_adding(w->engine, shape, memory, error);
    if (!code && w->x->train.norms_every > 0)
        code = td_engine_plan_norms(w->engine, memory, error);
    memory->inputs += code ? 0 : td_feed_bytes(f, shape);
    return code;
}

int td_work_plan(td_work *w, td_memory *memory, td_error *error)
{
    td_arrange_spec  f = td_work_feed(w);
    td_evaluate_spec evaluation = td_work_evaluate(w);
    td_batch        *shape = td_batch_new();
    int              code = shape ? td_arrange_shape(&f, shape, error)
                                  : td_fail(error, TD_ENOMEM, "out of memory while planning a run");
    if (!code)
        code = plan_steps(w, &f, shape, memory, error);
    if (!code && w->x->train.evaluate_every >= 0)
        code = td_evaluate_plan(w->engine, &evaluation, memory, error);
    td_batch_free(shape);
    return code;
}

/* ---- batches without data -------------------------------------------------------------------- */

/* Records of running text, as the loss splits those of data. */
static int split_random(const td_work *w, const td_arrange_spec *f, td_arena *arena, int64_t rows,
                        td_example *out, td_error *error)
{
    const td_loss *l = (const void *)w->x->loss.plugin;
    int64_t        n = l->bounds(w->x->loss.config, f->length).raw;
    int32_t       *ids = td_arena_alloc(arena, (size_t)(rows * n) * sizeof *ids + 1);
    int            code = 0;

    if (!ids)
        return td_fail(error, TD_ENOMEM, "out of memory for a batch");
    for (int64_t i = 0; i < rows * n; i++)
        ids[i] = (int32_t)td_random_below(1, 0, (uint64_t)i, (uint64_t)vocabulary(w));
    for (int64_t r = 0; !code && r < rows; r++) {
        td_record record = { .targets = ids + r * n, .n_targets = n, .id = (uint64_t)r };
        code = td_arrange_split(f, &record, arena, &out[r], error);
        out[r].row = r;
    }
    return code;
}

td_batch *td_work_random(const td_work *w, int64_t rows, int64_t bucket, td_error *error)
{
    td_arrange_spec f = td_work_feed(w);
    td_arena    *arena = td_arena_new();
    td_example  *x = calloc((size_t)rows + 1, sizeof *x);
    td_batch    *b = td_batch_new();
    int          code;

    f.bucket = bucket;
    if (!w->tokenizer_opened) /* all special ids are 0, and there are marks enough */
        f.special.sentinels = INT32_MAX;
    code = x && arena && b ? split_random(w, &f, arena, rows, x, error)
                           : td_fail(error, TD_ENOMEM, "out of memory for a batch");
    if (!code)
        code = td_arrange_examples(&f, x, rows, b, error);
    free(x);
    td_arena_free(arena);
    if (!code)
        return b;
    td_batch_free(b);
    return NULL;
}
