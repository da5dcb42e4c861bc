// What an administrator may set: one list of settings, which makes the flags of the command line
// and the keys of the configuration file (TOML; lbrd.toml(5)). A setting has the same name in both.
//
// Precedence: a flag, then the file, then the default. Errors tell where, and all of them at once:
// `FILE:LINE: KEY: what is wrong; what is right`, a line each.
//
// Bounds: a file of at most kMaxConfigBytes; 256 levels of nesting (toml++'s own).
// Thread rules: values and pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/history_options.h"
#include "daemon/log.h"
#include "daemon/sample_memory.h"

namespace lbrd::daemon {

inline constexpr char kDefaultConfigPath[] = "/etc/lbrd/lbrd.toml";
inline constexpr size_t kMaxConfigBytes = size_t{64} << 10;

struct Config {
  std::string socket = "/run/lbrd/lbrd.sock";
  std::string metrics;  // "ADDRESS:PORT" or the path of a UNIX socket; empty: not served
  LogLevel log_level = LogLevel::kInfo;
  absl::Duration exit_idle = absl::ZeroDuration();  // zero: never
  uint64_t max_sessions = 256;
  absl::Duration linger = absl::Seconds(30);
  double max_cpu = 0;  // percent of all CPUs' time; 0: no bound
  uint64_t max_sample_memory = SampleMemory::kDefaultLimit;
  uint64_t max_contexts = uint64_t{1} << 20;
  std::string history = HistoryOptions{}.path;  // empty: none
  uint64_t history_bytes = HistoryOptions{}.max_bytes;
  absl::Duration history_age = HistoryOptions{}.max_age;
  absl::Duration history_bucket = HistoryOptions{}.bucket;
  bool continuous = true;
  std::string tls_listen;  // "ADDRESS:PORT"; empty: no other machine is served
  std::string tls_cert;
  std::string tls_key;
  std::string tls_ca;
  std::string tls_admins;
  std::string tls_users;

  friend bool operator==(const Config&, const Config&) = default;
};

// What a setting's value may be.
struct TextValue {
  std::string Config::*field;
  absl::Status (*check)(const std::string& text);
};
struct CountValue {
  uint64_t Config::*field;
  uint64_t min;
  uint64_t max;
};
struct SizeValue {  // bytes: 512M
  uint64_t Config::*field;
  uint64_t min;
  uint64_t max;
};
struct DurationValue {
  absl::Duration Config::*field;
  absl::Duration min;
  absl::Duration max;
  bool or_zero = true;
};
struct PercentValue {  // 1.5%; or 0
  double Config::*field;
  double min;
  double max;
};
struct TruthValue {
  bool Config::*field;
};
struct LevelValue {
  LogLevel Config::*field;
};

struct Setting {
  const char* name;         // --NAME, and the key
  const char* placeholder;  // of its value, in the help
  const char* help;
  bool at_run_time;  // SIGHUP changes it; otherwise a restart
  std::variant<TextValue, CountValue, SizeValue, DurationValue, PercentValue, TruthValue,
               LevelValue>
      kind;

  // Its value in `config`, as the command line takes it.
  std::string Get(const Config& config) const;
  // kInvalidArgument: what is wrong with the text, and what is right.
  absl::Status Set(absl::string_view text, Config* config) const;
};
std::span<const Setting> Settings();

// The text of a file over `defaults`. `file` names it in errors. kInvalidArgument: all that is
// wrong, a line each.
absl::StatusOr<Config> ParseConfig(absl::string_view text, absl::string_view file,
                                   const Config& defaults = {});
// kNotFound: no such file.
absl::StatusOr<Config> ReadConfig(const std::string& path);
// Of a descriptor, which is closed; `path` names it in errors.
absl::StatusOr<Config> ReadOpenConfig(int fd, const std::string& path);

// Settings by name, as the command line gave them. kInvalidArgument names the flag.
using FlagValues = std::map<std::string, std::string>;
absl::Status ApplyFlags(const FlagValues& flags, Config* config);

// What a reload comes to: of `wanted` what can change at run time, of `running` the rest. Appends a
// line to `told` for each setting that differs.
Config Reloaded(const Config& running, const Config& wanted, std::vector<std::string>* told);

}  // namespace lbrd::daemon
