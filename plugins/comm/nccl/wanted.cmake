# The module comm-nccl is built where the backend 'cuda' is, and the development files of Open MPI and NCCL.
set(MODULE_WANTED OFF)
if(OPENMPI_FOUND AND TARGET backend-cuda)
    find_path(TANDEM_NCCL nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} DOC "the directory of NCCL's header")
    if(TANDEM_NCCL)
        set(MODULE_WANTED ON)
    endif()
endif()
