/* updates.c - updates by the engine: micro-batches change rounding only, recomputation changes
 * nothing, and a step of known shape plans nothing and allocates nothing. */
#include "lab.h"

#include <math.h>
#include <stdatomic.h>

/* ---- what the program allocates while it is watched ------------------------------------------ */

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { WATCHES = 0 }; /* the sanitizer has its own allocator */
static atomic_bool watched;
static atomic_int  seen;
#else
enum { WATCHES = 1 };
static atomic_bool watched;
static atomic_int  seen;

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);

void *malloc(size_t size)
{
    seen += watched;
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    seen += watched;
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
    seen += watched;
    return __libc_realloc(p, size);
}
#endif

/* ---- a backend that counts ------------------------------------------------------------------- */

static int               allocations;
static const td_backend *counted;

static void *counting_allocate(void *state, size_t bytes)
{
    allocations++;
    return counted->allocate(state, bytes);
}

/* ---- models ---------------------------------------------------------------------------------- */

static const char *const configs[] = { "nano/redllm", "nano/decllm" };

/* All parameters, concatenated; free() them. */
static double *parameters_of(lab *l, size_t *count)
{
    td_variables    *v = td_engine_variables(l->engine);
    const td_device *d = td_engine_device(l->engine);
    double          *all;
    *count = 0;
    for (size_t i = 0; i < td_variables_count(v); i++)
        *count += td_variables_at(v, i)->kind == TD_VARIABLE_PARAM
                      ? (size_t)td_variables_at(v, i)->count
                      : 0;
    all = malloc(*count * sizeof *all);
    cr_assert(all && *count);
    for (size_t i = 0, n = 0; i < td_variables_count(v); i++) {
        const td_variable *x = td_variables_at(v, i);
        for (int64_t k = 0; x->kind == TD_VARIABLE_PARAM && k < x->count; k++)
            all[n++] = td_device_real(d) == TD_F64 ? ((const double *)x->memory)[k]
                                                   : (double)((const float *)x->memory)[k];
    }
    return all;
}

static double *after_three_steps(const char *config, int64_t micro, const char *const *more,
                                 td_footprint *memory, size_t *count)
{
    const char *overrides[24] = { LAB_SMALL, "train.length=60" };
    size_t      n = 0;
    lab         l;
    double     *all;
    td_batch   *largest;

    while (overrides[n])
        n++;
    while (*more)
        overrides[n++] = *more++;
    l = lab_open(config, overrides, NULL);
    largest = lab_batch(&l, 0, 0, micro);
    lab_allocate(&l, largest, memory);
    for (int64_t step = 0; step < 3; step++)
        cr_assert(isfinite(lab_step(&l, step, micro, 0.05)));
    all = parameters_of(&l, count);
    td_batch_free(largest);
    lab_close(&l);
    return all;
}

static double largest_difference(const double *a, const double *b, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs(a[i] - b[i]));
    return most;
}

/* ---- norms ----------------------------------------------------------------------------------- */

static double root_of_squares(const td_variable *v, bool in_double)
{
    double sum = 0;
    for (int64_t k = 0; k < v->count; k++) {
        double x = in_double ? ((const double *)v->memory)[k]
                             : (double)((const float *)v->memory)[k];
        sum += x * x;
    }
    return sqrt(sum);
}

/* train.norms_every logs norms of the parameters after the update, and of the gradients that it
 * used; frozen parameters have none. */
