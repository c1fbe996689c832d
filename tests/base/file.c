/* file.c - whole reads, atomic writes that keep the old file when they fail, maps, directories,
 * hashes. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static char directory[64], path[128];

static void setup(void)
{
    strcpy(directory, "/tmp/tandem-file-XXXXXX");
    cr_assert(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/file", directory);
}

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(file, .init = setup, .fini = teardown);

static int64_t count_files(void)
{
    char  **names = NULL;
    int64_t n = td_list_directory(directory, &names, NULL);
    td_free_names(names, n);
    return n;
}

static void expect_content(const char *want, size_t length)
{
    td_error e = { 0 };
    size_t   size = 0;
    char    *data = td_file_read(path, &size, &e);
    cr_assert(data, "%s", e.text);
    cr_expect_eq(size, length);
    cr_expect(size == length && !memcmp(data, want, length));
    cr_expect_eq(data[size], 0);
    free(data);
}

/* The first directory of PATH that has it; what cannot be run does not count. */
Test(file, programs_are_found_as_by_the_shell)
{
    char name[128], list[200], *found;
    snprintf(name, sizeof name, "%s/bin", directory);
    cr_assert(!mkdir(name, 0700));
    strcat(name, "/tool");
    cr_assert(!td_file_write(path, "", 0, NULL) && !td_file_write(name, "", 0, NULL));
    snprintf(list, sizeof list, "/nowhere:%s:%s/bin", directory, directory);
    setenv("PATH", list, 1);
    chmod(name, 0600);
    cr_expect_null(td_program_find("tool"));
    chmod(name, 0700);
    found = td_program_find("tool");
    cr_assert(found);
    cr_expect_str_eq(found, name);
    free(found);
    cr_expect_null(td_program_find("too"));
    unsetenv("PATH");
    cr_expect_null(td_program_find("tool"));
}

Test(file, written_and_read)
{
    static const size_t sizes[] = { 0, 1, 31, 16383, 16384, 16385, 100003 };
    char               *data = malloc(100003);
    for (size_t i = 0; i < 100003; i++)
        data[i] = (char)(i * 37 % 251);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        td_error e = { 0 };
        cr_assert(!td_file_write(path, data, sizes[k], &e), "%s", e.text);
        expect_content(data, sizes[k]);
        cr_expect_eq(td_file_size(path), (int64_t)sizes[k]);
    }
    cr_expect_eq(count_files(), 1, "no temporary file is left");
    free(data);
}

Test(file, abandoned_writes_leave_the_old_file)
{
    td_atomic_file a;
    td_file_write(path, "old", 3, NULL);
    cr_assert(!td_atomic_open(&a, path, NULL));
    fputs("new", a.file);
    cr_expect_eq(count_files(), 2);
    td_atomic_abandon(&a);
    cr_expect_eq(count_files(), 1);
    expect_content("old", 3);
}

/* A write that fails half-way, as on a full disk. */
Test(file, failing_writes_leave_the_old_file)
{
    static char         large[1 << 16];
    const struct rlimit limit = { 10007, 10007 };
    td_error            e = { 0 };
    td_file_write(path, "old", 3, NULL);
    signal(SIGXFSZ, SIG_IGN);
    cr_assert(!setrlimit(RLIMIT_FSIZE, &limit));
    cr_expect_eq(td_file_write(path, large, sizeof large, &e), TD_EIO);
    cr_expect(strstr(e.text, "cannot write '") && strstr(e.text, path) &&
                  strstr(e.text, "raise the limit on the size of files"),
              "%s", e.text);
    cr_expect_eq(count_files(), 1, "no temporary file is left");
    expect_content("old", 3);
}

/* The same, with the reason that the system gives. */
Test(file, a_full_device_is_reported)
{
    td_atomic_file a;
    td_error       e = { 0 };
    td_file_write(path, "old", 3, NULL);
    cr_assert(!td_atomic_open(&a, path, NULL));
    cr_assert(freopen("/dev/full", "w", a.file));
    fputs("new", a.file);
    cr_expect_eq(td_atomic_commit(&a, &e), TD_EIO);
    cr_expect(strstr(e.text, path) && strstr(e.text, "No space left on device; free some"), "%s",
              e.text);
    cr_expect_eq(count_files(), 1);
    expect_content("old", 3);
}

