/* prompt.c - lays out prompts, and makes the batches for passes over them. */
#include "generate/prompt.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/hook.h"

static const td_architecture *architecture_of(const td_model *m)
{
    return (const void *)m->architecture.plugin;
}

/* ---- laying out ------------------------------------------------------------------------------ */

static int check_length(const td_model *m, int64_t n, int64_t answer, td_error *error)
{
    const td_architecture *a = architecture_of(m);
    td_bounds              b = { n + answer, n, answer, n + answer };
    td_error               why = { 0 };
    if (!a->check_bounds || !a->check_bounds(m->architecture.config, &b, &why))
        return 0;
    return td_fail(error, TD_ECONFIG,
                   "a prompt of %lld tokens and %lld new ones do not fit the model: %.1500s",
                   (long long)n, (long long)answer, why.text);
}

static td_array *find(td_batch *b, const char *name)
{
    return name ? (td_array *)(uintptr_t)td_batch_find(b, name) : NULL;
}

static td_extent extent_of(const td_model *m, int64_t n, int64_t answer)
{
    td_bounds b = { n + answer, n, answer, n + answer };
    td_extent e = TD_HOOK(architecture_of(m), extent, m->architecture.config, &b);
    /* an encoder with nothing to read still has arrays, all padding */
    e.first = e.first > 0 ? e.first : 1;
    return e;
}

/* The answer is not known yet, so any token stands for it: td_prompt_put sets those that are read,
 * and the labels are unused. */
static int arrange(td_prompt *p, const td_model *m, const td_special *special, td_example *x,
                   td_error *error)
{
    const td_architecture *a = architecture_of(m);
    td_arrange_in          in = { x, 1, 1, extent_of(m, x->n_given, x->n_predicted), *special };

    if (TD_HOOK(a, arrange, m->architecture.config, &in, p->arrays, error))
        return td_failed(error, TD_EFORMAT);
    p->ids = find(p->arrays, a->generated);
    if (!p->ids)
        return td_fail(error, TD_EUNSUPPORTED,
                       "architecture '%s' does not say which array receives the tokens of an "
                       "answer (td_architecture.generated), so it cannot generate",
                       a->plugin.name);
    p->columns = find(p->arrays, "labels")->dim[1];
    return 0;
}

/* Which arrays grow when the answer is longer by one. Comparing lengths within one layout would not
 * do: an encoder's may equal the decoder's by chance. */
static int find_growing(td_prompt *p, const td_model *m, const td_special *special, int64_t n,
                        td_error *error)
{
    const td_architecture *a = architecture_of(m);
    td_arrange_in          in = { NULL, 0, 1, extent_of(m, n, p->answer + 1), *special };
    td_batch              *longer = td_batch_new();
    int code = longer ? TD_HOOK(a, arrange, m->architecture.config, &in, longer, error)
                      : td_fail(error, TD_ENOMEM, "out of memory for a prompt");

    for (int32_t k = 0; !code && k < longer->count; k++)
        if (longer->at[k].rank > 1 && longer->at[k].dim[1] != p->arrays->at[k].dim[1])
            p->grows |= (uint32_t)1 << k;
    td_batch_free(longer);
    return code;
}

/* Columns before the first one with a weight only read the prompt. */
static int64_t first_weight(const td_prompt *p)
{
    const float *weight = td_batch_find(p->arrays, "loss_weights")->data;
    int64_t      k = 0;
    while (k < p->columns && weight[k] == 0)
        k++;
    return k;
}

int td_prompt_open(td_prompt *p, const td_model *m, const td_special *special, const int32_t *given,
                   int64_t n, int64_t answer, td_error *error)
{
    int32_t   *unknown = calloc((size_t)answer, sizeof *unknown);
    td_example x = { .given = given, .n_given = n, .predicted = unknown, .n_predicted = answer };
    int        code;

    assert(answer > 0);
    *p = (td_prompt){ .arrays = td_batch_new(), .answer = answer };
    /* the answer's tokens are zeros until they are known */
    code = unknown && p->arrays ? check_length(m, n, answer, error)
                                : td_fail(error, TD_ENOMEM, "out of memory for a prompt");
    if (!code)
        code = arrange(p, m, special, &x, error);
    if (!code)
        code = find_growing(p, m, special, n, error);
    if (!code)
        p->first = first_weight(p);
    free(unknown);
    return code;
}

