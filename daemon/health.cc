#include "daemon/health.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace lbrd::daemon {

absl::Status Health::Check(const std::map<std::string, std::vector<Progress>>& by_session,
                           absl::Time now) {
  absl::Status status;
  std::map<std::string, Seen> seen;
  for (const auto& [session, threads] : by_session) {
    for (const Progress& thread : threads) {
      const std::string key = absl::StrCat(session, "/", thread.thread);
      const auto before = seen_.find(key);
      const bool still = before != seen_.end() && before->second.steps == thread.steps &&
                         before->second.busy && thread.busy;
      const absl::Time since = still ? before->second.since : now;
      seen[key] = {thread.steps, thread.busy, since};
      if (now - since >= kPatience && status.ok()) {
        status = absl::DeadlineExceededError(absl::StrCat("thread ", thread.thread, " of session '",
                                                          session, "' has stood still for ",
                                                          absl::FormatDuration(now - since)));
      }
    }
  }
  seen_ = std::move(seen);
  return status;
}

}  // namespace lbrd::daemon
