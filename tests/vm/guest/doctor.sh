# What lbrctl doctor finds on this kernel; judged by check_doctor.py.
guest_doctor() {
  say "asking lbrctl doctor"
  start_daemon doctor.log || { put doctor.log; return; }
  ctl doctor >doctor.txt 2>&1
  echo "exit code $?" >>doctor.txt
  ctl doctor --json >doctor.json 2>>doctor.log
  # Nothing that the probes opened or started may be left.
  ls -l /proc/$(engine)/fd | grep -c perf_event >doctor-left.txt
  cat /proc/[0-9]*/status 2>/dev/null | grep -c "^PPid:[[:space:]]*$(engine)\$" >>doctor-left.txt
  stop_daemon
  for file in doctor.txt doctor.json doctor-left.txt doctor.log; do put $file; done
}
