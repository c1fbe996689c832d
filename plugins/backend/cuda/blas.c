/* blas.c - matrix products by cuBLASLt: in float32 without TF32, and in bf16 with sums in float32.
 *
 * The library is loaded when the backend is opened, not linked: it is hundreds of megabytes large,
 * comes with the CUDA toolkit and not with the driver, and without it the module must still load
 * and be able to say what is missing.
 *
 * For each shape the library's heuristic is asked once, without measuring anything, and its choice
 * is kept. It is a function of shape, device and library version, so two runs, or a run and its
 * continuation, use the same algorithm. Algorithms that split the inner dimension add the parts in
 * the order of arrival only under the "in place" scheme, which is not admitted.
 */
#include <cublasLt.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"
#include "tandem/random.h"

enum { WORKSPACE = 32 << 20, SLOTS = 4096 };

/* Functions of the library, in the order of `names`. */
typedef struct library {
    size_t (*version)(void);
    cublasStatus_t (*create)(cublasLtHandle_t *);
    cublasStatus_t (*destroy)(cublasLtHandle_t);
    cublasStatus_t (*matmul)(cublasLtHandle_t, cublasLtMatmulDesc_t, const void *, const void *,
                             cublasLtMatrixLayout_t, const void *, cublasLtMatrixLayout_t,
                             const void *, const void *, cublasLtMatrixLayout_t, void *,
                             cublasLtMatrixLayout_t, const cublasLtMatmulAlgo_t *, void *, size_t,
                             cudaStream_t);
    cublasStatus_t (*desc_create)(cublasLtMatmulDesc_t *, cublasComputeType_t, cudaDataType_t);
    cublasStatus_t (*desc_destroy)(cublasLtMatmulDesc_t);
    cublasStatus_t (*desc_set)(cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t, const void *,
                               size_t);
    cublasStatus_t (*layout_create)(cublasLtMatrixLayout_t *, cudaDataType, uint64_t, uint64_t,
                                    int64_t);
    cublasStatus_t (*layout_destroy)(cublasLtMatrixLayout_t);
    cublasStatus_t (*layout_set)(cublasLtMatrixLayout_t, cublasLtMatrixLayoutAttribute_t,
                                 const void *, size_t);
    cublasStatus_t (*preference_create)(cublasLtMatmulPreference_t *);
    cublasStatus_t (*preference_destroy)(cublasLtMatmulPreference_t);
    cublasStatus_t (*preference_set)(cublasLtMatmulPreference_t,
                                     cublasLtMatmulPreferenceAttributes_t, const void *, size_t);
    cublasStatus_t (*heuristic)(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
                                cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                cublasLtMatrixLayout_t, cublasLtMatmulPreference_t, int,
                                cublasLtMatmulHeuristicResult_t *, int *);
} library;

static const char *const names[] = {
    "cublasLtGetVersion",
    "cublasLtCreate",
    "cublasLtDestroy",
    "cublasLtMatmul",
    "cublasLtMatmulDescCreate",
    "cublasLtMatmulDescDestroy",
    "cublasLtMatmulDescSetAttribute",
    "cublasLtMatrixLayoutCreate",
    "cublasLtMatrixLayoutDestroy",
    "cublasLtMatrixLayoutSetAttribute",
    "cublasLtMatmulPreferenceCreate",
    "cublasLtMatmulPreferenceDestroy",
    "cublasLtMatmulPreferenceSetAttribute",
    "cublasLtMatmulAlgoGetHeuristic",
};

/* Everything that the choice of an algorithm depends on; compared byte by byte. */
typedef struct shape {
    int64_t m, n, k, count, lda, ldb, ldc, ldd, batch_a, batch_b, batch_c, batch_d;
    int32_t transpose_a, transpose_b, accumulates, alignment;
    int32_t from_narrow, to_narrow; /* a and b, c and d are bf16 */
} shape;

typedef struct product {
    shape                  shape;
    cublasLtMatmulDesc_t   desc;
    cublasLtMatrixLayout_t a, b, c, d;
    cublasLtMatmulAlgo_t   algorithm;
} product;

struct td_cuda_blas {
    void            *module;
    library          f;
    cublasLtHandle_t handle;
    void            *workspace;
    product         *products[SLOTS]; /* a hash table with open addressing */
    int              used;
};

/* ---- loading --------------------------------------------------------------------------------- */

/* By the dynamic linker's search, or where the toolkit is usually installed. */
static void *load(void)
{
    static const char *const paths[] = { "libcublasLt.so." TD_CUDA_MAJOR,
                                         "/usr/local/cuda/lib64/libcublasLt.so." TD_CUDA_MAJOR };
    void                    *module = NULL;
    for (size_t k = 0; !module && k < sizeof paths / sizeof *paths; k++)
        module = dlopen(paths[k], RTLD_NOW | RTLD_LOCAL);
    return module;
}

