/* check.c - runs a test, collects its findings, and closes everything that it opened.
 *
 * Tests stop by longjmp, because deep in a comparison there is nothing sensible to return. Their
 * memory belongs to the arena or is never freed: the process ends with the test. Devices, pools and
 * configs are closed here.
 */
#include <malloc.h>
#include <stdarg.h>

#include "check/internal.h"
#include "check/cases.h"
#include "plugin/hook.h"

/* ---- cases ----------------------------------------------------------------------------------- */

/* clang-format off */
#define CASE(kind, name, function, brief) { kind, name, brief, function, 1 },
#define CASE_OF_RANKS(kind, name, function, brief) { kind, name, brief, function, TD_CHECK_RANKS },
static const td_check_case cases[] = {
#include "check/cases.def"
    { NULL, NULL, NULL, NULL, 0 },
};
#undef CASE_OF_RANKS
#undef CASE
/* clang-format on */

const td_check_case *td_check_cases(void) { return cases; }

bool td_check_applies(const td_check_case *t, const char *kind)
{
    size_t length = t->kind ? strlen(t->kind) : 0; /* kinds carry a revision: "norm/1" */
    return !t->kind || (!strncmp(kind, t->kind, length) && kind[length] == '/');
}

void td_check_close(td_check *c)
{
    /* backends before the pools that they run on */
    for (size_t k = 0; k < c->n_opened; k++)
        c->opened[k].backend->close(c->opened[k].state);
    for (size_t k = 0; k < sizeof c->pools / sizeof *c->pools; k++) {
        td_pool_free(c->pools[k]);
        c->pools[k] = NULL;
    }
    td_experiment_close(c->experiment);
    td_config_free(c->own);
    c->own = NULL;
    td_arena_free(c->arena);
    c->experiment = NULL;
    c->arena = NULL;
    c->n_opened = 0;
}

static void note_change(void *argument, const char *text)
{
    td_check_finding(argument, "%s", text);
}

void td_check_listen(td_check *c) { td_hook_listen(note_change, c); }

void td_check_run(td_check *c, const td_check_case *t)
{
    /* Tests call hooks directly: their changes are found after the test. */
    td_hook all = { .plugin = c->plugin, .name = t->name, .what = "test" };
    td_check_listen(c);
    td_hook_enter(&all);
    c->arena = td_arena_new();
    if (!c->arena)
        td_check_finding(c, "out of memory");
    else if (!setjmp(c->stop)) /* td_check_stop returns here, from any depth */
        t->run(c);
    td_hook_unwind(&all);
    td_check_close(c);
}

void td_check_clear(td_check *c)
{
    td_text_free(&c->findings);
    td_text_free(&c->skipped);
    c->n_findings = 0;
}

/* ---- findings -------------------------------------------------------------------------------- */

/* Messages may quote any bytes of a plugin, and findings are passed on as JSON, which must be
 * UTF-8. */
static void add_text(td_text *to, const char *format, va_list args, const char *end)
{
    char text[1200];
    vsnprintf(text, sizeof text, format, args);
    td_make_utf8(text);
    td_text_print(to, "%s%s", text, end);
}

void td_check_finding(td_check *c, const char *format, ...)
{
    va_list args;
    if (c->n_findings++ >= TD_CHECK_FINDINGS)
        return;
    va_start(args, format);
    add_text(&c->findings, format, args, "\n");
    va_end(args);
}

void td_check_stop(td_check *c) { longjmp(c->stop, 1); }

void td_check_skip(td_check *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (!c->n_findings && !*td_text_get(&c->skipped))
        add_text(&c->skipped, format, args, "");
    va_end(args);
    td_check_stop(c);
}

const char *td_check_error(const td_error *e) { return e->code ? e->text : "(without a message)"; }

void td_check_failure(td_check *c, const char *hook, int code, const td_error *e)
{
    if (code > 0)
        td_check_finding(c, "%s returns %d: it must return 0 or a negative td_status", hook, code);
    else if (!e->code || !*e->text)
        td_check_finding(c, "%s fails with %d and no message: report what is wrong through td_fail",
                         hook, code);
}

/* ---- what tests need ------------------------------------------------------------------------- */

const td_services *td_check_services(td_check *c, int threads)
{
    td_error  e = { 0 };
    td_pool **pool = &c->pools[threads];
    if (!*pool)
        *pool = td_pool_new(threads, NULL, &e);
    MUST(c, *pool, "%s", td_check_error(&e));
    td_pool_set_shipped(*pool, c->shipped);
    return td_pool_services(*pool);
}

