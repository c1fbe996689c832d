/* looked.c - the analyzed attentions: their selection, weights and means. */
#include "evaluate/looked.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

static int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory for the weights of attentions");
}

/* ---- choosing -------------------------------------------------------------------------------- */

/* A number selects that layer in every stack; anything else is a path pattern. */
static bool is_meant(const td_attention_node *n, const char *layer)
{
    size_t digits = strspn(layer, "0123456789");
    if (digits && !layer[digits])
        return n->layer >= 0 && n->layer == strtoll(layer, NULL, 10);
    return td_match(layer, n->path);
}

static bool is_chosen(const td_analyze_spec *s, const td_attention_node *n)
{
    bool chosen = !s->n_layers;
    for (size_t k = 0; k < s->n_layers && !chosen; k++)
        chosen = is_meant(n, s->layers[k]);
    return chosen;
}

static int no_such_layer(const td_attentions *found, const char *layer, td_error *error)
{
    td_text names = { 0 };
    int     code;
    for (size_t k = 0; k < found->n; k++)
        if (!found->at[k].map)
            td_text_print(&names, "%s%s", names.size ? ", " : "", found->at[k].path);
    code = td_fail(error, TD_ECONFIG,
                   "there is no attention in layer '%s': give the number of a layer or a "
                   "pattern of paths; the model has %s",
                   layer, td_text_get(&names));
    td_text_free(&names);
    return code;
}

static int check_layers(const td_attentions *found, const td_analyze_spec *s, td_error *error)
{
    for (size_t l = 0; l < s->n_layers; l++) {
        bool any = false;
        for (size_t k = 0; k < found->n; k++)
            any |= is_meant(&found->at[k], s->layers[l]);
        if (!any)
            return no_such_layer(found, s->layers[l], error);
    }
    return 0;
}

/* All heads, or the requested ones. */
static int choose_heads(const td_analyze_spec *s, td_looked_at *a, td_error *error)
{
    int64_t heads = a->node->in[TD_ATTEND_Q]->dim[1];
    a->n_heads = s->n_heads ? s->n_heads : (size_t)heads;
    a->heads = calloc(a->n_heads + 1, sizeof *a->heads);
    if (!a->heads)
        return out_of_memory(error);
    for (size_t k = 0; k < a->n_heads; k++) {
        a->heads[k] = s->n_heads ? s->heads[k] : (int64_t)k;
        if (a->heads[k] < 0 || a->heads[k] >= heads)
            return td_fail(error, TD_ECONFIG,
                           "there is no head %" PRId64 " in '%s': it has heads 0 to %" PRId64,
                           a->heads[k], a->node->path, heads - 1);
    }
    return 0;
}

/* Weights of every pair grow with the square of the length. */
static int open_rows(td_looked_at *a, td_error *error)
{
    const td_attention_node *n = a->node;
    int64_t queries = n->in[TD_ATTEND_Q]->dim[2], keys = n->in[TD_ATTEND_K]->dim[2];
    size_t  all;
    if (!__builtin_mul_overflow(a->n_heads, (size_t)queries, &all) &&
        !__builtin_mul_overflow(all, (size_t)keys, &all))
        a->rows = calloc(all + 1, sizeof *a->rows);
    return a->rows ? 0
                   : td_fail(error, TD_ENOMEM,
                             "out of memory for the weights of '%s': %zu heads of %" PRId64
                             " queries and %" PRId64
                             " keys; choose fewer heads or layers, or a shorter text",
                             n->path, a->n_heads, queries, keys);
}

static int open_sums(td_looked_at *a, td_error *error)
{
    const td_attention_node *n = a->node;
    int64_t                  keys = n->in[TD_ATTEND_K]->dim[2];
    return td_weights_open(&a->sums, n->in[TD_ATTEND_Q]->dim[2], n->own, keys - n->own)
               ? 0
               : out_of_memory(error);
}

