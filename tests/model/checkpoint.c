/* checkpoint.c - checkpoints are restored bit for bit; damage to any byte of any file is
 * detected; the newest one is found, and the right ones are kept. */
#include "lab.h"

#include <unistd.h>

#include "base/file.h"
#include "io/safetensors.h"
#include "model/checkpoint.h"

static const char *const overrides[] = { LAB_SMALL, "train.length=60", NULL };
static const char *const parts[] = { "model.safetensors", "optimizer.safetensors", "state.json",
                                     "hashes.txt" };
static char              directory[64];
static lab               l;

static void setup(void)
{
    td_batch *b;
    strcpy(directory, "/tmp/test-checkpoint-XXXXXX");
    cr_assert(mkdtemp(directory));
    l = lab_open("nano/redllm", overrides, NULL);
    b = lab_batch(&l, 0, 0, LAB_BATCH);
    lab_allocate(&l, b, NULL);
    lab_step(&l, 0, LAB_BATCH, 0.05);
    td_batch_free(b);
}

static void teardown(void)
{
    lab_close(&l);
    td_remove_tree(directory, NULL);
}

TestSuite(checkpoint, .init = setup, .fini = teardown);

static void save(int64_t step)
{
    td_progress p = { .step = step,
                      .record = 71,
                      .tokens = 1e15 + 1,
                      .targets = 0.1,
                      .best = 1.0 / 3,
                      .best_step = 3,
                      .norm_average = 1e-300,
                      .skipped = 2 };
    cr_assert_eq(td_checkpoint_save(directory, td_engine_variables(l.engine),
                                    td_engine_device(l.engine), &p, "{\"a\": [7]}", &l.error),
                 0, "%s", l.error.text);
}

static int load(const char *path, td_progress *p, td_error *error)
{
    return td_checkpoint_load(path, td_engine_variables(l.engine), td_engine_device(l.engine), p,
                              error);
}

static const char *path_of(const char *name)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

/* A hash of parameters and states. */
static uint64_t fingerprint(void)
{
    td_variables *v = td_engine_variables(l.engine);
    uint64_t      h = 0;
    for (size_t i = 0; i < td_variables_count(v); i++) {
        const td_variable *x = td_variables_at(v, i);
        const uint32_t    *words = x->memory;
        for (int64_t k = 0; x->kind != TD_VARIABLE_GRAD && k < x->count; k++)
            h = (h ^ words[k]) * 0x9E3779B97F4A7C15u;
    }
    return h;
}

Test(checkpoint, survives_a_round_trip)
{
    uint64_t    before = fingerprint();
    td_progress p;
    td_error    e = { 0 };
    char       *about;

    save(41);
    lab_step(&l, 1, LAB_BATCH, 0.05);
    cr_assert_neq(fingerprint(), before);
    cr_assert_eq(load(path_of("step-00000041"), &p, &e), 0, "%s", e.text);
    cr_expect_eq(fingerprint(), before);
    cr_expect(p.step == 41 && p.record == 71 && p.best_step == 3 && p.skipped == 2);
    cr_expect(p.tokens == 1e15 + 1 && p.targets == 0.1 && p.best == 1.0 / 3 &&
              p.norm_average == 1e-300 && p.flops == 0);
    about = td_checkpoint_about(path_of("step-00000041"), &e);
    cr_assert(about);
    cr_expect(strstr(about, "7"), "%s", about);
    free(about);
}

/* ---- damage ---------------------------------------------------------------------------------- */

static void write_part(const char *path, const char *data, size_t size)
{
    FILE *f = fopen(path, "w");
    cr_assert(f);
    cr_assert_eq(fwrite(data, 1, size, f), size);
    cr_assert(!fclose(f));
}

static void expect_refusal(const char *part, const char *how, size_t at)
{
    uint64_t    before = fingerprint();
    td_progress p;
    td_error    e = { 0 };
    int         code = load(path_of("step-00000041"), &p, &e);
    cr_assert(code && e.code == code, "%s, %s at %zu: loaded", part, how, at);
    cr_assert(strstr(e.text, path_of("step-00000041/")), "%s, %s at %zu: %s", part, how, at,
              e.text);
    cr_assert_eq(fingerprint(), before, "%s, %s at %zu: refused, but parameters changed", part, how,
                 at);
}

static void hurt(const char *part)
{
    char   path[300], *whole, *data;
    size_t size;
    snprintf(path, sizeof path, "%s/step-00000041/%s", directory, part);
    whole = td_file_read(path, &size, NULL);
    data = malloc(size + 1);
    cr_assert(whole && data && size > 64);
    for (int k = 0; k < 13; k++) {
        size_t kept = size * (size_t)k / 13, flipped = (size - 1) * (size_t)k / 12;
        write_part(path, whole, kept);
        expect_refusal(part, "truncated", kept);
        memcpy(data, whole, size);
        data[flipped] ^= (char)(1 << k % 8);
        write_part(path, data, size);
        expect_refusal(part, "a bit flipped", flipped);
    }
    memcpy(data, whole, size);
    data[size] = '\n';
    write_part(path, data, size + 1);
    expect_refusal(part, "something appended", size);
    cr_assert(!unlink(path));
    expect_refusal(part, "removed", 0);
    write_part(path, whole, size);
    free(whole);
    free(data);
}

Test(checkpoint, damage_is_reported)
{
    td_progress p;
    td_error    e = { 0 };
    save(41);
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++)
        hurt(parts[k]);
    cr_assert_eq(load(path_of("step-00000041"), &p, &e), 0, "%s", e.text);
}

