/* run.c - running a plan: memory, inputs, calls, results.
 *
 * Once memory is bound, nothing here allocates (except for an error message): a training step is a
 * loop over calls whose addresses are filled in. Host and device memory are kept apart: whatever
 * crosses goes through the backend's upload and download, or is used in place where these are NULL.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "plan/elements.h"
#include "plan/internal.h"
#include "plan/prepared.h"
#include "plugin/hook.h"

size_t td_plan_arena(const td_plan *p) { return p->arena_bytes; }
size_t td_plan_inputs(const td_plan *p) { return p->own_bytes; }

/* ---- inputs ---------------------------------------------------------------------------------- */

/* Where the host writes elements for a storage: its own memory, or a scratch buffer that `upload`
 * sends. */
static void *host_side(td_plan *p, td_storage *s)
{
    return p->device.backend->upload ? p->scratch : s->memory;
}

static int upload(td_plan *p, td_storage *s, td_error *error)
{
    const td_backend *b = p->device.backend;
    if (b->upload && TD_HOOK_QUICK(b, upload, p->device.state, s->memory, p->scratch,
                                   (size_t)s->count * td_dtype_size(s->dtype)))
        return td_fail(error, TD_EIO, "backend '%s' failed to upload an input", b->plugin.name);
    return 0;
}

/* Whether elements of `dtype` may fill the input. Reals convert to each other, since the caller
 * need not know the graph's real type; integers do not: a token id that turns into a real is a
 * bug. */
static int check_input(const td_storage *s, const char *name, int dtype, int64_t count,
                       td_error *error)
{
    bool integers = dtype == TD_I32;
    if (!s->memory)
        return td_fail(
            error, TD_EGRAPH,
            "cannot set input '%s': the plan has no memory yet, td_plan_bind comes first", name);
    if (count != s->count)
        return td_fail(error, TD_EGRAPH,
                       "input '%s' has %lld elements; the graph was built for %lld", name,
                       (long long)count, (long long)s->count);
    if ((s->dtype == TD_I32) != integers)
        return td_fail(error, TD_EGRAPH,
                       "cannot set input '%s' from %s: the graph declares it as %s", name,
                       integers ? "integers" : "reals", td_dtype_name(s->dtype));
    return 0;
}

/* Into the storage itself, or into the scratch buffer and from there to the device. */
static int set(td_plan *p, const char *name, const void *elements, int dtype, int64_t count,
               td_error *error)
{
    td_node      *n = td_map_get(p->g->inputs, name);
    td_node_plan *np = n ? td_plan_node(p, n) : NULL;
    td_storage   *s;
    int           code;

    if (!np || !np->placed[0])
        return 0; /* this graph does not read it: a batch has arrays for several graphs */
    s = &p->storages[np->place[0].storage];
    code = check_input(s, name, dtype, count, error);
    if (code)
        return code;
    s->is_set = true;
    if (dtype == s->dtype)
        memcpy(host_side(p, s), elements, (size_t)count * td_dtype_size(dtype));
    else
        for (int64_t i = 0; i < count; i++)
            td_element_store(host_side(p, s), s->dtype, i, td_element_load(elements, dtype, i));
    return upload(p, s, error);
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

int td_plan_set_doubles(td_plan *p, const char *name, const double *values, int64_t count,
                        td_error *error)
{
    return set(p, name, values, TD_F64, count, error);
}

/* The caller of a scalar (a step number, a rate) need not know which dtype the graph gave it. */
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
    /* an array without data is only a shape, by which plans are made ahead */
    for (int32_t k = 0; k < b->count && !code; k++) {
        int64_t count = 1;
        for (int d = 0; d < b->at[k].rank; d++)
            count *= b->at[k].dim[d];
        if (b->at[k].data)
            code = set(p, b->at[k].name, b->at[k].data, b->at[k].dtype, count, error);
    }
    return code;
}

/* ---- results --------------------------------------------------------------------------------- */

