# The libraries that this module alone links.
target_link_libraries(${MODULE} PRIVATE ZLIB::ZLIB PkgConfig::ZSTD PkgConfig::JANSSON)
