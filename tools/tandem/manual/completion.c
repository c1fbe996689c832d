/* completion.c - `tandem completion`: scripts by which a shell completes commands, options, files,
 * keys of configs and names of plugins. */
#include "manual/completion.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

/* ---- what all scripts share ------------------------------------------------------------------ */

void td_completion_quote(td_text *out, const char *text)
{
    for (; *text; text++)
        td_text_print(out, *text == '\'' ? "'\\''" : "%c", *text);
}

void td_completion_each(void (*see)(const td_usage *, const td_command *, const td_word *, void *),
                        void *argument)
{
    for (const td_command *c = td_commands(); c->name; c++) {
        see(c->usage, c, NULL, argument);
        for (const td_word *w = c->usage->words; w && w->name; w++)
            if (w->usage)
                see(w->usage, c, w, argument);
    }
}

void td_completion_flags(const td_usage *u, void (*see)(const td_usage *, const td_flag *, void *),
                         void           *argument)
{
    for (const td_flag *f = u->flags; f && f->name; f++)
        see(u, f, argument);
    for (const td_flag *f = td_tool_common(); f->name; f++)
        if (td_tool_takes(u, f) && *f->name == '-')
            see(u, f, argument);
}

/* ---- the tables of the script for bash ------------------------------------------------------- */

/* A pattern for `command word`: of a command all words but those that are commands themselves. */
static void pattern(const td_usage *u, const td_word *w, td_text *out)
{
    td_text_print(out, w ? "    '%s')" : "    '%s'*)", u->name);
}

static void bash_flag(const td_usage *u, const td_flag *f, void *out)
{
    td_text_print(out, " %s", f->name);
}

static void bash_flags(const td_usage *u, const td_command *c, const td_word *w, void *out)
{
    pattern(u, w, out);
    td_text_print(out, " _tandem_add '");
    td_completion_flags(u, bash_flag, out);
    td_text_print(out, "' ;;\n");
}

static void bash_value(const td_usage *u, const td_flag *f, void *argument)
{
    td_text *out = argument;
    if (!f->value)
        return;
    td_text_print(out, "    '%s%s:%s') ", u->name, u->words ? "'*'" : "", f->name);
    if (!strcmp(f->name, "-c"))
        td_text_print(out, "_tandem_configs");
    else if (!strcmp(f->value, "DIR"))
        td_text_print(out, "_tandem_directories");
    else if (!strncmp(f->value, "FILE", 4))
        td_text_print(out, "_tandem_files");
    else if (!strncmp(f->value, "KEY", 3))
        td_text_print(out, "_tandem_keys ''");
    else if (strchr(f->value, '|')) {
        td_text_print(out, "_tandem_add '");
        for (const char *p = f->value; *p; p++)
            td_text_print(out, "%c", *p == '|' ? ' ' : *p);
        td_text_print(out, "'");
    } else
        td_text_print(out, ":");
    td_text_print(out, " ;;\n");
}

static void bash_values(const td_usage *u, const td_command *c, const td_word *w, void *out)
{
    td_completion_flags(u, bash_value, out);
}

static void bash_valued(const td_usage *u, const td_flag *f, void *out)
{
    if (f->value)
        td_text_print(out, " %s", f->name);
}

static void bash_all_valued(const td_usage *u, const td_command *c, const td_word *w, void *out)
{
    td_completion_flags(u, bash_valued, out);
}

/* What stands for one argument of a word. */
static void bash_argument(const char *name, size_t n, td_text *out)
{
    if (n == 4 && !strncmp(name, "KIND", n))
        td_text_print(out, "_tandem_add \"$_tandem_kinds\"");
    else if (n == 4 && !strncmp(name, "NAME", n))
        td_text_print(out, "_tandem_names \"$last\"");
    else if (n == 3 && !strncmp(name, "KEY", n))
        td_text_print(out, "_tandem_keys ''");
    else if (n == 3 && !strncmp(name, "DIR", n))
        td_text_print(out, "_tandem_directories");
    else if (n > 5 && !strncmp(name, "FILE.", 5))
        td_text_print(out, "_tandem_files '*%.*s'", (int)(n - 4), name + 4);
    else
        td_text_print(out, "_tandem_files");
}

