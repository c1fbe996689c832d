/* batches.c - how a session arranges its batches, the plans of a run, and batches of random
 * tokens. */
#include <inttypes.h>
#include <stdlib.h>

#include "run/session.h"
#include "tandem/random.h"
#include "train/deal.h"
#include "train/feed.h"

td_arrange_spec td_session_feed(const td_session *s)
{
    const td_experiment *x = s->x;
    return (td_arrange_spec){ .architecture = x->model,
                              .loss = x->loss,
                              /* the session may not open the data that its config names */
                              .data = s->data_opened ? (const void *)x->data.plugin : NULL,
                              .data_state = s->data,
                              .special = s->special,
                              .length = x->train.length,
                              .batch = x->train.batch,
                              .micro_batch = x->train.micro_batch,
                              .bucket = x->train.bucket,
                              .pack = x->train.pack,
                              .seed = (uint64_t)x->train.seed_data,
                              .pair = td_arrange_pair(&x->data) };
}

td_evaluate_spec td_session_evaluation_spec(const td_session *s)
{
    const td_evaluate_options *o = &s->x->evaluate;
    td_evaluate_spec           e = { .feed = td_session_feed(s),
                                     .prefix = o->prefix,
                                     .sequences = o->sequences,
                                     .batch = o->batch,
                                     .no_bytes = s->lossy };
    e.feed.length = o->length;
    return e;
}

/* ---- processes ------------------------------------------------------------------------------- */

int td_session_processes(const td_session *s)
{
    return s->imagined ? (int)s->imagined : td_team_size(s->team);
}

static int64_t largest_divisor(int64_t n, int64_t at_most)
{
    while (n % at_most)
        at_most--;
    return at_most;
}

/* More processes than micro-batches, which cannot be made smaller instead. */
static int refuse_share(const td_train_options *t, int64_t size, td_error *error)
{
    int64_t micro = t->batch / t->micro_batch;
    if (size > t->batch)
        return td_fail(error, TD_ECONFIG,
                       "%" PRId64 " processes cannot share a batch of train.batch = %" PRId64
                       " sequences: each needs at least one",
                       size, t->batch);
    return td_fail(error, TD_ECONFIG,
                   "%" PRId64 " processes, but a step has only %" PRId64
                   " micro-batch%s (train.batch = %" PRId64 ", train.micro_batch = %" PRId64
                   ") to share: start at most %" PRId64 ", or set train.micro_batch = %" PRId64
                   ", with which sums round differently (a run that has begun needs "
                   "--allow train.micro_batch, too)",
                   size, micro, micro == 1 ? "" : "es", t->batch, t->micro_batch, micro,
                   largest_divisor(t->batch, t->batch / size));
}

int td_session_share_out(td_session *s, td_error *error)
{
    td_train_options *t = &s->x->train;
    int               size = td_session_processes(s);
    if (t->batch / t->micro_batch >= size)
        return 0;
    /* sums of smaller micro-batches differ by rounding, which "exact" excludes */
    if (t->reduce == TD_REDUCE_EXACT || t->batch % size)
        return refuse_share(t, size, error);
    t->micro_batch = t->batch / size;
    td_log_line(s->log, TD_LOG_INFO, "micro-batches of %" PRId64 " sequences, one for each process",
                t->micro_batch);
    return 0;
}

int td_session_imagine(td_session *s, int64_t processes, td_error *error)
{
    if (processes < 1 || processes > s->x->train.batch)
        return td_fail(error, TD_ECONFIG,
                       "%lld processes cannot share a batch of train.batch = %lld sequences: each "
                       "needs at least one",
                       (long long)processes, (long long)s->x->train.batch);
    s->imagined = processes;
    return td_session_share_out(s, error);
}

/* ---- planning -------------------------------------------------------------------------------- */

/* The comm that so many processes would have. The comm that a run of one process kept does not
 * count. */
static const char *comm_of_imagined(const td_session *s)
{
    const td_setting *v = td_config_get(s->x->config, "comm.plugin");
    return v && !v->kept && v->type == TD_SETTING_STRING
               ? v->text
               : td_experiment_comm(s->registry, s->x->config, s->imagined);
}

/* Whether the devices of the processes will be connected. */
static bool is_attached(const td_session *s, const td_device *d)
{
    const td_plugin *comm;
    const char      *backend;
    if (!s->imagined)
        return td_team_reaches(s->team, d);
    comm = td_registry_find(s->registry, TD_COMM_KIND, comm_of_imagined(s), NULL);
    backend = comm ? ((const td_comm *)(const void *)comm)->backend : NULL;
    return backend && !strcmp(backend, d->backend->plugin.name);
}