static int64_t find_root(const td_plan *p, const td_tensor *root)
{
    for (size_t k = 0; k < p->n_roots; k++)
        if (p->root_tensors[k] == root)
            return (int64_t)k;
    return -1;
}

/* The root's elements in host memory: at `to`, if they had to be downloaded. NULL with an error. */
static const void *fetch(td_plan *p, int64_t root, void *to, td_error *error)
{
    const td_backend *b = p->device.backend;
    const td_place   *place = &p->roots[root];
    size_t            size = td_dtype_size(place->view.dtype);
    size_t            bytes = (size_t)td_count(p->root_tensors[root]) * size;
    const char       *from = p->storages[td_storage_root(p, place->storage)].memory;

    from += (size_t)place->offset * size;
    /* the calls that compute this root may still be queued */
    if (b->sync && TD_HOOK_QUICK(b, sync, p->device.state)) {
        td_fail(error, TD_EIO, "backend '%s' failed while running", b->plugin.name);
        return NULL;
    }
    if (!b->download)
        return from;
    if (TD_HOOK_QUICK(b, download, p->device.state, to, from, bytes)) {
        td_fail(error, TD_EIO, "backend '%s' failed to download a result", b->plugin.name);
        return NULL;
    }
    return to;
}

/* The root's elements in host memory, as `fetch` has it, if there are `count` of them. */
static const void *find_elements(td_plan *p, const td_tensor *root, int64_t count, void *to,
                                 td_error *error)
{
    int64_t k = find_root(p, root);

    /* only roots keep their memory until the end of the run */
    if (k < 0)
        td_fail(error, TD_EGRAPH,
                "cannot read a tensor that is not a root of the plan: pass it to td_plan_new");
    else if (!p->bound)
        td_fail(error, TD_EGRAPH, "cannot read a root: the plan has no memory yet");
    else if (count != td_count(root))
        td_fail(error, TD_EGRAPH, "cannot read %lld values from a root of %lld", (long long)count,
                (long long)td_count(root));
    else
        return fetch(p, k, to, error);
    return NULL;
}

int td_plan_get(td_plan *p, const td_tensor *root, double *values, int64_t count, td_error *error)
{
    const void *from = find_elements(p, root, count, p->scratch, error);
    if (!from)
        return td_failed(error, TD_EGRAPH);
    for (int64_t i = 0; i < count; i++)
        values[i] = td_element_load(from, root->dtype, i);
    return 0;
}

int td_plan_get_floats(td_plan *p, const td_tensor *root, float *values, int64_t count,
                       td_error *error)
{
    bool        as_it_is = root->dtype == TD_F32; /* it need not go through the scratch buffer */
    const void *from = find_elements(p, root, count, as_it_is ? values : p->scratch, error);
    if (!from)
        return td_failed(error, TD_EGRAPH);
    if (as_it_is && from != values)
        memcpy(values, from, (size_t)count * sizeof *values);
    else if (!as_it_is)
        for (int64_t i = 0; i < count; i++)
            values[i] = (float)td_element_load(from, root->dtype, i);
    return 0;
}

