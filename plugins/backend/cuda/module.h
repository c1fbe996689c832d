/* module.h - the backend, for the module's list of plugins. */
#ifndef TD_CUDA_MODULE_H
#define TD_CUDA_MODULE_H

#include "tandem/kind/backend.h"

extern const td_backend td_cuda_backend;

#endif
