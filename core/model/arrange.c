/* arrange.c - the shapes of batches; splitting records, arranging examples. */
#include "model/arrange.h"

#include <string.h>

static const td_loss *loss_of(const td_arrange_spec *s) { return (const void *)s->loss.plugin; }
static const td_architecture *architecture_of(const td_arrange_spec *s)
{
    return (const void *)s->architecture.plugin;
}

/* ---- shapes ---------------------------------------------------------------------------------- */

td_extent td_arrange_limit(const td_arrange_spec *s)
{
    td_bounds b = loss_of(s)->bounds(s->loss.config, s->length);
    return architecture_of(s)->extent(s->architecture.config, &b);
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
    return architecture_of(s)->extent(s->architecture.config, &b);
}

int td_arrange_rows(const td_arrange_spec *s, const td_example *x, int64_t count, int64_t rows,
                    td_extent extent, td_batch *out, td_error *error)
{
    td_arrange_in in = { x, count, rows, extent, s->special };
    td_batch_clear(out);
    out->rows = rows;
    return architecture_of(s)->arrange(s->architecture.config, &in, out, error);
}

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* Rounded up to buckets, but no further than the longest row of training: that shape is planned
 * already. Evaluation may be longer; then it is as long as it needs. */
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
    td_extent need = { 1, 0 }; /* no architecture builds a row of no tokens */
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

int td_arrange_shape(const td_arrange_spec *s, td_batch *out, td_error *error)
{
    return td_arrange_rows(s, NULL, 0, s->micro_batch, td_arrange_limit(s), out, error);
}

/* ---- examples -------------------------------------------------------------------------------- */

/* Never NULL for want of bytes: hooks take NULL to mean that memory ran out. */
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
    if (loss_of(s)->split(s->loss.config, record, &in, out, error))
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
    if (s->data->fetch(s->data_state, index, &in, &record, error))
        return td_fail(error, td_failed(error, TD_EIO), "data '%s' cannot read record %llu",
                       s->data->plugin.name, (unsigned long long)index);
    record.id = index; /* the stream of its random numbers: the split is a function of the index */
    return td_arrange_split(s, &record, arena, out, error);
}
