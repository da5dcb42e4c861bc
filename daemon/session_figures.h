// What a session has counted, as far as it goes on when the engine dies. Numbers only: it is kept
// in memory that the next engine reads (daemon/session_journal.h).
#pragma once

#include <cstdint>

namespace lbrd::daemon {

struct SessionFigures {
  uint64_t time_ns = 0;  // when this was so: CLOCK_MONOTONIC
  uint64_t seen = 0;
  uint64_t lost = 0;
  // Of those seen, dropped.
  uint64_t queue_full = 0;
  uint64_t undecodable = 0;
  uint64_t profile_full = 0;
  uint64_t duplicates = 0;
  uint64_t other_users = 0;
  uint64_t engine_died = 0;
  // Of the flow, and left out of it.
  uint64_t flow_samples = 0;
  uint64_t thinned = 0;
  uint64_t other_cpu = 0;
  uint64_t other_thread = 0;
  uint64_t other_process = 0;
  uint64_t other_comm = 0;

  uint64_t side_band_lost = 0;
  uint64_t late_records = 0;
  uint64_t throttled = 0;
  uint64_t event_count = 0;
  uint64_t time_enabled_ns = 0;
  uint64_t time_running_ns = 0;
  uint64_t gap_count = 0;
  uint64_t gap_ns = 0;
  uint64_t engine_deaths = 0;

  SessionFigures& operator+=(const SessionFigures& other);
  // The engine that counted this has died. Its figures may be of different moments: they are made
  // to add up, so that what was seen and has no other place was lost with the engine.
  void EndWithEngine();
};

}  // namespace lbrd::daemon
