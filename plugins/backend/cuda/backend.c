/* backend.c - the backend 'cuda': memory of an NVIDIA GPU, one stream, recorded plans. */
#include <stdlib.h>
#include <string.h>

#include "state.h"
#include "kernels.h"
#include "module.h"
#include "tandem/bf16.h"

enum {
    STAGING = 16 << 20, /* bytes of pinned memory through which transfers go */
    PIECE = 128 << 10,  /* of a download: threads share the copying */
    LEAST_CAPABILITY = 8,
    PEAK = 4096, /* size of the product that `peak` measures */
    PEAK_RUNS = 8
};

typedef struct config {
    int64_t device;
} config;

/* ---- opening --------------------------------------------------------------------------------- */

/* CUDA's numbers are 1000 times the major version plus 10 times the minor one. */
static int major_of(int version) { return version / 1000; }
static int minor_of(int version) { return version % 1000 / 10; }

/* Why no GPU can be used, in terms of what to install. */
static int no_gpu(cudaError_t code, td_error *error)
{
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (!driver)
        return td_fail(error, TD_EUNSUPPORTED,
                       "backend 'cuda': no NVIDIA driver is installed (libcuda.so.1 cannot be "
                       "loaded); use backend.plugin = \"cpu\", or install a driver for CUDA %d.%d",
                       major_of(runtime), minor_of(runtime));
    if (code == cudaErrorInsufficientDriver)
        return td_fail(
            error, TD_EUNSUPPORTED,
            "backend 'cuda': the NVIDIA driver supports CUDA %d.%d, but tandem was built "
            "with CUDA %d.%d: install a newer driver, or build with an older toolkit",
            major_of(driver), minor_of(driver), major_of(runtime), minor_of(runtime));
    return td_fail(error, TD_EUNSUPPORTED, "backend 'cuda': no GPU can be used: %s",
                   cudaGetErrorString(code));
}

/* Each process of a host takes the GPU of its own number there. */
static int take_own(td_cuda *cuda, int count, td_error *error)
{
    const td_services *s = cuda->services;
    bool               told = s->size >= offsetof(td_services, process) + sizeof s->process;
    int                others = told ? s->processes : 1;
    cuda->device = told ? s->process : 0;
    if (cuda->device < 0)
        return td_fail(error, TD_ECONFIG,
                       "backend 'cuda': the launcher does not say which of this host's processes "
                       "this is, so it cannot be given a GPU of its own: use Open MPI's mpirun, or "
                       "srun, or set backend.device");
    if (others <= count && cuda->device < count)
        return 0;
    return td_fail(error, TD_ECONFIG,
                   "backend 'cuda': %d processes on this host cannot have a GPU each, because it "
                   "has %d: start at most %d per host; or, if the launcher shows each process only "
                   "its own GPU, set backend.device = 0",
                   others > cuda->device ? others : cuda->device + 1, count, count);
}

/* Choose the device, and query it. */
static int find_device(td_cuda *cuda, td_error *error)
{
    int         count = 0;
    cudaError_t code = cudaGetDeviceCount(&count);
    if (code != cudaSuccess || !count)
        return no_gpu(code, error);
    /* two on one GPU would each count all of its memory as theirs, and NCCL connects no such two */
    if (cuda->device < 0 && take_own(cuda, count, error))
        return TD_ECONFIG;
    if (cuda->device >= count)
        return td_fail(error, TD_ECONFIG,
                       "backend 'cuda': there is no GPU %d: this machine has %d, numbered from 0",
                       cuda->device, count);
    code = cudaSetDevice(cuda->device);
    if (code == cudaSuccess)
        code = cudaGetDeviceProperties(&cuda->properties, cuda->device);
    if (code != cudaSuccess)
        return td_fail(error, TD_EIO, "backend 'cuda': GPU %d cannot be used: %s", cuda->device,
                       cudaGetErrorString(code));
    if (cuda->properties.major < LEAST_CAPABILITY)
        return td_fail(error, TD_EUNSUPPORTED,
                       "backend 'cuda': '%s' has compute capability %d.%d; 8.0 or newer is needed",
                       cuda->properties.name, cuda->properties.major, cuda->properties.minor);
    return 0;
}

