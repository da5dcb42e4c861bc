// lbrctl's subcommands. Each adds itself to the command line and says what to run.
#pragma once

#include <CLI/App.hpp>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/endpoint.h"
#include "lbrd/v1/profiler.pb.h"
#include "lbrd/v1/session.pb.h"

namespace lbrd::client {

// What all subcommands share.
struct Common {
  Endpoint endpoint;
  bool quiet = false;
};

// Run after parsing, by whichever subcommand was given. Its status becomes the exit code.
using Action = std::function<absl::Status()>;

void AddRecordCommand(CLI::App& app, const Common& common, Action* action);
// `exit_code`: of lbrctl where the action succeeds.
void AddDoctorCommand(CLI::App& app, const Common& common, Action* action, int* exit_code);
void AddQueryCommand(CLI::App& app, const Common& common, Action* action);
void AddReportCommand(CLI::App& app, const Common& common, Action* action);
void AddStatusCommand(CLI::App& app, const Common& common, Action* action);
void AddSessionCommands(CLI::App& app, const Common& common, Action* action);

// Options that say what to read of debug information, shared by all that show samples.
struct SourceFlags {
  bool lines = false;
  bool inlined = false;

  void AddTo(CLI::App& command);
  v1::SourceDetail Detail() const;
};

// Where results go and in which form, shared by all that show a profile.
struct OutputFlags {
  std::vector<std::string> files;
  std::string format;
  std::string event;

  // `endings`: what this command writes, by the files' endings; `formats`: --format's help.
  void AddTo(CLI::App& command, const std::string& endings, const std::string& formats);
  // --show-event, for commands whose profile may have several.
  void AddEventTo(CLI::App& command);
};

// A user by name or number. kInvalidArgument: there is none.
absl::StatusOr<uint32_t> ParseUser(const std::string& user);

// Options that say how to sample, shared by `record` and `start`.
struct SamplingFlags {
  bool all_cpus = false;
  int pid = 0;
  int tid = 0;
  std::string cpus;
  std::string cgroup;
  std::string user;
  std::string profile_bytes;
  std::vector<std::string> events;
  uint32_t frequency = 0;
  uint64_t count = 0;
  std::string stack;
  uint32_t stack_bytes = 0;
  std::string branch_filter;
  std::string ring;
  bool user_only = false;
  bool allow_multiplex = false;
  std::string comm;
  std::string only_cpus;
  bool retain = false;
  std::string duration;

  void AddTo(CLI::App& command);
  // Everything but the target of a command. kInvalidArgument names the option.
  absl::StatusOr<v1::SessionSpec> ToSpec() const;
};

}  // namespace lbrd::client