/* ".." repeats what stands before it. */
static void bash_word(const td_command *c, const td_word *w, td_text *out)
{
    const char *last = "";
    size_t      n = 0, last_length = 0;
    for (const char *p = w->arguments ? w->arguments : ""; *p;) {
        size_t length = strcspn(p, " ");
        size_t open = *p == '[', shut = length > 1 && p[length - 1] == ']';
        bool   again = length == 2 && !strncmp(p, "..", 2);
        if (!again) {
            last = p + open;
            last_length = length - open - shut;
        }
        if (*last != '-' && *last) {
            td_text_print(out, again ? "    '%s %s '*) " : "    '%s %s %zu') ", c->name, w->name,
                          n++);
            bash_argument(last, last_length, out);
            td_text_print(out, " ;;\n");
        }
        p += length;
        p += strspn(p, " ");
    }
}

static void bash_words(td_text *out)
{
    for (const td_command *c = td_commands(); c->name; c++) {
        if (c->usage->arguments && strstr(c->usage->arguments, "COMMAND"))
            td_text_print(out, "    '%s  0') _tandem_add \"${_tandem_commands%%%% --*} cfg\" ;;\n",
                          c->name);
        if (!c->usage->words)
            continue;
        td_text_print(out, "    '%s  0') _tandem_add '", c->name);
        for (const td_word *w = c->usage->words; w->name; w++)
            td_text_print(out, "%s%s", w == c->usage->words ? "" : " ", w->name);
        td_text_print(out, "' ;;\n");
        for (const td_word *w = c->usage->words; w->name; w++)
            bash_word(c, w, out);
    }
}

static void bash_takes_config(const td_usage *u, const td_command *c, const td_word *w, void *out)
{
    pattern(u, w, out);
    td_text_print(out, u->config ? " return 0 ;;\n" : " return 1 ;;\n");
}

static void bash_tables(const td_completion *x, td_text *out)
{
    td_text_print(out, "_tandem_commands='");
    for (const td_command *c = td_commands(); c->name; c++)
        td_text_print(out, "%s ", c->name);
    td_text_print(out, "--help --version'\n_tandem_kinds='");
    for (const td_kind *k = td_kinds(); k->id; k++)
        td_text_print(out, "%s%s", k == td_kinds() ? "" : " ", k->name);
    td_text_print(out, "'\n_tandem_valued='");
    td_completion_each(bash_all_valued, out);
    td_text_print(out, " '\n_tandem_shipped='%s'\n", x->configs);
    td_text_print(out, "# key, and what it may be: words, FILE, or nothing\n_tandem_all_keys='");
    for (size_t k = 0; k < x->keys.count; k++)
        td_text_print(out, "%s%s %s", k ? "\n" : "", x->keys.at[k].path, x->keys.at[k].values);
    td_text_print(out, "'\n\n");
}

/* More special patterns come first: a word that is a command of its own before its command. */
static void bash_case(const char *head, const char *tail,
                      void (*see)(const td_usage *, const td_command *, const td_word *, void *),
                      td_text *out)
{
    td_text_print(out, "%s", head);
    for (const td_command *c = td_commands(); c->name; c++) {
        for (const td_word *w = c->usage->words; w && w->name; w++)
            if (w->usage)
                see(w->usage, c, w, out);
        see(c->usage, c, NULL, out);
    }
    td_text_print(out, "%s", tail);
}

