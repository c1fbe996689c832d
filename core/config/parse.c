/* parse.c - libconfig text to a tree, with what libconfig 1.5 does not check: integers that do not
 * fit, deep nesting. */
#include <ctype.h>
#include <errno.h>
#include <libconfig.h>
#include <stdlib.h>
#include <string.h>

#include "config/setting.h"

/* libconfig looks through a group for each key of it: the time grows with the square of their
 * number. */
enum { DEEPEST = 32, MOST_KEYS = 10000 };

/* ---- the text, before libconfig sees it ------------------------------------------------------ */

/* What is being read, and what of it is open. */
typedef struct scan {
    const char *where; /* "a.cfg", or "command line: train.steps" */
    bool        lines; /* it has lines */
    td_errors  *errors;
    int         line, depth, keys;
    char        bracket[DEEPEST]; /* that are open, */
    int         opened[DEEPEST];  /* each with its line */
    int closed;  /* the line of a bracket that closes none, or another one; 0: there is none */
    int comment; /* the line of a comment without an end */
    int string;  /* the line of the first string that goes on beyond it */
} scan;

static void mistake(const scan *s, int line, const char *format, ...) TD_PRINTF(3, 4);

static void mistake(const scan *s, int line, const char *format, ...)
{
    char    text[1500];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (s->lines)
        td_errors_add(s->errors, "%s:%d: %s", s->where, line, text);
    else
        td_errors_add(s->errors, "%s: %s", s->where, text);
}

static const char *end_of_comment(scan *s, const char *p)
{
    const char *end = strstr(p + 2, "*/");
    if (!end)
        s->comment = s->line;
    return end ? end + 2 : p + strlen(p);
}

static const char *end_of_string(scan *s, const char *p)
{
    const char *end = p + 1;
    for (; *end && *end != '"'; end++)
        if (*end == '\\' && end[1])
            end++;
    if (!s->string && (!*end || memchr(p, '\n', (size_t)(end - p))))
        s->string = s->line;
    return end + (*end == '"');
}

/* Skip a comment or a string at `p`; NULL if there is none. */
static const char *skip(scan *s, const char *p)
{
    const char *end;
    if (*p == '#' || (p[0] == '/' && p[1] == '/'))
        return p + strcspn(p, "\n");
    if (p[0] == '/' && p[1] == '*')
        end = end_of_comment(s, p);
    else if (*p == '"')
        end = end_of_string(s, p);
    else
        return NULL;
    for (const char *q = p; q < end; q++)
        s->line += *q == '\n';
    return end;
}

static bool is_hex(const char *p) { return p[0] == '0' && (p[1] == 'x' || p[1] == 'X'); }

/* Refuses an integer that does not fit: 64 bits, or 32 without an L. */
static void check_width(const scan *s, const char *p, const char *end)
{
    int       n = (int)(end - p);
    long long value;
    if (*end == '.' || *end == 'e' || *end == 'E')
        return;
    errno = 0;
    value = strtoll(p, NULL, is_hex(p) ? 16 : 10);
    if (errno)
        mistake(s, s->line, "%.*s does not fit 64 bits", n, p);
    else if (*end != 'L' && (value > INT32_MAX || value < INT32_MIN))
        mistake(s, s->line, "%.*s does not fit 32 bits: write %.*sL", n, p, n, p);
}

/* Past a number or a word at `p`; NULL if there is none. */
static const char *skip_token(const scan *s, const char *p)
{
    const char *end = p + 1;
    if (isalpha((unsigned char)*p) || *p == '_' || *p == '*') {
        while (isalnum((unsigned char)*end) || *end == '_' || *end == '-' || *end == '*')
            end++;
        return end;
    }
    if (!isdigit((unsigned char)*p) && !(*p == '-' && isdigit((unsigned char)p[1])))
        return NULL;
    while (isalnum((unsigned char)*end) && *end != 'L' &&
           (is_hex(p) || (*end != 'e' && *end != 'E')))
        end++;
    check_width(s, p, end);
    while (isalnum((unsigned char)*end) || *end == '.' ||
           ((*end == '-' || *end == '+') && (end[-1] == 'e' || end[-1] == 'E')))
        end++;
    return end;
}

/* False: one bracket too many. */
static bool take_bracket(scan *s, char c)
{
    static const char open[] = "{([", close[] = "})]";
    const char       *which = strchr(close, c);
    if (strchr(open, c)) {
        if (s->depth == DEEPEST)
            return false;
        s->bracket[s->depth] = c;
        s->opened[s->depth++] = s->line;
    } else if (which) {
        if (!s->closed && (!s->depth || s->bracket[s->depth - 1] != open[which - close]))
            s->closed = s->line;
        s->depth -= s->depth > 0;
    }
    return true;
}

static bool check_text(scan *s, const char *text)
{
    size_t before = s->errors->count;
    for (const char *p = text; *p;) {
        const char *past = skip(s, p);
        past = past ? past : skip_token(s, p);
        if (past) {
            p = past;
            continue;
        }
        if (!take_bracket(s, *p)) {
            mistake(s, s->line, "groups and lists are nested deeper than %d levels", DEEPEST);
            return false;
        }
        if (*p == '=' && s->keys++ == MOST_KEYS) {
            mistake(s, s->line, "there are more than %d keys: spread them over files", MOST_KEYS);
            return false;
        }
        if (!strncmp(p, "@include", 8)) {
            mistake(s, s->line, "@include is not supported: use extends = \"FILE\";");
            return false;
        }
        s->line += *p++ == '\n';
    }
    return s->errors->count == before;
}

