/* processes.c - training by several processes, started by mpirun: the same bits on any number of
 * them, one that prints, and an end in time when one dies. */
#include "tools/processes.h"

TestSuite(processes, .init = processes_setup, .fini = small_teardown);

Test(processes, have_the_same_bits_on_any_number)
{
    static const char *const ranks[] = { RANKS(2), RANKS(3), RANKS(5) };
    if (!there_is_mpi())
        return;
    small_expect("one", "%2$s" SEVEN, 0, "");
    for (int k = 0; k < 3; k++) {
        char run[16], command[1000];
        snprintf(run, sizeof run, "ranks%d", k);
        snprintf(command, sizeof command, "%s%s", ranks[k],
                 "%2$s" SEVEN "&& " SAME("12") " && " METRICS("one") " >%1$s/a; " METRICS(
                     "%3$s") " >%1$s/b; cmp %1$s/a %1$s/b");
        small_expect(run, command, 0, "");
    }
}

/* With a plan that adds to the last gradient even two are not the same. */
Test(processes, have_the_same_bits_for_two_and_three_micro_batches)
{
    if (!there_is_mpi())
        return;
    small_expect("one", "%2$s train.batch=2 train.micro_batch=1 train.reduce=exact", 0, "");
    small_expect("two",
                 RANKS(2) "%2$s train.batch=2 train.micro_batch=1 train.reduce=exact && " SAME(
                     "12"),
                 0, "");
    small_expect("three",
                 "%2$s train.batch=3 train.micro_batch=1 train.reduce=exact && mv %1$s/one "
                 "%1$s/before && mv %1$s/three %1$s/one",
                 0, "");
    small_expect("shared",
                 RANKS(2) "%2$s train.batch=3 train.micro_batch=1 train.reduce=exact && " SAME(
                     "12"),
                 0, "");
}

Test(processes, fast_sums_differ_by_rounding_alone)
{
    if (!there_is_mpi())
        return;
    small_expect("one", "%2$s train.batch=6 train.micro_batch=1", 0, "");
    small_expect("two",
                 RANKS(2) "%2$s train.batch=6 train.micro_batch=1 && "
                          "paste -d' ' %1$s/one/metrics.jsonl %1$s/two/metrics.jsonl | awk '"
                          "match($0, /loss\": [0-9.]+/) { a = substr($0, RSTART + 7, 12);"
                          "  b = substr($0, RSTART + 8); match(b, /train.loss\": [0-9.]+/);"
                          "  b = substr(b, RSTART + 13, 12); n++; if ((a - b) ^ 2 > 1e-10) exit 1 }"
                          "END { exit n < 12 }'",
                 0, "");
    small_expect("twice",
                 RANKS(2) "%2$s train.batch=6 train.micro_batch=1 && "
                          "cmp %1$s/two/checkpoints/step-00000012/model.safetensors "
                          "%1$s/twice/checkpoints/step-00000012/model.safetensors",
                 0, "");
    /* without micro-batches each process gets its share of the batch */
    small_expect("whole", RANKS(2) "%2$s train.batch=6", 0, "micro-batches of 3 sequences");
}

Test(processes, go_on_from_any_number)
{
    if (!there_is_mpi())
        return;
    small_expect("one", "%2$s" SEVEN, 0, "");
    small_expect("parts",
                 RANKS(3) "%2$s" SEVEN "train.steps=4 && %2$s" SEVEN "train.steps=8 "
                          "&& " RANKS(2) "%2$s" SEVEN "&& " SAME("12"),
                 0, "");
    /* with the config that the run kept, which names the comm that it had then */
    small_expect("kept",
                 "%2$s" SEVEN "train.steps=4 && " RANKS(2) TANDEM_BINARY
                 " train %1$s/%3$s --resume train.steps=8 && " TANDEM_BINARY
                 " train %1$s/%3$s --resume train.steps=12 && " SAME("12"),
                 0, "2 processes; ");
    small_expect("fast",
                 RANKS(2) "%2$s train.micro_batch=1 train.steps=4 && "
                          "%2$s train.micro_batch=1",
                 0, "different number of processes (1, before 2)");
}