static void bash_names(const td_completion *x, td_text *out)
{
    td_text_print(out, "# of the plugins of a kind\n_tandem_names() {\n    case \"$1\" in\n");
    for (const td_kind *k = td_kinds(); k->id; k++) {
        const char *names = td_keys_plugins(x->registry, k->id, x->arena);
        td_text_print(out, "    %s) _tandem_add '", k->name);
        for (const char *p = names ? names : ""; *p; p++)
            td_text_print(out, "%c", *p == '|' ? ' ' : *p);
        td_text_print(out, "' ;;\n");
    }
    td_text_print(out, "    esac\n}\n\n");
}

/* ---- its code -------------------------------------------------------------------------------- */

static const char bash_head[] =
    "# bash completion for tandem. Written by `tandem completion bash`.\n"
    "# shellcheck shell=bash disable=SC2207,SC2034\n\n";

static const char bash_helpers[] =
    "# words that begin as what is there\n"
    "_tandem_add() {\n"
    "    COMPREPLY+=($(compgen -W \"$1\" -- \"$cur\"))\n"
    "}\n\n"
    "# files of a pattern, or all\n"
    "_tandem_files() {\n"
    "    local IFS=$'\\n'\n"
    "    files=1\n"
    "    if [[ $1 ]]; then\n"
    "        COMPREPLY+=($(compgen -f -X \"!$1\" -- \"$cur\") $(compgen -d -- \"$cur\"))\n"
    "    else\n"
    "        COMPREPLY+=($(compgen -f -- \"$cur\"))\n"
    "    fi\n"
    "}\n\n"
    "_tandem_directories() {\n"
    "    local IFS=$'\\n'\n"
    "    files=1\n"
    "    COMPREPLY+=($(compgen -d -- \"$cur\"))\n"
    "}\n\n"
    "_tandem_configs() {\n"
    "    _tandem_files '*.cfg'\n"
    "    _tandem_add \"$_tandem_shipped\"\n"
    "}\n\n"
    "# keys of configs up to the next dot, or the whole key with $1 behind it\n"
    "_tandem_keys() {\n"
    "    local key rest last=\n"
    "    while read -r key rest; do\n"
    "        [[ $key == \"$cur\"* ]] || continue\n"
    "        rest=${key#\"$cur\"}\n"
    "        case $rest in\n"
    "        *.*) rest=$cur${rest%%.*}. ;;\n"
    "        *) rest=$key$1 ;;\n"
    "        esac\n"
    "        [[ $rest == \"$last\" ]] || COMPREPLY+=(\"$rest\")\n"
    "        last=$rest\n"
    "    done <<<\"$_tandem_all_keys\"\n"
    "}\n\n"
    "# what the key $1 may be\n"
    "_tandem_key_values() {\n"
    "    local key values\n"
    "    while read -r key values; do\n"
    "        [[ $key == \"$1\" ]] || continue\n"
    "        case $values in\n"
    "        FILE) _tandem_files ;;\n"
    "        *) _tandem_add \"${values//|/ }\" ;;\n"
    "        esac\n"
    "    done <<<\"$_tandem_all_keys\"\n"
    "}\n\n";

/* COMP_WORDS is cut at '=', where COMP_WORDBREAKS has it: put together again, and what is offered
 * is what stands behind it. */
