# What it shares with other data sources, and the libraries that data sources alone link.
file(GLOB COMMON CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/plugins/data/common/*.c)
target_sources(${MODULE} PRIVATE ${COMMON})
target_include_directories(${MODULE} PRIVATE ${CMAKE_SOURCE_DIR}/plugins/data)
target_link_libraries(${MODULE} PRIVATE ZLIB::ZLIB PkgConfig::ZSTD PkgConfig::JANSSON)