Test(file, missing_files)
{
    td_error       e = { 0 };
    td_mapped_file m;
    char           deep[160];
    cr_expect_null(td_file_read(path, NULL, &e));
    cr_expect(e.code == TD_EIO && strstr(e.text, path) && strstr(e.text, "No such file"), "%s",
              e.text);
    snprintf(deep, sizeof deep, "%s/no/such/file", directory);
    e.code = 0;
    cr_expect_eq(td_file_write(deep, "x", 1, &e), TD_EIO);
    cr_expect(strstr(e.text, deep), "%s", e.text);
    cr_expect_eq(td_file_map(&m, path, NULL), TD_EIO);
    cr_expect_eq(td_file_map(&m, directory, NULL), TD_EIO);
    e.code = 0;
    cr_expect_null(td_file_read(directory, NULL, &e), "a directory is not a file");
    cr_expect_eq(e.code, TD_EIO);
    cr_expect_eq(td_file_size(path), -1);
    cr_expect(!td_file_exists(path));
}

/* A pipe without a writer is not waited for; one made by a shell is read. */
Test(file, pipes)
{
    td_error       e = { 0 };
    td_mapped_file m;
    size_t         size;
    char           hex[33], shell[32], *text;
    FILE          *pipe = popen("echo piped", "r");
    cr_assert(pipe && !mkfifo(path, 0600));
    cr_expect_null(td_file_read(path, NULL, &e));
    cr_expect(strstr(e.text, path) && strstr(e.text, "not a regular file"), "%s", e.text);
    cr_expect_eq(td_file_map(&m, path, NULL), TD_EIO);
    cr_expect_eq(td_file_hash(path, hex, NULL), TD_EIO);
    snprintf(shell, sizeof shell, "/dev/fd/%d", fileno(pipe));
    cr_assert((text = td_file_read(shell, &size, &e)) != NULL);
    cr_expect(size == 6 && !strcmp(text, "piped\n"));
    free(text);
    pclose(pipe);
}

/* A device without an end is not read until memory is. */
Test(file, endless_devices)
{
    td_error e = { 0 };
    cr_expect_null(td_file_read("/dev/zero", NULL, &e));
    cr_expect(e.code == TD_EIO && strstr(e.text, "'/dev/zero'") &&
                  strstr(e.text, "name a regular file"),
              "%s", e.text);
}

Test(file, appending)
{
    char     other[160];
    td_error e = { 0 };
    FILE    *f;
    for (int k = 0; k < 2; k++) {
        f = td_file_append(path, &e);
        cr_assert(f && fputs("ab", f) >= 0 && !fclose(f), "%s", e.text);
    }
    expect_content("abab", 4);
    snprintf(other, sizeof other, "%s.link", path);
    cr_assert(!symlink(path, other));
    cr_expect_null(td_file_append(other, &e));
    cr_expect(strstr(e.text, other) && strstr(e.text, "link"), "%s", e.text);
    expect_content("abab", 4);
    cr_assert(!unlink(other) && !mkfifo(other, 0600));
    cr_expect_null(td_file_append(other, NULL));
    cr_assert(!unlink(other));
    e.code = 0;
    cr_expect_null(td_file_append(directory, &e));
    cr_expect(strstr(e.text, directory), "%s", e.text);
}

Test(file, maps)
{
    td_mapped_file m;
    td_file_write(path, "mapped", 6, NULL);
    cr_assert(!td_file_map(&m, path, NULL));
    cr_expect(m.size == 6 && !memcmp(m.data, "mapped", 6));
    td_file_unmap(&m);
    td_file_unmap(&m);
    td_file_write(path, "", 0, NULL);
    cr_assert(!td_file_map(&m, path, NULL));
    cr_expect(m.size == 0 && !m.data);
    td_file_unmap(&m);
}

