/* modeling.h - the text of modeling_tandem.py, as a part of the module. */
#ifndef TANDEM_PLUGINS_FORMAT_MODELING_H
#define TANDEM_PLUGINS_FORMAT_MODELING_H

/* MODELING is the file's path (module.cmake). */
__asm__(".section .rodata\n"
        "modeling_begin:\n"
        ".incbin \"" MODELING "\"\n"
        "modeling_end:\n"
        ".byte 0\n"
        ".previous\n");

extern const char modeling_begin[] __attribute__((visibility("hidden")));
extern const char modeling_end[] __attribute__((visibility("hidden")));

#endif
