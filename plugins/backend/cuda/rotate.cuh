/* rotate.cuh - the rotation of rope.cu, for all kernels that do it: in explicit operations, so that
 * they compute the same bits. */
#ifndef TD_CUDA_ROTATE_CUH
#define TD_CUDA_ROTATE_CUH

/* The pair (x, y), rotated by an angle with this cosine and sine: its first element .. */
__device__ inline float td_first_turned(float x, float y, float cosine, float sine)
{
    return __fmaf_rn(x, cosine, -__fmul_rn(y, sine));
}

/* .. and its second. */
__device__ inline float td_second_turned(float x, float y, float cosine, float sine)
{
    return __fmaf_rn(y, cosine, __fmul_rn(x, sine));
}

#endif
