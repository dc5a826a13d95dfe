#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What ssh is on a cluster: `remote.sh [-x] HOST COMMAND...` runs a command on a host of the bed $HPC_DL_TESTBED.
# `remote.sh --here HOST COMMAND...` runs it where it is, under the host's name (in a UTS namespace of its own).
set -eu
if [ "$1" = "--here" ]; then
    hostname "$2"
    shift 2
    exec "$@"
fi
while [ "${1#-}" != "$1" ]; do shift; done
host="$1"
shift
# ssh hands its words to a shell on the other side, and mpiexec quotes them for that.
exec ip netns exec "${HPC_DL_TESTBED}-${host}" unshare -u sh "$0" --here "$host" sh -c "$*"
