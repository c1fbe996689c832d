/* check.h - the conformance suite: what every plugin of a kind must do, test by test.
 *
 * A test works on one plugin and adds findings. It may crash, hang or take all memory, if the
 * plugin does: whoever runs it gives it a process of its own (`tandem plugins check`).
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
    TD_CHECK_FINDINGS = 3, /* of one test that are told; the others are counted */
    TD_CHECK_DEVICES = 64  /* that a test may open */
};

typedef struct td_check {
    td_registry       *registry;
    const td_plugin   *plugin; /* under test */
    const char        *path;   /* of its module; NULL: built in */
    /* A config that says options of the plugin, or of what it needs (a data source's tokenizer), as
     * of a command line; none: defaults. */
    const char *const *files, *const *overrides;
    size_t         n_files, n_overrides;
    const char    *search;  /* the shipped configs/, or NULL */
    const char    *shipped; /* the shipped data and configs, or NULL */
    /* what came of the last test */
    td_text        findings; /* a line each */
    size_t         n_findings;
    td_text        skipped; /* why it was not run */
    int            fill;    /* of bytes of its config that no option sets */
    int            variant; /* 0: its options as they are; k: the k-th other choice of one */
    /* the test's own */
    td_arena      *arena;
    td_experiment *experiment;
    td_config     *own;       /* overrides without a dot: options of the plugin itself */
    td_pool       *pools[8];  /* by threads */
    void          *collected; /* what the subjects of a test add to */
    const char    *varied;    /* what c->variant changed */
    td_device      opened[TD_CHECK_DEVICES];
    size_t         n_opened;
    jmp_buf        stop;
} td_check;

typedef struct td_check_case {
    const char *kind;  /* "attention"; NULL: every kind */
    const char *name;  /* "gradients" */
    const char *brief; /* what must hold, one line */
    void (*run)(td_check *);
} td_check_case;

/* All tests, in the order in which they are run; name NULL at the end. */
const td_check_case *td_check_cases(void);
/* Whether the test is for plugins of the kind ("attention/1"). */
bool                 td_check_applies(const td_check_case *, const char *kind);
/* Whether the config that is given says what the plugin can be made with: what is wrong is in
 * c->findings. */
void                 td_check_config(td_check *);
/* What it finds is in c->findings or c->skipped. */
void                 td_check_run(td_check *, const td_check_case *);
/* Say what is wrong, and go on. */
void                 td_check_finding(td_check *, const char *format, ...) TD_PRINTF(2, 3);
void                 td_check_clear(td_check *);

/* Whether the module's file is as it should be, before any of its code runs and while it is
 * loaded: adds to the findings. NULL if it cannot be used. */
const td_module *td_check_module(td_check *, const char *path);

#endif
