/* doctor.c - `tandem doctor`: what this machine offers tandem, and what is wrong. */
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "base/threads.h"
#include "command.h"
#include "plugin/options.h"
#include "tandem/kind/backend.h"

/* One backend: what it runs on, and what it complains about. Gives the number of complaints. */
static int look_at(td_tool *t, td_registry *r, const td_backend *b, td_pool *pool)
{
    td_arena *arena = td_arena_new();
    td_error  e = { 0 };
    void     *config = arena ? td_options_defaults(r, &b->plugin, arena, &e) : NULL, *state = NULL;
    char      text[2048] = "";
    int       wrong = 0;

    if (!config || b->open(config, td_pool_services(pool), &state, &e)) {
        printf("backend %-12s cannot be opened: %s\n", b->plugin.name, e.text);
        td_arena_free(arena);
        return 1;
    }
    if (b->describe)
        b->describe(state, text, sizeof text);
    printf("backend %-12s %s\n", b->plugin.name, text);
    text[0] = 0;
    if (b->diagnose)
        b->diagnose(state, text, sizeof text);
    if (*text) {
        printf("%s%s", text, text[strlen(text) - 1] == '\n' ? "" : "\n");
        wrong = 1;
    }
    if (b->peak && t->n_plain == 0 && b->real == TD_F32)
        printf("matrix products      %.1f GFLOP/s\n", b->peak(state) * 1e-9);
    b->close(state);
    td_arena_free(arena);
    return wrong;
}

int td_command_doctor(td_tool *t, int argc, char **argv)
{
    static const td_usage usage = { "doctor", "", "What BLAS, threads, instruction set and plugins there are, and what is wrong.",
                                    "tandem doctor", NULL, false };
    td_registry *r;
    td_pool     *pool;
    td_error     e = { 0 };
    char         memory[32];
    int          code, wrong = 0;

    if (!td_tool_parse(t, &usage, argc, argv, &code))
        return code;
    r = td_tool_registry(t);
    pool = r ? td_pool_new(0, t->log, &e) : NULL;
    if (!pool)
        return td_tool_fail(t, &e);
    td_registry_scan(r);
    printf("tandem %s, plugin ABI %d.%d\n", TANDEM_VERSION, TD_ABI_MAJOR, TD_ABI_MINOR);
    printf("processors           %d\n", td_processors());
    printf("memory               %s\n", td_human_bytes(memory, (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE)));
    for (const char *const *p = td_registry_paths(r); p && *p; p++)
        printf("plugins from         %s\n", *p);
    printf("plugins              %zu\n", td_registry_count(r));
    for (size_t i = 0; i < td_registry_refusals(r); i++, wrong++)
        printf("refused: %s\n", td_registry_refusal(r, i));
    for (size_t i = 0; i < td_registry_count(r); i++)
        if (!strcmp(td_registry_plugin(r, i)->kind, TD_BACKEND_KIND))
            wrong += look_at(t, r, (const td_backend *)(const void *)td_registry_plugin(r, i), pool);
    puts(wrong ? "\nsomething above wants attention" : "\nall is well");
    td_pool_free(pool);
    return wrong ? TD_EXIT_FAILED : TD_EXIT_OK;
}