double td_plan_get_scalar(td_plan *p, const td_tensor *root)
{
    double value = 0;
    td_plan_get(p, root, &value, 1, NULL);
    return value;
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* The variable's own memory, or that of its copy in bf16. */
static void *variable_memory(const td_storage *s)
{
    const td_variable *v = s->leaf->variable;
    return s->dtype == TD_BF16 && !v->narrow ? v->copy : v->memory;
}

/* A merged storage gets an address that is never used: `address` returns its root's. */
static int find_memory(td_plan *p, char *arena, td_error *error)
{
    assert(arena || !p->arena_bytes);
    for (int32_t i = 0; i < p->n_storages; i++) {
        td_storage *s = &p->storages[i];
        if (s->kind == TD_STORAGE_VARIABLE)
            s->memory = variable_memory(s);
        else if (s->kind == TD_STORAGE_ARENA)
            s->memory = arena ? arena + s->offset : NULL; /* NULL: it holds only empty tensors */
        else
            s->memory = (char *)p->own_memory + s->offset;
        /* one that is sharded is read in its windows, and has no readers itself */
        if (s->kind == TD_STORAGE_VARIABLE && !s->memory &&
            !(p->g->options.shared && s->leaf->variable->absent))
            return td_fail(error, TD_EGRAPH,
                           "variable '%s' has no memory: td_variables_allocate comes before "
                           "td_plan_bind",
                           s->leaf->variable->name);
    }
    return 0;
}

/* Views count in elements, memory in bytes. */
static void *address(const td_plan *p, int32_t storage, int64_t offset, int dtype)
{
    return (char *)p->storages[td_storage_root(p, storage)].memory +
           offset * (int64_t)td_dtype_size(dtype);
}

/* Absent operands stay NULL, which is how a kernel recognizes them. */
static void set_addresses(td_plan *p, td_kernel_call *c)
{
    for (int k = 0; k < c->call.n_in; k++) {
        td_view *v = &c->call.in[k];
        v->data = c->in[k] < 0 ? NULL : address(p, c->in[k], c->in_offset[k], v->dtype);
    }
    for (int k = 0; k < c->call.n_out; k++) {
        td_view *v = &c->call.out[k];
        v->data = c->out[k] < 0 ? NULL : address(p, c->out[k], c->out_offset[k], v->dtype);
    }
    c->call.workspace = c->workspace < 0 ? NULL : address(p, c->workspace, 0, TD_F32);
}

/* The layouts that the kernel prefers for the parameters it reads; these do not change. */
static int prepare_parameters(const td_plan *p, td_kernel_call *c, td_error *error)
{
    for (int k = 0; k < c->call.n_in; k++) {
        const td_storage *s = c->in[k] < 0 ? NULL : &p->storages[td_storage_root(p, c->in[k])];
        if (!s || s->kind != TD_STORAGE_VARIABLE || s->leaf->variable->kind != TD_VARIABLE_PARAM)
            continue;
        c->call.fixed |= 1u << k;
        if (td_prepare(p->device.prepared, c->kernel, s->leaf->variable, &c->call, k, error))
            return td_failed(error, TD_ENOMEM);
    }
    return 0;
}

/* At binding, not before each run: no kernel writes to a constant, and no merge gives its memory
 * away. */
static int fill_constants(td_plan *p, td_error *error)
{
    for (int32_t i = 0; i < p->n_storages; i++) {
        td_storage *s = &p->storages[i];
        if (s->kind != TD_STORAGE_CONSTANT)
            continue;
        for (int64_t k = 0; k < s->count; k++)
            td_element_store(host_side(p, s), s->dtype, k, s->leaf->elements[k]);
        if (upload(p, s, error))
            return TD_EIO;
    }
    return 0;
}

/* The most bytes that cross between host and device in one piece. */
static size_t largest_transfer(const td_plan *p)
{
    size_t bytes = 64;
    for (int32_t i = 0; i < p->n_storages; i++)
        if (p->storages[i].kind != TD_STORAGE_ARENA && p->storages[i].bytes > bytes)
            bytes = p->storages[i].bytes;
    for (size_t k = 0; k < p->n_roots; k++) /* at most 8 bytes an element */
        if ((size_t)td_count(p->root_tensors[k]) * 8 > bytes)
            bytes = (size_t)td_count(p->root_tensors[k]) * 8;
    return bytes;
}

/* A recording holds addresses. */
void td_plan_forget(td_plan *p)
{
    if (p->recording)
        TD_HOOK_QUICK(p->device.backend, forget, p->device.state, p->recording);
    p->recording = NULL;
    p->warm = false;
}

int td_plan_bind(td_plan *p, void *arena, td_error *error)
{
    const td_backend *b = p->device.backend;
    td_plan_forget(p);
    /* a plan is bound again when the arena grows; its own memory stays */
    if (!p->own_memory && p->own_bytes)
        p->own_memory = TD_HOOK_QUICK(b, allocate, p->device.state, p->own_bytes);
    if (!p->own_memory && p->own_bytes)
        return td_fail(error, TD_ENOMEM, "cannot allocate %zu bytes for the inputs of a plan",
                       p->own_bytes);
    if (!p->scratch && b->upload)
        p->scratch = malloc(largest_transfer(p));
    if (!p->scratch && b->upload)
        return td_fail(error, TD_ENOMEM, "cannot allocate %zu bytes for transfers to the device",
                       largest_transfer(p));
    if (find_memory(p, arena, error) || fill_constants(p, error))
        return TD_EGRAPH;
    for (int32_t i = 0; i < p->n_calls; i++) {
        set_addresses(p, p->calls[i]);
        if (p->device.prepared && prepare_parameters(p, p->calls[i], error))
            return td_failed(error, TD_ENOMEM);
    }
    p->bound = true;
    return 0;
}

/* ---- running --------------------------------------------------------------------------------- */

/* A run uses up its inputs: forgetting one is an error, rather than silently reusing the last
 * run's values. */
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
        return "an unknown code";
    }
}

