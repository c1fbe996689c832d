/* refusals.c - each way for a module to be unusable has its own message, and does not affect the
 * module next to it. */
#include "plugin/scratch.h"

#include <elf.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "plugin/module.h"
#include "plugin/defaults.h"
#include "plugin/registry.h"
#include "tandem/kind/logger.h"
#include "tandem/kind/op.h"
#include "tandem/kind/schedule.h"

typedef struct refusal {
    const char *file, *says;
} refusal;

static const refusal refusals[] = {
    { "no-symbol.so", "it exports no symbol 'tandem_module'; end the source with TD_MODULE(...)" },
    { "wrong-magic.so", "its tandem_module begins with 0x12345678, not 0x4d444e54" },
    { "other-major.so",
      "is built for plugin ABI 2.1; this tandem has 1.1: update tandem, or rebuild it against" },
    { "older-major.so",
      "is built for plugin ABI 0.1; this tandem has 1.1: rebuild it against this tandem's" },
    { "newer-minor.so", "needs the newer plugin ABI 1.2; this tandem has 1.1: update tandem" },
    { "older-minor.so", "is built for plugin ABI 1.0, a draft that this tandem, which has 1.1, no "
                        "longer runs: rebuild it" },
    { "short-module.so",
      "its tandem_module declares a size of 24 bytes; expected 56: use TD_MODULE" },
    { "no-module-name.so", "its 'tandem_module' has no name: use TD_MODULE" },
    { "undefined-symbol.so",
      "undefined symbol: defined_nowhere (link the library that defines it into the module)" },
    { "undefined-tandem.so",
      "undefined symbol: td_scale_ (tandem's headers do not declare this function" },
    { "unknown-kind.so",
      "plugin 'fixture' has the unknown kind 'weather/1' (kinds: architecture, attention, " },
    { "other-revision.so", "plugin 'fixture' has kind 'schedule/7'; this tandem has "
                           "'schedule/1': update tandem, or rebuild" },
    { "older-revision.so", "plugin 'fixture' has kind 'schedule/0'; this tandem has 'schedule/1': "
                           "port it to the current tandem/kind/schedule.h and rebuild it" },
    { "no-revision.so",
      "plugin 'fixture' has kind 'schedule', without a revision; this tandem has 'schedule/1': "
      "use the macro of tandem/kind/schedule.h" },
    { "no-kind.so", "a plugin has no kind or no name: use TD_PLUGIN" },
    { "no-name.so", "a plugin has no kind or no name: use TD_PLUGIN" },
    { "empty-name.so", "a plugin has no kind or no name: use TD_PLUGIN" },
    { "slash-name.so",
      "the plugin name 'a/b' is longer than 64 bytes or contains a slash, a space or a quote" },
    { "tiny-plugin.so", "plugin 'fixture' declares a struct of 8 bytes" },
    { "newer-plugin.so",
      "plugin 'fixture' has a newer 'schedule/1' (96 bytes) than this tandem (88): update tandem" },
    { "missing-hook.so", "plugin 'fixture' of kind 'schedule/1' has no 'rate': set it" },
    { "hook-cut-off.so", "plugin 'fixture' of kind 'schedule/1' has no 'rate': set it" },
    { "replaces-op.so", "op/1 'matmul' is built in and cannot be replaced: choose another name" },
    { "op-inputs.so", "op 'wide' must have 0 <= min_inputs <= max_inputs <= TD_MAX_INPUTS" },
    { "op-inputs-few.so", "op 'wide' must have 0 <= min_inputs <= max_inputs <= TD_MAX_INPUTS" },
    { "op-inplace.so", "op 'wide' writes in place to an input that it does not have" },
    { "op-no-effect.so", "op 'wide' writes in place without TD_OP_EFFECT" },
    { "op-accumulate.so", "op 'wide' accumulates an input" },
    { "op-accumulate-out.so", "accumulates an input, or into an output, that it does not have" },
    { "op-view.so", "op 'wide' sets TD_OP_VIEW, which is reserved for built-in ops" },
    { "comm-no-wait.so", "comm 'fixture' names a backend, but lacks a hook for its memory" },
    { "kernel-size.so", "kernels 'fixture': row 0 declares a size of 8 bytes" },
    { "kernel-no-run.so", "kernels 'fixture': row 0 lacks an op or a function to run" },
    { "fusion-size.so", "kernels 'fixture': fusion 0 declares a size of 8 bytes" },
    { "fusion-no-run.so", "kernels 'fixture': fusion 0 lacks a name, `takes` or `run`" },
    { "config-large.so",
      "plugin 'fixture' declares a config struct of 4611686018427387904 bytes; the "
      "limit is 1048576: use TD_PLUGIN" },
    { "config-wraps.so", "declares a config struct of 18446744073709551615 bytes" },
    { "no-plugins.so", "lists no plugins: name them at the end of TD_MODULE" },
    { "plugin-twice.so", "lists schedule/1 'fixture' twice: name it once" },
    { "option-plugin.so", "option 0 ('plugin') has the name of the key that chooses the plugin" },
    { "option-dot.so", "option 0 ('a.b') has a name that a config cannot contain" },
    { "option-space.so", "option 0 ('a b') has a name that a config cannot contain" },
    { "options-many.so", "option 200 ('e') is one too many: a table can have 200 options" },
    { "row-size.so",
      "plugin 'fixture' declares option rows of 4 bytes; they have 96 here: use TD_PLUGIN" },
    { "option-outside.so", "option 0 ('far') lies outside the config struct" },
    { "option-overlaps-end.so", "option 0 ('far') lies outside the config struct" },
    { "option-wraps.so", "option 0 ('far') lies outside the config struct" },
    { "option-misaligned.so", "option 0 ('odd') is misaligned for its type" },
    { "option-twice.so", "option 1 ('peak') appears twice" },
    { "option-no-name.so", "option 0 ('') has no name" },
    { "option-type.so", "option 0 ('odd') has an unknown type" },
    { "default-outside.so", "option 0 ('peak') has a default outside its range" },
    { "default-nan.so", "option 0 ('peak') has a default outside its range" },
    { "choice-without.so", "option 0 ('which') has no choices" },
    { "parts-without.so", "option 0 ('parts') has no choices" },
    { "list-without.so", "option 0 ('items') has no table for its items" },
    { "program", "is an ELF file of type 2, not a shared object: link it with cc -shared -fPIC" },
};

