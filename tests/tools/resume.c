/* resume.c - runs that are resumed in unusual ways. */
#include "tools/small_run.h"

TestSuite(resume, .init = small_setup, .fini = small_teardown);

/* The run has ended early by its worst evaluation, but the one that is made up for when it is
 * resumed is its best: there are steps again, for which nothing had been opened. */
Test(resume, a_run_that_had_ended_early_goes_on_after_a_better_score)
{
    small_expect("early",
                 "%2$s train.steps=10 train.evaluate_every=5 && "
                 "%2$s train.steps=12 schedule.peak=2 && "
                 "%2$s train.steps=120 train.evaluate_every=-1 schedule.peak=0.05 && "
                 "%2$s train.steps=130 train.evaluate_every=10 train.early_stopping_patience=1 && "
                 "ls %1$s/%3$s/checkpoints",
                 0, "step-00000130");
}

/* By its name, or by the config that it was begun with: the same learning rates. */
Test(resume, a_schedule_follows_the_run_however_it_is_made_longer)
{
#define LATER " -q schedule.plugin=cosine schedule.warmup=0.25"
    small_expect("long", "%2$s" LATER " && cp -r %1$s/%3$s %1$s/copy", 0, "step 12");
    small_expect("long", "grep '# steps = 12;' %1$s/%3$s/config.cfg", 0, "train.steps");
    small_expect("long", "%2$s" LATER " train.steps=20", 0, "step 20");
    small_expect("long", TANDEM_BINARY " train %1$s/copy --resume --threads 1 train.steps=20", 0,
                 "step 20");
    small_expect(
        "long",
        "for r in %3$s copy; do sed 's/, \"time.*//' %1$s/$r/metrics.jsonl >%1$s/$r.lines; "
        "done; cmp %1$s/%3$s.lines %1$s/copy.lines && wc -l <%1$s/copy.lines",
        0, "");
#undef LATER
}

/* It would keep what it has trained under a config that says less. */
Test(resume, a_run_is_not_made_shorter)
{
    small_expect("whole", "%2$s -q && cp %1$s/%3$s/config.cfg %1$s/before", 0, "step 12");
    small_expect("whole", "%2$s train.steps=11", 2,
                 "is at step 12, and this config ends at step 11: a run can be made longer");
    small_expect("whole", "%2$s train.target_tokens=64", 2, "and this config ends at step 1:");
    small_expect("whole", "cmp %1$s/%3$s/config.cfg %1$s/before && %2$s train.steps=12", 0,
                 "nothing was left to train");
    small_expect("whole", "%2$s train.steps=13", 0, "step 13");
}
