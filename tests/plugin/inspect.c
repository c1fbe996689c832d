/* inspect.c - inspecting a damaged module never crashes: flipped bytes, replaced words, truncation
 * at any point. */
#include "plugin/scratch.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "plugin/module.h"

typedef struct damaged {
    scratch        s;
    char           path[256];
    unsigned char *data;
    size_t         size;
} damaged;

/* A copy of the good module, writable in memory. */
static damaged open_copy(void)
{
    damaged d = { .s = scratch_new() };
    int     fd;
    copy_to(&d.s, FIXTURE("good.so"), "good.so");
    scratch_path(&d.s, "good.so", d.path);
    d.size = (size_t)td_file_size(d.path);
    fd = open(d.path, O_RDWR);
    cr_assert(fd >= 0);
    d.data = mmap(NULL, d.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    cr_assert(d.data != MAP_FAILED);
    close(fd);
    return d;
}

static void close_copy(damaged *d)
{
    munmap(d->data, d->size);
    scratch_free(&d->s);
}

/* Either accepted, or refused with a message. */
static bool look(const damaged *d)
{
    td_error e = { 0 };
    int      code = td_module_inspect(d->path, &e);
    cr_assert(code == 0 || (code == TD_EPLUGIN && e.code == code && strstr(e.text, d->path)),
              "%d: '%s'", code, e.text);
    return code == 0;
}

Test(inspect, one_byte_wrong)
{
    static const unsigned char flips[] = { 0x01, 0x80, 0xff };
    damaged                    d = open_copy();
    size_t                     refused = 0;
    cr_assert(look(&d));
    for (size_t i = 0; i < d.size; i += i < 4096 ? 1 : 7)
        for (size_t k = 0; k < sizeof flips; k++) {
            d.data[i] ^= flips[k];
            refused += !look(&d);
            d.data[i] ^= flips[k];
        }
    cr_expect(refused > 31, "%zu", refused);
    cr_expect(look(&d));
    close_copy(&d);
}

/* Eight bytes at a time: offsets, addresses and sizes near the limits of 64 bits. */
Test(inspect, one_word_wrong)
{
    static const uint64_t words[] = {
        0, 1, 7, UINT64_MAX, UINT64_MAX - 7, UINT64_C(1) << 63, UINT32_MAX
    };
    damaged d = open_copy();
    for (size_t i = 0; i + 8 <= d.size; i += 8)
        for (size_t k = 0; k < sizeof words / sizeof *words; k++) {
            uint64_t was;
            memcpy(&was, d.data + i, sizeof was);
            memcpy(d.data + i, &words[k], sizeof was);
            look(&d);
            memcpy(d.data + i, &was, sizeof was);
        }
    cr_expect(look(&d));
    close_copy(&d);
}

Test(inspect, cut_off_anywhere)
{
    damaged d = open_copy();
    for (size_t cut = d.size; cut > 0; cut = cut > 1 ? cut * 97 / 101 : 0) {
        cr_assert(!truncate(d.path, (off_t)cut));
        cr_expect(look(&d) || cut < d.size);
    }
    close_copy(&d);
}

/* Each of a million symbols would be looked for in each of 65535 segments. */
Test(inspect, too_many_segments_are_refused)
{
    damaged     d = open_copy();
    Elf64_Ehdr  header;
    Elf64_Phdr *many = calloc(UINT16_MAX, sizeof *many);
    FILE       *f = fopen(d.path, "r+b");
    td_error    e = { 0 };
    cr_assert(many && f);
    memcpy(&header, d.data, sizeof header);
    header.e_phoff = (d.size + 7) / 8 * 8;
    header.e_phnum = UINT16_MAX;
    cr_assert_eq(fwrite(&header, sizeof header, 1, f), 1);
    cr_assert(!fseek(f, (long)header.e_phoff, SEEK_SET));
    cr_assert_eq(fwrite(many, sizeof *many, UINT16_MAX, f), UINT16_MAX);
    cr_assert(!fclose(f));
    cr_expect_eq(td_module_inspect(d.path, &e), TD_EPLUGIN);
    cr_expect(strstr(e.text, "65535 program headers"), "%s", e.text);
    free(many);
    close_copy(&d);
}
