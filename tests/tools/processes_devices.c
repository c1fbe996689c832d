/* processes_devices.c - processes whose devices a comm connects: the fixture 'apart', whose memory the host
 * cannot touch. */
#include "tools/processes.h"

static void setup(void)
{
    processes_setup();
    setenv("TANDEM_PLUGIN_PATH", TANDEM_FIXTURES "/apart-apart", 1);
}

TestSuite(processes_devices, .init = setup, .fini = small_teardown);

#define APART                                                                    \
    " backend.plugin=apart train.steps=4 train.evaluate_every=-1 train.batch=6 " \
    "train.micro_batch=1 "
#define LOGGED " >%1$s/log 2>&1 && "
#define CONNECTED "grep -q 'memory of 3 processes is connected' %1$s/log"
#define SAME_MODEL(run)                                             \
    "cmp %1$s/" run "/checkpoints/step-00000004/model.safetensors " \
    "%1$s/%3$s/checkpoints/step-00000004/model.safetensors"

/* The comm that names the backend is the default, and connects its memories. */
Test(processes_devices, are_connected_by_default)
{
    if (!there_is_mpi())
        return;
    small_expect("three", RANKS(3) "%2$s" APART LOGGED CONNECTED, 0, "");
    small_expect("host", RANKS(3) "%2$s" APART "comm.plugin=mpi" LOGGED "! " CONNECTED, 0, "");
    small_expect("cpu", RANKS(3) "%2$s train.batch=6 train.micro_batch=1" LOGGED "! " CONNECTED, 0,
                 "");
}

/* The comm that a run keeps is that of the backend it had. */
Test(processes_devices, are_connected_for_a_run_that_had_none)
{
    if (!there_is_mpi())
        return;
    small_expect("moved",
                 RANKS(2) "%2$s backend.plugin=reference train.batch=6 train.micro_batch=1 "
                          "train.steps=4",
                 0, "");
    small_expect("moved",
                 RANKS(3) TANDEM_BINARY
                 " train %1$s/moved --resume train.steps=8 "
                 "backend.plugin=apart --allow backend.plugin" LOGGED CONNECTED,
                 0, "");
    small_expect("moved",
                 RANKS(3) TANDEM_BINARY " train %1$s/moved --resume train.steps=12 "
                                        "comm.plugin=mpi" LOGGED "! " CONNECTED,
                 0, "");
}

Test(processes_devices, fast_sums_have_the_same_bits_again)
{
    if (!there_is_mpi())
        return;
    small_expect("one", RANKS(3) "%2$s" APART, 0, "");
    small_expect("two", RANKS(3) "%2$s" APART "&& " SAME_MODEL("one"), 0, "");
    small_expect("owned", RANKS(3) "%2$s" APART "train.shard=optimizer", 0, "");
    small_expect("again", RANKS(3) "%2$s" APART "train.shard=optimizer && " SAME_MODEL("owned"), 0,
                 "");
}

/* A transfer finds another rank lost: what was saved stands, and the run goes on from there, on
 * another number of processes. */
Test(processes_devices, end_when_a_transfer_fails_and_go_on)
{
    if (!there_is_mpi())
        return;
    small_expect("one", "%2$s" APART "train.reduce=exact", 0, "");
    for (int owned = 0; owned < 2; owned++) {
        char run[16], command[1000];
        snprintf(run, sizeof run, "lost%d", owned);
        snprintf(command, sizeof command,
                 "TANDEM_LOSES=4 " RANKS(2) "%%2$s" APART
                                            "train.reduce=exact train.checkpoint_every=1 %s",
                 owned ? "train.shard=optimizer" : "");
        small_expect(run, command, 75, "another rank is lost");
        small_expect(run,
                     RANKS(3) "%2$s" APART
                              "train.reduce=exact train.checkpoint_every=1 && " SAME_MODEL("one"),
                     0, "");
    }
}

/* Long enough to be killed after its first checkpoint, on any machine. */
#define LONG SEVEN "train.steps=150 train.checkpoint_every=5 train.evaluate_every=-1 "
#define KILLED(more)                                                                              \
    RANKS(3)                                                                                      \
    "%2$s" LONG "backend.plugin=apart " more " & " UNTIL_SAVED "kill -KILL " LAST_RANK            \
    "; wait $!; test $? = 137 && " RANKS(                                                         \
        2) "%2$s" LONG "backend.plugin=apart " more " && "                                        \
           "for f in model optimizer; do cmp %1$s/host/checkpoints/step-00000150/$f.safetensors " \
           "%1$s/%3$s/checkpoints/step-00000150/$f.safetensors || exit 1; done"

/* Of the run without devices: one process, in the memory of the host. */
Test(processes_devices, killed_and_resumed_have_the_bits_of_the_host)
{
    if (!there_is_mpi())
        return;
    small_expect("host", "%2$s" LONG "backend.plugin=reference", 0, "");
    small_expect("all", KILLED(""), 0, "resuming from");
    small_expect("owned", KILLED("train.shard=optimizer"), 0, "resuming from");
}

