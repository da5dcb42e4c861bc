// The daemon's options about its history.
#pragma once

#include <CLI/App.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/history.h"

namespace lbrd::daemon {

struct HistoryFlags {
  bool off = false;
  bool no_continuous = false;
  std::string path;
  std::string bytes;
  std::string age;
  std::string bucket;

  void AddTo(CLI::App& app);
  // kInvalidArgument names the option.
  absl::StatusOr<HistoryOptions> ToOptions() const;
};

}  // namespace lbrd::daemon
