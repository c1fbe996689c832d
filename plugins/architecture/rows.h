/* rows.h - laying examples out in the rows of a batch, and completing batches that others made. */
#ifndef TANDEM_PLUGINS_ROWS_H
#define TANDEM_PLUGINS_ROWS_H

#include <stdlib.h>
#include <string.h>

#include "tandem/kind/architecture.h"

/* ---- rows of one stream of tokens ------------------------------------------------------------ */

/* One stream of a batch: ids, segments and positions [rows, length], filled from the left. */
struct stream {
    const char *name; /* for messages: "decoder" */
    int64_t     rows, length;
    int32_t    *ids, *segments, *positions;
    int64_t    *used; /* tokens in each row so far */
};

static inline int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "no memory for the arrays of a batch");
}

/* Add the arrays `prefix`ids, .. of `rows` rows, all padding. Free `used` after. */
static inline int stream_open(struct stream *s, td_batch *out, const char *name, const char *ids,
                              const char *segments, const char *positions, int64_t rows,
                              int64_t length, int32_t pad)
{
    *s = (struct stream){ .name = name, .rows = rows, .length = length };
    s->ids = td_batch_add(out, ids, TD_I32, rows, length);
    s->segments = td_batch_add(out, segments, TD_I32, rows, length);
    s->positions = td_batch_add(out, positions, TD_I32, rows, length);
    s->used = calloc((size_t)rows + 1, sizeof *s->used);
    if (!s->ids || !s->segments || !s->positions || !s->used)
        return TD_ENOMEM;
    for (int64_t k = 0; pad > 0 && k < rows * length; k++)
        s->ids[k] = pad;
    return 0;
}

/* Where the next `n` tokens of `row` go, as an index into the arrays; a negative code if they do
 * not fit. */
static inline int64_t stream_take(struct stream *s, int64_t row, int64_t n, td_error *error)
{
    int64_t at;
    if (row < 0 || row >= s->rows)
        return td_fail(error, TD_EFORMAT, "an example asks for row %lld of a batch of %lld",
                       (long long)row, (long long)s->rows);
    if (n < 0 || n > s->length - s->used[row])
        return td_fail(
            error, TD_EFORMAT,
            "%s: %lld tokens do not fit into row %lld, which has %lld of %lld places left", s->name,
            (long long)n, (long long)row, (long long)(s->length - s->used[row]),
            (long long)s->length);
    at = row * s->length + s->used[row];
    s->used[row] += n;
    return at;
}

/* Every token is one of the vocabulary. */
static inline int check_tokens(const char *what, const int32_t *tokens, int64_t n, int64_t vocab,
                               td_error *error)
{
    for (int64_t k = 0; k < n; k++)
        if (tokens[k] < 0 || tokens[k] >= vocab)
            return td_fail(error, TD_EFORMAT,
                           "%s: token %lld is %d, outside the vocabulary of %lld: do tokenizer and "
                           "model.vocab_size belong together?",
                           what, (long long)k, tokens[k], (long long)vocab);
    return 0;
}

static inline int check_example(const td_example *e, int64_t vocab, td_error *error)
{
    if (e->n_given < 0 || e->n_predicted < 0)
        return td_fail(error, TD_EFORMAT, "an example has a negative number of tokens");
    if (e->places)
        return td_fail(error, TD_ECONFIG,
                       "this loss predicts tokens in their places; this architecture predicts only "
                       "what follows");
    if (check_tokens("given tokens", e->given, e->n_given, vocab, error))
        return TD_EFORMAT;
    return check_tokens("predicted tokens", e->predicted, e->n_predicted, vocab, error);
}

/* Token k of the whole example, given and predicted. */
static inline int32_t token_of(const td_example *e, int64_t k)
{
    return k < e->n_given ? e->given[k] : e->predicted[k - e->n_given];
}

/* Its document, counting from 0; all 0 where documents do not matter. */
static inline int32_t document_of(const td_example *e, int64_t k)
{
    const int32_t *d = k < e->n_given ? e->given_documents : e->predicted_documents;
    int32_t        number = d ? d[k < e->n_given ? k : k - e->n_given] : 1;
    return number > 1 ? number - 1 : 0;
}