static void expect_norms(const char *backend, double tolerance)
{
    const char         *overrides[] = { LAB_SMALL, "train.length=60", backend,
                                        "optimizer.groups=({match=\"*embed*\";freeze=true;})", NULL };
    lab                 l = lab_open("nano/redllm", overrides, NULL);
    td_variables       *v = td_engine_variables(l.engine);
    bool                in_double = td_device_real(td_engine_device(l.engine)) == TD_F64;
    td_batch           *largest = lab_batch(&l, 0, 0, LAB_BATCH);
    td_parameter_norms *norms;
    size_t              count, parameters = 0;

    lab_allocate(&l, largest, NULL);
    for (int64_t step = 0; step < 2; step++) { /* the second time by the same plan */
        lab_step(&l, step, LAB_BATCH / 2, 0.05);
        cr_assert_eq(td_engine_norms(l.engine, &norms, &count, &l.error), 0, "%s", l.error.text);
        for (size_t k = 0; k < count; k++) {
            double p = root_of_squares(td_variables_find(v, norms[k].name), in_double);
            double g = root_of_squares(td_model_gradient(v, norms[k].name), in_double);
            cr_expect(p > 0 && fabs(norms[k].parameter / p - 1) < tolerance, "%s", norms[k].name);
            cr_expect(g > 0 && fabs(norms[k].gradient / g - 1) < tolerance, "%s", norms[k].name);
        }
        free(norms);
    }
    for (size_t i = 0; i < td_variables_count(v); i++)
        parameters += td_variables_at(v, i)->kind == TD_VARIABLE_PARAM;
    cr_expect_eq(count, parameters - 1, "%zu norms of %zu parameters", count, parameters);
    td_batch_free(largest);
    lab_close(&l);
}

Test(steps, norms)
{
    expect_norms("backend.plugin=cpu", 1e-6);
    expect_norms("backend.plugin=reference", 1e-12);
}

/* ---- micro-batches --------------------------------------------------------------------------- */

/* Rows of uneven length, padded to the longest in the micro-batch. In double, rounding is far below
 * the effect of any mistake, even under an optimizer that divides by the size of the gradient; in
 * single precision that holds for plain descent. */
static void expect_rounding_only(const char *const *more, double tolerance)
{
    static const int64_t micros[] = { 1, 2, 4 };
    for (size_t c = 0; c < sizeof configs / sizeof *configs; c++) {
        size_t  n, m;
        double *whole = after_three_steps(configs[c], 8, more, NULL, &n);
        for (size_t k = 0; k < sizeof micros / sizeof *micros; k++) {
            double *other = after_three_steps(configs[c], micros[k], more, NULL, &m), most;
            cr_assert_eq(n, m);
            most = largest_difference(whole, other, n);
            cr_expect_lt(most, tolerance, "%s, %s: %lld at once: %g off", configs[c], more[0],
                         (long long)micros[k], most);
            cr_log_info("%s, %s: %lld at once: %g off", configs[c], more[0], (long long)micros[k],
                        most);
            free(other);
        }
        free(whole);
    }
}

Test(steps, micro_batches_in_double)
{
    expect_rounding_only((const char *[]){ "backend.plugin=reference", NULL }, 1e-9);
}

Test(steps, micro_batches_in_single)
{
    expect_rounding_only((const char *[]){ "optimizer.plugin=sgd", NULL }, 1e-5);
}

/* An auxiliary loss counts once per step, however the batch is cut, and is reported under its
 * name. */
#define AUXILIARY "plugin_path=[\"" TANDEM_FIXTURES "/parts\"]", "model.ffn={plugin=\"auxiliary\";}"

