# SPDX-License-Identifier: Apache-2.0
# Read by CMake after each project() of Horovod (see the script beside this file).

# Where Horovod says C++14, the compiler gets the standard that torch's headers need.
set(CMAKE_CXX14_STANDARD_COMPILE_OPTION "-std=c++$ENV{HPC_DL_CXX_STANDARD}")
set(CMAKE_CXX14_EXTENSION_COMPILE_OPTION "-std=c++$ENV{HPC_DL_CXX_STANDARD}")

# Libraries are found relative to the installed package, so that the wheel fits every environment of its kind. By itself
# CMake would write down this environment's absolute paths, and another one would silently load two MPI libraries.
set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)
set(CMAKE_INSTALL_RPATH "$ENV{HPC_DL_RPATH}")

# Nobody debugs this wheel, and without symbols torch's headers compile in half the time (adapter_v2.cc: 31 s of
# processor time in place of 56 s).
string(REPLACE "-g" "" CMAKE_CXX_FLAGS_RELWITHDEBINFO "${CMAKE_CXX_FLAGS_RELWITHDEBINFO}")
