/* arrange.c - the shapes of batches; splitting records, arranging examples. */
#include "model/arrange.h"

#include <string.h>

#include "base/machine.h"
#include "plugin/hook.h"

static const td_loss *loss_of(const td_arrange_spec *s) { return (const void *)s->loss.plugin; }
static const td_architecture *architecture_of(const td_arrange_spec *s)
{
    return (const void *)s->architecture.plugin;
}

/* ---- shapes ---------------------------------------------------------------------------------- */

td_pair td_arrange_pair(const td_part *data)
{
    const td_data *d = (const void *)data->plugin;
    return d && d->pair ? TD_HOOK(d, pair, data->config) : (td_pair){ 0 };
}

td_bounds td_arrange_bounds(const td_part *loss, td_pair pair, int64_t length)
{
    const td_loss *l = (const void *)loss->plugin;
    int64_t        total = pair.inputs + pair.targets;
    if (!total)
        return TD_HOOK(l, bounds, loss->config, length);
    /* such a loss also predicts the inputs */
    return l->flags & TD_LOSS_NOTHING_GIVEN
               ? (td_bounds){ total, 0, total, total }
               : (td_bounds){ total, pair.inputs, pair.targets, total };
}

/* Rows that several pairs share are `length` tokens long, divided as the largest pair is, so that it
 * fits. */
static td_bounds row_bounds(const td_arrange_spec *s)
{
    td_bounds b = td_arrange_bounds(&s->loss, s->pair, s->length);
    int64_t   total = s->pair.inputs + s->pair.targets, given;
    if (!s->pack || !total || s->length <= total)
        return b;
    given = b.given ? (int64_t)((double)s->length * (double)b.given / (double)total) : 0;
    return (td_bounds){ s->length, given, s->length - given, s->length };
}

td_extent td_arrange_limit(const td_arrange_spec *s)
{
    td_bounds b = row_bounds(s);
    return TD_HOOK(architecture_of(s), extent, s->architecture.config, &b);
}

int64_t td_arrange_rounded(int64_t n, int64_t to, int64_t most)
{
    int64_t up = to > 0 ? (n + to - 1) / to * to : n;
    return up < most ? up : most;
}

td_extent td_arrange_extent(const td_arrange_spec *s, const td_example *x)
{
    int64_t   total = x->n_given + x->n_predicted;
    td_bounds b = { total, x->n_given, x->n_predicted, total };
    return TD_HOOK(architecture_of(s), extent, s->architecture.config, &b);
}

int td_arrange_rows(const td_arrange_spec *s, const td_example *x, int64_t count, int64_t rows,
                    td_extent extent, td_batch *out, td_error *error)
{
    td_arrange_in in = { x, count, rows, extent, s->special };
    td_batch_clear(out);
    out->rows = rows;
    return TD_HOOK(architecture_of(s), arrange, s->architecture.config, &in, out, error);
}

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* Rounded up to buckets, but no further than the longest row of training: that shape is planned
 * already. Rows of evaluation may be longer; then they are not rounded up. */
static td_extent widened(const td_arrange_spec *s, td_extent need)
{
    td_extent most = td_arrange_limit(s);
    need.first = td_arrange_rounded(need.first, s->bucket, larger(most.first, need.first));
    need.second = td_arrange_rounded(need.second, s->bucket, larger(most.second, need.second));
    return need;
}

int td_arrange_examples(const td_arrange_spec *s, const td_example *x, int64_t count, td_batch *out,
                        td_error *error)
{
    td_extent need = { 1, 0 }; /* no architecture builds a row without tokens */
    for (int64_t i = 0; i < count; i++) {
        td_extent e = td_arrange_extent(s, &x[i]);
        need.first = larger(e.first, need.first);
        need.second = larger(e.second, need.second);
    }
    return td_arrange_rows(s, x, count, count, widened(s, need), out, error);
}

int td_arrange_shape_of(const td_arrange_spec *s, int64_t rows, int64_t given, int64_t predicted,
                        td_batch *out, td_error *error)
{
    td_example x = { .n_given = given, .n_predicted = predicted };
    return td_arrange_rows(s, NULL, 0, rows, widened(s, td_arrange_extent(s, &x)), out, error);
}

/* Arrays that this machine cannot hold would be filled until it has no memory left. An architecture
 * has at least one number for each token. */
static int check_memory(int64_t rows, td_extent extent, td_error *error)
{
    double tokens = (double)rows * ((double)extent.first + (double)extent.second);
    double bytes = tokens * sizeof(int32_t), limit = td_memory_limit();
    char   need[32], have[32];
    if (bytes <= limit)
        return 0;
    return td_fail(
        error, TD_ENOMEM,
        "a batch of %lld rows of %lld tokens needs more than %s, and this process may use "
        "%s: make train.micro_batch or train.length smaller",
        (long long)rows, (long long)(extent.first + extent.second), td_human_bytes(need, bytes),
        td_human_bytes(have, limit));
}

int td_arrange_shape(const td_arrange_spec *s, td_batch *out, td_error *error)
{
    td_extent most = td_arrange_limit(s);
    return check_memory(s->micro_batch, most, error)
               ? TD_ENOMEM
               : td_arrange_rows(s, NULL, 0, s->micro_batch, most, out, error);
}

/* ---- examples -------------------------------------------------------------------------------- */

/* Never NULL for a size of 0: hooks take NULL to mean that memory ran out. */
static void *allocate(void *arena, size_t bytes)
{
    return td_arena_alloc(arena, bytes ? bytes : 1);
}

td_split_in td_arrange_split_in(const td_arrange_spec *s, td_arena *arena)
{
    return (td_split_in){ s->special, s->seed, allocate, arena };
}

int td_arrange_split(const td_arrange_spec *s, const td_record *record, td_arena *arena,
                     td_example *out, td_error *error)
{
    td_split_in in = td_arrange_split_in(s, arena);
    memset(out, 0, sizeof *out);
    if (TD_HOOK(loss_of(s), split, s->loss.config, record, &in, out, error))
        return td_fail(error, td_failed(error, TD_EFORMAT), "loss '%s' cannot split record %llu",
                       s->loss.plugin->name, (unsigned long long)record->id);
    out->id = record->id;
    out->source = record->source;
    return 0;
}

int td_arrange_fetch(const td_arrange_spec *s, uint64_t index, td_arena *arena, td_example *out,
                     td_error *error)
{
    td_split_in in = td_arrange_split_in(s, arena);
    td_record   record = { 0 };
    if (TD_HOOK(s->data, fetch, s->data_state, index, &in, &record, error))
        return td_fail(error, td_failed(error, TD_EIO), "data '%s' cannot read record %llu",
                       s->data->plugin.name, (unsigned long long)index);
    record.id = index; /* the stream of its random numbers: the split is a function of the index */
    return td_arrange_split(s, &record, arena, out, error);
}
