/* warpgroup.cuh - the features of compute capability 9.0 for tiles: products by warpgroups of 128
 * threads (wgmma), barriers in shared memory, and copies of tiles that one thread begins (the
 * tensor memory accelerator).
 *
 * A tile in shared memory is made of panels of 64 columns of bf16, 128 bytes a row; the 16-byte
 * pieces of a row lie in an order that depends on the row (piece c of row r at c ^ r % 8), so that
 * neither rows nor columns of pieces fall into the same banks. Products and copies know this as
 * "128-byte swizzle".
 *
 * Of a product of 64 rows by N columns, thread t of a warpgroup holds, as element 4 n + 2 i + j,
 * row 16 (t / 32) + t % 32 / 4 + 8 i and column 8 n + 2 (t % 4) + j.
 */
#ifndef TD_CUDA_WARPGROUP_CUH
#define TD_CUDA_WARPGROUP_CUH

#include <cuda.h>

#include "device.cuh"

/* ---- products -------------------------------------------------------------------------------- */

#define TD_EIGHT(d, i)                                                                          \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
        "+f"(d[i + 6]), "+f"(d[i + 7])

/* 64 x 64: d = a b, plus d if `keep`; a and b by descriptors. TURNED: b's columns are contiguous. */
template <int TURNED>
__device__ inline void multiply(float (&d)[32], uint64_t a, uint64_t b, int keep)
{
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %34, 0; "
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, "
                 "%8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, "
                 "%24, %25, %26, %27, %28, %29, %30, %31"
                 "}, %32, %33, p, 1, 1, 0, %35; }"
                 : TD_EIGHT(d, 0), TD_EIGHT(d, 8), TD_EIGHT(d, 16), TD_EIGHT(d, 24)
                 : "l"(a), "l"(b), "r"(keep), "n"(TURNED));
}

/* The same, with a in registers. */
template <int TURNED>
__device__ inline void multiply(float (&d)[32], const uint32_t (&a)[4], uint64_t b, int keep)
{
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %37, 0; "
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, "
                 "%8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, "
                 "%24, %25, %26, %27, %28, %29, %30, %31"
                 "}, {%32, %33, %34, %35}, %36, p, 1, 1, %38; }"
                 : TD_EIGHT(d, 0), TD_EIGHT(d, 8), TD_EIGHT(d, 16), TD_EIGHT(d, 24)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep), "n"(TURNED));
}

/* 64 x 128: d = a b, plus d if `keep`; a and b by descriptors. TURNED: b's columns are contiguous. */
template <int TURNED>
__device__ inline void multiply(float (&d)[64], uint64_t a, uint64_t b, int keep)
{
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %66, 0; "
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, "
                 "%8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, "
                 "%24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, "
                 "%40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, "
                 "%56, %57, %58, %59, %60, %61, %62, %63"
                 "}, %64, %65, p, 1, 1, 0, %67; }"
                 : TD_EIGHT(d, 0), TD_EIGHT(d, 8), TD_EIGHT(d, 16), TD_EIGHT(d, 24),
                   TD_EIGHT(d, 32), TD_EIGHT(d, 40), TD_EIGHT(d, 48), TD_EIGHT(d, 56)
                 : "l"(a), "l"(b), "r"(keep), "n"(TURNED));
}

/* The same, with a in registers. */
template <int TURNED>
__device__ inline void multiply(float (&d)[64], const uint32_t (&a)[4], uint64_t b, int keep)
{
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %69, 0; "
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, "
                 "%8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, "
                 "%24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, "
                 "%40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, "
                 "%56, %57, %58, %59, %60, %61, %62, %63"
                 "}, {%64, %65, %66, %67}, %68, p, 1, 1, %70; }"
                 : TD_EIGHT(d, 0), TD_EIGHT(d, 8), TD_EIGHT(d, 16), TD_EIGHT(d, 24),
                   TD_EIGHT(d, 32), TD_EIGHT(d, 40), TD_EIGHT(d, 48), TD_EIGHT(d, 56)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep), "n"(TURNED));
}

#undef TD_EIGHT

/* Before products: the registers that they read or add to have been written. */
__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

/* The products so far form one group. */
__device__ inline void end_group()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* Wait until at most LEFT groups are under way. */
template <int LEFT> __device__ inline void wait_groups()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
}

