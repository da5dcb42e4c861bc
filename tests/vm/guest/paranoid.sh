# Debian's kernels begin with kernel.perf_event_paranoid at 3, which Linux itself does not know; judged
# by check_paranoid.py. Once with all that root may do, and without CAP_SYS_ADMIN, as under systemd.
paranoid=/proc/sys/kernel/perf_event_paranoid

# try NAME COMMAND...: with lbrd started by COMMAND.
try() {
  name=$1; shift
  say "perf_event_paranoid is $(cat $paranoid), $name"
  cat $paranoid >paranoid-$name.txt
  rm -f $socket
  "$@" lbrd --socket $socket --no-history >paranoid-$name.log 2>&1 &
  daemon=$!
  wait_for "lbrd's socket" 60 test -S $socket || { put paranoid-$name.log; return; }
  ctl doctor --json >paranoid-$name.json 2>>paranoid-$name.log
  ctl record -a -d 1s -o paranoid-$name-account.json >>paranoid-$name.txt 2>&1
  echo "exit code $?" >>paranoid-$name.txt
  stop_daemon
  for file in paranoid-$name.txt paranoid-$name.json paranoid-$name.log; do put $file; done
}

guest_paranoid() {
  echo 3 >$paranoid
  try root
  # By its path: the shell has a setpriv of its own, which knows less.
  try service /bin/setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin
  echo 2 >$paranoid
  try allowed /bin/setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin
}
