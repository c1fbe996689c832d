# The module backend-cpu: OpenBLAS, and optimization for its loops. -ffp-contract=fast lets the clones with FMA use it.
pkg_check_modules(OPENBLAS REQUIRED IMPORTED_TARGET openblas)
target_link_libraries(${MODULE} PRIVATE PkgConfig::OPENBLAS)
target_compile_options(${MODULE} PRIVATE -O3 -ffp-contract=fast -fno-trapping-math -Wno-psabi)
if(EXISTS ${folder}/attend.c)
    target_compile_definitions(${MODULE} PRIVATE TD_CPU_ATTEND)
endif()
