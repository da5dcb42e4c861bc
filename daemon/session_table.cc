#include "daemon/session_table.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace lbrd::daemon {
namespace {

constexpr size_t kMaxNameBytes = 63;

bool WellFormed(const std::string& name) {
  if (name.empty() || name.size() > kMaxNameBytes) return false;
  for (const char c : name) {
    if (!absl::ascii_islower(static_cast<unsigned char>(c)) &&
        !absl::ascii_isdigit(static_cast<unsigned char>(c)) && c != '-' && c != '_' && c != '.') {
      return false;
    }
  }
  return absl::ascii_isalnum(static_cast<unsigned char>(name[0]));
}

absl::Status NoSuchSession(const std::string& name) {
  return absl::NotFoundError(absl::StrCat("no session '", name, "'; see lbrctl list"));
}

}  // namespace

absl::StatusOr<std::string> SessionTable::Reserve(const std::string& wanted) {
  absl::MutexLock lock(&mutex_);
  if (!wanted.empty() && !WellFormed(wanted)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", wanted, "' is not a session name: 1 to ", kMaxNameBytes,
                     " of a-z, 0-9, '-', '_' and '.', starting with a letter or digit"));
  }
  if (!wanted.empty() && sessions_.count(wanted) != 0) {
    return absl::AlreadyExistsError(
        absl::StrCat("a session '", wanted, "' exists; stop it first: lbrctl stop ", wanted));
  }
  if (sessions_.size() >= kMaxSessions) {
    auto oldest = sessions_.end();
    for (auto i = sessions_.begin(); i != sessions_.end(); ++i) {
      if (i->second == nullptr || !i->second->ended()) continue;
      if (oldest == sessions_.end() || i->second->create_time() < oldest->second->create_time()) {
        oldest = i;
      }
    }
    if (oldest == sessions_.end()) {
      return absl::ResourceExhaustedError(
          absl::StrCat(kMaxSessions, " sessions are running; stop one: lbrctl list"));
    }
    sessions_.erase(oldest);
  }
  std::string name = wanted;
  while (name.empty() || (wanted.empty() && sessions_.count(name) != 0)) {
    name = absl::StrCat("session-", next_number_++);
  }
  sessions_[name] = nullptr;
  return name;
}

void SessionTable::Add(std::shared_ptr<Session> session) {
  absl::MutexLock lock(&mutex_);
  const std::string name = session->name();
  sessions_[name] = std::move(session);
  ++changes_;
}

void SessionTable::Abandon(const std::string& name) {
  absl::MutexLock lock(&mutex_);
  sessions_.erase(name);
}

absl::StatusOr<std::shared_ptr<Session>> SessionTable::Find(const std::string& name) const {
  absl::MutexLock lock(&mutex_);
  const auto found = sessions_.find(name);
  if (found == sessions_.end() || found->second == nullptr) return NoSuchSession(name);
  return found->second;
}

absl::StatusOr<std::shared_ptr<Session>> SessionTable::Remove(const std::string& name) {
  absl::MutexLock lock(&mutex_);
  const auto found = sessions_.find(name);
  if (found == sessions_.end() || found->second == nullptr) return NoSuchSession(name);
  std::shared_ptr<Session> session = std::move(found->second);
  sessions_.erase(found);
  ++changes_;
  return session;
}

std::vector<std::shared_ptr<Session>> SessionTable::List(const std::string& after) const {
  absl::MutexLock lock(&mutex_);
  std::vector<std::shared_ptr<Session>> sessions;
  for (auto i = sessions_.upper_bound(after); i != sessions_.end(); ++i) {
    if (i->second != nullptr) sessions.push_back(i->second);
  }
  return sessions;
}

void SessionTable::Changed() {
  absl::MutexLock lock(&mutex_);
  ++changes_;
}

uint64_t SessionTable::AwaitChange(uint64_t seen, absl::Duration timeout) const {
  absl::MutexLock lock(&mutex_);
  const auto changed = [this, seen]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return changes_ > seen || closing_;
  };
  mutex_.AwaitWithTimeout(absl::Condition(&changed), timeout);
  return changes_;
}

bool SessionTable::closing() const {
  absl::MutexLock lock(&mutex_);
  return closing_;
}

void SessionTable::StopAll() {
  {
    absl::MutexLock lock(&mutex_);
    closing_ = true;
  }
  for (const std::shared_ptr<Session>& session : List("")) session->Stop();
}

}  // namespace lbrd::daemon