static int find_functions(td_cuda_blas *b, td_error *error)
{
    void **to = (void **)(void *)&b->f;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        to[k] = dlsym(b->module, names[k]);
        if (!to[k])
            return td_fail(error, TD_EUNSUPPORTED,
                           "backend 'cuda': cuBLASLt has no function '%s'; install the CUDA "
                           "toolkit " TD_CUDA_MAJOR ".x",
                           names[k]);
    }
    return 0;
}

td_cuda_blas *td_cuda_blas_open(td_error *error)
{
    td_cuda_blas *b = calloc(1, sizeof *b);
    if (!b) {
        td_fail(error, TD_ENOMEM, "backend 'cuda': out of memory while starting");
        return NULL;
    }
    b->module = load();
    if (!b->module)
        td_fail(error, TD_EUNSUPPORTED,
                "backend 'cuda': cannot load cuBLASLt: %s; install it (CUDA " TD_CUDA_MAJOR
                ".x), or name its directory in LD_LIBRARY_PATH",
                dlerror());
    else if (!find_functions(b, error)) {
        if (b->f.create(&b->handle) != CUBLAS_STATUS_SUCCESS)
            td_fail(error, TD_EIO, "backend 'cuda': cuBLASLt %zu cannot be started on this GPU",
                    b->f.version());
        else if (cudaMalloc(&b->workspace, WORKSPACE) != cudaSuccess)
            td_fail(error, TD_ENOMEM,
                    "backend 'cuda': cannot allocate %d bytes of device memory for products",
                    (int)WORKSPACE);
        else
            return b;
    }
    td_cuda_blas_close(b);
    return NULL;
}

static void forget(td_cuda_blas *b, product *p)
{
    if (p->desc)
        b->f.desc_destroy(p->desc);
    if (p->a)
        b->f.layout_destroy(p->a);
    if (p->b)
        b->f.layout_destroy(p->b);
    if (p->c)
        b->f.layout_destroy(p->c);
    if (p->d)
        b->f.layout_destroy(p->d);
    free(p);
}

void td_cuda_blas_close(td_cuda_blas *b)
{
    if (!b)
        return;
    for (int k = 0; k < SLOTS; k++)
        if (b->products[k])
            forget(b, b->products[k]);
    cudaFree(b->workspace);
    if (b->handle)
        b->f.destroy(b->handle);
    /* the module stays loaded: its threads and the driver's callbacks outlive the handle */
    free(b);
}

size_t td_cuda_blas_version(const td_cuda_blas *b) { return b->f.version(); }

/* ---- one shape ------------------------------------------------------------------------------- */

/* In cuBLAS's column-major terms: `rows` x `columns`, with a leading dimension. */
static cublasLtMatrixLayout_t layout(const td_cuda_blas *b, bool narrow, int64_t rows,
                                     int64_t columns, int64_t leading, int64_t count, int64_t batch)
{
    cudaDataType           type = narrow ? CUDA_R_16BF : CUDA_R_32F;
    cublasLtMatrixLayout_t l = NULL;
    int32_t                matrices = (int32_t)count;
    if (b->f.layout_create(&l, type, (uint64_t)rows, (uint64_t)columns, leading))
        return NULL;
    b->f.layout_set(l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &matrices, sizeof matrices);
    b->f.layout_set(l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &batch, sizeof batch);
    return l;
}

/* The first algorithm from the heuristic that our rules admit. */
static bool choose(const td_cuda_blas *b, product *p)
{
    uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    size_t   workspace = WORKSPACE;
    uint32_t alignment = (uint32_t)p->shape.alignment;
    cublasLtMatmulPreference_t      preference = NULL;
    cublasLtMatmulHeuristicResult_t result;
    int                             found = 0;

    if (b->f.preference_create(&preference))
        return false;
    b->f.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                        sizeof workspace);
    /* schemes that add in a fixed order; others add in order of arrival */
    b->f.preference_set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &scheme,
                        sizeof scheme);
    b->f.preference_set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &alignment,
                        sizeof alignment);
    b->f.preference_set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &alignment,
                        sizeof alignment);
    b->f.preference_set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &alignment,
                        sizeof alignment);
    b->f.preference_set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &alignment,
                        sizeof alignment);
    if (b->f.heuristic(b->handle, p->desc, p->a, p->b, p->c, p->d, preference, 1, &result, &found))
        found = 0;
    b->f.preference_destroy(preference);
    if (found)
        p->algorithm = result.algo;
    return found > 0;
}

