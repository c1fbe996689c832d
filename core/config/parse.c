/* parse.c - the text of a config, or of one override, to settings. The grammar is libconfig's:
 * https://hyperrealm.github.io/libconfig/libconfig_manual.html */
#include "config/parse.h"

#include <ctype.h>
#include <libconfig.h>
#include <stdlib.h>
#include <string.h>

#include "config/scan.h"

/* ---- libconfig's settings to ours ------------------------------------------------------------ */

/* Run names, paths and texts of a config end up in metrics and checkpoints, which are JSON and so
 * UTF-8: refuse other bytes here, where the line is known. */
static const char *take_string(td_arena *arena, const char *text, const td_scan *from, int line)
{
    if (!td_is_utf8(text))
        td_scan_error(from, line, "the string is not valid UTF-8%s",
                      from->has_lines ? ": save the config as UTF-8" : "");
    return td_arena_copy(arena, text);
}

static td_setting *convert(td_arena *arena, const config_setting_t *s, const char *file, int line,
                           const td_scan *from);

/* Depth is limited by the scan, so recursion is safe. */
static bool convert_children(td_arena *arena, const config_setting_t *s, const char *file, int line,
                             const td_scan *from, td_setting *v)
{
    for (int k = 0; k < config_setting_length(s); k++) {
        td_setting *child = convert(arena, config_setting_get_elem(s, (unsigned)k), file, line,
                                    from);
        if (!child)
            return false;
        td_setting_append(v, child);
    }
    return true;
}

/* `line` 0: ask libconfig; the command line has none. NULL when out of memory. */
static td_setting *convert(td_arena *arena, const config_setting_t *s, const char *file, int line,
                           const td_scan *from)
{
    static const int types[] = {
        [CONFIG_TYPE_GROUP] = TD_SETTING_GROUP,   [CONFIG_TYPE_INT] = TD_SETTING_INT,
        [CONFIG_TYPE_INT64] = TD_SETTING_INT,     [CONFIG_TYPE_FLOAT] = TD_SETTING_FLOAT,
        [CONFIG_TYPE_STRING] = TD_SETTING_STRING, [CONFIG_TYPE_BOOL] = TD_SETTING_BOOL,
        [CONFIG_TYPE_ARRAY] = TD_SETTING_LIST,    [CONFIG_TYPE_LIST] = TD_SETTING_LIST
    };
    int         type = config_setting_type(s);
    td_setting *v = td_setting_new(arena, types[type], config_setting_name(s), file,
                                   line ? line : (int)config_setting_source_line(s));
    if (!v)
        return NULL;
    if (type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64) {
        v->integer = config_setting_get_int64(s);
        v->number = (double)v->integer; /* an option of type float takes it */
    } else if (type == CONFIG_TYPE_BOOL) {
        v->integer = config_setting_get_bool(s);
    } else if (type == CONFIG_TYPE_FLOAT) {
        v->number = config_setting_get_float(s);
    } else if (type == CONFIG_TYPE_STRING) {
        v->text = take_string(arena, config_setting_get_string(s), from, v->line);
        return v->text ? v : NULL;
    } else if (!convert_children(arena, s, file, line, from, v)) {
        return NULL;
    }
    return v;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* Report libconfig's error, with advice; for plain syntax errors, with a place to look at. */
static void add_syntax_error(const config_t *c, const td_scan *s)
{
    /* recognized by its words: libconfig has no codes for errors of syntax */
    const char *text = config_error_text(c);
    td_text     out = { 0 };
    if (text && strstr(text, "mismatched element type"))
        text = "an array [ ] holds values of one type only: write mixed values in ( ), and numbers "
               "all with or all without a decimal point";
    else if (text && strstr(text, "duplicate"))
        text = "the same name appears twice in one group: remove one";
    td_text_print(&out, "%s", text ? text : "cannot be parsed");
    if (text && !strcmp(text, "syntax error"))
        td_scan_hint(s, &out);
    td_scan_error(s, config_error_line(c), "%s", td_text_get(&out));
    td_text_free(&out);
}

td_setting *td_setting_parse(td_arena *arena, const char *text, const char *file, td_errors *errors)
{
    td_scan     s = { .where = file, .has_lines = true, .errors = errors, .line = 1 };
    size_t      before = errors->count;
    config_t    c;
    td_setting *v = NULL;
    /* before libconfig, which would crash on what the scan refuses, or misread it */
    if (!td_scan_text(&s, text))
        return NULL;
    if (s.unclosed_comment) { /* libconfig would take the rest of the file for a comment */
        td_scan_error(&s, s.unclosed_comment, "the comment that begins here is not closed: add */");
        return NULL;
    }
    config_init(&c);
    /* without this 1.0 would become an integer: types are checked when options are bound */
    config_set_auto_convert(&c, CONFIG_FALSE);
    if (config_read_string(&c, text))
        v = convert(arena, config_root_setting(&c), file, 0, &s);
    else
        add_syntax_error(&c, &s);
    config_destroy(&c);
    return errors->count == before ? v : NULL;
}

/* ---- key=value ------------------------------------------------------------------------------- */

/* The value of "value = TEXT;"; NULL if that is not one setting. */
static td_setting *parse_line(td_arena *arena, const char *line, td_scan *s)
{
    config_t    c;
    td_setting *v = NULL;
    config_init(&c);
    /* "1; b=2" makes two: no second key may come in that way */
    if (config_read_string(&c, line) && config_setting_length(config_root_setting(&c)) == 1) {
        v = convert(arena, config_setting_get_elem(config_root_setting(&c), 0), NULL, -1, s);
        if (s->unclosed_comment) /* libconfig lets it swallow the rest of the line */
            td_scan_error(s, 0, "the value contains a comment that is not closed: add */");
    }
    config_destroy(&c);
    return v;
}

/* A value in the syntax of configs, or else a bare word: run.name=first needs no quotes, which a
 * shell would eat. NULL when out of memory. */
static td_setting *parse_value(td_arena *arena, const char *path, const char *name,
                               const char *text, td_errors *errors)
{
    size_t      before = errors->count;
    const char *where = td_arena_print(arena, "command line: %s", path),
               *line = td_arena_print(arena, "value = %s;", text);
    td_scan     s = { .where = where, .errors = errors, .line = 1 };
    td_setting *v = NULL;

    if (!line || !where)
        return NULL;
    if (td_scan_text(&s, line))
        v = parse_line(arena, line, &s);
    if (v) {
        v->name = td_arena_copy(arena, name);
        if (!v->text) /* run.name=5: the option may turn out to be a string */
            v->text = td_arena_copy(arena, text);
    } else {
        v = td_setting_new(arena, TD_SETTING_STRING, name, NULL, -1);
        if (v)
            v->text = take_string(arena, text, &s, 0);
    }
    if (v)
        v->wrong = errors->count > before;
    return v;
}

/* NULL, or why `name` cannot be a key and what to do. */
static const char *wrong_key(const char *name)
{
    size_t n = strlen(name);
    if (!n)
        return "write path.to.key=value";
    if (isspace((unsigned char)name[0]) || isspace((unsigned char)name[n - 1]))
        return "remove the spaces around '='";
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && *p != '_' && *p != '-')
            return "keys consist of letters, digits, _ and -";
    return isalpha((unsigned char)*name) || *name == '_' ? NULL : "keys begin with a letter or _";
}

