/* study_processes.c - a study whose cells are computed by several processes: what is shown, started,
 * stopped and written for other machines. */
#include "open_mpi.h"
#include "tools/small_run.h"

/* Named by %1$s in commands; the cells' bits do not depend on the number of processes. */
static void setup(void)
{
    char  path[128];
    FILE *f;
    open_mpi_setup();
    small_setup();
    snprintf(path, sizeof path, "%s/tiny.cfg", small_directory);
    f = fopen(path, "w");
    cr_assert(f);
    fputs("study = { name = \"tiny\"; base = [ \"model.cfg\", \"train.micro_batch=1\",\n"
          "  \"train.reduce=exact\", \"train.evaluate_every=0\" ];\n"
          "  variants = { plain = { }; };\n"
          "  sizes = { small = { }; large = { keys = { model = { ffn = { d_ff = 53; }; }; };\n"
          "    processes = 2; }; };\n"
          "  phases = { pretrain = \"train.steps=12\"; evaluate = { };\n"
          "    extrapolate = { lengths = [ 33, 66 ]; sequences = 3; };\n"
          "    bench = { prompt_tokens = 5; max_new_tokens = 16; }; }; };\n",
          f);
    cr_assert(!fclose(f));
}

TestSuite(study_processes, .init = setup, .fini = small_teardown);

#define STUDY "cd %1$s && " TANDEM_BINARY " study "
#define ALL " study.processes=2 "
#define SAME_CELL(name)                                                                   \
    "cmp one/cells/" name "/checkpoints/step-00000012/model.safetensors "                 \
    "two/cells/" name "/checkpoints/step-00000012/model.safetensors && "                  \
    "cmp one/cells/" name "/eval/heldout.jsonl two/cells/" name "/eval/heldout.jsonl && " \
    "cmp one/cells/" name "/eval/extrapolate.csv two/cells/" name "/eval/extrapolate.csv"

Test(study_processes, are_shown_and_counted)
{
    if (!there_is_mpi())
        return;
    small_expect("shown",
                 STUDY
                 "show tiny.cfg --no-measure | sed 's/ x [0-9.]* [KMG]iB/ x each/; s/  */ /g' "
                 "| cut -d' ' -f1,5-7 | grep large",
                 0, "plain-large-s1-pretrain 2 x each");
    small_expect("json",
                 STUDY "show tiny.cfg --no-measure --json | tr -d '\n ' | "
                       "grep -o '\"phase\":\"[a-z]*\"\\|\"processes\":[0-9]*' | paste -sd' '",
                 0,
                 "\"phase\":\"pretrain\" \"processes\":1 \"phase\":\"evaluate\" \"processes\":1 "
                 "\"phase\":\"extrapolate\" \"processes\":1 \"phase\":\"bench\" \"processes\":1 "
                 "\"phase\":\"pretrain\" \"processes\":2 \"phase\":\"evaluate\" \"processes\":2 "
                 "\"phase\":\"extrapolate\" \"processes\":2 \"phase\":\"bench\" \"processes\":1");
    small_expect(
        "many", STUDY "show tiny.cfg --no-measure study.processes=3", 2,
        "3 processes cannot share a batch of train.batch = 2 sequences: each needs at least "
        "one (cell 'plain-small-s1-pretrain'");
}

/* Open MPI refuses to run as root unless told to: that is said once, before anything is begun. */
Test(study_processes, that_cannot_start_are_refused_at_once)
{
#define RUN "run tiny.cfg --no-measure run.dir=%1$s 2>&1"
    small_expect("missing", "cd %1$s && PATH=/nowhere " TANDEM_BINARY " study " RUN, 2,
                 "there is no mpirun in PATH, which starts the 2 processes of a cell");
    if (!there_is_mpi() || geteuid())
        return;
    small_expect("root",
                 "export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=0; cd %1$s && " TANDEM_BINARY " study " RUN,
                 2, "OMPI_ALLOW_RUN_AS_ROOT=1 and OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1: set both");
    small_expect("nothing", "ls %1$s", 0, "tiny.cfg");
    small_expect("nothing", "! test -e %1$s/tiny", 0, "");
#undef RUN
}

Test(study_processes, compute_what_one_computes)
{
    if (!there_is_mpi())
        return;
    small_expect("one",
                 STUDY "run tiny.cfg --no-measure study.sizes.large.processes=1 run.dir=%1$s && "
                       "mv tiny one",
                 0, "");
    small_expect("two",
                 STUDY "run tiny.cfg --no-measure" ALL "run.dir=%1$s --jobs 2 && mv tiny two", 0,
                 "");
    small_expect("small", "cd %1$s && " SAME_CELL("plain-small-s1-pretrain"), 0, "");
    small_expect("large", "cd %1$s && " SAME_CELL("plain-large-s1-pretrain"), 0, "");
    small_expect(
        "logs",
        "cd %1$s/two/logs && grep '^[$] mpirun -np 2 tandem evaluate' *-extrapolate.log && "
        "grep -h '2 processes; one that waits' *-pretrain.log",
        0, "2 processes");
    /* what is done stays done on another number */
    small_expect("again",
                 "cd %1$s && mv one tiny && " TANDEM_BINARY " study run tiny.cfg --no-measure" ALL
                 "run.dir=%1$s 2>&1 | "
                 "grep -c ': started' || true",
                 0, "0");
}

/* Stopped, they save; killed, they end as well, and what they saved is continued. */
Test(study_processes, stop_with_their_study)
{
    static const char *const how[] = { "TERM", "KILL" };
    if (!there_is_mpi())
        return;
    for (int k = 0; k < 2; k++) {
        char command[2000];
        snprintf(command, sizeof command,
                 "rm -rf %%1$s/tiny; (cd %%1$s && exec " TANDEM_BINARY
                 " study run tiny.cfg --no-measure" ALL
                 "run.dir=%%1$s study.phases.pretrain=train.steps=100000 >out 2>&1) & job=$!; "
                 "cd %%1$s; for i in $(seq 600); do ls tiny/cells/*/checkpoints 2>/dev/null | "
                 "grep -q step && break; sleep 0.1; done; kill -%s $job; wait $job; code=$?; "
                 "for i in $(seq 300); do pgrep -a -x tandem | grep -q \"run.dir=%%1$s/tiny/\" || "
                 "break; sleep 0.1; done; ! pgrep -a -x tandem | grep \"run.dir=%%1$s/tiny/\" && "
                 "tail -n 3 tiny/logs/*-small-s1-pretrain.log && echo code $code",
                 how[k]);
        small_expect("stopped", command, 0, k ? "code 137" : "code 75");
        small_expect("stopped", "cat %1$s/tiny/logs/plain-small-s1-pretrain.log", 0,
                     "the run can be resumed");
    }
}

Test(study_processes, are_written_for_other_machines)
{
    small_expect("slurm",
                 STUDY "emit slurm tiny.cfg -o emitted && cat emitted/submit.sh emitted/cell.sh", 0,
                 "{ srun --mpi=pmix -n 2 \"${TANDEM:-tandem}\" train -c "
                 "./configs/plain-large-s1-pretrain.cfg");
    small_expect("slurm", "grep -c 'ntasks=2' %1$s/emitted/submit.sh", 0, "2");
    small_expect("list", STUDY "emit list tiny.cfg" ALL "-o listed && cat listed/commands.txt", 0,
                 "{ mpirun -n 2 \"${TANDEM:-tandem}\" train -c "
                 "./configs/plain-small-s1-pretrain.cfg");
    small_expect("list", "grep bench %1$s/listed/commands.txt | grep -c mpirun || true", 0, "0");
}
