/* elements.h - single elements of host memory, between their dtype and double. */
#ifndef TD_PLAN_ELEMENTS_H
#define TD_PLAN_ELEMENTS_H

#include "tandem/bf16.h"
#include "tandem/graph.h"

static inline void td_element_store(void *to, int dtype, int64_t i, double value)
{
    if (dtype == TD_F64)
        ((double *)to)[i] = value;
    else if (dtype == TD_I32)
        ((int32_t *)to)[i] = (int32_t)value;
    else if (dtype == TD_BF16)
        ((uint16_t *)to)[i] = td_bf16_from_double(value);
    else
        ((float *)to)[i] = (float)value;
}

static inline double td_element_load(const void *from, int dtype, int64_t i)
{
    return dtype == TD_F64    ? ((const double *)from)[i]
           : dtype == TD_I32  ? ((const int32_t *)from)[i]
           : dtype == TD_BF16 ? (double)td_bf16_to_float(((const uint16_t *)from)[i])
                              : (double)((const float *)from)[i];
}

#endif