/* Segments that an example takes in its row: one per document. */
static inline int32_t segments_of(const td_example *e)
{
    int32_t most = 0;
    for (int64_t k = 0; k < e->n_given + e->n_predicted; k++)
        most = document_of(e, k) > most ? document_of(e, k) : most;
    return most + 1;
}

static inline int32_t first_token(const td_special *s)
{
    return s->bos >= 0 ? s->bos : s->pad >= 0 ? s->pad : 0;
}

/* ---- batches that somebody else made --------------------------------------------------------- */

/* The i32 array `name` [rows, columns] with ids below `vocab` (0: any), or NULL with `error`. */
static inline const td_array *need_ids(const td_batch *b, const char *name, int64_t vocab,
                                       td_error *error)
{
    const td_array *a = td_batch_find(b, name);
    if (!a) {
        td_fail(error, TD_EFORMAT, "the batch has no array '%s', which this architecture reads",
                name);
        return NULL;
    }
    if (a->dtype != TD_I32 || a->rank != 2 || a->dim[0] < 1 || a->dim[1] < 1) {
        td_fail(error, TD_EFORMAT, "array '%s' must be int32 [rows, tokens]", name);
        return NULL;
    }
    if (vocab && a->data && check_tokens(name, a->data, a->dim[0] * a->dim[1], vocab, error))
        return NULL;
    return a;
}

/* An array that is there must be of `dtype` and have the dims of `like`. */
static inline int check_like(const td_batch *b, const char *name, int dtype, const td_array *like,
                             td_error *error)
{
    const td_array *a = td_batch_find(b, name);
    if (a && (a->dtype != dtype || a->rank != 2 || a->dim[0] != like->dim[0] ||
              a->dim[1] != like->dim[1]))
        return td_fail(error, TD_EFORMAT, "array '%s' must be %s [%lld, %lld], as '%s' is", name,
                       dtype == TD_I32 ? "int32" : "float32", (long long)like->dim[0],
                       (long long)like->dim[1], like->name);
    return 0;
}

/* Lengths [rows], each at most `most`. NULL where the batch has none; *failed tells an error from
 * that. */
static inline const int32_t *row_lengths(const td_batch *b, const char *name, const td_array *like,
                                         bool *failed, td_error *error)
{
    const td_array *a = td_batch_find(b, name);
    const int32_t  *n = a ? a->data : NULL;
    if (!n)
        return NULL;
    if (a->dtype != TD_I32 || a->rank != 1 || a->dim[0] != like->dim[0]) {
        td_fail(error, TD_EFORMAT, "array '%s' must be int32 [%lld]", name,
                (long long)like->dim[0]);
        *failed = true;
        return NULL;
    }
    for (int64_t k = 0; k < like->dim[0]; k++)
        if (n[k] < 0 || n[k] > like->dim[1]) {
            td_fail(error, TD_EFORMAT, "array '%s': length %d of row %lld is not in 0 .. %lld",
                    name, n[k], (long long)k, (long long)like->dim[1]);
            *failed = true;
            return NULL;
        }
    return n;
}

/* Add `name` like `like`: 1 for the first lengths[row] tokens (lengths NULL: `all`), unless the
 * batch has it. */
static inline int add_leading_ones(td_batch *b, const char *name, const td_array *like,
                                   const char *lengths, bool all, td_error *error)
{
    bool           failed = false;
    const int32_t *n = row_lengths(b, lengths, like, &failed, error);
    int32_t       *to;
    if (failed || check_like(b, name, TD_I32, like, error))
        return TD_EFORMAT;
    if (td_batch_find(b, name))
        return 0;
    if (!(to = td_batch_add(b, name, TD_I32, like->dim[0], like->dim[1])))
        return out_of_memory(error);
    for (int64_t r = 0; r < like->dim[0]; r++)
        for (int64_t t = 0; t < like->dim[1]; t++)
            to[r * like->dim[1] + t] = n ? t < n[r] : all;
    return 0;
}

/* Whether a row of `segments` has more than one, which is to say examples that are packed. */
static inline bool is_packed(const td_array *segments)
{
    const int32_t *s = segments->data;
    for (int64_t k = 0; s && k < segments->dim[0] * segments->dim[1]; k++)
        if (s[k] > 1)
            return true;
    return false;
}