static const char bash_main[] =
    "_tandem() {\n"
    "    local IFS=$' \\t\\n' cur prev prefix='' command='' word='' last='' plain=0 join='' "
    "config='' i x\n"
    "    local -a w=()\n"
    "    COMPREPLY=()\n"
    "    for ((i = 0; i <= COMP_CWORD; i++)); do\n"
    "        x=${COMP_WORDS[i]}\n"
    "        if [[ $x == '=' && $i -gt 0 ]]; then\n"
    "            w[${#w[@]} - 1]+='=' join=1\n"
    "        elif [[ $join ]]; then\n"
    "            w[${#w[@]} - 1]+=$x join=''\n"
    "        else\n"
    "            w+=(\"$x\")\n"
    "        fi\n"
    "    done\n"
    "    cur=${w[${#w[@]} - 1]}\n"
    "    prev=''\n"
    "    for ((i = 1; i < ${#w[@]} - 1; i++)); do\n"
    "        x=${w[i]} prev=''\n"
    "        case $x in\n"
    "        -*)\n"
    "            [[ $x == -c ]] && config=1\n"
    "            if [[ $_tandem_valued == *\" $x \"* ]]; then\n"
    "                prev=$x\n"
    "                i=$((i + 1))\n"
    "                [[ $i -lt $((${#w[@]} - 1)) ]] && prev=''\n"
    "            fi\n"
    "            ;;\n"
    "        *.cfg) config=1 ;;\n"
    "        *=*) ;;\n"
    "        *)\n"
    "            if [[ ! $command ]]; then\n"
    "                command=$x\n"
    "            elif [[ ! $word ]] && _tandem_is_word \"$command $x\"; then\n"
    "                word=$x\n"
    "            else\n"
    "                plain=$((plain + 1)) last=$x\n"
    "            fi\n"
    "            ;;\n"
    "        esac\n"
    "    done\n"
    "    if [[ ! $command ]]; then\n"
    "        _tandem_add \"$_tandem_commands\"\n"
    "        return\n"
    "    fi\n"
    "    if [[ ! $prev && $cur == --*=* ]]; then\n"
    "        prev=${cur%%=*} prefix=${cur%%=*}=\n"
    "        cur=${cur#*=}\n"
    "    fi\n"
    "    if [[ $prev ]]; then\n"
    "        _tandem_value \"$command${word:+ $word}:$prev\"\n"
    "    elif [[ $cur == -* ]]; then\n"
    "        _tandem_flags \"$command${word:+ $word}\"\n"
    "    elif [[ $cur == *=* ]] && _tandem_config \"$command${word:+ $word}\"; then\n"
    "        prefix=${cur%%=*}= x=${cur%%=*} cur=${cur#*=}\n"
    "        _tandem_key_values \"$x\"\n"
    "    else\n"
    "        _tandem_plain \"$command $word $plain\"\n"
    "        if _tandem_config \"$command${word:+ $word}\" && [[ $word != explain ]]; then\n"
    "            [[ $cur || ! $config ]] && _tandem_files '*.cfg'\n"
    "            [[ $cur ]] && _tandem_add \"$_tandem_shipped\"\n"
    "            [[ $cur || $config ]] && _tandem_keys '='\n"
    "        fi\n"
    "    fi\n"
    "    if [[ $prefix && $COMP_WORDBREAKS != *=* ]]; then\n"
    "        for i in \"${!COMPREPLY[@]}\"; do\n"
    "            COMPREPLY[i]=$prefix${COMPREPLY[i]}\n"
    "        done\n"
    "    fi\n"
    "    for x in \"${COMPREPLY[@]}\"; do\n"
    "        if [[ $x != *[.=] ]]; then # with files as such, '=' is quoted\n"
    "            [[ $files ]] && compopt -o filenames 2>/dev/null\n"
    "            return 0\n"
    "        fi\n"
    "    done\n"
    "    compopt -o nospace 2>/dev/null\n"
    "}\n\n"
    "complete -F _tandem tandem\n";

static void bash_is_word(td_text *out)
{
    td_text_print(out, "_tandem_is_word() {\n    case \"$1\" in\n");
    for (const td_command *c = td_commands(); c->name; c++)
        for (const td_word *w = c->usage->words; w && w->name; w++)
            td_text_print(out, "    '%s %s') return 0 ;;\n", c->name, w->name);
    td_text_print(out, "    esac\n    return 1\n}\n\n");
}

