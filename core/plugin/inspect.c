/* inspect.c - a look at an ELF file from outside: is it a shared object of this machine, and
 * what does its `tandem_module` say? Constructors run as soon as dlopen is called, so this comes
 * first. */
#include <elf.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "plugin/module.h"

typedef struct elf {
    const char          *path;
    const unsigned char *data;
    size_t               size;
    const Elf64_Phdr    *segments;
    size_t               n_segments;
} elf;

static bool within(const elf *e, uint64_t offset, uint64_t size)
{
    return offset <= e->size && size <= e->size - offset;
}

#if defined(__x86_64__)
enum { MACHINE = EM_X86_64 };
#elif defined(__aarch64__)
enum { MACHINE = EM_AARCH64 };
#else
enum { MACHINE = EM_NONE };
#endif

static int open_elf(elf *e, td_error *error)
{
    const Elf64_Ehdr *h = (const void *)e->data;
    if (e->size < sizeof *h || memcmp(e->data, ELFMAG, SELFMAG))
        return td_fail(
            error, TD_EPLUGIN,
            "'%s' is no plugin: it is no shared object (ELF); build it with cc -shared -fPIC",
            e->path);
    if (h->e_ident[EI_CLASS] != ELFCLASS64 || (MACHINE != EM_NONE && h->e_machine != MACHINE))
        return td_fail(error, TD_EPLUGIN,
                       "'%s' is built for another machine (ELF machine %d): build it here", e->path,
                       h->e_machine);
    if (h->e_type != ET_DYN)
        return td_fail(
            error, TD_EPLUGIN,
            "'%s' is no shared object but an ELF file of type %d: link it with cc -shared -fPIC",
            e->path, h->e_type);
    if (h->e_phentsize != sizeof(Elf64_Phdr) || h->e_phoff % 8 /* its alignment in the map */ ||
        !within(e, h->e_phoff, (uint64_t)h->e_phnum * sizeof(Elf64_Phdr)))
        return td_fail(
            error, TD_EPLUGIN,
            "'%s' is cut off or damaged: its program headers lie outside the file; build it again",
            e->path);
    e->segments = (const void *)(e->data + h->e_phoff);
    e->n_segments = h->e_phnum;
    for (size_t k = 0; k < e->n_segments; k++)
        if (e->segments[k].p_type == PT_LOAD &&
            !within(e, e->segments[k].p_offset, e->segments[k].p_filesz))
            return td_fail(
                error, TD_EPLUGIN,
                "'%s' is cut off or damaged: a segment lies outside the file; build it again",
                e->path);
    return 0;
}

/* What the loader would see at a virtual address, if `size` bytes of it are in the file. */
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

typedef struct dynamic {
    uint64_t symbols, names, names_size;
} dynamic;

