/* inspect.c - a look at a module's file from outside: is it a shared object of this machine, and
 * what does its `tandem_module` say?
 *
 * ELF: https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html. Only the parts that the
 * loader itself uses are read (program headers, the dynamic segment), because section headers may
 * be stripped. Every offset is checked against the file before it is followed.
 */
#include "plugin/inspect.h"

#include <elf.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

typedef struct elf {
    const char          *path;
    const unsigned char *data;
    size_t               size;
    const Elf64_Phdr    *segments;
    size_t               n_segments;
} elf;

#if defined(__x86_64__)
enum { MACHINE = EM_X86_64 };
#elif defined(__aarch64__)
enum { MACHINE = EM_AARCH64 };
#else
enum { MACHINE = EM_NONE }; /* not checked here; dlopen will */
#endif

/* Written so that no sum can overflow: both may be any 64 bits. */
static bool within(const elf *e, uint64_t offset, uint64_t size)
{
    return offset <= e->size && size <= e->size - offset;
}

/* The first 64 bytes tell the kind of file. */
static int check_header(const elf *e, const Elf64_Ehdr *h, td_error *error)
{
    /* Scripts and texts named .so, builds for another architecture, and programs are what people
     * actually put there: each gets its own message. */
    if (e->size < sizeof *h || memcmp(e->data, ELFMAG, SELFMAG))
        return td_fail(
            error, TD_EPLUGIN,
            "'%s' is not a plugin: it is not a shared object (ELF); build it with cc -shared -fPIC",
            e->path);
    if (h->e_ident[EI_CLASS] != ELFCLASS64 || (MACHINE != EM_NONE && h->e_machine != MACHINE))
        return td_fail(error, TD_EPLUGIN,
                       "'%s' is built for another machine (ELF machine %d): rebuild it on this one",
                       e->path, h->e_machine);
    if (h->e_type != ET_DYN)
        return td_fail(
            error, TD_EPLUGIN,
            "'%s' is an ELF file of type %d, not a shared object: link it with cc -shared -fPIC",
            e->path, h->e_type);
    return 0;
}

/* A full disk, or a build that was interrupted: rebuilding cures both. */
static int truncated(const elf *e, const char *what, td_error *error)
{
    return td_fail(error, TD_EPLUGIN,
                   "'%s' is truncated or damaged: %s outside the file; rebuild it", e->path, what);
}

enum { MOST_SEGMENTS = 128 };

/* Map and size are set; find and check the segments. */
static int open_elf(elf *e, td_error *error)
{
    const Elf64_Ehdr *h = (const void *)e->data; /* maps begin at a page: aligned */
    if (check_header(e, h, error))
        return TD_EPLUGIN;
    /* A misaligned table is read through a pointer below, so it is refused like one that is cut. */
    if (h->e_phentsize != sizeof(Elf64_Phdr) || h->e_phoff % 8 ||
        !within(e, h->e_phoff, (uint64_t)h->e_phnum * sizeof(Elf64_Phdr)))
        return truncated(e, "its program headers lie", error);
    /* Every symbol is looked for among them; real modules have a dozen. */
    if (h->e_phnum > MOST_SEGMENTS)
        return td_fail(
            error, TD_EPLUGIN,
            "'%s' is damaged: it claims %d program headers, more than the %d that a module "
            "can have; rebuild it",
            e->path, h->e_phnum, MOST_SEGMENTS);
    e->segments = (const void *)(e->data + h->e_phoff);
    e->n_segments = h->e_phnum;
    /* The loader would map a segment that goes past the end; reading it would raise SIGBUS. */
    for (size_t k = 0; k < e->n_segments; k++)
        if (e->segments[k].p_type == PT_LOAD &&
            !within(e, e->segments[k].p_offset, e->segments[k].p_filesz))
            return truncated(e, "a segment lies", error);
    return 0;
}

/* Where the file has the `size` bytes that the loader will put at a virtual address; NULL: nowhere
 * (zeros added at load time, or a damaged address). */
static const void *at(const elf *e, uint64_t address, uint64_t size)
{
    for (size_t k = 0; k < e->n_segments; k++) {
        const Elf64_Phdr *s = &e->segments[k];
        if (s->p_type == PT_LOAD && address >= s->p_vaddr && size <= s->p_filesz &&
            address - s->p_vaddr <= s->p_filesz - size)
            return e->data + s->p_offset + (address - s->p_vaddr);
    }
    return NULL;
}

/* ---- symbols --------------------------------------------------------------------------------- */

/* Virtual addresses of the symbol and string tables. */
typedef struct dynamic {
    uint64_t symbols, names, names_size;
} dynamic;