/* The most likely meaning of an error code from a kernel. */
static const char *advice(int code)
{
    switch (code) {
    case TD_EFORMAT:
        return ": is an id or a label outside its table?";
    case TD_ERANGE:
        return ": do the rows' tokens fit into the cache?";
    default:
        return "";
    }
}

/* Lists the operands' dims, which usually show the error; for a fusion, those of its first call. */
static int call_failed(const td_plan *p, const td_kernel_call *c, int code, td_error *error)
{
    const char *path = c->node ? c->node->path : "";
    td_text     inputs = { 0 }, what = { 0 };
    if (c->fusion)
        td_text_print(&what, "fusion '%s' of %d calls, the first of which is kernel '%s',",
                      c->fusion->name, c->together, c->kernel->op);
    else
        td_text_print(&what, "kernel '%s'", c->kernel->op);
    for (int k = 0; k < c->call.n_in; k++)
        if (c->in[k] >= 0) {
            td_text_print(&inputs, "%sinput %d ", *td_text_get(&inputs) ? ", " : "", k);
            td_print_dims(&inputs, c->call.in[k].dtype, c->call.in[k].rank, c->call.in[k].dim);
        }
    td_fail(error, code, "%s%s%s of backend '%s' failed with code %d (%s) on %s%s", path,
            *path ? ": " : "", td_text_get(&what), p->device.backend->plugin.name, code,
            status_text(code), td_text_get(&inputs), advice(code));
    td_text_free(&inputs);
    td_text_free(&what);
    return code;
}

/* The fusion of calls[0] and its neighbours. */
static int run_fusion(td_kernel_call *const *calls)
{
    const td_call   *list[TD_MOST_FUSED];
    const td_kernel *kernels[TD_MOST_FUSED];
    for (int32_t k = 0; k < calls[0]->together; k++) {
        list[k] = &calls[k]->call;
        kernels[k] = calls[k]->kernel;
    }
    return calls[0]->fusion->run(list, kernels, calls[0]->together);
}

/* The first of these calls, and those that are computed with it. */
static int run_call(td_plan *p, td_kernel_call *const *calls, td_error *error)
{
    td_kernel_call *c = calls[0];
    td_hook         hook = { .plugin = &p->device.backend->plugin,
                             .name = c->fusion ? c->fusion->name : c->kernel->op,
                             .where = c->kernel, /* another module may add kernels to the backend */
                             .what = "kernel",
                             .quick = true };
    int             code;
    td_hook_enter(&hook);
    code = c->fusion ? run_fusion(calls) : c->kernel->run(&c->call);
    td_hook_leave(&hook);
    return code ? call_failed(p, c, code, error) : 0;
}