static bool find_dynamic(const elf *e, dynamic *d)
{
    memset(d, 0, sizeof *d);
    for (size_t k = 0; k < e->n_segments; k++) {
        const Elf64_Phdr *s = &e->segments[k];
        if (s->p_type != PT_DYNAMIC || !within(e, s->p_offset, s->p_filesz))
            continue;
        for (uint64_t i = 0; i + sizeof(Elf64_Dyn) <= s->p_filesz; i += sizeof(Elf64_Dyn)) {
            Elf64_Dyn x;
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
    return d->symbols && d->names && d->names_size;
}

/* Calls `see` for each symbol until it says true; whether it did. The table has no length of its own
 * here: it ends where it stops making sense, or at the string table. */
static bool each_symbol(const elf *e, bool (*see)(void *, const Elf64_Sym *, const char *name),
                        void      *argument)
{
    dynamic     d;
    const char *names;
    if (!find_dynamic(e, &d) || !(names = at(e, d.names, d.names_size)) || names[d.names_size - 1])
        return false;
    for (uint64_t i = 1; i < 1u << 20; i++) {
        Elf64_Sym   symbol;
        uint64_t    address = d.symbols + i * sizeof symbol;
        const void *p = d.symbols < d.names && address + sizeof symbol > d.names
                            ? NULL
                            : at(e, address, sizeof symbol);
        if (!p)
            return false;
        memcpy(&symbol, p, sizeof symbol);
        if (symbol.st_name >= d.names_size)
            return false;
        if (symbol.st_shndx != SHN_UNDEF && see(argument, &symbol, names + symbol.st_name))
            return true;
    }
    return false;
}

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

typedef struct exports {
    td_text *names;
    size_t   count;
} exports;

/* Names that begin with _ are the tool chain's. */
static bool add_export(void *argument, const Elf64_Sym *symbol, const char *name)
{
    exports *x = argument;
    if (ELF64_ST_BIND(symbol->st_info) == STB_GLOBAL && *name && *name != '_' &&
        strcmp(name, TD_MODULE_SYMBOL) && x->count++ < 3)
        td_text_print(x->names, "%s'%s'", x->count > 1 ? ", " : "", name);
    return false;
}

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

static int check_module(const elf *e, const td_module *m, td_error *error)
{
    if (m->magic != TD_MAGIC)
        return td_fail(error, TD_EPLUGIN,
                       "'%s' is no plugin: its " TD_MODULE_SYMBOL
                       " begins with 0x%08x, not 0x%08x; use TD_MODULE",
                       e->path, m->magic, TD_MAGIC);
    if (m->abi_major != TD_ABI_MAJOR)
        return td_fail(
            error, TD_EPLUGIN,
            "'%s' is built for plugin ABI %d.%d; this tandem has %d.%d: %sbuild it again "
            "against the headers of this tandem",
            e->path, m->abi_major, m->abi_minor, TD_ABI_MAJOR, TD_ABI_MINOR,
            m->abi_major > TD_ABI_MAJOR ? "update tandem, or " : "");
    if (m->abi_minor > TD_ABI_MINOR)
        return td_fail(error, TD_EPLUGIN,
                       "'%s' needs the newer plugin ABI %d.%d; this tandem has %d.%d: update "
                       "tandem, or build the plugin against its headers",
                       e->path, m->abi_major, m->abi_minor, TD_ABI_MAJOR, TD_ABI_MINOR);
    if (m->size < sizeof *m)
        return td_fail(error, TD_EPLUGIN,
                       "'%s' says its " TD_MODULE_SYMBOL
                       " has %llu bytes; %zu are expected: use TD_MODULE",
                       e->path, (unsigned long long)m->size, sizeof *m);
    return 0;
}

/* Opening a pipe would wait for who writes to it. */
static int check_regular(const char *path, td_error *error)
{
    struct stat info;
    return stat(path, &info) || S_ISREG(info.st_mode)
               ? 0
               : td_fail(error, TD_EPLUGIN, "'%s' is no regular file: a module is one", path);
}

int td_module_inspect(const char *path, td_error *error)
{
    td_mapped_file map;
    elf            e = { .path = path };
    Elf64_Sym      symbol;
    td_module      m;
    const void    *data;
    int            code;

    if (check_regular(path, error) || td_file_map(&map, path, error))
        return TD_EPLUGIN;
    e.data = map.data;
    e.size = map.size;
    code = open_elf(&e, error);
    if (!code && !find_symbol(&e, TD_MODULE_SYMBOL, &symbol))
        code = td_fail(error, TD_EPLUGIN,
                       "'%s' is no plugin: it exports no symbol '" TD_MODULE_SYMBOL
                       "'; end the file with TD_MODULE(...)",
                       path);
    if (!code && !(data = at(&e, symbol.st_value, 16)))
        code = td_fail(error, TD_EPLUGIN,
                       "'%s' is no plugin: its '" TD_MODULE_SYMBOL "' is not constant data", path);
    if (!code) {
        memset(&m, 0, sizeof m);
        memcpy(&m, data, 16); /* magic, version and size; the pointers are the loader's to fill */
        code = check_module(&e, &m, error);
    }
    td_file_unmap(&map);
    return code;
}

static bool holds(const td_mapped_file *m, const char *text)
{
    return m->size && memmem(m->data, m->size, text, strlen(text) + 1) != NULL;
}

bool td_module_mentions(const char *path, const char *kind, const char *name)
{
    td_mapped_file map;
    bool           both;
    if (check_regular(path, NULL) || td_file_map(&map, path, NULL))
        return false;
    both = holds(&map, kind) && (!name || holds(&map, name));
    td_file_unmap(&map);
    return both;
}
