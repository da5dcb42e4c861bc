#include "daemon/config.h"

#include <fcntl.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "daemon/certificate_roles.h"
#include "daemon/metrics_address.h"
#include "daemon/tcp_address.h"
#include "pmu/read_all.h"

#define TOML_EXCEPTIONS 0
#include <toml++/impl/preprocessor.h>
// toml++ 3.3 asserts (and without assertions tells the compiler) what some files do not keep to,
// such as "[a.]". Without that its own errors are told.
#undef TOML_ASSERT
#define TOML_ASSERT(expression) static_assert(true)
#undef TOML_ASSERT_ASSUME
#define TOML_ASSERT_ASSUME(expression) static_assert(true)
#include <toml++/toml.h>

namespace lbrd::daemon {
namespace {

template <typename... Visitors>
struct Overloaded : Visitors... {
  using Visitors::operator()...;
};
template <typename... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;

constexpr std::pair<absl::string_view, LogLevel> kLevels[] = {{"error", LogLevel::kError},
                                                              {"warning", LogLevel::kWarning},
                                                              {"info", LogLevel::kInfo},
                                                              {"debug", LogLevel::kDebug}};

absl::Status CheckSocket(const std::string& path) {
  // The descriptors' socket has ".fd" behind the same name.
  constexpr size_t kMax = sizeof(sockaddr_un::sun_path) - 1 - 3;
  if (!path.empty() && path.size() <= kMax && path.find('\0') == std::string::npos) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("must be a path of 1 to ", kMax, " characters, like /run/lbrd/lbrd.sock"));
}

absl::Status CheckMetrics(const std::string& address) {
  return address.empty() ? absl::OkStatus() : ParseMetricsAddress(address).status();
}

absl::Status CheckTlsListen(const std::string& address) {
  if (address.empty() || ParseTcpAddress(address).has_value()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "must be a numeric address and a port, like 0.0.0.0:7431 or [::]:7431; empty: do not");
}

absl::Status CheckTlsFile(const std::string& path) {
  if (path.empty() || (path[0] == '/' && path.find('\0') == std::string::npos)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("must be the absolute path of a PEM file");
}

absl::Status CheckTlsAdmins(const std::string& names) {
  return CertificateRoles::Parse(names, "").status();
}

absl::Status CheckTlsUsers(const std::string& users) {
  return CertificateRoles::Parse("", users).status();
}

absl::Status CheckHistory(const std::string& path) {
  if (path.find('\0') == std::string::npos) return absl::OkStatus();
  return absl::InvalidArgumentError("must be a file's path; empty: no history");
}

// "512M"; nullopt: it is no size.
std::optional<uint64_t> ParseSize(absl::string_view text) {
  constexpr uint64_t kMost = uint64_t{1} << 44;
  uint64_t unit = 1;
  for (const auto& [letter, bits] : {std::pair('K', 10), std::pair('M', 20), std::pair('G', 30)}) {
    if (!absl::ConsumeSuffix(&text, absl::string_view(&letter, 1))) continue;
    unit = uint64_t{1} << bits;
    break;
  }
  uint64_t value = 0;
  if (!absl::SimpleAtoi(text, &value) || value > kMost / unit) return std::nullopt;
  return value * unit;
}

std::string FormatSize(uint64_t bytes) {
  for (const auto& [letter, bits] : {std::pair("G", 30), std::pair("M", 20), std::pair("K", 10)}) {
    if (bytes != 0 && bytes % (uint64_t{1} << bits) == 0)
      return absl::StrCat(bytes >> bits, letter);
  }
  return absl::StrCat(bytes);
}

// Beside what abseil reads: "7d". absl::Duration has no days, since not all have 24 hours; here
// they have.
bool ParseTime(absl::string_view text, absl::Duration* duration) {
  int64_t days = 0;
  if (absl::EndsWith(text, "d") && absl::SimpleAtoi(text.substr(0, text.size() - 1), &days) &&
      days >= 0 && days < 36500) {
    *duration = absl::Hours(24) * days;
    return true;
  }
  return absl::ParseDuration(text, duration);
}

constexpr Setting kSettings[] = {
    {"socket", "PATH", "UNIX socket to listen on, unless systemd passes one", false,
     TextValue{&Config::socket, CheckSocket}},
    {"log-level", "LEVEL", "what to log: error, warning, info or debug, each with those before it",
     true, LevelValue{&Config::log_level}},
    {"exit-idle", "TIME",
     "end after so long without sessions and requests, e.g. 10m; 0: never.\n"
     "Only where systemd holds the socket, and so starts lbrd again",
     true, DurationValue{&Config::exit_idle, absl::Seconds(1), absl::Hours(24 * 7)}},
    {"max-sessions", "N", "sessions at once, those among them that ended and were not deleted",
     true, CountValue{&Config::max_sessions, 1, 4096}},
    {"linger", "TIME",
     "keep events that sessions shared open, disabled, for so long after the\n"
     "last one has left, for the next; 0: close them at once",
     false, DurationValue{&Config::linger, absl::Milliseconds(1), absl::Hours(1)}},
    {"max-cpu", "PERCENT",
     "of the machine's CPU time, that lbrd may use, e.g. 1%: when it is over,\n"
     "shared events are sampled more slowly, and weights say so; 0: no bound",
     true, PercentValue{&Config::max_cpu, 0.01, 100}},
    {"max-sample-memory", "SIZE",
     "what samples may take that sessions and streams hold, with their stacks;\n"
     "what needs more is dropped and counted",
     true, SizeValue{&Config::max_sample_memory, uint64_t{32} << 20, uint64_t{1} << 40}},
    {"max-contexts", "N",
     "threads whose history is kept; 128 bytes each, and 808 once there is one", false,
     CountValue{&Config::max_contexts, 1024, uint64_t{1} << 20}},
    {"history", "PATH",
     "the history's file; its folder is made. Empty: keep none, and sample\n"
     "nothing that nobody asks for",
     false, TextValue{&Config::history, CheckHistory}},
    {"history-bytes", "SIZE", "what it may take on the disk; beyond that the oldest goes", false,
     SizeValue{&Config::history_bytes, HistoryOptions::kLeastBytes, uint64_t{1} << 44}},
    {"history-age", "TIME", "how long it goes back, e.g. 12h or 30d", false,
     DurationValue{&Config::history_age, absl::Minutes(1), absl::Hours(24 * 3650), false}},
    {"history-bucket", "TIME", "how finely it tells times apart", false,
     DurationValue{&Config::history_bucket, absl::Seconds(1), absl::Minutes(5), false}},
    {"continuous", "TRUTH",
     "keep a history of the whole machine, by a session of 19 Hz that lbrd\n"
     "starts itself; false: of sessions with --retain only",
     false, TruthValue{&Config::continuous}},
    {"metrics", "ADDRESS",
     "serve the daemon's figures to Prometheus: 127.0.0.1:PORT, [::1]:PORT,\n"
     "or the path of a UNIX socket; empty: do not",
     false, TextValue{&Config::metrics, CheckMetrics}},
    {"tls-listen", "ADDRESS",
     "serve other machines too, by mutual TLS: 0.0.0.0:PORT, [::]:PORT or\n"
     "another numeric address; empty: do not",
     false, TextValue{&Config::tls_listen, CheckTlsListen}},
    {"tls-cert", "PATH", "the daemon's own certificate (PEM), and those it was issued by", false,
     TextValue{&Config::tls_cert, CheckTlsFile}},
    {"tls-key", "PATH", "its private key (PEM); for root only", false,
     TextValue{&Config::tls_key, CheckTlsFile}},
    {"tls-ca", "PATH", "certificates (PEM) of those who issue clients theirs", false,
     TextValue{&Config::tls_ca, CheckTlsFile}},
    {"tls-admins", "NAMES", "names of certificates whose holders may do everything, with commas",
     false, TextValue{&Config::tls_admins, CheckTlsAdmins}},
    {"tls-users", "NAME=UID",
     "names of certificates whose holders are users of this machine:\n"
     "alice.example.com=1500, with commas",
     false, TextValue{&Config::tls_users, CheckTlsUsers}}};

absl::Status SetCount(const CountValue& kind, std::optional<uint64_t> value, Config* config) {
  if (!value || *value < kind.min || *value > kind.max) {
    return absl::InvalidArgumentError(
        absl::StrCat("must be a whole number from ", kind.min, " to ", kind.max));
  }
  config->*kind.field = *value;
  return absl::OkStatus();
}

const Setting* FindSetting(absl::string_view name) {
  const auto* found = std::find_if(std::begin(kSettings), std::end(kSettings),
                                   [name](const Setting& setting) { return setting.name == name; });
  return found == std::end(kSettings) ? nullptr : found;
}

std::string NamesOfSettings() {
  return absl::StrJoin(kSettings, ", ", [](std::string* out, const Setting& setting) {
    absl::StrAppend(out, setting.name);
  });
}

// A value of the file: numbers are written as such, everything else as text.
absl::Status SetFromNode(const Setting& setting, const toml::node& node, Config* config) {
  if (const auto* kind = std::get_if<CountValue>(&setting.kind)) {
    const toml::value<int64_t>* number = node.as_integer();
    std::optional<uint64_t> value;
    if (number != nullptr && number->get() >= 0) value = static_cast<uint64_t>(number->get());
    return SetCount(*kind, value, config);
  }
  if (const auto* kind = std::get_if<TruthValue>(&setting.kind)) {
    const toml::value<bool>* truth = node.as_boolean();
    if (truth == nullptr) return absl::InvalidArgumentError("must be true or false");
    config->*kind->field = truth->get();
    return absl::OkStatus();
  }
  const toml::value<std::string>* text = node.as_string();
  if (text == nullptr) return absl::InvalidArgumentError("must be text, in \"quotes\"");
  return setting.Set(text->get(), config);
}

// What comes out of the file may be long and may have any character: an error is a line all the
// same.
std::string Shown(std::string_view text) {
  constexpr size_t kMax = 200;
  std::string shown(text.substr(0, kMax));
  for (char& c : shown) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) c = '?';
  }
  return shown;
}