int td_looked_choose(td_looked *l, const td_attentions *found, const td_analyze_spec *s,
                     td_error *error)
{
    int code = check_layers(found, s, error);
    l->length = s->evaluate.feed.length;
    l->at = calloc(found->n + 1, sizeof *l->at);
    if (!l->at)
        return out_of_memory(error);
    for (size_t k = 0; k < found->n && !code; k++) {
        td_looked_at *a = &l->at[l->n];
        if (!is_chosen(s, &found->at[k]))
            continue;
        /* counted before it is complete, so that closing frees what it already has */
        l->n++;
        a->node = &found->at[k];
        code = choose_heads(s, a, error);
        if (!code)
            code = open_sums(a, error);
        if (!code && l->keeps)
            code = open_rows(a, error);
    }
    return code;
}

/* ---- weights --------------------------------------------------------------------------------- */

/* The inputs of an attention, copied to the host. */
typedef struct copied {
    double  *real[TD_ATTEND_INPUTS];
    int32_t *whole[TD_ATTEND_INPUTS];
} copied;

static int copy_input(td_plan *plan, td_tensor *t, double **real, int32_t **whole, td_error *error)
{
    int64_t n = td_count(t);
    int     code;
    *real = malloc((size_t)n * sizeof **real + 1);
    if (t->dtype == TD_I32)
        *whole = malloc((size_t)n * sizeof **whole + 1);
    if (!*real || (t->dtype == TD_I32 && !*whole))
        return out_of_memory(error);
    code = td_plan_get(plan, t, *real, n, error);
    for (int64_t k = 0; !code && *whole && k < n; k++)
        (*whole)[k] = (int32_t)(*real)[k];
    return code;
}

/* Inputs that the attention does not have are NULL, and hide nothing. There is one row, because
 * sequences are analyzed one at a time. */
static td_mask_rule rule_of(const td_attention_node *n, const copied *c)
{
    return (td_mask_rule){ .q_segment = c->whole[TD_ATTEND_Q_SEGMENT],
                           .k_segment = c->whole[TD_ATTEND_K_SEGMENT],
                           .q_input = c->whole[TD_ATTEND_Q_INPUT],
                           .k_input = c->whole[TD_ATTEND_K_INPUT],
                           .q_index = c->whole[TD_ATTEND_Q_INDEX],
                           .k_index = c->whole[TD_ATTEND_K_INDEX],
                           .k_length = c->whole[TD_ATTEND_K_LENGTH],
                           .rows = 1,
                           .q = n->in[TD_ATTEND_Q]->dim[2],
                           .k = n->in[TD_ATTEND_K]->dim[2],
                           .causal = n->attrs.i[0],
                           .window = n->attrs.i[1],
                           .self = n->attrs.i[2] };
}

static int64_t before_of(const td_looked *l, const td_attention_node *n)
{
    int64_t before = l->length - n->in[TD_ATTEND_Q]->dim[2];
    return n->predicts && before > 0 ? before : 0;
}

static td_weights_in weights_of(const td_looked *l, const td_looked_at *a, const copied *c)
{
    const td_attention_node *n = a->node;
    const td_tensor         *q = n->in[TD_ATTEND_Q], *k = n->in[TD_ATTEND_K];
    const td_tensor         *table = n->in[TD_ATTEND_TABLE], *dense = n->in[TD_ATTEND_DENSE];
    /* dims and attributes come from the node, so the weights are those that its kernel used */
    return (td_weights_in){ .heads = q->dim[1],
                            .groups = k->dim[1],
                            .queries = q->dim[2],
                            .keys = k->dim[2],
                            .width = q->dim[3],
                            .q = c->real[TD_ATTEND_Q],
                            .k = c->real[TD_ATTEND_K],
                            .scale = n->attrs.f[0],
                            .cap = n->attrs.f[1],
                            .rule = rule_of(n, c),
                            .table = c->real[TD_ATTEND_TABLE],
                            .distances = table ? table->dim[1] : 0,
                            .offset = n->attrs.i[3],
                            .q_position = c->whole[TD_ATTEND_Q_POSITION],
                            .k_position = c->whole[TD_ATTEND_K_POSITION],
                            .dense = c->real[TD_ATTEND_DENSE],
                            .dense_heads = dense ? dense->dim[1] : 0,
                            .own = n->own,
                            .before = before_of(l, n),
                            .chosen = a->heads,
                            .n_chosen = a->n_heads,
                            .rows = a->rows };
}

