/* processes_sharing.c - processes that divide a model among them (train.shard), and runs that are
 * killed on the way: the bits and the checkpoints of one process. */
#include "tools/processes.h"

TestSuite(processes_sharing, .init = processes_setup, .fini = small_teardown);

/* Each rank has the sums of its own gradients alone, and the norm of all. */
Test(processes_sharing, share_out_fast_sums)
{
    if (!there_is_mpi())
        return;
    /* two numbers have the same sum in any order */
    small_expect("one", RANKS(2) "%2$s train.batch=6 train.micro_batch=1 train.norms_every=3", 0,
                 "");
    small_expect("shared",
                 RANKS(2) "%2$s train.batch=6 train.micro_batch=1 train.norms_every=3 "
                          "train.shard=optimizer && " SAME("12") " && " METRICS(
                              "one") " >%1$s/a; " METRICS("%3$s") " >%1$s/b; cmp %1$s/a %1$s/b && "
                                                                  "grep -c grad_norm/ %1$s/a",
                 0, "4");
    small_expect("three",
                 RANKS(3) "%2$s train.batch=6 train.micro_batch=1 train.shard=optimizer && "
                          "cp -r %1$s/three %1$s/first && rm -r %1$s/three && " RANKS(
                              3) "%2$s train.batch=6 train.micro_batch=1 train.shard=optimizer && "
                                 "cmp %1$s/first/checkpoints/step-00000012/model.safetensors "
                                 "%1$s/three/checkpoints/step-00000012/model.safetensors",
                 0, "");
}

/* One process shards nothing; checkpoints are the same to the last byte. */
Test(processes_sharing, share_out_the_optimizer)
{
    static const char *const ranks[] = { RANKS(2), RANKS(3) };
    static const char *const kinds[] = { "optimizer.plugin=adamw", "optimizer.plugin=adafactor",
                                         "optimizer.plugin=muon", "train.precision=bf16" };
    if (!there_is_mpi())
        return;
    for (int k = 0; k < 4; k++) {
        char one[400], run[16], command[1000];
        snprintf(one, sizeof one, "rm -rf %%1$s/one && %%2$s" SEVEN "%s", kinds[k]);
        small_expect("one", one, 0, "");
        for (int i = 0; i < (k ? 1 : 2); i++) {
            snprintf(run, sizeof run, "shared%d-%d", k, i);
            snprintf(command, sizeof command, "%s%s%s%s", k ? ranks[1] : ranks[i], "%2$s" SHARED,
                     kinds[k], " && " SAME("04") " && " SAME("12"));
            small_expect(run, command, 0, "");
        }
    }
}

/* Parameters and gradients as well: the same bits, and with "fast" sums, too, on any number from 2. */
Test(processes_sharing, share_out_the_parameters)
{
    static const char *const ranks[] = { RANKS(2), RANKS(3), RANKS(5) };
    static const char *const kinds[] = { "",
                                         "optimizer.plugin=muon train.pack=true "
                                         "train.dropout=0",
                                         "train.recompute=layer model.layers=5" };
    if (!there_is_mpi())
        return;
    for (int k = 0; k < 3; k++) {
        char run[16], command[1000];
        snprintf(command, sizeof command, "rm -rf %%1$s/one && %%2$s" SEVEN "%s", kinds[k]);
        small_expect("one", command, 0, "");
        for (int i = 0; i < 3; i++) {
            snprintf(run, sizeof run, "parts%d-%d", k, i);
            snprintf(command, sizeof command, "%s%s%s%s", ranks[i],
                     "%2$s" SEVEN "train.shard=parameters ", kinds[k],
                     " && " SAME("12") " && " METRICS("one") " >%1$s/a; " METRICS(
                         "%3$s") " >%1$s/b; cmp %1$s/a %1$s/b");
            small_expect(run, command, 0, "");
        }
    }
    small_expect("one",
                 "rm -rf %1$s/one; " RANKS(2) "%2$s" SEVEN "train.reduce=fast "
                                              "train.shard=parameters",
                 0, "");
    small_expect("three",
                 RANKS(3) "%2$s" SEVEN "train.reduce=fast train.shard=parameters && " SAME("12"), 0,
                 "");
}

