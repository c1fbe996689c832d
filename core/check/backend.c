/* backend.c - requirements on every backend: zeroed, aligned memory that nothing else uses, and
 * copies that return the stored bytes. Its arithmetic is tested with its kernels (ops.c). */
#include "tandem/kind/backend.h"

#include "check/cases.h"
#include "check/internal.h"

enum { BYTES = 4096 + 17 }; /* more than a page, and an odd size */

/* Memory of a device: it can be reached only by upload and download. */
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

/* Stores and fetches bytes, by upload and download or directly. */
static void check_memory(td_check *c, const td_backend *b, void *state)
{
    char  sent[BYTES], back[BYTES];
    void *memory = b->allocate(state, BYTES);
    MUST(c, memory, "allocate returns NULL for %d bytes", BYTES);
    /* one alone would make half of the copies go through the wrong memory */
    MUST(c, !b->upload == !b->download,
         "it has only one of upload and download: provide both or neither");
    for (int k = 0; k < BYTES; k++)
        sent[k] = (char)(k * 7 + 1);
    /* device memory must not be touched from here */
    if (b->upload)
        check_copies(c, b, state, memory, sent, back);
    else
        check_host_memory(c, memory, sent, back);
    MUST(c, !memcmp(sent, back, BYTES), "the bytes read back differ from those stored");
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

    /* not its fault: this machine lacks the device */
    if (code == TD_EUNSUPPORTED)
        td_check_skip(c, "it cannot be used here: %s", td_check_error(&e));
    if (code)
        td_check_failure(c, "open", code, &e);
    MUST(c, !code, "it cannot be opened: %s", td_check_error(&e));
    check_memory(c, b, state);
    /* called only to check that they do not crash: their text is for users */
    if (b->sync)
        MUST(c, !b->sync(state), "sync fails");
    if (b->describe)
        b->describe(state, text, sizeof text);
    if (b->diagnose)
        b->diagnose(state, text, sizeof text);
    if (b->peak)
        MUST(c, b->peak(state) > 0, "peak returns %g FLOP/s", b->peak(state));
    if (b->peak_bf16)
        MUST(c, b->peak_bf16(state) > 0, "peak_bf16 returns %g FLOP/s", b->peak_bf16(state));
    b->close(state);
}

/* An odd size: a backend may round it up, and must release all of it. */
static void open_backend(td_check *c, void *argument)
{
    const td_part    *part = argument;
    const td_backend *b = (const void *)part->plugin;
    void             *state = NULL, *memory;
    td_error          e = { 0 };
    int               code = b->open(part->config, td_check_services(c, 2), &state, &e);
    if (code == TD_EUNSUPPORTED)
        td_check_skip(c, "it cannot be used here: %s", td_check_error(&e));
    MUST(c, !code, "open fails: %s", td_check_error(&e));
    /* NULL is allowed here: memory that was not granted cannot leak */
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