/* Memory that both sides see, and the stream. */
static int start(td_cuda *cuda, td_error *error)
{
    cudaError_t code = cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking);
    if (code == cudaSuccess)
        code = cudaHostAlloc((void **)&cuda->faults, TD_CUDA_FAULTS * sizeof *cuda->faults,
                             cudaHostAllocMapped);
    if (code == cudaSuccess)
        code = cudaHostGetDevicePointer((void **)&cuda->faults_seen, cuda->faults, 0);
    if (code == cudaSuccess)
        code = cudaHostAlloc((void **)&cuda->staging, STAGING, cudaHostAllocDefault);
    if (code != cudaSuccess)
        return td_fail(error, TD_EIO, "backend 'cuda': '%s' cannot be started: %s",
                       cuda->properties.name, cudaGetErrorString(code));
    memset(cuda->faults, 0, TD_CUDA_FAULTS * sizeof *cuda->faults);
    cuda->blas = td_cuda_blas_open(error);
    return cuda->blas ? 0 : td_failed(error, TD_EUNSUPPORTED);
}

static void backend_close(void *state)
{
    td_cuda *cuda = state;
    td_cuda_blas_close(cuda->blas);
    cudaFreeHost(cuda->staging);
    cudaFreeHost(cuda->faults);
    if (cuda->stream)
        cudaStreamDestroy(cuda->stream);
    free(cuda);
}

static int backend_open(const void *config_, const td_services *services, void **state,
                        td_error *error)
{
    const config *c = config_;
    td_cuda      *cuda = calloc(1, sizeof *cuda);
    int           code;
    if (!cuda)
        return td_fail(error, TD_ENOMEM, "backend 'cuda': out of memory while starting");
    cuda->services = services;
    cuda->device = (int)c->device;
    code = find_device(cuda, error);
    if (!code)
        code = start(cuda, error);
    if (code) {
        backend_close(cuda);
        return code;
    }
    *state = cuda;
    return 0;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void *backend_allocate(void *state, size_t bytes)
{
    td_cuda *cuda = state;
    void    *memory = NULL;
    if (cudaMalloc(&memory, bytes ? bytes : 1) != cudaSuccess) {
        cudaGetLastError(); /* the caller reports it; later calls must not find it again */
        return NULL;
    }
    if (cudaMemsetAsync(memory, 0, bytes, cuda->stream) == cudaSuccess)
        return memory;
    cudaFree(memory);
    return NULL;
}

/* Queued work may still use the memory: cudaFree waits for it. */
static void backend_release(void *state, void *memory, size_t bytes) { cudaFree(memory); }

static size_t backend_available(void *state)
{
    size_t available = 0, all = 0;
    return cudaMemGetInfo(&available, &all) == cudaSuccess ? available : 0;
}

static int note(td_cuda *cuda, const char *what, cudaError_t code)
{
    if (code == cudaSuccess)
        return 0;
    cuda->services->log(cuda->services, TD_LOG_ERROR, "backend 'cuda': %s: %s (%s)", what,
                        cudaGetErrorString(code), cudaGetErrorName(code));
    return TD_EIO;
}

/* Through pinned memory, so that the caller's buffer is free at once and the queue goes on. Only
 * larger uploads wait. */
static int backend_upload(void *state, void *device, const void *host, size_t bytes)
{
    td_cuda *cuda = state;
    size_t   room = td_cuda_align(bytes);
    char    *from;
    if (room > STAGING)
        return note(cuda, "uploading",
                    cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, cuda->stream)) ||
                       note(cuda, "uploading", cudaStreamSynchronize(cuda->stream))
                   ? TD_EIO
                   : 0;
    /* full: before it is used again, all copies out of it must be done */
    if (cuda->staged + room > STAGING) {
        if (note(cuda, "uploading", cudaStreamSynchronize(cuda->stream)))
            return TD_EIO;
        cuda->staged = 0;
    }
    from = cuda->staging + cuda->staged;
    cuda->staged += room;
    memcpy(from, host, bytes);
    return note(cuda, "uploading",
                cudaMemcpyAsync(device, from, bytes, cudaMemcpyHostToDevice, cuda->stream));
}

static int copy_from_device(td_cuda *cuda, void *host, const void *device, size_t bytes)
{
    if (note(cuda, "downloading",
             cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, cuda->stream)))
        return TD_EIO;
    return note(cuda, "downloading", cudaStreamSynchronize(cuda->stream));
}

typedef struct moving {
    char       *to;
    const char *from;
    size_t      bytes;
} moving;

static void move_piece(void *arg, int64_t piece, int thread)
{
    const moving *m = arg;
    size_t        at = (size_t)piece * PIECE;
    (void)thread;
    memcpy(m->to + at, m->from + at, m->bytes - at < PIECE ? m->bytes - at : PIECE);
}

