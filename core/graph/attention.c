/* attention.c - finding the attentions of a graph.
 *
 * The graph knows ops, not models. So the tokens that an attention reads are found from the
 * dependencies of its queries and keys: a tensor comes from an encoder if it does not depend on the
 * tokens that the model predicts from. Path names are only used to find attentions that are built
 * from other ops.
 */
#include "graph/attention.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "graph/internal.h"

/* ---- what depends on what -------------------------------------------------------------------- */

/* An input is always emitted before its readers, so one walk is enough. */
static void find_dependent(const td_graph_full *g, const char *generated, bool *depends)
{
    for (int32_t i = 0; i < g->n_nodes; i++) {
        const td_node *n = g->nodes[i];
        depends[i] = n->kind == TD_NODE_INPUT && (!generated || !strcmp(n->input, generated));
        for (int k = 0; k < n->n_in && !depends[i]; k++)
            depends[i] = n->in[k] && depends[n->in[k]->node->index];
    }
}

/* For keys concatenated along their tokens, with the encoder's last: the number before the
 * encoder's. */
static int64_t own_of_joined(const td_node *keys, const bool *depends)
{
    enum { TOKENS = 2 };
    int64_t own = 0;
    if (!td_node_is(keys, "concat") || keys->attrs.i[0] != TOKENS)
        return keys->out[0].t.dim[TOKENS];
    for (int k = 0; k < keys->n_in && depends[keys->in[k]->node->index]; k++)
        own += keys->in[k]->t.dim[TOKENS];
    return own;
}

/* ---- paths ----------------------------------------------------------------------------------- */

static bool is_number(const char *s, size_t n)
{
    for (size_t k = 0; k < n; k++)
        if (!isdigit((unsigned char)s[k]))
            return false;
    return n > 0 && n < 10;
}

static int64_t layer_of(const char *path)
{
    int64_t layer = -1;
    for (const char *at = path; at; at = strchr(at, '.')) {
        at += *at == '.';
        if (is_number(at, strcspn(at, ".")))
            layer = strtol(at, NULL, 10);
    }
    return layer;
}

static bool ends_with(const char *s, size_t n, const char *end)
{
    size_t m = strlen(end);
    return n >= m && !memcmp(s + n - m, end, m);
}

/* The length of the part of a path that names an attention, up to that component; 0 if the path is
 * not in an attention. */
static size_t attention_prefix(const char *path)
{
    for (const char *at = path; *at;) {
        size_t n = strcspn(at, ".");
        if (ends_with(at, n, "attn") || ends_with(at, n, "attention"))
            return (size_t)(at - path) + n;
        at += n + (at[n] == '.');
    }
    return 0;
}

static bool begins_with(const char *path, const char *prefix, size_t n)
{
    return !strncmp(path, prefix, n) && (!path[n] || path[n] == '.');
}

/* ---- finding --------------------------------------------------------------------------------- */

static void describe(const td_node *n, const bool *depends, td_attention_node *a)
{
    const td_node *q = n->in[TD_ATTEND_Q]->node, *k = n->in[TD_ATTEND_K]->node;
    *a = (td_attention_node){ .path = n->path,
                              .layer = layer_of(n->path),
                              .out = &n->out[0].t,
                              .attrs = n->attrs,
                              .predicts = depends[q->index] };
    for (int i = 0; i < n->n_in; i++)
        a->in[i] = n->in[i] ? &n->in[i]->t : NULL;
    /* an encoder's own keys depend on the same input as its queries */
    if (!a->predicts)
        a->own = k->out[0].t.dim[2];
    else if (depends[k->index])
        a->own = own_of_joined(k, depends);
}

static void find_nodes(const td_graph_full *g, const bool *depends, td_attentions *out)
{
    for (int32_t i = 0; i < g->n_nodes; i++) {
        td_attention_node *a = &out->at[out->n];
        if (!td_node_is(g->nodes[i], "attend"))
            continue;
        describe(g->nodes[i], depends, a);
        for (size_t k = 0; k < out->n; k++)
            a->map += !strcmp(out->at[k].path, a->path);
        out->n++;
    }
}

static bool has_weights(const td_attentions *a, const char *prefix, size_t n)
{
    for (size_t k = 0; k < a->n; k++)
        if (begins_with(a->at[k].path, prefix, n))
            return true;
    return false;
}

static bool is_known(const td_attentions *a, const char *prefix, size_t n)
{
    for (size_t k = 0; k < a->n_without; k++)
        if (strlen(a->without[k]) == n && !memcmp(a->without[k], prefix, n))
            return true;
    return false;
}

/* Nodes of one attention follow each other, so most are those of the attention just seen. */
static int find_without(const td_graph_full *g, td_attentions *out)
{
    for (int32_t i = 0; i < g->n_nodes; i++) {
        const char *path = g->nodes[i]->path ? g->nodes[i]->path : "";
        size_t      n = attention_prefix(path);
        char       *copy;
        if (!n || has_weights(out, path, n) || is_known(out, path, n))
            continue;
        copy = td_arena_alloc(g->arena, n + 1);
        if (!copy)
            return TD_ENOMEM;
        memcpy(copy, path, n);
        copy[n] = 0;
        out->without[out->n_without++] = copy;
    }
    return 0;
}

int td_graph_attentions(const td_graph *graph, const char *generated, td_attentions *out,
                        td_error *error)
{
    const td_graph_full *g = td_full_of(graph);
    size_t               room = (size_t)g->n_nodes + 1;
    bool                *depends = calloc(room, sizeof *depends);
    int                  code = TD_ENOMEM;

    /* one per node: far too many, but cheap */
    *out = (td_attentions){ .at = calloc(room, sizeof *out->at),
                            .without = calloc(room, sizeof *out->without) };
    if (depends && out->at && out->without) {
        find_dependent(g, generated, depends);
        find_nodes(g, depends, out);
        code = find_without(g, out);
    }
    free(depends);
    return code ? td_fail(error, code, "out of memory while looking for attentions") : 0;
}

void td_attentions_free(td_attentions *a)
{
    free(a->at);
    free(a->without);
    *a = (td_attentions){ 0 };
}
