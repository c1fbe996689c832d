/* state.h - shared by the files of the backend 'cuda': its state, its stream, products.
 *
 * Everything is queued on one stream, so kernels run in the order of the calls. A kernel allocates
 * nothing and waits for nothing: a plan's calls can be recorded as a CUDA graph. An error that it
 * finds in the data (such as an id outside its table) is noted in `faults`, host memory that the
 * device writes to, and reported by `sync`.
 *
 * Determinism: no atomic operation touches a float; the order of a sum depends only on dims;
 * products are computed by cuBLASLt, and only its algorithms that add in a fixed order are
 * admitted.
 */
#ifndef TD_CUDA_STATE_H
#define TD_CUDA_STATE_H

#include <cuda_runtime_api.h>

#include "tandem/kind/backend.h"
#include "tandem/kind/kernels.h"
#include "views.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct td_cuda_blas td_cuda_blas; /* blas.c */

/* The errors that kernels can find, by their index in td_cuda.faults. */
enum { TD_CUDA_BAD_ID, TD_CUDA_NO_ROOM, TD_CUDA_FAULTS };

enum { TD_CUDA_PREPARED = 128 /* kernels whose preparation is remembered */ };

typedef struct td_cuda {
    const td_services    *services;
    int                   device;
    struct cudaDeviceProp properties;
    cudaStream_t          stream;
    td_cuda_blas         *blas;
    int                  *faults;      /* [TD_CUDA_FAULTS], pinned */
    int                  *faults_seen; /* the same memory, as the device addresses it */
    char                 *staging;     /* pinned: uploads are copied here and need not wait */
    size_t                staged;      /* bytes of it in use */
    int64_t               launches;
    const void           *prepared[TD_CUDA_PREPARED]; /* kernels: see td_cuda_prepare */
    int                   n_prepared;
    cudaError_t           failed; /* the first failure of a launch, reported by sync */
} td_cuda;

/* ---- products (blas.c) ----------------------------------------------------------------------- */

/* A matrix of floats or, if `narrow`, of bf16, whose rows or columns are contiguous: element (i, j)
 * is at data + i row + j column elements, one of the two strides being 1; `batch` is the distance
 * of a batch's matrices. */
typedef struct td_cuda_matrix {
    void   *data;
    int64_t row, column, batch;
    bool    narrow;
} td_cuda_matrix;

/* c = alpha a b + beta d for each of `count` matrices, [m, k] x [k, n] -> [m, n], added up in float.
 * c and d are row-major and may be the same; d is not read if beta is 0. a and b have the same
 * dtype, and so do c and d; if the operands are floats, so is the result. 0 or a negative
 * td_status. */
int           td_cuda_gemm(td_cuda *, int64_t m, int64_t n, int64_t k, int64_t count, float alpha,
                           td_cuda_matrix a, td_cuda_matrix b, float beta, td_cuda_matrix d,
                           td_cuda_matrix c);
/* Load cuBLASLt; NULL with `error`, which names the library. */
td_cuda_blas *td_cuda_blas_open(td_error *error);
void          td_cuda_blas_close(td_cuda_blas *);
size_t        td_cuda_blas_version(const td_cuda_blas *);

/* ---- calls ----------------------------------------------------------------------------------- */

static inline td_cuda *td_cuda_of(const td_call *call) { return (td_cuda *)call->backend; }

/* Input k, or NULL if it is absent. */
static inline const td_view *td_cuda_in(const td_call *call, int k)
{
    return k < call->n_in && call->in[k].data ? &call->in[k] : NULL;
}

/* Output k, or NULL if it is not wanted. */
static inline const td_view *td_cuda_out(const td_call *call, int k)
{
    return k < call->n_out && call->out[k].data ? &call->out[k] : NULL;
}

static inline int64_t td_cuda_pieces(int64_t n, int64_t piece) { return (n + piece - 1) / piece; }

/* Workspace is cut into parts that are aligned like all memory of the backend. */
static inline size_t td_cuda_align(size_t bytes) { return (bytes + 255) / 256 * 256; }

#ifdef __cplusplus
}
#endif
#endif
