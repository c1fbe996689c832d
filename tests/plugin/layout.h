/* layout.h - sizes, offsets, types and numbers of the headers that plugins include, as lines of
 * text.
 *
 * The preprocessed headers are searched for every struct, field and enumerator, and a program is
 * generated from these that prints their layout. So nothing can be forgotten. A line is a key of
 * two words and a value:
 *
 *     struct td_extent 16
 *     field td_extent.second 8 int64_t
 *     number TD_MAX_RANK 8
 *     text TD_NORM_KIND "norm/1"
 */
#ifndef TEST_PLUGIN_LAYOUT_H
#define TEST_PLUGIN_LAYOUT_H

#include <criterion/criterion.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "plugin/scratch.h"

enum { LAYOUT_LINES = 2000 };

typedef struct layout_line {
    char *key, *value;
} layout_line;

typedef struct layout {
    layout_line at[LAYOUT_LINES];
    size_t      count;
} layout;

static inline void layout_add(layout *l, const char *line, size_t length)
{
    const char *space = memchr(line, ' ', length);
    const char *end = space ? memchr(space + 1, ' ', length - (size_t)(space + 1 - line)) : NULL;
    cr_assert(l->count < LAYOUT_LINES);
    if (!length)
        return;
    cr_assert(end, "'%.*s' has no value", (int)length, line);
    l->at[l->count++] = (layout_line){ strndup(line, (size_t)(end - line)),
                                       strndup(end + 1, length - (size_t)(end + 1 - line)) };
}

/* The lines of a text, except for comments (#). */
static inline layout *layout_read(const char *text)
{
    layout *l = calloc(1, sizeof *l);
    while (*text) {
        size_t length = strcspn(text, "\n");
        if (*text != '#')
            layout_add(l, text, length);
        text += length + (text[length] == '\n');
    }
    return l;
}

static inline void layout_free(layout *l)
{
    for (size_t k = 0; k < l->count; k++) {
        free(l->at[k].key);
        free(l->at[k].value);
    }
    free(l);
}

static inline const char *layout_get(const layout *l, const char *key)
{
    for (size_t k = 0; k < l->count; k++)
        if (!strcmp(l->at[k].key, key))
            return l->at[k].value;
    return NULL;
}

/* ---- reading C ------------------------------------------------------------------------------- */

/* The output of a command, which must succeed. */
static inline char *layout_output(const char *command)
{
    td_text text = { 0 };
    char    piece[4096];
    size_t  n;
    FILE   *f = popen(command, "r");
    cr_assert(f);
    while ((n = fread(piece, 1, sizeof piece, f)) > 0)
        td_text_append(&text, piece, n);
    cr_assert(!pclose(f), "failed: %s", command);
    cr_assert(text.size && !text.failed, "%s printed nothing", command);
    return text.data;
}

/* Keeps only the text of the headers in `include`, without line markers. */
static inline char *layout_own(const char *preprocessed, const char *include)
{
    td_text out = { 0 };
    bool    own = false;
    for (const char *p = preprocessed; *p;) {
        size_t length = strcspn(p, "\n");
        if (*p == '#') {
            char *line = strndup(p, length);
            own = strstr(line, include) != NULL;
            free(line);
        } else if (own)
            td_text_append(&out, p, length + 1);
        p += length + (p[length] == '\n');
    }
    return out.data;
}

static inline const char *layout_skip(const char *p, char open, char shut)
{
    int depth = 0;
    do
        depth += (*p == open) - (*p == shut);
    while (*p && p++ && depth);
    return p;
}

static inline bool layout_is_letter(char c) { return isalnum((unsigned char)c) || c == '_'; }

/* The word that ends at `end`. */
static inline char *layout_word_before(const char *start, const char *end)
{
    const char *from;
    while (end > start && !layout_is_letter(end[-1]))
        end--;
    for (from = end; from > start && layout_is_letter(from[-1]);)
        from--;
    return strndup(from, (size_t)(end - from));
}