Test(file, directories)
{
    char     deep[160];
    td_error e = { 0 };
    snprintf(deep, sizeof deep, "%s/a/b/c", directory);
    cr_expect(!td_make_directories(deep, &e), "%s", e.text);
    cr_expect(!td_make_directories(deep, &e), "twice is fine");
    cr_expect(td_file_exists(deep));
    td_file_write(path, "x", 1, NULL);
    cr_expect_eq(td_make_directories("", &e), TD_ECONFIG);
    cr_expect(strstr(e.text, "the path is empty"), "%s", e.text);
    snprintf(deep, sizeof deep, "%s/file/below", directory);
    cr_expect_eq(td_make_directories(deep, &e), TD_EIO);
    cr_expect_eq(count_files(), 2);
    snprintf(deep, sizeof deep, "%s/a", directory);
    cr_expect(!td_remove_tree(deep, NULL));
    cr_expect(!td_remove_tree(deep, NULL), "removing nothing is fine");
    cr_expect_eq(count_files(), 1);
}

static void put_in(const char *name, const char *text)
{
    char     file[160];
    td_error e = { 0 };
    snprintf(file, sizeof file, "%s/%s", directory, name);
    cr_assert(!td_make_directories(file, &e), "%s", e.text);
    strcat(file, "/file");
    cr_assert(!td_file_write(file, text, strlen(text), &e), "%s", e.text);
}

Test(file, directories_are_replaced)
{
    char     from[160], to[160];
    td_error e = { 0 };
    snprintf(from, sizeof from, "%s/new", directory);
    snprintf(to, sizeof to, "%s/name", directory);
    snprintf(path, sizeof path, "%s/name/file", directory);
    for (int k = 0; k < 2; k++) { /* first without a directory of that name, then with one */
        put_in("new", k ? "second" : "first");
        cr_assert(!td_replace_directory(from, to, &e), "%s", e.text);
        expect_content(k ? "second" : "first", k ? 6 : 5);
        cr_expect_eq(count_files(), 1);
    }
    cr_expect_eq(td_replace_directory(from, to, &e), TD_EIO);
    cr_expect(strstr(e.text, from), "%s", e.text);
}

/* A link in a removed tree is removed, but not its target. */
Test(file, removing_does_not_follow_links)
{
    char inside[160], target[160];
    snprintf(inside, sizeof inside, "%s/tree", directory);
    snprintf(target, sizeof target, "%s/tree/link", directory);
    td_make_directories(inside, NULL);
    td_file_write(path, "kept", 4, NULL);
    cr_assert(!symlink(directory, target));
    cr_expect(!td_remove_tree(inside, NULL));
    expect_content("kept", 4);
}

Test(file, hashes)
{
    char     hex[33];
    td_error e = { 0 };
    td_file_write(path, "", 0, NULL);
    cr_assert(!td_file_hash(path, hex, &e), "%s", e.text);
    /* XXH3-128 of nothing, as xxhsum -H2 prints it */
    cr_expect_str_eq(hex, "99aa06d3014798d86001c324468d497f");
    td_file_write(path, "tandem", 6, NULL);
    cr_assert(!td_file_hash(path, hex, &e));
    cr_expect_str_neq(hex, "99aa06d3014798d86001c324468d497f");
    cr_expect_eq(strlen(hex), 32);
    cr_expect_eq(td_file_hash("/no/such/file", hex, &e), TD_EIO);
}

static void expect_path(char *got, const char *want)
{
    cr_expect_str_eq(got, want);
    free(got);
}

Test(file, paths)
{
    expect_path(td_path_join("a", "b"), "a/b");
    expect_path(td_path_join("a", "/b"), "/b");
    expect_path(td_path_join("", "b"), "b");
    expect_path(td_path_directory("a/b/c"), "a/b");
    expect_path(td_path_directory("c"), ".");
    expect_path(td_path_directory("/c"), "/");
}
