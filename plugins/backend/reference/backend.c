/* backend.c - the backend 'reference': plain double arithmetic in host memory, to check the others
 * against. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "rounded.h"
#include "tandem/kind/backend.h"

static int backend_open(const void *config, const td_services *services, void **state,
                        td_error *error)
{
    *state = NULL; /* nothing to remember */
    return 0;
}

static void backend_close(void *state) {}

/* Zeroed, and aligned to a cache line: aligned_alloc wants a multiple of it. */
static void *backend_allocate(void *state, size_t bytes)
{
    size_t room = bytes < 64 ? 64 : (bytes + 63) / 64 * 64;
    void  *memory;

    if (bytes > SIZE_MAX - 63 || !(memory = aligned_alloc(64, room)))
        return NULL;
    return memset(memory, 0, room);
}

static void backend_release(void *state, void *memory, size_t bytes) { free(memory); }

static void backend_describe(void *state, char *text, size_t size)
{
    snprintf(text, size, "reference: one thread, plain C in double");
}

struct empty {
    char none;
};

static const td_backend reference = {
    .plugin = TD_PLUGIN(td_backend, TD_BACKEND_KIND, "reference", NULL, struct empty,
                        .brief = "plain C in double, to check other backends against; slow"),
    .open = backend_open,
    .close = backend_close,
    .allocate = backend_allocate,
    .release = backend_release,
    .describe = backend_describe,
};

/* One row for each kernel of reals, and two, by dtype, for those that also take integers. */
#define ROW(name, dtype_, flags_) \
    { .size = sizeof(td_kernel),  \
      .op = #name,                \
      .dtype = dtype_,            \
      .flags = flags_,            \
      .run = td_ref_##name },
#define REAL(name, flags) ROW(name, TD_F64, flags)
#define BOTH(name, flags) ROW(name, TD_F64, flags) ROW(name, TD_I32, flags)

#define BF16(name, flags) ROW(name, TD_BF16, flags)
#define ROUNDED(name, flags_)    \
    { .size = sizeof(td_kernel), \
      .op = #name,               \
      .dtype = TD_BF16,          \
      .flags = flags_,           \
      .run = rounded_##name,     \
      .workspace = td_ref_rounded_workspace },

#define X(name, flags) \
    static int rounded_##name(const td_call *call) { return td_ref_rounded(call, td_ref_##name); }
TD_REF_ROUNDED(X)
#undef X

static const td_kernel rows[] = { TD_REF_BOTH(BOTH) TD_REF_REAL(REAL) TD_REF_BF16(BF16)
                                      TD_REF_ROUNDED(ROUNDED) };

static const td_kernels kernels = {
    .plugin = TD_PLUGIN(td_kernels, TD_KERNELS_KIND, "reference", NULL, struct empty,
                        .brief = "the kernels of the backend 'reference', in f64, bf16 and i32"),
    .backend = "reference",
    .rows = rows,
    .count = sizeof rows / sizeof rows[0],
};

TD_MODULE("backend-reference", "0.1.0", "the tandem authors", "MIT", &reference.plugin,
          &kernels.plugin)