Test(steps, micro_batches_with_an_auxiliary_loss)
{
    const char *overrides[] = {
        "model.vocab_size=211",        "model.d_model=42", "model.attention.heads=3",
        "model.attention.head_dim=14", "train.length=60",  "train.bucket=1",
        "backend.plugin=reference",    AUXILIARY,          NULL
    };
    lab          l = lab_open("nano/decllm", overrides, NULL);
    td_batch    *whole = lab_batch(&l, 0, 0, LAB_BATCH), *half = lab_batch(&l, 0, 0, LAB_BATCH / 2);
    double       divisor = td_batch_weight(whole), mean = 0;
    td_micro     micro = { .batch = whole, .divisor = divisor };
    td_micro_out all, part;

    lab_allocate(&l, whole, NULL);
    for (size_t i = 0; i < td_variables_count(td_engine_variables(l.engine)); i++) {
        const td_variable *x = td_variables_at(td_engine_variables(l.engine), i);
        if (x->kind == TD_VARIABLE_PARAM && strstr(x->name, "mlp"))
            mean += pow(root_of_squares(x, true), 2) / (double)x->count;
    }
    cr_assert_eq(td_engine_gradient(l.engine, &micro, &all, &l.error), 0, "%s", l.error.text);
    cr_assert(all.n_aux == 2 && !strcmp(all.aux[0].name, "size"));
    /* logged, as the mean over the four layers, and not part of the loss */
    cr_assert(!strcmp(all.aux[1].name, "square"));
    cr_expect(fabs(all.aux[1].loss - 3 * mean / 4) < 1e-12, "%g, not %g", all.aux[1].loss,
              3 * mean / 4);
    cr_expect(all.loss < all.sum / divisor + all.aux[0].loss + 0.5 * all.aux[1].loss);
    cr_expect(fabs(all.aux[0].loss - 0.5 * mean) < 1e-12, "%g, not %g", all.aux[0].loss,
              0.5 * mean);
    micro.batch = half;
    cr_assert_eq(td_engine_gradient(l.engine, &micro, &part, &l.error), 0, "%s", l.error.text);
    cr_expect(fabs(part.aux[1].loss - all.aux[1].loss * td_batch_weight(half) / divisor) < 1e-12);
    cr_expect(fabs(part.aux[0].loss - 0.5 * mean * td_batch_weight(half) / divisor) < 1e-12);
    cr_expect(all.loss > all.aux[0].loss && all.aux[0].loss > part.aux[0].loss);
    td_batch_free(whole);
    td_batch_free(half);
    lab_close(&l);
}

/* Which elements are dropped depends on the example's number in the batch. */
Test(steps, micro_batches_with_dropout)
{
    expect_rounding_only((const char *[]){ "backend.plugin=reference", "train.dropout=0.1", NULL },
                         1e-9);
}

/* ---- recomputation --------------------------------------------------------------------------- */

Test(steps, recomputation_changes_no_bit)
{
    static const char *const none[] = { "train.recompute=none", "train.dropout=0.1", NULL };
    static const char *const layer[] = { "train.recompute=layer", "train.dropout=0.1", NULL };
    for (size_t c = 0; c < sizeof configs / sizeof *configs; c++) {
        size_t       n, m;
        td_footprint kept, again;
        double      *a = after_three_steps(configs[c], 4, none, &kept, &n);
        double      *b = after_three_steps(configs[c], 4, layer, &again, &m);
        cr_assert_eq(n, m);
        cr_expect(!memcmp(a, b, n * sizeof *a), "%s", configs[c]);
        cr_expect_lt(again.activations, kept.activations, "%s", configs[c]);
        free(a);
        free(b);
    }
}

/* ---- steps of a known shape ------------------------------------------------------------------ */

/* The same micro-batches every time, so that the test itself allocates nothing. */
static void repeat(lab *l, td_batch *const *micro, int64_t n_micro, int64_t step)
{
    td_update_out updated;
    for (int64_t k = 0; k < n_micro; k++) {
        td_micro     m = { micro[k], 9, k > 0, (int32_t)step, NULL };
        td_micro_out out;
        cr_assert_eq(td_engine_gradient(l->engine, &m, &out, &l->error), 0);
    }
    cr_assert_eq(td_engine_update(l->engine, 0.01, step + 1, 1e30, &updated, &l->error), 0);
}

