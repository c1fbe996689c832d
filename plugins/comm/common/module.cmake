# A module of processes that MPI connects. COMM: the name of its plugin.
target_sources(${MODULE} PRIVATE ${CMAKE_SOURCE_DIR}/plugins/comm/common/world.c)
target_include_directories(${MODULE} PRIVATE ${CMAKE_SOURCE_DIR}/plugins/comm)
target_compile_definitions(${MODULE} PRIVATE COMM="${COMM}")
target_link_libraries(${MODULE} PRIVATE PkgConfig::OPENMPI)