/* The dynamic segment is a list of (tag, value), ended by DT_NULL or by its size. */
static void read_dynamic(const elf *e, const Elf64_Phdr *s, dynamic *d)
{
    for (uint64_t i = 0; i + sizeof(Elf64_Dyn) <= s->p_filesz; i += sizeof(Elf64_Dyn)) {
        Elf64_Dyn x; /* a copy: the segment may lie at any offset */
        memcpy(&x, e->data + s->p_offset + i, sizeof x);
        if (x.d_tag == DT_NULL)
            break;
        if (x.d_tag == DT_SYMTAB)
            d->symbols = x.d_un.d_ptr;
        if (x.d_tag == DT_STRTAB)
            d->names = x.d_un.d_ptr;
        if (x.d_tag == DT_STRSZ)
            d->names_size = x.d_un.d_val;
    }
}

/* Where the loader would find the symbols; false if it would find none. */
static bool find_dynamic(const elf *e, dynamic *d)
{
    memset(d, 0, sizeof *d);
    for (size_t k = 0; k < e->n_segments; k++)
        if (e->segments[k].p_type == PT_DYNAMIC &&
            within(e, e->segments[k].p_offset, e->segments[k].p_filesz))
            read_dynamic(e, &e->segments[k], d);
    return d->symbols && d->names && d->names_size;
}

/* Symbol i of the table, or false past its end. ELF does not store the table's length where the
 * loader looks, so it ends at the string table (where linkers put it), or where the file does. */
static bool read_symbol(const elf *e, const dynamic *d, uint64_t i, Elf64_Sym *out)
{
    uint64_t    address = d->symbols + i * sizeof *out;
    bool        in_names = d->symbols < d->names && address + sizeof *out > d->names;
    const void *p = in_names ? NULL : at(e, address, sizeof *out);
    if (!p)
        return false;
    memcpy(out, p, sizeof *out);
    return out->st_name < d->names_size; /* a name outside the strings: not a symbol */
}

/* Call `see` for each symbol that the module defines until it returns true; returns whether it
 * did. */
static bool each_symbol(const elf *e, bool (*see)(void *, const Elf64_Sym *, const char *name),
                        void      *argument)
{
    enum { MOST_SYMBOLS = 1 << 20 }; /* a damaged table must not keep us busy */
    dynamic     d;
    const char *names;
    Elf64_Sym   symbol;
    if (!find_dynamic(e, &d))
        return false;
    /* with a 0 at the very end, every name in the table ends inside it */
    names = at(e, d.names, d.names_size);
    if (!names || names[d.names_size - 1])
        return false;
    /* symbol 0 is always the undefined one */
    for (uint64_t i = 1; i < MOST_SYMBOLS && read_symbol(e, &d, i, &symbol); i++)
        if (symbol.st_shndx != SHN_UNDEF && see(argument, &symbol, names + symbol.st_name))
            return true;
    return false;
}

/* A linear search, not the hash table: that has two formats, and this runs once a file. */
typedef struct sought {
    const char *name;
    Elf64_Sym  *out;
} sought;

static bool is_sought(void *argument, const Elf64_Sym *symbol, const char *name)
{
    sought *s = argument;
    *s->out = *symbol;
    return !strcmp(name, s->name);
}

static bool find_symbol(const elf *e, const char *name, Elf64_Sym *out)
{
    return each_symbol(e, is_sought, &(sought){ name, out });
}

/* ---- a file at a time ------------------------------------------------------------------------ */

typedef struct exports {
    td_text *names;
    size_t   count;
} exports;

static bool add_export(void *argument, const Elf64_Sym *symbol, const char *name)
{
    enum { NAMED = 3 };
    exports *x = argument;
    /* Weak symbols are inline functions of C++, meant to exist many times over; names that begin
     * with _ belong to the tool chain (_init, __bss_start) */
    if (ELF64_ST_BIND(symbol->st_info) == STB_GLOBAL && *name && *name != '_' &&
        strcmp(name, TD_MODULE_SYMBOL) && x->count++ < NAMED)
        td_text_print(x->names, "%s'%s'", x->count > 1 ? ", " : "", name);
    return false;
}

/* For advice only, so a file that cannot be read has no exports. */
size_t td_module_exports(const char *path, td_text *names)
{
    td_mapped_file map;
    elf            e = { .path = path };
    exports        x = { names, 0 };
    if (td_file_map(&map, path, NULL))
        return 0;
    e.data = map.data;
    e.size = map.size;
    if (!open_elf(&e, NULL))
        each_symbol(&e, add_export, &x);
    td_file_unmap(&map);
    return x.count;
}

