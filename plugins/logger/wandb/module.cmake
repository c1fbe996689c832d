# The module logger-wandb: checksums of records, and the run's config as JSON.
target_include_directories(${MODULE} PRIVATE ${CMAKE_SOURCE_DIR}/plugins/logger)
target_link_libraries(${MODULE} PRIVATE ZLIB::ZLIB PkgConfig::CONFIG PkgConfig::JANSSON)
