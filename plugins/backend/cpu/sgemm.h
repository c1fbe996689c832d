/* sgemm.h - the AVX-512 way of td_cpu_sgemm, which sgemm.c calls and sgemm_avx512.c is. */
#ifndef TD_CPU_SGEMM_H
#define TD_CPU_SGEMM_H

#include "cpu.h"

/* Floats of a packed block of a, 512 x 256, and of a packed panel of b, 256 x 32. */
enum { TD_CPU_PACKED_A = 512 * 256, TD_CPU_PACKED_B = 256 * 32 };

/* Like td_cpu_sgemm, for k >= 1 on a processor with AVX-512. `packing` has room for both of the
 * above and is aligned to 64 bytes. */
void td_cpu_sgemm_avx512(td_cpu_matrix a, td_cpu_matrix b, int64_t m, int64_t n, int64_t k,
                         float alpha, float beta, float *c, int64_t ldc, float *packing);

#endif