/* What a refusal advises can be done. */
Test(processes, go_on_from_more_than_the_micro_batches)
{
    if (!there_is_mpi())
        return;
    small_expect("more",
                 "%2$s train.batch=8 train.micro_batch=4 train.steps=4 && " RANKS(3) TANDEM_BINARY
                 " train %1$s/%3$s --resume train.steps=8",
                 2, "start at most 2, or set train.micro_batch = 2, ");
    small_expect("more",
                 RANKS(3) TANDEM_BINARY " train %1$s/%3$s --resume train.steps=8 "
                                        "train.micro_batch=2 --allow train.micro_batch",
                 0, "train.micro_batch: 4 -> 2: allowed");
}

/* ---- tasks between steps ----------------------------------------------------------------------- */

/* 7 items: neither 2 nor 3 ranks share them evenly. A task that generates, and decides which
 * checkpoint is the best, and one that compares choices. */
#define TASKS                                                                                 \
    "'tasks.names=(\"sums\", \"%1$s/written.cfg\")' tasks.data=" TANDEM_SOURCE "/data/tasks " \
    "tasks.limit=7 train.score_every=5 train.best=tasks.written "
#define WRITTEN                                                                               \
    "echo 'task = { files = [ \"sums.jsonl\" ]; split = \"test\"; output_type = "             \
    "\"generate_until\"; doc_to_text = \"{{question}}\"; doc_to_target = \"{{choices.0}}\"; " \
    "metrics = ( \"chrf\" ); until = [ \" \" ]; max_gen_toks = 4; };' >%1$s/written.cfg; "

Test(processes, score_tasks_with_the_same_bits)
{
    static const char *const ranks[] = { RANKS(2), RANKS(3) };
    if (!there_is_mpi())
        return;
    small_expect("one", WRITTEN "%2$s" SEVEN TASKS, 0, "tasks/written/chrf");
    for (int k = 0; k < 2; k++) {
        char run[16], command[2000];
        snprintf(run, sizeof run, "ranks%d", k);
        snprintf(command, sizeof command, "%s%s", ranks[k],
                 "%2$s" SEVEN TASKS "&& " SAME("12") " && " METRICS("one") " >%1$s/a; " METRICS(
                     "%3$s") " >%1$s/b; cmp %1$s/a %1$s/b && grep -c tasks/sums/acc_ %1$s/b");
        small_expect(run, command, 0, "3");
    }
    small_expect("late",
                 RANKS(3) "%2$s" SEVEN TASKS "train.steps=7 && " RANKS(2) "%2$s" SEVEN TASKS
                                                                          "&& " SAME("12"),
                 0, "");
    /* reported once */
    small_expect("none", RANKS(2) "%2$s 'tasks.names=(\"none\")' 2>&1 | grep -c \"task 'none'\"", 0,
                 "1");
}

/* The leader alone knows that what was missed cannot be written; the tasks, which are for all, come
 * next. */
Test(processes, end_together_when_what_was_missed_cannot_be_written)
{
    if (!there_is_mpi())
        return;
    small_expect("unwritten",
                 WRITTEN RANKS(2) "%2$s" SEVEN TASKS
                                  "train.steps=5 train.evaluate_every=-1 train.score_every=-1 "
                                  "train.best= && export TANDEM_BAD_AT=logger.write "
                                  "TANDEM_BAD_DO=fail; timeout 120 " RANKS(
                                      2) "%2$s" SEVEN TASKS "train.steps=5 train.evaluate_every=5 "
                                         "'run.loggers=[\"jsonl\",\"bad\"]' "
                                         "--plugin-path " TANDEM_FIXTURES "/bad; test $? = 1",
                 0, "no room is left for metrics");
}

