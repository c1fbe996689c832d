/* backend.c - the backend 'cpu': host memory, this machine's instruction set, OpenBLAS. */
#include <cblas.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include "cpu.h"
#include "module.h"

enum {
    HUGE_BYTES = 1 << 22, /* blocks of 4 MiB and more get separate pages */
    PEAK = 1024,          /* size of the product that `peak` measures */
    LEAST_RUNS = 3,       /* of it */
    MOST_RUNS = 12
};

#define ENOUGH 0.03 /* seconds */

/* Large blocks get huge pages, where the kernel has them: a training step walks through all its
 * memory, and each small page would cost a miss in the TLB. Either way, memory is zeroed. */
static void *backend_allocate(void *state, size_t bytes)
{
    void *memory;

    if (bytes < HUGE_BYTES) {
        size_t room = td_cpu_align(bytes ? bytes : 1);
        if (room < bytes || !(memory = aligned_alloc(64, room)))
            return NULL;
        return memset(memory, 0, room);
    }
    memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    /* only a hint: without huge pages it is slower, but still correct */
    (void)madvise(memory, bytes, MADV_HUGEPAGE);
    return memory;
}

static void backend_release(void *state, void *memory, size_t bytes)
{
    if (bytes < HUGE_BYTES)
        free(memory);
    else
        munmap(memory, bytes);
}

static size_t packing_bytes(const td_cpu *cpu)
{
    return (size_t)cpu->services->threads * td_cpu_packing_floats() * sizeof(float);
}

static void backend_close(void *state)
{
    td_cpu *cpu = state;
    if (cpu->packing)
        backend_release(cpu, cpu->packing, packing_bytes(cpu));
    free(cpu);
}

/* OpenBLAS maps a buffer for each thread that is in it at the same time. Where it gets none, it
 * tries forever. */
#define BUFFER ((size_t)128 << 20)
extern void *blas_memory_alloc(int) __attribute__((weak)); /* exported by OpenBLAS, not declared */
extern void  blas_memory_free(void *) __attribute__((weak));

/* Under a limit on addresses, have it map them now, before anything else takes the room. */
static bool reserve_buffers(int threads)
{
    struct rlimit limit;
    size_t        size = BUFFER * ((size_t)threads + 1);
    void         *room, *buffers[64];
    int           n = threads < 64 ? threads : 64;
    if (getrlimit(RLIMIT_AS, &limit) || limit.rlim_cur == RLIM_INFINITY)
        return true;
    room = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED)
        return false;
    /* the room exists; OpenBLAS now takes it piece by piece */
    munmap(room, size);
    if (!blas_memory_alloc || !blas_memory_free)
        return true;
    for (int k = 0; k < n; k++)
        buffers[k] = blas_memory_alloc(0);
    for (int k = 0; k < n; k++)
        blas_memory_free(buffers[k]);
    return true;
}

/* The packing memory is allocated here, once, so that no kernel can run out of memory later. */
static int backend_open(const void *config, const td_services *services, void **state,
                        td_error *error)
{
    td_cpu *cpu = calloc(1, sizeof *cpu);

    if (cpu) {
        cpu->services = services;
        cpu->packing = backend_allocate(cpu, packing_bytes(cpu));
    }
    if (!cpu || !cpu->packing) {
        free(cpu);
        return td_fail(error, TD_ENOMEM, "backend 'cpu': out of memory while starting");
    }
    if (!reserve_buffers(services->threads)) {
        backend_release(cpu, cpu->packing, packing_bytes(cpu));
        free(cpu);
        return td_fail(error, TD_ENOMEM,
                       "backend 'cpu': OpenBLAS takes %zu MiB of address space per thread "
                       "(backend.threads = %d), and the limit (ulimit -v) does not leave that "
                       "much: raise it, or use fewer threads",
                       BUFFER >> 20, services->threads);
    }
    openblas_set_num_threads(1); /* each of the pool's threads calls it for a separate tile */
    *state = cpu;
    return 0;
}

