set(COMM mpi)
include(${CMAKE_SOURCE_DIR}/plugins/comm/common/module.cmake)
