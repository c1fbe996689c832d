/* modeling.h - the text of modeling_*.py, as part of the module. */
#ifndef TANDEM_PLUGINS_FORMAT_MODELING_H
#define TANDEM_PLUGINS_FORMAT_MODELING_H

/* NAME_begin and NAME_end are the text of NAME.py; MODELING is the folder's path (module.cmake). */
#define MODELING_TEXT(name)                                                 \
    __asm__(".section .rodata\n" #name "_begin:\n"                          \
            ".incbin \"" MODELING "/" #name ".py\"\n" #name "_end:\n"       \
            ".byte 0\n"                                                     \
            ".previous\n");                                                 \
    extern const char name##_begin[] __attribute__((visibility("hidden"))); \
    extern const char name##_end[] __attribute__((visibility("hidden")))

MODELING_TEXT(modeling_parts);
MODELING_TEXT(modeling_tandem);

#endif