Test(processes, stop_together_and_save)
{
    if (!there_is_mpi())
        return;
    small_expect("stopped",
                 RANKS(2) "%2$s" SEVEN ENDLESS " & " UNTIL_SAVED "kill -USR1 " LAST_RANK
                          "; wait $!; echo code $?",
                 0, "code 75");
    small_expect("stopped",
                 "n=$(ls %1$s/%3$s/checkpoints | tail -1 | sed 's/step-0*//'); "
                 "%2$s" SEVEN "train.steps=$((n + 1)) train.evaluate_every=-1 && "
                 "mpirun -np 2 %2$s" SEVEN "train.steps=$((n + 1)) run.name=fresh "
                 "train.evaluate_every=-1 && cd %1$s && "
                 "cmp */checkpoints/step-*$((n + 1))/model.safetensors",
                 0, "");
}

Test(processes, end_when_one_dies)
{
    if (!there_is_mpi())
        return;
    small_expect("killed",
                 RANKS(3) "%2$s" SEVEN ENDLESS " & " UNTIL_SAVED "kill -KILL " LAST_RANK
                          "; date +%%s >%1$s/then; wait $!; "
                          "test $? = 137 && test $(($(date +%%s) - $(cat %1$s/then))) -lt 20 && "
                          "mpirun -np 2 %2$s" SEVEN "train.evaluate_every=-1 train.steps=$(( "
                          "$(ls %1$s/%3$s/checkpoints | tail -1 | sed 's/step-0*//') + 1 ))",
                 0, "resuming from");
}

/* Stopped, its network connections stay open: only that nothing comes shows that it is lost. */
#define WHEN_STOPPED(which)                                                                     \
    RANKS(3)                                                                                    \
    "%2$s" SEVEN ENDLESS " comm.timeout=3 & " UNTIL_SAVED                                       \
    "kill -STOP $(pgrep -a -x tandem | grep 'run.name=%3$s ' | " which " -1 | cut -d' ' -f1); " \
    "date +%%s >%1$s/then; wait $!; code=$?; "                                                  \
    "echo code $code after $(($(date +%%s) - $(cat %1$s/then))) s; "                            \
    "test $(($(date +%%s) - $(cat %1$s/then))) -lt 30; exit $code"

Test(processes, end_when_one_hangs)
{
    static const char *const which[] = { WHEN_STOPPED("tail"), WHEN_STOPPED("head") };
    if (!there_is_mpi())
        return;
    for (int k = 0; k < 2; k++) {
        const char *run = k ? "leader" : "follower";
        small_expect(run, which[k], 75, "has waited 3 s for the others");
        small_expect(run,
                     "%2$s" SEVEN "train.evaluate_every=-1 train.steps=$(( "
                     "$(ls %1$s/%3$s/checkpoints | tail -1 | sed 's/step-0*//') + 1 ))",
                     0, "resuming from");
    }
}

/* Two hosts, played by network namespaces; Open MPI starts what belongs to the second by `agent`, in
 * place of ssh. Then the cable between them is cut. */
#define HOSTS                                                                                     \
    "a=tda$$; b=tdb$$; trap 'ip netns del $a; ip netns del $b' EXIT; "                            \
    "ip netns add $a; ip netns add $b; ip link add va netns $a type veth peer name vb netns $b; " \
    "ip -n $a addr add 10.9.0.1/24 dev va; ip -n $b addr add 10.9.0.2/24 dev vb; "                \
    "ip -n $a link set va up; ip -n $b link set vb up; "                                          \
    "ip -n $a link set lo up; ip -n $b link set lo up; "                                          \
    "printf '#!/bin/sh\nshift\nexec ip netns exec '$b' sh -c \"$*\"\n' >%1$s/agent; "             \
    "chmod +x %1$s/agent; "
