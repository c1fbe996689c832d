/* rows.h - laying examples out in the rows of a batch, and completing batches made elsewhere.
 *
 * Two callers make batches: training lays out examples (`arrange`), and the probe brings arrays
 * from a file (`complete`), of which some may be missing and none can be trusted. */
#ifndef TANDEM_PLUGINS_ROWS_H
#define TANDEM_PLUGINS_ROWS_H

#include <stdlib.h>
#include <string.h>

#include "tandem/kind/architecture.h"

/* ---- rows of one stream of tokens ------------------------------------------------------------ */

/* One stream of a batch: ids, segments and positions [rows, length], each row filled from the
 * left. */
struct stream {
    const char *name; /* for messages: "decoder" */
    int64_t     rows, length;
    int32_t    *ids, *segments, *positions;
    int64_t    *used; /* tokens in each row so far */
};

static inline int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory for the arrays of a batch");
}

/* Add the arrays named `ids`, `segments` and `positions` to `out`, all padding. The caller frees
 * `used`, even after a failure. */
static inline int stream_open(struct stream *s, td_batch *out, const char *name, const char *ids,
                              const char *segments, const char *positions, int64_t rows,
                              int64_t length, int32_t pad)
{
    *s = (struct stream){ .name = name, .rows = rows, .length = length };
    s->ids = td_batch_add(out, ids, TD_I32, rows, length);
    s->segments = td_batch_add(out, segments, TD_I32, rows, length);
    s->positions = td_batch_add(out, positions, TD_I32, rows, length);
    /* + 1: calloc of 0 bytes may return NULL */
    s->used = calloc((size_t)rows + 1, sizeof *s->used);
    if (!s->ids || !s->segments || !s->positions || !s->used)
        return TD_ENOMEM;
    /* arrays come zeroed, and with them segment 0, which is what marks padding */
    for (int64_t k = 0; pad > 0 && k < rows * length; k++)
        s->ids[k] = pad;
    return 0;
}

/* Reserve the next `n` places of `row` and return the first, as an index into the arrays; a
 * negative error code if they do not fit. */
static inline int64_t stream_take(struct stream *s, int64_t row, int64_t n, td_error *error)
{
    int64_t at;
    if (row < 0 || row >= s->rows)
        return td_fail(error, TD_EFORMAT,
                       "an example is for row %lld, but the batch has rows 0 .. %lld",
                       (long long)row, (long long)s->rows - 1);
    /* rows are as long as the loss's bounds allow, so an overflow means that the loss exceeded
     * its bounds */
    if (n < 0 || n > s->length - s->used[row])
        return td_fail(error, TD_EFORMAT,
                       "%s: %lld tokens do not fit in row %lld: %lld of its %lld places are free",
                       s->name, (long long)n, (long long)row, (long long)(s->length - s->used[row]),
                       (long long)s->length);
    at = row * s->length + s->used[row];
    s->used[row] += n;
    return at;
}

/* Ids are row numbers of the embedding table: one outside would read past it. `what` is for the
 * message. */
static inline int check_tokens(const char *what, const int32_t *tokens, int64_t n, int64_t vocab,
                               td_error *error)
{
    for (int64_t k = 0; k < n; k++)
        if (tokens[k] < 0 || tokens[k] >= vocab)
            return td_fail(error, TD_EFORMAT,
                           "%s: token %lld is %d, outside the vocabulary of %lld: does "
                           "model.vocab_size match the tokenizer?",
                           what, (long long)k, tokens[k], (long long)vocab);
    return 0;
}

/* Checks an example, because it comes from a loss, perhaps a third-party one, and its tokens come
 * from data. */
static inline int check_example(const td_example *e, int64_t vocab, td_error *error)
{
    if (e->n_given < 0 || e->n_predicted < 0)
        return td_fail(error, TD_EFORMAT, "an example has a negative number of tokens");
    /* as in masked language models: neither architecture has a head over its inputs */
    if (e->places)
        return td_fail(error, TD_ECONFIG,
                       "this loss predicts masked tokens in place; this architecture only predicts "
                       "what comes next");
    if (check_tokens("given tokens", e->given, e->n_given, vocab, error))
        return TD_EFORMAT;
    return check_tokens("predicted tokens", e->predicted, e->n_predicted, vocab, error);
}

/* Token k of an example, given and predicted tokens counted as one sequence. */
static inline int32_t token_of(const td_example *e, int64_t k)
{
    return k < e->n_given ? e->given[k] : e->predicted[k - e->n_given];
}

/* The document of token k, from 0. Examples number documents from 1, or not at all if documents may
 * see each other. */
static inline int32_t document_of(const td_example *e, int64_t k)
{
    const int32_t *d = k < e->n_given ? e->given_documents : e->predicted_documents;
    int32_t        number = d ? d[k < e->n_given ? k : k - e->n_given] : 1;
    return number > 1 ? number - 1 : 0;
}

/* The number of segments that an example takes in its row: one per document. */
static inline int32_t segments_of(const td_example *e)
{
    int32_t most = 0;
    for (int64_t k = 0; k < e->n_given + e->n_predicted; k++)
        most = document_of(e, k) > most ? document_of(e, k) : most;
    return most + 1;
}

/* The token before the first predicted one: <s> or, as in T5, the padding id. */
static inline int32_t first_token(const td_special *s)
{
    return s->bos >= 0 ? s->bos : s->pad >= 0 ? s->pad : 0;
}

/* ---- batches made elsewhere ------------------------------------------------------------------ */