/* Row-major matrices are column-major ones transposed: c^T = b^T a^T. */
static product *make_product(td_cuda_blas *b, const shape *s)
{
    product          *p = calloc(1, sizeof *p);
    cublasOperation_t ta = s->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N,
                      tb = s->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    if (!p)
        return NULL;
    p->shape = *s;
    if (!b->f.desc_create(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F)) {
        b->f.desc_set(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &tb, sizeof tb);
        b->f.desc_set(p->desc, CUBLASLT_MATMUL_DESC_TRANSB, &ta, sizeof ta);
    }
    p->a = layout(b, s->from_narrow, s->transpose_b ? s->k : s->n, s->transpose_b ? s->n : s->k,
                  s->ldb, s->count, s->batch_b);
    p->b = layout(b, s->from_narrow, s->transpose_a ? s->m : s->k, s->transpose_a ? s->k : s->m,
                  s->lda, s->count, s->batch_a);
    p->c = layout(b, s->to_narrow, s->n, s->m, s->ldd, s->count, s->batch_d);
    p->d = layout(b, s->to_narrow, s->n, s->m, s->ldc, s->count, s->batch_c);
    if (p->desc && p->a && p->b && p->c && p->d && choose(b, p))
        return p;
    forget(b, p);
    return NULL;
}

/* The product of this shape, made on first use; NULL: the library has no algorithm for it. */
static const product *product_of(td_cuda_blas *b, const shape *s)
{
    uint64_t h = td_hash(td_random_stream(""), s, sizeof *s);
    product *p;
    int      k = (int)(h % SLOTS);

    while (b->products[k] && memcmp(&b->products[k]->shape, s, sizeof *s))
        k = (k + 1) % SLOTS;
    if (b->products[k])
        return b->products[k];
    /* a run has hundreds of shapes; an open table must never be full */
    if (b->used >= SLOTS / 2)
        return NULL;
    p = make_product(b, s);
    if (!p)
        return NULL;
    b->used++;
    return b->products[k] = p;
}

/* ---- products -------------------------------------------------------------------------------- */

/* With a dim of 1 both strides are contiguous, so any leading dimension will do. */
static int64_t leading(const td_cuda_matrix *x, bool transposed, int64_t rows, int64_t columns)
{
    int64_t least = transposed ? rows : columns, step = transposed ? x->column : x->row;
    int64_t lines = transposed ? columns : rows;
    return lines <= 1 || step < least ? least : step;
}

static bool is_transposed(const td_cuda_matrix *x, int64_t rows, int64_t columns)
{
    return !(columns <= 1 || x->column == 1) || (x->column != 1 && rows > 1 && x->row == 1);
}

/* An operand's address and steps, combined bitwise, to find the powers of two that divide them,
 * in bytes. */
static uintptr_t bits_of(const td_cuda_matrix *x)
{
    return (uintptr_t)x->data | (uintptr_t)(x->batch * (x->narrow ? 2 : 4));
}

/* The largest power of two up to 16 that divides all addresses and steps, in bytes. */
static int32_t alignment_of(const td_cuda_matrix *a, const td_cuda_matrix *b,
                            const td_cuda_matrix *c, const td_cuda_matrix *d)
{
    uintptr_t bits = bits_of(a) | bits_of(b) | bits_of(c) | bits_of(d) | 16;
    return (int32_t)(bits & -bits);
}

int td_cuda_gemm(td_cuda *cuda, int64_t m, int64_t n, int64_t k, int64_t count, float alpha,
                 td_cuda_matrix a, td_cuda_matrix b, float beta, td_cuda_matrix d, td_cuda_matrix c)
{
    td_cuda_blas  *blas = cuda->blas;
    const product *p;
    shape          s;
    cublasStatus_t status;

    if (!d.data)
        d = c;
    memset(&s, 0, sizeof s); /* its padding is compared, too */
    s.m = m;
    s.n = n;
    s.k = k;
    s.count = count;
    s.transpose_a = is_transposed(&a, m, k);
    s.transpose_b = is_transposed(&b, k, n);
    s.lda = leading(&a, s.transpose_a, m, k);
    s.ldb = leading(&b, s.transpose_b, k, n);
    s.ldc = leading(&c, false, m, n);
    s.ldd = leading(&d, false, m, n);
    s.batch_a = a.batch;
    s.batch_b = b.batch;
    s.batch_c = c.batch;
    s.batch_d = d.batch;
    s.accumulates = beta != 0;
    s.alignment = alignment_of(&a, &b, &c, &d);
    s.from_narrow = a.narrow;
    s.to_narrow = c.narrow;
    p = product_of(blas, &s);
    if (!p)
        return TD_EUNSUPPORTED;
    cuda->launches++;
    status = blas->f.matmul(blas->handle, p->desc, &alpha, b.data, p->a, a.data, p->b, &beta,
                            d.data, p->c, c.data, p->d, &p->algorithm, blas->workspace, WORKSPACE,
                            cuda->stream);
    return status == CUBLAS_STATUS_SUCCESS ? 0 : TD_EIO;
}
