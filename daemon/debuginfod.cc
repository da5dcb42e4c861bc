#include "daemon/debuginfod.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "daemon/file_bytes.h"
#include "daemon/log.h"
#include "daemon/program_run.h"

namespace lbrd::daemon {
namespace {

constexpr size_t kMaxReasonBytes = 200;
constexpr size_t kMaxReasonsTold = 16;

// As debuginfod's client calls it: on its command line and in its cache.
absl::string_view NameOf(Debuginfod::Kind kind) {
  return kind == Debuginfod::Kind::kDebugInfo ? "debuginfo" : "executable";
}

absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> OpenVerified(
    const std::string& path, const std::string& build_id) {
  const absl::StatusOr<int> fd = OpenRegular(path);
  if (!fd.ok()) return fd.status();
  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> bytes = FileBytes(*fd, path);
  if (bytes.ok() && !HasBuildId(*bytes, build_id)) {
    return absl::UnavailableError(absl::StrCat("debuginfod gave another file (", path, ")"));
  }
  return bytes;
}

// Where the cache is said to be by a relative path, the client takes it so.
std::string Absolute(const std::string& path) {
  std::error_code error;
  return std::filesystem::absolute(path, error).string();
}

// Its last line, without what stands in front of the reason.
std::string ReasonIn(absl::string_view output) {
  absl::string_view reason;
  for (const absl::string_view line : absl::StrSplit(output, '\n')) {
    if (!absl::StripAsciiWhitespace(line).empty()) reason = absl::StripAsciiWhitespace(line);
  }
  absl::ConsumePrefix(&reason, "Server query failed: ");
  return std::string(reason.substr(0, kMaxReasonBytes));
}

}  // namespace

bool Debuginfod::IsBuildId(absl::string_view text) {
  return text.size() >= 4 && text.size() <= 128 && text.size() % 2 == 0 &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

std::optional<Debuginfod::Options> Debuginfod::OptionsOf(
    const std::function<const char*(const char*)>& variable) {
  const auto value = [&](const char* name) {
    return absl::StripAsciiWhitespace(absl::NullSafeStringView(variable(name)));
  };
  if (value("DEBUGINFOD_URLS").empty()) return std::nullopt;
  Options options;
  options.program = FindProgram("debuginfod-find", std::string(value("PATH")));
  const absl::string_view home = value("HOME");
  if (!value("DEBUGINFOD_CACHE_PATH").empty()) {
    options.cache = std::string(value("DEBUGINFOD_CACHE_PATH"));
  } else if (!value("XDG_CACHE_HOME").empty()) {
    options.cache = absl::StrCat(value("XDG_CACHE_HOME"), "/debuginfod_client");
  } else if (!home.empty()) {
    options.cache = absl::StrCat(home, "/.cache/debuginfod_client");
  }
  if (!options.cache.empty()) options.cache = Absolute(options.cache);
  return options;
}

Debuginfod* Debuginfod::OfProcess() {
  static Debuginfod* const of_process = []() -> Debuginfod* {
    std::optional<Options> options = OptionsOf([](const char* name) { return std::getenv(name); });
    if (!options.has_value()) return nullptr;
    options->tell = [](absl::string_view line, bool wrong) {
      Log(wrong ? LogLevel::kWarning : LogLevel::kInfo, line);
    };
    return new Debuginfod(*std::move(options));
  }();
  return of_process;
}

absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> Debuginfod::Get(
    Kind kind, const std::string& build_id, absl::string_view path) {
  if (!IsBuildId(build_id)) {
    return absl::InvalidArgumentError("debuginfod cannot be asked by such a build ID");
  }
  std::shared_ptr<Answer> answer;
  bool first = false;
  {
    absl::MutexLock lock(&mutex_);
    const auto known = answers_.find({kind, build_id});
    first = known == answers_.end();
    if (first && answers_.size() >= kMaxAsked) {
      return absl::UnavailableError(
          absl::StrCat("debuginfod was not asked: it was for ", kMaxAsked, " files before"));
    }
    answer = first ? std::make_shared<Answer>() : known->second;
    if (first) answers_.emplace(std::pair(kind, build_id), answer);
    if (!first) mutex_.Await(absl::Condition(&answer->known));
  }
  if (first) {
    Answer found = Find(kind, build_id, path);
    absl::MutexLock lock(&mutex_);
    *answer = std::move(found);
    answer->known = true;
  }
  // What is known does not change any more.
  if (!answer->status.ok()) return answer->status;
  return OpenVerified(answer->path, build_id);
}

Debuginfod::Answer Debuginfod::Find(Kind kind, const std::string& build_id,
                                    absl::string_view path) {
  if (!options_.cache.empty()) {
    std::string cached = absl::StrCat(options_.cache, "/", build_id, "/", NameOf(kind));
    // That there is none is an empty file there; how long it holds, the client knows.
    if (OpenVerified(cached, build_id).ok()) return {.path = std::move(cached)};
  }
  if (options_.program.empty()) {
    return {.status = Failed("debuginfod-find is not installed", absl::ZeroDuration())};
  }
  if (HasLostTooMuch()) {
    return {.status = absl::UnavailableError(
                "debuginfod was not asked: requests before have failed for too long")};
  }
  return Fetch(kind, build_id, path);
}

Debuginfod::Answer Debuginfod::Fetch(Kind kind, const std::string& build_id,
                                     absl::string_view path) {
  if (options_.tell != nullptr) {
    options_.tell(absl::StrCat("fetching ", kind == Kind::kDebugInfo ? "debug information of " : "",
                               path, " from debuginfod"),
                  false);
  }
  const absl::Time begin = absl::Now();
  const absl::StatusOr<ProgramEnd> end =
      RunProgram({.path = options_.program,
                  .arguments = {std::string(NameOf(kind)), build_id},
                  // Its last line is to be the reason, and known.
                  .environment = {"LC_ALL=C", "DEBUGINFOD_PROGRESS", "DEBUGINFOD_VERBOSE"},
                  .time_limit = options_.time_limit,
                  .max_file_bytes = kMaxFileBytes});
  const absl::Duration took = absl::Now() - begin;
  if (!end.ok()) return {.status = Failed(std::string(end.status().message()), took)};
  if (!end->in_time) {
    return {.status = Failed(absl::StrCat("debuginfod took longer than ",
                                          absl::FormatDuration(options_.time_limit)),
                             took)};
  }
  if (!end->Succeeded()) {
    const std::string reason = ReasonIn(end->err);
    if (reason == "No such file or directory") {
      return {.status = absl::NotFoundError("debuginfod had none")};
    }
    return {.status = Failed(absl::StrCat("debuginfod could not be asked: ",
                                          reason.empty() ? "debuginfod-find failed" : reason),
                             took)};
  }
  std::string fetched = Absolute(std::string(absl::StripAsciiWhitespace(end->out)));
  const auto opened = OpenVerified(fetched, build_id);
  if (!opened.ok()) return {.status = Failed(std::string(opened.status().message()), took)};
  return {.path = std::move(fetched)};
}

bool Debuginfod::HasLostTooMuch() {
  absl::MutexLock lock(&mutex_);
  return lost_ >= options_.time_limit;
}

absl::Status Debuginfod::Failed(const std::string& why, absl::Duration took) {
  bool tell = false;
  {
    absl::MutexLock lock(&mutex_);
    lost_ += took;
    tell = told_.size() < kMaxReasonsTold && told_.insert(why).second;
  }
  if (tell && options_.tell != nullptr) options_.tell(why, true);
  return absl::UnavailableError(why);
}

}  // namespace lbrd::daemon