/* The same, timed. Without the sync a call would be charged for the calls queued before it. */
static int profile_call(td_plan *p, td_kernel_call *const *calls, td_error *error)
{
    const td_backend *b = p->device.backend;
    double            start = td_now();
    int               code = run_call(p, calls, error);
    if (b->sync)
        TD_HOOK_QUICK(b, sync, p->device.state);
    calls[0]->seconds += td_now() - start;
    for (int32_t k = 0; k < calls[0]->together; k++)
        calls[k]->runs++;
    return code;
}

/* Calls [from, to). Kernels are too short to restore all of the process's state after each of them: it
 * is restored after the last. */
static int run_calls(td_plan *p, int32_t from, int32_t to, td_error *error)
{
    td_hook all = { .plugin = &p->device.backend->plugin, .name = "any", .what = "kernel" };
    int     code = 0;
    td_hook_enter(&all);
    for (int32_t i = from; i < to && !code; i++) {
        td_kernel_call *const *c = &p->calls[i];
        if (!c[0]->dropped && c[0]->together)
            code = p->profile ? profile_call(p, c, error) : run_call(p, c, error);
    }
    td_hook_leave(&all);
    return code;
}

/* All calls, with the transfers between them. After a failure, or for a process that only serves, the
 * transfers go on: the others wait for them. */
static int run_all(td_plan *p, bool serves, td_error *error)
{
    int     code = 0;
    int32_t from = 0;
    for (int32_t k = 0; k < p->n_transfers; k++) {
        const td_transfer *t = &p->transfers[k];
        if (!serves && !code && t->at > from)
            code = run_calls(p, from, t->at, error);
        from = t->at;
        if (td_plan_transfer(p, t, error)) /* nobody answers any more */
            return td_failed(error, TD_EIO);
    }
    return serves || code ? code : run_calls(p, from, p->n_calls, error);
}

/* All calls as one recording, which is made at the second run: by then the kernels have chosen their
 * algorithms and loaded their code. A plan that cannot be recorded runs call by call. */
static void record(td_plan *p)
{
    const td_backend *b = p->device.backend;
    int               code;
    if (!b->record || !p->warm || p->profile || p->recording || p->single || p->n_transfers)
        return;
    p->single = TD_HOOK_QUICK(b, record, p->device.state) != 0;
    if (p->single)
        return;
    code = run_calls(p, 0, p->n_calls, NULL);
    if (TD_HOOK_QUICK(b, recorded, p->device.state, &p->recording) || code)
        p->single = true;
    if (p->single && p->recording)
        td_plan_forget(p);
}

/* A queue reports failures late, and cannot say which call it was. */
static int wait_for_queue(td_plan *p, td_error *error)
{
    const td_backend *b = p->device.backend;
    int               code = b->sync ? TD_HOOK_QUICK(b, sync, p->device.state) : 0;
    return code ? td_fail(error, code, "backend '%s' failed while running with code %d (%s)%s",
                          b->plugin.name, code, status_text(code), advice(code))
                : 0;
}

int td_plan_run(td_plan *p, td_error *error)
{
    const td_backend *b = p->device.backend;
    int               code;

    if (!p->bound)
        return td_fail(error, TD_EGRAPH, "cannot run the plan: it has no memory yet");
    if (take_inputs(p, error)) {
        run_all(p, true, error);
        return TD_EGRAPH;
    }
    record(p);
    /* a replay cannot be timed call by call */
    if (p->recording && !p->profile)
        code = TD_HOOK_QUICK(b, replay, p->device.state, p->recording)
                   ? td_fail(error, TD_EIO, "backend '%s' cannot replay a plan", b->plugin.name)
                   : 0;
    else
        code = run_all(p, false, error);
    if (!code)
        code = wait_for_queue(p, error);
    p->warm = !code;
    return code;
}

int td_plan_serve(td_plan *p, td_error *error)
{
    return p->bound ? run_all(p, true, error)
                    : td_fail(error, TD_EGRAPH, "cannot run the plan: it has no memory yet");
}
