/* check.h - the conformance suite: the requirements for every plugin of a kind, test by test.
 *
 * A test examines one plugin and adds findings: sentences for the plugin's author, which say what
 * was tried, what was found and what to do. If the plugin crashes, hangs or takes all memory, so
 * does the test; so each test is run in its own process (`tandem plugins check`), and frees little,
 * because the process ends.
 *
 *     td_check c = { .registry = r, .plugin = p, .files = files, .. };
 *     for (const td_check_case *t = td_check_cases(); t->name; t++)
 *         if (td_check_applies(t, p->kind))
 *             td_check_run(&c, t);
 */
#ifndef TD_CHECK_CHECK_H
#define TD_CHECK_CHECK_H

#include <setjmp.h>

#include "base/threads.h"
#include "run/experiment.h"

enum {
    TD_CHECK_FINDINGS = 3, /* reported per test; further ones are only counted */
    TD_CHECK_CHANGES = 4,  /* ways to change an option: up, down, to an end of its range */
    TD_CHECK_DEVICES = 64, /* the most backends that a test may open */
    TD_CHECK_RANKS = 3 /* processes that test a communicator: two would hide how sums are ordered */
};

typedef struct td_check {
    /* set by the caller */
    td_registry       *registry;
    const td_plugin   *plugin; /* under test */
    const char        *path;   /* of its module; NULL: built in */
    /* config files and NAME=VALUE overrides, as on a command line, that set options of the
     * plugin or name other things it needs (a data source's tokenizer); none: defaults */
    const char *const *files, *const *overrides;
    size_t         n_files, n_overrides;
    const char    *search;  /* the shipped configs/, or NULL */
    const char    *shipped; /* the directory of shipped data and configs, or NULL */
    /* the outcome of the last test, until td_check_clear */
    td_text        findings; /* one per line */
    size_t         n_findings;
    td_text        skipped; /* why the test does not apply; "": it ran */
    /* of the running test; freed by td_check_run */
    int            fill;    /* value of the config's bytes that no option sets */
    int            variant; /* 0: the options as configured; k: the k-th variant of them */
    int            change;  /* besides the variant: 0, or 1 + TD_CHECK_CHANGES * option + way */
    td_arena      *arena;
    td_experiment *experiment;
    td_config     *own;       /* from overrides without a dot: options of the plugin itself */
    td_pool       *pools[8];  /* by number of threads */
    void          *collected; /* collected by a test from its subjects */
    const char    *varied;    /* the option that c->variant changed: "output_norm = true" */
    td_device      opened[TD_CHECK_DEVICES];
    size_t         n_opened;
    jmp_buf        stop; /* where a test that cannot continue jumps to */
} td_check;

typedef struct td_check_case {
    const char *kind;  /* "attention"; NULL: every kind */
    const char *name;  /* "gradients" */
    const char *brief; /* the requirement, in one line */
    void (*run)(td_check *);
    int ranks; /* the processes that run it at the same time, connected by the plugin; mostly 1 */
} td_check_case;

/* All tests, in the order in which they are run; the last has no name. */
const td_check_case *td_check_cases(void);
/* Whether the test is for plugins of the kind ("attention/1"). */
bool                 td_check_applies(const td_check_case *, const char *kind);
/* Check that the config, if there is one, is valid and uses the plugin; otherwise adds findings. */
void                 td_check_config(td_check *);
/* Run one test; the outcome is in c->findings or c->skipped. */
void                 td_check_run(td_check *, const td_check_case *);
/* Add a finding, and continue. */
void                 td_check_finding(td_check *, const char *format, ...) TD_PRINTF(2, 3);
/* Forget the outcome of the last test. */
void                 td_check_clear(td_check *);

/* Check a module's file, before any of its code runs and while it is loaded, and add findings.
 * Returns the module, or NULL if it cannot be used. */
const td_module *td_check_module(td_check *, const char *path);

#endif
