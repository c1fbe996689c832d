/* run.c - a plan at work: memory, inputs, calls, results, profile. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "plan/internal.h"

size_t td_plan_arena(const td_plan *p) { return p->arena; }
size_t td_plan_inputs(const td_plan *p) { return p->own; }

void td_plan_free(td_plan *p)
{
    if (!p)
        return;
    if (p->own_memory)
        p->device.backend->release(p->device.state, p->own_memory, p->own);
    td_arena_free(p->memory);
    free(p->scratch);
    free(p->nodes);
    free(p->calls);
    free(p->storages);
    free(p);
}

/* ---- values in and out ----------------------------------------------------------------------- */

static void store(void *to, int dtype, int64_t i, double value)
{
    if (dtype == TD_F64)
        ((double *)to)[i] = value;
    else if (dtype == TD_I32)
        ((int32_t *)to)[i] = (int32_t)value;
    else
        ((float *)to)[i] = (float)value;
}

static double load(const void *from, int dtype, int64_t i)
{
    return dtype == TD_F64   ? ((const double *)from)[i]
           : dtype == TD_I32 ? ((const int32_t *)from)[i]
                             : (double)((const float *)from)[i];
}

/* Where the host writes values for a storage: its own memory, or a scratch that `sent` uploads. */
static void *host_side(td_plan *p, td_storage *s)
{
    return p->device.backend->upload ? p->scratch : s->memory;
}

static int sent(td_plan *p, td_storage *s, td_error *error)
{
    const td_backend *b = p->device.backend;
    if (b->upload && b->upload(p->device.state, s->memory, p->scratch,
                               (size_t)s->count * td_dtype_size(s->dtype)))
        return td_fail(error, TD_EIO, "backend '%s' cannot take an input", b->plugin.name);
    return 0;
}

static int set(td_plan *p, const char *name, const void *values, int dtype, int64_t count,
               td_error *error)
{
    td_node      *n = td_map_get(p->g->inputs, name);
    td_node_plan *np = n ? td_plan_node(p, n) : NULL;
    td_storage   *s;

    if (!np || !np->placed[0])
        return 0; /* this graph does not read it */
    s = &p->storages[np->place[0].storage];
    if (!s->memory)
        return td_fail(error, TD_EGRAPH, "input '%s' is set before the plan has memory", name);
    if (count != s->count)
        return td_fail(error, TD_EGRAPH,
                       "input '%s' has %lld elements; the graph was built for %lld", name,
                       (long long)count, (long long)s->count);
    if ((s->dtype == TD_I32) != (dtype == TD_I32))
        return td_fail(error, TD_EGRAPH, "input '%s' is given %s; the graph wants %s", name,
                       dtype == TD_I32 ? "integers" : "reals",
                       dtype == TD_I32 ? "reals" : "integers");
    s->is_set = true;
    if (dtype == s->dtype)
        memcpy(host_side(p, s), values, (size_t)count * td_dtype_size(dtype));
    else
        for (int64_t i = 0; i < count; i++)
            store(host_side(p, s), s->dtype, i, load(values, dtype, i));
    return sent(p, s, error);
}

int td_plan_set_ints(td_plan *p, const char *name, const int32_t *values, int64_t count,
                     td_error *error)
{
    return set(p, name, values, TD_I32, count, error);
}

int td_plan_set_floats(td_plan *p, const char *name, const float *values, int64_t count,
                       td_error *error)
{
    return set(p, name, values, TD_F32, count, error);
}

int td_plan_set_scalar(td_plan *p, const char *name, double value, td_error *error)
{
    td_node *n = td_map_get(p->g->inputs, name);
    int32_t  integer = (int32_t)value;
    return n && n->out[0].t.dtype == TD_I32 ? set(p, name, &integer, TD_I32, 1, error)
                                            : set(p, name, &value, TD_F64, 1, error);
}

int td_plan_set_batch(td_plan *p, const td_batch *b, td_error *error)
{
    int code = 0;
    for (int32_t k = 0; k < b->count && !code; k++) {
        int64_t count = 1;
        for (int d = 0; d < b->at[k].rank; d++)
            count *= b->at[k].dim[d];
        if (b->at[k].data)
            code = set(p, b->at[k].name, b->at[k].data, b->at[k].dtype, count, error);
    }
    return code;
}

static int64_t find_root(const td_plan *p, const td_tensor *root)
{
    for (size_t k = 0; k < p->n_roots; k++)
        if (p->root_tensors[k] == root)
            return (int64_t)k;
    return -1;
}

