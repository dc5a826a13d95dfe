# SPDX-License-Identifier: Apache-2.0
# Read by CMake after each project() of Horovod (see the script beside this file).
set(standard $ENV{HPC_DL_CXX_STANDARD})

# What headers use and do not include: std::string in Horovod's group_table.h, std::logic_error in its common.h (its
# repository has mended both since, "Fix build on gcc 13"), uint8_t in gloo's types.h. The standard library includes the
# first two by itself up to g++ 12, the third up to g++ 14.
string(APPEND CMAKE_CXX_FLAGS " -include string -include stdexcept -include cstdint")

# flatbuffers' own span (stl_emulation.h, line 549) assigns to a constant. g++ 14 and clang 19 are the first to look into
# a template that nobody uses; flatbuffers takes std::span instead when told to. That is C++20, which older torch does
# not ask for, but bears.
include(CheckCXXSourceCompiles)
set(CMAKE_REQUIRED_INCLUDES "${CMAKE_SOURCE_DIR}/third_party/flatbuffers/include")
set(CMAKE_REQUIRED_FLAGS "-std=c++${standard}")
check_cxx_source_compiles("#include <flatbuffers/flatbuffers.h>\nint main() {}" FLATBUFFERS_SPAN_COMPILES)
unset(CMAKE_REQUIRED_INCLUDES)
unset(CMAKE_REQUIRED_FLAGS)
if(NOT FLATBUFFERS_SPAN_COMPILES)
    set(standard 20)
    string(APPEND CMAKE_CXX_FLAGS " -DFLATBUFFERS_USE_STD_SPAN")
endif()

# Where Horovod says C++14, the compiler gets the standard that torch's headers need.
set(CMAKE_CXX14_STANDARD_COMPILE_OPTION "-std=c++${standard}")
set(CMAKE_CXX14_EXTENSION_COMPILE_OPTION "-std=c++${standard}")

# Libraries are found relative to the installed package, so that the wheel fits every environment of its kind. By itself
# CMake would write down this environment's absolute paths, and another one would silently load two MPI libraries.
set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)
set(CMAKE_INSTALL_RPATH "$ENV{HPC_DL_RPATH}")

# Nobody debugs this wheel, and without symbols torch's headers compile in half the time (adapter_v2.cc: 31 s of
# processor time in place of 56 s).
string(REPLACE "-g" "" CMAKE_CXX_FLAGS_RELWITHDEBINFO "${CMAKE_CXX_FLAGS_RELWITHDEBINFO}")

# A CUDA toolkit is nothing to a torch without CUDA, and may not take this compiler.
if("$ENV{HPC_DL_CUDA}" STREQUAL "")
  set(CMAKE_CUDA_COMPILER NOTFOUND)
  set(CMAKE_DISABLE_FIND_PACKAGE_CUDAToolkit ON)
endif()

# Files are compiled eight at a time, as most of the time goes into headers that they share (all of it: 128 s of processor
# time in place of 297 s). gloo's allreduce_local.cc cannot share a name with allreduce.cc.
set(CMAKE_UNITY_BUILD ON)
if(PROJECT_NAME STREQUAL "gloo") # for a torch of the old ABI once more, from a copy, as compatible_gloo
  get_filename_component(gloo_target "${CMAKE_CURRENT_SOURCE_DIR}" NAME)
  cmake_language(DEFER CALL set_source_files_properties "${CMAKE_CURRENT_SOURCE_DIR}/gloo/allreduce_local.cc"
    TARGET_DIRECTORY "${gloo_target}" PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
endif()
