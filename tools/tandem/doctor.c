/* doctor.c - `tandem doctor`: reports this machine's capabilities, and problems. */
#include <jansson.h>
#include <string.h>

#include "base/machine.h"
#include "base/threads.h"
#include "command.h"
#include "guard.h"
#include "plan/plan.h"
#include "plugin/defaults.h"
#include "plugin/hook.h"
#include "tandem/kind/backend.h"
#include "tandem/kind/op.h"

/* One backend: its hardware, its problems, and its rate of products (0: not measured). */
typedef struct finding {
    char   about[2048], complaint[2048];
    double peak;
    bool   opened, absent; /* absent: this machine lacks the device, which is nobody's mistake */
} finding;

static void look_at(td_registry *r, const td_backend *b, td_pool *pool, finding *f)
{
    td_arena *arena = td_arena_new();
    td_error  e = { 0 };
    void     *config = arena ? td_options_defaults(r, &b->plugin, arena, &e) : NULL, *state = NULL;
    int       code;

    /* opened for real, with its defaults: only this reveals a missing or slow library */
    memset(f, 0, sizeof *f);
    code = config ? TD_HOOK(b, open, config, td_pool_services(pool), &state, &e) : TD_ENOMEM;
    f->opened = !code;
    f->absent = code == TD_EUNSUPPORTED;
    if (f->opened) {
        if (b->describe)
            TD_HOOK(b, describe, state, f->about, sizeof f->about);
        if (b->diagnose)
            TD_HOOK(b, diagnose, state, f->complaint, sizeof f->complaint);
        /* double precision is only for checks, and its rate would take long to measure */
        if (b->peak && td_backend_real(r, b) == TD_F32)
            f->peak = TD_HOOK(b, peak, state);
        TD_HOOK(b, close, state);
    } else
        snprintf(f->complaint, sizeof f->complaint, "%s: %.2000s",
                 f->absent ? "not on this machine" : "cannot be opened", e.text);
    td_arena_free(arena);
}

/* Ops are plugins, too, but no config names one: `plugins list` and this count them apart. */
static size_t count(const td_registry *r, bool ops)
{
    size_t n = 0;
    for (size_t i = 0; i < td_registry_count(r); i++)
        n += !strcmp(td_registry_plugin(r, i)->kind, TD_OP_KIND) == ops;
    return n;
}

/* ---- as text --------------------------------------------------------------------------------- */

static void print_machine(td_registry *r)
{
    char memory[32];
    printf("tandem %s, plugin ABI %d.%d\n", TANDEM_VERSION, TD_ABI_MAJOR, TD_ABI_MINOR);
    printf("processors           %d\n", td_processors());
    printf("memory               %s\n", td_human_bytes(memory, td_memory_bytes()));
    for (const char *const *p = td_registry_paths(r); p && *p; p++)
        printf("plugins from         %s\n", *p);
    printf("plugins              %zu, and %zu ops\n", count(r, false), count(r, true));
    for (size_t i = 0; i < td_registry_refusals(r); i++)
        printf("refused: %s\n", td_registry_refusal(r, i));
}

static void print_backend(const char *name, const finding *f)
{
    size_t length = strlen(f->complaint);
    printf("backend %-12s %s\n", name, f->opened ? f->about : f->complaint);
    if (f->opened && length)
        printf("%s%s", f->complaint, f->complaint[length - 1] == '\n' ? "" : "\n");
    if (f->peak > 0)
        printf("matrix products      %.1f GFLOP/s\n", f->peak * 1e-9);
}

/* ---- as JSON --------------------------------------------------------------------------------- */

static json_t *json_of_machine(td_registry *r)
{
    char    abi[32];
    json_t *paths = json_array(), *refused = json_array();
    snprintf(abi, sizeof abi, "%d.%d", TD_ABI_MAJOR, TD_ABI_MINOR);
    for (const char *const *p = td_registry_paths(r); p && *p; p++)
        json_array_append_new(paths, json_string(*p));
    for (size_t i = 0; i < td_registry_refusals(r); i++)
        json_array_append_new(refused, json_string(td_registry_refusal(r, i)));
    return json_pack("{s:s, s:s, s:i, s:I, s:o, s:I, s:I, s:o, s:o}", "tandem", TANDEM_VERSION,
                     "abi", abi, "processors", td_processors(), "memory",
                     (json_int_t)td_memory_bytes(), "plugin_paths", paths, "plugins",
                     (json_int_t)count(r, false), "ops", (json_int_t)count(r, true), "refused",
                     refused, "backends", json_array());
}

static json_t *json_of_backend(const char *name, const finding *f)
{
    return json_pack("{s:s, s:b, s:s, s:s, s:f}", "name", name, "works", (int)f->opened, "about",
                     f->about, "complaint", f->complaint, "flops_per_second", f->peak);
}

/* ---- the command ----------------------------------------------------------------------------- */

/* Returns the number of problems. If `root` is NULL, prints each backend. */
static size_t look_at_all(td_registry *r, td_pool *pool, json_t *root)
{
    size_t  wrong = td_registry_refusals(r); /* modules that cannot be loaded are problems too */
    finding f;
    for (size_t i = 0; i < td_registry_count(r); i++) {
        const td_plugin *p = td_registry_plugin(r, i);
        if (strcmp(p->kind, TD_BACKEND_KIND))
            continue;
        fflush(stdout); /* a backend that hangs or dies ends the process: keep what is found */
        look_at(r, (const td_backend *)(const void *)p, pool, &f);
        wrong += f.complaint[0] && !f.absent;
        if (root)
            json_array_append_new(json_object_get(root, "backends"), json_of_backend(p->name, &f));
        else
            print_backend(p->name, &f);
    }
    return wrong;
}

const td_usage td_usage_doctor = {
    .name = "doctor",
    .brief = "Report this machine's BLAS, threads, instruction set and plugins, and any problems.",
    .example = "tandem doctor",
    .json = true,
    .notes = "The exit code is 1 if something is wrong.\n",
};

int td_command_doctor(td_tool *t, int argc, char **argv)
{
    td_registry *r;
    td_pool     *pool;
    td_error     e = { 0 };
    json_t      *root;
    int          code;
    size_t       wrong;

    if (!td_tool_parse(t, &td_usage_doctor, argc, argv, &code))
        return code;
    r = td_tool_registry(t);
    pool = r ? td_pool_new(0, t->log, &e) : NULL;
    if (!pool)
        return r ? td_tool_fail(t, &e) : TD_EXIT_USAGE;
    td_guard_hurry();    /* reporting a backend that cannot be opened is the purpose of this
                          * command */
    td_registry_scan(r); /* loads all modules, because only loading shows whether one is refused */
    root = t->json ? json_of_machine(r) : NULL;
    if (!root)
        print_machine(r);
    wrong = look_at_all(r, pool, root);
    if (root) {
        json_object_set_new(root, "well", json_boolean(!wrong));
        json_dumpf(root, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(root);
    } else
        puts(wrong ? "\nsomething above needs attention" : "\nall is well");
    td_pool_free(pool);
    return wrong ? TD_EXIT_FAILED : TD_EXIT_OK;
}