enum { REFUSALS = sizeof refusals / sizeof *refusals };

static td_registry *open_registry(const char *first, const char *second)
{
    const char  *paths[] = { first, second, NULL };
    td_error     e = { 0 };
    td_registry *r = td_registry_new(paths, NULL, &e);
    cr_assert(r, "%s", e.text);
    return r;
}

/* A directory with this file and a good one: the file is refused, by name, and the other module
 * works. */
static void expect_refused(const char *from, const char *says)
{
    scratch      s = scratch_new();
    td_error     e = { 0 };
    char         path[256];
    td_registry *r;

    copy_to(&s, from, "bad.so");
    copy_to(&s, FIXTURE("older.so"), "good.so");
    r = open_registry(s.path, NULL);
    td_registry_scan(r);
    cr_expect_eq(td_registry_refusals(r), 1, "%s: %zu refusals", from, td_registry_refusals(r));
    for (size_t i = 0; i < td_registry_refusals(r); i++) {
        const char *text = td_registry_refusal(r, i);
        cr_expect(strstr(text, says), "%s: '%s' does not say '%s'", from, text, says);
        cr_expect(strstr(text, scratch_path(&s, "bad.so", path)), "%s: '%s' does not name the file",
                  from, text);
    }
    cr_expect(!td_registry_find(r, TD_SCHEDULE_KIND, "fixture", &e));
    cr_expect(e.code == TD_EPLUGIN && strstr(e.text, says),
              "%s: when requested, the plugin is missing because of '%s'", from, e.text);
    cr_expect(td_registry_find(r, TD_LOGGER_KIND, "older", NULL),
              "%s: the other module is refused too", from);
    td_registry_free(r);
    scratch_free(&s);
}

