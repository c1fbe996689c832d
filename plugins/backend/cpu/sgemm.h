/* sgemm.h - the packed form of td_cpu_sgemm, for AVX-512 and AVX2, called by sgemm.c and implemented
 * in sgemm_packed.c and sgemm_pack.c. */
#ifndef TD_CPU_SGEMM_H
#define TD_CPU_SGEMM_H

#include "cpu.h"

/* Floats of a packed block of a, 512 x 256, and of a packed panel of b, 256 x 32. */
enum { TD_CPU_PACKED_A = 512 * TD_CPU_SLICE, TD_CPU_PACKED_B = TD_CPU_SLICE * TD_CPU_PANEL };

/* Rows of a that are packed together. */
enum { TD_CPU_STRIP = 16 };

#if TD_CPU_AVX
/* In AVX2's own width: gcc keeps longer vectors in memory there. */
enum { TD_CPU_EIGHT = 8 };
typedef float    td_eight __attribute__((vector_size(32)));
typedef uint32_t td_eight_words __attribute__((vector_size(32)));
typedef float    td_eight_at __attribute__((vector_size(32), aligned(4), may_alias));
#endif

/* Pack `rows` rows of a, at most TD_CPU_STRIP: to[p][i] = a[i][p], the rest zeros, because kernels
 * always compute whole blocks. For AVX-512 in two halves of 8 rows, TD_CPU_SLICE * 8 floats apart. */
void td_cpu_pack_strip(float *to, td_cpu_matrix a, int64_t rows, int64_t depth);

/* Pack `columns` columns of b, at most TD_CPU_PANEL: to[p][j] = b[p][j], the rest zeros. */
void td_cpu_pack_panel(float *to, td_cpu_matrix b, int64_t columns, int64_t depth);

/* Pack b's rows [first, first + TD_CPU_SLICE), cut off at k, with all n columns. */
void td_cpu_pack_slice(td_cpu_matrix b, int64_t k, int64_t n, int64_t first, void *to);

/* Like td_cpu_sgemm, for k >= 1 on a processor with AVX2. `packing` is large enough for both of
 * the above and aligned to 64 bytes. */
void td_cpu_sgemm_packed(td_cpu_matrix a, td_cpu_matrix b, int64_t m, int64_t n, int64_t k,
                         float alpha, float beta, float *c, int64_t ldc, float *packing);

#endif