/* From any number, with or without sharing; and from a file of parameters. */
Test(processes_sharing, go_on_sharing_parameters)
{
    if (!there_is_mpi())
        return;
    small_expect("one", "%2$s" SEVEN, 0, "");
    small_expect("parts",
                 RANKS(3) "%2$s" SEVEN "train.shard=parameters train.steps=3 && "
                          "%2$s" SEVEN "train.shard=parameters train.steps=5 && " RANKS(
                              2) "%2$s" SHARED
                                 "train.steps=8 && " RANKS(
                                     5) "%2$s" SEVEN "train.shard=parameters && " SAME("12"),
                 0, "");
    small_expect("next",
                 "%2$s" SEVEN "train.weights=%1$s/one && rm -r %1$s/one && mv %1$s/next %1$s/one "
                 "&& cp -r %1$s/parts %1$s/base",
                 0, "starting from the parameters");
    small_expect("shared",
                 RANKS(3) "%2$s" SEVEN
                          "train.shard=parameters train.weights=%1$s/base && " SAME("12"),
                 0, "starting from the parameters");
}

Test(processes_sharing, go_on_sharing_with_any_number)
{
    if (!there_is_mpi())
        return;
    small_expect("one", "%2$s" SEVEN, 0, "");
    small_expect("parts",
                 RANKS(3) "%2$s" SHARED "train.steps=3 && %2$s" SHARED
                          "train.steps=5 && " RANKS(2) "%2$s" SHARED "train.steps=8 && " RANKS(
                              2) "%2$s" SEVEN "train.steps=10 && " RANKS(5) "%2$s" SHARED
                                                                            "&& " SAME("12"),
                 0, "");
}

/* The last checkpoint has the states of all ranks, even of the one that died. */
Test(processes_sharing, go_on_sharing_after_one_died)
{
    if (!there_is_mpi())
        return;
    small_expect("killed",
                 RANKS(3) "%2$s" SHARED ENDLESS " & " UNTIL_SAVED "kill -KILL " LAST_RANK
                          "; wait $!; n=$(ls %1$s/%3$s/checkpoints | tail -1 | "
                          "sed 's/step-0*//'); last=$((n + 2)); " RANKS(
                              2) "%2$s" SHARED "train.evaluate_every=-1 train.steps=$last && "
                                 "%2$s" SEVEN "train.evaluate_every=-1 train.steps=$last "
                                 "train.checkpoint_every=0 run.name=whole && cd %1$s && "
                                 "cmp */checkpoints/step-*$last/model.safetensors && "
                                 "cmp */checkpoints/step-*$last/optimizer.safetensors",
                 0, "resuming from");
    /* .. and SIGUSR1 saves the states of all */
    small_expect("stopped",
                 RANKS(3) "%2$s" SHARED ENDLESS " & " UNTIL_SAVED "kill -USR1 " LAST_RANK
                          "; wait $!; test $? = 75 && n=$(ls %1$s/%3$s/checkpoints | tail -1 | "
                          "sed 's/step-0*//'); last=$((n + 1)); %2$s" SEVEN
                          "train.evaluate_every=-1 train.steps=$last && %2$s" SEVEN
                          "train.evaluate_every=-1 train.steps=$last train.checkpoint_every=0 "
                          "run.name=whole2 && cd %1$s && cmp %3$s/checkpoints/step-*$last/"
                          "model.safetensors whole2/checkpoints/step-*$last/model.safetensors",
                 0, "resuming from");
}

/* ---- kills -------------------------------------------------------------------------------------- */

