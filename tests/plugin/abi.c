/* abi.c - the public ABI is stable: sizes, offsets, types, numbers, kinds and ops of the headers
 * are those of abi-1.txt; additions come last, and raise the ABI's minor. */
#include "plugin/layout.h"

#include "plugin/registry.h"
#include "tandem/kind/op.h"

#define INCLUDE TANDEM_SOURCE "/core/include"
#define FROZEN TANDEM_SOURCE "/tests/plugin/abi-1.txt"

static const char policy[] =
    "The plugin ABI is a promise (docs/plugin-abi.md): modules that were built against these "
    "headers keep working. The entries of tests/plugin/abi-1.txt may not change. Fields may be "
    "added "
    "at the end of a kind's struct, of td_host, td_services, td_option and td_module, and of "
    "structs that only the host creates; numbers and ops may be added. Then raise TD_ABI_MINOR "
    "and run this test "
    "with TANDEM_UPDATE=1. Anything else needs a new revision of the kind (\"attention/2\"), or a "
    "new major.";

/* Besides the kinds' structs: tables that state their size, and structs that only the host
 * creates. */
static const char *const growing[] = {
    "td_host",       "td_services",  "td_option",          "td_module",
    "td_call",       "td_split_in",  "td_architecture_in", "td_architecture_out",
    "td_arrange_in", "td_loss_in",   "td_loss_out",        "td_optimizer_in",
    "td_data_in",    "td_logger_in", "td_train_in",        "td_translation",
};

static bool may_grow(const layout *l, const char *name, size_t n)
{
    char        key[200];
    const char *first;
    for (size_t k = 0; k < sizeof growing / sizeof *growing; k++)
        if (strlen(growing[k]) == n && !strncmp(growing[k], name, n))
            return true;
    snprintf(key, sizeof key, "field %.*s.plugin", (int)n, name);
    first = layout_get(l, key);
    return first && !strcmp(first, "0 td_plugin");
}

/* ---- comparing ------------------------------------------------------------------------------- */

typedef struct verdict {
    td_text broken; /* a line for each change that is not allowed */
    td_text added;
} verdict;

static bool begins(const char *key, const char *word)
{
    return !strncmp(key, word, strlen(word)) && key[strlen(word)] == ' ';
}

/* An op may accept other numbers of inputs, in addition to those that it accepted before. */
static bool is_wider(const char *before, const char *now)
{
    int  low, high, new_low, new_high, end = 0, new_end = 0;
    bool both = sscanf(before, "%d %d%n", &low, &high, &end) == 2 &&
                sscanf(now, "%d %d%n", &new_low, &new_high, &new_end) == 2;
    return both && new_low <= low && new_high >= high && !strcmp(before + end, now + new_end);
}

static void compare_line(const layout *old, const layout_line *line, const char *now, verdict *v)
{
    const char *key = line->key, *name = strchr(key, ' ') + 1;
    if (now && !strcmp(now, line->value))
        return;
    if (!now)
        td_text_print(&v->broken, "%s is gone\n", key);
    else if (begins(key, "struct") && atol(now) > atol(line->value) &&
             may_grow(old, name, strlen(name)))
        td_text_print(&v->added, "%s: %s bytes, were %s\n", key, now, line->value);
    else if (!strcmp(name, "TD_ABI_MINOR") && atol(now) > atol(line->value))
        td_text_print(&v->added, "TD_ABI_MINOR %s\n", now);
    else if (begins(key, "op") && is_wider(line->value, now))
        td_text_print(&v->added, "%s: %s, was %s\n", key, now, line->value);
    else
        td_text_print(&v->broken, "%s: is %s, was %s\n", key, now, line->value);
}

/* A new field must lie behind the old struct, including its padding: old modules end there. */
static void compare_added(const layout *old, const layout_line *line, verdict *v)
{
    const char *name = strchr(line->key, ' ') + 1, *size;
    size_t      n = strcspn(name, ".");
    char        owner[200];
    if (layout_get(old, line->key))
        return;
    snprintf(owner, sizeof owner, "struct %.*s", (int)n, name);
    size = begins(line->key, "field") ? layout_get(old, owner) : NULL;
    if (size && !may_grow(old, name, n))
        td_text_print(&v->broken, "%s is new, and %s may not grow\n", line->key, owner);
    else if (size && atol(line->value) < atol(size))
        td_text_print(&v->broken, "%s is new, but not at the end of %s\n", line->key, owner);
    else
        td_text_print(&v->added, "%s %s\n", line->key, line->value);
}

