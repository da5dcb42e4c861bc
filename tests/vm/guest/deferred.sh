# User stacks that the kernel resolves on the way back to user mode, of a program that is always on
# a CPU; judged by check_deferred.py.
guest_deferred() {
  say "recording kernel-deferred stacks"
  start_daemon deferred.log || { put deferred.log; return; }
  demo --children off >/dev/null 2>&1 &
  workload=$!
  sleep 2 # past its start
  ctl record -a --stack kernel-deferred -F 499 -d "${seconds}s" \
    -o deferred.jsonl -o deferred.json >deferred.txt 2>&1
  echo "exit code $?" >>deferred.txt
  kill $workload
  wait $workload
  stop_daemon
  for file in deferred.txt deferred.jsonl deferred.json deferred.log; do put $file; done
}
