/* lab.h - an engine for a config from the source tree, and batches of uneven sentences. */
#ifndef TESTS_TRAIN_LAB_H
#define TESTS_TRAIN_LAB_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/threads.h"
#include "tandem/random.h"
#include "run/experiment.h"

enum { LAB_BATCH = 8, LAB_TOKENS = 64, LAB_VOCABULARY = 211 };

typedef struct lab {
    td_registry   *registry;
    td_experiment *x;
    td_pool       *pool;
    td_engine     *engine;
    td_error       error;
} lab;

/* Smaller than nano, to save time: odd widths, three heads. */
#define LAB_SMALL                                                          \
    "model.vocab_size=211", "model.d_model=42", "model.attention.heads=3", \
        "model.attention.head_dim=14", "model.ffn.d_ff=53", "train.batch=8", "train.bucket=1"

/* `config`: one of the source tree's, or several with '+' between them. `overrides` end with NULL.
 * `backend` NULL: the config's; otherwise a plugin used in its place. */
static inline lab lab_open(const char *config, const char *const *overrides,
                           const td_plugin *backend)
{
    static const char *const paths[] = { TANDEM_PLUGINS, NULL };
    lab                      l = { 0 };
    td_errors                errors = { 0 };
    size_t                   n = 0;
    char                     names[400], paths_[4][500], *rest = NULL;
    const char              *files[4];
    size_t                   n_files = 0;
    td_engine_options        o;

    while (overrides[n])
        n++;
    snprintf(names, sizeof names, "%s", config);
    for (char *name = strtok_r(names, "+", &rest); name; name = strtok_r(NULL, "+", &rest)) {
        snprintf(paths_[n_files], sizeof paths_[0], "%s/configs/%s.cfg", TANDEM_SOURCE, name);
        files[n_files] = paths_[n_files];
        n_files++;
    }
    l.registry = td_registry_new(paths, NULL, &l.error);
    cr_assert(l.registry, "%s", l.error.text);
    l.x = td_experiment_open(l.registry, files, n_files, overrides, n, TANDEM_SOURCE "/configs",
                             TD_NEED_MODEL | TD_NEED_LOSS | TD_NEED_OPTIMIZER, &errors);
    cr_assert(l.x, "%s", td_text_get(&errors.text));
    if (backend)
        l.x->backend.plugin = backend;
    l.pool = td_pool_new(2, NULL, &l.error);
    cr_assert(l.pool, "%s", l.error.text);
    o = (td_engine_options){ .model = td_experiment_model(l.x),
                             .backend = l.x->backend,
                             .services = td_pool_services(l.pool) };
    l.engine = td_engine_open(&o, &l.error);
    cr_assert(l.engine, "%s", l.error.text);
    return l;
}

static inline void lab_close(lab *l)
{
    td_engine_close(l->engine);
    td_pool_free(l->pool);
    td_experiment_close(l->x);
    td_registry_free(l->registry);
}

/* The config's data settings without its data. */
static inline td_arrange_spec lab_feed(const lab *l)
{
    return (td_arrange_spec){
        .architecture = l->x->model,
        .loss = l->x->loss,
        .length = l->x->train.length,
        .batch = LAB_BATCH,
        .micro_batch = l->x->train.micro_batch,
        .bucket = l->x->train.bucket,
        .special = { .pad = 0, .bos = -1, .eos = 1, .unk = -1, .vocab_size = LAB_VOCABULARY }
    };
}

/* Rows [from, from + rows) of step `step`: random tokens; no two rows of a batch have the same
 * lengths. */
static inline td_batch *lab_batch(const lab *l, int64_t step, int64_t from, int64_t rows)
{
    int32_t         tokens[LAB_BATCH][LAB_TOKENS];
    td_example      examples[LAB_BATCH];
    td_arrange_spec feed = lab_feed(l);
    td_batch       *b = td_batch_new();
    td_error        error = { 0 };

    cr_assert(b && from + rows <= LAB_BATCH);
    for (int64_t r = 0; r < rows; r++) {
        int64_t row = from + r, given = 3 + (5 * row + step) % 11,
                predicted = 1 + (7 * row + 3 * step) % 13;
        for (int64_t k = 0; k < given + predicted; k++)
            tokens[r][k] = 2 + (int32_t)td_random_below(7, 0,
                                                        (uint64_t)((step * LAB_BATCH + row) *
                                                                       LAB_TOKENS +
                                                                   k),
                                                        LAB_VOCABULARY - 2);
        examples[r] = (td_example){ .given = tokens[r],
                                    .n_given = given,
                                    .predicted = tokens[r] + given,
                                    .n_predicted = predicted,
                                    .row = r,
                                    .id = (uint64_t)row };
    }
    cr_assert_eq(td_arrange_examples(&feed, examples, rows, b, &error), 0, "%s", error.text);
    return b;
}

static inline void lab_allocate(lab *l, const td_batch *largest, td_footprint *memory)
{
    cr_assert_eq(td_engine_plan(l->engine, largest, memory, &l->error), 0, "%s", l->error.text);
    cr_assert_eq(td_engine_allocate(l->engine, 3, &l->error), 0, "%s", l->error.text);
}

/* One update on the whole batch, `micro` rows at a time. Returns the loss. */
static inline double lab_step(lab *l, int64_t step, int64_t micro, double rate)
{
    td_batch     *whole = lab_batch(l, step, 0, LAB_BATCH);
    double        divisor = td_batch_weight(whole), loss = 0;
    td_update_out updated;

    td_batch_free(whole);
    for (int64_t from = 0; from < LAB_BATCH; from += micro) {
        int32_t      examples[LAB_BATCH];
        td_batch    *b = lab_batch(l, step, from, micro);
        td_micro     m = { b, divisor, from > 0, (int32_t)step, examples };
        td_micro_out out;
        for (int64_t r = 0; r < micro; r++)
            examples[r] = (int32_t)(from + r);
        cr_assert_eq(td_engine_gradient(l->engine, &m, &out, &l->error), 0, "%s", l->error.text);
        loss += out.loss;
        td_batch_free(b);
    }
    cr_assert_eq(td_engine_update(l->engine, rate, step + 1, 1e30, &updated, &l->error), 0, "%s",
                 l->error.text);
    cr_assert(updated.applied);
    return loss;
}

#endif
