/* machine.h - the machine that this process runs on: its memory, and a description for logs. */
#ifndef TD_BASE_MACHINE_H
#define TD_BASE_MACHINE_H

#include "base/text.h"

/* Bytes of RAM. */
double td_memory_bytes(void);
/* Bytes that this process may use: a container or a job scheduler may allow less than all RAM. */
double td_memory_limit(void);

/* A line each: host, system, processor, memory, compiler, and this process's command line. */
void td_machine_describe(td_text *out);

#endif