Test(refusals, modules)
{
    unsetenv("TANDEM_FIXTURE_RAN");
    for (size_t i = 0; i < REFUSALS; i++) {
        char path[512];
        snprintf(path, sizeof path, FIXTURE("%s"), refusals[i].file);
        expect_refused(path, refusals[i].says);
    }
    cr_expect(!getenv("TANDEM_FIXTURE_RAN"),
              "code of a module was run although its data rules it out");
}

Test(refusals, the_command_prints_the_same)
{
    for (size_t i = 0; i < REFUSALS; i++) {
        char arguments[600], said[4096];
        int  code;
        snprintf(arguments, sizeof arguments, "plugins check '" FIXTURE("%s") "'",
                 refusals[i].file);
        code = run_tool(arguments, said, sizeof said);
        cr_expect_eq(code, 1, "%s: exit code %d: %s", refusals[i].file, code, said);
        cr_expect(strstr(said, refusals[i].says), "%s: '%s' does not say '%s'", refusals[i].file,
                  said, refusals[i].says);
    }
}

/* ---- files that are not shared objects, or only a part of one -------------------------------- */

static void refuse_bytes(const void *data, size_t size, const char *says)
{
    scratch s = scratch_new();
    char    path[256];
    write_all(&s, "bytes", data, size);
    expect_refused(scratch_path(&s, "bytes", path), says);
    scratch_free(&s);
}

Test(refusals, files_that_are_not_elf)
{
    static const char script[] =
        "#!/bin/sh\necho 'a plugin of many more bytes than an ELF header has'\n";
    refuse_bytes(script, sizeof script - 1, "it is not a shared object (ELF)");
    refuse_bytes("", 0, "it is not a shared object (ELF)");
    refuse_bytes("\177ELF", 4, "it is not a shared object (ELF)");
}

/* The part that the loader maps ends here; only debug data and section headers come after it. */
static size_t end_of_segments(const char *data)
{
    Elf64_Ehdr h;
    size_t     end = 0;
    memcpy(&h, data, sizeof h);
    for (size_t k = 0; k < h.e_phnum; k++) {
        Elf64_Phdr p;
        memcpy(&p, data + h.e_phoff + k * sizeof p, sizeof p);
        if (p.p_type == PT_LOAD && p.p_offset + p.p_filesz > end)
            end = p.p_offset + p.p_filesz;
    }
    return end;
}

Test(refusals, a_module_cut_off)
{
    size_t size, end;
    char  *data = read_all(FIXTURE("good.so"), &size);
    end = end_of_segments(data);
    cr_assert(end > 1009 && end <= size);
    for (size_t k = 1; k < 7; k++)
        refuse_bytes(data, end * k / 7, "is truncated or damaged");
    refuse_bytes(data, sizeof(Elf64_Ehdr), "is truncated or damaged");
    refuse_bytes(data, sizeof(Elf64_Ehdr) - 1, "it is not a shared object (ELF)");
    refuse_bytes(data, end - 1, "is truncated or damaged");
    free(data);
}

Test(refusals, another_machine)
{
    size_t size;
    char  *data = read_all(FIXTURE("good.so"), &size);
    data[offsetof(Elf64_Ehdr, e_machine)] = (char)EM_RISCV;
    data[offsetof(Elf64_Ehdr, e_machine) + 1] = 0;
    refuse_bytes(data, size, "is built for another machine (ELF machine 243): rebuild it");
    free(data);
}

Test(refusals, not_a_file)
{
    td_error e = { 0 };
    cr_expect_eq(td_module_inspect("/no/such/module.so", &e), TD_EPLUGIN);
    cr_expect(strstr(e.text, "'/no/such/module.so'"), "%s", e.text);
    e.code = 0;
    cr_expect_eq(td_module_inspect("/tmp", &e), TD_EPLUGIN);
    cr_expect(strstr(e.text, "not a regular file"), "%s", e.text);
}

/* ---- the same plugin twice ------------------------------------------------------------------- */