/* ---- settings to values ---------------------------------------------------------------------- */

/* A string of the config. Metrics and checkpoints hold what a config says, and they are UTF-8. */
static const char *take_string(td_arena *arena, const char *text, const scan *from, int line)
{
    if (!td_is_utf8(text))
        mistake(from, line, "a string is not UTF-8 text: save it as UTF-8");
    return td_arena_copy(arena, text);
}

static td_setting *convert(td_arena *arena, const config_setting_t *s, const char *file, int line,
                           const scan *from)
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
        v->text = take_string(arena, config_setting_get_string(s), from, v->line);
        break;
    default:
        for (int k = 0; k < config_setting_length(s); k++) {
            td_setting *child = convert(arena, config_setting_get_elem(s, (unsigned)k), file, line,
                                        from);
            if (!child)
                return NULL;
            td_setting_append(v, child);
        }
    }
    if (v->type == TD_SETTING_INT)
        v->number = (double)v->integer;
    return v->type == TD_SETTING_STRING && !v->text ? NULL : v;
}

/* What the scan knows of a mistake that libconfig tells only where it runs into it. */
static void syntax_hint(const scan *s, td_text *out)
{
    if (s->string)
        td_text_print(out,
                      "; the string that begins on line %d goes on beyond it: is its closing "
                      "quote missing?",
                      s->string);
    else if (s->closed)
        td_text_print(out, "; the bracket that closes on line %d does not match one that is open",
                      s->closed);
    else if (s->depth)
        td_text_print(out, "; the '%c' of line %d is not closed", s->bracket[s->depth - 1],
                      s->opened[s->depth - 1]);
    else
        td_text_print(out, "; is a ';' missing before it, or are there quotes missing around a "
                           "string?");
}

static void syntax_error(const config_t *c, const scan *s)
{
    const char *text = config_error_text(c);
    td_text     out = { 0 };
    if (text && strstr(text, "mismatched element type"))
        text = "an array [ ] holds values of one type only: write mixed lists in ( ), and numbers "
               "all with or all without a point";
    else if (text && strstr(text, "duplicate"))
        text = "a name is there twice in one group";
    td_text_print(&out, "%s", text ? text : "cannot be read");
    if (text && !strcmp(text, "syntax error"))
        syntax_hint(s, &out);
    mistake(s, config_error_line(c), "%s", td_text_get(&out));
    td_text_free(&out);
}

td_setting *td_setting_parse(td_arena *arena, const char *text, const char *file, td_errors *errors)
{
    scan        s = { .where = file, .lines = true, .errors = errors, .line = 1 };
    size_t      before = errors->count;
    config_t    c;
    td_setting *v = NULL;
    if (!check_text(&s, text))
        return NULL;
    if (s.comment) {
        mistake(&s, s.comment, "a comment begins here and has no end: close it with */");
        return NULL;
    }
    config_init(&c);
    config_set_auto_convert(&c, CONFIG_FALSE);
    if (config_read_string(&c, text))
        v = convert(arena, config_root_setting(&c), file, 0, &s);
    else
        syntax_error(&c, &s);
    config_destroy(&c);
    return errors->count == before ? v : NULL;
}

/* ---- key=value ------------------------------------------------------------------------------- */

/* The text as a value of libconfig; NULL: it is none. */
static td_setting *parse_line(td_arena *arena, const char *line, scan *s)
{
    config_t    c;
    td_setting *v = NULL;
    config_init(&c);
    if (config_read_string(&c, line) && config_setting_length(config_root_setting(&c)) == 1) {
        v = convert(arena, config_setting_get_elem(config_root_setting(&c), 0), NULL, -1, s);
        if (s->comment) /* it would swallow what comes behind it */
            mistake(s, 0, "the value has a comment without an end: close it with */");
    }
    config_destroy(&c);
    return v;
}

static td_setting *parse_value(td_arena *arena, const char *path, const char *name,
                               const char *text, td_errors *errors)
{
    size_t      before = errors->count;
    const char *where = td_arena_print(arena, "command line: %s", path),
               *line = td_arena_print(arena, "value = %s;", text);
    scan        s = { .where = where, .errors = errors, .line = 1 };
    td_setting *v = NULL;

    if (!line || !where)
        return NULL;
    if (check_text(&s, line))
        v = parse_line(arena, line, &s);
    if (!v &&
        (v = td_setting_new(arena, TD_SETTING_STRING, name, NULL, -1)) != NULL) /* a bare word */
        v->text = take_string(arena, text, &s, 0);
    else if (v) {
        v->name = td_arena_copy(arena, name);
        v->text = v->text ? v->text : td_arena_copy(arena, text); /* 5 may be meant as "5" */
    }
    if (v)
        v->wrong = errors->count > before;
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

td_setting *td_setting_parse_override(td_arena *arena, const char *override, td_setting *root,
                                      td_errors *errors)
{
    const char *equals = strchr(override, '=');
    char *path = equals ? td_arena_print(arena, "%.*s", (int)(equals - override), override) : NULL,
         *name, *rest = path ? td_arena_copy(arena, path) : NULL;
    td_setting *top = NULL, *at = NULL, *v;
    int         depth = 0;

    if (!rest) {
        td_errors_add(errors, "command line: '%s' is no key=value", override);
        return NULL;
    }
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