int td_check_open_backend(td_check *c, const td_part *part, int threads, td_device *out,
                          td_error *e)
{
    int code;
    *out = (td_device){ .registry = c->registry,
                        .backend = (const void *)part->plugin,
                        .services = td_check_services(c, threads) };
    MUST(c, c->n_opened < TD_CHECK_DEVICES, "the test opens more than %d backends",
         TD_CHECK_DEVICES);
    code = out->backend->open(part->config, out->services, &out->state, e);
    if (!code)
        c->opened[c->n_opened++] = *out;
    return code;
}

void td_check_close_device(td_check *c, const td_device *d)
{
    size_t k = 0;
    while (k < c->n_opened &&
           (c->opened[k].backend != d->backend || c->opened[k].state != d->state))
        k++;
    MUST(c, k < c->n_opened, "a backend is closed twice");
    d->backend->close(d->state);
    c->opened[k] = c->opened[--c->n_opened];
}

/* The first backend in `real` that opens; `apart`: with memory of its own. */
static bool first_device(td_check *c, int real, bool apart, int threads, td_device *d, td_error *e)
{
    for (size_t i = 0; i < td_registry_count(c->registry); i++) {
        const td_plugin  *p = td_registry_plugin(c->registry, i);
        const td_backend *b = (const void *)p;
        td_part           part;
        if (!td_check_is_kind(p, TD_BACKEND_KIND) || td_backend_real(c->registry, b) != real ||
            !b->upload == apart)
            continue;
        part = td_check_default(c, TD_BACKEND_KIND, p->name);
        if (!td_check_open_backend(c, &part, threads, d, e))
            return true;
    }
    return false;
}

td_device td_check_device(td_check *c, int real, int threads)
{
    td_error  e = { 0 };
    td_device d;
    td_registry_scan(c->registry);
    /* tests read single elements, which takes a device's queue longest */
    for (int apart = 0; apart < 2; apart++)
        if (first_device(c, real, apart, threads, &d, &e))
            return d;
    td_check_finding(c, "no backend that computes in %s can be opened%s%s",
                     real == TD_F64 ? "double" : "float", e.code ? ": " : "", e.text);
    td_check_stop(c);
}

/* ---- elements of variables ------------------------------------------------------------------- */

double td_check_get(td_check *c, const td_device *d, const td_variable *v, int64_t n)
{
    double   x = 0;
    td_error e = { 0 };
    MUST(c, !td_variable_read(v, d, td_device_real(d), n, 1, &x, &e), "%s", td_check_error(&e));
    return x;
}

void td_check_set(td_check *c, const td_device *d, td_variable *v, int64_t n, double x)
{
    td_error e = { 0 };
    MUST(c, !td_variable_write(v, d, td_device_real(d), n, 1, &x, &e), "%s", td_check_error(&e));
}

/* Doubles hold every element exactly, integers too. */
uint64_t td_check_hash(td_check *c, const td_device *d, const td_variable *v, uint64_t h)
{
    double  *x = malloc((size_t)v->count * sizeof *x + 1);
    td_error e = { 0 };
    int      code = TD_ENOMEM;
    if (x)
        code = td_variable_read(v, d, td_device_real(d), 0, v->count, x, &e);
    if (!code)
        h = td_hash(h, x, (size_t)v->count * sizeof *x);
    free(x);
    MUST(c, !code, "'%s' cannot be read: %s", v->name,
         code == TD_ENOMEM ? "out of memory" : td_check_error(&e));
    return h;
}

const char *td_check_directory(td_check *c)
{
    td_error e = { 0 };
    char    *path = td_temporary_directory("tandem-check", &e), *copy;
    MUST(c, path, "%s", td_check_error(&e));
    copy = td_arena_copy(c->arena, path);
    free(path);
    MUST(c, copy, "out of memory");
    return copy;
}

/* ---- leaks ----------------------------------------------------------------------------------- */

size_t td_check_heap(void)
{
#ifdef TANDEM_SANITIZED
    return 0; /* the sanitizer's own report finds leaks */
#else
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
#endif
}

/* A leak grows in every round; caches and pools that only warm up stop growing. The smallest
 * growth of all rounds is reported. */
void td_check_leak(td_check *c, const char *what, void (*f)(td_check *, void *), void *argument)
{
    /* many repetitions, so that a few bytes each stand out */
    enum { ROUNDS = 5, TIMES = 20 };
    /* malloc's smallest chunk has 32 bytes. Growth of less than half of that per repetition is not
     * a leak: free lists fill up where sizes vary, for example with a time written as text. */
    const size_t noise = TIMES * 16;
    size_t       least = SIZE_MAX;
    for (int round = 0; round < ROUNDS; round++) {
        size_t before = td_check_heap(), after;
        for (int k = 0; k < TIMES; k++)
            f(c, argument);
        after = td_check_heap();
        least = after > before ? (after - before < least ? after - before : least) : 0;
        if (least < noise)
            return;
    }
    td_check_finding(c, "%s leaks: every %d repetitions take %zu more bytes", what, TIMES, least);
}
