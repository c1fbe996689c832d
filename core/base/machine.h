/* machine.h - what this machine is. */
#ifndef TD_BASE_MACHINE_H
#define TD_BASE_MACHINE_H

#include "base/text.h"

double td_memory_bytes(void); /* of RAM */
/* What this process may use of it: a container may allow less. */
double td_memory_limit(void);

/* A line each: host, system, processor, memory, compiler, and the command line of this program. */
void td_machine_describe(td_text *out);

#endif