static inline bool layout_is_type(const char *word, size_t n)
{
    static const char *const types[] = { "void",  "char",   "short",  "int",      "long",
                                         "float", "double", "signed", "unsigned", "const",
                                         "_Bool", "bool",   "struct", "enum" };
    for (size_t k = 0; k < sizeof types / sizeof *types; k++)
        if (strlen(types[k]) == n && !strncmp(word, types[k], n))
            return true;
    return !strncmp(word, "td_", 3) || (n > 2 && !strncmp(word + n - 2, "_t", 2));
}

/* A declaration as a type: tokens with single spaces, the names of fields and parameters left
 * out. */
static inline void layout_type(const char *p, const char *end, td_text *out)
{
    bool first = true;
    while (p < end) {
        size_t n = 1;
        if (isspace((unsigned char)*p)) {
            p++;
            continue;
        }
        while (layout_is_letter(*p) && p + n < end && layout_is_letter(p[n]))
            n++;
        const char *next = p + n;
        while (next < end && isspace((unsigned char)*next))
            next++;
        bool named = isalpha((unsigned char)*p) && !layout_is_type(p, n) &&
                     (next == end || strchr(",)[", *next));
        if (!named || (p[-1] == '[')) { /* the size of an array is not a name */
            td_text_print(out, "%s%.*s", first ? "" : " ", (int)n, p);
            first = false;
        }
        p += n;
    }
}

/* One declaration of a struct's body: a line of the program for each field. */
static inline void layout_field(const char *owner, const char *p, const char *end, td_text *program)
{
    const char *call = memchr(p, '(', (size_t)(end - p)), *base, *d;
    if (call) { /* int (*name)(..) */
        td_text     type = { 0 };
        const char *shut = memchr(call, ')', (size_t)(end - call));
        char       *name = layout_word_before(call, shut);
        layout_type(p, end, &type);
        td_text_print(program, "FIELD(%s, %s, \"%s\")\n", owner, name, td_text_get(&type));
        td_text_free(&type);
        free(name);
        return;
    }
    base = memchr(p, ',', (size_t)(end - p)); /* where the first declarator begins */
    base = base ? base : end;
    for (d = p; d < base && *d != '[';)
        d++;
    while (d > p && !layout_is_letter(d[-1]))
        d--;
    while (d > p && layout_is_letter(d[-1]))
        d--;
    while (d > p && (d[-1] == '*' || isspace((unsigned char)d[-1])))
        d--;
    for (const char *from = d; from < end;) {
        const char *stop = memchr(from, ',', (size_t)(end - from)), *bracket;
        td_text     whole = { 0 }, type = { 0 };
        char       *name;
        stop = stop ? stop : end;
        bracket = memchr(from, '[', (size_t)(stop - from));
        name = layout_word_before(from, bracket ? bracket : stop);
        td_text_print(&whole, "%.*s %.*s", (int)(d - p), p, (int)(stop - from), from);
        layout_type(whole.data, whole.data + whole.size, &type);
        td_text_print(program, "FIELD(%s, %s, \"%s\")\n", owner, name, td_text_get(&type));
        td_text_free(&whole);
        td_text_free(&type);
        free(name);
        from = stop + 1;
    }
}

static inline void layout_struct(const char *name, const char *body, const char *end,
                                 td_text *program)
{
    cr_assert(!memchr(body, '{', (size_t)(end - body)),
              "struct %s has a struct without a name in it: give it one", name);
    td_text_print(program, "STRUCT(%s)\n", name);
    for (const char *p = body; p < end;) {
        const char *stop = memchr(p, ';', (size_t)(end - p));
        if (!stop)
            break;
        layout_field(name, p, stop, program);
        p = stop + 1;
    }
}

