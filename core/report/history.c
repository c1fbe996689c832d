/* history.c - reads metrics.jsonl. */
#include "report/history.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "run/benchmark.h"

static double number(const json_t *j, const char *key)
{
    const json_t *x = json_object_get(j, key);
    return json_is_number(x) ? json_number_value(x) : (double)NAN;
}

/* Room for one more; false when out of memory. */
static bool grow(td_history_point **at, size_t n)
{
    td_history_point *larger;
    if (n & (n - 1) || (n && n < 64))
        return true;
    larger = realloc(*at, (n ? 2 * n : 64) * sizeof *larger);
    if (larger)
        *at = larger;
    return larger != NULL;
}

static bool add(td_history *h, bool training, const td_history_point *m)
{
    td_history_point **at = training ? &h->training : &h->evaluations;
    size_t            *n = training ? &h->n_training : &h->n_evaluations;
    if (*n && (*at)[*n - 1].step >= m->step) {
        h->again++;
        return true;
    }
    if (!grow(at, *n))
        return false;
    (*at)[(*n)++] = *m;
    return true;
}

/* Tokens and FLOPs of an evaluation are those of training at its step. */
static void complete(const td_history *h, td_history_point *m)
{
    const td_history_point *last = h->n_training ? &h->training[h->n_training - 1] : NULL;
    if (!last || last->step != m->step)
        return;
    m->tokens = last->tokens;
    m->flops = last->flops;
}

static bool take_line(td_history *h, const json_t *j)
{
    td_history_point m = { .step = json_integer_value(json_object_get(j, "step")),
                           .tokens = number(j, "train/tokens"),
                           .flops = number(j, "train/flops"),
                           .rate = number(j, "time/tokens_per_second"),
                           .hash = number(j, "train/parameters_hash") };
    if (json_object_get(j, "train/cross_entropy")) {
        m.loss = number(j, "train/cross_entropy");
        return add(h, true, &m);
    }
    m.loss = number(j, "evaluate/nll");
    complete(h, &m);
    /* norms and scores of tasks have lines of their own, without a loss */
    return !isfinite(m.loss) || add(h, false, &m);
}

/* A training or evaluation line without its loss is damaged: its key may have a flipped bit. */
static bool is_whole(json_t *j)
{
    static const char *const kinds[][2] = { { "train/", "train/cross_entropy" },
                                            { "evaluate/", "evaluate/nll" } };
    const char              *key;
    json_t                  *value;
    if (!json_is_object(j) || !json_is_integer(json_object_get(j, "step")))
        return false;
    json_object_foreach(j, key, value)
    {
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
            if (!strncmp(key, kinds[k][0], strlen(kinds[k][0])) && !json_object_get(j, kinds[k][1]))
                return false;
    }
    return true;
}

static int take_lines(td_history *h, char *rest, const char *path, td_error *error)
{
    int64_t n = 0;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        json_t *j = *line ? json_loads(line, 0, NULL) : NULL;
        bool    ours = is_whole(j);
        bool    taken = !ours || take_line(h, j);
        n++;
        if (*line && !ours && !h->damaged++)
            h->first_damaged = n;
        json_decref(j);
        if (!taken)
            return td_fail(error, TD_ENOMEM, "out of memory while reading '%s'", path);
    }
    return 0;
}

/* A NUL byte, which a crash may leave, would end the text: it is a damaged line instead. */
static void replace_zeros(char *text, size_t size)
{
    for (size_t k = 0; k < size; k++)
        if (!text[k])
            text[k] = '?';
}

int td_history_parse(char *text, size_t size, const char *path, td_history *h, td_error *error)
{
    *h = (td_history){ 0 };
    replace_zeros(text, size);
    return take_lines(h, text, path, error);
}

int td_history_read(const char *run, td_history *h, td_error *error)
{
    char  *path = td_path_join(run, "metrics.jsonl"), *text = NULL;
    size_t size = 0;
    int    code = path ? 0 : td_fail(error, TD_ENOMEM, "out of memory while reading metrics");
    *h = (td_history){ 0 };
    /* a run that has not logged yet has an empty history */
    if (!code && td_file_exists(path)) {
        text = td_file_read(path, &size, error);
        code = text ? 0 : td_failed(error, TD_EIO);
    }
    if (text)
        code = td_history_parse(text, size, path, h, error);
    free(text);
    free(path);
    return code;
}

void td_history_free(td_history *h)
{
    free(h->training);
    free(h->evaluations);
    *h = (td_history){ 0 };
}

double td_history_rate(const td_history *h)
{
    double *rates = calloc(h->n_training + 1, sizeof *rates), median = (double)NAN;
    int64_t n = 0;
    for (size_t k = 0; rates && k < h->n_training; k++)
        if (h->training[k].rate > 0)
            rates[n++] = h->training[k].rate;
    if (n)
        median = td_benchmark_median(rates, n);
    free(rates);
    return median;
}