static void expect_nothing_new(const char *config, const char *recompute)
{
    const char *overrides[] = { LAB_SMALL, "train.length=60", "train.dropout=0.1", recompute,
                                NULL };
    lab         plain = lab_open(config, overrides, NULL), l;
    td_backend  counting = *(const td_backend *)(const void *)plain.x->backend.plugin;
    td_batch   *micro[3];
    size_t      plans, later;
    int         before;

    counted = (const void *)plain.x->backend.plugin;
    counting.allocate = counting_allocate;
    allocations = 0;
    l = lab_open(config, overrides, &counting.plugin);
    for (int64_t k = 0; k < 3; k++)
        micro[k] = lab_batch(&l, 0, 2 * k, 2);
    lab_allocate(&l, micro[0], NULL);
    repeat(&l, micro, 3, 0);
    td_engine_planning(l.engine, &plans);
    before = allocations;
    cr_expect_gt(before, 0);
    seen = 0;
    watched = true;
    for (int64_t step = 1; step < 5; step++)
        repeat(&l, micro, 3, step);
    watched = false;
    td_engine_planning(l.engine, &later);
    cr_expect_eq(plans, later, "%s: %zu plans became %zu", config, plans, later);
    cr_expect_eq(allocations, before, "%s: %d allocations on the backend", config,
                 allocations - before);
    cr_expect(!WATCHES || seen == 0, "%s: %d allocations", config, seen);
    for (int64_t k = 0; k < 3; k++)
        td_batch_free(micro[k]);
    lab_close(&l);
    lab_close(&plain);
}

Test(steps, a_known_shape_plans_and_allocates_nothing)
{
    expect_nothing_new("nano/redllm", "train.recompute=none");
    expect_nothing_new("nano/decllm", "train.recompute=layer");
}

/* Everything that was planned ahead is ready before the first step. */
static void expect_ready(const char *config, const char *recompute)
{
    const char         *overrides[] = { LAB_SMALL,         "train.length=60", "train.dropout=0.1",
                                        "train.bucket=64", recompute,         NULL };
    lab                 plain = lab_open(config, overrides, NULL), l;
    td_backend          counting = *(const td_backend *)(const void *)plain.x->backend.plugin;
    td_batch           *micro[2];
    td_footprint        memory;
    td_parameter_norms *norms = NULL;
    size_t              plans, later, count;
    int                 before;

    counted = (const void *)plain.x->backend.plugin;
    counting.allocate = counting_allocate;
    allocations = 0;
    l = lab_open(config, overrides, &counting.plugin);
    for (int64_t k = 0; k < 2; k++)
        micro[k] = lab_batch(&l, 0, 2 * k, 2);
    cr_assert_eq(td_engine_plan(l.engine, micro[0], &memory, &l.error), 0, "%s", l.error.text);
    cr_assert_eq(td_engine_plan_adding(l.engine, micro[0], &memory, &l.error), 0);
    cr_assert_eq(td_engine_plan_norms(l.engine, &memory, &l.error), 0);
    cr_assert_eq(td_engine_allocate(l.engine, 3, &l.error), 0);
    td_engine_planning(l.engine, &plans);
    before = allocations;
    repeat(&l, micro, 2, 0);
    cr_assert_eq(td_engine_norms(l.engine, &norms, &count, &l.error), 0);
    td_engine_planning(l.engine, &later);
    cr_expect_eq(plans, later, "%s: %zu plans became %zu", config, plans, later);
    cr_expect_eq(allocations, before, "%s: %d allocations in the first step", config,
                 allocations - before);
    free(norms);
    for (int64_t k = 0; k < 2; k++)
        td_batch_free(micro[k]);
    lab_close(&l);
    lab_close(&plain);
}

Test(steps, planned_shapes_are_ready)
{
    expect_ready("nano/redllm", "train.recompute=none");
    expect_ready("nano/redllm", "train.recompute=layer");
    expect_ready("nano/decllm", "train.recompute=layer");
}

Test(steps, the_watchdog_notices)
{
    void *volatile p;
    seen = 0;
    watched = true;
    p = malloc(11);
    watched = false;
    cr_expect(!WATCHES || seen > 0);
    free(p);
}