/* The order matters: the version is only meaningful if the magic is right, and the size if the
 * version is. */
static int check_module(const char *path, const td_module *m, td_error *error)
{
    if (m->magic != TD_MAGIC)
        return td_fail(error, TD_EPLUGIN,
                       "'%s' is not a plugin: its " TD_MODULE_SYMBOL
                       " begins with 0x%08x, not 0x%08x; use TD_MODULE",
                       path, m->magic, TD_MAGIC);
    if (m->abi_major != TD_ABI_MAJOR)
        return td_fail(
            error, TD_EPLUGIN,
            "'%s' is built for plugin ABI %d.%d; this tandem has %d.%d: %srebuild it against this "
            "tandem's headers",
            path, m->abi_major, m->abi_minor, TD_ABI_MAJOR, TD_ABI_MINOR,
            m->abi_major > TD_ABI_MAJOR ? "update tandem, or " : "");
    if (m->abi_minor > TD_ABI_MINOR)
        return td_fail(error, TD_EPLUGIN,
                       "'%s' needs the newer plugin ABI %d.%d; this tandem has %d.%d: update "
                       "tandem, or rebuild the plugin against this tandem's headers",
                       path, m->abi_major, m->abi_minor, TD_ABI_MAJOR, TD_ABI_MINOR);
    /* the ABI is a draft: a minor may change what modules of the one before it read or ignore */
    if (m->abi_minor < TD_ABI_MINOR)
        return td_fail(error, TD_EPLUGIN,
                       "'%s' is built for plugin ABI %d.%d, a draft that this tandem, which has "
                       "%d.%d, no longer runs: rebuild it against this tandem's headers",
                       path, m->abi_major, m->abi_minor, TD_ABI_MAJOR, TD_ABI_MINOR);
    /* one of a later tandem may be larger: fields are only ever added at the end */
    if (m->size < sizeof *m)
        return td_fail(error, TD_EPLUGIN,
                       "'%s': its " TD_MODULE_SYMBOL
                       " declares a size of %llu bytes; expected %zu: use TD_MODULE",
                       path, (unsigned long long)m->size, sizeof *m);
    return 0;
}

/* Find tandem_module in an open file and check its contents. */
static int check_contents(const elf *e, td_error *error)
{
    enum { CHECKED = 16 }; /* bytes of magic, version and size */
    Elf64_Sym   symbol;
    td_module   m = { 0 };
    const void *data;
    if (!find_symbol(e, TD_MODULE_SYMBOL, &symbol))
        return td_fail(error, TD_EPLUGIN,
                       "'%s' is not a plugin: it exports no symbol '" TD_MODULE_SYMBOL
                       "'; end the source with TD_MODULE(...)",
                       e->path);
    data = at(e, symbol.st_value, CHECKED);
    if (!data)
        return td_fail(error, TD_EPLUGIN,
                       "'%s' is not a plugin: its '" TD_MODULE_SYMBOL "' is not constant data",
                       e->path);
    /* the pointers behind these are not relocated yet: only the loader can fill them */
    memcpy(&m, data, CHECKED);
    return check_module(e->path, &m, error);
}

/* td_file_map refuses pipes and directories too; here the message is one of plugins. A file that is
 * missing passes, for td_file_map to report. */
static int check_regular(const char *path, td_error *error)
{
    struct stat info;
    if (stat(path, &info) || S_ISREG(info.st_mode))
        return 0;
    return td_fail(error, TD_EPLUGIN, "'%s' is not a plugin: it is not a regular file", path);
}

int td_module_inspect(const char *path, td_error *error)
{
    td_mapped_file map;
    elf            e = { .path = path };
    int            code;

    /* a map: modules with debug data are large, and only a few pages of each are needed */
    if (check_regular(path, error) || td_file_map(&map, path, error))
        return TD_EPLUGIN;
    e.data = map.data;
    e.size = map.size;
    code = open_elf(&e, error);
    if (!code)
        code = check_contents(&e, error);
    td_file_unmap(&map);
    return code;
}

/* With its 0, so that "rms" is not found in "rmsprop"; it may still be the end of a longer string,
 * which costs no more than loading one module too many. */
static bool contains(const td_mapped_file *m, const char *text)
{
    return m->size && memmem(m->data, m->size, text, strlen(text) + 1) != NULL;
}

bool td_module_mentions(const char *path, const char *kind, const char *name)
{
    td_mapped_file map;
    bool           both;
    if (td_file_map(&map, path, NULL))
        return false;
    both = contains(&map, kind) && (!name || contains(&map, name));
    td_file_unmap(&map);
    return both;
}