/* The instruction set that this build's kernels use on this processor. */
static const char *isa(void)
{
#if defined(__x86_64__)
    return td_cpu_has_avx512() ? "AVX-512" : td_cpu_has_avx2() ? "AVX2" : "SSE2";
#else
    return "portable";
#endif
}

/* Could the processor do more than this build has kernels for? */
static bool lacks_kernels(void)
{
#if defined(__x86_64__) && !TD_CPU_AVX
    return __builtin_cpu_supports("avx2");
#else
    return false;
#endif
}

static void backend_describe(void *state, char *text, size_t size)
{
    const td_cpu *cpu = state;
    snprintf(text, size, "cpu: %d threads, %s, matrix products by %s, %s (%s kernels)",
             cpu->services->threads, isa(), td_cpu_sgemm_name(), openblas_get_config(),
             openblas_get_corename());
}

/* Which of OpenBLAS's builds is linked: their kernels are the same, their threads are not. */
static const char *threading(void)
{
    int parallel = openblas_get_parallel();
    return parallel == OPENBLAS_OPENMP   ? "OpenMP"
           : parallel == OPENBLAS_THREAD ? "pthreads"
                                         : "sequential";
}

/* Everything that the bits of a result depend on. A resumed run compares it with its
 * checkpoint's. */
static void backend_arithmetic(void *state, char *text, size_t size)
{
    const char *config = openblas_get_config(); /* "OpenBLAS 0.3.21 NO_LAPACKE ..." */
    int         version = (int)strcspn(config, " ");

    /* the first two words, name and version; the rest is how it was built */
    version += (int)strcspn(config + version + !!config[version], " ") + !!config[version];
    snprintf(text, size, "%s, matrix products by %s, %.*s (%s), %s kernels", isa(),
             td_cpu_sgemm_name(), version, config, threading(), openblas_get_corename());
}

static void add_line(char *text, size_t size, const char *line)
{
    size_t used = strlen(text);
    if (used < size)
        snprintf(text + used, size - used, "%s\n", line);
}

/* Ways in which this machine is set up worse than it could be, a line each. */
static void backend_diagnose(void *state, char *text, size_t size)
{
    const td_cpu *cpu = state;
    const char   *core = getenv("OPENBLAS_CORETYPE");
    char          line[256];

    if (size)
        text[0] = 0;
    if (lacks_kernels())
        add_line(text, size,
                 "this build has no AVX kernels, which only gcc can compile: a build with gcc is "
                 "several times as fast");
    /* set for one machine and carried to another by a shell's profile, say */
    if (core && *core) {
        snprintf(
            line, sizeof line,
            "OPENBLAS_CORETYPE=%.40s makes OpenBLAS use its %.40s kernels even if this processor "
            "(%s) supports better ones; unset it (matrix products here: %s)",
            core, openblas_get_corename(), isa(), td_cpu_sgemm_name());
        add_line(text, size, line);
    }
    if (cpu->services->threads > openblas_get_num_procs()) {
        snprintf(line, sizeof line,
                 "%d threads on %d processors will wait for each other; set backend.threads",
                 cpu->services->threads, openblas_get_num_procs());
        add_line(text, size, line);
    }
}

/* ---- peak ------------------------------------------------------------------------------------
 *
 * The most FLOP/s that any code here reaches, by which a run's speed is judged: our own products or
 * OpenBLAS's, whichever are faster.
 */

typedef struct peak_job {
    float *a, *b, *c;
} peak_job;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void by_tiles(const td_cpu *cpu, const peak_job *j)
{
    td_cpu_matrix a = { .data = j->a, .ld = PEAK }, b = { .data = j->b, .ld = PEAK };
    td_cpu_gemm(cpu, a, b, PEAK, PEAK, PEAK, 1, 0, j->c, PEAK);
}

enum { ROWS = 64 };

/* [worker] */
static void rows_by_openblas(void *arg, int64_t i, int thread)
{
    const peak_job *j = arg;
    size_t          at = (size_t)i * ROWS * PEAK;
    (void)thread;
    if (openblas_get_parallel() == OPENBLAS_OPENMP)
        openblas_set_num_threads(1);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, ROWS, PEAK, PEAK, 1, j->a + at, PEAK,
                j->b, PEAK, 0, j->c + at, PEAK);
}