void td_prompt_close(td_prompt *p)
{
    td_batch_free(p->arrays);
    *p = (td_prompt){ 0 };
}

static size_t bytes_of(const td_array *a)
{
    size_t n = 4; /* batches hold i32 and f32 */
    for (int k = 0; k < a->rank; k++)
        n *= (size_t)a->dim[k];
    return n;
}

int td_prompt_copy(td_prompt *to, const td_prompt *from, td_error *error)
{
    /* `to` keeps its own arrays, whose memory is reused by every later copy */
    td_batch *arrays = to->arrays ? to->arrays : td_batch_new();
    *to = *from;
    to->arrays = arrays;
    if (!arrays)
        return td_fail(error, TD_ENOMEM, "out of memory for a prompt");
    td_batch_clear(arrays);
    arrays->rows = from->arrays->rows;
    for (int32_t k = 0; k < from->arrays->count; k++) {
        const td_array *a = &from->arrays->at[k];
        void           *data = arrays->add(arrays, a->name, a->dtype, a->rank, a->dim);
        if (!data)
            return td_fail(error, TD_ENOMEM, "out of memory for a prompt");
        memcpy(data, a->data, bytes_of(a));
    }
    to->ids = find(arrays, from->ids->name);
    return 0;
}

void td_prompt_put(td_prompt *p, int64_t k, int32_t token)
{
    int64_t column = p->first + 1 + k;
    assert(k >= 0 && k < p->answer);
    if (column < p->columns) /* nothing reads the answer's last token */
        ((int32_t *)p->ids->data)[column] = token;
}

/* ---- passes ---------------------------------------------------------------------------------- */

/* Elements of one column of a row: the product of the later axes. */
static int64_t width_of(const td_array *a)
{
    int64_t n = 1;
    for (int k = 2; k < a->rank; k++)
        n *= a->dim[k];
    return n;
}

/* The array of the pass that stands for array k of the prompts. */
static char *add_array(const td_array *a, int64_t rows, int64_t columns, td_batch *out)
{
    int64_t dims[TD_MAX_RANK];
    memcpy(dims, a->dim, sizeof dims);
    dims[0] = rows;
    if (a->rank > 1)
        dims[1] = columns;
    return out->add(out, a->name, a->dtype, a->rank, dims);
}

static void copy_row(const td_array *from, bool grows, const td_columns *s, int64_t columns,
                     char *to)
{
    size_t  width = (size_t)width_of(from) * 4; /* batches hold i32 and f32 */
    int64_t first = grows ? s->first : 0;
    int64_t count = grows ? s->count : from->rank > 1 ? from->dim[1] : 1;
    count = count < columns ? count : columns;
    memcpy(to, (const char *)from->data + (size_t)first * width, (size_t)count * width);
}

int td_prompt_pass(const td_columns *rows, int64_t n_rows, int64_t tokens, int64_t source,
                   const td_prompt *like, td_batch *out, td_error *error)
{
    td_batch_clear(out);
    out->rows = n_rows;
    for (int32_t k = 0; k < like->arrays->count; k++) {
        const td_array *a = &like->arrays->at[k];
        bool            grows = like->grows >> k & 1;
        int64_t         columns = a->rank < 2 ? 1 : grows ? tokens : source;
        size_t          row = (size_t)(columns * width_of(a)) * 4;
        char           *to = add_array(a, n_rows, columns, out);
        if (!to)
            return td_fail(error, TD_ENOMEM, "out of memory for a pass over %lld rows",
                           (long long)n_rows);
        /* arrays of a batch are zeroed, and segment 0 is padding */
        for (int64_t r = 0; r < n_rows; r++)
            if (rows[r].prompt)
                copy_row(&rows[r].prompt->arrays->at[k], grows, &rows[r], columns,
                         to + (size_t)r * row);
    }
    return 0;
}
