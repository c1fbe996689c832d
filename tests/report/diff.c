/* diff.c - where two runs part: by settings, by metrics with and without hashes, by checkpoints. */
#include "io/safetensors.h"
#include "report/diff.h"
#include "report/made.h"

TestSuite(diff, .init = made_begin, .fini = made_end);

/* Lines of training up to step 50; from step `other` on the parameters are others, and from the next
 * line on the loss. */
static void put_metrics(const char *run, int other, bool hashes)
{
    for (int step = 10; step <= 50; step += 10) {
        made_put(run, "metrics.jsonl", "{\"step\": %d, \"train/loss\": %.17g, ", step,
                 5.0 / step + (step > other ? 1e-16 : 0));
        if (hashes)
            made_put(run, "metrics.jsonl", "\"train/parameters_hash\": %lld, ",
                     9007199254740000LL + step + (step >= other));
        made_put(run, "metrics.jsonl", "\"time/seconds\": %d}\n", other);
    }
}

static void put_config(const char *run, const char *more)
{
    made_put(run, "config.cfg", "schedule = { plugin = \"cosine\"; };\n%s", more);
}

static void put_checkpoint(const char *run, int step, float second)
{
    float     norm[] = { 1, 2 }, weight[] = { 3, second, 5 };
    char      folder[100], *of = made_path(run), *above, *path;
    td_stored tensors[] = {
        { .name = "norm", .type = TD_STORED_F32, .rank = 1, .dim = { 2 }, .data = norm },
        { .name = "weight", .type = TD_STORED_F32, .rank = 1, .dim = { 3 }, .data = weight },
    };
    snprintf(folder, sizeof folder, "checkpoints/step-%08d", step);
    above = td_path_join(of, folder);
    path = td_path_join(above, "model.safetensors");
    cr_assert_eq(td_make_directories(above, NULL), 0);
    cr_assert_eq(td_safetensors_write(path, tensors, 2, NULL, NULL), 0);
    free(path);
    free(above);
    free(of);
}

static td_parting find(void)
{
    char      *a = made_path("a"), *b = made_path("b");
    td_parting p;
    td_error   e = { 0 };
    cr_assert_eq(td_parting_find(a, b, &p, &e), 0, "%s", e.text);
    free(a);
    free(b);
    return p;
}

static void make(int other, bool hashes_of_b)
{
    put_config("a", "");
    put_config("b", "");
    put_metrics("a", 1000, true);
    put_metrics("b", other, hashes_of_b);
}

Test(diff, runs_that_are_the_same)
{
    make(1000, true);
    put_checkpoint("a", 20, 4);
    put_checkpoint("b", 20, 4);
    td_parting p = find();
    cr_expect_eq(p.differences.size, 0);
    cr_expect_eq(p.lines, 5);
    cr_expect_eq(p.first, -1);
    cr_expect_eq(p.last_same, 50);
    cr_expect(p.hashed);
    cr_expect_eq(p.checkpoints, 1);
    cr_expect_eq(p.checkpoint, -1);
    td_parting_free(&p);
}

/* The hash shows it one line earlier than the loss. */
Test(diff, the_hash_names_the_step)
{
    make(30, true);
    td_parting p = find();
    cr_expect_eq(p.first, 30);
    cr_expect_eq(p.last_same, 20);
    cr_expect_str_eq(p.metric, "train/parameters_hash");
    cr_expect_eq(p.b - p.a, 1);
    td_parting_free(&p);
}

Test(diff, metrics_of_an_older_run_have_no_hash)
{
    make(30, false);
    td_parting p = find();
    cr_expect_eq(p.first, 40);
    cr_expect_eq(p.last_same, 30);
    cr_expect_str_eq(p.metric, "train/loss");
    cr_expect(!p.hashed);
    td_parting_free(&p);
}

Test(diff, the_first_tensor)
{
    make(30, true);
    put_checkpoint("a", 20, 4);
    put_checkpoint("b", 20, 4);
    put_checkpoint("a", 40, 4);
    put_checkpoint("b", 40, 4.5f);
    put_checkpoint("a", 50, 4);
    td_parting p = find();
    cr_expect_eq(p.checkpoints, 2);
    cr_expect_eq(p.checkpoint_same, 20);
    cr_expect_eq(p.checkpoint, 40);
    cr_expect_str_eq(td_text_get(&p.tensor), "weight");
    cr_expect_eq(p.differ, 1);
    cr_expect_eq(p.tensors, 2);
    td_parting_free(&p);
}

Test(diff, settings)
{
    put_config("a", "");
    put_config("b", "train = { seed = 2; };\n");
    td_parting p = find();
    cr_expect(strstr(td_text_get(&p.differences), "train.seed"), "%s", td_text_get(&p.differences));
    cr_expect_eq(p.lines, 0);
    td_parting_free(&p);
}

Test(diff, damaged_lines_are_counted)
{
    make(1000, true);
    made_put("b", "metrics.jsonl", "{\"step\": 60, \"train/lo\n");
    td_parting p = find();
    cr_expect_eq(p.damaged, 1);
    cr_expect_eq(p.lines, 5);
    td_parting_free(&p);
}

Test(diff, what_is_no_run)
{
    char      *a = made_path("nowhere");
    td_parting p;
    td_error   e = { 0 };
    cr_expect_eq(td_parting_find(a, a, &p, &e), TD_ECONFIG);
    cr_expect(strstr(e.text, "is neither a run nor a checkpoint"));
    td_parting_free(&p);
    free(a);
}