void td_completion_bash(const td_completion *x, td_text *out)
{
    td_text_print(out, "%s", bash_head);
    bash_tables(x, out);
    td_text_print(out, "%s", bash_helpers);
    bash_names(x, out);
    bash_is_word(out);
    bash_case("_tandem_flags() {\n    case \"$1\" in\n", "    esac\n}\n\n", bash_flags, out);
    bash_case("# whether it takes configs and keys\n_tandem_config() {\n    case \"$1\" in\n",
              "    esac\n    return 1\n}\n\n", bash_takes_config, out);
    bash_case("# of an option\n_tandem_value() {\n    case \"$1\" in\n", "    esac\n}\n\n",
              bash_values, out);
    td_text_print(out, "# command, word, and the number of the argument behind them\n"
                       "_tandem_plain() {\n    case \"$1\" in\n");
    bash_words(out);
    td_text_print(out, "    esac\n}\n\n%s", bash_main);
}

/* ---- the command ----------------------------------------------------------------------------- */

/* "nano/redllm.cfg ..": as -c finds them from anywhere. */
static const char *shipped_configs(td_arena *arena)
{
    char       *configs = td_tool_configs();
    char      **groups = NULL;
    int64_t     n = configs ? td_list_directory(configs, &groups, NULL) : -1;
    const char *list = "";
    for (int64_t i = 0; i < n; i++) {
        char   *directory = td_path_join(configs, groups[i]);
        char  **names = NULL;
        int64_t m = directory ? td_list_directory(directory, &names, NULL) : -1;
        for (int64_t k = 0; k < m && list; k++)
            if (strstr(names[k], ".cfg"))
                list = td_arena_print(arena, "%s%s%s/%s", list, *list ? " " : "", groups[i],
                                      names[k]);
        if (m >= 0)
            td_free_names(names, m);
        free(directory);
    }
    if (n >= 0)
        td_free_names(groups, n);
    free(configs);
    return list ? list : "";
}

static const td_word words[] = {
    { "bash", 0, "source it, or save it as bash-completion/completions/tandem", 0, 0 },
    { "zsh", 0, "save it as _tandem in a directory of $fpath", 0, 0 },
    { "fish", 0, "save it as fish/completions/tandem.fish", 0, 0 },
    { 0, 0, 0, 0, 0 },
};

const td_usage td_usage_completion = {
    .name = "completion",
    .brief = "A script by which a shell completes commands, options, configs, keys and the names "
             "of plugins.",
    .example = "source <(tandem completion bash)",
    .words = words,
    .plain = 1,
    .notes = "An installed tandem brings the scripts along. They know the plugins that were there "
             "when they were\nwritten; print one again to have it know yours.\n",
};

static int print(td_tool *t, const td_registry *r, const char *shell)
{
    td_completion x = { .registry = r, .arena = td_arena_new() };
    td_text       out = { 0 };
    td_error      e = { 0 };
    if (!x.arena)
        td_fail(&e, TD_ENOMEM, "out of memory for a completion script");
    else if (!td_keys_collect(r, x.arena, &x.keys, &e)) {
        x.configs = shipped_configs(x.arena);
        (*shell == 'b'   ? td_completion_bash
         : *shell == 'z' ? td_completion_zsh
                         : td_completion_fish)(&x, &out);
        fputs(td_text_get(&out), stdout);
    }
    td_text_free(&out);
    free(x.keys.at);
    td_arena_free(x.arena);
    return e.code ? td_tool_fail(t, &e) : TD_EXIT_OK;
}

int td_command_completion(td_tool *t, int argc, char **argv)
{
    td_registry *r;
    int          code;
    if (!td_tool_parse(t, &td_usage_completion, argc, argv, &code))
        return code;
    if (!t->n_plain)
        return td_tool_usage_error(t, "for which shell? Say bash, zsh or fish");
    for (const td_word *w = words; w->name; w++)
        if (!strcmp(w->name, t->plain[0])) {
            r = td_tool_registry(t);
            if (!r)
                return TD_EXIT_USAGE;
            td_registry_scan(r);
            return print(t, r, w->name);
        }
    return td_tool_no_word(t, t->plain[0]);
}
