/* cuda.c - the backend 'cuda' on a machine with a GPU; elsewhere these tests are skipped. What it
 * computes is compared op by op by `tandem plugins check`, and with the golden cases if
 * TANDEM_GOLDEN_BACKEND=cuda. */
#include <math.h>
#include <unistd.h>

#include "base/file.h"
#include "conformance/check.h"
#include "tools/command.h"
#include "tools/run_files.h"

static char directory[64];

/* Whether `tandem doctor` finds a GPU. */
static bool has_gpu(void)
{
    child   c = tandem("doctor --json");
    json_t *j = child_json(&c), *b;
    bool    works = false;
    size_t  k;
    json_array_foreach(json_object_get(j, "backends"), k, b)
        works = works || (!strcmp(json_string_value(json_object_get(b, "name")), "cuda") &&
                          json_is_true(json_object_get(b, "works")));
    json_decref(j);
    child_free(&c);
    return works;
}

static void setup(void)
{
    if (!has_gpu())
        cr_skip_test("there is no GPU that CUDA can use");
    strcpy(directory, "/tmp/tandem-cuda-XXXXXX");
    cr_assert(mkdtemp(directory));
}

static void teardown(void)
{
    if (*directory)
        td_remove_tree(directory, NULL);
}

TestSuite(cuda, .init = setup, .fini = teardown);

Test(cuda, the_suite_passes)
{
    child   run;
    json_t *all = check_module(TANDEM_PLUGINS "/backend-cuda.so", NULL, &run);
    cr_expect_eq(run.code, 0, "%s", run.out);
    json_decref(all);
    child_free(&run);
}

static void train(const char *backend, const char *name, const char *more)
{
    child c = tandem("train -c quickstart/redllm.cfg backend.plugin=%s run.dir=%s run.name=%s "
                     "train.batch=4 train.micro_batch=2 train.length=64 train.log_every=1 "
                     "train.dropout=0.1 schedule.warmup=2 schedule.steps=300 --quiet %s",
                     backend, directory, name, more);
    cr_assert_eq(c.code, 0, "%s on %s: code %d: %s", name, backend, c.code, c.err);
    child_free(&c);
}

/* The training losses of a run; returns how many. */
static size_t losses_of(const char *run, double *at, size_t room)
{
    char  *text = run_file(directory, run, "metrics.jsonl", NULL), *rest = text;
    size_t n = 0;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        json_t *j = json_loads(line, 0, NULL), *loss = json_object_get(j, "train/loss");
        if (loss && n < room)
            at[n++] = json_number_value(loss);
        json_decref(j);
    }
    free(text);
    return n;
}

/* 45 steps: the CPU's losses, the same bits again, and the same bits when resumed. */
static void follow_the_cpu(const char *precision, double tolerance)
{
    static const char parameters[] = "checkpoints/step-00000045/model.safetensors";
    double            host[45], device[45];
    char              whole[100], half[100];
    snprintf(whole, sizeof whole, "train.precision=%s train.steps=45", precision);
    snprintf(half, sizeof half, "train.precision=%s train.steps=30", precision);
    train("cpu", "host", whole);
    train("cuda", "first", whole);
    train("cuda", "again", whole);
    train("cuda", "halves", half);
    strcat(whole, " --resume");
    train("cuda", "halves", whole);
    cr_assert_eq(losses_of("host", host, 45), 45);
    cr_assert_eq(losses_of("first", device, 45), 45);
    for (int k = 0; k < 45; k++)
        cr_expect(fabs(host[k] - device[k]) <= tolerance * host[k],
                  "step %d: %.9g on the CPU, %.9g", k + 1, host[k], device[k]);
    expect_same_in_runs(directory, "first", "again", parameters);
    expect_same_in_runs(directory, "first", "halves", parameters);
    expect_same_in_runs(directory, "first", "halves",
                        "checkpoints/step-00000045/optimizer.safetensors");
}

Test(cuda, training_follows_the_cpu_and_repeats_itself) { follow_the_cpu("f32", 1e-5); }
/* roundings to bf16 differ where sums in another order differ in their last bit */
Test(cuda, training_in_bf16_does_so_too) { follow_the_cpu("bf16", 5e-3); }

/* More than any GPU has: refused with the numbers, before anything is taken. */
Test(cuda, too_large_a_model_is_refused)
{
    expect(2, "", " of device memory (parameters",
           tandem("train -c quickstart/redllm.cfg backend.plugin=cuda run.dir=%s "
                  "model.ffn.d_ff=16000000 --quiet",
                  directory));
}

Test(cuda, a_gpu_that_is_not_there)
{
    expect(2, "", "backend 'cuda': there is no GPU 63",
           tandem("bench -c nano/redllm.cfg backend.plugin=cuda backend.device=63"));
}
