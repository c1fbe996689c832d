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
