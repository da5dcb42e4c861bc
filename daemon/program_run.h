// Runs a program to its end, or to the end of its time, and keeps the beginning of what it says.
//
// It is executed directly, by its path: no shell, and nothing of its arguments is interpreted. It
// gets no input and no descriptor of ours, is ended with all that it started in its process group
// when its time is over, and dies with this process.
//
// Thread rules: thread-safe; waits until the program is gone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace lbrd::daemon {

struct Program {
  std::string path;                    // absolute
  std::vector<std::string> arguments;  // without its own name
  // NAME=VALUE each, in place of what this process has by that name; NAME alone: without it. The
  // rest is inherited.
  std::vector<std::string> environment;
  absl::Duration time_limit;
  uint64_t max_file_bytes = 0;  // it can make no file larger (RLIMIT_FSIZE)
};

struct ProgramEnd {
  bool in_time = false;  // otherwise it was killed
  int wait_status = 0;   // as waitpid(2) tells; one that could not be executed exits with 127
  // What it wrote, of each the first kMaxProgramOutput bytes.
  std::string out;
  std::string err;
  bool Succeeded() const;
};

inline constexpr size_t kMaxProgramOutput = 16 << 10;

// Fails only where no process could be made, or watched.
absl::StatusOr<ProgramEnd> RunProgram(const Program& program);

// The program of this name in the absolute folders of `path` (as $PATH); empty: there is none.
std::string FindProgram(const std::string& name, const std::string& path);

}  // namespace lbrd::daemon