#define OVER_THEM                                                 \
    "ip netns exec $a mpirun -np 2 --host 10.9.0.1:1,10.9.0.2:1 " \
    "--mca plm_rsh_agent %1$s/agent --mca btl tcp,self "          \
    "--mca btl_tcp_if_include 10.9.0.0/24 --mca oob_tcp_if_include 10.9.0.0/24 "

static bool there_are_namespaces(void)
{
    bool there = !system("exec 2>/dev/null; ip netns add tda0 && "
                         "ip link add va netns tda0 type veth peer name vb netns tda0; "
                         "code=$?; ip netns del tda0; exit $code");
    if (!there)
        cr_log_warn("no network namespaces (root, and the command ip): nothing is tested");
    return there;
}

/* Over TCP, with nothing in common but the files. */
Test(processes, have_the_same_bits_on_two_hosts)
{
    if (!there_is_mpi() || !there_are_namespaces())
        return;
    small_expect("one", "%2$s" SEVEN, 0, "");
    small_expect("hosts", HOSTS OVER_THEM "%2$s" SEVEN "&& " SAME("12"), 0, "");
    small_expect("shared", HOSTS OVER_THEM "%2$s" SHARED "&& " SAME("12"), 0, "");
}

Test(processes, end_when_the_network_is_lost)
{
    if (!there_is_mpi() || !there_are_namespaces())
        return;
    /* mpirun itself may wait for the lost host for as long as TCP does, a quarter of an hour */
    small_expect("cut",
                 HOSTS OVER_THEM "%2$s" SEVEN ENDLESS " comm.timeout=4 & job=$!; " UNTIL_SAVED
                                 "ip -n $a link set va down; for k in $(seq 300); do "
                                 "pgrep -a -x tandem | grep -q 'run.name=%3$s ' || break; "
                                 "sleep 0.1; done; kill -KILL $job; "
                                 "! pgrep -a -x tandem | grep 'run.name=%3$s '",
                 0, "has waited 4 s for the others");
    small_expect("cut",
                 "%2$s" SEVEN "train.evaluate_every=-1 train.steps=$(( "
                 "$(ls %1$s/%3$s/checkpoints | tail -1 | sed 's/step-0*//') + 1 ))",
                 0, "resuming from");
}

/* A data source that takes 0.4 s for each record on the last rank, and no time on the others. */
#define BAD                                                                                    \
    TANDEM_BINARY " train -c quickstart/decllm.cfg model.d_model=16 model.layers=1 "           \
                  "tokenizer.plugin=bad data.plugin=bad train.steps=8 train.batch=6 "          \
                  "train.micro_batch=1 train.log_every=4 train.evaluate_every=-1 --threads 1 " \
                  "--plugin-path " TANDEM_FIXTURES                                             \
                  "/bad run.dir=%1$s run.name=%3$s --resume comm.straggler=5 "

Test(processes, name_one_that_is_slow)
{
    if (!there_is_mpi())
        return;
    small_expect("slow",
                 "mpirun -np 2 " BAD ": -np 1 env TANDEM_BAD_AT=data.fetch TANDEM_BAD_DO=slow " BAD,
                 0, "rank 2, on '");
    small_expect("even",
                 "mpirun -np 1 env TANDEM_BAD_AT=data.fetch TANDEM_BAD_DO=slow " BAD
                 ": -np 2 env TANDEM_BAD_AT=data.fetch TANDEM_BAD_DO=slow " BAD
                 " 2>&1 | grep -c ' is slow: ' || true",
                 0, "0");
}

Test(processes, say_how_long_they_wait)
{
    if (!there_is_mpi())
        return;
    small_expect("limit", RANKS(2) "%2$s" SEVEN "comm.timeout=90", 0,
                 "2 processes; one that waits 90 s for the others ends the run (comm.timeout)");
    small_expect("none", RANKS(2) "%2$s" SEVEN "comm.timeout=0", 0, "forever (comm.timeout = 0)");
}

