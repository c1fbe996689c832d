/* movement.cu - full, iota, copy, pad, concat, assign. Values only move, so words of an element's
 * size serve reals and integers alike, and words of 16 bytes all of them where rows allow it. */
#include "device.cuh"
#include "kernels.h"

template <class W> __global__ void fill(td_walk w, W *y, W x)
{
    int64_t n = (int64_t)blockIdx.x * TD_CUDA_THREADS + threadIdx.x;
    int64_t at[1];
    if (n >= w.count)
        return;
    td_walk_at<1>(w, n, at);
    y[at[0]] = x;
}

/* The word of 4 bytes that `full` writes. */
static uint32_t word_of(double x, int dtype)
{
    union {
        float    f;
        int32_t  i;
        uint32_t word;
    } u;
    if (dtype == TD_I32)
        u.i = (int32_t)x;
    else
        u.f = (float)x;
    return u.word;
}

int td_cuda_fill(td_cuda *cuda, const td_view *y, uint32_t word)
{
    td_walk  w = td_walk_of(y, &y, 1);
    unsigned grid = td_cuda_grid(w.count, TD_CUDA_THREADS);
    if (!w.count)
        return 0;
    if (td_cuda_size(y) == 2)
        fill<uint16_t>
            <<<grid, TD_CUDA_THREADS, 0, cuda->stream>>>(w, (uint16_t *)y->data, (uint16_t)word);
    else
        fill<uint32_t><<<grid, TD_CUDA_THREADS, 0, cuda->stream>>>(w, (uint32_t *)y->data, word);
    return td_cuda_launched(cuda);
}

int td_cuda_full(const td_call *call)
{
    return td_cuda_fill(td_cuda_of(call), &call->out[0],
                        word_of(call->attrs->f[0], call->out[0].dtype));
}

template <class T> __global__ void count_up(T *y, int64_t n)
{
    int64_t k = (int64_t)blockIdx.x * TD_CUDA_THREADS + threadIdx.x;
    if (k < n)
        y[k] = (T)k;
}

int td_cuda_iota(const td_call *call)
{
    td_cuda *cuda = td_cuda_of(call);
    int64_t  n = td_cuda_count(&call->out[0]);
    unsigned grid = td_cuda_grid(n, TD_CUDA_THREADS);
    if (!n)
        return 0;
    if (call->out[0].dtype == TD_I32)
        count_up<int><<<grid, TD_CUDA_THREADS, 0, cuda->stream>>>((int *)call->out[0].data, n);
    else
        count_up<float><<<grid, TD_CUDA_THREADS, 0, cuda->stream>>>((float *)call->out[0].data, n);
    return td_cuda_launched(cuda);
}

/* y = x where the gate is open; NULL: it is. A step of a walk is `UNITS` words. */
template <class W, int UNITS> __global__ void move(td_walk w, W *y, const W *x, const float *gate)
{
    int64_t n = (int64_t)blockIdx.x * TD_CUDA_THREADS + threadIdx.x;
    int64_t at[2];
    if (n >= w.count || (gate && *gate == 0))
        return;
    td_walk_at<2>(w, n, at);
    y[at[0] / UNITS] = x[at[1] / UNITS];
}

template <class W, int UNITS>
static int launch_move(td_cuda *cuda, const td_walk &w, void *y, const void *x, const float *gate)
{
    move<W, UNITS>
        <<<td_cuda_grid(w.count, TD_CUDA_THREADS), TD_CUDA_THREADS, 0, cuda->stream>>>(w, (W *)y,
                                                                                       (const W *)x,
                                                                                       gate);
    return td_cuda_launched(cuda);
}

static int move_view(td_cuda *cuda, const td_view *y, const td_view *x, const float *gate)
{
    const td_view *operand[] = { y, x };
    const void    *data[] = { y->data, x->data };
    td_walk        w = td_walk_of(y, operand, 2), wide = w;
    bool           narrow = td_cuda_size(y) == 2;
    unsigned       repeated;
    if (!w.count || y->data == x->data)
        return 0;
    if (td_walk_widen(&wide, narrow ? 8 : 4, data, &repeated) && !repeated)
        return narrow ? launch_move<uint4, 8>(cuda, wide, y->data, x->data, gate)
                      : launch_move<uint4, 4>(cuda, wide, y->data, x->data, gate);
    return narrow ? launch_move<uint16_t, 1>(cuda, w, y->data, x->data, gate)
                  : launch_move<uint32_t, 1>(cuda, w, y->data, x->data, gate);
}

int td_cuda_copy(const td_call *call)
{
    return move_view(td_cuda_of(call), &call->out[0], &call->in[0], NULL);
}

/* x into y from `start` on along `axis`. */
static int move_part(td_cuda *cuda, const td_view *y, const td_view *x, int axis, int64_t start)
{
    td_view part = *y;
    part.dim[axis] = x->dim[axis];
    part.data = (char *)y->data + start * y->stride[axis] * td_cuda_size(y);
    return move_view(cuda, &part, x, NULL);
}

/* i: the axis, zeros before, zeros after */
int td_cuda_pad(const td_call *call)
{
    td_cuda *cuda = td_cuda_of(call);
    int      code = td_cuda_fill(cuda, &call->out[0], 0);
    return code ? code
                : move_part(cuda, &call->out[0], &call->in[0], (int)call->attrs->i[0],
                            call->attrs->i[1]);
}

int td_cuda_concat(const td_call *call)
{
    int     axis = (int)call->attrs->i[0], code = 0;
    int64_t start = 0;
    for (int k = 0; k < call->n_in && !code; start += call->in[k].dim[axis], k++)
        code = move_part(td_cuda_of(call), &call->out[0], &call->in[k], axis, start);
    return code;
}

/* Inputs: the state, its new value, the gate. Output 0 is the state's memory, so a closed gate
 * leaves it as it is. An integer gate of 0 has the bits of 0.0. */
int td_cuda_assign(const td_call *call)
{
    return move_view(td_cuda_of(call), &call->out[0], &call->in[1], td_cuda_scalar(call, 2));
}