/* The compiler must not move uses of a product's result across this. */
template <int N> __device__ inline void settle(float (&d)[N])
{
#pragma unroll
    for (int k = 0; k < N; k++)
        asm volatile("" : "+f"(d[k])::"memory");
}

/* A tile's descriptor: address, and the distances between what the product reads together. */
__device__ inline uint64_t descriptor(uint32_t address, uint32_t panels, uint32_t rows)
{
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)(panels >> 4) << 16 |
           (uint64_t)(rows >> 4) << 32 | 1ull << 62;
}

/* Step k of a product along the columns of a tile of ROWS rows, from row `first` on. */
template <int ROWS> __device__ inline uint64_t along_columns(uint32_t tile, int first, int k)
{
    return descriptor(tile + k / 4 * ROWS * 128 + first * 128 + k % 4 * 32, 16, 1024);
}

/* Step k of a product along the rows of a tile: 16 of them. */
template <int ROWS> __device__ inline uint64_t along_rows(uint32_t tile, int k)
{
    return descriptor(tile + k * 16 * 128, ROWS * 128, 1024);
}

/* Two floats of each of a product's column pairs as an operand of the next: step k of 16 columns. */
template <int N> __device__ inline void operand_of(uint32_t (&a)[4], const float (&d)[N], int k)
{
    for (int i = 0; i < 4; i++)
        a[i] = td_narrow2(d[8 * k + 2 * i], d[8 * k + 2 * i + 1]);
}

/* Step k of 16 columns of a warpgroup's 64 rows, from row `first` of a tile of ROWS on, as an operand
 * in registers. */
template <int ROWS>
__device__ inline void load_operand(uint32_t (&a)[4], uint32_t tile, int first, int k)
{
    int      lane = threadIdx.x % 32, row = first + threadIdx.x % 128 / 32 * 16 + lane % 16;
    uint32_t piece = (uint32_t)(k % 4 * 2 + lane / 16) ^ (row & 7);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
                 : "r"(tile + k / 4 * ROWS * 128 + row * 128 + piece * 16)
                 : "memory");
}

/* ---- barriers --------------------------------------------------------------------------------
 *
 * A barrier in shared memory opens again when as many threads have arrived as it was made for, and
 * all announced bytes have arrived; its phases alternate between 0 and 1.
 */

__device__ inline uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

__device__ inline void make_barrier(uint32_t barrier, int arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}

/* After this, all threads of the block and all copies see what make_barrier made. */
__device__ inline void publish_barriers()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
}

__device__ inline void arrive(uint32_t barrier)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

__device__ inline void arrive_expecting(uint32_t barrier, uint32_t bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
                 : "memory");
}

/* Wait for the end of a phase. */
__device__ inline void await(uint32_t barrier, int phase)
{
    asm volatile("{ .reg .pred p; "
                 "again: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1; "
                 "@!p bra again; }" ::"r"(barrier),
                 "r"(phase)
                 : "memory");
}

/* ---- copies ---------------------------------------------------------------------------------- */

/* Begin to copy a panel whose first element is at (column, row, head, example) of the tensor that
 * the map describes; zeros beyond it. */
__device__ inline void copy_panel(uint32_t to, const CUtensorMap &map, uint32_t barrier, int column,
                                  int row, int head, int example)
{
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(to),
                 "l"(&map), "r"(column), "r"(row), "r"(head), "r"(example), "r"(barrier)
                 : "memory");
}

/* A tile of ROWS x WIDTH, of maps whose boxes have ROWS rows. */
template <int ROWS, int WIDTH>
__device__ inline void copy_tile(uint32_t to, const CUtensorMap &map, uint32_t barrier, int row,
                                 int head, int example)
{
    for (int p = 0; p < WIDTH / 64; p++)
        copy_panel(to + p * ROWS * 128, map, barrier, p * 64, row, head, example);
}

/* `bytes` that lie together, a multiple of 16. */
__device__ inline void copy_bytes(uint32_t to, const void *from, uint32_t bytes, uint32_t barrier)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1], %2, [%3];" ::"r"(to),
                 "l"(from), "r"(bytes), "r"(barrier)
                 : "memory");
}

/* ---- registers ------------------------------------------------------------------------------- */

/* A warpgroup takes more registers, or gives some back. */
template <int N> __device__ inline void take_registers()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}

template <int N> __device__ inline void give_registers()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

#endif
