/* sgemm.h - the packed form of td_cpu_sgemm, for AVX-512 and AVX2, called by sgemm.c and implemented
 * in sgemm_packed.c. */
#ifndef TD_CPU_SGEMM_H
#define TD_CPU_SGEMM_H

#include "cpu.h"

/* Floats of a packed block of a, 512 x 256, and of a packed panel of b, 256 x 32. */
enum { TD_CPU_PACKED_A = 512 * TD_CPU_SLICE, TD_CPU_PACKED_B = TD_CPU_SLICE * TD_CPU_PANEL };

/* Pack b's rows [first, first + TD_CPU_SLICE), cut off at k, with all n columns. */
void td_cpu_pack_slice(td_cpu_matrix b, int64_t k, int64_t n, int64_t first, void *to);

/* Like td_cpu_sgemm, for k >= 1 on a processor with AVX2. `packing` is large enough for both of
 * the above and aligned to 64 bytes. */
void td_cpu_sgemm_packed(td_cpu_matrix a, td_cpu_matrix b, int64_t m, int64_t n, int64_t k,
                         float alpha, float beta, float *c, int64_t ldc, float *packing);

#endif