/* Through pinned memory, to which the GPU writes several times as fast as to other memory. */
static int backend_download(void *state, void *host, const void *device, size_t bytes)
{
    td_cuda *cuda = state;
    moving   m = { host, cuda->staging + cuda->staged, bytes };
    int      code;
    /* uploads that have not ended still need their part */
    if (bytes > STAGING - cuda->staged)
        return copy_from_device(cuda, host, device, bytes);
    code = copy_from_device(cuda, cuda->staging + cuda->staged, device, bytes);
    if (code)
        return code;
    cuda->staged = 0; /* the uploads have ended as well */
    td_parallel(cuda->services, (int64_t)((bytes + PIECE - 1) / PIECE), move_piece, &m);
    return 0;
}

static void *backend_queue(void *state) { return ((td_cuda *)state)->stream; }

static int backend_copy(void *state, void *to, const void *from, size_t bytes)
{
    td_cuda *cuda = state;
    return note(cuda, "copying",
                cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, cuda->stream));
}

/* By the op's kernel, outside of a plan. */
static int backend_add(void *state, void *to, const void *more, int64_t count, int dtype)
{
    td_cuda *cuda = state;
    td_view  sum = { .data = to, .dtype = TD_F32, .rank = 1, .dim = { count }, .stride = { 1 } };
    td_view  term = sum;
    td_call  call = { .services = cuda->services,
                      .n_in = 2,
                      .n_out = 1,
                      .in = { sum },
                      .out = { sum },
                      .backend = cuda };
    if (dtype != TD_F32)
        return TD_EUNSUPPORTED;
    term.data = (void *)more;
    call.in[1] = term;
    return td_cuda_add(&call);
}

/* The fault that a kernel found in the data, reported once; otherwise 0. */
static int fault_of(td_cuda *cuda)
{
    volatile int *faults = cuda->faults;
    int code = faults[TD_CUDA_BAD_ID] ? TD_EFORMAT : faults[TD_CUDA_NO_ROOM] ? TD_ERANGE : 0;
    for (int k = 0; k < TD_CUDA_FAULTS; k++)
        faults[k] = 0;
    return code;
}

static int backend_sync(void *state)
{
    td_cuda    *cuda = state;
    cudaError_t launch = cuda->failed;
    cuda->failed = cudaSuccess;
    if (note(cuda, "running", cudaStreamSynchronize(cuda->stream)) ||
        note(cuda, "launching a kernel", launch))
        return TD_EIO;
    cuda->staged = 0;
    return fault_of(cuda);
}

/* ---- recorded plans: CUDA graphs ------------------------------------------------------------- */

static int backend_record(void *state)
{
    td_cuda *cuda = state;
    return note(cuda, "recording a plan",
                cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeRelaxed));
}

static int backend_recorded(void *state, void **recording)
{
    td_cuda        *cuda = state;
    cudaGraph_t     graph = NULL;
    cudaGraphExec_t exec = NULL;
    cudaError_t     code = cudaStreamEndCapture(cuda->stream, &graph);
    if (code == cudaSuccess)
        code = cudaGraphInstantiate(&exec, graph, 0);
    if (graph)
        cudaGraphDestroy(graph);
    *recording = exec;
    return note(cuda, "recording a plan", code);
}

static int backend_replay(void *state, void *recording)
{
    td_cuda *cuda = state;
    cuda->launches++;
    return note(cuda, "replaying a plan", cudaGraphLaunch(recording, cuda->stream));
}

static void backend_forget(void *state, void *recording)
{
    td_cuda *cuda = state;
    cudaStreamSynchronize(cuda->stream);
    cudaGraphExecDestroy(recording);
}

static int64_t backend_launches(void *state) { return ((const td_cuda *)state)->launches; }

/* ---- about ----------------------------------------------------------------------------------- */

static void backend_describe(void *state, char *text, size_t size)
{
    const td_cuda *cuda = state;
    int            driver = 0, runtime = 0, count = 0;
    size_t         blas = td_cuda_blas_version(cuda->blas);
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    cudaGetDeviceCount(&count);
    snprintf(text, size,
             "cuda: GPU %d of %d, %s, %.1f GiB, compute capability %d.%d, driver for CUDA %d.%d, "
             "runtime %d.%d, matrix products by cuBLASLt %zu.%zu.%zu: float32 without TF32, bf16 "
             "added up in "
             "float32",
             cuda->device, count, cuda->properties.name,
             (double)cuda->properties.totalGlobalMem / (1 << 30), cuda->properties.major,
             cuda->properties.minor, major_of(driver), minor_of(driver), major_of(runtime),
             minor_of(runtime), blas / 10000, blas / 100 % 100, blas % 100);
}

static void backend_diagnose(void *state, char *text, size_t size)
{
    size_t available = backend_available(state);
    size_t all = ((const td_cuda *)state)->properties.totalGlobalMem;
    if (size)
        text[0] = 0;
    /* another process on the same GPU also takes some of its time */
    if (available < all / 2)
        snprintf(text, size, "other processes hold %.1f of the GPU's %.1f GiB\n",
                 (double)(all - available) / (1 << 30), (double)all / (1 << 30));
}

