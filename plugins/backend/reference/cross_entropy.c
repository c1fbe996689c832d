/* cross_entropy.c - cross-entropy over the projection to the vocabulary, with z-loss (PaLM,
 * 2022) and label smoothing as in T5X. The formula is td_cross_entropy's in ops.h. Logits are
 * computed again wherever they are needed. Rows of weight 0 do not count, whatever their labels. */
#include "kernels.h"
#include "reference.h"

/* A row's statistics: log Z, the label's logit, and the sum of all. */
typedef struct row {
    int64_t at, label;
    double  weight, log_z, z_y, z_sum;
} row;

/* The targets t: `on` for the label, `off` for every other token; and sum_v t_v log t_v. */
typedef struct targets {
    double on, off, entropy;
} targets;

static targets smoothed(double s, int64_t vocab)
{
    targets t = { 1 - s, vocab > 1 ? s / (double)(vocab - 1) : 0, 0 };
    if (s > 0 && vocab > 1)
        t.entropy = t.on * log(t.on) + s * log(t.off);
    return t;
}

/* z_v = scale h . e_v, or cap tanh(scale h . e_v / cap) */
static double logit(const td_call *call, int64_t n, int64_t v)
{
    const td_view *h = &call->in[TD_CE_HIDDEN], *e = &call->in[TD_CE_EMBEDDING];
    double         sum = 0, cap = call->attrs->f[3];
    for (int64_t d = 0; d < h->dim[1]; d++)
        sum += td_ref_get(h, n * h->stride[0] + d * h->stride[1]) *
               td_ref_get(e, v * e->stride[0] + d * e->stride[1]);
    sum *= call->attrs->f[0];
    return cap > 0 ? cap * tanh(sum / cap) : sum;
}

/* The slope of the cap at the capped logit z; 1 without a cap. */
static double slope(const td_call *call, double z)
{
    double share = call->attrs->f[3] > 0 ? z / call->attrs->f[3] : 0;
    return 1 - share * share;
}

/* One pass over the vocabulary, with a sum relative to the largest logit so far. All zeros, log Z
 * included, for a row without weight. */
static row row_of(const td_call *call, int64_t n)
{
    int64_t vocab = call->in[TD_CE_EMBEDDING].dim[0];
    row     r = { .at = n, .weight = td_ref_read(&call->in[TD_CE_WEIGHTS], n) };
    double  top = -INFINITY, sum = 0;

    r.label = (int64_t)td_ref_read(&call->in[TD_CE_LABELS], n);
    if (r.weight == 0 || r.label < 0 || r.label >= vocab)
        return r;
    /* when a larger logit comes, the sum so far shrinks by e^(old - new) */
    for (int64_t v = 0; v < vocab; v++) {
        double z = logit(call, n, v);
        sum = z > top ? sum * exp(top - z) + 1 : sum + exp(z - top);
        top = fmax(top, z);
        r.z_sum += z;
        r.z_y = v == r.label ? z : r.z_y;
    }
    r.log_z = top + log(sum);
    return r;
}

/* dz = w/divisor (p (1 + 2 z_loss log Z) - t) of each logit, passed on to hidden state and
 * embedding. */
static void backward(const td_call *call, const row *r, targets t, const td_view *dh,
                     const td_view *de)
{
    const td_view *h = &call->in[TD_CE_HIDDEN], *e = &call->in[TD_CE_EMBEDDING];
    double         by = call->attrs->f[0] * r->weight / td_ref_scalar(call, TD_CE_DIVISOR, 1);
    int64_t        width = h->dim[1];

    /* `by` includes the scale: both gradients are of z = scale h . e */
    for (int64_t v = 0; v < e->dim[0]; v++) {
        double z = logit(call, r->at, v), p = exp(z - r->log_z);
        double dz = by * slope(call, z) *
                    (p * (1 + 2 * call->attrs->f[1] * r->log_z) - (v == r->label ? t.on : t.off));
        for (int64_t d = 0; d < width; d++) {
            if (dh)
                td_ref_add_to(dh, r->at * width + d, dz * td_ref_read(e, v * width + d));
            if (de)
                td_ref_add_to(de, v * width + d, dz * td_ref_read(h, r->at * width + d));
        }
    }
}

/* Checked before anything is written. */
static bool labels_fit(const td_call *call)
{
    const td_view *labels = &call->in[TD_CE_LABELS];
    for (int64_t n = 0; n < td_ref_count(labels); n++) {
        double y = td_ref_read(labels, n);
        if (td_ref_read(&call->in[TD_CE_WEIGHTS], n) != 0 &&
            (y < 0 || y >= (double)call->in[TD_CE_EMBEDDING].dim[0]))
            return false;
    }
    return true;
}

/* w (log Z - sum_v t_v z_v + sum_v t_v log t_v + z_loss (log Z)^2) */
static double loss_of(const td_call *call, const row *r, targets t)
{
    double target = (t.on - t.off) * r->z_y + t.off * r->z_sum;
    return r->weight * (r->log_z - target + t.entropy + call->attrs->f[1] * r->log_z * r->log_z);
}

static void write_wanted(const td_view *v, double x)
{
    if (v)
        td_ref_put(v, 0, x);
}

int td_ref_cross_entropy(const td_call *call)
{
    const td_view *dh = td_ref_out(call, TD_CE_GRAD_HIDDEN),
                  *de = td_ref_out(call, TD_CE_GRAD_EMBEDDING);
    const td_view *nll = td_ref_out(call, TD_CE_NLL);
    targets        t = smoothed(call->attrs->f[2], call->in[TD_CE_EMBEDDING].dim[0]);
    double         loss = 0, sum = 0;
    bool           weighs = false;

    if (!labels_fit(call))
        return TD_EFORMAT;
    if (dh)
        td_ref_fill(dh, 0);
    if (de)
        td_ref_start(td_ref_in(call, TD_CE_ACC), de);
    for (int64_t n = 0; n < call->in[TD_CE_HIDDEN].dim[0]; n++) {
        row r = row_of(call, n); /* all zeros if the weight is 0 */
        weighs |= r.weight != 0;
        loss += loss_of(call, &r, t);
        sum += r.weight * (r.log_z - r.z_y);
        if (nll)
            td_ref_write(nll, n, r.log_z - r.z_y);
        if (r.weight != 0 && (dh || de))
            backward(call, &r, t, dh, de);
    }
    /* without any weight the divisor may be 0 too, and the loss is 0, not NaN */
    write_wanted(td_ref_out(call, TD_CE_LOSS),
                 weighs ? loss / td_ref_scalar(call, TD_CE_DIVISOR, 1) : 0);
    write_wanted(td_ref_out(call, TD_CE_SUM), sum);
    return 0;
}