Test(duplicates, of_one_directory_are_refused)
{
    scratch      s = scratch_new();
    td_error     e = { 0 };
    char         arguments[256], said[4096];
    td_registry *r;

    copy_to(&s, FIXTURE("good.so"), "one.so");
    copy_to(&s, FIXTURE("other.so"), "two.so");
    r = open_registry(s.path, NULL);
    cr_expect(!td_registry_find(r, TD_SCHEDULE_KIND, "fixture", &e));
    cr_expect(strstr(e.text, "schedule/1 'fixture' is in both"), "%s", e.text);
    cr_expect(strstr(e.text, "one.so") && strstr(e.text, "two.so"), "%s", e.text);
    td_registry_free(r);

    snprintf(arguments, sizeof arguments, "plugins show schedule fixture --plugin-path %s", s.path);
    cr_expect_eq(run_tool(arguments, said, sizeof said), 2, "%s", said);
    cr_expect(strstr(said, "one.so") && strstr(said, "two.so"), "%s", said);
    snprintf(arguments, sizeof arguments, "plugins list schedule --plugin-path %s", s.path);
    cr_expect_eq(run_tool(arguments, said, sizeof said), 0, "usable plugins are still listed: %s",
                 said);
    cr_expect(strstr(said, "is in both") && strstr(said, "cosine"), "%s", said);
    scratch_free(&s);
}

/* Finding the file of that name does not end the search of its directory. */
Test(duplicates, one_valid_name_among_others)
{
    scratch      s = scratch_new();
    td_error     e = { 0 };
    td_registry *r;
    copy_to(&s, FIXTURE("good.so"), "schedule-fixture.so");
    copy_to(&s, FIXTURE("other.so"), "two.so");
    r = open_registry(s.path, NULL);
    cr_expect(!td_registry_find(r, TD_SCHEDULE_KIND, "fixture", &e));
    cr_expect(strstr(e.text, "schedule-fixture.so") && strstr(e.text, "two.so"), "%s", e.text);
    cr_expect(td_registry_find(r, TD_SCHEDULE_KIND, "cosine", NULL), "others are not touched");
    td_registry_free(r);
    scratch_free(&s);
}

static void expect_version(const char *first, const char *second, const char *version)
{
    td_registry     *r = open_registry(first, second);
    const td_plugin *p = td_registry_find(r, TD_SCHEDULE_KIND, "fixture", NULL);
    cr_assert(p);
    cr_expect_str_eq(td_registry_module(r, p)->module->version, version);
    td_registry_scan(r);
    cr_expect_eq(td_registry_refusals(r), 0, "the later one is not an error");
    cr_expect_eq(td_registry_find(r, TD_SCHEDULE_KIND, "fixture", NULL), p);
    td_registry_free(r);
}

Test(duplicates, of_two_directories_the_first_wins)
{
    scratch a = scratch_new(), b = scratch_new();
    copy_to(&a, FIXTURE("good.so"), "schedule-fixture.so");
    copy_to(&b, FIXTURE("other.so"), "schedule-fixture.so");
    expect_version(a.path, b.path, "1.0");
    expect_version(b.path, a.path, "other");
    scratch_free(&a);
    scratch_free(&b);
}

Test(duplicates, a_file_by_another_name_counts_as_much)
{
    scratch a = scratch_new(), b = scratch_new();
    copy_to(&a, FIXTURE("good.so"), "any.so");
    copy_to(&b, FIXTURE("other.so"), "schedule-fixture.so");
    expect_version(a.path, b.path, "1.0");
    expect_version(b.path, a.path, "other");
    scratch_free(&a);
    scratch_free(&b);
}

/* ---- odd modules that are accepted ----------------------------------------------------------- */

Test(older, missing_hooks_are_null)
{
    td_registry     *r = open_registry(TANDEM_FIXTURES "/modules", NULL);
    const td_logger *p = (const void *)td_registry_find(r, TD_LOGGER_KIND, "older", NULL);
    td_arena        *arena = td_arena_new();
    td_part          part = { 0 };
    td_error         e = { 0 };

    cr_assert(p);
    cr_expect(p->open && p->close && p->write);
    cr_expect_null(p->flush,
                   "it has no such hook: the bytes behind the older struct must not be taken for "
                   "one");
    cr_expect(!td_part_defaults(r, TD_LOGGER_KIND, "older", arena, &part, &e), "%s", e.text);
    cr_expect_eq(((const int64_t *)part.config)[0], 7);
    cr_expect_eq(((const double *)part.config)[1], 0.25);
    td_arena_free(arena);
    td_registry_free(r);
}

