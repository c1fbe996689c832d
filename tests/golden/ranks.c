/* ranks.c - the models and optimizers of the golden cases, trained by one, two and three processes,
 * and by processes that were killed on the way: the same bits. */
#include "golden/case.h"
#include "open_mpi.h"
#include "tools/child.h"

/* What the cases leave open: text to train on. 7 micro-batches, which neither 2 nor 3 ranks can
 * share evenly. */
static void write_rest(const struct golden *c)
{
    char      path[PATH + 16];
    long long most = integer_of(c, "max_pos");
    bool      learned = !strcmp(text_of(c, "position"), "learned");
    snprintf(path, sizeof path, "%s/rest.cfg", c->scratch);
    FILE *f = fopen(path, "w");
    cr_assert(f, "cannot write %s", path);
    fprintf(
        f,
        "tokenizer = { plugin = \"bytes\"; };\n"
        "data = { plugin = \"text\"; sources = ( { name = \"facts\"; files = ( \"%s\" ); } ); };\n"
        "train = { length = %lld; batch = 7; micro_batch = 1; reduce = \"exact\"; dropout = 0.1;\n"
        "  log_every = 1; evaluate_every = -1; keep_last = 0; };\n"
        "run = { dir = \"%s\"; loggers = [ \"jsonl\" ]; };\n",
        TANDEM_SOURCE "/data/corpus/facts.valid.jsonl", learned && most < 32 ? most : 32LL,
        c->scratch);
    fclose(f);
}

/* Shell functions: `train RUN ..` and `same RUN RUN STEP`. */
static const char functions[] =
    "set -e; cd %1$s; "
    "train() { run=$1; shift; \"$@\" %2$s train --quiet --resume -c case.cfg -c rest.cfg "
    "--plugin-path %3$s model.vocab_size=263 run.name=$run $more; }; "
    "metrics() { sed 's/, \"time.*//' $1/metrics.jsonl; }; "
    "same() { for f in model optimizer; do "
    "cmp $1/checkpoints/step-$3/$f.safetensors $2/checkpoints/step-$3/$f.safetensors; done; "
    "metrics $1 >a; metrics $2 >b; cmp a b; }; ";

static void expect_shell(const struct golden *c, const char *optimizer, const char *script)
{
    char command[8 * PATH];
    int n = snprintf(command, sizeof command, functions, c->scratch, TANDEM_BINARY, TANDEM_PLUGINS);
    snprintf(command + n, sizeof command - (size_t)n, "%s", script);
    child run = child_run((const char *[]){ "bash", "-c", command, NULL });
    cr_expect_eq(run.code, 0, "%s, %s: exit code %d:\n%s%s", c->name, optimizer, run.code, run.out,
                 run.err);
    child_free(&run);
}

/* Calls `check` for each optimizer that the case was trained with. */
static void each_optimizer(const struct golden *c, const struct run *r, const char *script)
{
    char        path[PATH + 32];
    const char *optimizer;
    json_t     *steps;
    snprintf(path, sizeof path, "%s/train.json", c->directory);
    json_t *train = json_load_file(path, 0, NULL);
    cr_assert(train, "cannot read %s", path);
    write_rest(c);
    json_object_foreach(train, optimizer, steps)
    {
        write_config(c, r, optimizer, path);
        expect_shell(c, optimizer, script);
    }
    json_decref(train);
}

static void check_bits(const struct golden *c, const struct run *r)
{
    each_optimizer(c, r,
                   "more='train.steps=10'; rm -rf one two three parts; "
                   "train one; train two mpirun -np 2; train three mpirun -np 3; "
                   "same one two 00000010; same one three 00000010; "
                   "more='train.steps=10 train.shard=parameters'; train parts mpirun -np 3; "
                   "same one parts 00000010");
}

/* The same on memory that the host cannot touch, and which a comm connects (tests/fixtures/apart). */
static void check_devices(const struct golden *c, const struct run *r)
{
    each_optimizer(c, r,
                   "more='train.steps=3'; rm -rf one two owned; "
                   "train one; train two mpirun -np 2; same one two 00000003; "
                   "more='train.steps=3 train.shard=optimizer'; train owned mpirun -np 3; "
                   "same one owned 00000003");
}

/* At a random moment: the processes take turns at being killed. What was not saved is made again. */
static void check_kills(const struct golden *c, const struct run *r)
{
    each_optimizer(c, r,
                   "more='train.steps=200 train.checkpoint_every=10'; rm -rf one many; train one; "
                   "for n in 2 3 2; do "
                   "train many mpirun -np $n 2>/dev/null & job=$!; sleep 1.$RANDOM; "
                   "victim=$(pgrep -x tandem -P $(pgrep -x mpirun -P $job) | shuf -n 1) || true; "
                   "kill -KILL $victim || true; wait $job || true; done; "
                   "train many mpirun -np 3; same one many 00000200");
}

TestSuite(ranks, .init = open_mpi_setup);

static const struct run one_thread = { "cpu", 1 };

/* Three trainings of each case, two of which start processes: under sanitizers, which look at memory
 * and not at bits, a few cases are enough. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { EVERY = 6 };
#else
enum { EVERY = 1 };
#endif

static void check_some_bits(const struct golden *c, const struct run *r)
{
    static int n;
    if (n++ % EVERY == 0)
        check_bits(c, r);
}

Test(ranks, have_the_bits_of_one_process, .timeout = 1200)
{
    if (there_is_mpi())
        cr_assert(for_each_case(&one_thread, check_some_bits) >= 11, "cases are missing");
}

static const struct run device = { "apart", 1 };

/* Its kernels are plain loops in double, so a few cases are enough: other models differ in what they
 * compute, not in how it is exchanged. */
static void check_some_devices(const struct golden *c, const struct run *r)
{
    static int n;
    if (n++ % (3 * EVERY) == 0)
        check_devices(c, r);
}

Test(ranks, have_the_bits_of_one_device, .timeout = 1200)
{
    setenv("TANDEM_PLUGIN_PATH", TANDEM_FIXTURES "/apart-apart", 1);
    if (there_is_mpi())
        cr_assert(for_each_case(&device, check_some_devices) >= 11, "cases are missing");
}

static void check_some_kills(const struct golden *c, const struct run *r)
{
    if (!strcmp(c->name, "decllm-llama") || (!strcmp(c->name, "redllm-tuning") && EVERY == 1))
        check_kills(c, r);
}

Test(ranks, killed_and_resumed_have_the_bits_of_one_process, .timeout = 600)
{
    if (there_is_mpi())
        for_each_case(&one_thread, check_some_kills);
}