static inline void layout_enum(const char *body, const char *end, td_text *program)
{
    for (const char *p = body; p < end;) {
        const char *stop = memchr(p, ',', (size_t)(end - p)), *equals;
        char       *name;
        stop = stop ? stop : end;
        equals = memchr(p, '=', (size_t)(stop - p));
        name = layout_word_before(p, equals ? equals : stop);
        if (*name)
            td_text_print(program, "NUMBER(%s)\n", name);
        free(name);
        p = stop + 1;
    }
}

/* The body of a program that prints the layout: a macro call for each struct, field and
 * enumerator. */
static inline void layout_program(const char *code, td_text *program)
{
    for (const char *p = code; *p;) {
        size_t      head = strcspn(p, ";{");
        const char *open = p + head, *name;
        char       *text = strndup(p, head);
        if (*open != '{') {
            p = open + (*open != 0);
            free(text);
            continue;
        }
        const char *shut = layout_skip(open, '{', '}');
        if ((name = strstr(text, "struct ")) != NULL && !strpbrk(text, "(=")) {
            char *word = layout_word_before(name + 7, text + head);
            layout_struct(word, open + 1, shut - 1, program);
            free(word);
        } else if (strstr(text, "enum") && !strpbrk(text, "(="))
            layout_enum(open + 1, shut - 1, program);
        p = shut;
        free(text);
    }
}

/* `#define TD_X 1` and `#define TD_X "text"`. */
static inline void layout_macros(const char *macros, td_text *program)
{
    for (const char *p = macros; *p;) {
        char   name[64], value[256];
        size_t length = strcspn(p, "\n");
        if (sscanf(p, "#define %63[A-Za-z0-9_] %255[^\n]", name, value) == 2 &&
            !strncmp(name, "TD_", 3)) {
            if (isdigit((unsigned char)*value))
                td_text_print(program, "NUMBER(%s)\n", name);
            else if (*value == '"')
                td_text_print(program, "TEXT(%s)\n", name);
        }
        p += length + (p[length] == '\n');
    }
}

static const char layout_main[] =
    "#include <stdio.h>\n"
    "#define STRUCT(s) printf(\"struct %s %zu\\n\", #s, sizeof(struct s));\n"
    "#define FIELD(s, f, t) printf(\"field %s.%s %zu %s\\n\", #s, #f, offsetof(struct s, f), t);\n"
    "#define NUMBER(n) printf(\"number %s %lld\\n\", #n, (long long)(n));\n"
    "#define TEXT(n) printf(\"text %s \\\"%s\\\"\\n\", #n, n);\n"
    "int main(void)\n{\n";

/* The layout of the headers in `include`/tandem. */
static inline layout *layout_of_headers(const char *include)
{
    scratch s = scratch_new();
    td_text program = { 0 };
    char    command[1200], path[256];
    char   *code, *own, *macros, *lines;
    layout *l;

    snprintf(command, sizeof command,
             "cd '%s' && for h in $(find tandem -name '*.h' | LC_ALL=C sort); do echo \"#include "
             "\\\"$h\\\"\"; done >%s/all.h",
             include, s.path);
    cr_assert(!system(command));
    snprintf(command, sizeof command, "cc -std=c11 -E -I'%s' %s/all.h", include, s.path);
    code = layout_output(command);
    own = layout_own(code, include);
    snprintf(command, sizeof command, "cc -std=c11 -E -dM -I'%s' %s/all.h | LC_ALL=C sort", include,
             s.path);
    macros = layout_output(command);
    td_text_print(&program, "#include \"all.h\"\n%s", layout_main);
    layout_program(own, &program);
    layout_macros(macros, &program);
    td_text_print(&program, "return 0;\n}\n");
    write_all(&s, "layout.c", program.data, program.size);
    snprintf(command, sizeof command, "cc -std=c11 -I'%s' -I%s -o %s %s/layout.c && %s", include,
             s.path, scratch_path(&s, "layout", path), s.path, path);
    lines = layout_output(command);
    l = layout_read(lines);
    td_text_free(&program);
    free(code);
    free(own);
    free(macros);
    free(lines);
    scratch_free(&s);
    return l;
}

#endif
