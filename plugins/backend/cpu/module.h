/* module.h - the backend plugin of backend.c, which module.c exports along with its kernels. */
#ifndef TD_CPU_MODULE_H
#define TD_CPU_MODULE_H

#include "tandem/kind/backend.h"
#include "tandem/kind/kernels.h"

extern const td_backend td_cpu_backend;

#endif
