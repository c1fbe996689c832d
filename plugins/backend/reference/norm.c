/* norm.c - softmax, RMSNorm (Zhang and Sennrich 2019), LayerNorm (Ba et al. 2016), rope (Su et al.
 * 2021), over the last axis. */
#include "kernels.h"
#include "reference.h"

static int64_t rows_of(const td_view *x)
{
    return td_ref_last(x) ? td_ref_count(x) / td_ref_last(x) : 0;
}

/* A norm without weights has weights of 1. */
static double weight(const td_view *w, int64_t k) { return w ? td_ref_read(w, k) : 1; }

/* ---- softmax --------------------------------------------------------------------------------- */

/* y = e^(x - max) / sum */
int td_ref_softmax(const td_call *call)
{
    const td_view *x = &call->in[0], *y = &call->out[0];
    int64_t        width = td_ref_last(x);

    /* relative to the largest, so that nothing overflows */
    for (int64_t r = 0; r < rows_of(x); r++) {
        double top = -INFINITY, sum = 0;
        for (int64_t k = 0; k < width; k++)
            top = fmax(top, td_ref_read(x, r * width + k));
        for (int64_t k = 0; k < width; k++)
            sum += exp(td_ref_read(x, r * width + k) - top);
        for (int64_t k = 0; k < width; k++)
            td_ref_write(y, r * width + k, exp(td_ref_read(x, r * width + k) - top) / sum);
    }
    return 0;
}

/* dx = y (dy - sum dy y) */
int td_ref_softmax_grad(const td_call *call)
{
    const td_view *dy = &call->in[0], *y = &call->in[1], *dx = &call->out[0];
    int64_t        width = td_ref_last(y);

    for (int64_t r = 0; r < rows_of(y); r++) {
        double dot = 0;
        for (int64_t n = r * width; n < (r + 1) * width; n++)
            dot += td_ref_read(dy, n) * td_ref_read(y, n);
        for (int64_t n = r * width; n < (r + 1) * width; n++)
            td_ref_write(dx, n, td_ref_read(y, n) * (td_ref_read(dy, n) - dot));
    }
    return 0;
}

/* ---- norms -----------------------------------------------------------------------------------
 *
 * y = (x - mean) r w + b, r = 1 / sqrt(mean((x - mean)^2) + eps); in RMSNorm the mean is taken as 0
 * and there is no b.
 */

static double mean_of(const td_view *x, int64_t row)
{
    int64_t width = td_ref_last(x);
    double  sum = 0;
    for (int64_t k = 0; k < width; k++)
        sum += td_ref_read(x, row * width + k);
    return sum / (double)width;
}

/* r of a row */
static double reciprocal_root(const td_view *x, int64_t row, double mean, double eps)
{
    int64_t width = td_ref_last(x);
    double  sum = 0;
    for (int64_t k = 0; k < width; k++)
        sum += pow(td_ref_read(x, row * width + k) - mean, 2);
    return 1 / sqrt(sum / (double)width + eps);
}

/* `means` and `roots` receive the statistics, which the gradient reads; NULL: unwanted. */
static int norm(const td_call *call, bool centre, const td_view *means, const td_view *roots)
{
    const td_view *x = &call->in[0], *w = td_ref_in(call, 1),
                  *b = centre ? td_ref_in(call, 2) : NULL;
    const td_view *y = td_ref_out(call, 0);
    int64_t        width = td_ref_last(x);

    /* the statistics may be wanted without y */
    for (int64_t r = 0; r < rows_of(x); r++) {
        double mean = centre ? mean_of(x, r) : 0,
               root = reciprocal_root(x, r, mean, call->attrs->f[0]);
        for (int64_t k = 0; y && k < width; k++)
            td_ref_write(y, r * width + k,
                         (td_ref_read(x, r * width + k) - mean) * root * weight(w, k) +
                             (b ? td_ref_read(b, k) : 0));
        if (means)
            td_ref_write(means, r, mean);
        if (roots)
            td_ref_write(roots, r, root);
    }
    return 0;
}

int td_ref_rms_norm(const td_call *call) { return norm(call, false, NULL, td_ref_out(call, 1)); }
int td_ref_layer_norm(const td_call *call)
{
    return norm(call, true, td_ref_out(call, 1), td_ref_out(call, 2));
}

/* With n = (x - mean) r and dn = dy w: dx = r (dn - mean(dn) - n mean(dn n)), dw += dy n, db += dy;
 * without mean(dn) in RMSNorm. */
static void norm_grad_row(const td_call *call, int64_t r, const td_view *means, double root)
{
    const td_view *dy = &call->in[0], *x = &call->in[1], *w = td_ref_in(call, 2);
    const td_view *dx = td_ref_out(call, 0), *dw = td_ref_out(call, 1), *db = td_ref_out(call, 2);
    int64_t        width = td_ref_last(x);
    double         mean = means ? td_ref_read(means, r) : 0, sum = 0, dot = 0;

    /* both sums over the row first: every dx depends on them */
    for (int64_t k = 0; k < width; k++) {
        double g = td_ref_read(dy, r * width + k),
               n = (td_ref_read(x, r * width + k) - mean) * root;
        sum += means ? g * weight(w, k) : 0;
        dot += g * weight(w, k) * n;
        if (dw)
            td_ref_add_to(dw, k, g * n);
        if (db)
            td_ref_add_to(db, k, g);
    }
    for (int64_t k = 0; dx && k < width; k++) {
        double g = td_ref_read(dy, r * width + k),
               n = (td_ref_read(x, r * width + k) - mean) * root;
        td_ref_write(dx, r * width + k,
                     root * (g * weight(w, k) - sum / (double)width - n * dot / (double)width));
    }
}

static int norm_grad(const td_call *call, const td_view *means, const td_view *roots)
{
    for (int k = 1; k < call->n_out; k++)
        if (td_ref_out(call, k))
            td_ref_fill(&call->out[k], 0);
    for (int64_t r = 0; r < rows_of(&call->in[1]); r++)
        norm_grad_row(call, r, means, td_ref_read(roots, r));
    return 0;
}

int td_ref_rms_norm_grad(const td_call *call) { return norm_grad(call, NULL, &call->in[3]); }
int td_ref_layer_norm_grad(const td_call *call)
{
    return norm_grad(call, &call->in[3], &call->in[4]);
}

/* ---- rope ------------------------------------------------------------------------------------ */

/* Element e of a head's first half is rotated with element e + half. Tables [B, T, half] have no
 * heads. */
int td_ref_rope(const td_call *call)
{
    const td_view *x = &call->in[0], *y = &call->out[0];
    int64_t        heads = x->dim[1], length = x->dim[2], half = x->dim[3] / 2;

    for (int64_t r = 0; r < rows_of(x); r++)
        for (int64_t e = 0; e < half; e++) {
            /* r counts [B, H, T]; an angle's row, [B, T] */
            int64_t angle = (r / (heads * length) * length + r % length) * half + e,
                    n = r * 2 * half + e;
            double c = td_ref_read(&call->in[1], angle), s = td_ref_read(&call->in[2], angle);
            double u = td_ref_read(x, n), v = td_ref_read(x, n + half);
            s = call->attrs->i[0] ? -s : s;
            td_ref_write(y, n, u * c - v * s);
            td_ref_write(y, n + half, v * c + u * s);
        }
    return 0;
}
