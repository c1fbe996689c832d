/* parse.c - libconfig text to a tree, with what libconfig 1.5 does not check: integers that do not
 * fit, deep nesting. */
#include <ctype.h>
#include <errno.h>
#include <libconfig.h>
#include <stdlib.h>
#include <string.h>

#include "config/value.h"

enum { DEEPEST = 32 };

td_value *td_value_new(td_arena *arena, int type, const char *name, const char *file, int line)
{
    td_value *v = td_arena_alloc(arena, sizeof *v);
    if (v)
        v->type = type, v->name = name ? td_arena_copy(arena, name) : "", v->file = file,
        v->line = line;
    if (v)
        v->origin = file ? td_arena_print(arena, "%s:%d", file, line) : "command line";
    return v && v->name && v->origin ? v : NULL;
}

void td_value_append(td_value *parent, td_value *child)
{
    child->next = NULL;
    if (parent->last)
        parent->last->next = child;
    else
        parent->first = child;
    parent->last = child;
}

td_value *td_value_child(const td_value *group, const char *name)
{
    for (td_value *v = group ? group->first : NULL; v; v = v->next)
        if (!strcmp(v->name, name))
            return v;
    return NULL;
}

/* ---- the text, before libconfig sees it ------------------------------------------------------ */

/* Skip a comment or a string at `p`; NULL if there is none. */
static const char *skip(const char *p, int *line)
{
    const char *end;
    if (*p == '#' || (p[0] == '/' && p[1] == '/'))
        return p + strcspn(p, "\n");
    if (p[0] == '/' && p[1] == '*') {
        end = strstr(p + 2, "*/");
        end = end ? end + 2 : p + strlen(p);
    } else if (*p == '"') {
        for (end = p + 1; *end && *end != '"'; end++)
            if (*end == '\\' && end[1])
                end++;
        end += *end == '"';
    } else
        return NULL;
    for (const char *q = p; q < end; q++)
        *line += *q == '\n';
    return end;
}

static bool is_hex(const char *p) { return p[0] == '0' && (p[1] == 'x' || p[1] == 'X'); }

static bool too_wide(const char *p, const char *end)
{
    long long value;
    if (*end == 'L' || *end == '.' || *end == 'e' || *end == 'E') /* L: 64 bits, no more */
        return *end == 'L' && (errno = 0, strtoll(p, NULL, is_hex(p) ? 16 : 10), errno != 0);
    errno = 0;
    value = strtoll(p, NULL, is_hex(p) ? 16 : 10);
    return errno || value > INT32_MAX || value < INT32_MIN;
}

static void too_wide_error(td_errors *errors, const char *file, int line, const char *p,
                           const char *end)
{
    int n = (int)(end - p);
    if (*end == 'L')
        td_errors_add(errors, "%s:%d: %.*s does not fit 64 bits", file, line, n, p);
    else
        td_errors_add(errors, "%s:%d: %.*s does not fit 32 bits: write %.*sL", file, line, n, p, n,
                      p);
}

static bool check_text(const char *text, const char *file, td_errors *errors)
{
    size_t before = errors->count;
    int    line = 1, depth = 0;
    for (const char *p = text; *p;) {
        const char *past = skip(p, &line);
        if (past) {
            p = past;
            continue;
        }
        line += *p == '\n';
        depth += (*p == '{' || *p == '(' || *p == '[') - (*p == '}' || *p == ')' || *p == ']');
        if (depth > DEEPEST) {
            td_errors_add(errors, "%s:%d: groups and lists are nested deeper than %d levels", file,
                          line, DEEPEST);
            return false;
        }
        if (isdigit((unsigned char)*p) || (*p == '-' && isdigit((unsigned char)p[1]))) {
            const char *end = p + 1;
            while (isalnum((unsigned char)*end) && *end != 'L' &&
                   (is_hex(p) || (*end != 'e' && *end != 'E')))
                end++;
            if (too_wide(p, end))
                too_wide_error(errors, file, line, p, end);
            for (p = end; isalnum((unsigned char)*p) || *p == '.' ||
                          ((*p == '-' || *p == '+') && (p[-1] == 'e' || p[-1] == 'E'));)
                p++;
            continue;
        }
        if (isalpha((unsigned char)*p) || *p == '_' || *p == '*') {
            for (p++; isalnum((unsigned char)*p) || *p == '_' || *p == '-' || *p == '*';)
                p++;
            continue;
        }
        if (*p == '@' && !strncmp(p, "@include", 8)) {
            td_errors_add(errors, "%s:%d: @include is not supported: use extends = \"FILE\";", file,
                          line);
            return false;
        }
        p++;
    }
    return errors->count == before;
}

/* ---- settings to values ---------------------------------------------------------------------- */