/* What fails on one rank, and would fail again, ends all of them, and is not a reason to resume: the
 * leader has the words of the rank that failed. */
Test(processes_devices, end_when_one_cannot_connect_or_go_on)
{
    static const char *const more[] = { "", "train.reduce=exact", "train.shard=optimizer" };
    if (!there_is_mpi())
        return;
    small_expect("alone", "TANDEM_FULL=0 " RANKS(3) "%2$s" APART, 1,
                 "tandem train: rank 1: comm 'apart': the device is full");
    for (size_t k = 0; k < sizeof more / sizeof *more; k++)
        for (int timed = 0; timed < 2; timed++) {
            char run[20], command[1000];
            snprintf(run, sizeof run, "full%zu-%d", k, timed);
            snprintf(command, sizeof command, "TANDEM_FULL=3 " RANKS(3) "%s" APART "%s",
                     timed ? TANDEM_BINARY " bench -c %1$s/model.cfg --seconds 0.2" : "%2$s",
                     more[k]);
            small_expect(run, command, 1,
                         timed ? "rank 1: comm 'apart': the device is full"
                               : "tandem train: rank 1: comm 'apart'");
        }
}

/* Processes that were started with different configs would time different steps. */
Test(processes_devices, are_timed_with_one_config)
{
    if (!there_is_mpi())
        return;
    small_expect("different",
                 "mpirun -np 1 " TANDEM_BINARY " bench -c %1$s/model.cfg" APART
                 ": -np 1 " TANDEM_BINARY " bench -c %1$s/model.cfg" APART "optimizer.beta1=0.5",
                 2, "rank 1 has a different config from rank 0");
}

/* A copy for each sum that waits, in the memory of the device, and buffers: counted, and refused. */
Test(processes_devices, count_the_memory_of_sums)
{
    if (!there_is_mpi())
        return;
    small_expect("fast", RANKS(2) "%2$s" APART "model.vocab_size=100000 train.steps=1", 0, "");
    small_expect("large", RANKS(2) "%2$s" APART "train.reduce=exact model.vocab_size=100000", 2,
                 "of device memory (parameters");
}

/* .. and described for processes that are not there, which have the comm that the config names. */
Test(processes_devices, count_the_memory_of_sums_in_a_description)
{
    if (!there_is_mpi())
        return;
    small_expect("described",
                 "d() { " TANDEM_BINARY " describe -c %1$s/model.cfg" APART
                 "train.shard=optimizer --processes 3 $1 --json | grep -o 'gradients[^,]*'; }; "
                 "d && test \"$(d)\" = \"$(d comm.plugin=apart)\" && "
                 "test \"$(d)\" != \"$(d comm.plugin=mpi)\"",
                 0, "gradients");
}

/* Steps of all processes together are timed; tokens are those of all. */
Test(processes_devices, are_timed_together)
{
    static const char *const more[] = { "", "train.reduce=exact", "train.shard=optimizer" };
    if (!there_is_mpi())
        return;
    for (size_t k = 0; k < sizeof more / sizeof *more; k++) {
        child   c;
        json_t *j;
        char    command[1000];
        snprintf(command, sizeof command,
                 RANKS(3) TANDEM_BINARY " bench -c %%1$s/model.cfg backend.plugin=apart "
                                        "train.micro_batch=2 --seconds 0.2 --json %s",
                 more[k]);
        c = small_shell("timed", command);
        cr_assert_eq(c.code, 0, "%s: %s", command, c.err);
        j = child_json(&c);
        cr_expect_eq(json_integer_value(json_object_get(j, "processes")), 3);
        cr_expect_float_eq(json_number_value(json_object_get(j, "examples_per_second")) *
                               json_number_value(json_object_get(j, "seconds_per_step")),
                           6, 1e-9);
        json_decref(j);
        child_free(&c);
    }
}

/* The suite moves numbers between the memories. */
Test(processes_devices, pass_the_suite)
{
    if (!there_is_mpi())
        return;
    small_expect("suite",
                 TANDEM_BINARY " plugins check " TANDEM_FIXTURES "/apart-apart/comm-apart.so | "
                               "tee %1$s/log; grep -q 'devices  *ok' %1$s/log",
                 0, "");
}

/* .. and finds what does not arrive, or that one of them cannot be connected. */
Test(processes_devices, fail_the_suite_with_a_mistake)
{
    if (!there_is_mpi())
        return;
    small_expect("forgets",
                 TANDEM_BINARY " plugins check " TANDEM_FIXTURES
                               "/apart-wrong/comm-forgets.so --only devices",
                 1, "device_broadcast: number");
    small_expect("full",
                 "TANDEM_FULL=0 " TANDEM_BINARY " plugins check " TANDEM_FIXTURES
                 "/apart-apart/comm-apart.so --only devices",
                 1, "rank 1: attach fails: comm 'apart': the device is full");
}