/* A run with everything that ranks do together, begun again and again by 2 or 3 of them, with and
 * without sharding. Each time one is killed, anywhere within twice the time that a run of 4 steps takes,
 * but at most 5 s; that must end the others soon. Continuous integration, which sets CI, kills more of
 * them; a slow machine has time for fewer. TANDEM_SEED repeats the choices. What was saved in between
 * adds up to the run of one process.
 *
 * mpirun itself hangs now and then at its end, in PMIx_server_finalize (Open MPI 4.1.4), when all ranks
 * are gone; then it is killed, too. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define KILLS "8"
#else
#define KILLS "$(test \"$CI\" && echo 50 || echo 12)"
#endif
#define MORE                                                                   \
    SEVEN "train.checkpoint_every=2 train.evaluate_every=5 train.keep_last=1 " \
          "train.keep_best=false "
#define SAVED "$(ls %1$s/%3$s/checkpoints 2>/dev/null | tail -1 | sed 's/step-0*//')"
/* `ranks`: their processes; `await N COMMAND`: until it fails, at most N s. */
#define KILL_FUNCTIONS                                                                         \
    "ranks() { pgrep -a -x tandem | grep \"%1$s/.* run.name=%3$s \" | cut -d' ' -f1; }; "      \
    "await() { for i in $(seq $(($1 * 20))); do $2 >/dev/null || return 0; sleep 0.05; done; " \
    "return 1; }; no_rank() { test ! \"$(ranks)\"; }; some_rank() { test \"$(ranks)\"; }; "    \
    "launcher() { kill -0 $job 2>/dev/null; }; "                                               \
    "next() { seed=$(((seed * 25214903917 + 11) & 281474976710655)); }; "                      \
    "give_up() { echo \"kill $k, $ms ms after the first rank, TANDEM_SEED=$first: $1\"; "      \
    "cat %1$s/err; kill -KILL $job $(ranks) 2>/dev/null; exit 1; }; "
#define KILL_ONE                                                                          \
    "share=$(echo none optimizer parameters | cut -d' ' -f$((k %% 3 + 1))); "             \
    "mpirun -np $((2 + k %% 2)) %2$s" MORE "train.steps=1000000 train.shard=$share "      \
    "2>%1$s/err & job=$!; next; ms=$(((seed >> 16) %% (span + 1))); "                     \
    "await 120 no_rank || give_up 'none has begun'; "                                     \
    "sleep $((ms / 1000)).$(printf %%03d $((ms %% 1000))); next; set -- $(ranks); "       \
    "test $# -gt 0 || give_up 'they have ended by themselves'; "                          \
    "shift $(((seed >> 16) %% $#)); kill -KILL $1; "                                      \
    "await 60 some_rank || give_up 'they go on'; "                                        \
    "await 20 launcher || { kill -KILL $job; hung=$((hung + 1)); }; wait $job; code=$?; " \
    "test $code = 137 -o $code = 75 || give_up \"code $code\"; "

Test(processes_sharing, killed_at_any_moment_they_go_on, .timeout = 900)
{
    if (!there_is_mpi())
        return;
    small_expect(
        "killed",
        "mkdir -p %1$s/%3$s; hung=0; begun=$(date +%%s%%N); "
        "first=${TANDEM_SEED:-$((begun / 1000000))}; seed=$first; "
        "mpirun -np 2 %2$s" MORE "train.steps=4 run.name=short; "
        "span=$((($(date +%%s%%N) - begun) / 500000)); test $span -lt 5000 || "
        "span=5000; " KILL_FUNCTIONS "for k in $(seq " KILLS
        "); do test $((($(date +%%s%%N) - begun) / 1000000000)) -lt 240 || break; " KILL_ONE
        "done; n=" SAVED "; n=${n:-0}; "
        "echo $n steps were saved until kill $k, and $hung launchers hung; "
        "mpirun -np 3 %2$s" MORE "train.steps=$((n + 3)) && "
        "%2$s" MORE "train.steps=$((n + 3)) run.name=whole && cd %1$s && "
        "cmp %3$s/checkpoints/*/model.safetensors whole/checkpoints/*/model.safetensors && "
        "cmp %3$s/checkpoints/*/optimizer.safetensors whole/checkpoints/*/optimizer.safetensors && "
        "sed 's/, \"time.*//' %3$s/metrics.jsonl >a && sed 's/, \"time.*//' whole/metrics.jsonl >b "
        "&& cmp a b",
        0, "steps were saved");
}
