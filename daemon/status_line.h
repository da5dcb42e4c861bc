// The daemon in one line, for `systemctl status lbrd`: "3 sessions, 2,014 samples/s".
//
// Thread rules: one thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/time/time.h"

namespace lbrd::daemon {

class StatusLine {
 public:
  // `samples`: delivered so far by each session that runs. The rate is that since the call before.
  std::string Next(const std::map<std::string, uint64_t>& samples, absl::Time now);

 private:
  std::map<std::string, uint64_t> before_;
  absl::Time at_ = absl::InfinitePast();
};

// "2,014".
std::string WithThousands(uint64_t number);

}  // namespace lbrd::daemon
