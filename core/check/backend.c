/* backend.c - what every backend must do: memory that is zeroed, aligned and its own, and copies
 * that arrive. What it computes is tested with its kernels (ops.c). */
#include "tandem/kind/backend.h"

#include "check/cases.h"
#include "check/internal.h"

enum { BYTES = 4096 + 17 }; /* more than a page, and not a multiple of anything */

/* Memory of a device: reached by upload and download alone. */
static void check_copies(td_check *c, const td_backend *b, void *state, void *memory,
                         const char *sent, char *back)
{
    MUST(c, !b->download(state, back, memory, BYTES), "download fails");
    for (int k = 0; k < BYTES; k++)
        MUST(c, !back[k], "new memory is not zeroed: byte %d is %d", k, back[k]);
    MUST(c, !b->upload(state, memory, sent, BYTES) && !b->download(state, back, memory, BYTES),
         "upload or download fails");
}

/* Memory of the host: the suite and the planner write to it themselves. */
static void check_host_memory(td_check *c, char *memory, const char *sent, char *back)
{
    MUST(c, !((uintptr_t)memory % 64), "memory is not aligned to 64 bytes");
    for (int k = 0; k < BYTES; k++)
        MUST(c, !memory[k], "new memory is not zeroed: byte %d is %d", k, memory[k]);
    memcpy(memory, sent, BYTES);
    memcpy(back, memory, BYTES);
}

/* Store and fetch, by whichever way this memory is reached. */
static void check_memory(td_check *c, const td_backend *b, void *state)
{
    char  sent[BYTES], back[BYTES];
    void *memory = b->allocate(state, BYTES);
    MUST(c, memory, "allocate returns NULL for %d bytes", BYTES);
    /* one alone would make half of the copies go through the wrong memory */
    MUST(c, !b->upload == !b->download, "it has one of upload and download: give it both or none");
    for (int k = 0; k < BYTES; k++)
        sent[k] = (char)(k * 7 + 1);
    /* device memory must not be touched from here */
    if (b->upload)
        check_copies(c, b, state, memory, sent, back);
    else
        check_host_memory(c, memory, sent, back);
    MUST(c, !memcmp(sent, back, BYTES), "what was stored does not come back");
    b->release(state, memory, BYTES);
}

void td_check_backend(td_check *c)
{
    td_part           part = td_check_part(c);
    const td_backend *b = (const void *)part.plugin;
    void             *state = NULL;
    td_error          e = { 0 };
    char              text[2048] = "";
    int               code = b->open(part.config, td_check_services(c, 2), &state, &e);

    if (code)
        td_check_failure(c, "open", code, &e);
    MUST(c, !code, "it cannot be opened: %s", td_check_error(&e));
    MUST(c, b->real == TD_F32 || b->real == TD_F64, "its .real is %d; it must be TD_F32 or TD_F64",
         b->real);
    check_memory(c, b, state);
    /* called for their crashes: what they write is for people */
    if (b->sync)
        MUST(c, !b->sync(state), "sync fails");
    if (b->describe)
        b->describe(state, text, sizeof text);
    if (b->diagnose)
        b->diagnose(state, text, sizeof text);
    if (b->peak)
        MUST(c, b->peak(state) > 0, "peak returns %g FLOP/s", b->peak(state));
    b->close(state);
}

/* An odd size: a backend may round it up, and must release what it took. */
static void open_backend(td_check *c, void *argument)
{
    const td_part    *part = argument;
    const td_backend *b = (const void *)part->plugin;
    void             *state = NULL, *memory;
    td_error          e = { 0 };
    MUST(c, !b->open(part->config, td_check_services(c, 2), &state, &e), "open fails: %s",
         td_check_error(&e));
    /* NULL is allowed here: what cannot be had does not leak */
    memory = b->allocate(state, 999);
    if (memory)
        b->release(state, memory, 999);
    b->close(state);
}

void td_check_backend_leak(td_check *c)
{
    td_part part = td_check_part(c);
    td_check_need_options(c);
    td_check_leak(c, "opening, allocating and closing", open_backend, &part);
}