Test(processes, speak_with_one_voice)
{
    if (!there_is_mpi())
        return;
    small_expect("voice", RANKS(3) "%2$s" SEVEN " 2>&1 | grep -c 'resuming\\|^step 12, '", 0, "1");
    small_expect("voices", RANKS(2) "%2$s" SEVEN "--every-rank", 0, "rank 1: ");
}

/* Batches of 2 of 7 sequences: the last is smaller, and 3 and 5 ranks cannot share them evenly. */
#define EVALUATE TANDEM_BINARY " evaluate %1$s/%3$s evaluate.sequences=7 evaluate.batch=2 "

/* No rank runs ahead of the results that the first one writes. */
Test(processes, evaluate_several_runs)
{
    if (!there_is_mpi())
        return;
    small_expect("first", "%2$s", 0, "");
    small_expect("second", "%2$s train.seed=2", 0, "");
    small_expect("second",
                 RANKS(3) TANDEM_BINARY " evaluate %1$s/first %1$s/second evaluate.sequences=7 "
                                        "evaluate.batch=2",
                 0, "mean over seeds");
    /* a directory where the results should be: all end */
    small_expect(
        "second",
        "rm -r %1$s/first/eval && mkdir -p %1$s/first/eval/heldout.json && timeout 60 " RANKS(2)
            TANDEM_BINARY " evaluate %1$s/first %1$s/second evaluate.sequences=7",
        1, "heldout.json");
}

/* The limits are those of the run, whichever comm connects its processes. */
Test(processes, keep_the_limits_of_the_run)
{
    if (!there_is_mpi())
        return;
    small_expect("kept", "%2$s" SEVEN "train.steps=4 comm.timeout=77", 0, "");
    small_expect("kept",
                 RANKS(2) TANDEM_BINARY " train %1$s/kept --resume train.steps=8 --threads 1", 0,
                 "waits 77 s");
    small_expect("differ", "mpirun -np 1 %2$s" SEVEN ": -np 1 %2$s" SEVEN "comm.timeout=5", 2,
                 "rank 1 has a different comm.timeout from rank 0");
}

Test(processes, evaluate_with_the_same_bits)
{
    static const char *const ranks[] = { RANKS(2), RANKS(3), RANKS(5) };
    if (!there_is_mpi())
        return;
    small_expect("scored", "%2$s >&2 && " EVALUATE ">%1$s/one && cp -r %1$s/%3$s/eval %1$s/eval", 0,
                 "");
    for (int k = 0; k < 3; k++) {
        char command[2000];
        snprintf(command, sizeof command, "%s%s", ranks[k],
                 EVALUATE ">%1$s/many && cmp %1$s/one %1$s/many && cmp %1$s/eval/heldout.json "
                          "%1$s/%3$s/eval/heldout.json && cmp %1$s/eval/heldout.jsonl "
                          "%1$s/%3$s/eval/heldout.jsonl");
        small_expect("scored", command, 0, "processes; one that waits");
    }
    small_expect("scored", "mpirun -np 1 " EVALUATE ": -np 1 " EVALUATE "--weights %1$s/one", 1,
                 "rank 1: ");
}

#define EXTRAPOLATE                                                    \
    TANDEM_BINARY " evaluate %1$s/%3$s --extrapolate --lengths 64,81 " \
                  "--prefixes 1,13 --sequences 3 "