static verdict compare(const layout *old, const layout *now)
{
    verdict     v = { { 0 }, { 0 } };
    const char *minor = layout_get(now, "number TD_ABI_MINOR");
    const char *before = layout_get(old, "number TD_ABI_MINOR");
    for (size_t k = 0; k < old->count; k++)
        compare_line(old, &old->at[k], layout_get(now, old->at[k].key), &v);
    for (size_t k = 0; k < now->count; k++)
        compare_added(old, &now->at[k], &v);
    if (v.added.size && minor && before && atol(minor) <= atol(before))
        td_text_print(&v.broken, "something was added: raise TD_ABI_MINOR above %s\n", before);
    return v;
}

static void verdict_free(verdict *v)
{
    td_text_free(&v->broken);
    td_text_free(&v->added);
}

/* ---- the present layout ---------------------------------------------------------------------- */

static void add_ops(layout *l)
{
    td_registry *r = td_registry_new(NULL, NULL, NULL);
    cr_assert(r);
    for (size_t i = 0; i < td_registry_count(r); i++) {
        const td_op *op = (const void *)td_registry_plugin(r, i);
        char         line[400];
        int          n = snprintf(line, sizeof line, "op %s %d %d flags %llu inplace",
                         op->plugin.name ? op->plugin.name : "", op->min_inputs, op->max_inputs,
                                  (unsigned long long)op->flags);
        for (int k = 0; k < TD_MAX_OUTPUTS; k++)
            n += snprintf(line + n, sizeof line - (size_t)n, " %d", op->inplace[k]);
        n += snprintf(line + n, sizeof line - (size_t)n, " accumulate %d %d", op->accumulate_in,
                      op->accumulate_out);
        layout_add(l, line, (size_t)n);
    }
    td_registry_free(r);
}

static layout *todays(void)
{
    layout *l = layout_of_headers(INCLUDE);
    add_ops(l);
    return l;
}

static void write_frozen(const layout *l)
{
    td_text  text = { 0 };
    td_error e = { 0 };
    td_text_print(&text, "# The frozen plugin ABI; tests/plugin/abi.c says what may change.\n");
    for (size_t k = 0; k < l->count; k++)
        td_text_print(&text, "%s %s\n", l->at[k].key, l->at[k].value);
    cr_assert(!td_file_write(FROZEN, text.data, text.size, &e), "%s", e.text);
    td_text_free(&text);
}

/* abi-1.txt is written when the ABI is frozen (TANDEM_UPDATE=1); until then nothing is promised. */
Test(abi, layout_is_frozen)
{
    char   *text = td_file_read(FROZEN, NULL, NULL);
    bool    update = getenv("TANDEM_UPDATE") != NULL;
    layout *old, *now;
    verdict v;

    if (!text && !update)
        cr_skip_test("the ABI is a draft: there is no " FROZEN);
    old = layout_read(text ? text : "");
    now = todays();
    v = compare(old, now);
    cr_assert(!v.broken.size, "%s\n%s", td_text_get(&v.broken), policy);
    if (update)
        write_frozen(now);
    else
        cr_assert(!v.added.size, "not in abi-1.txt yet:\n%s\n%s", td_text_get(&v.added), policy);
    verdict_free(&v);
    layout_free(now);
    layout_free(old);
    free(text);
}

/* An independent look at the headers: the reader of layout.h must miss no struct. */
Test(abi, every_struct_is_seen)
{
    layout *l = layout_of_headers(INCLUDE);
    char *found = layout_output("cd '" INCLUDE "' && grep -rhoE '^(typedef )?struct td_[a-z0-9_]+ "
                                "\\{' tandem | sed -E 's/.*(td_[a-z0-9_]+).*/\\1/'");
    int   structs = 0;
    for (char *name = strtok(found, "\n"); name; name = strtok(NULL, "\n"), structs++) {
        char key[200];
        snprintf(key, sizeof key, "struct %s", name);
        cr_expect(layout_get(l, key), "layout.h misses '%s'", key);
    }
    for (size_t k = 0; k < l->count; k++)
        structs -= begins(l->at[k].key, "struct");
    cr_expect_eq(structs, 0, "layout.h has %d structs that grep does not find", structs);
    cr_expect(layout_get(l, "field td_op.example") && layout_get(l, "number TD_EEND"));
    cr_expect_str_eq(layout_get(l, "text TD_NORM_KIND"), "\"norm/1\"");
    free(found);
    layout_free(l);
}

