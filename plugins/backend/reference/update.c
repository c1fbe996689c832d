/* update.c - sums of squares, and the updates of AdamW (Loshchilov and Hutter 2019) and of
 * Adafactor, not factored (Shazeer and Stern 2018). The formulas are in tandem/update.h. If the
 * gate is 0, everything stays as it was. */
#include "kernels.h"
#include "reference.h"

int td_ref_sum_squares(const td_call *call)
{
    double sum = 0;
    for (int64_t n = 0; n < td_ref_count(&call->in[0]); n++)
        sum += pow(td_ref_read(&call->in[0], n), 2);
    td_ref_put(&call->out[0], 0, sum);
    return 0;
}

static void write_wanted(const td_view *v, int64_t n, double x)
{
    if (v)
        td_ref_write(v, n, x);
}

int td_ref_adamw_step(const td_call *call)
{
    const td_view *in = call->in, *p = td_ref_out(call, 0), *m = td_ref_out(call, 1),
                  *v = td_ref_out(call, 2);
    double b1 = call->attrs->f[0], b2 = call->attrs->f[1], eps = call->attrs->f[2],
           decay = call->attrs->f[3];
    double lr = td_ref_scalar(call, TD_STEP_LR, 0), t = td_ref_scalar(call, TD_STEP_T, 1);
    double clip = td_ref_scalar(call, TD_STEP_CLIP, 1);

    if (td_ref_scalar(call, TD_STEP_GATE, 1) == 0) {
        td_ref_keep(&in[TD_STEP_P], p);
        td_ref_keep(&in[TD_STEP_M], m);
        td_ref_keep(&in[TD_STEP_V], v);
        return 0;
    }
    /* all of an element is read before any of it is written: outputs may be inputs */
    for (int64_t n = 0; n < td_ref_count(&in[TD_STEP_P]); n++) {
        double g = clip * td_ref_read(&in[TD_STEP_G], n), old = td_ref_read(&in[TD_STEP_P], n);
        double new_m = b1 * td_ref_read(&in[TD_STEP_M], n) + (1 - b1) * g;
        double new_v = b2 * td_ref_read(&in[TD_STEP_V], n) + (1 - b2) * g * g;
        double move = new_m / (1 - pow(b1, t)) / (sqrt(new_v / (1 - pow(b2, t))) + eps);
        write_wanted(m, n, new_m);
        write_wanted(v, n, new_v);
        write_wanted(p, n, old - lr * (move + decay * old));
    }
    return 0;
}

int td_ref_adafactor_moment(const td_call *call)
{
    const td_view *v = td_ref_out(call, 0), *total = td_ref_out(call, 1);
    double         b2 = 1 - pow(td_ref_scalar(call, TD_MOMENT_T, 1), -call->attrs->f[0]), sum = 0;
    /* with a closed gate the sum is 0, whatever v holds */
    bool           open = td_ref_scalar(call, TD_MOMENT_GATE, 1) != 0;

    for (int64_t n = 0; open && n < td_ref_count(&call->in[TD_MOMENT_G]); n++) {
        double square = pow(td_ref_scalar(call, TD_MOMENT_CLIP, 1) *
                                td_ref_read(&call->in[TD_MOMENT_G], n),
                            2);
        double new_v = b2 * td_ref_read(&call->in[TD_MOMENT_V], n) + (1 - b2) * (square + 1e-30);
        sum += square / new_v;
        write_wanted(v, n, new_v);
    }
    if (!open)
        td_ref_keep(&call->in[TD_MOMENT_V], v);
    if (total)
        td_ref_put(total, 0, sum);
    return 0;
}

/* The factor of g / sqrt(v): the learning rate relative to the parameter's size, and the update's
 * own clipping. */
static double factor(const td_call *call, double count)
{
    double u = sqrt(td_ref_scalar(call, TD_FACTOR_SUM_U2, 0) / count),
           p = sqrt(td_ref_scalar(call, TD_FACTOR_SUM_P2, 0) / count);
    return td_ref_scalar(call, TD_FACTOR_CLIP, 1) / fmax(1, u / call->attrs->f[2]) *
           td_ref_scalar(call, TD_FACTOR_LR, 0) * fmax(call->attrs->f[3], p);
}

int td_ref_adafactor_step(const td_call *call)
{
    const td_view *p = td_ref_out(call, 0), *m = td_ref_out(call, 1),
                  *old_m = td_ref_in(call, TD_FACTOR_M);
    const td_view *old_p = &call->in[TD_FACTOR_P];
    int64_t        count = td_ref_count(old_p);
    double         lr = td_ref_scalar(call, TD_FACTOR_LR, 0), b1 = call->attrs->f[0],
           by = factor(call, (double)count);
    /* decay < 0: the square of the rate */
    double decay = call->attrs->f[1] < 0 ? lr * lr : call->attrs->f[1];

    if (td_ref_scalar(call, TD_FACTOR_GATE, 1) == 0) {
        td_ref_keep(old_p, p);
        td_ref_keep(old_m, m);
        return 0;
    }
    for (int64_t n = 0; n < count; n++) {
        double delta = by * td_ref_read(&call->in[TD_FACTOR_G], n) /
                       sqrt(td_ref_read(&call->in[TD_FACTOR_V], n));
        if (b1 > 0 && old_m) {
            delta = b1 * td_ref_read(old_m, n) + (1 - b1) * delta;
            write_wanted(m, n, delta);
        }
        write_wanted(p, n, (1 - decay) * td_ref_read(old_p, n) - delta);
    }
    return 0;
}
