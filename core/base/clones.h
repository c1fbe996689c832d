/* clones.h - a function that is compiled for several instruction sets, of which the loader picks one
 * for the machine. Products and sums are never contracted (-ffp-contract=off), so all clones give
 * the same bits as long as a sum's order is written out. */
#ifndef TD_BASE_CLONES_H
#define TD_BASE_CLONES_H

/* The loader picks a clone before a sanitizer's runtime is ready, so sanitized builds have one
 * version of each function. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(TANDEM_SANITIZED)
#define TD_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define TD_CLONES
#endif

#endif