/* 3 sequences of each source, which 2, 3 and 5 ranks divide in different ways. */
Test(processes, extrapolate_with_the_same_bits)
{
    static const char *const ranks[] = { RANKS(2), RANKS(3), RANKS(5) };
    if (!there_is_mpi())
        return;
    small_expect("far", "%2$s >&2 && " EXTRAPOLATE ">%1$s/one && mv %1$s/%3$s/eval %1$s/eval", 0,
                 "");
    for (int k = 0; k < 3; k++) {
        char command[2000];
        snprintf(command, sizeof command, "%s%s", ranks[k],
                 EXTRAPOLATE ">%1$s/many && cmp %1$s/one %1$s/many && for f in json csv; do cmp "
                             "%1$s/eval/extrapolate.$f %1$s/%3$s/eval/extrapolate.$f; done");
        small_expect("far", command, 0, "processes; one that waits");
    }
    small_expect("far",
                 "mpirun -np 1 " EXTRAPOLATE ": -np 1 " TANDEM_BINARY
                 " evaluate %1$s/%3$s --extrapolate --lengths 64,97 --prefixes 1,13 --sequences 3",
                 2, "rank 1 has a different set of lengths, prefixes or sequences from rank 0");
}

/* ---- generation (tasks: tests/tools/tasks.c) --------------------------------------------------- */

Test(processes, generate_the_same_answers)
{
    static const char *const ranks[] = { RANKS(2), RANKS(3), RANKS(5) };
    static const char *const how[] = { "", "--temperature 0.9 --seed 3 --json",
                                       "--beams 3 --json" };
    if (!there_is_mpi())
        return;
    small_expect("said",
                 "%2$s >&2 && for k in 1 2 3 4 5 6 7; do echo \"$k and $k is\"; done >%1$s/prompts",
                 0, "");
    for (int k = 0; k < 3; k++) {
        char command[2000];
        snprintf(command, sizeof command,
                 "generate='" TANDEM_BINARY " generate %%1$s/%%3$s --file %%1$s/prompts "
                 "--max-new-tokens 9 %s' && $generate >%%1$s/one && %s $generate >%%1$s/many && "
                 "cmp %%1$s/one %%1$s/many && wc -l <%%1$s/many",
                 how[k], ranks[k]);
        small_expect("said", command, 0, "7");
    }
    /* more ranks than prompts */
    small_expect("said",
                 RANKS(3) TANDEM_BINARY
                 " generate %1$s/%3$s \"Once\" --max-new-tokens 9 >%1$s/many "
                 "&& " TANDEM_BINARY " generate %1$s/%3$s \"Once\" --max-new-tokens 9 >%1$s/one "
                 "&& cmp %1$s/one %1$s/many",
                 0, "processes; one that waits");
    small_expect("said", RANKS(2) TANDEM_BINARY " generate %1$s/%3$s --interactive", 2,
                 "only the first of several processes");
    small_expect("said",
                 "mpirun -np 1 " TANDEM_BINARY " generate %1$s/%3$s one two : -np 1 " TANDEM_BINARY
                 " generate %1$s/%3$s one too",
                 2, "rank 1 has a different set of prompts or options from rank 0");
}

Test(processes, refuse_what_cannot_be_right)
{
    if (!there_is_mpi())
        return;
    small_expect("many", RANKS(3) "%2$s train.batch=3 train.reduce=exact", 2,
                 "3 processes, but a step has only 1 micro-batch (train.batch = 3, ");
    small_expect("crowd", RANKS(3) "%2$s train.batch=2", 2,
                 "3 processes cannot share a batch of train.batch = 2 sequences");
    small_expect("odd", RANKS(2) "%2$s train.batch=7", 2,
                 "start at most 1, or set train.micro_batch = 1, ");
    small_expect("differ", "mpirun -np 1 %2$s" SEVEN ": -np 1 %2$s" SEVEN "train.clip=0.5", 2,
                 "rank 1 has a different config from rank 0");
    small_expect("other", "%2$s >&2 && " RANKS(2) TANDEM_BINARY " analyze %1$s/%3$s", 2,
                 "but this command uses one");
    small_expect("single", RANKS(2) "%2$s" SEVEN "comm.plugin=single", 2,
                 "mpirun started 2 processes, but comm 'single' connects 1");
    /* a launcher that does not know of MPI */
    small_expect("torch", "RANK=0 WORLD_SIZE=4 %2$s", 2, "torchrun started 4 processes");
}