int td_plan_get(td_plan *p, const td_tensor *root, double *values, int64_t count, td_error *error)
{
    const td_backend *b = p->device.backend;
    int64_t           k = find_root(p, root);
    const td_storage *s;
    const char       *from;
    size_t            size;

    if (k < 0 || !p->bound)
        return td_fail(error, TD_EGRAPH, "a tensor is read that is no root of the plan");
    if (count != td_count(root))
        return td_fail(error, TD_EGRAPH, "%lld values are read from a tensor of %lld",
                       (long long)count, (long long)td_count(root));
    s = &p->storages[td_storage_root(p, p->roots[k].storage)];
    size = td_dtype_size(root->dtype);
    from = (const char *)s->memory + (size_t)p->roots[k].offset * size;
    if (b->sync && b->sync(p->device.state))
        return td_fail(error, TD_EIO, "backend '%s' failed while running", b->plugin.name);
    if (b->download) {
        if (b->download(p->device.state, p->scratch, from, (size_t)count * size))
            return td_fail(error, TD_EIO, "backend '%s' cannot give a result back", b->plugin.name);
        from = p->scratch;
    }
    for (int64_t i = 0; i < count; i++)
        values[i] = load(from, root->dtype, i);
    return 0;
}

double td_plan_get_scalar(td_plan *p, const td_tensor *root)
{
    double value = 0;
    td_plan_get(p, root, &value, 1, NULL);
    return value;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static int find_memory(td_plan *p, char *arena, td_error *error)
{
    for (int32_t i = 0; i < p->n_storages; i++) {
        td_storage *s = &p->storages[i];
        if (s->kind == TD_STORAGE_VARIABLE)
            s->memory = s->leaf->variable->memory;
        else if (s->kind == TD_STORAGE_ARENA)
            s->memory = arena ? arena + s->offset : NULL;
        else
            s->memory = (char *)p->own_memory + s->offset;
        if (s->kind == TD_STORAGE_VARIABLE && !s->memory)
            return td_fail(error, TD_EGRAPH, "parameter '%s' has no memory yet",
                           s->leaf->variable->name);
    }
    return 0;
}

static void *address(const td_plan *p, int32_t storage, int64_t offset, int dtype)
{
    return (char *)p->storages[td_storage_root(p, storage)].memory +
           offset * (int64_t)td_dtype_size(dtype);
}

static void point(td_plan *p, td_kernel_call *s)
{
    for (int k = 0; k < s->call.n_in; k++)
        s->call.in[k].data = s->in[k] < 0
                                 ? NULL
                                 : address(p, s->in[k], s->in_offset[k], s->call.in[k].dtype);
    for (int k = 0; k < s->call.n_out; k++)
        s->call.out[k].data = s->out[k] < 0
                                  ? NULL
                                  : address(p, s->out[k], s->out_offset[k], s->call.out[k].dtype);
    s->call.workspace = s->workspace < 0 ? NULL : address(p, s->workspace, 0, TD_F32);
}

static int fill_constants(td_plan *p, td_error *error)
{
    for (int32_t i = 0; i < p->n_storages; i++) {
        td_storage *s = &p->storages[i];
        if (s->kind != TD_STORAGE_CONSTANT)
            continue;
        for (int64_t k = 0; k < s->count; k++)
            store(host_side(p, s), s->dtype, k, s->leaf->values[k]);
        if (sent(p, s, error))
            return TD_EIO;
    }
    return 0;
}

/* The largest piece that goes between host and device at once. */
static size_t largest_transfer(const td_plan *p)
{
    size_t bytes = 64;
    for (int32_t i = 0; i < p->n_storages; i++)
        if (p->storages[i].kind != TD_STORAGE_ARENA && p->storages[i].bytes > bytes)
            bytes = p->storages[i].bytes;
    for (size_t k = 0; k < p->n_roots; k++)
        if ((size_t)td_count(p->root_tensors[k]) * 8 > bytes)
            bytes = (size_t)td_count(p->root_tensors[k]) * 8;
    return bytes;
}

int td_plan_bind(td_plan *p, void *arena, td_error *error)
{
    const td_backend *b = p->device.backend;
    if (!p->own_memory && p->own && !(p->own_memory = b->allocate(p->device.state, p->own)))
        return td_fail(error, TD_ENOMEM, "cannot allocate %zu bytes for the inputs of a plan",
                       p->own);
    if (!p->scratch && b->upload && !(p->scratch = malloc(largest_transfer(p))))
        return td_fail(error, TD_ENOMEM, "cannot allocate %zu bytes for transfers",
                       largest_transfer(p));
    if (find_memory(p, arena, error) || fill_constants(p, error))
        return TD_EGRAPH;
    for (int32_t i = 0; i < p->n_calls; i++)
        point(p, p->calls[i]);
    p->bound = true;
    return 0;
}

/* ---- running --------------------------------------------------------------------------------- */

/* Each run wants its own: one that is forgotten would keep the last run's values. */
static int take_inputs(td_plan *p, td_error *error)
{
    for (int32_t i = 0; i < p->n_inputs; i++) {
        td_storage *s = &p->storages[p->inputs[i]];
        if (!s->is_set)
            return td_fail(error, TD_EGRAPH, "input '%s' was not set before the run",
                           s->leaf->input);
        s->is_set = false;
    }
    return 0;
}

static const char *status_text(int code)
{
    switch (code) {
#define X(name, number, text) \
    case number:              \
        return text;
        TD_STATUSES(X)
#undef X
    default:
        return "for a reason of its own";
    }
}

static int call_failed(const td_plan *p, const td_kernel_call *s, int code, td_error *error)
{
    td_text inputs = { 0 };
    for (int k = 0; k < s->call.n_in; k++)
        if (s->in[k] >= 0) {
            td_text_print(&inputs, "%sinput %d ", *td_text_get(&inputs) ? ", " : "", k);
            td_print_dims(&inputs, s->call.in[k].dtype, s->call.in[k].rank, s->call.in[k].dim);
        }
    td_fail(error, code,
            "%s: kernel '%s' of backend '%s' failed with code %d, %s; it was given %s%s",
            s->node ? s->node->path : "", s->kernel->op, p->device.backend->plugin.name, code,
            status_text(code), td_text_get(&inputs),
            code == TD_EFORMAT  ? ": is an id or a label outside its table?"
            : code == TD_ERANGE ? ": do the rows' tokens fit into the cache?"
                                : "");
    td_text_free(&inputs);
    return code;
}

static int run_call(td_plan *p, td_kernel_call *s, td_error *error)
{
    int code = s->kernel->run(&s->call);
    return code ? call_failed(p, s, code, error) : 0;
}

int td_plan_run(td_plan *p, td_error *error)
{
    const td_backend *b = p->device.backend;
    int               code = 0;

    if (!p->bound)
        return td_fail(error, TD_EGRAPH, "the plan has no memory yet");
    if (take_inputs(p, error))
        return TD_EGRAPH;
    for (int32_t i = 0; i < p->n_calls && !code; i++) {
        td_kernel_call *s = p->calls[i];
        double   start = p->profile ? td_now() : 0;
        if (s->dropped)
            continue;
        code = run_call(p, s, error);
        if (p->profile) {
            if (b->sync)
                b->sync(p->device.state);
            s->seconds += td_now() - start;
            s->runs++;
        }
    }
    if (!code && b->sync && b->sync(p->device.state))
        code = td_fail(error, TD_EIO, "backend '%s' failed while running", b->plugin.name);
    return code;
}

/* ---- profile --------------------------------------------------------------------------------- */

void td_plan_profile(td_plan *p, bool on)
{
    p->profile = on;
    for (int32_t i = 0; i < p->n_calls; i++) {
        p->calls[i]->seconds = 0;
        p->calls[i]->runs = 0;
    }
}

static double call_flops(const td_kernel_call *s)
{
    const td_node *n = s->node;
    td_tensor     *in[TD_MAX_INPUTS] = { NULL }, *out[TD_MAX_OUTPUTS] = { NULL };
    td_flops       f = { 0, 0, 0 };
    if (!n)
        return 0;
    for (int k = 0; k < n->n_in; k++)
        in[k] = n->in[k] ? &n->in[k]->t : NULL;
    for (int k = 0; k < n->n_out; k++)
        out[k] = s->out[k] >= 0 ? &n->out[k].t : NULL;
    if (!n->op->flops)
        return (double)td_count(&n->out[0].t);
    n->op->flops(in, n->n_in, out, &n->attrs, 1, &f);
    return f.matmul + f.elementwise;
}

static double view_bytes(const td_view *v, int32_t storage)
{
    double bytes = (double)td_dtype_size(v->dtype);
    for (int k = 0; k < v->rank; k++)
        bytes *= (double)v->dim[k];
    return storage < 0 ? 0 : bytes;
}

size_t td_plan_profile_rows(const td_plan *p, td_profile_row *rows, size_t room)
{
    size_t n = 0;
    for (int32_t i = 0; i < p->n_calls; i++) {
        const td_kernel_call *s = p->calls[i];
        size_t         k = 0;
        double                calls = (double)s->runs;
        if (s->dropped)
            continue;
        while (k < n && strcmp(rows[k].op, s->kernel->op))
            k++;
        if (k == room)
            continue;
        if (k == n)
            rows[n++] = (td_profile_row){ .op = s->kernel->op };
        rows[k].seconds += s->seconds;
        rows[k].calls += s->runs;
        rows[k].flops += calls * call_flops(s);
        for (int j = 0; j < s->call.n_in; j++)
            rows[k].bytes += calls * view_bytes(&s->call.in[j], s->in[j]);
        for (int j = 0; j < s->call.n_out; j++)
            rows[k].bytes += calls * view_bytes(&s->call.out[j], s->out[j]);
    }
    return n;
}
