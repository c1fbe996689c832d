/* profile.c - what the calls of a plan cost: FLOPs, bytes, and the seconds that run.c has measured. */
#include <string.h>

#include "plan/internal.h"
#include "plugin/hook.h"

/* Times are kept by call and summed by op on demand, so that profiling adds no lookup to a run. */
void td_plan_profile(td_plan *p, bool on)
{
    p->profile = on;
    for (int32_t i = 0; i < p->n_calls; i++) {
        p->calls[i]->seconds = 0;
        p->calls[i]->runs = 0;
    }
}

/* The FLOPs of one run. Attention counts all pairs, since a plan does not know the batch's mask. */
static td_flops call_flops(const td_kernel_call *c)
{
    const td_node *n = c->node;
    td_tensor     *in[TD_MAX_INPUTS] = { NULL }, *out[TD_MAX_OUTPUTS] = { NULL };
    td_flops       f = { 0, 0, 0 };
    if (!n)
        return f;
    for (int k = 0; k < n->n_in; k++)
        in[k] = n->in[k] ? &n->in[k]->t : NULL;
    for (int k = 0; k < n->n_out; k++)
        out[k] = c->out[k] >= 0 ? &n->out[k].t : NULL;
    if (n->op->flops)
        TD_HOOK_QUICK(n->op, flops, in, n->n_in, out, &n->attrs, 1, &f);
    else
        f.elementwise = (double)td_count(&n->out[0].t);
    return f;
}

static double view_bytes(const td_view *v, int32_t storage)
{
    double bytes;
    if (storage < 0)
        return 0;
    bytes = (double)td_dtype_size(v->dtype);
    for (int k = 0; k < v->rank; k++)
        bytes *= (double)v->dim[k];
    return bytes;
}

/* Bytes that one run reads and writes, each operand once: a lower bound of the traffic. */
static double call_bytes(const td_kernel_call *c)
{
    double bytes = 0;
    for (int k = 0; k < c->call.n_in; k++)
        bytes += view_bytes(&c->call.in[k], c->in[k]);
    for (int k = 0; k < c->call.n_out; k++)
        bytes += view_bytes(&c->call.out[k], c->out[k]);
    return bytes;
}

size_t td_plan_profile_rows(const td_plan *p, td_profile_row *rows, size_t room)
{
    size_t n = 0;
    for (int32_t i = 0; i < p->n_calls; i++) {
        const td_kernel_call *c = p->calls[i];
        const char           *name = c->fusion ? c->fusion->name : c->kernel->op;
        td_flops              f = call_flops(c);
        size_t                k = 0; /* the op's row: few enough ops for a linear search */
        if (c->dropped)
            continue;
        while (k < n && strcmp(rows[k].op, name))
            k++;
        if (k == room)
            continue;
        if (k == n)
            rows[n++] = (td_profile_row){ .op = name };
        rows[k].seconds += c->seconds;
        rows[k].calls += c->together ? c->runs : 0;
        rows[k].flops += (double)c->runs * (f.matmul + f.elementwise);
        rows[k].bytes += (double)c->runs * call_bytes(c);
    }
    return n;
}

/* The right operand of a product is read whole; a table of which rows are gathered is not. */
void td_plan_products(const td_plan *p, double *flops, double *bytes)
{
    *flops = *bytes = 0;
    for (int32_t i = 0; i < p->n_calls; i++) {
        const td_kernel_call *c = p->calls[i];
        const td_storage     *s = c->in[1] < 0 ? NULL : &p->storages[td_storage_root(p, c->in[1])];
        double                products = call_flops(c).matmul;
        if (products <= 0 || !s || s->kind != TD_STORAGE_VARIABLE ||
            s->leaf->variable->kind != TD_VARIABLE_PARAM)
            continue;
        *flops += products;
        *bytes += view_bytes(&c->call.in[1], c->in[1]);
    }
}