/* Add positions start[row] + 0, 1, .. (start NULL: 0), unless the batch has them. */
static inline int add_positions(td_batch *b, const char *name, const char *segments,
                                const td_array *like, const int32_t *start, td_error *error)
{
    int32_t *to;
    if (check_like(b, name, TD_I32, like, error))
        return TD_EFORMAT;
    if (td_batch_find(b, name))
        return 0;
    if (is_packed(td_batch_find(b, segments)))
        return td_fail(error, TD_EFORMAT,
                       "the batch has several examples in a row ('%s'), but no array '%s' to say "
                       "where each begins",
                       segments, name);
    if (!(to = td_batch_add(b, name, TD_I32, like->dim[0], like->dim[1])))
        return out_of_memory(error);
    for (int64_t r = 0; r < like->dim[0]; r++)
        for (int64_t t = 0; t < like->dim[1]; t++)
            to[r * like->dim[1] + t] = (int32_t)t + (start ? start[r] : 0);
    return 0;
}

/* A token of k's example in k's row, so many positions or more from it; k: there is none. */
static inline int64_t far_from(const int32_t *at, const int32_t *segment, int64_t k,
                               int64_t columns)
{
    int64_t j = k - k % columns;
    while (j < k && (segment[j] != segment[k] || llabs((long long)at[k] - at[j]) < columns))
        j++;
    return j;
}

/* Positions are not negative, as many as the scheme has and, where a bias depends on distances, no
 * two of one example further apart than the row is long: tables of biases go no further. */
static inline int check_positions(const td_batch *b, const char *name, const char *segments,
                                  const td_part *scheme, td_error *error)
{
    const td_position *p = td_position_of(scheme);
    const td_array    *a = td_batch_find(b, name), *s = td_batch_find(b, segments);
    const int32_t     *at = a->data, *segment = s->data;
    int64_t            columns = a->dim[1], most = 0;

    for (int64_t k = 0; at && k < a->dim[0] * columns; k++) {
        int64_t j = p->bias ? far_from(at, segment, k, columns) : k;
        if (segment[k] < 0)
            return td_fail(error, TD_EFORMAT, "array '%s': row %lld, token %lld is in segment %d",
                           segments, (long long)(k / columns), (long long)(k % columns),
                           segment[k]);
        if (at[k] < 0)
            return td_fail(error, TD_EFORMAT, "array '%s': row %lld, token %lld is at position %d",
                           name, (long long)(k / columns), (long long)(k % columns), at[k]);
        most = at[k] > most ? at[k] : most;
        if (j < k)
            return td_fail(error, TD_EFORMAT,
                           "array '%s': row %lld has positions %d and %d in one example; position "
                           "'%s' needs them less than the row's %lld tokens apart",
                           name, (long long)(k / columns), at[j], at[k], p->plugin.name,
                           (long long)columns);
    }
    return p->check_positions ? p->check_positions(scheme->config, most + 1, error) : 0;
}

/* Labels must be there; weights are 1 where the batch has none. Padding has no weight, and a label
 * without weight may be anything (-100, say): it becomes 0. */
static inline int complete_labels(td_batch *b, const char *segments, const td_array *like,
                                  int64_t vocab, td_error *error)
{
    const td_array *labels = need_ids(b, "labels", 0, error);
    const int32_t  *segment = td_batch_find(b, segments)->data;
    int32_t        *label = labels ? labels->data : NULL;
    float          *w;

    if (!labels || check_like(b, "labels", TD_I32, like, error) ||
        check_like(b, "loss_weights", TD_F32, like, error))
        return TD_EFORMAT;
    if (td_batch_find(b, "loss_weights"))
        w = td_batch_find(b, "loss_weights")->data;
    else {
        if (!(w = td_batch_add(b, "loss_weights", TD_F32, like->dim[0], like->dim[1])))
            return out_of_memory(error);
        for (int64_t k = 0; k < like->dim[0] * like->dim[1]; k++)
            w[k] = segment[k] != 0;
    }
    for (int64_t k = 0; label && w && k < like->dim[0] * like->dim[1]; k++) {
        if (w[k] != 0 && !segment[k])
            return td_fail(
                error, TD_EFORMAT,
                "array 'loss_weights': row %lld, token %lld weighs %g, but it is padding",
                (long long)(k / like->dim[1]), (long long)(k % like->dim[1]), (double)w[k]);
        label[k] = w[k] != 0 ? label[k] : 0;
    }
    return need_ids(b, "labels", vocab, error) ? 0 : TD_EFORMAT;
}

#endif
