/* sgemm.h - the ways of td_cpu_sgemm. */
#ifndef TD_CPU_SGEMM_H
#define TD_CPU_SGEMM_H

#include "cpu.h"

/* A block of a, 512 x 256, and a panel of b, 256 x 32. */
enum { TD_CPU_PACKED_A = 512 * 256, TD_CPU_PACKED_B = 256 * 32 };

/* As td_cpu_sgemm, k >= 1, on a processor with AVX-512. `packing`: both of the above, 64-byte
 * aligned. */
void td_cpu_sgemm_avx512(td_cpu_matrix a, td_cpu_matrix b, int64_t m, int64_t n, int64_t k,
                         float alpha, float beta, float *c, int64_t ldc, float *packing);

#endif