std::string At(absl::string_view file, const toml::source_region& where) {
  return absl::StrCat(file, ":", where.begin.line, ": ");
}

absl::Status TooLarge(absl::string_view file) {
  return absl::InvalidArgumentError(
      absl::StrCat(file, ": is larger than ", kMaxConfigBytes, " bytes"));
}

}  // namespace

std::span<const Setting> Settings() { return kSettings; }

std::string Setting::Get(const Config& config) const {
  return std::visit(
      Overloaded{
          [&](const TextValue& value) { return config.*value.field; },
          [&](const CountValue& value) { return absl::StrCat(config.*value.field); },
          [&](const SizeValue& value) { return FormatSize(config.*value.field); },
          [&](const PercentValue& value) {
            return config.*value.field == 0 ? "0" : absl::StrCat(config.*value.field, "%");
          },
          [&](const TruthValue& value) {
            return std::string(config.*value.field ? "true" : "false");
          },
          [&](const DurationValue& value) { return absl::FormatDuration(config.*value.field); },
          [&](const LevelValue& value) {
            for (const auto& [word, level] : kLevels) {
              if (level == config.*value.field) return std::string(word);
            }
            return std::string();
          }},
      kind);
}

absl::Status Setting::Set(absl::string_view text, Config* config) const {
  if (const auto* value = std::get_if<TextValue>(&kind)) {
    std::string copy(text);
    if (absl::Status good = value->check(copy); !good.ok()) return good;
    config->*value->field = std::move(copy);
    return absl::OkStatus();
  }
  if (const auto* value = std::get_if<CountValue>(&kind)) {
    uint64_t number = 0;
    return SetCount(*value, absl::SimpleAtoi(text, &number) ? std::optional(number) : std::nullopt,
                    config);
  }
  if (const auto* value = std::get_if<SizeValue>(&kind)) {
    const std::optional<uint64_t> bytes = ParseSize(text);
    if (!bytes.has_value() || *bytes < value->min || *bytes > value->max) {
      return absl::InvalidArgumentError(absl::StrCat("must be a size from ", FormatSize(value->min),
                                                     " to ", FormatSize(value->max),
                                                     ", like 64M or 2G"));
    }
    config->*value->field = *bytes;
    return absl::OkStatus();
  }
  if (const auto* value = std::get_if<PercentValue>(&kind)) {
    double percent = 0;
    const bool none = text == "0" || text == "0%";
    const bool parsed =
        none || (absl::ConsumeSuffix(&text, "%") && absl::SimpleAtod(text, &percent));
    if (!parsed || (!none && !(percent >= value->min && percent <= value->max))) {
      return absl::InvalidArgumentError(absl::StrCat("must be a percentage from ", value->min,
                                                     "% to ", value->max, "%, like 1.5%; or 0"));
    }
    config->*value->field = percent;
    return absl::OkStatus();
  }
  if (const auto* value = std::get_if<TruthValue>(&kind)) {
    if (text != "true" && text != "false") {
      return absl::InvalidArgumentError("must be true or false");
    }
    config->*value->field = text == "true";
    return absl::OkStatus();
  }
  if (const auto* value = std::get_if<DurationValue>(&kind)) {
    absl::Duration duration;
    const bool parsed = ParseTime(text, &duration);
    const bool none = value->or_zero && duration == absl::ZeroDuration();
    if (!parsed || (!none && (duration < value->min || duration > value->max))) {
      return absl::InvalidArgumentError(
          absl::StrCat("must be a time from ", absl::FormatDuration(value->min), " to ",
                       absl::FormatDuration(value->max), ", like 90s, 1h30m or 7d",
                       value->or_zero ? "; or 0" : ""));
    }
    config->*value->field = duration;
    return absl::OkStatus();
  }
  for (const auto& [word, level] : kLevels) {
    if (word == text) {
      config->*std::get<LevelValue>(kind).field = level;
      return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError("must be error, warning, info or debug");
}

absl::StatusOr<Config> ParseConfig(absl::string_view text, absl::string_view file,
                                   const Config& defaults) {
  if (text.size() > kMaxConfigBytes) return TooLarge(file);
  // toml++ 3.3 runs into what it holds for unreachable with some characters beyond.
  const auto* beyond = std::find_if(text.begin(), text.end(),
                                    [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
  if (beyond != text.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ":", 1 + std::count(text.begin(), beyond, '\n'),
                     ": a character that is not ASCII: write \\uXXXX in text, and none elsewhere"));
  }
  const toml::parse_result parsed = toml::parse(std::string_view(text.data(), text.size()));
  if (parsed.failed()) {
    const toml::parse_error& error = parsed.error();
    return absl::InvalidArgumentError(
        absl::StrCat(At(file, error.source()), Shown(error.description())));
  }
  Config config = defaults;
  std::vector<std::pair<uint32_t, std::string>> errors;
  for (const auto& [key, node] : parsed.table()) {
    const absl::string_view name(key.str().data(), key.str().size());
    const Setting* setting = FindSetting(name);
    const absl::Status set = setting == nullptr
                                 ? absl::InvalidArgumentError(absl::StrCat(
                                       "is not a setting; the settings are ", NamesOfSettings()))
                                 : SetFromNode(*setting, node, &config);
    if (!set.ok()) {
      errors.emplace_back(
          key.source().begin.line,
          absl::StrCat(At(file, key.source()), Shown(key.str()), ": ", set.message()));
    }
  }
  if (errors.empty()) return config;
  std::sort(errors.begin(), errors.end());
  return absl::InvalidArgumentError(absl::StrJoin(
      errors, "\n",
      [](std::string* out, const auto& error) { absl::StrAppend(out, error.second); }));
}

absl::StatusOr<Config> ReadConfig(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", path));
  return ReadOpenConfig(fd, path);
}

absl::StatusOr<Config> ReadOpenConfig(int fd, const std::string& path) {
  const absl::StatusOr<std::string> text = pmu::ReadAll(fd, path, kMaxConfigBytes);
  if (absl::IsResourceExhausted(text.status())) return TooLarge(path);
  return text.ok() ? ParseConfig(*text, path) : text.status();
}

absl::Status ApplyFlags(const FlagValues& flags, Config* config) {
  for (const auto& [name, text] : flags) {
    const Setting* setting = FindSetting(name);
    if (setting == nullptr) return absl::InternalError(absl::StrCat("no setting ", name));
    if (const absl::Status set = setting->Set(text, config); !set.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--", name, ": ", set.message()));
    }
  }
  return absl::OkStatus();
}

Config Reloaded(const Config& running, const Config& wanted, std::vector<std::string>* told) {
  Config config = running;
  for (const Setting& setting : kSettings) {
    const std::string before = setting.Get(running);
    const std::string after = setting.Get(wanted);
    if (before == after) continue;
    const std::string change = absl::StrCat(setting.name, ": from '", before, "' to '", after, "'");
    if (!setting.at_run_time) {
      told->push_back(absl::StrCat(change, " needs a restart: systemctl restart lbrd"));
      continue;
    }
    // What Get() wrote, Set() reads.
    setting.Set(after, &config).IgnoreError();
    told->push_back(change);
  }
  return config;
}

}  // namespace lbrd::daemon
