#!/usr/bin/env bash
# A worker in bash: claims the trials of a study one after the other, and trains each with a command.
#
#     examples/bash_worker.sh STUDY COMMAND [ARGUMENT...]
#
# The command is started once for each trial and gets the parameters as THAW_PARAM_NAME. Each line that it prints is a step: NAME=VALUE
# for each metric, such as "accuracy=0.91 loss=0.3". It is ended when the trial is pruned or cancelled, or its lease is lost.
# SIGTERM and Ctrl-C return the trial to the queue. Needs bash 5 and `thaw`; THAW_SERVER and THAW_TOKEN are those of all commands.
set -uo pipefail
set -m # each background job is a process group, which can be ended with everything below it

study=${1:?usage: bash_worker.sh STUDY COMMAND [ARGUMENT...]}
shift
name=$HOSTNAME-$$
folder=$(mktemp -d)
export THAW_CLAIM_FILE=$folder/claim
jobs=()

stop() { # end the background jobs, by SIGKILL after ten seconds
    local job
    for job in "${jobs[@]}"; do
        kill -- "-$job"
        for _ in {1..100}; do kill -0 -- "-$job" && sleep 0.1 || continue 2; done
        kill -KILL -- "-$job"
    done
    wait
    jobs=()
} 2>/dev/null
leave() {
    trap '' TERM INT
    stop
    [ -e "$THAW_CLAIM_FILE" ] && thaw trial release "the worker was stopped"
    exit 143
}
trap leave TERM INT
trap 'rm -rf "$folder"' EXIT

report() { # report the lines of the standard input; ends with the code of `thaw trial` if that is not 0
    local step=0 metrics
    while read -ra metrics; do
        ((${#metrics[@]})) || continue
        thaw trial report --step $((step += 1)) "${metrics[@]}" || return
    done
}
train() { # run the command and end the trial
    "$@" | report
    local codes=("${PIPESTATUS[@]}")
    if ((codes[1] == 5 || codes[1] == 6)); then
        return # the trial has ended already, or belongs to another attempt
    elif ((codes[1])); then
        thaw trial fail "a report was refused, with code ${codes[1]} of thaw trial"
    elif ((codes[0])); then
        thaw trial fail "the command ended with code ${codes[0]}"
    else
        thaw trial finish
    fi
}

while true; do
    thaw trial claim "$study" --worker "$name" >"$folder/variables" &
    jobs=($!)
    wait "$!" || exit $(($? == 4 ? 0 : $?)) # 4: the study has ended
    eval "$(<"$folder/variables")"
    thaw trial heartbeat --while $$ &
    jobs=($!)
    train "$@" &
    jobs+=($!)
    wait -n "${jobs[@]}" # whichever ends first: the heartbeat does if the trial was cancelled or its lease is lost
    stop
    rm -f "$THAW_CLAIM_FILE"
done
