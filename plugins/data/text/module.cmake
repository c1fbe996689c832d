include(${CMAKE_SOURCE_DIR}/plugins/data/common/module.cmake)