static td_value *convert(td_arena *arena, const config_setting_t *s, const char *file, int line)
{
    static const int types[] = {
        [CONFIG_TYPE_GROUP] = TD_VALUE_GROUP,   [CONFIG_TYPE_INT] = TD_VALUE_INT,
        [CONFIG_TYPE_INT64] = TD_VALUE_INT,     [CONFIG_TYPE_FLOAT] = TD_VALUE_FLOAT,
        [CONFIG_TYPE_STRING] = TD_VALUE_STRING, [CONFIG_TYPE_BOOL] = TD_VALUE_BOOL,
        [CONFIG_TYPE_ARRAY] = TD_VALUE_LIST,    [CONFIG_TYPE_LIST] = TD_VALUE_LIST
    };
    int       type = config_setting_type(s);
    td_value *v = td_value_new(arena, types[type], config_setting_name(s), file,
                               line ? line : (int)config_setting_source_line(s));
    if (!v)
        return NULL;
    switch (type) {
    case CONFIG_TYPE_INT:
        v->integer = config_setting_get_int(s);
        break;
    case CONFIG_TYPE_INT64:
        v->integer = config_setting_get_int64(s);
        break;
    case CONFIG_TYPE_BOOL:
        v->integer = config_setting_get_bool(s);
        break;
    case CONFIG_TYPE_FLOAT:
        v->number = config_setting_get_float(s);
        break;
    case CONFIG_TYPE_STRING:
        v->text = td_arena_copy(arena, config_setting_get_string(s));
        break;
    default:
        for (int k = 0; k < config_setting_length(s); k++) {
            td_value *child = convert(arena, config_setting_get_elem(s, (unsigned)k), file, line);
            if (!child)
                return NULL;
            td_value_append(v, child);
        }
    }
    if (v->type == TD_VALUE_INT)
        v->number = (double)v->integer;
    return v->type == TD_VALUE_STRING && !v->text ? NULL : v;
}

static void syntax_error(const config_t *c, const char *file, td_errors *errors)
{
    const char *text = config_error_text(c);
    if (text && strstr(text, "mismatched element type"))
        text = "an array [ ] holds values of one type only: write mixed lists in ( ), and numbers "
               "all with or all without a point";
    else if (text && strstr(text, "duplicate"))
        text = "a name is there twice in one group";
    td_errors_add(errors, "%s:%d: %s", file, config_error_line(c), text ? text : "cannot be read");
}

td_value *td_value_parse(td_arena *arena, const char *text, const char *file, td_errors *errors)
{
    config_t  c;
    td_value *v = NULL;
    if (!check_text(text, file, errors))
        return NULL;
    config_init(&c);
    config_set_auto_convert(&c, CONFIG_FALSE);
    if (config_read_string(&c, text))
        v = convert(arena, config_root_setting(&c), file, 0);
    else
        syntax_error(&c, file, errors);
    config_destroy(&c);
    return v;
}

/* ---- key=value ------------------------------------------------------------------------------- */

static td_value *parse_value(td_arena *arena, const char *name, const char *text, td_errors *errors)
{
    size_t    before = errors->count;
    config_t  c;
    td_value *v = NULL;
    char     *line = td_arena_print(arena, "value = %s;", text);

    config_init(&c);
    if (line && check_text(line, "command line", errors) && config_read_string(&c, line) &&
        config_setting_length(config_root_setting(&c)) == 1) {
        v = convert(arena, config_setting_get_elem(config_root_setting(&c), 0), NULL, -1);
        if (v)
            v->name = td_arena_copy(arena, name);
    }
    config_destroy(&c);
    if (errors->count > before)
        return NULL;
    if (!v && (v = td_value_new(arena, TD_VALUE_STRING, name, NULL, -1)) != NULL) /* a bare word */
        v->text = td_arena_copy(arena, text);
    return v;
}

static bool good_name(const char *name)
{
    if (!isalpha((unsigned char)*name) && *name != '_')
        return false;
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && *p != '_' && *p != '-')
            return false;
    return true;
}

td_value *td_value_parse_override(td_arena *arena, const char *override, td_value *root,
                                  td_errors *errors)
{
    const char *equals = strchr(override, '=');
    char *path = equals ? td_arena_print(arena, "%.*s", (int)(equals - override), override) : NULL,
         *name, *rest = path;
    td_value *top = NULL, *at = NULL, *v;
    int       depth = 0;

    if (!path) {
        td_errors_add(errors, "command line: '%s' is no key=value", override);
        return NULL;
    }
    (void)root;
    while ((name = strsep(&rest, ".")) != NULL) {
        if (!good_name(name)) {
            td_errors_add(errors, "command line: '%s': '%s' is no name of a key", override, name);
            return NULL;
        }
        if (++depth > DEEPEST) {
            td_errors_add(errors,
                          "command line: '%.60s...': groups are nested deeper than %d levels",
                          override, DEEPEST);
            return NULL;
        }
        v = rest ? td_value_new(arena, TD_VALUE_GROUP, name, NULL, -1)
                 : parse_value(arena, name, equals + 1, errors);
        if (!v)
            return NULL;
        if (at)
            td_value_append(at, v);
        else
            top = v;
        at = v;
    }
    return top;
}