/* Memory for the sums of a step's gradients, beyond `gradients`. */
static size_t bytes_of_sums(const td_session *s, td_engine *engine, int64_t n_micro,
                            size_t gradients)
{
    td_reduction_spec spec = { .how = (td_reduce)s->x->train.reduce,
                               .n_micro = n_micro,
                               .shared = s->x->train.shard != TD_SHARD_NONE,
                               .attached = is_attached(s, td_engine_device(engine)) };
    if (td_engine_exchanges(engine))
        return (size_t)td_dealing_bytes(engine, td_session_processes(s), spec.how, n_micro,
                                        TD_DEALING_CHUNK);
    return td_reduction_bytes(td_team_rank(s->team), td_session_processes(s), &spec, gradients);
}

/* The plans of a step: gradients and update; accumulation, if it has several micro-batches; norms,
 * if they are logged. */
static int plan_steps(const td_session *s, td_engine *engine, const td_arrange_spec *f,
                      const td_batch *shape, td_footprint *footprint, td_error *error)
{
    int code = td_engine_plan(engine, shape, footprint, error);
    /* gradients of sharded parameters are sent, not accumulated */
    if (!code && f->micro_batch < f->batch && !td_engine_exchanges(engine))
        code = td_engine_plan_adding(engine, shape, footprint, error);
    if (!code && s->x->train.norms_every > 0)
        code = td_engine_plan_norms(engine, footprint, error);
    if (code)
        return code;
    footprint->inputs += td_feed_bytes(f, shape);
    footprint->gradients += bytes_of_sums(s, engine, f->batch / f->micro_batch,
                                          footprint->gradients);
    return 0;
}

int td_session_plan(const td_session *s, td_engine *engine, td_footprint *footprint,
                    td_error *error)
{
    td_arrange_spec  f = td_session_feed(s);
    td_evaluate_spec evaluation = td_session_evaluation_spec(s);
    td_batch        *shape = td_batch_new();
    int              code = shape ? td_arrange_shape(&f, shape, error)
                                  : td_fail(error, TD_ENOMEM, "out of memory while planning a run");
    if (!code)
        code = plan_steps(s, engine, &f, shape, footprint, error);
    /* planned now, so that a run whose evaluation does not fit in memory fails before training for
     * days */
    if (!code && s->x->train.evaluate_every >= 0)
        code = td_evaluate_plan(engine, &evaluation, footprint, error);
    td_batch_free(shape);
    return code;
}

/* ---- random tokens --------------------------------------------------------------------------- */

/* A record of the data's largest size: a pair, or running text. */
static td_record random_record(const td_arrange_spec *f, const int32_t *ids, int64_t n)
{
    if (!f->pair.inputs)
        return (td_record){ .targets = ids, .n_targets = n };
    return (td_record){ .inputs = ids,
                        .n_inputs = f->pair.inputs,
                        .targets = ids + f->pair.inputs,
                        .n_targets = f->pair.targets };
}

/* Random records, split by the loss like real ones. */
static int split_random(const td_session *s, const td_arrange_spec *f, td_arena *arena,
                        int64_t rows, td_example *out, td_error *error)
{
    int64_t  n = td_arrange_bounds(&s->x->loss, f->pair, f->length).raw;
    int32_t *ids = td_arena_alloc(arena, (size_t)(rows * n) * sizeof *ids + 1);
    int      code = 0;

    if (!ids)
        return td_fail(error, TD_ENOMEM, "out of memory for a batch");
    /* a fixed seed, so that two benchmarks do the same work */
    for (int64_t i = 0; i < rows * n; i++)
        ids[i] = (int32_t)td_random_below(1, 0, (uint64_t)i, (uint64_t)td_session_vocabulary(s));
    for (int64_t r = 0; !code && r < rows; r++) {
        td_record record = random_record(f, ids + r * n, n);
        record.id = (uint64_t)r;
        code = td_arrange_split(f, &record, arena, &out[r], error);
        out[r].row = r;
    }
    return code;
}

td_batch *td_session_random_batch(const td_session *s, int64_t rows, int64_t bucket,
                                  td_error *error)
{
    td_arrange_spec f = td_session_feed(s);
    td_arena       *arena = td_arena_new();
    td_example     *x = calloc((size_t)rows + 1, sizeof *x);
    td_batch       *b = td_batch_new();
    int             code;

    f.bucket = bucket;
    /* without a tokenizer all special ids are 0; a loss that marks spans must have enough
     * markers */
    if (!s->tokenizer_opened)
        f.special.sentinels = INT32_MAX;
    code = x && arena && b ? split_random(s, &f, arena, rows, x, error)
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