/* Modules of every frozen revision are accepted. */
Test(abi, frozen_kinds_are_known)
{
    char   *text = td_file_read(FROZEN, NULL, NULL);
    layout *old;
    if (!text)
        cr_skip_test("the ABI is a draft: there is no " FROZEN);
    old = layout_read(text);
    for (size_t i = 0; i < old->count; i++) {
        const char *value = old->at[i].value;
        bool        known = false;
        if (!begins(old->at[i].key, "text") || !strstr(old->at[i].key, "_KIND"))
            continue;
        for (const td_kind *k = td_kinds(); k->id; k++)
            known |= strlen(value) == strlen(k->id) + 2 &&
                     !strncmp(value + 1, k->id, strlen(k->id));
        cr_expect(known, "%s = %s is no longer a kind: its modules would be refused. %s",
                  old->at[i].key, value, policy);
    }
    layout_free(old);
    free(text);
}

/* ---- the rules themselves -------------------------------------------------------------------- */

static const char before[] = "number TD_ABI_MINOR 0\n"
                             "number TD_MAX_INPUTS 20\n"
                             "struct td_norm 88\n"
                             "field td_norm.plugin 0 td_plugin\n"
                             "field td_norm.build 80 int ( * ) ( int )\n"
                             "struct td_mask 12\n"
                             "field td_mask.causal 0 int\n"
                             "field td_mask.window 8 int\n"
                             "op matmul 2 3 flags 0\n";

/* Expect a verdict on `before` with one text in it replaced. */
static void expect(const char *from, const char *to, const char *broken, const char *added)
{
    char        text[2000];
    const char *at = strstr(before, from);
    layout     *old = layout_read(before), *now;
    verdict     v;
    cr_assert(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - before), before, to, at + strlen(from));
    now = layout_read(text);
    v = compare(old, now);
    cr_expect(*broken ? strstr(td_text_get(&v.broken), broken) != NULL : !v.broken.size,
              "'%s': the verdict is '%s'; expected '%s'", to, td_text_get(&v.broken), broken);
    cr_expect(*added ? strstr(td_text_get(&v.added), added) != NULL : !v.added.size,
              "'%s': added '%s', not '%s'", to, td_text_get(&v.added), added);
    verdict_free(&v);
    layout_free(old);
    layout_free(now);
}

#define NEWER "number TD_ABI_MINOR 1\nnumber TD_MAX_INPUTS 20\n"
#define OLDER "number TD_ABI_MINOR 0\nnumber TD_MAX_INPUTS 20\n"

Test(policy, existing_things_stay)
{
    expect("TD_MAX_INPUTS 20", "TD_MAX_INPUTS 24", "number TD_MAX_INPUTS: is 24, was 20", "");
    expect("number TD_MAX_INPUTS 20\n", "", "number TD_MAX_INPUTS is gone", "");
    expect("td_norm.build 80 int", "td_norm.build 80 double", "field td_norm.build: is 80 double",
           "");
    expect("td_mask.window 8", "td_mask.window 4", "field td_mask.window: is 4 int, was 8 int", "");
    expect("struct td_mask 12", "struct td_mask 16", "struct td_mask: is 16, was 12", "");
    expect("struct td_norm 88", "struct td_norm 80", "struct td_norm: is 80, was 88", "");
    expect("matmul 2 3", "matmul 3 3", "op matmul: is 3 3 flags 0, was 2 3 flags 0", "");
    expect("flags 0", "flags 1", "op matmul: is 2 3 flags 1", "");
}

Test(policy, additions_come_last)
{
    expect("op matmul", "field td_norm.more 84 int\nop matmul",
           "field td_norm.more is new, but not at the end of struct td_norm", "");
    expect("op matmul", "field td_mask.more 12 int\nop matmul",
           "field td_mask.more is new, and struct td_mask may not grow", "");
    expect(OLDER "struct td_norm 88\n", NEWER "struct td_norm 96\nfield td_norm.more 88 int\n", "",
           "field td_norm.more 88 int");
    expect(OLDER, NEWER "number TD_NEW 7\n", "", "number TD_NEW 7");
    expect(OLDER "struct td_norm 88\n",
           NEWER "struct td_new 8\nfield td_new.x 0 int\nstruct td_norm 88\n", "",
           "field td_new.x 0 int");
    expect("op matmul 2 3", "op matmul 2 4", "raise TD_ABI_MINOR", "op matmul: 2 4");
}

Test(policy, additions_raise_the_minor)
{
    expect("op matmul", "number TD_NEW 7\nop matmul",
           "something was added: raise TD_ABI_MINOR above 0", "number TD_NEW 7");
    expect(OLDER, NEWER, "", "TD_ABI_MINOR 1");
    expect("TD_ABI_MINOR 0", "TD_ABI_MINOR -1", "number TD_ABI_MINOR: is -1, was 0", "");
}