/* The i32 array `name` [rows, columns] with ids below `vocab` (0: unchecked), or NULL and an error.
 * An array without data, here and below, only gives its shape (describe). */
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
    /* labels are checked after those without weight have been cleared: complete_labels */
    if (vocab && a->data && check_tokens(name, a->data, a->dim[0] * a->dim[1], vocab, error))
        return NULL;
    return a;
}

/* The array `name`, if present, must have this dtype and the dims of `like`. */
static inline int check_like(const td_batch *b, const char *name, int dtype, const td_array *like,
                             td_error *error)
{
    const td_array *a = td_batch_find(b, name);
    if (a && (a->dtype != dtype || a->rank != 2 || a->dim[0] != like->dim[0] ||
              a->dim[1] != like->dim[1]))
        return td_fail(error, TD_EFORMAT, "array '%s' must be %s [%lld, %lld], like '%s'", name,
                       dtype == TD_I32 ? "int32" : "float32", (long long)like->dim[0],
                       (long long)like->dim[1], like->name);
    return 0;
}

/* The array of lengths `name` [rows], each within the rows of `like`. NULL if the batch has
 * none; NULL with *failed set if it is invalid. */
static inline const int32_t *row_lengths(const td_batch *b, const char *name, const td_array *like,
                                         bool *failed, td_error *error)
{
    const td_array *a = td_batch_find(b, name);
    const int32_t  *n = a ? a->data : NULL;
    /* no array, or only its shape: there is nothing to check */
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

/* Unless the batch has it, add `name` in the shape of `like`: 1 for the first lengths[row] tokens,
 * 0 after. Without lengths, every token is `all`. */
static inline int add_leading_ones(td_batch *b, const char *name, const td_array *like,
                                   const char *lengths, bool all, td_error *error)
{
    bool           failed = false;
    const int32_t *n = row_lengths(b, lengths, like, &failed, error);
    int32_t       *to;
    /* check even an array that will be ignored: an invalid one is always an error */
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

/* Does a row have several segments, that is, packed examples? */
static inline bool is_packed(const td_array *segments)
{
    const int32_t *s = segments->data;
    for (int64_t k = 0; s && k < segments->dim[0] * segments->dim[1]; k++)
        if (s[k] > 1)
            return true;
    return false;
}

/* Unless the batch has them, add positions start[row] + 0, 1, .. (start NULL: from 0). */
static inline int add_positions(td_batch *b, const char *name, const char *segments,
                                const td_array *like, const int32_t *start, td_error *error)
{
    int32_t *to;
    if (check_like(b, name, TD_I32, like, error))
        return TD_EFORMAT;
    if (td_batch_find(b, name))
        return 0;
    /* one example may have several segments, documents over which its positions run on; segments
     * alone do not say which */
    if (is_packed(td_batch_find(b, segments)))
        return td_fail(error, TD_EFORMAT,
                       "array '%s' packs several examples in a row, so the batch must also have "
                       "array '%s', which says where each begins",
                       segments, name);
    if (!(to = td_batch_add(b, name, TD_I32, like->dim[0], like->dim[1])))
        return out_of_memory(error);
    for (int64_t r = 0; r < like->dim[0]; r++)
        for (int64_t t = 0; t < like->dim[1]; t++)
            to[r * like->dim[1] + t] = (int32_t)t + (start ? start[r] : 0);
    return 0;
}

/* The first token of k's row and segment that is `columns` positions or more away from k; k if
 * there is none. */
static inline int64_t far_from(const int32_t *at, const int32_t *segment, int64_t k,
                               int64_t columns)
{
    int64_t j = k - k % columns;
    while (j < k && (segment[j] != segment[k] || llabs((long long)at[k] - at[j]) < columns))
        j++;
    return j;
}

/* Positions must be 0 or more and within the scheme's range. For a scheme that biases scores, two
 * tokens of one example must be less than the row's length apart, since its table of distances ends
 * there. */
static inline int check_positions(const td_batch *b, const char *name, const char *segments,
                                  const td_part *scheme, td_error *error)
{
    const td_position *p = td_position_of(scheme);
    const td_array    *a = td_batch_find(b, name), *s = td_batch_find(b, segments);
    const int32_t     *at = a->data, *segment = s->data;
    int64_t            columns = a->dim[1], most = 0;

    /* quadratic in the row, but only with a bias, and only for batches from a file */
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
                           "array '%s': row %lld has positions %d and %d in one example; with "
                           "position '%s' they must be less than the row's %lld tokens apart",
                           name, (long long)(k / columns), at[j], at[k], p->plugin.name,
                           (long long)columns);
    }
    return p->check_positions ? p->check_positions(scheme->config, most + 1, error) : 0;
}

/* Labels are required; without weights, every token but padding weighs 1. Padding must not have
 * weight. A label without weight may be anything (PyTorch's -100, say): it becomes 0. */
static inline int complete_labels(td_batch *b, const char *segments, const td_array *like,
                                  int64_t vocab, td_error *error)
{
    const td_array *labels = need_ids(b, "labels", 0, error);
    const int32_t  *segment = td_batch_find(b, segments)->data;
    int32_t        *label = labels ? labels->data : NULL;
    float          *w;

    /* shapes first: the loops below index all three arrays alike */
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
                "array 'loss_weights': row %lld, token %lld has weight %g, but it is padding",
                (long long)(k / like->dim[1]), (long long)(k % like->dim[1]), (double)w[k]);
        label[k] = w[k] != 0 ? label[k] : 0;
    }
    return need_ids(b, "labels", vocab, error) ? 0 : TD_EFORMAT;
}

#endif
