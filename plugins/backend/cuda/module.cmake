# The module backend-cuda: the CUDA runtime is linked statically and finds the driver when it runs; cuBLASLt is loaded
# when the backend is opened. So the module loads on any machine, and can say what is missing.
target_link_libraries(${MODULE} PRIVATE CUDA::cudart_static ${CMAKE_DL_LIBS})
target_include_directories(${MODULE} SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
target_compile_definitions(${MODULE} PRIVATE TD_CUDA_MAJOR="${CUDAToolkit_VERSION_MAJOR}")
target_link_options(${MODULE} PRIVATE -Wl,--exclude-libs,ALL)
set_target_properties(${MODULE} PROPERTIES LINKER_LANGUAGE CXX CUDA_STANDARD 17 CUDA_VISIBILITY_PRESET hidden
    CUDA_RUNTIME_LIBRARY None)
# Attention by tensor cores uses instructions that only the architecture 90a has.
if("90a-real" IN_LIST CMAKE_CUDA_ARCHITECTURES)
    target_compile_definitions(${MODULE} PRIVATE TD_CUDA_CORES)
endif()
