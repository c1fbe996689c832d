/* activation.cuh - activations and their slopes, for the kernels that contain them. */
#ifndef TD_CUDA_ACTIVATION_CUH
#define TD_CUDA_ACTIVATION_CUH

#include "tandem/ops.h"

__device__ inline float sigmoidf(float x) { return 1 / (1 + expf(-x)); }

__device__ inline float gelu_tanh(float x)
{
    return tanhf(0.79788456080286535588f * (x + 0.044715f * x * x * x));
}

/* f(x). x <= 0 lets NaN through. */
__device__ inline float value(float x, int f)
{
    switch (f) {
    case TD_SILU:
        return x * sigmoidf(x);
    case TD_GELU:
        return 0.5f * x * (1 + gelu_tanh(x));
    case TD_RELU:
        return x <= 0 ? 0 : x;
    case TD_RELU2:
        return x <= 0 ? 0 : x * x;
    default:
        return sigmoidf(x);
    }
}

__device__ inline float gelu_slope(float x)
{
    float t = gelu_tanh(x);
    return 0.5f * (1 + t) +
           0.5f * x * (1 - t * t) * 0.79788456080286535588f * (1 + 0.134145f * x * x);
}

/* f'(x); at 0, relu has slope 0 */
__device__ inline float slope(float x, int f)
{
    float s;
    switch (f) {
    case TD_SILU:
        s = sigmoidf(x);
        return s * (1 + x * (1 - s));
    case TD_GELU:
        return gelu_slope(x);
    case TD_RELU:
        return x > 0;
    case TD_RELU2:
        return x <= 0 ? 0 : 2 * x;
    default:
        s = sigmoidf(x);
        return s * (1 - s);
    }
}

#endif
