# A program 60 calls deep through distinct functions, twice what the LBR holds: by stitching alone, with
# a copy of the stack beside it, and by stock perf; judged by check_deep.py.

# About a sample a level.
period=2000003
# A session has samples: its events are on, which they are some time after it is said to run.
sampling() { ctl list | grep -q ' [1-9][0-9,]* root$'; }

# Begun under the events: a thread that runs already starts with an empty LBR.
deep() {
  sleep 2
  deep_chain "$seconds" 160000 &
}

deep_by_lbrd() { # NAME OPTION...
  name=$1
  shift
  ctl record -a -c $period --stack lbr "$@" -d "${seconds}s" \
    --format jsonl -o "$name.jsonl" >"$name.txt" 2>&1 &
  record=$!
  wait_for "a session's first samples" 60 sampling
  deep
  wait $record
  echo "exit code $?" >>"$name.txt"
  put "$name.txt"
  put "$name.jsonl"
  rm -f "$name.jsonl"
  wait $!
}

guest_deep() {
  if [ $with_lbrd = yes ]; then
    say "recording a deep chain with lbrd"
    if start_daemon deep.log; then
      deep_by_lbrd deep
      deep_by_lbrd deep-copy --stack-bytes 16384
      stop_daemon
    fi
    put deep.log
  fi
  [ $with_perf = yes ] || return 0
  say "recording it with stock perf"
  perf record -q -a -c $period -e cycles --call-graph lbr -o deep.data -- \
    sh -c "touch /tmp/perf-records-deep; sleep $seconds" >deep-perf.log 2>&1 &
  record=$!
  wait_for "stock perf's recording" 60 test -e /tmp/perf-records-deep
  deep
  wait $record
  put deep-perf.log
  put deep.data
  wait $!
}
