/* precision.c - the rules of mixed precision, and how a plan follows them: which calls are made in
 * bf16, what they read and write in which dtype, and the casts between. See precision.h.
 *
 * Whether a result is stored in bf16 depends on its readers, which a walk from the roots back sees
 * before it (find_live). A product that every reader wants wide writes it wide: so the gradients of
 * parameters, and the logits, are never rounded to bf16. A sum is wide if a summand is: so the
 * residual stream, which begins with embeddings in f32, and its gradient are added up in f32, and
 * only what branches off into products is rounded.
 */
#include "plan/precision.h"

#include <string.h>

#include "plan/internal.h"
#include "tandem/ops.h"

/* ---- rules ----------------------------------------------------------------------------------- */

#define BIT(k) (1u << (k))

/* The numbers of an attention's biases; of its gradient, also of the logsumexp; of their
 * gradients. */
enum { ATTEND_WIDE = BIT(TD_ATTEND_TABLE) | BIT(TD_ATTEND_DENSE) };
enum { ATTEND_GRAD_WIDE = ATTEND_WIDE | BIT(TD_ATTEND_LSE), ATTEND_GRAD_BIASES = BIT(3) | BIT(4) };
enum { CE_WIDE_IN = BIT(TD_CE_WEIGHTS) | BIT(TD_CE_DIVISOR) };
enum {
    CE_WIDE_OUT = BIT(TD_CE_LOSS) | BIT(TD_CE_SUM) | BIT(TD_CE_NLL) | BIT(TD_CE_GRAD_EMBEDDING)
};

static const td_precision_rule rules[] = {
    { "matmul", TD_PRECISION_PRODUCT, 0, 0 },
    { "grouped_matmul", TD_PRECISION_PRODUCT, 0, 0 },
    { "grouped_outer", TD_PRECISION_PRODUCT, 0, 0 },
    { "attend", TD_PRECISION_PRODUCT, ATTEND_WIDE, BIT(1) },
    { "attend_grad", TD_PRECISION_PRODUCT, ATTEND_GRAD_WIDE, ATTEND_GRAD_BIASES },
    { "cross_entropy", TD_PRECISION_PRODUCT, CE_WIDE_IN, CE_WIDE_OUT },
    /* weights and statistics are wide: x w / sqrt(mean(x^2) + eps) is computed wide */
    { "rms_norm", TD_PRECISION_EITHER, BIT(1), BIT(1) },
    { "rms_norm_grad", TD_PRECISION_EITHER, BIT(2) | BIT(3), BIT(1) },
    { "layer_norm", TD_PRECISION_EITHER, BIT(1) | BIT(2), BIT(1) | BIT(2) },
    { "layer_norm_grad", TD_PRECISION_EITHER, BIT(2) | BIT(3) | BIT(4), BIT(1) | BIT(2) },
    /* angles of far positions need all their bits */
    { "rope", TD_PRECISION_EITHER, BIT(1) | BIT(2), 0 },
    { "neg", TD_PRECISION_EITHER, 0, 0 },
    { "abs", TD_PRECISION_EITHER, 0, 0 },
    { "sign", TD_PRECISION_EITHER, 0, 0 },
    { "affine", TD_PRECISION_EITHER, 0, 0 },
    { "add", TD_PRECISION_EITHER, 0, 0 },
    { "sub", TD_PRECISION_EITHER, 0, 0 },
    { "mul", TD_PRECISION_EITHER, 0, 0 },
    { "div", TD_PRECISION_EITHER, 0, 0 },
    { "maximum", TD_PRECISION_EITHER, 0, 0 },
    { "tanh", TD_PRECISION_EITHER, 0, 0 },
    { "sigmoid", TD_PRECISION_EITHER, 0, 0 },
    { "where", TD_PRECISION_EITHER, 0, 0 },
    { "activation", TD_PRECISION_EITHER, 0, 0 },
    { "activation_grad", TD_PRECISION_EITHER, 0, 0 },
    { "glu", TD_PRECISION_EITHER, 0, 0 },
    { "glu_grad", TD_PRECISION_EITHER, 0, 0 },
    { "dropout", TD_PRECISION_EITHER, 0, 0 },
    { "copy", TD_PRECISION_MOVE, 0, 0 },
    { "concat", TD_PRECISION_MOVE, 0, 0 },
    { "pad", TD_PRECISION_MOVE, 0, 0 },
    { "gather", TD_PRECISION_MOVE, 0, 0 },
    { "assign", TD_PRECISION_MOVE, BIT(2), 0 },
    { "append", TD_PRECISION_MOVE, 0, 0 },
};

