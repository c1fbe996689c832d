/* module.h - the two plugins of the module. */
#ifndef TD_CPU_MODULE_H
#define TD_CPU_MODULE_H

#include "tandem/kind/backend.h"
#include "tandem/kind/kernels.h"

extern const td_backend td_cpu_backend;

#endif
