# The module comm-nccl: MPI as in comm-mpi; the CUDA runtime is linked statically, and NCCL is loaded when GPUs are
# connected. So the module loads on any machine with MPI, and can say what is missing.
set(COMM nccl)
include(${CMAKE_SOURCE_DIR}/plugins/comm/common/module.cmake)
target_link_libraries(${MODULE} PRIVATE CUDA::cudart_static ${CMAKE_DL_LIBS})
target_include_directories(${MODULE} SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS} ${TANDEM_NCCL})
target_link_options(${MODULE} PRIVATE -Wl,--exclude-libs,ALL)