const td_precision_rule *td_precision_of(const char *op)
{
    static const td_precision_rule wide = { "", TD_PRECISION_WIDE, 0, 0 };
    for (size_t k = 0; k < sizeof rules / sizeof *rules; k++)
        if (!strcmp(rules[k].op, op))
            return &rules[k];
    return &wide;
}

static const td_precision_rule *rule_of(const td_node *n)
{
    return td_precision_of(n->op->plugin.name);
}

static bool is_real(const td_value *v) { return v && v->t.dtype != TD_I32; }

/* The input that the node writes to; -1: none. */
static int state_input(const td_node *n)
{
    for (int k = 0; k < n->n_out; k++)
        if (n->op->inplace[k])
            return n->op->inplace[k] - 1;
    return -1;
}

/* ---- what is stored how ---------------------------------------------------------------------- */

/* The dtype that a value lies in. */
static int stored(td_plan *p, td_value *v)
{
    td_value           *r = td_plan_resolve(p, v);
    const td_node_plan *np = td_plan_node(p, r->node);
    if (np->placed[r->slot])
        return np->place[r->slot].view.dtype;
    return r->node->kind == TD_NODE_VARIABLE && r->node->variable->narrow ? TD_BF16 : r->t.dtype;
}

/* The parameter whose copy holds what lies at `place`; NULL: none does. A copy is out of date from
 * when the plan writes its parameter until the end of the plan. */
static td_node *copied_at(td_plan *p, const td_place *place)
{
    const td_storage *s = &p->storages[place->storage];
    if (s->kind != TD_STORAGE_VARIABLE || place->view.dtype == TD_BF16 ||
        !s->leaf->variable->copied || td_plan_node(p, s->leaf)->changed)
        return NULL;
    return s->leaf;
}

static bool has_copy(td_plan *p, td_value *v)
{
    td_value           *r = td_plan_resolve(p, v);
    const td_node_plan *np = td_plan_node(p, r->node);
    if (np->placed[r->slot])
        return copied_at(p, &np->place[r->slot]) != NULL;
    return r->node->kind == TD_NODE_VARIABLE && r->node->variable->copied;
}

/* The storage of a parameter's copy, made when it is first read or written. */
static td_place place_of_copy(td_plan *p, td_node *leaf, const td_place *place)
{
    td_node_plan *np = td_plan_node(p, leaf);
    td_place      to = *place;
    if (!np->copy) {
        int32_t s = td_plan_storage(p, TD_STORAGE_VARIABLE, TD_BF16, leaf->variable->count);
        p->storages[s].leaf = leaf;
        p->storages[s].last = -1;
        np->copy = s + 1;
    }
    /* strides count elements, so the same window shows the same elements */
    to.storage = np->copy - 1;
    to.view.dtype = TD_BF16;
    return to;
}

/* ---- liveness -------------------------------------------------------------------------------- */

/* The dtype that every reader of the node's results wants; 0: they differ, or some do not care. */
static int wanted_by_all(const td_plan *p, const td_node *n, const td_node_plan *np,
                         uint32_t wide_out)
{
    bool wide = true, narrow = true;
    for (int k = 0; k < n->n_out; k++) {
        if (!np->used[k] || wide_out >> k & 1)
            continue;
        wide &= np->uses[k] == np->wide[k];
        narrow &= np->uses[k] == np->bf16[k];
    }
    return wide ? p->g->options.real : narrow ? TD_BF16 : 0;
}

