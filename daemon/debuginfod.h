// Files by their build IDs from the servers in $DEBUGINFOD_URLS, for recordings.
//
// What debuginfod's client has fetched before is taken from its cache; the rest is fetched by the
// program debuginfod-find, so that talking to servers, which may be hostile, is another process's
// work. Nothing is asked twice, answers that there is none included, as long as the process lives:
// all that it reads and names share one object. A file is used only if it has the build ID that was
// asked for.
//
// Bounds: kTimeLimit for a file (the servers' own is $DEBUGINFOD_TIMEOUT), the same in all for
// requests that fail otherwise than by "there is none", after which nobody is asked any more;
// kMaxFileBytes a file; kMaxAsked files, those in the cache included.
//
// Thread rules: thread-safe. Get() blocks while its own file is fetched; others are not held up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "unwind/file_source.h"

namespace lbrd::daemon {

class Debuginfod {
 public:
  static constexpr absl::Duration kTimeLimit = absl::Seconds(90);
  static constexpr uint64_t kMaxFileBytes = uint64_t{4} << 30;
  // Recordings can name as many files as they like.
  static constexpr size_t kMaxAsked = 8192;

  enum class Kind { kDebugInfo, kExecutable };

  struct Options {
    std::string cache;    // the folder of debuginfod's client; empty: unknown
    std::string program;  // debuginfod-find, absolute; empty: it is not installed
    absl::Duration time_limit = kTimeLimit;
    // What the user should see: a line, and whether it is of something that went wrong.
    std::function<void(absl::string_view line, bool wrong)> tell;
  };
  // `variable`: as getenv(3). nullopt: no server is configured, and none may be asked.
  static std::optional<Options> OptionsOf(const std::function<const char*(const char*)>& variable);

  explicit Debuginfod(Options options) : options_(std::move(options)) {}
  // The one of this process, for as long as it lives, by its environment; tells by the log.
  // nullptr: no server is configured.
  static Debuginfod* OfProcess();

  // `path`: of the binary, for the user. The error's message says what was tried, as the end of a
  // sentence. kNotFound: servers had none; kUnavailable: it could not be found out;
  // kInvalidArgument: that is no build ID.
  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> Get(Kind kind,
                                                                const std::string& build_id,
                                                                absl::string_view path)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Lower-case hexadecimal digits of 2 to 64 bytes: fit to be an argument and part of a path.
  static bool IsBuildId(absl::string_view text);

 private:
  struct Answer {
    bool known = false;  // false: it is being fetched
    absl::Status status;
    std::string path;  // where it is, if it is
  };
  // What to remember. Not under a lock.
  Answer Find(Kind kind, const std::string& build_id, absl::string_view path)
      ABSL_LOCKS_EXCLUDED(mutex_);
  Answer Fetch(Kind kind, const std::string& build_id, absl::string_view path)
      ABSL_LOCKS_EXCLUDED(mutex_);
  bool HasLostTooMuch() ABSL_LOCKS_EXCLUDED(mutex_);
  // Something other than "there is none", after `took`.
  absl::Status Failed(const std::string& why, absl::Duration took) ABSL_LOCKS_EXCLUDED(mutex_);

  const Options options_;
  absl::Mutex mutex_;
  absl::flat_hash_map<std::pair<Kind, std::string>, std::shared_ptr<Answer>> answers_
      ABSL_GUARDED_BY(mutex_);
  absl::Duration lost_ ABSL_GUARDED_BY(mutex_);  // by requests that failed
  std::set<std::string> told_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lbrd::daemon