bool td_looked_reads(const td_looked_at *a, int input)
{
    return input != TD_ATTEND_V && a->node->in[input];
}

static int add_attention(const td_looked *l, td_looked_at *a, td_plan *plan,
                         const td_services *services, td_error *error)
{
    copied c = { 0 };
    int    code = 0;
    for (int i = 0; i < TD_ATTEND_INPUTS && !code; i++)
        if (td_looked_reads(a, i))
            code = copy_input(plan, a->node->in[i], &c.real[i], &c.whole[i], error);
    if (!code) {
        td_weights_in in = weights_of(l, a, &c);
        if (!td_weights_add(&a->sums, &in, services))
            code = out_of_memory(error);
    }
    /* also what copy_input left when it failed */
    for (int i = 0; i < TD_ATTEND_INPUTS; i++) {
        free(c.real[i]);
        free(c.whole[i]);
    }
    return code;
}

/* One at a time: the copied inputs of one attention are freed before the next. */
int td_looked_add(td_looked *l, td_plan *plan, const td_services *services, td_error *error)
{
    int code = 0;
    for (size_t k = 0; k < l->n && !code; k++)
        code = add_attention(l, &l->at[k], plan, services, error);
    return code;
}

/* ---- means ----------------------------------------------------------------------------------- */

td_reads td_looked_reads_of(const td_attention_node *n)
{
    if (!n->predicts)
        return TD_READS_ENCODER;
    if (!n->own)
        return TD_READS_CROSS;
    return n->own < n->in[TD_ATTEND_K]->dim[2] ? TD_READS_BOTH : TD_READS_SELF;
}

static int average_each(const td_looked *l, td_analysis *out, td_error *error)
{
    out->attentions = calloc(l->n + 1, sizeof *out->attentions);
    for (size_t k = 0; out->attentions && k < l->n; k++) {
        const td_attention_node *n = l->at[k].node;
        out->attentions[k] = (td_attention_mean){ .name = strdup(n->path),
                                                  .layer = n->layer,
                                                  .map = n->map,
                                                  .reads = td_looked_reads_of(n),
                                                  .heads = (int64_t)l->at[k].n_heads };
        /* counted before it is complete, so that td_analysis_free frees what it already has */
        out->n_attentions++;
        if (!out->attentions[k].name ||
            !td_attention_average(&out->attentions[k], &l->at[k].sums, before_of(l, n)))
            return out_of_memory(error);
    }
    return out->attentions ? 0 : out_of_memory(error);
}

static bool same_dims(const td_weights *a, const td_weights *b)
{
    return a->queries == b->queries && a->own == b->own && a->memory == b->memory;
}

/* Adds to the sums of the first: the means of single attentions were taken before. */
static int average_all(const td_looked *l, td_reads reads, td_analysis *out, td_error *error)
{
    static const char *const names[TD_READS] = { "encoder", "self", "cross", "both" };
    td_attention_mean       *mean = &out->all[reads];
    td_looked_at            *first = NULL;
    *mean = (td_attention_mean){ .name = names[reads], .layer = -1, .reads = reads };
    for (size_t k = 0; k < l->n; k++) {
        td_looked_at *a = &l->at[k];
        /* parts of attentions with other dims are of other sizes */
        if (td_looked_reads_of(a->node) != reads || (first && !same_dims(&first->sums, &a->sums)))
            continue;
        if (first)
            td_weights_join(&first->sums, &a->sums);
        first = first ? first : a;
        mean->heads += (int64_t)a->n_heads;
    }
    return !first || td_attention_average(mean, &first->sums, before_of(l, first->node))
               ? 0
               : out_of_memory(error);
}

int td_looked_average(const td_looked *l, td_analysis *out, td_error *error)
{
    int code = average_each(l, out, error);
    for (int r = 0; r < TD_READS && !code; r++)
        code = average_all(l, (td_reads)r, out, error);
    return code;
}

void td_looked_free(td_looked *l)
{
    for (size_t k = 0; k < l->n; k++) {
        td_weights_free(&l->at[k].sums);
        free(l->at[k].heads);
        free(l->at[k].rows);
    }
    free(l->at);
    *l = (td_looked){ 0 };
}
