/* dump.c - a graph as text, and as DOT for graphviz.
 *
 * The text is for diffs: nodes in order, numbered by their index, one line each, so that two graphs
 * can be compared with ordinary tools.
 */
#include <string.h>

#include "graph/internal.h"

const char *td_dtype_name(int dtype)
{
    static const char *const names[] = { "real", "f32", "f64", "bf16", "i32" };
    return dtype >= 0 && dtype <= TD_I32 ? names[dtype] : "unknown";
}

void td_print_dims(td_text *out, int dtype, int rank, const int64_t *dims)
{
    td_text_print(out, "%s[", td_dtype_name(dtype));
    for (int k = 0; k < rank; k++)
        td_text_print(out, "%s%lld", k ? ", " : "", (long long)dims[k]);
    td_text_print(out, "]");
}

/* A node's own name if it has one, else its op's. */
static const char *title(const td_node *n)
{
    switch (n->kind) {
    case TD_NODE_VARIABLE:
        return n->variable->name;
    case TD_NODE_INPUT:
        return n->input;
    case TD_NODE_CONSTANT:
        return "constant";
    case TD_NODE_ERROR:
        return "error";
    default:
        return n->op->plugin.name;
    }
}

/* "%7", "%7.1" (output 1 of node 7), "-" (absent) */
static void print_inputs(const td_node *n, td_text *out)
{
    for (int k = 0; k < n->n_in; k++) {
        const td_value *v = n->in[k];
        td_text_print(out, "%s", k ? ", " : "");
        if (!v)
            td_text_print(out, "-");
        else if (v->slot)
            td_text_print(out, "%%%d.%d", v->node->index, v->slot);
        else
            td_text_print(out, "%%%d", v->node->index);
    }
}

void td_graph_dump_text(const td_graph *graph, td_text *out)
{
    const td_graph_full *g = td_full_of(graph);
    for (int32_t i = 1; i < g->n_nodes; i++) { /* node 0 is the error node */
        const td_node *n = g->nodes[i];
        td_text_print(out, "%%%d = %s(", n->index, title(n));
        print_inputs(n, out);
        td_text_print(out, ") ");
        td_print_dims(out, n->out[0].t.dtype, n->out[0].t.rank, n->out[0].t.dim);
        td_text_print(out, "  %s%s\n", n->path, n->backward ? " (backward)" : "");
    }
}

/* Parameters are blue, inputs green, the backward pass is sand. */
static const char *style(const td_node *n)
{
    switch (n->kind) {
    case TD_NODE_VARIABLE:
        return ", style = filled, fillcolor = \"#dbe9f6\"";
    case TD_NODE_INPUT:
        return ", style = filled, fillcolor = \"#e5f5e0\"";
    default:
        return n->backward ? ", style = filled, fillcolor = \"#f4f0e8\"" : "";
    }
}

void td_graph_dump_dot(const td_graph *graph, td_text *out)
{
    const td_graph_full *g = td_full_of(graph);
    td_text_print(out, "digraph tandem {\n  rankdir = BT;\n  node [shape = box, fontname = "
                       "\"sans-serif\", fontsize = 10];\n");
    for (int32_t i = 1; i < g->n_nodes; i++) {
        const td_node *n = g->nodes[i];
        td_text_print(out, "  n%d [label = \"%s\\n", i, title(n));
        td_print_dims(out, n->out[0].t.dtype, n->out[0].t.rank, n->out[0].t.dim);
        /* the path is long: a tooltip shows it in SVG */
        td_text_print(out, "\", tooltip = \"%s\"%s];\n", n->path, style(n));
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k])
                td_text_print(out, "  n%d -> n%d;\n", n->in[k]->node->index, i);
    }
    td_text_print(out, "}\n");
}
