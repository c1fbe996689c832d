# Shared by data sources, with the libraries that only they link; included by their module.cmake.
file(GLOB COMMON CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/plugins/data/common/*.c)
target_sources(${MODULE} PRIVATE ${COMMON})
target_include_directories(${MODULE} PRIVATE ${CMAKE_SOURCE_DIR}/plugins/data)
target_link_libraries(${MODULE} PRIVATE ZLIB::ZLIB PkgConfig::ZSTD PkgConfig::JANSSON PkgConfig::XXHASH)