Test(mode, the_floating_point_mode_stays)
{
#if defined(__SSE__)
    scratch      s = scratch_new();
    td_registry *r;
    char         said[4096];
    unsigned     before = _mm_getcsr() & ~0x3fu;

    copy_to(&s, FIXTURE("flush-to-zero.so"), "schedule-fixture.so");
    r = open_registry(s.path, NULL);
    cr_expect(td_registry_find(r, TD_SCHEDULE_KIND, "fixture", NULL), "it may be used");
    cr_expect_eq(_mm_getcsr() & ~0x3fu, before);
    td_registry_free(r);
    cr_expect_eq(run_tool("plugins check '" FIXTURE("flush-to-zero.so") "'", said, sizeof said), 1,
                 "%s", said);
    cr_expect(strstr(said, "changes the flushing of denormal numbers (-ffast-math"), "%s", said);
    scratch_free(&s);
#endif
}

Test(good, a_correct_module_has_no_findings)
{
    char said[4096];
    cr_expect_eq(run_tool("plugins check '" FIXTURE("good.so") "'", said, sizeof said), 0, "%s",
                 said);
    cr_expect(strstr(said, ", 0 with findings"), "%s", said);
    cr_expect_null(strstr(said, "denormal"), "%s", said);
}

/* ---- modules that go wrong later ------------------------------------------------------------- */

static void expect_wrong(const char *norm, const char *says)
{
    char arguments[900], said[4096];
    snprintf(
        arguments, sizeof arguments,
        "describe -c '%s/configs/nano/decllm.cfg' --plugin-path '%s/wrong' model.norm.plugin=%s",
        TANDEM_SOURCE, TANDEM_FIXTURES, norm);
    cr_expect_eq(run_tool(arguments, said, sizeof said), 2, "%s: %s", norm, said);
    cr_expect(strstr(said, says), "%s: '%s' does not say '%s'", norm, said, says);
}

Test(wrong, no_tensor_is_an_error_of_the_graph)
{
    expect_wrong("empty", "norm 'empty': hook 'build' returned NULL; it must return a tensor");
}

Test(wrong, a_plugin_that_is_its_own_default)
{
    td_registry *r = open_registry(TANDEM_FIXTURES "/wrong", NULL);
    td_arena    *arena = td_arena_new();
    td_part      part = { 0 };
    td_error     e = { 0 };
    expect_wrong("endless", "option 'part': parts are nested more than 32 deep");
    cr_expect(td_part_defaults(r, "norm/1", "endless", arena, &part, &e));
    cr_expect(strstr(e.text, "more than 32 deep: is it its own default?"), "%s", e.text);
    td_arena_free(arena);
    td_registry_free(r);
}

Test(wrong, a_check_without_a_message)
{
    expect_wrong("silent", "norm 'silent': its 'check' rejected these options without a message");
}

/* ---- before there is a module ---------------------------------------------------------------- */

/* The compiler's message for a field of the wrong type, which would be written past its end. */
Test(refusals, a_field_of_the_wrong_type_does_not_compile)
{
    static const char source[] =
        "#include \"tandem/kind/norm.h\"\nstruct c { int x; };\nconst td_option options[] = { "
        "TD_OPTION_INT(struct c, x, 1, 0, 1, \"doc\"), TD_OPTION_END };\n";
    char  command[1000], text[4000] = "";
    FILE *p;
    snprintf(command, sizeof command,
             "printf '%%s' '%s' | cc -std=c11 -fsyntax-only -x c -I '%s/core/include' - 2>&1",
             source, TANDEM_SOURCE);
    p = popen(command, "r");
    cr_assert(p);
    text[fread(text, 1, sizeof text - 1, p)] = 0;
    cr_expect(pclose(p) != 0);
    cr_expect(strstr(text, "of an option of this type must be: int64_t x"), "%s", text);
}