/* One name of a path; `depth` counts from 1. */
static bool check_key(const char *override, const char *name, int depth, td_errors *errors)
{
    /* an item of a list: data.sources.0.rate */
    bool        item = depth > 1 && *name && strlen(name) < 10 && !name[strspn(name, "0123456789")];
    const char *wrong = item ? NULL : wrong_key(name);
    if (wrong)
        td_errors_add(errors, "command line: '%s': '%s' is not a key: %s", override, name, wrong);
    else if (depth > TD_DEEPEST_GROUP)
        td_errors_add(errors, "command line: '%.60s...': groups are nested deeper than %d levels",
                      override, TD_DEEPEST_GROUP);
    return !wrong && depth <= TD_DEEPEST_GROUP;
}

td_setting *td_setting_parse_override(td_arena *arena, const char *override, td_errors *errors)
{
    const char *equals = strchr(override, '=');
    char *path = equals ? td_arena_print(arena, "%.*s", (int)(equals - override), override) : NULL,
         *name, *rest = path ? td_arena_copy(arena, path) : NULL;
    td_setting *top = NULL, *at = NULL;
    int         depth = 0;

    if (!rest) {
        td_errors_add(errors, "command line: '%s' is not key=value (without spaces around the =)",
                      override);
        return NULL;
    }
    /* a.b.c=1 to a = { b = { c = 1; }; };, from outside in */
    while ((name = strsep(&rest, ".")) != NULL) {
        td_setting *v;
        if (!check_key(override, name, ++depth, errors))
            return NULL;
        v = rest ? td_setting_new(arena, TD_SETTING_GROUP, name, NULL, -1)
                 : parse_value(arena, path, name, equals + 1, errors);
        if (!v)
            return NULL;
        if (at)
            td_setting_append(at, v);
        else
            top = v;
        at = v;
    }
    return top;
}