/* One file of it, named by itself or by a link; elsewhere it is any file. */
Test(checkpoint, a_file_of_it_is_checked)
{
    char     path[300], other[300];
    td_error e = { 0 };
    size_t   size;
    char    *data;
    save(41);
    snprintf(path, sizeof path, "%s/step-00000041/model.safetensors", directory);
    snprintf(other, sizeof other, "%s/link", directory);
    cr_assert(!symlink(path, other));
    cr_expect_eq(td_checkpoint_check_file(path, &e), 0, "%s", e.text);
    cr_expect_eq(td_checkpoint_check_file(other, &e), 0, "%s", e.text);
    data = td_file_read(path, &size, NULL);
    cr_assert(data);
    data[size / 2] ^= 4;
    write_part(path, data, size);
    cr_expect_eq(td_checkpoint_check_file(path, NULL), TD_EFORMAT);
    cr_expect_eq(td_checkpoint_check_file(other, &e), TD_EFORMAT);
    cr_expect(strstr(e.text, "model.safetensors' is damaged"), "%s", e.text);
    cr_assert(!unlink(other));
    write_part(other, data, size);
    cr_expect_eq(td_checkpoint_check_file(other, NULL), 0);
    free(data);
}

/* The parameters of a checkpoint, and `more`, as a file of their own. */
static void write_with(const char *path, const td_stored *more, size_t n, td_safetensors *from)
{
    size_t     count = td_safetensors_count(from);
    td_stored *list = calloc(count + n, sizeof *list);
    td_error   e = { 0 };
    for (size_t i = 0; i < count; i++)
        list[i] = *td_safetensors_at(from, i);
    memcpy(list + count, more, n * sizeof *list);
    cr_assert_eq(td_safetensors_write(path, list, count + n, NULL, &e), 0, "%s", e.text);
    free(list);
}

/* Other tensors that frameworks write along with parameters are named and skipped; another
 * model's parameter is refused. */
Test(checkpoint, weights_from_elsewhere)
{
    static const int64_t ids[3] = { 0, 1, 2 };
    static const float   table[2] = { 1, 0.5f }, another[3] = { 7, 8, 9 };
    td_error             e = { 0 };
    td_text              notes = { 0 };
    td_safetensors      *file;
    save(41);
    file = td_safetensors_open(path_of("step-00000041/model.safetensors"), &e);
    cr_assert(file, "%s", e.text);
    td_stored more[] = {
        { .name = "lm_head.weight.copy" }, /* filled in below */
        { .name = "position_ids", .type = TD_STORED_I64, .rank = 2, .dim = { 1, 3 }, .data = ids },
        { .name = "empty", .type = TD_STORED_F32, .rank = 1, .dim = { 0 }, .data = table },
        { .name = "a.inv_freq", .type = TD_STORED_F32, .rank = 1, .dim = { 2 }, .data = table },
        { .name = "b.weight", .type = TD_STORED_F32, .rank = 1, .dim = { 3 }, .data = another },
    };
    more[0] = *td_safetensors_at(file, 0);
    more[0].name = "lm_head.weight.copy";
    write_with(path_of("with"), more, 4, file);
    cr_expect_eq(td_weights_load(path_of("with"), td_engine_variables(l.engine),
                                 td_engine_device(l.engine), &notes, &e),
                 0, "%s", e.text);
    for (int k = 0; k < 4; k++)
        cr_expect(strstr(td_text_get(&notes), more[k].name), "%s", td_text_get(&notes));
    write_with(path_of("with"), more, 5, file);
    cr_expect_eq(td_weights_load(path_of("with"), td_engine_variables(l.engine),
                                 td_engine_device(l.engine), &notes, &e),
                 TD_ECONFIG);
    cr_expect(strstr(e.text, "'b.weight'"), "%s", e.text);
    td_text_free(&notes);
    td_safetensors_close(file);
}

Test(checkpoint, saved_again_it_is_replaced)
{
    td_progress p;
    td_error    e = { 0 };
    uint64_t    after;
    save(41);
    lab_step(&l, 1, LAB_BATCH, 0.05);
    after = fingerprint();
    save(41);
    lab_step(&l, 2, LAB_BATCH, 0.05);
    cr_assert_eq(load(path_of("step-00000041"), &p, &e), 0, "%s", e.text);
    cr_expect_eq(fingerprint(), after);
    cr_expect(!td_file_exists(path_of(".step-00000041.tmp")));
}

/* ---- many ------------------------------------------------------------------------------------ */

static void expect_latest(const char *name)
{
    char    *latest;
    td_error e = { 0 };
    cr_assert_eq(td_checkpoint_latest(directory, &latest, &e), 0, "%s", e.text);
    cr_assert(latest ? name && !strcmp(latest, path_of(name)) : !name, "%s",
              latest ? latest : "none");
    free(latest);
}

static bool there(const char *name) { return td_file_exists(path_of(name)); }

Test(checkpoint, newest_and_pruned)
{
    td_error e = { 0 };
    expect_latest(NULL);
    for (int64_t step = 9; step <= 12; step++)
        save(step);
    cr_assert_eq(td_make_directories(path_of(".step-00000013.tmp"), &e), 0);
    cr_assert_eq(td_make_directories(path_of("step-00000014.old"), &e), 0);
    expect_latest("step-00000012");
    cr_assert_eq(td_checkpoint_prune(directory, 2, 9, &e), 0, "%s", e.text);
    cr_expect(there("step-00000012") && there("step-00000011") && !there("step-00000010") &&
              there("step-00000009"));
    cr_expect(!there(".step-00000013.tmp"), "half written");
    cr_expect(there("step-00000014.old"), "not ours");
    cr_assert_eq(td_checkpoint_prune(directory, 0, -1, &e), 0);
    cr_expect(there("step-00000009"));
}