/* On the pool's threads: OpenBLAS would have to start its own, and where it cannot (a limit on
 * processes) it sends the process an interrupt. */
static void by_openblas(const td_cpu *cpu, const peak_job *j)
{
    _Static_assert(PEAK % ROWS == 0, "a block of rows for each item");
    td_parallel(cpu->services, PEAK / ROWS, rows_by_openblas, (void *)(uintptr_t)j);
}

/* The best of several runs, after one to warm up: other work on the machine can only slow a run down.
 * Every training begins with this, so it ends after 3 runs if they are slow. */
static double rate(const td_cpu *cpu, const peak_job *j,
                   void (*run)(const td_cpu *, const peak_job *))
{
    double best = 0, begun;
    run(cpu, j);
    begun = now();
    for (int i = 0; i < LEAST_RUNS || (i < MOST_RUNS && now() - begun < ENOUGH); i++) {
        double start = now();
        run(cpu, j);
        best = fmax(best, 2.0 * PEAK * PEAK * PEAK / (now() - start));
    }
    return best;
}

static double backend_peak(void *state)
{
    const size_t matrix = (size_t)PEAK * PEAK;
    float       *memory = backend_allocate(state, 3 * matrix * sizeof(float));
    peak_job     j = { memory, memory + matrix, memory + 2 * matrix };
    double       best;

    if (!memory)
        return 0;
    /* ordinary values, because products of denormals are slower */
    for (size_t i = 0; i < 2 * matrix; i++)
        memory[i] = (float)(i % 61) / 61.0f - 0.5f;
    best = fmax(rate(state, &j, by_tiles), rate(state, &j, by_openblas));
    backend_release(state, memory, 3 * matrix * sizeof(float));
    return best;
}

/* ---- read rate ------------------------------------------------------------------------------- */

/* Far more than caches hold, in pieces of which each thread takes several. */
enum { READ_BYTES = 1 << 29, READ_PIECE = 1 << 22 };

typedef struct read_job {
    const float *memory;
    float        sums[READ_BYTES / READ_PIECE]; /* used, so that the reads are not left out */
} read_job;

TD_CPU_CLONES static float read_floats(const float *from, int64_t n)
{
    td_vf s[4] = { 0 };
    for (int64_t i = 0; i + 4 * TD_LANES <= n; i += 4 * TD_LANES)
        for (int k = 0; k < 4; k++)
            s[k] += td_vload(from + i + k * TD_LANES);
    return td_vsum((s[0] + s[1]) + (s[2] + s[3]));
}

static void read_piece(void *arg, int64_t i, int thread)
{
    read_job     *j = arg;
    const int64_t n = READ_PIECE / sizeof(float);
    j->sums[i] = read_floats(j->memory + i * n, n);
}

static double backend_read_rate(void *state)
{
    const td_cpu *cpu = state;
    float        *memory = backend_allocate(state, READ_BYTES);
    read_job      j = { .memory = memory };
    double        best = 0;

    if (!memory)
        return 0;
    /* pages that were never written may all be the same one */
    for (size_t i = 0; i < READ_BYTES / sizeof(float); i++)
        memory[i] = 1;
    for (int i = 0; i < 12; i++) {
        double start = now();
        td_parallel(cpu->services, READ_BYTES / READ_PIECE, read_piece, &j);
        best = fmax(best, READ_BYTES / (now() - start));
    }
    backend_release(state, memory, READ_BYTES);
    return best;
}

struct empty {
    char none;
};

const td_backend td_cpu_backend = {
    .plugin = TD_PLUGIN(
        td_backend, TD_BACKEND_KIND, "cpu", NULL, struct empty,
        .brief = "this machine's processors, with OpenBLAS and vectorized kernels, in f32"),
    .open = backend_open,
    .close = backend_close,
    .allocate = backend_allocate,
    .release = backend_release,
    .describe = backend_describe,
    .diagnose = backend_diagnose,
    .peak = backend_peak,
    .read_rate = backend_read_rate,
    .arithmetic = backend_arithmetic,
};
