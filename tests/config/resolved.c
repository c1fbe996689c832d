/* resolved.c - the resolved form of each shipped config, kept in tests/config/resolved;
 * TANDEM_UPDATE=1 rewrites it. Some shipped files are only parts: for those, the errors about
 * missing groups are kept. */
#include <glob.h>

#include "base/text.h"
#include "config.h"

#define KEPT TANDEM_SOURCE "/tests/config/resolved/"

/* "configs/nano/redllm.cfg" is kept as "nano-redllm.cfg". The files in configs/tasks and configs/studies do not
 * describe runs: the patterns below exclude them. */
static void kept_path(const char *config, char out[4096])
{
    size_t start = strlen(KEPT);
    snprintf(out, 4096, "%s%s", KEPT, strstr(config, "configs/") + strlen("configs/"));
    for (char *p = out + start; *p; p++)
        *p = *p == '/' ? '-' : *p;
}

/* Paths relative to the source directory, wherever that is. */
static void append(td_text *out, const char *text)
{
    for (const char *p; (p = strstr(text, TANDEM_SOURCE "/")) != NULL;
         text = p + strlen(TANDEM_SOURCE "/"))
        td_text_append(out, text, (size_t)(p - text));
    td_text_print(out, "%s", text);
}

/* The model that an ablation changes, put in front of it; NULL: the config is no ablation. */
static const char *base_of(const char *config)
{
    static const char *const causal[] = { "alibi", "differential", "fire",    "linear-att", "mla",
                                          "nope",  "rope-",        "sliding", "xpos" };
    const char              *name = strstr(config, "/ablations/");
    for (size_t k = 0; name && k < sizeof causal / sizeof *causal; k++)
        if (!strncmp(name + strlen("/ablations/"), causal[k], strlen(causal[k])))
            return "nano/decllm.cfg";
    return name ? "nano/redllm.cfg" : NULL;
}

static void resolve(const char *config, td_text *out)
{
    const char *base = base_of(config);
    child       c = base ? config_run("show", (const char *[]){ "-c", base, "-c", config, NULL })
                         : config_run("show", (const char *[]){ "-c", config, NULL });
    cr_expect(c.code == 0 || c.code == 2, "%s: exit code %d: %s", config, c.code, c.err);
    td_text_print(out, c.code ? "# A part of other configs; by itself it fails:\n" : "");
    append(out, c.code ? c.err : c.out);
    child_free(&c);
}

static void update(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    cr_assert(f && fputs(text, f) >= 0 && !fclose(f), "cannot write %s", path);
}

/* The first line that differs, for the message. */
static void compare(const char *config, const char *path, const char *is)
{
    td_error e = { 0 };
    char    *was = td_file_read(path, NULL, &e);
    size_t   k = 0, line = 0;
    cr_expect(was, "%s; TANDEM_UPDATE=1 writes it", e.text);
    for (; was && was[k] && was[k] == is[k]; k++)
        if (is[k] == '\n')
            line = k + 1;
    if (was && (was[k] || is[k]))
        cr_expect_fail("%s resolves to\n%.*s\nbut %s has\n%.*s\nTANDEM_UPDATE=1 rewrites it",
                       config, (int)strcspn(is + line, "\n"), is + line, path,
                       (int)strcspn(was + line, "\n"), was + line);
    free(was);
}

Test(resolved, as_kept)
{
    glob_t files;
    char   path[4096];
    cr_assert(!chdir(TANDEM_SOURCE) &&
              !glob("configs/{[!ts]*,size}/*.cfg", GLOB_BRACE, NULL, &files));
    for (size_t i = 0; i < files.gl_pathc; i++) {
        td_text text = { 0 };
        resolve(files.gl_pathv[i], &text);
        cr_expect(!strstr(td_text_get(&text), TANDEM_SOURCE), "%s: an absolute path",
                  files.gl_pathv[i]);
        kept_path(files.gl_pathv[i], path);
        if (getenv("TANDEM_UPDATE"))
            update(path, td_text_get(&text));
        else
            compare(files.gl_pathv[i], path, td_text_get(&text));
        td_text_free(&text);
    }
    globfree(&files);
}

Test(resolved, nothing_extra)
{
    glob_t configs, kept;
    char   path[4096];
    cr_assert(!glob(TANDEM_SOURCE "/configs/{[!ts]*,size}/*.cfg", GLOB_BRACE, NULL, &configs) &&
              !glob(KEPT "*", 0, NULL, &kept));
    for (size_t k = 0; k < kept.gl_pathc; k++) {
        bool found = false;
        for (size_t i = 0; i < configs.gl_pathc && !found; i++) {
            kept_path(configs.gl_pathv[i], path);
            found = !strcmp(path, kept.gl_pathv[k]);
        }
        cr_expect(found, "%s belongs to no config: remove it", kept.gl_pathv[k]);
    }
    globfree(&configs);
    globfree(&kept);
}

/* A resolved config is a config: it resolves to itself. */
Test(resolved, again_the_same)
{
    glob_t kept;
    cr_assert(!glob(KEPT "*.cfg", 0, NULL, &kept));
    for (size_t k = 0; k < kept.gl_pathc; k++) {
        td_error e = { 0 };
        char    *was = td_file_read(kept.gl_pathv[k], NULL, &e);
        td_text  is = { 0 };
        cr_assert(was, "%s", e.text);
        if (*was != '#') {
            resolve(kept.gl_pathv[k], &is);
            cr_expect_str_eq(td_text_get(&is), was, "%s", kept.gl_pathv[k]);
        }
        td_text_free(&is);
        free(was);
    }
    globfree(&kept);
}
