/* op_lab.h - one op on a backend: a graph around it, its outputs and gradients as numbers. */
#ifndef TD_CHECK_OP_LAB_H
#define TD_CHECK_OP_LAB_H

#include "check/internal.h"
#include "check/op_case.h"
#include "plan/internal.h"
#include "tandem/kind/op.h"

/* The inputs that an op is tried on: one of our cases, else one of its own examples, else guessed
 * inputs. */
typedef struct attempt {
    const td_op      *op;
    const td_op_case *ours;
    int               example; /* number of the op's example */
    int               inputs;  /* > 0: this many inputs [3, 5], as a guess */
    bool              nan;     /* make the first entry of the first input NaN */
    bool              narrow;  /* in bf16: inputs are stored in it, outputs as the rules say */
} attempt;

enum { MOST_ROOTS = TD_MAX_INPUTS + TD_MAX_OUTPUTS + 2 };

/* A graph of one op, planned and bound. */
typedef struct lab {
    td_check     *check;
    td_device     device;
    td_graph     *graph;
    td_variables *variables; /* the op's inputs */
    td_plan      *plan;
    void         *memory;
    td_tensor    *roots[MOST_ROOTS]; /* a scalar of all outputs, the outputs, the gradients */
    size_t        n_roots, n_outputs;
    bool          flat; /* no gradients */
} lab;

/* The roots of a lab after a run, one after the other, in the arena. */
typedef struct result {
    double *at;
    size_t  count, first[MOST_ROOTS + 1], n_roots;
    bool    uses; /* the plan calls a kernel of the plugin under test */
} result;

/* The devices that an op is tried on, and what its attempts have shown. */
typedef struct devices {
    td_device plain, other, lowered;
    bool      used;  /* an attempt called a kernel of the plugin under test */
    int       tried; /* attempts so far */
} devices;

typedef void visit(td_check *, const attempt *, devices *);

/* "matmul [3x5,5x7, 0]": for findings; in the arena. */
const char *td_op_label(td_check *, const attempt *);

void td_lab_open(lab *, td_check *, const attempt *, const td_device *);
void td_lab_run(lab *, const char *label);
void td_lab_close(lab *);

/* Open, run, read, close. */
result td_op_result(td_check *, const attempt *, const td_device *);

/* Call f for every attempt at the ops of the plugin under test: the op itself, or the ops of its
 * kernels. */
void td_each_op(td_check *, devices *, visit *f);

#endif