int td_plan_wanted(td_plan *p, const td_node *n, int k)
{
    const td_precision_rule *rule = rule_of(n);
    const td_node_plan      *np = td_plan_node(p, n);
    int                      state = state_input(n), wanted, real = p->g->options.real;

    if (n->op->flags & TD_OP_VIEW)
        return wanted_by_all(p, n, np, 0);
    if (np->inside || rule->precision == TD_PRECISION_WIDE || rule->wide_in >> k & 1)
        return real;
    if (rule->precision == TD_PRECISION_PRODUCT)
        return k == n->op->accumulate_in - 1 ? 0 : TD_BF16;
    /* what is written to a state takes the state's dtype */
    if (state >= 0 && n->in[state] && td_state_of(n->in[state]))
        return td_state_of(n->in[state])->variable->narrow ? TD_BF16 : real;
    wanted = wanted_by_all(p, n, np, rule->wide_out);
    /* an elementwise op reads either; but where its results are wide, its operands had better be,
     * too */
    return rule->precision == TD_PRECISION_MOVE || wanted == real ? wanted : 0;
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* Whether an operand that counts is stored wide: a result then is, too, unless it is only read in
 * bf16. So a sum of layers (a residual stream) that begins wide remains so. Scalars and what else is
 * broadcast do not count, nor do parameters, which are always wide. */
static bool has_wide_operand(td_plan *p, const td_node *n, const td_precision_rule *rule, int k)
{
    const td_node_plan *np = td_plan_node(p, n);
    for (int i = 0; i < td_plan_n_inputs(n); i++) {
        td_value *v = td_plan_input(n, np, i);
        if (!is_real(v) || rule->wide_in >> i & 1 ||
            (rule->precision == TD_PRECISION_PRODUCT && i != n->op->accumulate_in - 1))
            continue;
        if (stored(p, v) != TD_BF16 && !has_copy(p, v) && td_count(&v->t) == td_count(&n->out[k].t))
            return true;
    }
    return false;
}

/* Whether the node's call, if it is in bf16, writes output k so. */
static bool is_written_narrow(td_plan *p, const td_node *n, int k)
{
    const td_precision_rule *rule = rule_of(n);
    const td_node_plan      *np = td_plan_node(p, n);

    if (n->out[k].t.dtype == TD_I32 || rule->wide_out >> k & 1)
        return false;
    if (rule->precision == TD_PRECISION_MOVE)
        return true;
    if (np->uses[k] == np->wide[k])
        return false;
    return np->uses[k] == np->bf16[k] || !has_wide_operand(p, n, rule, k);
}

/* An elementwise op or a movement: by what it reads, or by its readers. */
static bool follows_narrow(td_plan *p, const td_node *n, const td_precision_rule *rule)
{
    const td_node_plan *np = td_plan_node(p, n);
    bool                wanted = p->g->options.narrow && np->uses[0] == np->bf16[0];

    for (int k = 0; k < n->n_in; k++) {
        if (!is_real(n->in[k]) || rule->wide_in >> k & 1)
            continue;
        if (stored(p, n->in[k]) == TD_BF16)
            return true;
        /* a parameter is moved for products in the form that they read */
        if (wanted && np->used[0] &&
            (rule->precision == TD_PRECISION_EITHER || has_copy(p, n->in[k])))
            return true;
    }
    return false;
}

bool td_plan_is_narrow(td_plan *p, const td_node *n)
{
    const td_precision_rule *rule = rule_of(n);
    int                      state = state_input(n);

    if (rule->precision == TD_PRECISION_WIDE || td_plan_node(p, n)->inside ||
        td_plan_kernel_dtype(n) == TD_I32)
        return false;
    if (rule->precision == TD_PRECISION_PRODUCT)
        return p->g->options.narrow != 0;
    if (state >= 0)
        return stored(p, n->in[state]) == TD_BF16;
    return follows_narrow(p, n, rule);
}

bool td_plan_writes_narrow(td_plan *p, const td_node *n)
{
    int state = state_input(n);
    return state >= 0 && n->in[state] && stored(p, n->in[state]) == TD_BF16;
}

td_place td_plan_as_read(td_plan *p, const td_node *n, int k, const td_place *place)
{
    const td_precision_rule *rule = rule_of(n);
    bool                     narrow = td_plan_node(p, n)->narrow;
    int                      real = p->g->options.real;

    if (place->view.dtype == TD_I32 || k == state_input(n))
        return *place;
    /* a product starts from its summand as it is stored */
    if (narrow && (rule->precision == TD_PRECISION_EITHER || k == n->op->accumulate_in - 1) &&
        !(rule->wide_in >> k & 1))
        return *place;
    if (!narrow || rule->wide_in >> k & 1)
        return place->view.dtype == TD_BF16 ? td_plan_cast(p, place, real, n) : *place;
    if (place->view.dtype == TD_BF16)
        return *place;
    return copied_at(p, place) ? place_of_copy(p, copied_at(p, place), place)
                               : td_plan_cast(p, place, TD_BF16, n);
}

int td_plan_written_dtype(td_plan *p, const td_node *n, int k)
{
    return td_plan_node(p, n)->narrow && is_written_narrow(p, n, k) ? TD_BF16 : n->out[k].t.dtype;
}

/* ---- casts ----------------------------------------------------------------------------------- */

/* A cast that was planned a moment ago serves again. Not an older one: what the forward pass has
 * cast would stay in memory until the backward pass. States are left out: they change. */
static const td_place *find_cast(td_plan *p, const td_place *from, int dtype)
{
    for (int k = 0; k < TD_RECENT_CASTS; k++) {
        const td_recent_cast *c = &p->casts[k];
        if (c->to.view.dtype == dtype && c->from.storage == from->storage &&
            c->from.offset == from->offset && td_view_same(&c->from.view, &from->view))
            return &c->to;
    }
    return NULL;
}

static void remember_cast(td_plan *p, const td_place *from, const td_place *to)
{
    if (p->storages[from->storage].kind != TD_STORAGE_VARIABLE)
        p->casts[p->n_casts++ % TD_RECENT_CASTS] = (td_recent_cast){ *from, *to };
}

/* The layout of a cast of `from`: dense, axes in the same order. An axis that is expanded stays so:
 * its one entry is cast once. */
static td_view cast_view(const td_view *from, int dtype, td_view *source)
{
    td_tensor t = { .dtype = dtype, .rank = from->rank };
    td_view   to;
    *source = *from;
    for (int a = 0; a < from->rank; a++) {
        source->dim[a] = from->stride[a] ? from->dim[a] : 1;
        t.dim[a] = source->dim[a];
    }
    to = td_view_like(source, &t);
    return to;
}

/* The cast of a place whose axes are in the order of memory. */
static td_place cast_ordered(td_plan *p, const td_place *from, int dtype, const td_node *why)
{
    td_place        source = *from, to = *from;
    const td_place *known = p->asking ? NULL : find_cast(p, from, dtype);
    int64_t         count = 1;

    if (known)
        return *known;
    to.view = cast_view(&from->view, dtype, &source.view);
    for (int a = 0; a < to.view.rank; a++)
        count *= to.view.dim[a];
    to.offset = 0;
    /* only the view is looked at, so the storage may remain the source's */
    if (!p->asking) {
        to.storage = td_plan_storage(p, TD_STORAGE_ARENA, dtype, count);
        td_plan_cast_into(p, &source, &to, why);
    }
    for (int a = 0; a < to.view.rank; a++)
        if (!from->view.stride[a]) {
            to.view.dim[a] = from->view.dim[a];
            to.view.stride[a] = 0;
        }
    if (!p->asking)
        remember_cast(p, from, &to);
    return to;
}

/* Which axis of a view has the longest stride, the next to longest, and so on. */
static void order_axes(const td_view *v, int *axis)
{
    for (int a = 0; a < v->rank; a++) {
        int k = a;
        for (; k > 0 && v->stride[axis[k - 1]] < v->stride[a]; k--)
            axis[k] = axis[k - 1];
        axis[k] = a;
    }
}

/* A matrix and its transpose have one cast: a product's gradients read both. */
td_place td_plan_cast(td_plan *p, const td_place *from, int dtype, const td_node *why)
{
    td_place ordered = *from, cast, to;
    int      axis[TD_MAX_RANK];

    order_axes(&from->view, axis);
    for (int k = 0; k < from->view.rank; k++) {
        ordered.view.dim[k] = from->view.dim[axis[k]];
        ordered.view.stride[k] = from->view.stride[axis[k]];
    }
    to = cast = cast_ordered(p, &ordered, dtype, why);
    for (int k = 0; k < from->view.rank; k++) {
        to.view.dim[axis[k]] = cast.view.dim[k];
        to.view.stride[axis[k]] = cast.view.stride[k];
    }
    return to;
}

void td_plan_write_copies(td_plan *p)
{
    int32_t count = p->g->n_nodes;
    for (int32_t i = 0; i < count && !p->error.code; i++) {
        td_node *n = p->g->nodes[i];
        td_place to;
        if (n->kind != TD_NODE_VARIABLE || !n->variable->copied || !td_plan_node(p, n)->changed)
            continue;
        to = place_of_copy(p, n, &td_plan_node(p, n)->place[0]);
        td_plan_cast_into(p, &td_plan_node(p, n)->place[0], &to, n);
    }
}

/* ---- for people ------------------------------------------------------------------------------ */

static size_t row_of(td_precision_row *rows, size_t n, const char *op)
{
    size_t k = 0;
    while (k < n && strcmp(rows[k].op, op))
        k++;
    return k;
}

size_t td_plan_precision_rows(const td_plan *p, td_precision_row *rows, size_t room)
{
    size_t n = 0;
    for (int32_t i = 0; i < p->n_calls; i++) {
        const td_kernel_call *c = p->calls[i];
        bool                  cast = !c->node && !strcmp(c->kernel->op, "cast");
        size_t                k = row_of(rows, n, c->kernel->op);
        /* integers have no precision, and copies are not part of the graph */
        if (c->dropped || c->kernel->dtype == TD_I32 || (!c->node && !cast) || k == room)
            continue;
        if (k == n)
            rows[n++] = (td_precision_row){ .op = c->kernel->op };
        rows[k].narrow += c->kernel->dtype == TD_BF16;
        rows[k].wide += c->kernel->dtype != TD_BF16;
        if (cast)
            rows[k].bytes += (double)p->storages[c->out[0]].count *
                             (double)td_dtype_size(p->storages[c->out[0]].dtype);
    }
    return n;
}
