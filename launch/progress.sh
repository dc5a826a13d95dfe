# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Shows that a long command of the set-up goes on.

with_progress() { # LABEL LOG COMMAND...: the command's output goes to LOG, how far it is to the screen; its exit status
    local label=$1 log=$2 status=0 at_exit shown
    shift 2
    : >"$log"
    at_exit=$(trap -p EXIT)
    trap - EXIT # a process that is ended as it begins would run it
    _show_progress "$label" "$log" $$ &
    shown=$!
    eval "$at_exit"
    "$@" >"$log" 2>&1 || status=$?
    kill "$shown" 2>/dev/null || true
    wait "$shown" 2>/dev/null || true
    [ ! -t 1 ] || printf '\r\033[K'
    return $status
}

# One line that is rewritten every second on a terminal, a line every 30 s elsewhere; ends with the shell that began it.
_show_progress() { # LABEL LOG SHELL
    local begun=$SECONDS next=$((SECONDS + 30)) width=120 before='' after=$'\n' line
    if [ -t 1 ]; then
        next=0 width=$(($(tput cols 2>/dev/null || echo 80) - 1)) before=$'\r\033[K' after=''
    fi
    while sleep 1 >/dev/null 2>&1 && kill -0 "$3" 2>/dev/null; do
        ((SECONDS >= next)) || continue
        line="$1 $((SECONDS - begun)) s  $(_last_stage "$2")"
        printf '%s' "$before${line:0:width}$after"
        [ -t 1 ] || next=$((SECONDS + 30))
    done
}

# What pip and make were last heard to do.
_last_stage() { # LOG
    tail -n 200 "$1" | grep -oE '\[ *[0-9]+%\] (Building|Linking) .*|(Downloading|Collecting|Building|Installing) .*' |
        tail -n 1 | sed -E 's|(Building CXX object ).*/|\1|; s|https?://[^ ]*/||' || true
}