/* Everything that the bits of a result depend on. */
static void backend_arithmetic(void *state, char *text, size_t size)
{
    const td_cuda *cuda = state;
    snprintf(text, size,
             "%s, compute capability %d.%d, matrix products by cuBLASLt %zu, added up in float32",
             cuda->properties.name, cuda->properties.major, cuda->properties.minor,
             td_cuda_blas_version(cuda->blas));
}

/* Seconds for one product, the best of several runs; 0: it failed. */
static double time_products(td_cuda *cuda, td_cuda_matrix x, td_cuda_matrix y, cudaEvent_t begin,
                            cudaEvent_t end)
{
    td_cuda_matrix none = { NULL, 0, 0, 0, false };
    double         best = 0;
    for (int k = 0; k <= PEAK_RUNS; k++) {
        float ms = 0;
        cudaEventRecord(begin, cuda->stream);
        if (td_cuda_gemm(cuda, PEAK, PEAK, PEAK, 1, 1, x, x, 0, none, y))
            return 0;
        cudaEventRecord(end, cuda->stream);
        if (cudaEventSynchronize(end) || cudaEventElapsedTime(&ms, begin, end))
            return 0;
        if (k && ms > 0 && (best == 0 || 1e-3 * ms < best)) /* the first warms up */
            best = 1e-3 * ms;
    }
    return best;
}

/* Varied numbers, because a product of zeros draws less power and is faster. Each is 16 bits, or
 * the upper half of 32. */
static void fill_operand(uint16_t *x, size_t n, bool narrow)
{
    memset(x, 0, n * (narrow ? 2 : 4));
    for (size_t i = 0; i < n; i++)
        x[narrow ? i : 2 * i + 1] = td_bf16_from_float((float)(i * 7 % 61) / 61.0f - 0.5f);
}

/* The rate of products of PEAK x PEAK matrices, in FLOP/s; 0: unknown. */
static double peak_of(td_cuda *cuda, bool narrow)
{
    size_t         n = (size_t)PEAK * PEAK, bytes = n * (narrow ? 2 : 4);
    uint16_t      *host = malloc(bytes);
    char          *memory = backend_allocate(cuda, 2 * bytes);
    td_cuda_matrix x = { memory, PEAK, 1, 0, narrow }, y = { memory, PEAK, 1, 0, narrow };
    cudaEvent_t    begin = NULL, end = NULL;
    double         seconds = 0;

    /* one operand, multiplied by itself: the time does not depend on whether there are two */
    if (host)
        fill_operand(host, n, narrow);
    if (host && memory && !backend_upload(cuda, memory, host, bytes) && !cudaEventCreate(&begin) &&
        !cudaEventCreate(&end)) {
        y.data = memory + bytes;
        seconds = time_products(cuda, x, y, begin, end);
    }
    if (begin)
        cudaEventDestroy(begin);
    if (end)
        cudaEventDestroy(end);
    if (memory)
        backend_release(cuda, memory, 2 * bytes);
    free(host);
    return seconds > 0 ? 2.0 * PEAK * PEAK * PEAK / seconds : 0;
}

static double backend_peak(void *state) { return peak_of(state, false); }
static double backend_peak_bf16(void *state) { return peak_of(state, true); }

static double backend_read_rate(void *state) { return td_cuda_read_rate(state); }

static const td_option options[] = {
    TD_OPTION_INT(config, device, -1, -1, 63,
                  "which GPU, numbered from 0; -1: the one with the process's number on its host"),
    TD_OPTION_END,
};

const td_backend td_cuda_backend = {
    .plugin =
        TD_PLUGIN(td_backend, TD_BACKEND_KIND, "cuda", options, config,
                  .brief = "an NVIDIA GPU, with cuBLASLt and kernels of its own, in f32 and bf16"),
    .open = backend_open,
    .close = backend_close,
    .allocate = backend_allocate,
    .release = backend_release,
    .upload = backend_upload,
    .download = backend_download,
    .sync = backend_sync,
    .describe = backend_describe,
    .diagnose = backend_diagnose,
    .peak = backend_peak,
    .read_rate = backend_read_rate,
    .arithmetic = backend_arithmetic,
    .available = backend_available,
    .record = backend_record,
    .recorded = backend_recorded,
    .replay = backend_replay,
    .forget = backend_forget,
    .launches = backend_launches,
    .peak_bf16 = backend_peak_bf16,
    .queue = backend_queue,
    .copy = backend_copy,
    .add = backend_add,
};
