/* probe.c - `tandem probe` writes the engine's gradients, even those of tensors that are written
 * in pieces. */
#include "child.h"
#include "io/safetensors.h"
#include "model/lab.h"

/* An embedding larger than the MiB written at a time. */
enum { WORDS = 6007, WIDTH = 48, TOKENS = 5 };

#define MODEL                                                               \
    "model.vocab_size=6007", "model.d_model=48", "model.attention.heads=3", \
        "model.attention.head_dim=16", "model.ffn.d_ff=53", "model.layers=1", "train.length=7"

static int32_t ids[TOKENS] = { 6006, 1, 3000, 5555, 17 }, labels[TOKENS] = { 1, 3000, 5555, 17, 2 };
static char    directory[64], batch_path[100], out_path[100];

static void setup(void)
{
    td_stored list[] = { { .name = "input_ids", .data = ids },
                         { .name = "labels", .data = labels } };
    td_error  error = { 0 };
    strcpy(directory, "/tmp/tandem-probe-XXXXXX");
    cr_assert(mkdtemp(directory));
    snprintf(batch_path, sizeof batch_path, "%s/batch.safetensors", directory);
    snprintf(out_path, sizeof out_path, "%s/out.safetensors", directory);
    for (int k = 0; k < 2; k++) {
        list[k].type = TD_STORED_I32;
        list[k].rank = 2;
        list[k].dim[0] = 1;
        list[k].dim[1] = TOKENS;
    }
    cr_assert_eq(td_safetensors_write(batch_path, list, 2, NULL, &error), 0, "%s", error.text);
}

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(probe, .init = setup, .fini = teardown);

static void run_probe(const char *backend)
{
    const char *argv[] = {
        TANDEM_BINARY, "probe",    "-c",    TANDEM_SOURCE "/configs/nano/decllm.cfg",
        "--batch",     batch_path, "--out", out_path,
        backend,       MODEL,      NULL
    };
    child c = child_run(argv);
    cr_assert_eq(c.code, 0, "%s", c.err);
    child_free(&c);
}

/* The same step, computed here. */
static lab step(const char *backend)
{
    const char            *overrides[] = { MODEL, backend, NULL };
    lab                    l = lab_open("nano/decllm", overrides, NULL);
    const td_architecture *a = (const void *)l.x->model.plugin;
    td_batch              *b = td_batch_new();
    td_micro               m = { .batch = b, .divisor = TOKENS };
    td_micro_out           out;

    memcpy(td_batch_add(b, "input_ids", TD_I32, 1, TOKENS), ids, sizeof ids);
    memcpy(td_batch_add(b, "labels", TD_I32, 1, TOKENS), labels, sizeof labels);
    b->rows = 1;
    cr_assert_eq(a->complete(l.x->model.config, b, &l.error), 0, "%s", l.error.text);
    cr_assert_eq(td_engine_plan(l.engine, b, NULL, &l.error), 0, "%s", l.error.text);
    cr_assert_eq(td_engine_allocate(l.engine, (uint64_t)l.x->train.seed_init, &l.error), 0);
    cr_assert_eq(td_engine_gradient(l.engine, &m, &out, &l.error), 0, "%s", l.error.text);
    td_batch_free(b);
    return l;
}

static void expect_gradients(const char *backend)
{
    lab              l = step(backend);
    td_variables    *v = td_engine_variables(l.engine);
    const td_device *device = td_engine_device(l.engine);
    td_safetensors  *file;
    size_t           seen = 0;

    run_probe(backend);
    cr_assert((file = td_safetensors_open(out_path, &l.error)) != NULL, "%s", l.error.text);
    for (size_t i = 0; i < td_safetensors_count(file); i++) {
        const td_stored *t = td_safetensors_at(file, i);
        const char      *name = strncmp(t->name, "grad.", 5) ? NULL : t->name + 5;
        td_variable     *g = name ? td_model_gradient(v, name) : NULL;
        float           *want, *have;
        if (!name)
            continue;
        cr_assert(g && g->count == td_stored_count(t), "%s", t->name);
        want = malloc((size_t)g->count * sizeof *want);
        have = malloc((size_t)g->count * sizeof *have);
        td_variable_get(g, device, td_device_real(device), want, &l.error);
        td_stored_floats(t, have, g->count, &l.error);
        cr_expect(!memcmp(want, have, (size_t)g->count * sizeof *want), "%s of %s", t->name,
                  backend);
        seen += g->count > WORDS * WIDTH - 1;
        free(want);
        free(have);
    }
    cr_expect_gt(seen, 0, "no gradient of more than one piece");
    td_safetensors_close(file);
    lab_close(&l);
}

Test(probe, gradients_in_pieces)
{
    expect_gradients("backend.plugin=cpu");
    expect_gradients("backend.plugin=reference");
}

/* ---- what is refused ------------------------------------------------------------------------- */

static void write_tensors(const char *path, td_stored *list, size_t n)
{
    td_error error = { 0 };
    cr_assert_eq(td_safetensors_write(path, list, n, NULL, &error), 0, "%s", error.text);
}

/* Run it on the batch; `more` is a further option with its value, or NULL. */
static void expect_refused(const char *batch, const char *more, const char *value, int code,
                           const char *says)
{
    const char *argv[] = { TANDEM_BINARY, "probe",
                           "-c",          TANDEM_SOURCE "/configs/nano/decllm.cfg",
                           MODEL,         "--batch",
                           batch,         more,
                           value,         NULL };
    child       c = child_run(argv);
    cr_expect(c.code == code && strstr(c.err, says), "%d: %s", c.code, c.err);
    child_free(&c);
}

Test(probe, refusals)
{
    char      other[120];
    td_stored list[] = { { .name = "input_ids", .data = ids },
                         { .name = "labels", .data = labels },
                         { .name = "lenghts", .data = labels } };
    FILE     *f;

    snprintf(other, sizeof other, "%s/other.safetensors", directory);
    for (int k = 0; k < 3; k++) {
        list[k].type = TD_STORED_I32;
        list[k].rank = 2;
        list[k].dim[0] = 1;
        list[k].dim[1] = TOKENS;
    }
    /* files that are read are not overwritten */
    expect_refused(batch_path, "--out", batch_path, 2, "would overwrite an input file");
    /* a misspelt name */
    list[2].rank = 1;
    list[2].dim[0] = 1;
    write_tensors(other, list, 3);
    expect_refused(other, NULL, NULL, 1, "no array 'lenghts'; did you mean 'lengths'?");
    /* bytes behind the last tensor */
    write_tensors(other, list, 2);
    f = fopen(other, "a");
    cr_assert(f && fputs("more", f) >= 0 && !fclose(f));
    expect_refused(other, NULL, NULL, 1, "it is damaged");
    /* parameters that are missing */
    expect_refused(batch_path, "--weights", batch_path, 2,
                   "has no tensor 'model.embed_tokens.weight'");
}
