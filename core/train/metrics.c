/* metrics.c - norms and evaluations as metrics; metrics to loggers. */
#include "train/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/hook.h"

static const td_logger *logger_of(const td_metrics *m, size_t k)
{
    return (const void *)m->loggers[k].plugin;
}

int td_metrics_open(td_metrics *m, const td_part *loggers, size_t n, const td_logger_in *in,
                    td_error *error)
{
    *m = (td_metrics){ .loggers = loggers };
    /* `opened` counts those to close if one fails */
    for (; m->opened < n; m->opened++)
        if (TD_HOOK(logger_of(m, m->opened), open, loggers[m->opened].config, in,
                    &m->state[m->opened], error))
            return td_failed(error, TD_EIO);
    return 0;
}

void td_metrics_close(td_metrics *m)
{
    while (m->opened--)
        TD_HOOK(logger_of(m, m->opened), close, m->state[m->opened]);
    m->opened = 0;
}

/* The first logger that fails ends the run: a run whose metrics are incomplete is worth less than
 * one that stopped and can be resumed. */
int td_metrics_write(td_metrics *m, int64_t step, const td_metric *metrics, size_t n,
                     td_error *error)
{
    for (size_t k = 0; k < m->opened; k++)
        if (TD_HOOK(logger_of(m, k), write, m->state[k], step, metrics, n, error))
            return td_failed(error, TD_EIO);
    return 0;
}

int td_metrics_flush(td_metrics *m, td_error *error)
{
    for (size_t k = 0; k < m->opened; k++)
        if (logger_of(m, k)->flush && TD_HOOK(logger_of(m, k), flush, m->state[k], error))
            return td_failed(error, TD_EIO);
    return 0;
}

/* ---- metrics whose names are composed -------------------------------------------------------- */

typedef struct list {
    td_metric *at; /* their names point into `names` */
    char (*names)[400];
    size_t n;
} list;

static int list_new(list *l, size_t room, td_error *error)
{
    *l = (list){ calloc(room + 1, sizeof *l->at), calloc(room + 1, sizeof *l->names), 0 };
    return l->at && l->names ? 0 : td_fail(error, TD_ENOMEM, "out of memory for %zu metrics", room);
}

static void add(list *l, const char *group, const char *of, const char *what, double value)
{
    snprintf(l->names[l->n], sizeof *l->names, "%s/%s%s", group, of, what);
    l->at[l->n] = (td_metric){ l->names[l->n], value, false };
    l->n++;
}

/* Writes it if `code` is 0, and always frees it. */
static int list_write(list *l, td_metrics *m, int64_t step, int code, td_error *error)
{
    if (!code)
        code = td_metrics_write(m, step, l->at, l->n, error);
    free(l->at);
    free(l->names);
    return code;
}

int td_metrics_norms(td_metrics *m, int64_t step, td_engine *engine, td_error *error)
{
    td_parameter_norms *norms = NULL;
    size_t              n = 0;
    list                l = { 0 };
    int                 code = td_engine_norms(engine, &norms, &n, error);

    if (!code)
        code = list_new(&l, 2 * n, error);
    /* the gradients are still those of the last update: nothing clears them */
    for (size_t k = 0; !code && k < n; k++) {
        add(&l, "norm", norms[k].name, "", norms[k].parameter);
        add(&l, "grad_norm", norms[k].name, "", norms[k].gradient);
    }
    free(norms);
    return list_write(&l, m, step, code, error);
}

int td_metrics_evaluation(td_metrics *m, int64_t step, const td_evaluation *e, td_error *error)
{
    list l;
    int  code = list_new(&l, (size_t)e->count * 2 + 3, error);

    for (int64_t i = 0; !code && i < e->count; i++) {
        if (!e->at[i].targets) /* no held-out text: no line rather than a NaN */
            continue;
        add(&l, "evaluate", e->at[i].source, "/nll", e->at[i].nll);
        if (e->at[i].bits_per_byte >= 0)
            add(&l, "evaluate", e->at[i].source, "/bits_per_byte", e->at[i].bits_per_byte);
    }
    if (!code) {
        add(&l, "evaluate", "nll", "", e->nll);
        add(&l, "evaluate", "perplexity", "", exp(e->nll));
        if (e->bits_per_byte >= 0)
            add(&l, "evaluate", "bits_per_byte", "", e->bits_per_byte);
    }
    return list_write(&l, m, step, code, error);
}
