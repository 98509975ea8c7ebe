# What a program says of its own build: the same everywhere.
set(BUILD_NUMBER 0)
set(BUILD_COMMIT "unknown")
set(BUILD_COMPILER "unknown")
set(BUILD_TARGET "unknown")
configure_file(common/build-info.cpp.in common/build-info.cpp @ONLY)
